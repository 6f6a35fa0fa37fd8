package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"

	"writ/domain/eventstore"
)

// compare goes through both stores side by side. Every event of the target
// must be the source's next one, or belong to a stream that the source does
// not have. It gives the cursor behind the last event that the target has.
func (c *copier) compare(ctx context.Context, phase Phase) (eventstore.Cursor, error) {
	next, stop := iter.Pull2(c.source.ReadAll(ctx, eventstore.Cursor{}, eventstore.Filter{}))
	defer stop()
	at := eventstore.Cursor{}
	c.foreign = "" // the source may have it by now
	events, streams, foreign := uint64(0), uint64(0), uint64(0)
	waiting, have := eventstore.Recorded{}, false // the source's next event, read and not met yet
	for t, err := range c.target.ReadAll(ctx, eventstore.Cursor{}, eventstore.Filter{}) {
		if err != nil {
			return at, fmt.Errorf("the target: %w", err)
		}
		if !have {
			if waiting, have, err = c.nextOf(next); err != nil {
				return at, err
			}
		}
		if !have || !same(waiting, t) {
			if err := c.mustBeForeign(ctx, t, waiting, have); err != nil {
				return at, err
			}
			foreign++
			continue
		}
		have = false
		at = eventstore.After(waiting.Position)
		events++
		if t.Revision == 0 {
			streams++
			if phase == Verifying {
				if err := c.checkChain(ctx, t.Stream); err != nil {
					return at, err
				}
			}
		}
		c.tell(phase, events, waiting.Position)
	}
	c.report.Events, c.report.Streams, c.report.Foreign = events, streams, foreign
	return at, nil
}

// nextOf gives the source's next event that is to be copied; false at its end.
func (c *copier) nextOf(next func() (eventstore.Recorded, error, bool)) (eventstore.Recorded, bool, error) {
	for {
		e, err, ok := next()
		if err != nil {
			return eventstore.Recorded{}, false, fmt.Errorf("the source: %w", err)
		}
		if !ok || !c.leaves(e.Stream) {
			return e, ok, nil
		}
	}
}

// mustBeForeign refuses an event of the target that is not the next one, unless
// the source knows nothing of its stream.
func (c *copier) mustBeForeign(ctx context.Context, t, want eventstore.Recorded, have bool) error {
	if t.Stream == c.foreign {
		return nil // was asked for just now
	}
	differs := &DifferentError{Stream: t.Stream, Revision: t.Revision}
	if c.leaves(t.Stream) {
		differs.Why = "the stream belongs to the source alone"
		return differs
	}
	_, err := c.source.Head(ctx, t.Stream)
	switch {
	case errors.Is(err, eventstore.ErrStreamNotFound):
		c.foreign = t.Stream
		return nil
	case err != nil:
		return fmt.Errorf("the source: %w", err)
	case !have:
		differs.Why = "the source has no more events, but has this stream"
	case t.Stream == want.Stream && t.Revision == want.Revision:
		differs.Why = "it is another event than the source's"
	default:
		differs.Why = fmt.Sprintf("the source's next event is revision %d of %.16q", want.Revision, want.Stream)
	}
	return differs
}

// same compares all that is copied.
func same(a, b eventstore.Recorded) bool {
	return a.Stream == b.Stream && a.Revision == b.Revision && a.ID == b.ID && a.Type == b.Type &&
		bytes.Equal(a.Data, b.Data) && bytes.Equal(a.Metadata, b.Metadata)
}

// verify compares everything, checks every chain in the target, and sees to it
// that the source has no more.
func (c *copier) verify(ctx context.Context) error {
	at, err := c.compare(ctx, Verifying)
	if err != nil {
		return err
	}
	for e, err := range c.source.ReadAll(ctx, at, eventstore.Filter{}) {
		if err != nil {
			return fmt.Errorf("the source: %w", err)
		}
		if !c.leaves(e.Stream) {
			return fmt.Errorf("revision %d of %.16q in the source is not in the target: stop what writes to the source and copy again", e.Revision, e.Stream)
		}
	}
	return nil
}

// checkChain reads one stream of the target from its beginning. Each stream is
// read for itself, so that memory does not grow with their number.
func (c *copier) checkChain(ctx context.Context, stream eventstore.StreamID) error {
	check := c.Chain(stream)
	for e, err := range c.target.ReadStream(ctx, stream, 0) {
		if err != nil {
			return fmt.Errorf("the target: %w", err)
		}
		if err := check(e); err != nil {
			c.report.Broken++
			if len(c.report.Findings) < maxFindings {
				c.report.Findings = append(c.report.Findings, Finding{Stream: stream, Revision: e.Revision, Why: err.Error()})
			}
			return nil // what follows hangs on it
		}
	}
	return nil
}
