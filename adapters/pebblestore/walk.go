package pebblestore

import (
	"bytes"

	"github.com/cockroachdb/pebble/v2"

	"writ/domain/eventstore"
)

// A walk gives the events of one position after the other. Those of an op stand
// side by side, and mostly come in a row: it looks beside the last one before it
// looks for an event anew, which takes several times as long. It sees what was
// there at its first event, and must be closed; it is for one goroutine.
type walk struct {
	store    *Store
	it       *pebble.Iterator // nil before the first event
	stream   eventstore.StreamID
	revision eventstore.Revision // of the event at which it stands, if standing
	standing bool
}

// get gives one event, or errNoEvent.
func (w *walk) get(stream eventstore.StreamID, r eventstore.Revision) (eventstore.Recorded, error) {
	if w.it == nil {
		var err error
		if w.it, err = w.store.db.NewIter(&pebble.IterOptions{LowerBound: []byte{eventPrefix}, UpperBound: []byte{eventPrefix + 1}}); err != nil {
			w.it = nil
			return eventstore.Recorded{}, translate(err, stream)
		}
	}
	key := eventKey(stream, r)
	beside := w.standing && w.stream == stream && w.revision+1 == r && w.it.Next() && bytes.Equal(w.it.Key(), key)
	w.standing = false
	if !beside && (!w.it.SeekGE(key) || !bytes.Equal(w.it.Key(), key)) {
		if err := w.it.Error(); err != nil {
			return eventstore.Recorded{}, translate(err, stream)
		}
		return eventstore.Recorded{}, errNoEvent
	}
	e, err := decodeValue(w.it)
	if err == nil {
		w.stream, w.revision, w.standing = stream, r, true
	}
	return e, err
}

// close lets go of the database. What went wrong was told by get.
func (w *walk) close() {
	if w.it != nil {
		_ = w.it.Close()
	}
}
