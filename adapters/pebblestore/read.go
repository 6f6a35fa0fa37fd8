package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/cockroachdb/pebble/v2"

	"writ/domain/eventstore"
)

// A page is what is read at once. Between pages nothing of the database is
// held, so that a reader who takes his time keeps no file from being removed.
const (
	pageEvents = 256
	pageBytes  = 1 << 20
	pagePlaces = 4096 // searched for events that pass a filter
)

var errNoEvent = errors.New("no such event")

// reading holds Close off until the function it returns is called.
func (s *Store) reading(ctx context.Context) (done func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.life.RLock()
	if s.closed {
		s.life.RUnlock()
		return nil, eventstore.ErrClosed
	}
	return s.life.RUnlock, nil
}

// get gives one event, durable or not, or errNoEvent.
func (s *Store) get(stream eventstore.StreamID, r eventstore.Revision) (eventstore.Recorded, error) {
	key := eventKey(stream, r)
	// Not with Get, which does without the filters of the lowest level, where
	// nearly all of a ledger is: it would read a block of the disk to find that
	// a new op has no stream yet. In a ledger whose filters do not fit into the
	// cache that is the better way, as a filter is larger than a block.
	it, err := s.db.NewIter(&pebble.IterOptions{UseL6Filters: s.shown().end <= s.filtersFit})
	if err != nil {
		return eventstore.Recorded{}, translate(err, stream)
	}
	if !it.SeekPrefixGE(key) { // the whole key counts as its prefix
		// Closing gives what went wrong, if it was that.
		if err := it.Close(); err != nil {
			return eventstore.Recorded{}, translate(err, stream)
		}
		return eventstore.Recorded{}, errNoEvent
	}
	e, err := decodeValue(it)
	return e, errors.Join(err, translate(it.Close(), stream))
}

// exists tells whether a stream has an event that may be shown: its first.
// Unlike a seek, this look-up is answered by the filters when there is none.
func (s *Store) exists(stream eventstore.StreamID, end eventstore.Position) error {
	first, err := s.get(stream, 0)
	if errors.Is(err, errNoEvent) || err == nil && first.Position > end {
		return eventstore.ErrStreamNotFound
	}
	return err
}

// events gives an iterator over a stream's events.
func (s *Store) events(stream eventstore.StreamID) (*pebble.Iterator, error) {
	lower := streamKey(stream)
	upper := append([]byte(nil), lower...)
	upper[len(upper)-1]++
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	return it, translate(err, stream)
}

// Head implements [eventstore.Reader].
func (s *Store) Head(ctx context.Context, stream eventstore.StreamID) (eventstore.Recorded, error) {
	done, err := s.reading(ctx)
	if err != nil {
		return eventstore.Recorded{}, fmt.Errorf("read the head of %s: %w", stream, err)
	}
	defer done()
	e, known, end := s.remembered(stream)
	if known {
		return ownCopy(e), nil
	}
	if e, err = s.head(stream, end); err != nil {
		return eventstore.Recorded{}, fmt.Errorf("read the head of %s: %w", stream, err)
	}
	s.remember(e, end)
	return e, nil
}

func (s *Store) head(stream eventstore.StreamID, end eventstore.Position) (eventstore.Recorded, error) {
	if err := s.exists(stream, end); err != nil {
		return eventstore.Recorded{}, err
	}
	it, err := s.events(stream)
	if err != nil {
		return eventstore.Recorded{}, err
	}
	defer it.Close()
	for ok := it.Last(); ok; ok = it.Prev() {
		e, err := decodeValue(it)
		if err != nil {
			return eventstore.Recorded{}, err
		}
		if e.Position <= end {
			return e, nil
		}
	}
	if err := it.Error(); err != nil {
		return eventstore.Recorded{}, translate(err, stream)
	}
	return eventstore.Recorded{}, &eventstore.CorruptError{Stream: stream, Why: "its first event was there and is gone"}
}

func decodeValue(it *pebble.Iterator) (eventstore.Recorded, error) {
	value, err := it.ValueAndErr()
	if err != nil {
		return eventstore.Recorded{}, translate(err, "")
	}
	return decodeEvent(it.Key(), value)
}

// ReadStream implements [eventstore.Reader].
func (s *Store) ReadStream(ctx context.Context, stream eventstore.StreamID, from eventstore.Revision) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		next, last := from, eventstore.Position(0)
		for more := true; more; {
			var page []eventstore.Recorded
			var err error
			page, more, err = s.streamPage(ctx, stream, next, last)
			for _, e := range page {
				if ctx.Err() != nil {
					err = ctx.Err()
					break
				}
				if !yield(e, nil) {
					return
				}
				next, last = e.Revision+1, e.Position
			}
			if err != nil {
				yield(eventstore.Recorded{}, fmt.Errorf("read %s: %w", stream, err))
				return
			}
		}
	}
}

// streamPage gives the next events of a stream, and whether there may be more.
func (s *Store) streamPage(ctx context.Context, stream eventstore.StreamID, next eventstore.Revision, last eventstore.Position) (page []eventstore.Recorded, more bool, err error) {
	done, err := s.reading(ctx)
	if err != nil {
		return nil, false, err
	}
	defer done()
	end := s.shown().end
	if last == 0 { // nothing of the stream seen yet
		if err := s.exists(stream, end); err != nil {
			return nil, false, err
		}
	}
	it, err := s.events(stream)
	if err != nil {
		return nil, false, err
	}
	defer it.Close()
	size := 0
	for ok := it.SeekGE(eventKey(stream, next)); ok; ok = it.Next() {
		e, err := decodeValue(it)
		switch {
		case err != nil:
			return page, false, err
		case e.Position > end:
			return page, false, nil
		case e.Revision != next || e.Position <= last:
			return page, false, &eventstore.CorruptError{Stream: stream, Why: fmt.Sprintf(
				"revision %d at position %d follows position %d, want revision %d", e.Revision, e.Position, last, next)}
		}
		page = append(page, e)
		next, last = e.Revision+1, e.Position
		if size += len(e.Data) + len(e.Metadata); size >= pageBytes || len(page) == pageEvents {
			return page, true, nil
		}
	}
	return page, false, translate(it.Error(), stream)
}
