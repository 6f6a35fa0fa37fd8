package esdbserver

import (
	"sync"

	"writ/domain/eventstore"
)

// maxRecent bounds the ids that are remembered: some 6 MiB.
const maxRecent = 64 << 10

// recentIDs knows where the events written last are, so that an append without
// an exact expected revision can be recognised when it is repeated. That is the
// protocol's best effort: it is empty after a restart, and of an id that was
// used in two streams it knows the newer place.
type recentIDs struct {
	mu     sync.Mutex // guards the rest
	places map[eventstore.EventID]recentPlace
	order  []eventstore.EventID // a ring once it is full
	oldest int
}

type recentPlace struct {
	stream   eventstore.StreamID
	revision eventstore.Revision
	slot     int // in order; an id that was used again has left an older slot behind
}

func (r *recentIDs) find(id eventstore.EventID) (recentPlace, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, ok := r.places[id]
	return p, ok
}

func (r *recentIDs) add(stream eventstore.StreamID, first eventstore.Revision, events []eventstore.Proposed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.places == nil {
		r.places = make(map[eventstore.EventID]recentPlace)
	}
	for i, e := range events {
		slot := len(r.order)
		if slot < maxRecent {
			r.order = append(r.order, e.ID)
		} else {
			slot = r.oldest
			if old := r.order[slot]; r.places[old].slot == slot {
				delete(r.places, old)
			}
			r.order[slot] = e.ID
			r.oldest = (slot + 1) % maxRecent
		}
		r.places[e.ID] = recentPlace{stream: stream, revision: first + eventstore.Revision(i), slot: slot}
	}
}
