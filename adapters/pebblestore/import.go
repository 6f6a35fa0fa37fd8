package pebblestore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"

	"github.com/cockroachdb/pebble/v2"

	"writ/domain/eventstore"
)

// importedKey is where an imported ledger says what was imported.
const importedKey = "imported"

// importChunk bounds the events of a batch, and with it the streams of which
// the ledger can't be asked yet.
const importChunk = 1024

// Import makes a new ledger, as Create does, that holds the events given, with
// their numbers, ids and times as they come. Positions must grow, each
// stream's revisions begin at 0 and have no gap; positions may have gaps, and
// what is appended later follows the last one. Streams may have names that
// start with $. Anything else is refused, and so is what an append could not
// have put on record (size, type, id).
//
// When it returns nil, all is durable. After an error, one of events among
// them, or a crash the folder is not a ledger, and has to be emptied before
// the next try.
func Import(dir string, ledger eventstore.LedgerID, o Options, events iter.Seq2[eventstore.Recorded, error]) error {
	fill := func(db *pebble.DB) error {
		im := &importer{db: db, batch: db.NewBatch(), ends: newTails(), store: &Store{db: db}}
		return im.run(events)
	}
	if err := create(dir, ledger, o.withDefaults(), fill); err != nil {
		return fmt.Errorf("import into ledger %s: %w", dir, err)
	}
	return nil
}

type importer struct {
	db    *pebble.DB
	store *Store // asked for what is in earlier batches; nothing else of it works
	batch *pebble.Batch
	inIt  int    // events
	ends  *tails // of the streams written last, all of batch among them
	imported
}

func (im *importer) run(events iter.Seq2[eventstore.Recorded, error]) error {
	for e, err := range events {
		if err == nil {
			err = im.add(e)
		}
		if err != nil {
			return errors.Join(err, im.batch.Close())
		}
	}
	if im.end > 0 {
		key := metaKey(importedKey)
		_ = im.batch.Set(key, encodeImported(key, im.imported), nil)
	}
	return im.apply()
}

func (im *importer) add(e eventstore.Recorded) error {
	at := fmt.Sprintf("event %s@%d at position %d", e.Stream, e.Revision, e.Position)
	if e.Position <= im.end || e.Position >= math.MaxInt64 {
		return fmt.Errorf("%s: the one before is at %d: positions must grow, and stay below 2^63-1", at, im.end)
	}
	p := eventstore.Proposed{ID: e.ID, Type: e.Type, Data: e.Data, Metadata: e.Metadata}
	if err := checkSystemAppend(e.Stream, eventstore.NoStream(), []eventstore.Proposed{p}); err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	if t := e.RecordedAt; t.UnixNano() < 0 || t.Year() > 2261 {
		return fmt.Errorf("%s: its time is %s, it must lie between 1970 and 2262", at, t)
	}
	next, err := im.next(e.Stream, e.Revision)
	if err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	if e.Revision != next {
		return fmt.Errorf("%s: the stream's next revision is %d", at, next)
	}
	if free := uint64(e.Position - im.end - 1); free > 0 {
		key := positionKey(im.end + 1)
		_ = im.batch.Set(key, encodeGap(key, free), nil)
		im.gaps++
	}
	key, place := eventKey(e.Stream, e.Revision), positionKey(e.Position)
	_ = im.batch.Set(key, encodeEvent(key, e.Position, e.RecordedAt, p), nil)
	_ = im.batch.Set(place, encodePlace(place, e.Stream, e.Revision), nil)
	im.ends.set(e.Stream, e.Revision)
	im.events++
	im.end = e.Position
	if im.inIt++; im.inIt < importChunk && im.batch.Len() < maxGroupBytes {
		return nil
	}
	return im.apply()
}

// next gives the revision that a stream's next event gets, given which one is
// claimed.
func (im *importer) next(stream eventstore.StreamID, claimed eventstore.Revision) (eventstore.Revision, error) {
	if r, ok := im.ends.of(stream); ok {
		return r + 1, nil
	}
	if claimed > 0 {
		_, err := im.store.get(stream, claimed-1)
		if err == nil {
			_, err = im.store.get(stream, claimed)
			if errors.Is(err, errNoEvent) {
				return claimed, nil
			}
		}
		if err != nil && !errors.Is(err, errNoEvent) {
			return 0, err
		}
	}
	head, err := im.store.head(stream, im.end)
	if errors.Is(err, eventstore.ErrStreamNotFound) {
		return 0, nil
	}
	return head.Revision + 1, err
}

// apply writes a batch. It is durable once create has synced what follows.
func (im *importer) apply() error {
	if im.batch.Empty() {
		return im.batch.Close()
	}
	if err := im.db.Apply(im.batch, pebble.NoSync); err != nil {
		return translate(err, "")
	}
	err := im.batch.Close()
	im.batch, im.inIt = im.db.NewBatch(), 0
	return translate(err, "")
}

// imported is what a ledger began with. Behind it positions have no gaps.
type imported struct {
	end          eventstore.Position
	events, gaps uint64
}

// eventsUpTo gives the number of events of a ledger that ends at a position.
func (im imported) eventsUpTo(end eventstore.Position) uint64 {
	return im.events + uint64(end-im.end)
}

// keysUpTo gives the number of keys: one for the ledger's id, one for what was
// imported, one for each gap, two for each event.
func (im imported) keysUpTo(end eventstore.Position) uint64 {
	keys := 1 + im.gaps + 2*im.eventsUpTo(end)
	if im.end > 0 {
		keys++
	}
	return keys
}

func encodeImported(key []byte, im imported) []byte {
	value := make([]byte, checksumLen, checksumLen+24)
	value = binary.BigEndian.AppendUint64(value, uint64(im.end))
	value = binary.BigEndian.AppendUint64(value, im.events)
	value = binary.BigEndian.AppendUint64(value, im.gaps)
	binary.BigEndian.PutUint32(value, placeChecksum(key, value))
	return value
}

// readImported gives what a ledger began with; zero if it was not imported.
func readImported(db *pebble.DB) (imported, error) {
	key := metaKey(importedKey)
	value, closer, err := db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return imported{}, nil
	}
	if err != nil {
		return imported{}, translate(err, "")
	}
	var im imported
	if len(value) != checksumLen+24 || placeChecksum(key, value) != binary.BigEndian.Uint32(value) {
		err = &eventstore.CorruptError{Why: "the record of what was imported is not what was written"}
	} else {
		im.end = eventstore.Position(binary.BigEndian.Uint64(value[checksumLen:]))
		im.events = binary.BigEndian.Uint64(value[checksumLen+8:])
		im.gaps = binary.BigEndian.Uint64(value[checksumLen+16:])
	}
	return im, errors.Join(err, translate(closer.Close(), ""))
}

// gapAt gives the place of positions that Import left free.
func (s *Store) gapAt(first eventstore.Position, positions uint64) (place, error) {
	if positions == 0 || first >= s.imported.end || positions > uint64(s.imported.end-first) {
		return place{}, &eventstore.CorruptError{Why: fmt.Sprintf(
			"position %d begins %d without an event, but only what was imported has such, up to %d", first, positions, s.imported.end)}
	}
	return place{last: first + eventstore.Position(positions) - 1, gap: true}, nil
}

// behindGap gives the last position of the gap in which a position lies;
// itself if it lies in none. Reading can start anywhere.
func (s *Store) behindGap(at eventstore.Position) (eventstore.Position, error) {
	if at == 0 || at >= s.imported.end {
		return at, nil
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{positionPrefix}, UpperBound: positionKey(at + 1)})
	if err != nil {
		return at, translate(err, "")
	}
	defer it.Close()
	if !it.Last() || len(it.Key()) != 9 {
		return at, translate(it.Error(), "") // the reader behind it finds out
	}
	first := eventstore.Position(binary.BigEndian.Uint64(it.Key()[1:]))
	p, err := s.placeAt(it, first, eventstore.Filter{StreamPrefixes: []string{"\xff"}}, nil)
	if err != nil {
		return at, err
	}
	return max(at, p.last), nil
}
