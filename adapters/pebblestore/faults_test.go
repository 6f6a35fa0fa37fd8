package pebblestore_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"writ/adapters/pebblestore"
	"writ/domain/eventstore"
)

// nth fails the n-th change of the disk, and those after it too if it stays.
type nth struct {
	n       int64
	stays   bool
	count   atomic.Int64
	enabled atomic.Bool
}

func (f *nth) String() string { return fmt.Sprint("change ", f.n) }

func (f *nth) MaybeError(op errorfs.Op) error {
	switch op.Kind {
	case errorfs.OpCreate, errorfs.OpLink, errorfs.OpRemove, errorfs.OpRename, errorfs.OpReuseForWrite, errorfs.OpMkdirAll,
		errorfs.OpFileWrite, errorfs.OpFileWriteAt, errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo, errorfs.OpFilePreallocate:
	default:
		return nil
	}
	if !f.enabled.Load() {
		return nil
	}
	if c := f.count.Add(1); c == f.n || f.stays && c > f.n {
		return errorfs.ErrInjected
	}
	return nil
}

// script appends in two lives of a store, until something fails.
func script(t *testing.T, disk vfs.FS) (acks []acknowledged, failed bool) {
	t.Helper()
	if err := pebblestore.Create("ledger", ledgerID, small(disk)); err != nil {
		return nil, true
	}
	for life := range 2 {
		s, err := pebblestore.Open("ledger", small(disk))
		if err != nil {
			return acks, true
		}
		var stopped error
		for i := range 30 {
			stream := eventstore.StreamID(fmt.Sprintf("op-%d-%d", life, i/2))
			expected, events := eventstore.NoStream(), proposal(stream, i, 1, 4000)
			if i%2 == 1 {
				expected, events = eventstore.At(0), proposal(stream, i, 3, 2500)
			}
			answer, err := s.Append(t.Context(), stream, expected, events...)
			if err == nil && stopped != nil {
				t.Errorf("appended %s at %s after an append had failed with %v", stream, expected, stopped)
			}
			if err == nil {
				acks = append(acks, acknowledged{stream, answer, events})
				continue
			}
			if stopped == nil && eventstore.Definite(err) {
				t.Errorf("got the definite error %v for a disk that failed", err)
			}
			var wrong *eventstore.WrongRevisionError
			if errors.As(err, &wrong) {
				continue // its stream's first append was the one that failed
			}
			stopped = err
			select {
			case <-s.Halted():
				if s.Why() == nil {
					t.Error("the store has halted and can't say why")
				}
			default:
				t.Errorf("an append failed with %v and the store has not halted", err)
			}
			// The append may be on record all the same. But what a reader is
			// shown now he must find again after a loss of power.
			if answer, shown := lookFor(t, s, stream, expected, events); shown {
				t.Logf("%s@%d: its append failed with %v, and it is shown", stream, answer.Revision, err)
				acks = append(acks, acknowledged{stream, answer, events})
			}
		}
		if err := s.Close(); err != nil || stopped != nil {
			return acks, true
		}
	}
	return acks, false
}

// lookFor finds out whether an append is shown, whole.
func lookFor(t *testing.T, s eventstore.Store, stream eventstore.StreamID, expected eventstore.Expected, events []eventstore.Proposed) (eventstore.Appended, bool) {
	t.Helper()
	var last eventstore.Recorded
	n := 0
	for e, err := range s.ReadStream(t.Context(), stream, expected.Next()) {
		if err == nil {
			last, n = e, n+1
		}
	}
	if n != 0 && n != len(events) {
		t.Errorf("%d of the %d events of an append to %s are shown", n, len(events), stream)
	}
	return eventstore.Appended{Revision: last.Revision, Position: last.Position}, n == len(events)
}

// Every change of the disk fails once, in turn; for good, or only this time.
// Afterwards the ledger is opened again, after the process has died and after
// the machine has.
func TestEveryWriteAndSyncFails(t *testing.T) {
	for _, stays := range []bool{false, true} {
		t.Run(fmt.Sprintf("for good %t", stays), func(t *testing.T) {
			// Every change takes minutes: WRIT_LONG=1. Otherwise some of them,
			// others for each form.
			step, first := int64(5), int64(1)
			switch {
			case os.Getenv("WRIT_LONG") != "":
				step = 1
			case testing.Short():
				step = 23
			}
			if stays {
				first += step / 2
			}
			failures, tries := 0, 0
			for n := first; ; n += step {
				tries++
				disk := vfs.NewCrashableMem()
				inject := &nth{n: n, stays: stays}
				inject.enabled.Store(true)
				acks, failed := script(t, errorfs.Wrap(disk, inject))
				inject.enabled.Store(false)
				if failed {
					failures++
				} else if len(acks) != 60 {
					t.Fatalf("change %d: nothing failed, yet %d of 60 appends were acknowledged", n, len(acks))
				}
				rng := rand.New(rand.NewPCG(uint64(n), 1))
				for name, left := range map[string]*vfs.MemFS{
					"process died": disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rng}),
					"power lost":   disk.CrashClone(vfs.CrashCloneCfg{}),
				} {
					again, err := pebblestore.Open("ledger", small(left))
					if err != nil {
						if len(acks) > 0 {
							t.Fatalf("change %d, %s, %d appends acknowledged: %v", n, name, len(acks), err)
						}
						continue // its creation was cut short
					}
					if err := survived(again, acks); err != nil {
						t.Fatalf("change %d, %s, %d appends acknowledged: %v", n, name, len(acks), err)
					}
					goesOn(t, again, "afterwards")
					if err := again.Close(); err != nil {
						t.Fatal(err)
					}
				}
				if inject.count.Load() < n {
					break // the script has fewer changes than n
				}
			}
			if tries < 10 || failures < tries/2 {
				t.Errorf("%d of %d changes failed an append, want that most changes of the disk matter", failures, tries)
			}
		})
	}
}
