package esdbserver

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	"writ/domain/eventstore"
)

// A writer decides appends as EventStoreDB does and hands them to the store,
// which takes none but at an exact revision. It reads the stream's state under
// the stream's lock, so that the state holds until the append is done.
type writer struct {
	ledger *ledger
	store  Writer
	locks  locks
	recent recentIDs
	// underWay counts the calls that may be writing.
	underWay atomic.Int64
}

func newWriter(l *ledger, store Writer) *writer { return &writer{ledger: l, store: store} }

// at is the store's expectation of a stream as it was found.
func at(last int64) eventstore.Expected {
	if last < 0 {
		return eventstore.NoStream()
	}
	return eventstore.At(eventstore.Revision(last))
}

// write appends events to a stream in the state in which it was found, and does
// what goes with that: a soft-deleted stream comes back.
func (w *writer) write(ctx context.Context, stream eventstore.StreamID, s streamState, events []eventstore.Proposed) (eventstore.Appended, error) {
	if of, is := owner(stream); is {
		return w.writeMetadata(ctx, stream, of, s, events)
	}
	done, err := w.put(ctx, stream, s.last, events)
	if err != nil || !s.deleted() {
		return done, err
	}
	// If this fails, the events are on record and hidden, nobody was told that
	// they are there, and the next write to the stream makes up for it.
	if err := w.revive(ctx, stream, s, uint64(s.last+1)); err != nil {
		return done, fail(codes.Aborted, "stream %q was not brought back: %v; send the append again", stream, err)
	}
	return done, nil
}

// writeMetadata appends to the metadata of a stream. If that is soft-deleted it
// comes back, and what was in it stays hidden; both in one append, so that no
// reader sees in between what was deleted.
func (w *writer) writeMetadata(ctx context.Context, stream, of eventstore.StreamID, s streamState, events []eventstore.Proposed) (eventstore.Appended, error) {
	state, err := w.ledger.state(ctx, of)
	if err != nil {
		return eventstore.Appended{}, err
	}
	if !state.deleted() {
		return w.put(ctx, stream, s.last, events)
	}
	newest := events[len(events)-1].Data
	if m := parseMetadata(newest); m.deleted() {
		return w.put(ctx, stream, s.last, events) // it is deleted again
	}
	from := uint64(state.last + 1)
	data := withTruncateBefore(newest, from)
	if parseMetadata(data).truncateBefore != from {
		data = withTruncateBefore(nil, from) // the client's has no effect as a whole
	}
	hiding, err := metadataEvent(data)
	if err != nil {
		return eventstore.Appended{}, err
	}
	if _, err := w.put(ctx, stream, s.last, append(events[:len(events):len(events)], hiding)); err != nil {
		return eventstore.Appended{}, err
	}
	last := eventstore.Revision(s.last + int64(len(events)))
	e, ok, err := w.ledger.event(ctx, stream, last)
	if err == nil && !ok {
		err = &eventstore.CorruptError{Stream: stream, Why: "an event that was just appended is not there"}
	}
	return eventstore.Appended{Revision: last, Position: e.Position}, err
}

// put hands events to the store. A *eventstore.WrongRevisionError proves that
// nothing was written, and that the stream has changed since it was looked at.
//
// The store takes so many events in one append; the protocol has no such limit.
// What is longer is written in parts. If a later part fails, or the process dies
// between two, the first ones are on record; repeating the append, which then
// finds its own beginning at the stream's end, completes it (see byPlace).
func (w *writer) put(ctx context.Context, stream eventstore.StreamID, last int64, events []eventstore.Proposed) (eventstore.Appended, error) {
	first := events[:min(len(events), eventstore.MaxAppendEvents)]
	done, err := w.store.Append(ctx, stream, at(last), first...)
	if err != nil {
		return done, err
	}
	w.recent.add(stream, eventstore.Revision(last+1), first)
	for part := range slices.Chunk(events[len(first):], eventstore.MaxAppendEvents) {
		// A client that leaves now must not leave half of it behind.
		next, err := w.store.Append(context.WithoutCancel(ctx), stream, eventstore.At(done.Revision), part...)
		if err != nil {
			return done, fail(codes.Aborted, "append %s: its events from revision %d on are not known to be on record: %v; send the append again", stream, done.Revision+1, err)
		}
		w.recent.add(stream, done.Revision+1, part)
		done = next
	}
	return done, nil
}

// maxTries bounds how often a write is decided anew because its stream had
// changed. Under the stream's lock that happens only if an append whose caller
// had left came through late, or if somebody writes past this server.
const maxTries = 8

// decided runs a write under its stream's lock until it was decided on what the
// stream really is.
func (w *writer) decided(ctx context.Context, stream eventstore.StreamID, write func() error) error {
	w.underWay.Add(1)
	defer w.underWay.Add(-1)
	unlock, err := w.locks.lock(ctx, stream)
	if err != nil {
		return err
	}
	defer unlock()
	var wrong *eventstore.WrongRevisionError
	for range maxTries {
		if err = write(); !errors.As(err, &wrong) {
			return err
		}
	}
	return fail(codes.Aborted, "%v; others write to the stream, try again", err)
}

// revive makes the events of a soft-deleted stream visible from a revision on.
func (w *writer) revive(ctx context.Context, stream eventstore.StreamID, s streamState, from uint64) error {
	newest, ok, err := w.ledger.head(ctx, metaOf(stream))
	if err != nil {
		return err
	}
	if !ok || int64(newest.Revision) != s.metaLast {
		return fail(codes.Aborted, "the metadata of stream %q changed meanwhile; try again", stream)
	}
	e, err := metadataEvent(withTruncateBefore(newest.Data, from))
	if err != nil {
		return err
	}
	_, err = w.put(ctx, metaOf(stream), s.metaLast, []eventstore.Proposed{e})
	return err
}

// state gives a stream's state after it has finished what an append that brought
// the stream back may have left undone: its events are newer than the deletion,
// and still hidden. w holds the stream's lock.
func (w *writer) state(ctx context.Context, stream eventstore.StreamID) (streamState, error) {
	s, err := w.ledger.state(ctx, stream)
	if err != nil || !s.deleted() || s.last < 0 || s.lastAt < s.metaAt {
		return s, err
	}
	first, err := w.firstSince(ctx, stream, uint64(s.last), s.metaAt)
	if err != nil {
		return s, err
	}
	if err := w.revive(ctx, stream, s, first); err != nil {
		return s, err
	}
	return w.ledger.state(ctx, stream)
}

// firstSince gives the first revision of a stream behind a position; there is
// one, the last.
func (w *writer) firstSince(ctx context.Context, stream eventstore.StreamID, last uint64, since eventstore.Position) (uint64, error) {
	low, high := uint64(0), last
	for low < high {
		middle := low + (high-low)/2
		e, ok, err := w.ledger.event(ctx, stream, eventstore.Revision(middle))
		switch {
		case err != nil:
			return 0, err
		case !ok:
			return 0, &eventstore.CorruptError{Stream: stream, Why: "a revision before its last is missing"}
		case e.Position > since:
			high = middle
		default:
			low = middle + 1
		}
	}
	return low, nil
}

func metadataEvent(data []byte) (eventstore.Proposed, error) {
	id, err := uuid.NewRandom()
	return eventstore.Proposed{ID: eventstore.EventID(id), Type: typeMetadata, Data: data}, err
}
