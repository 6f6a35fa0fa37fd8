package esdbserver

import (
	"context"

	"writ/domain/eventstore"
)

type verdictKind uint8

const (
	verdictWrite    verdictKind = iota + 1 // the stream is as expected
	verdictRepeated                        // exactly these events are on record already
	verdictWrong                           // the stream is not as expected
	verdictDeleted                         // the stream takes no such append
)

// A verdict is what becomes of an append.
type verdict struct {
	is       verdictKind
	state    streamState         // of the stream
	revision eventstore.Revision // of the last event; of verdictRepeated
	position eventstore.Position // of the last event; of verdictRepeated
	written  int                 // so many events are on record; of verdictWrite, beyond 0 only if put was cut short
}

// decide checks an append in the order in which EventStoreDB does. Events are
// compared by their ids alone. The stream's lock is held.
func (w *writer) decide(ctx context.Context, stream eventstore.StreamID, expected expectation, events []eventstore.Proposed) (verdict, error) {
	s, err := w.state(ctx, stream)
	v := verdict{state: s}
	if err != nil {
		return v, err
	}
	switch {
	case s.tombstoned:
		v.is = verdictDeleted
	case expected == expectExists && s.deleted():
		v.is = verdictDeleted
	case expected == expectExists && s.last < 0 && s.metaLast < 0:
		v.is = verdictWrong
	case expected == expectAny || expected == expectExists:
		return w.byRecentIDs(ctx, stream, v, events)
	case int64(expected) > s.last:
		v.is = verdictWrong
	case int64(expected) == s.last:
		v.is = verdictWrite
	default:
		return w.byPlace(ctx, stream, v, expected, events)
	}
	return v, nil
}

// byRecentIDs decides an append that names no revision: it is a repetition if
// all of its events were written to this stream lately.
func (w *writer) byRecentIDs(ctx context.Context, stream eventstore.StreamID, v verdict, events []eventstore.Proposed) (verdict, error) {
	v.is = verdictWrite
	var last recentPlace
	for i, e := range events {
		place, known := w.recent.find(e.ID)
		known = known && place.stream == stream
		switch {
		case !known && i == 0:
			return v, nil
		case !known:
			v.is = verdictWrong
			return v, nil
		}
		last = place
	}
	if len(events) == 0 {
		return v, nil
	}
	e, ok, err := w.ledger.event(ctx, stream, last.revision)
	if err != nil || !ok {
		return v, err
	}
	v.is, v.revision, v.position = verdictRepeated, e.Revision, e.Position
	return v, nil
}

// byPlace decides an append that expects a revision which the stream has left
// behind: it is a repetition if what follows that revision are its events. For
// a stream that was expected to be empty they may also stand where it began
// anew after it had been deleted.
func (w *writer) byPlace(ctx context.Context, stream eventstore.StreamID, v verdict, expected expectation, events []eventstore.Proposed) (verdict, error) {
	v.is = verdictWrong
	places := []uint64{uint64(expected + 1)}
	if tb := v.state.meta.truncateBefore; expected == expectNoStream && tb > 0 && !v.state.deleted() {
		places = append(places, tb)
	}
	for _, from := range places {
		n, last, err := w.matching(ctx, stream, from, events)
		switch {
		case err != nil:
			return v, err
		case n > 0 && n == len(events):
			v.is, v.revision, v.position = verdictRepeated, last.Revision, last.Position
			return v, nil
		case n > 0 && n%eventstore.MaxAppendEvents == 0 && int64(last.Revision) == v.state.last:
			v.is, v.written = verdictWrite, n
			return v, nil
		case n == 0 && len(events) > 0 && expected == expectNoStream && v.state.deleted():
			v.is = verdictWrite
		}
	}
	return v, nil
}

// matching counts how many of the events stand in a stream from a revision on,
// and gives the last of these.
func (w *writer) matching(ctx context.Context, stream eventstore.StreamID, from uint64, events []eventstore.Proposed) (n int, last eventstore.Recorded, err error) {
	for e, err := range w.ledger.store.ReadStream(ctx, stream, eventstore.Revision(from)) {
		if err != nil {
			return n, last, err
		}
		if n == len(events) || e.ID != events[n].ID {
			break
		}
		n, last = n+1, e
	}
	return n, last, nil
}
