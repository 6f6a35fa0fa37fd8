package pebblestore_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"writ/adapters/pebblestore"
	"writ/domain/eventstore"
)

// proposal gives the events of one append. They say which append they belong
// to and how many it has, so that a half one is found.
func proposal(stream eventstore.StreamID, n, events, size int) []eventstore.Proposed {
	all := make([]eventstore.Proposed, events)
	for i := range all {
		tag := fmt.Sprintf("%s append %d event %d of %d ", stream, n, i, events)
		id := sha256.Sum256([]byte(tag))
		// Not to be compressed, so that tables fill up.
		noise := make([]byte, 0, size+32)
		for k := uint64(0); len(noise) < size; k++ {
			h := sha256.Sum256(binary.BigEndian.AppendUint64(id[:], k))
			noise = append(noise, h[:]...)
		}
		all[i] = eventstore.Proposed{
			ID: eventstore.EventID(id[:16]), Type: "Happened",
			Data: append([]byte(tag), noise[:size]...), Metadata: []byte(tag),
		}
	}
	return all
}

// An acknowledged append must be found whatever happens afterwards.
type acknowledged struct {
	stream eventstore.StreamID
	answer eventstore.Appended
	events []eventstore.Proposed
}

// survived checks a ledger after an accident: it is whole, it has all that was
// acknowledged, and of nothing only a part.
func survived(s *pebblestore.Store, acks []acknowledged) error {
	ctx := context.Background()
	if err := s.Verify(ctx, nil); err != nil {
		return err
	}
	at := make(map[eventstore.Position]eventstore.Recorded)
	var last eventstore.Recorded
	for e, err := range s.ReadAll(ctx, eventstore.Cursor{}, eventstore.Filter{}) {
		if err != nil {
			return err
		}
		at[e.Position] = e
		last = e
		var stream string
		var n, i, of int
		if _, err := fmt.Sscanf(string(e.Metadata), "%s append %d event %d of %d", &stream, &n, &i, &of); err != nil {
			return fmt.Errorf("position %d: metadata %q: %w", e.Position, e.Metadata, err)
		}
		for k := range i { // those before it of the same append
			if want := fmt.Sprintf("%s append %d event %d of %d ", stream, n, k, of); string(at[e.Position-eventstore.Position(i-k)].Metadata) != want {
				return fmt.Errorf("position %d holds %q, but what should be before it is not: %q", e.Position, e.Metadata, want)
			}
		}
		if next := proposal(e.Stream, n, of, len(e.Data)-len(e.Metadata))[i]; !bytes.Equal(next.Data, e.Data) || next.ID != e.ID {
			return fmt.Errorf("position %d: other bytes than were appended", e.Position)
		}
	}
	var i, of, n int
	var stream string
	if len(at) > 0 {
		if _, err := fmt.Sscanf(string(last.Metadata), "%s append %d event %d of %d", &stream, &n, &i, &of); err != nil || i != of-1 {
			return fmt.Errorf("the ledger ends with half an append: %q, %v", last.Metadata, err)
		}
	}
	for _, a := range acks {
		first := int(a.answer.Position) - len(a.events) + 1
		for i, want := range a.events {
			got, ok := at[eventstore.Position(first+i)]
			if !ok {
				return fmt.Errorf("%w: position %d, %q", errAcknowledgedLost, first+i, want.Metadata)
			}
			revision := int(a.answer.Revision) - len(a.events) + 1 + i
			if got.Stream != a.stream || int(got.Revision) != revision || got.ID != want.ID || !bytes.Equal(got.Data, want.Data) || !bytes.Equal(got.Metadata, want.Metadata) {
				return fmt.Errorf("position %d: got %s@%d %q, want %s@%d %q", got.Position, got.Stream, got.Revision, got.Metadata, a.stream, revision, want.Metadata)
			}
		}
	}
	return nil
}

var errAcknowledgedLost = errors.New("acknowledged and lost")

// goesOn checks that a ledger takes an append.
func goesOn(t *testing.T, s eventstore.Store, stream eventstore.StreamID) {
	t.Helper()
	expected := eventstore.NoStream()
	if head, err := s.Head(t.Context(), stream); err == nil {
		expected = eventstore.At(head.Revision)
	}
	if _, err := s.Append(t.Context(), stream, expected, proposal(stream, 1_000_000, 2, 10)...); err != nil {
		t.Fatalf("the ledger does not go on: %v", err)
	}
}
