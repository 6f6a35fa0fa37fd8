package pebblestore

import (
	"context"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"writ/domain/eventstore"
)

// A Progress tells how far [Store.Verify] has got.
type Progress struct {
	Bytes, OfBytes   uint64 // of tables, read first
	Events, OfEvents uint64
}

// Verify reads all of the ledger: each block of each table, by its checksum;
// then every event, and checks that nothing is missing, doubled or damaged:
// every position up to the end holds one event (or was left free by
// Import), every stream's revisions begin
// at 0 and have no gap, and both agree. It gives an *eventstore.CorruptError
// if not, and the store has halted then. It may run beside everything else,
// and holds Close off while it does. progress, if not nil, is called now and
// then.
func (s *Store) Verify(ctx context.Context, progress func(Progress)) error {
	done, err := s.reading(ctx)
	if err != nil {
		return fmt.Errorf("verify ledger %s: %w", s.dir, err)
	}
	defer done()
	if progress == nil {
		progress = func(Progress) {}
	}
	if err := s.verifyAll(ctx, progress); err != nil {
		return fmt.Errorf("verify ledger %s: %w", s.dir, s.damaged(err))
	}
	return nil
}

func (s *Store) verifyAll(ctx context.Context, progress func(Progress)) error {
	end := s.shown().end
	at := Progress{OfEvents: s.imported.eventsUpTo(end)}
	tables, err := s.tables()
	if err != nil {
		return err
	}
	for _, t := range tables {
		at.OfBytes += t.size
	}
	for _, t := range tables {
		progress(at)
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := s.checkUsed(ctx, t); err != nil {
			return err
		}
		at.Bytes += t.size
	}
	seen := uint64(0) // each event twice: by position, by stream
	err = s.verify(end, func() error {
		if seen++; seen%4096 == 0 {
			at.Events = seen / 2
			progress(at)
		}
		return ctx.Err()
	})
	if err == nil {
		at.Events = at.OfEvents
		progress(at)
	}
	return err
}

// verify checks the ledger up to a position. Every position leads to an event
// that leads back; so if there are as many events as positions, there is no
// event that no position leads to.
func (s *Store) verify(end eventstore.Position, stop func() error) error {
	places, err := s.verifyPlaces(end, stop)
	if err != nil {
		return err
	}
	events, err := s.verifyStreams(end, stop)
	if err != nil {
		return err
	}
	if places != s.imported.eventsUpTo(end) || events != places {
		return &eventstore.CorruptError{Why: fmt.Sprintf("it ends at position %d, with %d positions and %d events", end, places, events)}
	}
	return nil
}

// verifyPlaces gives the number of positions that hold an event.
func (s *Store) verifyPlaces(end eventstore.Position, stop func() error) (n uint64, err error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{positionPrefix}, UpperBound: positionKey(end + 1)})
	if err != nil {
		return 0, translate(err, "")
	}
	defer it.Close()
	events := walk{store: s}
	defer events.close()
	at := eventstore.Position(0)
	for ok := it.First(); ok; ok = it.Next() {
		if err := stop(); err != nil {
			return n, err
		}
		p, err := s.placeAt(it, at+1, eventstore.Filter{}, &events)
		if err != nil {
			return n, err
		}
		if at = p.last; !p.gap {
			n++
		}
	}
	if err := it.Error(); err != nil {
		return n, translate(err, "")
	}
	if at != end {
		return n, &eventstore.CorruptError{Why: fmt.Sprintf("position %d is missing, the ledger ends at %d", at+1, end)}
	}
	return n, nil
}

func (s *Store) verifyStreams(end eventstore.Position, stop func() error) (n uint64, err error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{eventPrefix}, UpperBound: []byte{eventPrefix + 1}})
	if err != nil {
		return 0, translate(err, "")
	}
	defer it.Close()
	var before eventstore.Recorded
	for ok := it.First(); ok; ok = it.Next() {
		if err := stop(); err != nil {
			return n, err
		}
		e, err := decodeValue(it)
		if err != nil {
			return n, err
		}
		if e.Position > end {
			continue // appended meanwhile
		}
		want, from := eventstore.Revision(0), eventstore.Position(0)
		if n > 0 && e.Stream == before.Stream {
			want, from = before.Revision+1, before.Position
		}
		if e.Revision != want || e.Position <= from {
			return n, &eventstore.CorruptError{Stream: e.Stream, Why: fmt.Sprintf("revision %d at position %d follows position %d, want revision %d", e.Revision, e.Position, from, want)}
		}
		before = e
		n++
	}
	return n, translate(it.Error(), "")
}
