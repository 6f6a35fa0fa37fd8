package pebblestore

import (
	"context"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"writ/domain/eventstore"
)

// Verify reads the whole ledger and checks that nothing is missing, doubled or
// damaged: every position up to the end holds one event, every stream's
// revisions begin at 0 and have no gap, and both agree. It gives an
// *eventstore.CorruptError if not. It may run beside everything else, and
// holds Close off while it does.
func (s *Store) Verify(ctx context.Context) error {
	done, err := s.reading(ctx)
	if err != nil {
		return fmt.Errorf("verify ledger %s: %w", s.dir, err)
	}
	defer done()
	if err := s.verify(s.shown().end, ctx.Err); err != nil {
		return fmt.Errorf("verify ledger %s: %w", s.dir, err)
	}
	return nil
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
	if places != uint64(end) || events != places {
		return &eventstore.CorruptError{Why: fmt.Sprintf("it ends at position %d, with %d positions and %d events", end, places, events)}
	}
	return nil
}

func (s *Store) verifyPlaces(end eventstore.Position, stop func() error) (n uint64, err error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{positionPrefix}, UpperBound: positionKey(end + 1)})
	if err != nil {
		return 0, translate(err, "")
	}
	defer it.Close()
	for ok := it.First(); ok; ok = it.Next() {
		if err := stop(); err != nil {
			return n, err
		}
		n++
		if _, _, err := s.eventAt(it, eventstore.Position(n), eventstore.Filter{}); err != nil {
			return n, err
		}
	}
	return n, translate(it.Error(), "")
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
