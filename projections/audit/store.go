package audit

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"writ/domain/eventstore"
)

// A Ledger is what an audit needs of a store; every eventstore.Store has it.
type Ledger interface {
	LedgerID() eventstore.LedgerID
	ReadAll(ctx context.Context, after eventstore.Cursor, filter eventstore.Filter) iter.Seq2[eventstore.Recorded, error]
}

// An UnreadableError stands for an event that can't be read. What comes after
// it may still be readable.
type UnreadableError struct {
	Position eventstore.Position // where it should be
	Line     int                 // in an export; 0 in a store
	Why      string
}

func (e *UnreadableError) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("line %d of the export: %s", e.Line, e.Why)
	}
	return fmt.Sprintf("event at position %d: %s", e.Position, e.Why)
}

// OfStore is a store as a source. It reads up to the end as it is when reading
// begins. Around damage it goes on with the next position.
func OfStore(l Ledger) Source { return &storeSource{ledger: l} }

type storeSource struct {
	ledger   Ledger
	from     eventstore.Cursor // where to begin
	at       eventstore.Position
	last     eventstore.Position // where it ends; 0 if nobody needs it
	measured bool                // somebody does
}

// measure makes Progress know the total, at the cost of some reads.
func (s *storeSource) measure() { s.measured = true }

func (s *storeSource) Name() string { return "store" }

func (s *storeSource) LedgerID() eventstore.LedgerID { return s.ledger.LedgerID() }

func (s *storeSource) Progress() (done, total uint64) { return uint64(s.at), uint64(s.last) }

// maxDamage bounds the damaged events in a row that are stepped over.
const maxDamage = 4096

func (s *storeSource) Events(ctx context.Context, filter eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		if s.measured {
			s.last = lastPosition(ctx, s.ledger)
		}
		cursor := s.from
		s.at, _ = cursor.Position()
		for damaged := 0; ; {
			var corrupt *eventstore.CorruptError
			for e, err := range s.ledger.ReadAll(ctx, cursor, filter) {
				switch {
				case err == nil:
					s.at, cursor, damaged = e.Position, eventstore.After(e.Position), 0
					if !yield(e, nil) {
						return
					}
				case !errors.As(err, &corrupt) || damaged >= maxDamage || len(filter.StreamPrefixes) > 0:
					// Behind a filter it is not known where the damage is.
					yield(eventstore.Recorded{}, err)
					return
				}
			}
			if corrupt == nil {
				return
			}
			if s.last == 0 {
				s.last = lastPosition(ctx, s.ledger)
			}
			if s.at >= s.last {
				yield(eventstore.Recorded{}, corrupt)
				return
			}
			damaged++
			s.at++
			cursor = eventstore.After(s.at)
			if !yield(eventstore.Recorded{}, &UnreadableError{Position: s.at, Why: corrupt.Error()}) {
				return
			}
		}
	}
}

// lastPosition finds the end of a ledger by asking whether anything comes after
// a position; 0 if that can't be told.
func lastPosition(ctx context.Context, l Ledger) eventstore.Position {
	known := true
	beyond := func(p eventstore.Position) bool {
		for _, err := range l.ReadAll(ctx, eventstore.After(p), eventstore.Filter{}) {
			var corrupt *eventstore.CorruptError
			known = known && (err == nil || errors.As(err, &corrupt))
			return true
		}
		return false
	}
	var low, high eventstore.Position = 0, 1 // low has events behind it, or is 0
	for known && high < 1<<62 && beyond(high) {
		low, high = high, 2*high
	}
	for known && low+1 < high {
		if mid := low + (high-low)/2; beyond(mid) {
			low = mid
		} else {
			high = mid
		}
	}
	if !known {
		return 0
	}
	return high
}
