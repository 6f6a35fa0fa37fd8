package storetest

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	"writ/domain/eventstore"
)

// Memory is a ledger that lives as long as the process: it passes the
// contract but for durability. It starts no goroutine, so that it can be used
// inside and outside of a testing/synctest bubble, and answers the same calls
// with the same results. All methods may be called concurrently.
//
// Its positions have gaps on purpose, as those of other stores do.
type Memory struct {
	ledger eventstore.LedgerID

	mu      sync.Mutex // guards everything below
	clock   func() time.Time
	log     []eventstore.Recorded         // in order of position
	streams map[eventstore.StreamID][]int // indexes into log, by revision
	end     uint64                        // the next event gets a position beyond it
	changed chan struct{}                 // closed by the next append; nil if nobody waits
}

// NewMemory makes an empty ledger. Its clock is time.Now, which inside of a
// synctest bubble is the bubble's.
func NewMemory(ledger eventstore.LedgerID) *Memory {
	return &Memory{
		ledger:  ledger,
		clock:   time.Now,
		streams: make(map[eventstore.StreamID][]int),
	}
}

// SetClock sets the clock that stamps the events appended from now on.
func (m *Memory) SetClock(now func() time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clock = now
}

// LedgerID implements [eventstore.Store].
func (m *Memory) LedgerID() eventstore.LedgerID { return m.ledger }

// Append implements [eventstore.Appender]. With a context that has ended it
// appends nothing; otherwise its answers are always definite.
func (m *Memory) Append(ctx context.Context, stream eventstore.StreamID, expected eventstore.Expected, events ...eventstore.Proposed) (eventstore.Appended, error) {
	if err := eventstore.CheckAppend(stream, expected, events); err != nil {
		return eventstore.Appended{}, err
	}
	if err := ctx.Err(); err != nil {
		return eventstore.Appended{}, fmt.Errorf("append %s at %s: %w", stream, expected, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	have := m.streams[stream]
	if next := uint64(expected.Next()); next != uint64(len(have)) {
		return m.repeated(stream, expected, events)
	}
	now := m.clock().UTC().Round(0)
	for _, e := range events {
		m.end += 1 + uint64(len(e.Data))
		m.streams[stream] = append(m.streams[stream], len(m.log))
		m.log = append(m.log, eventstore.Recorded{
			Stream:     stream,
			Revision:   eventstore.Revision(len(m.streams[stream]) - 1),
			Position:   eventstore.Position(m.end),
			ID:         e.ID,
			Type:       e.Type,
			Data:       bytes.Clone(e.Data),
			Metadata:   bytes.Clone(e.Metadata),
			RecordedAt: now,
		})
	}
	if m.changed != nil {
		close(m.changed)
		m.changed = nil
	}
	return answer(m.log[len(m.log)-1]), nil
}

// repeated answers an append whose expectation does not hold: as the first
// time if exactly these events stand right after the expected revision,
// otherwise with a *WrongRevisionError. m.mu is held.
func (m *Memory) repeated(stream eventstore.StreamID, expected eventstore.Expected, events []eventstore.Proposed) (eventstore.Appended, error) {
	have := m.streams[stream]
	wrong := &eventstore.WrongRevisionError{Stream: stream, Expected: expected, Actual: eventstore.NoStream()}
	if len(have) > 0 {
		wrong.Actual = eventstore.At(eventstore.Revision(len(have) - 1))
	}
	next, n := uint64(expected.Next()), uint64(len(events))
	if next > uint64(len(have)) || n > uint64(len(have))-next {
		return eventstore.Appended{}, wrong
	}
	have = have[next : next+n]
	for i, e := range events {
		r := m.log[have[i]]
		if r.ID != e.ID || r.Type != e.Type || !bytes.Equal(r.Data, e.Data) || !bytes.Equal(r.Metadata, e.Metadata) {
			return eventstore.Appended{}, wrong
		}
	}
	return answer(m.log[have[n-1]]), nil
}

func answer(last eventstore.Recorded) eventstore.Appended {
	return eventstore.Appended{Revision: last.Revision, Position: last.Position}
}
