package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"writ/domain/eventstore"
	"writ/domain/op"
)

// A journal appends to a stream that is not an op's: the gate's refusals, the
// policies. Its events are sealed and chained like those of an op.
type journal struct {
	store  eventstore.Store
	stream string

	mu    sync.Mutex // held over each append: one at a time
	tail  op.Tail
	known bool // tail is the stream's as of the last answer
}

func newJournal(store eventstore.Store, stream string) *journal {
	return &journal{store: store, stream: stream}
}

// head gives the newest record of the stream, false if it has none.
func (j *journal) head(ctx context.Context) (op.Record, bool, error) {
	e, err := j.store.Head(ctx, eventstore.StreamID(j.stream))
	if errors.Is(err, eventstore.ErrStreamNotFound) {
		return op.Record{}, false, nil
	}
	return RecordOf(e), err == nil, err
}

// locate finds the end of the stream. It is called with the lock held.
func (j *journal) locate(ctx context.Context) error {
	if j.known {
		return nil
	}
	rec, ok, err := j.head(ctx)
	if err != nil {
		return err
	}
	j.tail = op.Tail{}
	if ok {
		if j.tail, err = op.TailAfter(rec); err != nil {
			return fmt.Errorf("stream %s: %w", j.stream, err)
		}
	}
	j.known = true
	return nil
}

// append puts an event at the end of the stream, wherever that is, and gives
// its revision. build makes the event's data for the revision it will get.
// After an error the event may be on record.
func (j *journal) append(ctx context.Context, correlation, typ string, build func(revision uint64) ([]byte, error)) (uint64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for {
		if err := j.locate(ctx); err != nil {
			return 0, err
		}
		data, err := build(j.tail.Next)
		if err != nil {
			return 0, err
		}
		rec, tail, err := j.tail.Seal(string(j.store.LedgerID()), j.stream, correlation, typ, data)
		if err != nil {
			return 0, err
		}
		done := AppendRecord(ctx, j.store, j.stream, rec)
		switch done.Outcome {
		case AppendOK:
			j.tail = tail
			return rec.Revision, nil
		case AppendLost:
			// Somebody else writes this stream too: find its end and go on.
			j.known = false
			if ctx.Err() != nil {
				return 0, ctx.Err()
			}
		case AppendRefused, AppendUnknown:
			j.known = false
			return 0, done.Err
		}
	}
}
