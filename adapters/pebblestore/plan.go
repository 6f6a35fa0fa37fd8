package pebblestore

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"writ/domain/eventstore"
)

// A plan is what one group would change. It is the committer's, which makes
// the plan of the next group of it.
type plan struct {
	store   *Store
	batch   *pebble.Batch
	now     time.Time
	end     eventstore.Position // after the group: of the ledger, with all that is written, durable or not
	written *tails
	fresh   map[eventstore.StreamID]*freshStream
	added   []added // the events that the group adds
	value   []byte  // the space for one, as the batch copies it
}

// An added event is one of the group, by its place in the ledger and in its stream.
type added struct {
	position eventstore.Position
	stream   eventstore.StreamID
	revision eventstore.Revision
}

func newPlan(s *Store) *plan {
	return &plan{store: s, end: s.shown().end, written: newTails(), fresh: make(map[eventstore.StreamID]*freshStream)}
}

// begin starts with the next group, behind the last one.
func (p *plan) begin() {
	p.batch, p.now = p.store.db.NewBatch(), p.store.clock().UTC()
	clear(p.fresh)
	p.added = p.added[:0]
}

// finish adds the places to the batch. Each has its neighbour before it, which
// is where pebble looks first for where a key belongs.
func (p *plan) finish() {
	for _, at := range p.added {
		key := positionKey(at.position)
		_ = p.batch.Set(key, encodePlace(key, at.stream, at.revision), nil)
	}
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
		key := eventKey(r.stream, revision)
		p.value = encodeEventIn(p.value, key, p.end, p.now, e)
		// Deferred errors of Set concern indexed or closed batches only.
		_ = p.batch.Set(key, p.value, nil)
		p.added = append(p.added, added{p.end, r.stream, revision})
		f.events = append(f.events, eventstore.Recorded{
			Stream: r.stream, Revision: revision, Position: p.end,
			ID: e.ID, Type: e.Type, Data: e.Data, Metadata: e.Metadata,
		})
	}
	last := next + eventstore.Revision(len(r.events)) - 1
	p.written.set(r.stream, last)
	return eventstore.Appended{Revision: last, Position: p.end}, nil
}

// endsBefore tells whether next is the revision that the stream's next event
// gets. Two look-ups tell, which the filters answer without reading when the
// stream is new.
func (p *plan) endsBefore(stream eventstore.StreamID, next eventstore.Revision) (bool, error) {
	if f := p.fresh[stream]; f != nil {
		return f.from+eventstore.Revision(len(f.events)) == next, nil
	}
	if r, ok := p.written.of(stream); ok {
		return r+1 == next, nil
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
