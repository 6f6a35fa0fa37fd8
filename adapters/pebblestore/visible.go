package pebblestore

import (
	"bytes"

	"writ/domain/eventstore"
)

// Bounds of the heads remembered: 4 MiB in all.
const (
	maxHeads     = 64
	maxHeadBytes = 64 << 10
)

// A horizon is how much of the ledger may be shown: pebble lets readers see a
// batch before its fsync has returned.
type horizon struct {
	end     eventstore.Position
	changed <-chan struct{}
}

func (s *Store) shown() horizon {
	s.mu.Lock()
	defer s.mu.Unlock()
	return horizon{end: s.end, changed: s.changed}
}

// show makes a group visible that is durable, as all before it are, and wakes
// those who follow.
func (s *Store) show(g *group) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end = g.end
	// Without this a head could be given that is not the newest any more.
	for _, r := range g.requests {
		delete(s.heads, r.stream)
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

// remembered gives the newest event of a stream up to the end, without a
// look-up, if it is known; and the end.
func (s *Store) remembered(stream eventstore.StreamID) (head eventstore.Recorded, known bool, end eventstore.Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	head, known = s.heads[stream]
	return head, known, s.end
}

// remember keeps the newest event that a stream had up to a position, for
// those who ask again: some streams, such as the one of the policy, are
// written once and asked for with every op. If the ledger has gone on since,
// the stream may have too, and nothing is kept.
func (s *Store) remember(head eventstore.Recorded, end eventstore.Position) {
	if len(head.Data)+len(head.Metadata) > maxHeadBytes {
		return
	}
	head = ownCopy(head)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.end != end {
		return
	}
	if len(s.heads) >= maxHeads {
		clear(s.heads)
	}
	s.heads[head.Stream] = head
}

// ownCopy gives an event whose slices belong to whoever gets it.
func ownCopy(e eventstore.Recorded) eventstore.Recorded {
	e.Data, e.Metadata = bytes.Clone(e.Data), bytes.Clone(e.Metadata)
	return e
}
