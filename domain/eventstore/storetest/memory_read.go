package storetest

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"sort"

	"writ/domain/eventstore"
)

// checkpointEvery is the number of events in a row that don't pass a
// subscription's filter after which it says how far it got.
const checkpointEvery = 128

// ReadStream implements [eventstore.Reader].
func (m *Memory) ReadStream(ctx context.Context, stream eventstore.StreamID, from eventstore.Revision) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for r := from; ; r++ {
			if err := ctx.Err(); err != nil {
				yield(eventstore.Recorded{}, fmt.Errorf("read %s: %w", stream, err))
				return
			}
			e, length := m.at(stream, r)
			if length == 0 {
				yield(eventstore.Recorded{}, fmt.Errorf("read %s: %w", stream, eventstore.ErrStreamNotFound))
				return
			}
			if uint64(r) >= uint64(length) || !yield(e, nil) {
				return
			}
		}
	}
}

// Head implements [eventstore.Reader].
func (m *Memory) Head(ctx context.Context, stream eventstore.StreamID) (eventstore.Recorded, error) {
	if err := ctx.Err(); err != nil {
		return eventstore.Recorded{}, fmt.Errorf("read the head of %s: %w", stream, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	have := m.streams[stream]
	if len(have) == 0 {
		return eventstore.Recorded{}, fmt.Errorf("read the head of %s: %w", stream, eventstore.ErrStreamNotFound)
	}
	return own(m.log[have[len(have)-1]]), nil
}

// ReadAll implements [eventstore.Reader].
func (m *Memory) ReadAll(ctx context.Context, after eventstore.Cursor, filter eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	m.mu.Lock()
	next, end := m.behind(after), len(m.log)
	m.mu.Unlock()
	return func(yield func(eventstore.Recorded, error) bool) {
		for i := next; i < end; i++ {
			if err := ctx.Err(); err != nil {
				yield(eventstore.Recorded{}, fmt.Errorf("read the ledger: %w", err))
				return
			}
			e, _ := m.nth(i)
			if filter.Passes(e.Stream) && !yield(own(e), nil) {
				return
			}
		}
		if err := ctx.Err(); err != nil && next >= end {
			yield(eventstore.Recorded{}, fmt.Errorf("read the ledger: %w", err))
		}
	}
}

// Subscribe implements [eventstore.Subscriber].
func (m *Memory) Subscribe(ctx context.Context, after eventstore.Cursor, filter eventstore.Filter) iter.Seq2[eventstore.Notice, error] {
	return func(yield func(eventstore.Notice, error) bool) {
		m.mu.Lock()
		next := m.behind(after)
		m.mu.Unlock()
		seen, caughtUp, skipped := after, false, 0
		for {
			if err := ctx.Err(); err != nil {
				yield(eventstore.Notice{}, fmt.Errorf("follow the ledger: %w", err))
				return
			}
			e, changed := m.nth(next)
			var notice eventstore.Notice
			switch {
			case changed != nil && caughtUp:
				select {
				case <-changed:
				case <-ctx.Done():
				}
				continue
			case changed != nil:
				caughtUp, skipped = true, 0
				notice = eventstore.Notice{Kind: eventstore.CaughtUp, At: seen}
			default:
				next++
				seen = eventstore.After(e.Position)
				skipped++
				switch {
				case filter.Passes(e.Stream):
					skipped = 0
					notice = eventstore.Notice{Kind: eventstore.NewEvent, Event: own(e), At: seen}
				case skipped == checkpointEvery:
					skipped = 0
					notice = eventstore.Notice{Kind: eventstore.Checkpoint, At: seen}
				default:
					continue
				}
			}
			if !yield(notice, nil) {
				return
			}
		}
	}
}

// at gives the event of a revision, if there is one, and the stream's length.
func (m *Memory) at(stream eventstore.StreamID, r eventstore.Revision) (eventstore.Recorded, int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	have := m.streams[stream]
	if uint64(r) >= uint64(len(have)) {
		return eventstore.Recorded{}, len(have)
	}
	return own(m.log[have[r]]), len(have)
}

// nth gives the i-th event of the ledger (its slices still the store's own),
// or, if there is none yet, a channel that the next append closes.
func (m *Memory) nth(i int) (eventstore.Recorded, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if i < len(m.log) {
		return m.log[i], nil
	}
	// Made by whoever waits, not with the store: a channel of one synctest
	// bubble can't be waited for in another.
	if m.changed == nil {
		m.changed = make(chan struct{})
	}
	return eventstore.Recorded{}, m.changed
}

// behind gives the index of the first event behind a cursor. m.mu is held.
func (m *Memory) behind(c eventstore.Cursor) int {
	p, ok := c.Position()
	if !ok {
		return 0
	}
	return sort.Search(len(m.log), func(i int) bool { return m.log[i].Position > p })
}

// own gives the receiver slices of its own.
func own(e eventstore.Recorded) eventstore.Recorded {
	e.Data, e.Metadata = bytes.Clone(e.Data), bytes.Clone(e.Metadata)
	return e
}
