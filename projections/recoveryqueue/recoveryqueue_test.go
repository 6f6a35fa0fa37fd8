package recoveryqueue_test

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
	"writ/domain/op"
	"writ/projections"
	"writ/projections/recoveryqueue"
	"writ/projections/viewtest"
)

const ledger = eventstore.LedgerID("3f9c2ab41d6e4a70")

// listOf builds the view of a ledger and lists it.
func listOf(t *testing.T, store eventstore.Store, view projections.ViewStore) []recoveryqueue.Item {
	t.Helper()
	queue := recoveryqueue.New(view)
	ctx, cancel := context.WithCancel(t.Context())
	r := projections.New(store, "memory", view, queue, slog.New(slog.DiscardHandler))
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	if err := r.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	cancel()
	_ = <-ended
	return list(t, queue)
}

func list(t *testing.T, queue *recoveryqueue.Queue) []recoveryqueue.Item {
	t.Helper()
	items, err := queue.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return items
}

func TestList(t *testing.T) {
	tests := []struct {
		name string
		life func(*viewtest.Story)
		want *recoveryqueue.Item // but for what is always the same; nil: not listed
	}{
		{"nothing happened", func(*viewtest.Story) {}, nil},
		{"claimed", func(s *viewtest.Story) { s.Started() }, &recoveryqueue.Item{
			State: op.StateStarted, Why: "claimed; nothing was sent to the host yet",
		}},
		{"announced", func(s *viewtest.Story) { s.Started(); s.Launching() }, &recoveryqueue.Item{
			State: op.StateLaunching, Node: "pve2",
			Why: "announced; the request may be on its way, and no task of it is on record",
		}},
		{"running", func(s *viewtest.Story) { s.Started(); s.Launching(); s.Running("UPID:x") }, &recoveryqueue.Item{
			State: op.StateTaskRunning, Node: "pve2", UPID: "UPID:x",
			Why: "a task of the host carries it out; its end is not on record",
		}},
		{"carried out at once", func(s *viewtest.Story) { s.Started(); s.Launching(); s.Running("") }, &recoveryqueue.Item{
			State: op.StateTaskRunning, Node: "pve2",
			Why: "carried out by the host at once; the effect is not verified yet",
		}},
		{"succeeded", func(s *viewtest.Story) { s.Started(); s.Launching(); s.Running(""); s.Succeeded() }, nil},
		{"failed with an effect", func(s *viewtest.Story) {
			s.Started()
			s.Launching()
			s.Failed(op.KindTaskFailed, op.EffectPartial)
		}, nil},
		{"failed without effect", func(s *viewtest.Story) { s.Started(); s.Failed(op.KindRefused, op.EffectNone) }, nil},
		{"taken back", func(s *viewtest.Story) { s.Voided() }, nil},
		{"taken back after a failure", func(s *viewtest.Story) {
			s.Started()
			s.Failed(op.KindRefused, op.EffectNone)
			s.Voided()
		}, nil},
		{"attempted again", func(s *viewtest.Story) {
			s.Started()
			s.Launching()
			s.Running("UPID:x")
			s.Failed(op.KindTaskFailed, op.EffectNone)
			s.Started()
		}, &recoveryqueue.Item{
			State: op.StateStarted, Why: "claimed; nothing was sent to the host yet",
			LastFailure: &recoveryqueue.Failure{
				Attempt: 1, Kind: op.KindTaskFailed, Message: "it failed", At: viewtest.Start.Add(3 * time.Second),
				Evidence: &op.Evidence{Effect: op.EffectNone, Reasons: []string{"seen"}},
			},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			store := storetest.NewMemory(ledger)
			s := viewtest.NewStory(t, store, viewtest.Nonce(1))
			tt.life(s)
			viewtest.NewStory(t, store, viewtest.Nonce(2)).Voided()
			got := listOf(t, store, viewtest.NewMemory())
			if tt.want == nil {
				if len(got) != 0 {
					t.Errorf("got %+v, want nothing listed", got)
				}
				return
			}
			want := *tt.want
			h := s.Header()
			want.Stream, want.Nonce = eventstore.StreamID(s.Op.Nonce.Stream()), s.Op.Nonce
			want.OpID, want.Attempt, want.Since = s.Op.OpID, s.Op.Attempt, s.Op.Since
			want.Class, want.Target = h.Class, h.Target
			if len(got) != 1 || !reflect.DeepEqual(got[0], want) {
				t.Errorf("got %+v, want %+v alone", got, want)
			}
		})
	}
}

// Nothing of an op that has ended is kept.
func TestEndedOpsLeaveNothingBehind(t *testing.T) {
	store, view := storetest.NewMemory(ledger), viewtest.NewMemory()
	for n := range uint64(20) {
		s := viewtest.NewStory(t, store, viewtest.Nonce(n+1))
		s.Started()
		s.Failed(op.KindInterrupted, op.EffectNone)
		s.Started()
		s.Launching()
		s.Running("")
		s.Succeeded()
	}
	listOf(t, store, view)
	for e, err := range view.Scan(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(e.Key, "!") {
			t.Errorf("got %q left behind, want nothing", e.Key)
		}
	}
}

func TestOldestFirst(t *testing.T) {
	store := storetest.NewMemory(ledger)
	for n, minutes := range []int{30, 10, 20, 10} {
		s := viewtest.NewStory(t, store, viewtest.Nonce(uint64(n)+1))
		s.At(viewtest.Start.Add(time.Duration(minutes) * time.Minute)).Started()
	}
	var got []op.Nonce
	for _, i := range listOf(t, store, viewtest.NewMemory()) {
		got = append(got, i.Nonce)
	}
	want := []op.Nonce{viewtest.Nonce(2), viewtest.Nonce(4), viewtest.Nonce(3), viewtest.Nonce(1)}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// A corrupt op stays listed, whatever else its stream says, until a person
// has looked; the others go on.
func TestCorruptOpsAreListed(t *testing.T) {
	clock := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	tests := []struct {
		name  string
		life  func(*viewtest.Story)
		state op.State
		why   string
	}{
		{"from the first event on", func(s *viewtest.Story) { s.Write(op.TypeStarted, []byte("{")) }, op.Absent, "revision 0"},
		{"in flight", func(s *viewtest.Story) {
			s.Started()
			s.Launching()
			s.Write("OpPaused", nil)
		}, op.StateLaunching, "unknown event"},
		{"and then an end", func(s *viewtest.Story) {
			s.Started()
			failed, err := op.Encode(&op.Failed{Header: s.Header(), Kind: op.KindResolved, Effect: op.EffectUnknown})
			if err != nil {
				panic(err)
			}
			s.Write("OpPaused", nil)
			s.Write(op.TypeFailed, failed)
		}, op.StateStarted, "unknown event"},
		{"after it had ended", func(s *viewtest.Story) {
			s.Started()
			s.Launching()
			s.Running("")
			end := s.Succeeded()
			s.Write(op.TypeSucceeded, end.Data)
		}, op.Absent, "follow an end"},
		{"after a clean failure", func(s *viewtest.Story) {
			s.Started()
			end := s.Failed(op.KindRefused, op.EffectNone)
			s.Write(op.TypeFailed, end.Data)
		}, op.StateFailedClean, "can't follow"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			store := storetest.NewMemory(ledger)
			store.SetClock(func() time.Time { return clock })
			tt.life(viewtest.NewStory(t, store, viewtest.Nonce(1)))
			viewtest.NewStory(t, store, viewtest.Nonce(2)).Started()
			items := listOf(t, store, viewtest.NewMemory())
			if len(items) != 2 {
				t.Fatalf("got %d items, want the corrupt one and the one in flight: %+v", len(items), items)
			}
			bad := items[0]
			if bad.Nonce != viewtest.Nonce(1) {
				bad = items[1]
			}
			if bad.State != tt.state || !strings.Contains(bad.Corrupt, tt.why) || !strings.Contains(bad.Why, "corrupt") || bad.Since.IsZero() {
				t.Errorf("got %+v, want it as %s, corrupt because of %q, since some time", bad, tt.state, tt.why)
			}
		})
	}
}

func TestAStreamWithoutANonceIsListed(t *testing.T) {
	store := storetest.NewMemory(ledger)
	_, err := store.Append(t.Context(), "op-xyz", eventstore.NoStream(), eventstore.Proposed{
		ID: eventstore.EventID{1}, Type: op.TypeVoided, Data: []byte("{}"),
	})
	if err != nil {
		t.Fatal(err)
	}
	items := listOf(t, store, viewtest.NewMemory())
	if len(items) != 1 || items[0].Stream != "op-xyz" || items[0].Nonce != "" || items[0].Corrupt == "" {
		t.Errorf("got %+v, want the stream by its name, marked as corrupt", items)
	}
}

// The queue follows an op while it lives.
func TestLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, view := storetest.NewMemory(ledger), viewtest.NewMemory()
		queue := recoveryqueue.New(view)
		r := projections.New(store, "memory", view, queue, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx) }()
		s := viewtest.NewStory(t, store, viewtest.Nonce(1))
		for _, step := range []struct {
			do    func() eventstore.Recorded
			state op.State // 0: not listed
		}{
			{s.Started, op.StateStarted},
			{s.Launching, op.StateLaunching},
			{func() eventstore.Recorded { return s.Failed(op.KindRejected, op.EffectNone) }, 0},
			{s.Started, op.StateStarted},
			{s.Launching, op.StateLaunching},
			{func() eventstore.Recorded { return s.Running("UPID:x") }, op.StateTaskRunning},
			{s.Succeeded, 0},
		} {
			if err := r.WaitFor(t.Context(), step.do().Position); err != nil {
				t.Fatal(err)
			}
			var state op.State
			if items := list(t, queue); len(items) == 1 {
				state = items[0].State
			}
			if state != step.state {
				t.Errorf("got %s listed, want %s", state, step.state)
			}
		}
		cancel()
		_ = <-ended
	})
}

// Built twice, the view is the same to the byte.
func TestRebuild(t *testing.T) {
	store := storetest.NewMemory(ledger)
	for n := range uint64(50) {
		s := viewtest.NewStory(t, store, viewtest.Nonce(n+1))
		s.Started()
		if n%5 == 0 {
			s.Write("OpPaused", nil)
			continue
		}
		s.Launching()
		if n%3 == 0 {
			s.Failed(op.KindRejected, op.EffectNone)
		}
	}
	view := viewtest.NewMemory()
	listOf(t, store, view)
	first := viewtest.Dump(t, view, "")
	if err := view.Clear(t.Context()); err != nil {
		t.Fatal(err)
	}
	listOf(t, store, view)
	if again := viewtest.Dump(t, view, ""); again != first || len(first) < 50*100 {
		t.Errorf("got\n%swant\n%s", again, first)
	}
}

func TestListFails(t *testing.T) {
	faulty := viewtest.NewFaulty(viewtest.NewMemory())
	faulty.OnRead = func(int) error { return errors.New("disk") }
	if items, err := recoveryqueue.New(faulty).List(t.Context()); err == nil {
		t.Errorf("got %v, want an error", items)
	}
	damaged := viewtest.NewMemory()
	b := projections.Batch{Set: []projections.Entry{{Key: "listed/x", Value: []byte("{")}}}
	if err := damaged.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if items, err := recoveryqueue.New(damaged).List(t.Context()); err == nil {
		t.Errorf("a damaged entry: got %v, want an error", items)
	}
}
