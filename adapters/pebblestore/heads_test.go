package pebblestore_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"writ/domain/eventstore"
)

// A head that is remembered is never an old one, however many ask and append.
func TestHeadSeesEveryAcknowledgedAppend(t *testing.T) {
	s := create(t, "ledger", small(vfs.NewMem()))
	const streams = 3
	var acknowledged [streams]atomic.Int64 // revision + 1 of each
	name := func(i int) eventstore.StreamID { return eventstore.StreamID(fmt.Sprintf("hot-%d", i)) }
	stop := make(chan struct{})
	var readers, writers sync.WaitGroup
	for i := range streams {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				had := acknowledged[i].Load()
				head, err := s.Head(t.Context(), name(i))
				if had == 0 && errors.Is(err, eventstore.ErrStreamNotFound) {
					continue
				}
				if err != nil || int64(head.Revision)+1 < had {
					t.Errorf("got head %d, %v, after revision %d was acknowledged", head.Revision, err, had-1)
					return
				}
			}
		})
		writers.Go(func() {
			expected := eventstore.NoStream()
			for n := range 400 {
				events := proposal(name(i), n, 1, 10)
				answer, err := s.Append(t.Context(), name(i), expected, events...)
				if err != nil {
					t.Error(err)
					return
				}
				acknowledged[i].Store(int64(answer.Revision) + 1)
				expected = eventstore.At(answer.Revision)
				head, err := s.Head(t.Context(), name(i))
				if err != nil || head.ID != events[0].ID || head.Position != answer.Position {
					t.Errorf("got head %d at %d, %v, want the append just acknowledged, %d at %d", head.Revision, head.Position, err, answer.Revision, answer.Position)
					return
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
}

func TestHeadsSlicesAreTheReceiversOwn(t *testing.T) {
	s := create(t, "ledger", small(vfs.NewMem()))
	events := proposal("policy", 0, 1, 100)
	if _, err := s.Append(t.Context(), "policy", eventstore.NoStream(), events...); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		head, err := s.Head(t.Context(), "policy")
		if err != nil || string(head.Data) != string(events[0].Data) || string(head.Metadata) != string(events[0].Metadata) {
			t.Fatalf("got %q, %q, %v, want %q, %q", head.Data, head.Metadata, err, events[0].Data, events[0].Metadata)
		}
		clear(head.Data)
		clear(head.Metadata)
	}
}

// More streams than the committer remembers: what it forgot it looks up.
func TestAppendToStreamsLongForgotten(t *testing.T) {
	s := create(t, "ledger", small(vfs.NewMem()))
	const streams, callers = 10_000, 64
	name := func(i int) eventstore.StreamID { return eventstore.StreamID(fmt.Sprintf("op-%d", i)) }
	for round := range 2 {
		expected := eventstore.NoStream()
		if round == 1 {
			expected = eventstore.At(0)
		}
		var writers sync.WaitGroup
		for w := range callers {
			writers.Go(func() {
				for i := w; i < streams; i += callers {
					var wrong *eventstore.WrongRevisionError
					before := eventstore.At(eventstore.Revision(1))
					if _, err := s.Append(t.Context(), name(i), before, proposal(name(i), 9, 1, 10)...); !errors.As(err, &wrong) {
						t.Errorf("%s expected at %s: got %v, want it refused", name(i), before, err)
						return
					}
					answer, err := s.Append(t.Context(), name(i), expected, proposal(name(i), round, 1, 10)...)
					if err != nil || answer.Revision != eventstore.Revision(round) {
						t.Errorf("%s: got %v, %v, want revision %d", name(i), answer, err, round)
						return
					}
				}
			})
		}
		writers.Wait()
	}
	if err := s.Verify(t.Context(), nil); err != nil {
		t.Error(err)
	}
}
