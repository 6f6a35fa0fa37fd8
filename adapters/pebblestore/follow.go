package pebblestore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"github.com/cockroachdb/pebble/v2"

	"writ/domain/eventstore"
)

// ReadAll implements [eventstore.Reader].
func (s *Store) ReadAll(ctx context.Context, after eventstore.Cursor, filter eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	end := s.shown().end // as it is at the call
	return func(yield func(eventstore.Recorded, error) bool) {
		at, _ := after.Position()
		for first := true; first || at < end; first = false {
			page, reached, err := s.ledgerPage(ctx, at, end, filter)
			for _, e := range page {
				if ctx.Err() != nil {
					err = ctx.Err()
					break
				}
				if !yield(e, nil) {
					return
				}
			}
			if err != nil {
				yield(eventstore.Recorded{}, fmt.Errorf("read the ledger: %w", err))
				return
			}
			at = reached
		}
	}
}

// Subscribe implements [eventstore.Subscriber].
func (s *Store) Subscribe(ctx context.Context, after eventstore.Cursor, filter eventstore.Filter) iter.Seq2[eventstore.Notice, error] {
	return func(yield func(eventstore.Notice, error) bool) {
		f := &follower{store: s, filter: filter, seen: after, yield: yield}
		f.at, _ = after.Position()
		f.told = f.at
		if err := f.run(ctx); err != nil {
			yield(eventstore.Notice{}, fmt.Errorf("follow the ledger: %w", err))
		}
	}
}

// A follower is one subscription.
type follower struct {
	store    *Store
	filter   eventstore.Filter
	at       eventstore.Position // searched up to here
	told     eventstore.Position // and the reader knows up to here
	seen     eventstore.Cursor   // the same as at
	caughtUp bool
	yield    func(eventstore.Notice, error) bool
}

// run returns nil when the reader has had enough.
func (f *follower) run(ctx context.Context) error {
	for {
		now := f.store.shown()
		if f.at >= now.end { // beyond it, if the cursor is
			if err := ctx.Err(); err != nil {
				return err
			}
			if !f.caughtUp {
				f.caughtUp = true
				if !f.tell(eventstore.Notice{Kind: eventstore.CaughtUp, At: f.seen}) {
					return nil
				}
				continue
			}
			select {
			case <-now.changed:
			case <-ctx.Done():
			case <-f.store.closing:
				return eventstore.ErrClosed
			}
			continue
		}
		page, reached, err := f.store.ledgerPage(ctx, f.at, now.end, f.filter)
		for _, e := range page {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if !f.tell(eventstore.Notice{Kind: eventstore.NewEvent, Event: e, At: eventstore.After(e.Position)}) {
				return nil
			}
		}
		if err != nil {
			return err
		}
		f.at, f.seen = reached, eventstore.After(reached)
		if f.at-f.told >= pagePlaces/4 && !f.tell(eventstore.Notice{Kind: eventstore.Checkpoint, At: f.seen}) {
			return nil
		}
	}
}

func (f *follower) tell(n eventstore.Notice) bool {
	f.told, _ = n.At.Position()
	return f.yield(n, nil)
}

// ledgerPage gives the next events behind a position that pass a filter, and
// the position up to which it has looked, at most end.
func (s *Store) ledgerPage(ctx context.Context, at, end eventstore.Position, filter eventstore.Filter) (page []eventstore.Recorded, reached eventstore.Position, err error) {
	done, err := s.reading(ctx)
	if err != nil {
		return nil, at, err
	}
	defer done()
	if at >= end {
		return nil, at, nil
	}
	if at, err = s.behindGap(at); err != nil {
		return nil, at, err
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: positionKey(at + 1), UpperBound: positionKey(end + 1)})
	if err != nil {
		return nil, at, translate(err, "")
	}
	defer it.Close()
	events := walk{store: s}
	defer events.close()
	size, looked := 0, 0
	for ok := it.First(); ok; ok = it.Next() {
		p, err := s.placeAt(it, at+1, filter, &events)
		if err != nil {
			return page, at, err
		}
		at = p.last
		looked++
		if p.passes {
			page = append(page, p.event)
			size += len(p.event.Data) + len(p.event.Metadata)
		}
		if looked == pagePlaces || len(page) == pageEvents || size >= pageBytes {
			return page, at, nil
		}
	}
	if err := it.Error(); err != nil {
		return page, at, translate(err, "")
	}
	if at != end {
		return page, at, &eventstore.CorruptError{Why: fmt.Sprintf("position %d is missing, the ledger ends at %d", at+1, end)}
	}
	return page, at, nil
}

// A place is what the key of a position stands for.
type place struct {
	last   eventstore.Position // the last position it stands for
	gap    bool                // nothing is there
	passes bool                // the event does
	event  eventstore.Recorded // if it passes
}

// placeAt reads the place under the iterator, which must begin at want, and
// its event if the stream passes.
func (s *Store) placeAt(it *pebble.Iterator, want eventstore.Position, filter eventstore.Filter, events *walk) (place, error) {
	if key := it.Key(); len(key) != 9 || eventstore.Position(binary.BigEndian.Uint64(key[1:])) != want {
		return place{}, &eventstore.CorruptError{Why: fmt.Sprintf("position %d is missing, key %x follows", want, key)}
	}
	value, err := it.ValueAndErr()
	if err != nil {
		return place{}, translate(err, "")
	}
	_, stream, revision, err := decodePlace(it.Key(), value)
	if err != nil {
		return place{}, err
	}
	if stream == "" {
		return s.gapAt(want, uint64(revision))
	}
	p := place{last: want}
	if !filter.Passes(stream) {
		return p, nil
	}
	p.passes = true
	p.event, err = events.get(stream, revision)
	if errors.Is(err, errNoEvent) {
		return p, &eventstore.CorruptError{Stream: stream, Why: fmt.Sprintf("revision %d, which is at position %d, is missing", revision, want)}
	}
	if err == nil && p.event.Position != want {
		err = &eventstore.CorruptError{Stream: stream, Why: fmt.Sprintf("revision %d says position %d, position %d says it is there", revision, p.event.Position, want)}
	}
	return p, err
}
