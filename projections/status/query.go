package status

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"writ/domain/eventstore"
	"writ/domain/op"
	"writ/projections"
)

// MaxLimit bounds a page.
const MaxLimit = 500

// maxSteps bounds what is looked at for one page, so that a question whose
// answer is rare costs several short pages and not one long wait.
const maxSteps = 10_000

// A Query says which ops are asked for. An op belongs to the answer if it
// belongs to every part that is given; the zero value asks for all.
type Query struct {
	States []State // any of these
	Class  op.Class
	VMID   int    // 0: any target
	Node   string // named as the op's, or the one that its request went to
	Signer string // a person's name
	OpID   string // of any of the op's attempts
	// From and Until bound when the op began: not before From, and before
	// Until. Zero: no bound.
	From, Until time.Time

	// After is the Next of the page before; nil for the first page.
	After *Cursor
	// Limit is the most ops on the page, 1 to MaxLimit.
	Limit int
}

// A Cursor is where a page ended. It belongs to the ledger, the store and the
// format of the view that it was given for, and to no query: it may be used with
// another one.
type Cursor struct {
	Format int
	at     place // the first that may be on the next page
}

// String gives the cursor in a form that ParseCursor takes.
func (c Cursor) String() string {
	return fmt.Sprintf("v%d-%s", c.Format, hex.EncodeToString([]byte(c.at)))
}

// ParseCursor takes what String gave.
func ParseCursor(s string) (Cursor, error) {
	var c Cursor
	var text string
	_, err := fmt.Sscanf(s, "v%d-%s", &c.Format, &text)
	at, hexErr := hex.DecodeString(text)
	c.at = place(at)
	if err != nil || hexErr != nil || len(at) != placeBytes || c.Format < 1 || c.String() != s {
		return Cursor{}, errors.New("not a cursor of a page, as a list of ops comes with")
	}
	return c, nil
}

// A ForeignCursorError says that a cursor belongs to a view of another format.
type ForeignCursorError struct{ Have, Want int }

func (e *ForeignCursorError) Error() string {
	return fmt.Sprintf("the cursor is of format %d of the view, which has format %d now: begin with the first page", e.Have, e.Want)
}

// A Page is part of an answer, the newest op first.
type Page struct {
	Ops []Op
	// Next is where the answer goes on; nil at its end. A page with a Next may
	// hold fewer ops than the limit, even none.
	Next *Cursor
	// Lag is how far the view was when the page was begun; the page is at least
	// that far.
	Lag projections.Lag
}

// Ops answers questions. Its methods may be called concurrently with everything.
type Ops struct{ shelf *projections.Shelf }

// New gives the ops in a view that a shelf keeps, whose projection must be View
// or make the same.
func New(shelf *projections.Shelf) *Ops { return &Ops{shelf: shelf} }

// WaitFor waits until the view holds all up to a position, as
// [projections.Runner.WaitFor] does.
func (o *Ops) WaitFor(ctx context.Context, p eventstore.Position) error {
	return o.shelf.WaitFor(ctx, p)
}

// Lag gives how far the view is.
func (o *Ops) Lag() projections.Lag { return o.shelf.Lag() }

// List gives a page of the ops that are asked for.
//
// Whoever follows Next to the end gets every op that belonged to the answer all
// the time exactly once, and no op twice, whatever happens meanwhile. An op that
// comes to belong to the answer, or no longer belongs to it, after the first
// page was asked for is there or not, as it stood when its page was made. One
// that begins meanwhile is before the first page, and not there.
//
// It gives a *ForeignCursorError for a cursor from a view of another format.
func (o *Ops) List(ctx context.Context, q Query) (page Page, err error) {
	err = o.shelf.Read(func(view projections.ViewStore, format int, lag projections.Lag) error {
		if q.After != nil && q.After.Format != format {
			return &ForeignCursorError{q.After.Format, format}
		}
		page, err = list(ctx, view, format, q)
		page.Lag = lag
		return err
	})
	return page, err
}

func list(ctx context.Context, view projections.ViewStore, format int, q Query) (Page, error) {
	if q.Limit < 1 || q.Limit > MaxLimit {
		return Page{}, fmt.Errorf("list ops: limit %d is not within 1 to %d", q.Limit, MaxLimit)
	}
	at, end := q.bounds()
	w, possible := q.walk(ctx, view)
	defer w.stop()
	var page Page
	for possible {
		found, ok, err := w.seek(at)
		if err != nil {
			return Page{}, fmt.Errorf("list ops: %w", err)
		}
		if !ok || found >= end {
			break
		}
		if w.steps >= maxSteps {
			// Nothing before this place belongs to the answer any more.
			page.Next = &Cursor{format, found}
			break
		}
		at, possible = found.next()
		r, err := w.row(ctx, found)
		if err != nil {
			return Page{}, fmt.Errorf("list ops: %w", err)
		}
		// The keys and the row may have been read on both sides of a commit.
		if !q.fits(&r) {
			continue
		}
		if len(page.Ops) == q.Limit {
			page.Next = &Cursor{format, found}
			break
		}
		page.Ops = append(page.Ops, r.op())
	}
	return page, nil
}

// bounds gives the first place that may be on the page, and the first behind.
func (q *Query) bounds() (at, end place) {
	at, end = place(make([]byte, placeBytes)), place(bytes.Repeat([]byte{0xff}, placeBytes+1))
	if !q.Until.IsZero() {
		if nanos(q.Until) == 0 {
			return end, end
		}
		at = placeAt(nanos(q.Until)-1, lastPosition)
	}
	if !q.From.IsZero() && nanos(q.From) > 0 {
		end = placeAt(nanos(q.From)-1, lastPosition)
	}
	if q.After != nil {
		at = max(at, q.After.at)
	}
	return at, end
}

const lastPosition = ^eventstore.Position(0)

// walk gives what leads to the ops asked for; false if there can't be any.
func (q *Query) walk(ctx context.Context, view projections.ViewStore) (*walk, bool) {
	w := &walk{view: view}
	possible := true
	part := func(letter string, values ...string) {
		var g []*walker
		for _, v := range values {
			if in, ok := index(letter, v); ok {
				g = append(g, &walker{ctx: ctx, view: view, prefix: in, steps: &w.steps})
			}
		}
		possible = possible && len(g) > 0
		w.parts = append(w.parts, g)
	}
	if len(q.States) > 0 {
		states := make([]string, len(q.States))
		for i, s := range q.States {
			states[i] = string(s)
		}
		slices.Sort(states)
		part(byState, slices.Compact(states)...)
	}
	if q.VMID != 0 {
		part(byGuest, vmidText(q.VMID))
	}
	for _, p := range []struct{ letter, value string }{
		{byClass, string(q.Class)}, {byNode, q.Node}, {bySigner, q.Signer}, {byOpID, q.OpID},
	} {
		if p.value != "" {
			part(p.letter, p.value)
		}
	}
	if len(w.parts) == 0 {
		w.parts = [][]*walker{{{ctx: ctx, view: view, prefix: rows, steps: &w.steps}}}
	}
	return w, possible
}

// fits tells whether a row belongs to the answer. What never changes about an
// op need not be looked at again.
func (q *Query) fits(r *row) bool {
	return (len(q.States) == 0 || slices.Contains(q.States, r.state())) &&
		(q.Class == "" || r.Class == q.Class) &&
		(q.VMID == 0 || r.Target.Guest != nil && r.Target.Guest.VMID == q.VMID) &&
		(q.Node == "" || slices.Contains(r.nodes(), q.Node)) &&
		(q.Signer == "" || slices.Contains(r.Signers, q.Signer))
}
