package projections

import (
	"context"
	"errors"
	"fmt"

	"writ/domain/eventstore"
	"writ/domain/op"
)

const checkpointKey = reserved + "checkpoint"

// A checkpoint says what a view was built from and how far. It is committed
// with the changes that it stands for.
type checkpoint struct {
	Projection string `json:"projection"`
	Format     int    `json:"format"`
	Ledger     string `json:"ledger"`
	Store      string `json:"store"` // positions mean nothing in another store
	// Position is how far the ledger was searched; absent at the beginning.
	Position *eventstore.Position `json:"position,omitempty"`
	// Last is the newest event applied: by it a ledger is recognised that was
	// rolled back and has grown again.
	Last *mark `json:"last,omitempty"`
}

// A mark identifies one event of a ledger.
type mark struct {
	Stream   []byte              `json:"stream"` // in base64: what a damaged store gives as a name need not be text
	Revision eventstore.Revision `json:"revision"`
	Position eventstore.Position `json:"position"`
	ID       string              `json:"id"`
}

func markOf(e eventstore.Recorded) *mark {
	return &mark{Stream: []byte(e.Stream), Revision: e.Revision, Position: e.Position, ID: op.ID(e.ID).String()}
}

func (m *mark) stream() eventstore.StreamID { return eventstore.StreamID(m.Stream) }

// is tells whether an event of the marked place is the one marked.
func (m *mark) is(e eventstore.Recorded) bool {
	return e.Revision == m.Revision && e.Position == m.Position && op.ID(e.ID).String() == m.ID
}

func (c checkpoint) cursor() eventstore.Cursor {
	if c.Position == nil {
		return eventstore.Cursor{}
	}
	return eventstore.After(*c.Position)
}

// moved is the checkpoint further on.
func (c checkpoint) moved(to eventstore.Cursor) checkpoint {
	if p, ok := to.Position(); ok && (c.Position == nil || p > *c.Position) {
		c.Position = &p
	}
	return c
}

// A RefusedError says that a view was not built from the ledger at hand, or
// can't be continued for another reason that a person has to look at. Nothing
// was changed.
type RefusedError struct {
	Projection string
	Why        string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("view %s: %s", e.Projection, e.Why)
}

// open gives the checkpoint from which to go on. A view without one begins at
// the beginning, a view of another format is cleared; one that belongs to
// something else is refused.
func (r *Runner) open(ctx context.Context) (checkpoint, error) {
	have, found, err := r.load(ctx)
	if err != nil {
		return checkpoint{}, err
	}
	fresh := r.fresh()
	if !found {
		return fresh, r.mustBeEmpty(ctx)
	}
	if have.Format != fresh.Format {
		r.log.InfoContext(ctx, "view has another format and is built again", "have", have.Format, "want", fresh.Format)
		// If this fails half-way, or is lost by a crash, the old checkpoint is
		// still there and the next start clears again.
		if err := r.view.Clear(ctx); err != nil {
			return checkpoint{}, fmt.Errorf("clear the view: %w", err)
		}
		return fresh, nil
	}
	return have, r.checkLast(ctx, have)
}

// fresh is the checkpoint of a view that holds nothing yet.
func (r *Runner) fresh() checkpoint {
	return checkpoint{
		Projection: r.projection.Name(), Format: r.projection.Format(),
		Ledger: string(r.store.LedgerID()), Store: r.storeName,
	}
}

// load gives the checkpoint in the view, whatever its format; false if there is
// none. One that belongs to something else is refused.
func (r *Runner) load(ctx context.Context) (have checkpoint, found bool, err error) {
	fresh := r.fresh()
	data, found, err := r.view.Get(ctx, checkpointKey)
	if err != nil {
		return checkpoint{}, false, fmt.Errorf("read the checkpoint: %w", err)
	}
	if !found {
		return checkpoint{}, false, nil
	}
	if err := op.Unmarshal(data, &have); err != nil {
		return checkpoint{}, false, r.refuse("its checkpoint can't be read (%v): clear the view to build it again", err)
	}
	for _, f := range []struct{ field, have, want string }{
		{"projection", have.Projection, fresh.Projection},
		{"ledger", have.Ledger, fresh.Ledger},
		{"store", have.Store, fresh.Store},
	} {
		if f.have != f.want {
			return checkpoint{}, false, r.refuse("its checkpoint is of %s %q, not of %q: give each its own view, or clear this one to build it again",
				f.field, f.have, f.want)
		}
	}
	return have, true, nil
}

func (r *Runner) refuse(format string, args ...any) error {
	return &RefusedError{Projection: r.projection.Name(), Why: fmt.Sprintf(format, args...)}
}

func (r *Runner) mustBeEmpty(ctx context.Context) error {
	for _, err := range r.view.Scan(ctx, "") {
		if err != nil {
			return fmt.Errorf("read the view: %w", err)
		}
		return r.refuse("it holds data but no checkpoint, so nobody knows what was applied: clear it to build it again")
	}
	return nil
}

// checkLast looks whether the newest event that was applied is still where it
// was. If not, the ledger is an older copy, perhaps with another history
// since, and the view holds what never happened in it.
func (r *Runner) checkLast(ctx context.Context, c checkpoint) error {
	if c.Last == nil {
		return nil
	}
	for e, err := range r.store.ReadStream(ctx, c.Last.stream(), c.Last.Revision) {
		var corrupt *eventstore.CorruptError
		switch {
		case errors.Is(err, eventstore.ErrStreamNotFound):
			return r.rolledBack(c)
		case errors.As(err, &corrupt):
			// A damaged op is no sign of a rollback, and must not stop others.
			r.log.WarnContext(ctx, "the event at the checkpoint can't be read", "err", err)
			return nil
		case err != nil:
			return fmt.Errorf("read the event at the checkpoint: %w", err)
		case !c.Last.is(e):
			return r.rolledBack(c)
		}
		return nil
	}
	return r.rolledBack(c)
}

func (r *Runner) rolledBack(c checkpoint) error {
	return r.refuse("revision %d of %s at position %d, the last event that was applied, is not in the ledger any more: "+
		"the ledger is an older copy; find out why before anything is launched from it, then clear the view to build it again",
		c.Last.Revision, shortName(c.Last.stream()), c.Last.Position)
}
