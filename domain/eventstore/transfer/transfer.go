// Package transfer copies a whole ledger from one event store to another, in
// order, and proves that the copy is one.
//
// [Copy] compares what the target holds with the source, appends what is
// missing, and then compares everything. A copy that was interrupted, at
// whatever moment, is resumed by calling it again: nothing is remembered
// outside of the target, and the events that are there already are looked at
// again, not believed. The events keep their streams, revisions, ids, types
// and bytes, and so their chains hold; they get positions and times of the
// target's own, so cursors and checkpoints of the source mean nothing there.
//
// Nobody may append to either store meanwhile. The engine has to be stopped
// first, and the source has to be closed to it for ever: two stores that both
// go on as the same ledger would each carry out the other's writs. Closing is
// the caller's part. An append to the source that slips in is found by the
// comparison at the end; one to the target makes the next append lose.
package transfer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"writ/domain/eventstore"
)

// Options of a copy.
type Options struct {
	// Chain gives a check for one stream, which is then called with its events
	// one after the other, from revision 0. The error is a finding: it says
	// why the event is not bound to those before it.
	Chain func(stream eventstore.StreamID) func(eventstore.Recorded) error
	// Leave names streams that belong to the source alone, such as the one
	// that says that it is closed. They are not copied, and the target must
	// not have them.
	Leave []eventstore.StreamID
	// Progress is told now and then how far it is. Nil: nobody is.
	Progress func(Progress)
}

// A Phase is a part of a copy. The zero value is none.
type Phase uint8

// The phases, in their order.
const (
	Comparing Phase = iota + 1
	Copying
	Verifying
)

// String gives the phase's name.
func (p Phase) String() string {
	switch p {
	case Comparing:
		return "comparing"
	case Copying:
		return "copying"
	case Verifying:
		return "verifying"
	}
	return "no phase"
}

// Progress says how far a phase is.
type Progress struct {
	Phase  Phase
	Events uint64              // dealt with in this phase
	At     eventstore.Position // in the source
}

// A Report says what became of a copy.
type Report struct {
	Events  uint64 // on record in the target, each equal to the source's
	Streams uint64
	Copied  uint64 // of the events, by this call
	Foreign uint64 // events of the target in streams that the source does not have
	Broken  uint64 // streams whose chain does not hold, here as in the source
	// Findings says why, of the first few.
	Findings []Finding
}

// A Finding is a stream whose chain does not hold.
type Finding struct {
	Stream   eventstore.StreamID
	Revision eventstore.Revision
	Why      string
}

const (
	maxFindings   = 20
	progressEvery = 256
)

// A DifferentError says that the target holds something else than the source.
// Nothing in the target was changed after it was found.
type DifferentError struct {
	Stream   eventstore.StreamID
	Revision eventstore.Revision
	Why      string
}

func (e *DifferentError) Error() string {
	return fmt.Sprintf("revision %d of %.16q in the target: %s", e.Revision, e.Stream, e.Why)
}

// Copy makes the target hold every event of the source, in the source's order,
// and checks that it does. The target is a ledger of the same id. It may hold
// the beginning of the same ledger, which is then continued, and streams with
// names that the source does not have; if it holds other events under the same
// names, the error is a *[DifferentError].
//
// When it returns nil, all events are durable in the target, equal to the
// source's byte by byte, and every chain of the target was checked; those that
// don't hold are in the report. They don't hold in the source either, and an op
// with such a stream is never run. After an error the target holds a beginning
// of the ledger, and Copy may be called again.
func Copy(ctx context.Context, source, target eventstore.Store, o Options) (Report, error) {
	c := &copier{source: source, target: target, Options: o}
	if o.Chain == nil {
		return c.report, errors.New("copy the ledger: no check for chains was given")
	}
	// The id is part of every chain and audience.
	if have, want := target.LedgerID(), source.LedgerID(); have != want {
		return c.report, fmt.Errorf("copy the ledger: the target is ledger %s, the source %s: create the target with the source's id", have, want)
	}
	from, err := c.compare(ctx, Comparing)
	if err == nil {
		err = c.appendFrom(ctx, from)
	}
	if err == nil {
		err = c.verify(ctx)
	}
	if err != nil {
		return c.report, fmt.Errorf("copy the ledger: %w", err)
	}
	return c.report, nil
}

// A copier is one copy under way.
type copier struct {
	source, target eventstore.Store
	Options
	report  Report
	foreign eventstore.StreamID // the last stream that the source did not have
}

// tell reports progress from time to time.
func (c *copier) tell(phase Phase, events uint64, at eventstore.Position) {
	if c.Progress != nil && events%progressEvery == 0 {
		c.Progress(Progress{Phase: phase, Events: events, At: at})
	}
}

func (c *copier) leaves(s eventstore.StreamID) bool { return slices.Contains(c.Leave, s) }

// appendFrom appends what the source holds behind a cursor.
func (c *copier) appendFrom(ctx context.Context, from eventstore.Cursor) error {
	var batch []eventstore.Recorded // of one stream, one after the other in the ledger
	size := 0
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		err := c.put(ctx, batch)
		batch, size = batch[:0], 0
		return err
	}
	for e, err := range c.source.ReadAll(ctx, from, eventstore.Filter{}) {
		if err != nil {
			return fmt.Errorf("the source: %w", err)
		}
		if c.leaves(e.Stream) {
			continue
		}
		more := len(e.Data) + len(e.Metadata)
		if len(batch) > 0 && (batch[0].Stream != e.Stream || len(batch) == eventstore.MaxAppendEvents || size+more > eventstore.MaxEventBytes) {
			if err := flush(); err != nil {
				return err
			}
		}
		batch = append(batch, e)
		size += more
		c.report.Copied++
		c.tell(Copying, c.report.Copied, e.Position)
	}
	return flush()
}

// put makes one append at the revision that it has in the source, until the
// answer is definite.
func (c *copier) put(ctx context.Context, batch []eventstore.Recorded) error {
	first := batch[0]
	expected := eventstore.NoStream()
	if first.Revision > 0 {
		expected = eventstore.At(first.Revision - 1)
	}
	events := make([]eventstore.Proposed, len(batch))
	for i, e := range batch {
		if e.Revision != first.Revision+eventstore.Revision(i) {
			return &eventstore.CorruptError{Stream: e.Stream, Why: fmt.Sprintf("the source gave revision %d where %d comes next", e.Revision, first.Revision+eventstore.Revision(i))}
		}
		events[i] = eventstore.Proposed{ID: e.ID, Type: e.Type, Data: e.Data, Metadata: e.Metadata}
	}
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		done, err := c.target.Append(ctx, first.Stream, expected, events...)
		var wrong *eventstore.WrongRevisionError
		switch {
		case err == nil && done.Revision == batch[len(batch)-1].Revision:
			return nil
		case err == nil:
			return &DifferentError{Stream: first.Stream, Revision: first.Revision, Why: fmt.Sprintf("the append was answered with revision %d", done.Revision)}
		case errors.As(err, &wrong):
			return &DifferentError{Stream: first.Stream, Revision: first.Revision, Why: fmt.Sprintf("the stream is at %s: somebody else writes to the target", wrong.Actual)}
		case eventstore.Definite(err), errors.Is(err, eventstore.ErrClosed):
			return fmt.Errorf("the target: %w", err)
		}
		var corrupt *eventstore.CorruptError
		if errors.As(err, &corrupt) {
			return fmt.Errorf("the target: %w", err)
		}
		// Unknown: the same events again. If they are there, the answer is the
		// first one's.
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%w (the target: %s)", ctx.Err(), err)
		}
	}
}

// Between two tries of an append whose outcome is unknown.
const (
	firstPause = 10 * time.Millisecond
	maxPause   = 2 * time.Second
)
