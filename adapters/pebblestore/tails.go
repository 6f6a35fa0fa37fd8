package pebblestore

import "writ/domain/eventstore"

// maxTails bounds the streams of one generation.
const maxTails = 4096

// tails remembers where the streams written last end, so that the next append
// to one needs no look-up: most streams are written several times in a row. It
// belongs to the committer, which is the only one that writes; so what it says
// is true, though not always durable, and no reader gets to see it.
//
// It keeps two generations. When the young one is full the old one is
// forgotten, which costs look-ups and nothing else.
type tails struct {
	young, old map[eventstore.StreamID]eventstore.Revision
}

func newTails() *tails {
	return &tails{young: make(map[eventstore.StreamID]eventstore.Revision)}
}

// of gives the revision of a stream's newest event, false if it is not known.
func (t *tails) of(stream eventstore.StreamID) (eventstore.Revision, bool) {
	if r, ok := t.young[stream]; ok {
		return r, true
	}
	r, ok := t.old[stream]
	return r, ok
}

// set notes the revision of a stream's newest event. The two generations may
// both have a stream; the young one is asked first.
func (t *tails) set(stream eventstore.StreamID, r eventstore.Revision) {
	if len(t.young) >= maxTails {
		t.young, t.old = make(map[eventstore.StreamID]eventstore.Revision, maxTails), t.young
	}
	t.young[stream] = r
}
