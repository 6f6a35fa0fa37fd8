package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"writ/domain/eventstore"
)

// A request is an append on its way to the committer.
type request struct {
	stream   eventstore.StreamID
	expected eventstore.Expected
	events   []eventstore.Proposed
	answer   chan outcome // takes one without a reader
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
	// Copied, because a caller that does not wait for the end may go on to
	// change its slices while they are being written.
	r := &request{stream: stream, expected: expected, events: make([]eventstore.Proposed, len(events)), answer: make(chan outcome, 1)}
	own := make([]byte, 0, size(events))
	keep := func(b []byte) []byte {
		from := len(own)
		own = append(own, b...)
		return own[from:len(own):len(own)]
	}
	for i, e := range events {
		e.Data, e.Metadata = keep(e.Data), keep(e.Metadata)
		r.events[i] = e
	}
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
