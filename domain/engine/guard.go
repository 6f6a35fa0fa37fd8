package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"writ/domain/eventstore"
	"writ/domain/op"
)

// A Guard shows whether this is the newest copy of the ledger, and whether the
// clock can be believed: a restored backup, or a machine that was cloned or
// rolled back, knows fewer spent nonces than the truth. What is nil is not
// looked at.
type Guard struct {
	// Witness keeps, outside the ledger, how far it had come.
	Witness Witness
	// Foreign gives the credentials of attempts that the host remembers and
	// this ledger does not know of. An error means that this can't be said.
	Foreign func(context.Context) ([]string, error)
	// HostTime tells the host's time.
	HostTime func(context.Context) (time.Time, error)
	// Shared: instances on other machines use this ledger, too, each with a
	// witness of its own. One that has none yet is on a new machine; what it
	// can't know the others and the host do.
	Shared bool
	// Room fails once the ledger has no more room than what endings need.
	Room func() error

	// Skew is by how much the clock may disagree with the host's; 0 means 30 s.
	Skew time.Duration
	// Every is the time between two looks; 0 means a minute.
	Every time.Duration
}

func (g Guard) withDefaults() Guard {
	if g.Skew == 0 {
		g.Skew = 30 * time.Second
	}
	if g.Every == 0 {
		g.Every = time.Minute
	}
	return g
}

// A Witness keeps the newest mark of a ledger in another place than the ledger
// itself, so that both are not lost, restored or rolled back together. Its
// methods are called by one goroutine at a time.
type Witness interface {
	// Seen gives the mark that was kept last, false if there never was one.
	Seen(ctx context.Context) (Mark, bool, error)
	// Keep replaces the mark. Once it returns nil the mark survives the
	// process; after an error either one may be kept.
	Keep(ctx context.Context, m Mark) error
}

// A Mark says how far a ledger had come: this event was on record.
type Mark struct {
	Ledger   eventstore.LedgerID
	Position eventstore.Position
	Event    eventstore.EventID
	At       time.Time // when it was known to be, by this machine's clock
}

const (
	// examineTime bounds the reading from the mark to the ledger's end.
	examineTime = 10 * time.Minute
	marksEvery  = time.Second
	// clockSlack is how far the clock may be behind the newest event before
	// launching stops: clocks are corrected by a little all the time.
	clockSlack = 2 * time.Second
	// firstLooks is the time between two looks until one succeeds.
	firstLooks = 2 * time.Second
)

// examine compares the ledger with the mark that was kept of it. An error means
// that the two could not be compared.
func (e *Engine) examine(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, examineTime)
	defer cancel()
	about, err := ReadProvenance(ctx, e.cfg.Store)
	var closed *ClosedError
	switch {
	case errors.As(err, &closed):
		e.halt(haltOldLedger, closed)
		return nil
	case err != nil:
		return fmt.Errorf("find out what the ledger says about itself: %w", err)
	case about.Audience != e.cfg.Identity.Site.Ledger:
		e.halt(haltOldLedger, fmt.Errorf("the ledger's audience is %s by now, this process was started for %s: a rollback was accepted. Start the service again",
			about.Audience, e.cfg.Identity.Site.Ledger))
		return nil
	}
	if e.cfg.Guard.Witness == nil {
		return nil
	}
	seen, ok, err := e.cfg.Guard.Witness.Seen(ctx)
	if err != nil {
		return fmt.Errorf("read the high-water mark: %w", err)
	}
	found, err := e.compare(ctx, seen, ok)
	var old *oldLedgerError
	if errors.As(err, &old) {
		e.halt(haltOldLedger, old)
		return nil
	}
	if err != nil {
		return fmt.Errorf("compare the ledger with its high-water mark: %w", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.noted, e.examined = seen, true
	if found.mark.Position > e.newest.Position {
		e.newest = found.mark
	}
	if found.at.After(e.floor) {
		e.floor = found.at
	}
	return nil
}

// An oldLedgerError says why the ledger is not the newest copy for all that is
// known.
type oldLedgerError struct{ why string }

func (o *oldLedgerError) Error() string {
	return o.why + ". Writs that were spent may be unknown to it. Put the newest copy back; or, if there is none, run writ store accept-rollback, which makes every writ void that was signed so far"
}

type extent struct {
	mark Mark
	at   time.Time // the latest time that an event behind the mark tells
}

// compare looks for the marked event, and on from there to the ledger's end:
// that is never far.
func (e *Engine) compare(ctx context.Context, seen Mark, marked bool) (extent, error) {
	ledger := e.cfg.Store.LedgerID()
	found := extent{mark: seen}
	var after eventstore.Cursor
	if marked {
		if seen.Ledger != ledger {
			return found, &oldLedgerError{fmt.Sprintf("the high-water mark is that of ledger %s, this is ledger %s", seen.Ledger, ledger)}
		}
		if seen.Position > 0 {
			after = eventstore.After(seen.Position - 1)
		}
	}
	// Position 0 is that of no event: the mark of an empty ledger.
	met := marked && seen.Position == 0
	for rec, err := range e.cfg.Store.ReadAll(ctx, after, eventstore.Filter{}) {
		if err != nil {
			return found, err
		}
		if !marked && e.cfg.Guard.Shared {
			e.cfg.Log.Warn("this instance has no high-water mark of the ledger yet, and begins one")
			return found, nil
		}
		if !marked {
			return found, &oldLedgerError{"the ledger has events, but no high-water mark of it is kept here: it may be a copy"}
		}
		if !met && (rec.Position != seen.Position || rec.ID != seen.Event) {
			return found, behind(seen)
		}
		met = true
		found.mark = Mark{Ledger: ledger, Position: rec.Position, Event: rec.ID, At: seen.At}
		if at, ok := op.TimeOf(rec.Data); ok && at.After(found.at) {
			found.at = at
		}
	}
	if marked && !met {
		return found, behind(seen)
	}
	return found, nil
}

func behind(seen Mark) error {
	return &oldLedgerError{fmt.Sprintf("the ledger does not have the event that was on record at position %d on %s: it is an old copy, or another one",
		seen.Position, seen.At.UTC().Format(time.RFC3339))}
}

// acknowledged notes that an event is on record.
func (e *Engine) acknowledged(p eventstore.Position, id eventstore.EventID) {
	now := e.cfg.Clock.Now().Round(0)
	e.mu.Lock()
	defer e.mu.Unlock()
	if p > e.newest.Position || e.newest.Ledger == "" {
		e.newest = Mark{Ledger: e.cfg.Store.LedgerID(), Position: p, Event: id, At: now.UTC()}
	}
	if now.After(e.floor) {
		e.floor = now
	}
}

// keepMark lets the witness know how far the ledger has come. What it does not
// know yet is what the last moments before a rollback may hide from it: the
// host's memory of attempts covers those.
func (e *Engine) keepMark() {
	e.mu.Lock()
	m, noted := e.newest, e.noted
	// A process that has not compared its ledger with the mark, or that has any
	// doubt about it, must not replace the mark: that is what tells the next one.
	tried, doubtful := e.tried, !e.examined
	for _, c := range []haltCause{haltOldLedger, haltOtherCopy, haltSuperseded, haltDisputed, haltUnchecked} {
		doubtful = doubtful || e.halts[c] != nil
	}
	e.mu.Unlock()
	if w := e.cfg.Guard.Witness; w == nil || doubtful || m.Ledger == "" || m.Position == noted.Position && noted.Ledger != "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.running), e.cfg.AppendTimeout)
	defer cancel()
	same := func(a, b Mark) bool { return a.Ledger == b.Ledger && a.Position == b.Position && a.Event == b.Event }
	seen, ok, err := e.cfg.Guard.Witness.Seen(ctx)
	if err != nil {
		e.cfg.Log.Error("the high-water mark can't be read", "err", err)
		return
	}
	if ok && !same(seen, noted) && !same(seen, tried) {
		// Somebody else keeps it, too. Over this ledger that does no harm. But
		// this machine may have been rolled back while it ran.
		_, err := e.compare(ctx, seen, true)
		var old *oldLedgerError
		if errors.As(err, &old) {
			e.halt(haltOldLedger, old)
		}
		if err != nil {
			e.cfg.Log.Error("the high-water mark was kept by somebody else, and is left as it is", "err", err)
			return
		}
		if seen.Position >= m.Position {
			e.mu.Lock()
			e.noted = seen
			e.mu.Unlock()
			return
		}
	}
	e.mu.Lock()
	e.tried = m
	e.mu.Unlock()
	if err := e.cfg.Guard.Witness.Keep(ctx, m); err != nil {
		e.cfg.Log.Error("the high-water mark could not be kept; a copy of the ledger may be noticed late", "err", err)
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.noted = m
}

// now is the time by this machine's clock, but never earlier than the newest
// event: a clock that was set back must not make an expired writ valid again.
func (e *Engine) now() time.Time {
	now := e.cfg.Clock.Now()
	e.mu.Lock()
	floor := e.floor
	_, halted := e.halts[haltClockBack]
	e.mu.Unlock()
	if now.Round(0).Before(floor) {
		// Whoever was held up since it was read finds events that others have
		// recorded meanwhile. Only a clock that is behind them now was set back.
		now = e.cfg.Clock.Now()
	}
	back := floor.Sub(now.Round(0)) // by the wall: the monotonic clock knows of nothing before the start
	switch {
	case back > clockSlack:
		e.halt(haltClockBack, fmt.Errorf("the clock says %s, but the newest event is of %s: set the clock right",
			now.UTC().Format(time.RFC3339), floor.UTC().Format(time.RFC3339)))
	case halted:
		e.lift(haltClockBack)
	}
	if back > 0 {
		return floor
	}
	return now
}

// watch asks the host, when a term begins and then again and again, what it
// remembers and what time it has, and keeps the mark.
func (e *Engine) watch(t *term) {
	var due time.Time
	for first := true; ; {
		if now := e.cfg.Clock.Now(); !now.Before(due) {
			due = now.Add(e.cfg.Guard.Every)
			if err := e.look(t.ctx); err != nil {
				due = now.Add(firstLooks)
				e.cfg.Log.Warn("the host could not be asked what it remembers of this ledger and what time it has, asking again", "err", err)
				if first {
					e.halt(haltUnchecked, fmt.Errorf("the host has not been asked yet whether this ledger is the newest copy: %w", err))
				}
			} else if first {
				first = false
				e.lift(haltUnchecked)
			}
			select {
			case <-t.checked:
			default:
				close(t.checked)
			}
		}
		e.now() // notices a clock that was set back, and one that was set right
		e.keepMark()
		if e.cfg.Clock.Wait(t.ctx, marksEvery) != nil {
			return
		}
	}
}

func (e *Engine) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return errors.Join(e.lookForCopies(ctx), e.lookAtClock(ctx))
}

func (e *Engine) lookForCopies(ctx context.Context) error {
	if e.cfg.Guard.Foreign == nil {
		return nil
	}
	foreign, err := e.cfg.Guard.Foreign(ctx)
	if err != nil {
		return err
	}
	if len(foreign) > 0 {
		const shown = 5
		more := ""
		if len(foreign) > shown {
			more = fmt.Sprintf(" and %d more", len(foreign)-shown)
		}
		e.halt(haltOtherCopy, &OtherCopyError{Why: fmt.Sprintf("the host has tokens of attempts that this ledger knows nothing of: %s%s. "+
			"Stop whatever else acts for this agent; then put the newest copy of the ledger back, or run writ store accept-rollback",
			text(strings.Join(foreign[:min(len(foreign), shown)], ", ")), more)})
	}
	return nil
}

func (e *Engine) lookAtClock(ctx context.Context) error {
	if e.cfg.Guard.HostTime == nil {
		return nil
	}
	before := e.cfg.Clock.Now()
	host, err := e.cfg.Guard.HostTime(ctx)
	if err != nil {
		return err
	}
	after := e.cfg.Clock.Now()
	// Somewhere in between the host looked at its clock.
	switch off := max(host.Sub(after.Round(0)), before.Round(0).Sub(host)); {
	case off > e.cfg.Guard.Skew:
		e.halt(haltClockSkew, fmt.Errorf("the clock says %s, the host's %s; %s are allowed: set both by the same time server",
			after.UTC().Format(time.RFC3339), host.UTC().Format(time.RFC3339), e.cfg.Guard.Skew))
	default:
		e.lift(haltClockSkew)
	}
	return nil
}

// A witnessed store tells the engine how far the ledger has come.
type witnessed struct {
	eventstore.Store
	engine *Engine
}

// Append implements eventstore.Appender.
func (w witnessed) Append(ctx context.Context, stream eventstore.StreamID, expected eventstore.Expected, events ...eventstore.Proposed) (eventstore.Appended, error) {
	got, err := w.Store.Append(ctx, stream, expected, events...)
	if err == nil && len(events) > 0 {
		w.engine.acknowledged(got.Position, events[len(events)-1].ID)
	}
	return got, err
}
