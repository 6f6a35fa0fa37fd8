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
	fresh   map[eventstore.StreamID]freshStream
	added   []added // the events that the group adds
	// The spaces for a position's key and value, as the batch copies them.
	key, value []byte
}

// An added event is one of the group, by its place in the ledger and in its stream.
type added struct {
	position eventstore.Position
	stream   eventstore.StreamID
	revision eventstore.Revision
}

func newPlan(s *Store) *plan {
	return &plan{store: s, end: s.shown().end, written: newTails(), fresh: make(map[eventstore.StreamID]freshStream)}
}

// batchOverhead is how many bytes of a batch an event takes beside its data and
// metadata, mostly: its key, its place, and what comes with them.
const batchOverhead = 320

// begin starts with the next group, behind the last one.
func (p *plan) begin(requests []*request) {
	size := 0
	for _, r := range requests {
		size += r.size + len(r.drafts)*batchOverhead
	}
	p.batch, p.now = p.store.db.NewBatchWithSize(size), p.store.clock().UTC()
	clear(p.fresh)
	p.added = p.added[:0]
}

// finish adds the places to the batch. Each has its neighbour before it, which
// is where pebble looks first for where a key belongs.
func (p *plan) finish() {
	for _, at := range p.added {
		p.key = appendPositionKey(p.key[:0], at.position)
		p.value = encodePlaceIn(p.value, p.key, at.stream, at.revision)
		_ = p.batch.Set(p.key, p.value, nil)
	}
}

// A freshStream holds the events of one stream that the group adds.
type freshStream struct {
	from   eventstore.Revision // of the first
	events []*draft            // of requests of this group, so they live as long
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
	f, ok := p.fresh[r.stream]
	if !ok {
		f = freshStream{from: next}
	}
	for i := range r.drafts {
		d := &r.drafts[i]
		p.end++
		d.position = p.end
		stamp(d.key, d.value, p.end, p.now)
		// Deferred errors of Set concern indexed or closed batches only.
		_ = p.batch.Set(d.key, d.value, nil)
		p.added = append(p.added, added{p.end, r.stream, next + eventstore.Revision(i)})
		f.events = append(f.events, d)
	}
	p.fresh[r.stream] = f
	last := next + eventstore.Revision(len(r.drafts)) - 1
	p.written.set(r.stream, last)
	return eventstore.Appended{Revision: last, Position: p.end}, nil
}

// endsBefore tells whether next is the revision that the stream's next event
// gets. Two look-ups tell, which the filters answer without reading when the
// stream is new.
func (p *plan) endsBefore(stream eventstore.StreamID, next eventstore.Revision) (bool, error) {
	if f, ok := p.fresh[stream]; ok {
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
	for i, d := range r.drafts {
		e := d.event
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
	if f, ok := p.fresh[stream]; ok && r >= f.from {
		if r-f.from >= eventstore.Revision(len(f.events)) {
			return eventstore.Recorded{}, errNoEvent
		}
		d := f.events[r-f.from]
		return eventstore.Recorded{
			Stream: stream, Revision: r, Position: d.position,
			ID: d.event.ID, Type: d.event.Type, Data: d.event.Data, Metadata: d.event.Metadata,
		}, nil
	}
	return p.store.get(stream, r)
}

func (p *plan) wrong(r *request) error {
	wrong := &eventstore.WrongRevisionError{Stream: r.stream, Expected: r.expected, Actual: eventstore.NoStream()}
	if f, ok := p.fresh[r.stream]; ok {
		wrong.Actual = eventstore.At(f.from + eventstore.Revision(len(f.events)) - 1)
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
