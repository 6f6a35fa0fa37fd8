package pebblestore_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"writ/adapters/pebblestore"
	"writ/domain/eventstore"
)

// Appends of one stream at one revision that are decided in one group: the first
// takes the place, and the others are refused by what the group itself adds, which
// is not on disk yet.
func TestRivalsInOneGroup(t *testing.T) {
	const rivals = 8
	for name, before := range map[string]int{"a stream that is new": 0, "a stream that has events": 2} {
		t.Run(name, func(t *testing.T) {
			var hold atomic.Bool
			deciding, decide := make(chan struct{}), make(chan struct{})
			o := small(vfs.NewMem())
			o.Clock = func() time.Time {
				if hold.CompareAndSwap(true, false) {
					close(deciding)
					<-decide
				}
				return time.Unix(1_700_000_000, 0)
			}
			s := create(t, "ledger", o)
			expected := eventstore.NoStream()
			if before > 0 {
				done, err := s.Append(t.Context(), "op-a", expected, proposal("op-a", 0, before, 50)...)
				if err != nil {
					t.Fatal(err)
				}
				expected = eventstore.At(done.Revision)
			}

			t.Log("while one group is being decided, the rivals gather for the next")
			hold.Store(true)
			errs := make(chan error, rivals+1)
			go func() {
				_, err := s.Append(context.Background(), "op-other", eventstore.NoStream(), proposal("op-other", 1, 1, 50)...)
				errs <- err
			}()
			<-deciding
			for i := range rivals {
				go func() {
					_, err := s.Append(context.Background(), "op-a", expected, proposal("op-a", 10+i, 1, 50)...)
					errs <- err
				}()
			}
			for pebblestore.Gathered(s) < rivals {
				runtime.Gosched()
			}
			close(decide)

			appended := 0
			for range rivals + 1 {
				var wrong *eventstore.WrongRevisionError
				switch err := <-errs; {
				case err == nil:
					appended++
				case !errors.As(err, &wrong) || wrong.Actual != eventstore.At(expected.Next()):
					t.Errorf("got %v, want that the stream is at revision %d", err, expected.Next())
				}
			}
			if appended != 2 {
				t.Errorf("appended: got %d, want the other stream's event and one of the rivals'", appended)
			}
			var got []string
			for e, err := range s.ReadStream(t.Context(), "op-a", 0) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, fmt.Sprint(e.Revision))
			}
			if len(got) != before+1 {
				t.Errorf("events of the stream: got revisions %v, want %d", got, before+1)
			}
		})
	}
}
