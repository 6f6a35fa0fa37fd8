package pebblestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

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
	if err := eventstore.CheckAppend(stream, expected, events); err != nil {
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
	for i, e := range events {
		e.Data, e.Metadata = bytes.Clone(e.Data), bytes.Clone(e.Metadata)
		r.events[i] = e
	}
	select {
	case <-s.closing: // asked first: select is fair
		return fail(eventstore.ErrClosed)
	default:
	}
	select {
	case s.requests <- r:
	case <-s.closing:
		return fail(eventstore.ErrClosed)
	case <-s.guard.frozen:
		return fail(s.halted())
	case <-ctx.Done():
		return fail(ctx.Err())
	}
	var ended error
	select {
	case o := <-r.answer:
		return o.appended, o.err
	case <-ctx.Done():
		ended = ctx.Err()
	case <-s.stopped:
		ended = eventstore.ErrClosed // the committer did not take it
	case <-s.guard.frozen:
		ended = s.halted()
	}
	select {
	case o := <-r.answer: // the answer counts, if there is one
		return o.appended, o.err
	default:
		return fail(ended)
	}
}

// halted is the error of every append after the disk failed. Of an append
// under way at that moment nobody knows the outcome, so it is not definite.
func (s *Store) halted() error {
	return fmt.Errorf("the ledger has stopped, open it again to go on: %w", s.guard.failed())
}

// commitAll is the one goroutine that writes. It takes what waits, commits it
// with one fsync, answers, and takes what has come meanwhile.
func (s *Store) commitAll() {
	defer close(s.stopped)
	for {
		select {
		case <-s.closing:
			return
		case first := <-s.requests:
			s.commit(s.gather(first))
		}
	}
}

func (s *Store) gather(first *request) []*request {
	group, size := []*request{first}, first.size()
	for len(group) < s.maxGroup && size < maxGroupBytes {
		select {
		case r := <-s.requests:
			group = append(group, r)
			size += r.size()
		default:
			return group
		}
	}
	return group
}

func (r *request) size() int {
	n := 0
	for _, e := range r.events {
		n += len(e.Data) + len(e.Metadata)
	}
	return n
}

// commit decides a group of appends, one after the other, writes those that
// take effect, and answers all when they are durable. Refusals wait for the
// fsync too: one may rest on an append of the same group.
func (s *Store) commit(group []*request) {
	if s.guard.failed() != nil {
		s.answerAll(group, s.halted())
		return
	}
	p := &plan{
		store: s, batch: s.db.NewBatch(), now: s.clock().UTC(),
		end: s.shown().end, fresh: make(map[eventstore.StreamID]*freshStream),
	}
	outcomes := make([]outcome, len(group))
	for i, r := range group {
		outcomes[i].appended, outcomes[i].err = p.decide(r)
	}
	if !p.batch.Empty() {
		// If this fails, all of the group may be on disk or none of it. Pebble
		// shows it to readers already; shown.end, which has not moved, hides
		// it.
		if err := s.sync(p.batch); err != nil {
			s.guard.freeze(err)
			s.answerAll(group, s.halted())
			return
		}
		s.show(p.end)
	}
	for i, r := range group {
		r.answer <- outcomes[i]
	}
}

func (s *Store) answerAll(group []*request, err error) {
	for _, r := range group {
		r.answer <- outcome{err: fmt.Errorf("append %s at %s: %w", r.stream, r.expected, err)}
	}
}

// sync puts a batch on disk. Only if it returns nil is the batch durable.
func (s *Store) sync(batch *pebble.Batch) error {
	err := s.guard.unlessFrozen(func() error {
		// Not Apply, whose nil may mean that Fatalf was called and came back;
		// SyncWait gives the fsync's own error.
		if err := s.db.ApplyNoSyncWait(batch, pebble.Sync); err != nil {
			return err
		}
		return batch.SyncWait()
	})
	if err != nil {
		return translate(err, "")
	}
	if err := batch.Close(); err != nil {
		s.log.Warn("ledger: a batch was not recycled", "err", err)
	}
	return nil
}

// A plan is what one group would change.
type plan struct {
	store *Store
	batch *pebble.Batch
	now   time.Time
	end   eventstore.Position // after the group
	fresh map[eventstore.StreamID]*freshStream
}

// A freshStream holds the events of one stream that the group adds.
type freshStream struct {
	from   eventstore.Revision // of the first
	events []eventstore.Recorded
}

// decide adds an append to the group, or says why not.
func (p *plan) decide(r *request) (eventstore.Appended, error) {
	next := r.expected.Next()
	matches, err := p.endsBefore(r.stream, next)
	if err == nil && !matches {
		return p.repeated(r)
	}
	if err != nil {
		return eventstore.Appended{}, fmt.Errorf("append %s at %s: %w", r.stream, r.expected, err)
	}
	f := p.fresh[r.stream]
	if f == nil {
		f = &freshStream{from: next}
		p.fresh[r.stream] = f
	}
	for i, e := range r.events {
		p.end++
		revision := next + eventstore.Revision(i)
		key, place := eventKey(r.stream, revision), positionKey(p.end)
		// Deferred errors of Set concern indexed or closed batches only.
		_ = p.batch.Set(key, encodeEvent(key, p.end, p.now, e), nil)
		_ = p.batch.Set(place, encodePlace(place, r.stream, revision), nil)
		f.events = append(f.events, eventstore.Recorded{
			Stream: r.stream, Revision: revision, Position: p.end,
			ID: e.ID, Type: e.Type, Data: e.Data, Metadata: e.Metadata,
		})
	}
	return eventstore.Appended{Revision: next + eventstore.Revision(len(r.events)) - 1, Position: p.end}, nil
}

// endsBefore tells whether next is the revision that the stream's next event
// gets. Two look-ups tell, which the filters answer without reading when the
// stream is new.
func (p *plan) endsBefore(stream eventstore.StreamID, next eventstore.Revision) (bool, error) {
	if f := p.fresh[stream]; f != nil {
		return f.from+eventstore.Revision(len(f.events)) == next, nil
	}
	if _, err := p.store.get(stream, next); !errors.Is(err, errNoEvent) {
		return false, err
	}
	if next == 0 {
		return true, nil
	}
	_, err := p.store.get(stream, next-1)
	if errors.Is(err, errNoEvent) {
		return false, nil
	}
	return err == nil, err
}

// repeated answers an append that does not find its stream as expected: as the
// first time if it is on record, otherwise with *eventstore.WrongRevisionError.
func (p *plan) repeated(r *request) (eventstore.Appended, error) {
	var last eventstore.Recorded
	for i, e := range r.events {
		on, err := p.get(r.stream, r.expected.Next()+eventstore.Revision(i))
		switch {
		case errors.Is(err, errNoEvent):
			return eventstore.Appended{}, p.wrong(r)
		case err != nil:
			return eventstore.Appended{}, fmt.Errorf("append %s at %s: %w", r.stream, r.expected, err)
		case on.ID != e.ID || on.Type != e.Type || !bytes.Equal(on.Data, e.Data) || !bytes.Equal(on.Metadata, e.Metadata):
			return eventstore.Appended{}, p.wrong(r)
		}
		last = on
	}
	return eventstore.Appended{Revision: last.Revision, Position: last.Position}, nil
}

func (p *plan) get(stream eventstore.StreamID, r eventstore.Revision) (eventstore.Recorded, error) {
	if f := p.fresh[stream]; f != nil && r >= f.from {
		if r-f.from >= eventstore.Revision(len(f.events)) {
			return eventstore.Recorded{}, errNoEvent
		}
		return f.events[r-f.from], nil
	}
	return p.store.get(stream, r)
}

func (p *plan) wrong(r *request) error {
	wrong := &eventstore.WrongRevisionError{Stream: r.stream, Expected: r.expected, Actual: eventstore.NoStream()}
	if f := p.fresh[r.stream]; f != nil {
		wrong.Actual = eventstore.At(f.events[len(f.events)-1].Revision)
		return wrong
	}
	head, err := p.store.head(r.stream, p.end)
	switch {
	case err == nil:
		wrong.Actual = eventstore.At(head.Revision)
	case !errors.Is(err, eventstore.ErrStreamNotFound):
		wrong.Actual = eventstore.Expected{} // it is wrong all the same
	}
	return wrong
}
