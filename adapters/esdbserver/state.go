package esdbserver

import (
	"context"
	"errors"
	"iter"
	"math"
	"strings"
	"time"

	"writ/domain/eventstore"
)

// A streamState is what decides about reads of a stream and appends to it.
type streamState struct {
	last       int64 // revision of the newest event as it is stored; -1 if there is none
	lastAt     eventstore.Position
	tombstoned bool
	meta       streamMeta
	metaLast   int64 // revision of the newest metadata; -1 if there is none
	metaAt     eventstore.Position
}

// deleted tells whether the stream is soft-deleted.
func (s streamState) deleted() bool { return s.meta.deleted() }

// exists tells whether there is anything to read: a stream that only has
// metadata, or is soft-deleted, does not exist for readers.
func (s streamState) exists() bool { return s.last >= 0 && !s.deleted() }

// first is the first revision to show. All of them may be hidden.
func (s streamState) first() uint64 {
	first := s.meta.truncateBefore
	if n := s.meta.maxCount; n > 0 && s.last >= 0 && uint64(s.last)+1 > n {
		first = max(first, uint64(s.last)+1-n)
	}
	return first
}

// since is the time before which events are hidden; the zero time hides none.
func (s streamState) since(now time.Time) time.Time {
	if s.meta.maxAge <= 0 {
		return time.Time{}
	}
	return now.Add(-s.meta.maxAge)
}

// metaOf gives the stream in which the metadata of another is kept.
func metaOf(stream eventstore.StreamID) eventstore.StreamID { return "$$" + stream }

// owner gives the stream whose metadata a stream keeps, if it does.
func owner(stream eventstore.StreamID) (eventstore.StreamID, bool) {
	name, ok := strings.CutPrefix(string(stream), "$$")
	return eventstore.StreamID(name), ok
}

// state finds out how a stream stands now.
func (l *ledger) state(ctx context.Context, stream eventstore.StreamID) (streamState, error) {
	s := streamState{last: -1, metaLast: -1}
	head, ok, err := l.head(ctx, stream)
	if err != nil {
		return s, err
	}
	if ok {
		s.last, s.lastAt, s.tombstoned = int64(head.Revision), head.Position, isTombstone(head)
	}
	if of, is := owner(stream); is {
		// The metadata of metadata is fixed: the newest counts.
		s.meta.maxCount = 1
		head, ok, err := l.head(ctx, of)
		s.tombstoned = ok && isTombstone(head)
		return s, err
	}
	if s.tombstoned {
		return s, nil
	}
	head, ok, err = l.head(ctx, metaOf(stream))
	if err != nil || !ok {
		return s, err
	}
	s.metaLast, s.metaAt = int64(head.Revision), head.Position
	s.meta = parseMetadata(head.Data)
	return s, nil
}

func (l *ledger) head(ctx context.Context, stream eventstore.StreamID) (eventstore.Recorded, bool, error) {
	e, err := l.store.Head(ctx, stream)
	if errors.Is(err, eventstore.ErrStreamNotFound) {
		return e, false, nil
	}
	return e, err == nil, err
}

// event gives one event of a stream, if it is there.
func (l *ledger) event(ctx context.Context, stream eventstore.StreamID, r eventstore.Revision) (eventstore.Recorded, bool, error) {
	for e, err := range l.store.ReadStream(ctx, stream, r) {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			return e, false, nil
		}
		return e, err == nil && e.Revision == r, err
	}
	return eventstore.Recorded{}, false, nil
}

// forwards gives the events from one revision to another, both included, as
// far as they are there and not older than a time.
func (l *ledger) forwards(ctx context.Context, stream eventstore.StreamID, from, to uint64, since time.Time) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		if from > to {
			return
		}
		for e, err := range l.store.ReadStream(ctx, stream, eventstore.Revision(from)) {
			if errors.Is(err, eventstore.ErrStreamNotFound) || err == nil && uint64(e.Revision) > to {
				return
			}
			if err == nil && e.RecordedAt.Before(since) {
				continue
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// backwards gives the same events the other way round.
func (l *ledger) backwards(ctx context.Context, stream eventstore.StreamID, from, to uint64, since time.Time) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for size := uint64(16); from <= to && to != math.MaxUint64; size = min(2*size, backwardPage) {
			low := from
			if to-from >= size {
				low = to - size + 1
			}
			var page []eventstore.Recorded
			for e, err := range l.forwards(ctx, stream, low, to, since) {
				if err != nil {
					yield(e, err)
					return
				}
				page = append(page, e)
			}
			for i := len(page) - 1; i >= 0; i-- {
				if !yield(page[i], nil) {
					return
				}
			}
			to = low - 1 // wraps around below 0, which ends it
		}
	}
}
