package pebblestore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"writ/domain/eventstore"
)

// A request is an append on its way to the committer.
type request struct {
	stream   eventstore.StreamID
	expected eventstore.Expected
	drafts   []draft
	space    *[]byte      // what the drafts hold
	size     int          // of data and metadata
	answer   chan outcome // takes one without a reader
}

// A draft is an event on its way: the key and the value as they will be
// written, but for what only the committer can know.
type draft struct {
	key, value []byte
	event      eventstore.Proposed // data and metadata are pieces of value
	position   eventstore.Position // set when it is decided
}

// maxSpaceBytes is how large a space may be to be used again.
const maxSpaceBytes = 64 << 10

// newRequest copies the events, because a caller that does not wait for the end
// may go on to change its slices while they are being written. Their keys and
// values are made here, beside those of other callers, and not by the one
// committer.
func (s *Store) newRequest(stream eventstore.StreamID, expected eventstore.Expected, events []eventstore.Proposed) *request {
	r := &request{stream: stream, expected: expected, drafts: make([]draft, len(events)), answer: make(chan outcome, 1)}
	total := 0
	for _, e := range events {
		total += 2*len(stream) + 16 + recordSize(e) // a name may double in a key
		r.size += len(e.Data) + len(e.Metadata)
	}
	r.space, _ = s.spaces.Get().(*[]byte)
	if r.space == nil {
		r.space = new([]byte)
	}
	own := slices.Grow((*r.space)[:0], total)
	*r.space = own
	for i, e := range events {
		d := &r.drafts[i]
		from := len(own)
		own = binary.BigEndian.AppendUint64(appendStreamKey(own, stream), uint64(expected.Next())+uint64(i))
		d.key = own[from:len(own):len(own)]
		from = len(own)
		own = appendRecord(own, e)
		d.value = own[from:len(own):len(own)]
		d.event = e
		d.event.Metadata = d.value[len(d.value)-len(e.Metadata):]
		d.event.Data = d.value[len(d.value)-len(e.Metadata)-len(e.Data) : len(d.value)-len(e.Metadata) : len(d.value)-len(e.Metadata)]
	}
	return r
}

// recycle lets the space of a request be used for another one. It is called
// once, when the group is settled that the request was in: nobody reads the
// drafts any more. The space of one that is never answered is left to the
// garbage collector.
func (s *Store) recycle(r *request) {
	if cap(*r.space) <= maxSpaceBytes {
		s.spaces.Put(r.space)
	}
	r.drafts, r.space = nil, nil
}

type outcome struct {
	appended eventstore.Appended
	err      error
}

// Append implements [eventstore.Appender].
func (s *Store) Append(ctx context.Context, stream eventstore.StreamID, expected eventstore.Expected, events ...eventstore.Proposed) (eventstore.Appended, error) {
	if err := s.checkAppend(stream, expected, events); err != nil {
		return eventstore.Appended{}, err
	}
	fail := func(err error) (eventstore.Appended, error) {
		return eventstore.Appended{}, fmt.Errorf("append %s at %s: %w", stream, expected, err)
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	r := s.newRequest(stream, expected, events)
	select {
	case <-s.closing: // asked first: select is fair
		return fail(eventstore.ErrClosed)
	default:
	}
	select {
	case s.requests <- r: // nearly always there is room, and this is all it takes
	default:
		select {
		case s.requests <- r:
		case <-s.closing:
			return fail(eventstore.ErrClosed)
		case <-s.guard.frozen:
			return fail(s.halted())
		case <-ctx.Done():
			return fail(ctx.Err())
		}
	}
	var ended error
	select {
	case o := <-r.answer:
		return o.appended, o.err
	case <-ctx.Done():
		ended = ctx.Err()
	case <-s.stopped:
		ended = eventstore.ErrClosed // it was not taken: what was taken has its answer
	case <-s.guard.frozen:
	}
	if s.guard.failed() != nil { // it may have been taken
		ended = s.halted()
	}
	select {
	case o := <-r.answer: // the answer counts, if there is one
		return o.appended, o.err
	default:
		return fail(ended)
	}
}

// checkAppend refuses what breaks the form.
func (s *Store) checkAppend(stream eventstore.StreamID, expected eventstore.Expected, events []eventstore.Proposed) error {
	if !s.system {
		return eventstore.CheckAppend(stream, expected, events)
	}
	return checkSystemAppend(stream, expected, events)
}

// checkSystemAppend is as eventstore.CheckAppend but for up to three $ that a
// name may start with ($$$x is the metadata of $x), and that come on top of
// its length.
func checkSystemAppend(stream eventstore.StreamID, expected eventstore.Expected, events []eventstore.Proposed) error {
	name := stream
	for range 3 {
		name = eventstore.StreamID(strings.TrimPrefix(string(name), "$"))
	}
	err := eventstore.CheckAppend(name, expected, events)
	var invalid *eventstore.InvalidError
	if errors.As(err, &invalid) {
		return &eventstore.InvalidError{Stream: stream, Why: invalid.Why}
	}
	return err
}

// halted is the error of every append after the disk failed. Of an append
// under way at that moment nobody knows the outcome, so it is not definite.
func (s *Store) halted() error {
	return fmt.Errorf("the ledger has stopped, open it again to go on: %w", s.guard.failed())
}
