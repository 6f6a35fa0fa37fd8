package appliedkeys_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
	"writ/domain/op"
	"writ/projections"
	"writ/projections/appliedkeys"
	"writ/projections/viewtest"
)

const ledger = eventstore.LedgerID("3f9c2ab41d6e4a70")

// keysOf builds the view of a ledger.
func keysOf(t *testing.T, store eventstore.Store, view projections.ViewStore) *appliedkeys.Keys {
	t.Helper()
	keys := appliedkeys.New(view)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	r := projections.New(store, "memory", view, keys, slog.New(slog.DiscardHandler))
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	if err := r.WaitCaughtUp(ctx); err != nil {
		t.Fatal(err)
	}
	cancel()
	_ = <-ended
	return keys
}

func TestLookup(t *testing.T) {
	none := func(*viewtest.Story) eventstore.Recorded { return eventstore.Recorded{} }
	tests := []struct {
		name    string
		life    func(*viewtest.Story) eventstore.Recorded // gives the event that ended it
		found   bool
		applied bool
		state   op.State
	}{
		{"never heard of", none, false, false, 0},
		{"claimed", func(s *viewtest.Story) eventstore.Recorded { return s.Started() }, false, false, 0},
		{"running", func(s *viewtest.Story) eventstore.Recorded {
			s.Started()
			s.Launching()
			return s.Running("UPID:x")
		}, false, false, 0},
		{"failed without effect", func(s *viewtest.Story) eventstore.Recorded {
			s.Started()
			return s.Failed(op.KindPrecondition, op.EffectNone)
		}, false, false, 0},
		{"succeeded", func(s *viewtest.Story) eventstore.Recorded {
			s.Started()
			s.Launching()
			s.Running("UPID:x")
			return s.Succeeded()
		}, true, true, op.StateSucceeded},
		{"succeeded the second time", func(s *viewtest.Story) eventstore.Recorded {
			s.Started()
			s.Failed(op.KindInterrupted, op.EffectNone)
			s.Started()
			s.Launching()
			s.Running("")
			return s.Succeeded()
		}, true, true, op.StateSucceeded},
		{"failed with an effect", func(s *viewtest.Story) eventstore.Recorded {
			s.Started()
			s.Launching()
			return s.Failed(op.KindResolved, op.EffectUnknown)
		}, true, false, op.StateFailed},
		{"succeeded, and nobody had signed it", func(s *viewtest.Story) eventstore.Recorded {
			s.StartedKeyless()
			s.Launching()
			s.Running("UPID:x")
			return s.Succeeded()
		}, false, false, 0},
		{"failed with an effect, and nobody had signed it", func(s *viewtest.Story) eventstore.Recorded {
			s.StartedKeyless()
			s.Launching()
			s.Running("UPID:x")
			return s.Failed(op.KindTaskFailed, op.EffectPartial)
		}, false, false, 0},
		{"taken back after it had failed, and nobody had signed it", func(s *viewtest.Story) eventstore.Recorded {
			s.StartedKeyless()
			s.Failed(op.KindPrecondition, op.EffectNone)
			return s.Voided()
		}, false, false, 0},
		{"taken back", func(s *viewtest.Story) eventstore.Recorded { return s.Voided() }, true, false, op.StateVoided},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			store := storetest.NewMemory(ledger)
			// Others before and behind must not matter.
			viewtest.NewStory(t, store, viewtest.Nonce(1)).Started()
			s := viewtest.NewStory(t, store, viewtest.Nonce(2))
			end := tt.life(s)
			viewtest.NewStory(t, store, viewtest.Nonce(3)).Voided()
			e, found, err := keysOf(t, store, viewtest.NewMemory()).Lookup(t.Context(), viewtest.Nonce(2))
			if err != nil || found != tt.found || e.Applied() != tt.applied {
				t.Fatalf("got found %v, applied %v, error %v; want %v, %v", found, e.Applied(), err, tt.found, tt.applied)
			}
			if !tt.found {
				return
			}
			want := appliedkeys.Entry{
				Nonce: viewtest.Nonce(2), State: tt.state, OpID: s.Op.OpID, Attempt: s.Op.Attempt, At: s.Op.Since,
				Position: end.Position, Revision: end.Revision,
			}
			if e != want {
				t.Errorf("got %+v, want %+v", e, want)
			}
		})
	}
}

// What can't be so marks its own op and no other.
func TestCorruptOps(t *testing.T) {
	tests := []struct {
		name string
		life func(*viewtest.Story)
		why  string
	}{
		{"an unknown event", func(s *viewtest.Story) { s.Started(); s.Write("OpPaused", []byte(`{}`)) }, "unknown event type"},
		{"bytes that are no JSON", func(s *viewtest.Story) { s.Started(); s.Write(op.TypeLaunching, []byte("\xff{")) }, "revision 1"},
		{"no bytes", func(s *viewtest.Story) { s.Write(op.TypeStarted, nil) }, "revision 0"},
		{"null", func(s *viewtest.Story) { s.Write(op.TypeStarted, []byte("null")) }, "another op"},
		{"success out of nothing", func(s *viewtest.Story) {
			data, err := op.Encode(&op.Succeeded{Header: s.Header(), Evidence: op.Evidence{Effect: op.EffectDone}})
			if err != nil {
				panic(err)
			}
			s.Write(op.TypeSucceeded, data)
		}, "can't follow"},
		{"an event after success", func(s *viewtest.Story) {
			s.Started()
			s.Launching()
			s.Running("")
			last := s.Succeeded()
			s.Write(op.TypeSucceeded, last.Data)
		}, "can't follow"},
		{"another attempt's event", func(s *viewtest.Story) {
			first := s.Started()
			s.Failed(op.KindRefused, op.EffectNone)
			s.Write(op.TypeStarted, first.Data)
		}, "attempt 1 where 2"},
		{"a corrupt op that goes on as if nothing had been", func(s *viewtest.Story) {
			s.Write("OpPaused", nil)
			for range 3 {
				s.Write(op.TypeVoided, []byte(`{}`))
			}
		}, "revision 0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			store := storetest.NewMemory(ledger)
			tt.life(viewtest.NewStory(t, store, viewtest.Nonce(1)))
			viewtest.NewStory(t, store, viewtest.Nonce(2)).Voided()
			keys := keysOf(t, store, viewtest.NewMemory())
			e, found, err := keys.Lookup(t.Context(), viewtest.Nonce(1))
			if err != nil || !found || e.Applied() || !strings.Contains(e.Corrupt, tt.why) {
				t.Errorf("got found %v, applied %v, corrupt %q, error %v; want a corrupt one because of %q",
					found, e.Applied(), e.Corrupt, err, tt.why)
			}
			if e, found, err := keys.Lookup(t.Context(), viewtest.Nonce(2)); err != nil || !found || e.Corrupt != "" {
				t.Errorf("the op behind it: got found %v, corrupt %q, error %v; want it untouched", found, e.Corrupt, err)
			}
		})
	}
}

func TestStreamsThatAreNoOps(t *testing.T) {
	store := storetest.NewMemory(ledger)
	for i, name := range []eventstore.StreamID{"op-", "op-xyz", "op-é ", "gate-i-1", "opaque"} {
		_, err := store.Append(t.Context(), name, eventstore.NoStream(), eventstore.Proposed{
			ID: eventstore.EventID{byte(i + 1)}, Type: op.TypeVoided, Data: []byte("{}"),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	viewtest.NewStory(t, store, viewtest.Nonce(2)).Voided()
	keys := keysOf(t, store, viewtest.NewMemory())
	if _, found, err := keys.Lookup(t.Context(), viewtest.Nonce(2)); err != nil || !found {
		t.Errorf("got found %v, error %v; want the op behind them", found, err)
	}
}

func TestLookupFails(t *testing.T) {
	faulty := viewtest.NewFaulty(viewtest.NewMemory())
	faulty.OnRead = func(int) error { return errors.New("disk") }
	_, found, err := appliedkeys.New(faulty).Lookup(t.Context(), viewtest.Nonce(1))
	if err == nil || found || strings.Contains(err.Error(), string(viewtest.Nonce(1))) {
		t.Errorf("got found %v, error %v; want an error that does not show the nonce", found, err)
	}
	damaged := viewtest.NewMemory()
	b := projections.Batch{Set: []projections.Entry{{Key: "op/" + string(viewtest.Nonce(1)), Value: []byte("{")}}}
	if err := damaged.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if _, found, err := appliedkeys.New(damaged).Lookup(t.Context(), viewtest.Nonce(1)); err == nil || found {
		t.Errorf("a damaged entry: got found %v, error %v; want an error", found, err)
	}
}

// Built twice, the view is the same to the byte.
func TestRebuild(t *testing.T) {
	store := storetest.NewMemory(ledger)
	for n := range uint64(50) {
		s := viewtest.NewStory(t, store, viewtest.Nonce(n+1))
		s.Started()
		s.Launching()
		if n%3 == 0 {
			s.Write("OpPaused", []byte{byte(n)})
			continue
		}
		s.Running("")
		s.Succeeded()
	}
	view := viewtest.NewMemory()
	keysOf(t, store, view)
	first := viewtest.Dump(t, view, "")
	if err := view.Clear(t.Context()); err != nil {
		t.Fatal(err)
	}
	keysOf(t, store, view)
	if again := viewtest.Dump(t, view, ""); again != first || len(first) < 50*100 {
		t.Errorf("got\n%swant\n%s", again, first)
	}
}

// Hostile bytes mark the op, and never stop the view.
func FuzzApply(f *testing.F) {
	f.Add("op-"+string(viewtest.Nonce(1)), op.TypeStarted, []byte(`{"at":"2026-01-01T00:00:00+23:59"}`), uint64(0))
	f.Add("op-x", "", []byte(nil), uint64(7))
	f.Add("op-\x80", op.TypeVoided, []byte("{}"), uint64(0)) // a name that is no text
	store := storetest.NewMemory(ledger)
	s := viewtest.NewStory(f, store, viewtest.Nonce(1))
	for _, e := range []eventstore.Recorded{s.Started(), s.Launching(), s.Running("UPID:x"), s.Succeeded()} {
		f.Add(string(e.Stream), e.Type, e.Data, uint64(e.Revision))
	}
	f.Fuzz(func(t *testing.T, stream, typ string, data []byte, revision uint64) {
		one := oneEvent{storetest.NewMemory(ledger), eventstore.Recorded{
			Stream: eventstore.StreamID(stream), Revision: eventstore.Revision(revision), Position: 1, Type: typ, Data: data,
		}}
		keysOf(t, one, viewtest.NewMemory())
	})
}
