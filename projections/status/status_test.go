package status_test

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
	"writ/domain/op"
	"writ/projections"
	"writ/projections/status"
	"writ/projections/viewtest"
)

func TestHowAnOpStands(t *testing.T) {
	guest := op.Target{Node: "pve1", Guest: &op.Guest{Type: op.QEMU, VMID: 105}}
	tests := []struct {
		name string
		life func(*viewtest.Story) eventstore.Recorded
		want status.Op // what is not the same for all
	}{
		{
			"claimed", func(s *viewtest.Story) eventstore.Recorded { return s.Started() },
			status.Op{State: status.Started, Last: op.StateStarted},
		},
		{
			"announced", func(s *viewtest.Story) eventstore.Recorded { s.Started(); return s.Launching() },
			status.Op{State: status.Launching, Last: op.StateLaunching, Node: "pve2"},
		},
		{
			"running", func(s *viewtest.Story) eventstore.Recorded { s.Started(); s.Launching(); return s.Running("UPID:x") },
			status.Op{State: status.TaskRunning, Last: op.StateTaskRunning, Node: "pve2", UPID: "UPID:x"},
		},
		{"succeeded", func(s *viewtest.Story) eventstore.Recorded {
			s.Started()
			s.Launching()
			s.Running("UPID:x")
			return s.Succeeded()
		}, status.Op{State: status.Succeeded, Last: op.StateSucceeded, Node: "pve2", UPID: "UPID:x", Effect: op.EffectDone}},
		{"failed without effect", func(s *viewtest.Story) eventstore.Recorded {
			s.Started()
			return s.Failed(op.KindPrecondition, op.EffectNone)
		}, status.Op{State: status.FailedClean, Last: op.StateFailedClean, Effect: op.EffectNone, Kind: op.KindPrecondition, Message: "it failed"}},
		{"failed with an effect nobody knows", func(s *viewtest.Story) eventstore.Recorded {
			s.Started()
			s.Launching()
			return s.Failed(op.KindResolved, op.EffectUnknown)
		}, status.Op{State: status.Failed, Last: op.StateFailed, Node: "pve2", Effect: op.EffectUnknown, Kind: op.KindResolved, Message: "it failed"}},
		{"begun again", func(s *viewtest.Story) eventstore.Recorded {
			s.Started()
			s.Launching()
			s.Failed(op.KindRejected, op.EffectNone)
			return s.Started()
		}, status.Op{State: status.Started, Last: op.StateStarted}},
		{
			"taken back before it began", func(s *viewtest.Story) eventstore.Recorded { return s.Voided() },
			status.Op{State: status.Voided, Last: op.StateVoided, Message: "not needed any more"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t)
			story := s.story(1)
			last := tt.life(story)
			s.reach(last)
			want := tt.want
			want.Stream, want.Nonce = eventstore.StreamID(viewtest.Nonce(1).Stream()), viewtest.Nonce(1)
			want.OpID, want.Attempt, want.Began, want.Since = story.Op.OpID, story.Op.Attempt, viewtest.Start, story.Op.Since
			want.Position, want.Class, want.Target = last.Position, op.GuestDestroy, guest
			if story.Op.Attempt > 0 {
				want.Role = "operator"
			}
			page := s.page(status.Query{})
			if len(page.Ops) != 1 || !reflect.DeepEqual(page.Ops[0], want) || page.Next != nil {
				t.Errorf("got %+v, next %v; want %+v alone", page.Ops, page.Next, want)
			}
		})
	}
}

// What can't be so marks its own op and no other, and is found as corrupt.
func TestCorruptOps(t *testing.T) {
	tests := []struct {
		name string
		life func(*viewtest.Story) eventstore.Recorded
		why  string
		last op.State
	}{
		{"an unknown event", func(s *viewtest.Story) eventstore.Recorded { s.Started(); return s.Write("OpPaused", []byte(`{}`)) }, "unknown event type", op.StateStarted},
		{"bytes that are no JSON", func(s *viewtest.Story) eventstore.Recorded {
			s.Started()
			return s.Write(op.TypeLaunching, []byte("\xff{"))
		}, "revision 1", op.StateStarted},
		{"nothing that can be read at all", func(s *viewtest.Story) eventstore.Recorded { return s.Write(op.TypeStarted, nil) }, "revision 0", op.Absent},
		{"an event after the end", func(s *viewtest.Story) eventstore.Recorded {
			s.Started()
			s.Launching()
			s.Running("")
			last := s.Succeeded()
			return s.Write(op.TypeSucceeded, last.Data)
		}, "can't follow", op.StateSucceeded},
		{"it goes on as if nothing had been", func(s *viewtest.Story) eventstore.Recorded {
			s.Write("OpPaused", nil)
			return s.Write(op.TypeVoided, []byte(`{}`))
		}, "revision 0", op.Absent},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t)
			tt.life(s.story(1))
			s.reach(s.story(2).Voided())
			got := s.all(status.Query{States: []status.State{status.Corrupt}})
			if len(got) != 1 || got[0].Nonce != viewtest.Nonce(1) || !strings.Contains(got[0].Corrupt, tt.why) || got[0].Last != tt.last {
				t.Errorf("corrupt ops: got %+v, want the first one because of %q, last %v", got, tt.why, tt.last)
			}
			if got := s.all(status.Query{States: []status.State{status.Voided}}); len(got) != 1 || got[0].Nonce != viewtest.Nonce(2) || got[0].Corrupt != "" {
				t.Errorf("voided ops: got %+v, want the second one untouched", got)
			}
			for _, state := range status.States() {
				if state != status.Corrupt && state != status.Voided {
					if got := s.all(status.Query{States: []status.State{state}}); len(got) != 0 {
						t.Errorf("%s ops: got %+v, want none", state, got)
					}
				}
			}
		})
	}
}

func TestStreamsThatAreNoOps(t *testing.T) {
	s := newSite(t)
	names := []eventstore.StreamID{"op-", "op-xyz", "op-é ", "op-" + eventstore.StreamID(strings.Repeat("g", 250)), "gate-i-1"}
	for i, name := range names {
		_, err := s.store.Append(t.Context(), name, eventstore.NoStream(), eventstore.Proposed{
			ID: eventstore.EventID{byte(i + 1)}, Type: op.TypeVoided, Data: []byte("{}"),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	s.reach(s.story(2).Voided())
	var got []eventstore.StreamID
	for _, o := range s.all(status.Query{States: []status.State{status.Corrupt}}) {
		got = append(got, o.Stream)
		if o.Nonce != "" || o.Corrupt == "" {
			t.Errorf("got %+v, want a corrupt op without a nonce", o)
		}
	}
	slices.Sort(got)
	want := slices.Sorted(slices.Values(names[:4]))
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// An op that changes while the list is read is neither lost nor given twice.
func TestPagingWhileOpsChange(t *testing.T) {
	s := newSite(t)
	const ops = 30
	stories := make([]*viewtest.Story, ops)
	for n := range stories {
		stories[n] = s.story(uint64(n)).At(viewtest.Start.Add(time.Duration(n) * time.Second))
		s.reach(stories[n].Started())
	}
	given := make(map[op.Nonce]int)
	q := status.Query{Limit: 7}
	for round := 0; ; round++ {
		page := s.page(q)
		for _, o := range page.Ops {
			given[o.Nonce]++
		}
		if q.After = page.Next; q.After == nil {
			break
		}
		// Behind the cursor, before it, and a new one.
		stories[round].Launching()
		stories[ops-1-round].Failed(op.KindInterrupted, op.EffectNone)
		stories[ops-1-round].Started()
		s.reach(s.story(uint64(1000 + round)).At(viewtest.Start.Add(time.Hour)).Started())
	}
	for n := range uint64(ops) {
		if given[viewtest.Nonce(n)] != 1 {
			t.Errorf("op %d: got it %d times, want once", n, given[viewtest.Nonce(n)])
		}
	}
	if len(given) != ops {
		t.Errorf("got %d ops, want the %d there were at the first page", len(given), ops)
	}
}

func TestCursors(t *testing.T) {
	s := newSite(t)
	for n := range uint64(3) {
		s.reach(s.story(n).Voided())
	}
	next := s.page(status.Query{Limit: 2}).Next
	if next == nil {
		t.Fatal("got no cursor, want one")
	}
	again, err := status.ParseCursor(next.String())
	if err != nil || again != *next {
		t.Errorf("got %v, error %v; want %v", again, err, *next)
	}
	if got := s.page(status.Query{Limit: 2, After: &again}); len(got.Ops) != 1 || got.Next != nil {
		t.Errorf("got %+v, want the last op", got)
	}
	foreign := *next
	foreign.Format++
	_, err = s.ops.List(t.Context(), status.Query{Limit: 2, After: &foreign})
	var wrong *status.ForeignCursorError
	if !errors.As(err, &wrong) {
		t.Errorf("a cursor of another format: got error %v, want a *ForeignCursorError", err)
	}
	for _, text := range []string{
		"", "v1-", "v1-00", "v0-" + strings.Repeat("00", 16), "v1-" + strings.Repeat("00", 17), "v1-" + strings.Repeat("zz", 16),
		"v01-" + strings.Repeat("00", 16), "v1-" + strings.Repeat("AA", 16), next.String() + " ", " " + next.String(), "v99999999999999999999-" + strings.Repeat("00", 16),
	} {
		if c, err := status.ParseCursor(text); err == nil {
			t.Errorf("parse %q: got %v, want an error", text, c)
		}
	}
}

func FuzzParseCursor(f *testing.F) {
	f.Add("v1-" + strings.Repeat("7f", 16))
	f.Add("v1-")
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := status.ParseCursor(text); err == nil && c.String() != text {
			t.Errorf("%q: got %q back, want the same", text, c.String())
		}
	})
}

func TestLimits(t *testing.T) {
	s := newSite(t)
	for _, limit := range []int{0, -1, status.MaxLimit + 1} {
		if _, err := s.ops.List(t.Context(), status.Query{Limit: limit}); err == nil {
			t.Errorf("limit %d: got no error, want one", limit)
		}
	}
}

// Two filters that seldom meet cost short pages, not a long wait; and nothing is
// left out for it.
func TestPagesThatAreShort(t *testing.T) {
	store := storetest.NewMemory(ledger)
	var last eventstore.Recorded
	const ops = 11_000
	for n := range uint64(ops) {
		s := viewtest.NewStory(t, store, viewtest.Nonce(n)).On(105 + int(n%2))
		last = s.Started()
		if n%2 == 1 || n == 0 {
			last = s.Launching() // on pve2
		}
	}
	s := open(t, store, memorySlots(), status.View{})
	s.reach(last)
	q := status.Query{VMID: 105, Node: "pve2"}
	first := s.page(q)
	if len(first.Ops) != 0 || first.Next == nil {
		t.Errorf("got %d ops, next %v; want a page without ops that is not the last", len(first.Ops), first.Next)
	}
	if got := s.all(q); len(got) != 1 || got[0].Nonce != viewtest.Nonce(0) {
		t.Errorf("got %+v, want the first op there ever was", got)
	}
}

// What is damaged in the view gives errors, never a list that lacks ops.
func TestADamagedView(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(*viewtest.Faulty, projections.ViewStore) error
		query status.Query
	}{
		{"a row that can't be read", func(_ *viewtest.Faulty, v projections.ViewStore) error { return change(t, v, "{") }, status.Query{Limit: 9}},
		{"a row that is not there", func(_ *viewtest.Faulty, v projections.ViewStore) error { return change(t, v, "") }, status.Query{Limit: 9, VMID: 105}},
		{"a disk that gives nothing", func(f *viewtest.Faulty, _ projections.ViewStore) error {
			f.OnRead = func(int) error { return errors.New("disk") }
			return nil
		}, status.Query{Limit: 9, Node: "pve1", VMID: 105}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			slots := memorySlots()
			under := slots.A
			faulty := viewtest.NewFaulty(under)
			slots.A = faulty
			s := open(t, storetest.NewMemory(ledger), slots, status.View{})
			s.reach(s.story(1).Started())
			if err := tt.spoil(faulty, under); err != nil {
				t.Fatal(err)
			}
			page, err := s.ops.List(t.Context(), tt.query)
			if err == nil || len(page.Ops) != 0 || strings.Contains(err.Error(), string(viewtest.Nonce(1))) {
				t.Errorf("got %+v, error %v; want an error that does not show the nonce", page, err)
			}
		})
	}
}

// change gives every row another value; empty: none.
func change(t *testing.T, v projections.ViewStore, value string) error {
	t.Helper()
	var b projections.Batch
	for e, err := range v.Scan(t.Context(), "o") {
		if err != nil {
			return err
		}
		if value == "" {
			b.Delete = append(b.Delete, e.Key)
		} else {
			b.Set = append(b.Set, projections.Entry{Key: e.Key, Value: []byte(value)})
		}
	}
	return v.Commit(t.Context(), b)
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
		e := eventstore.Recorded{
			Stream: eventstore.StreamID(stream), Revision: eventstore.Revision(revision), Position: 1, Type: typ, Data: data,
		}
		s := open(t, oneEvent{storetest.NewMemory(ledger), e}, memorySlots(), status.View{})
		s.reach(e)
		if got := s.all(status.Query{}); len(got) != 1 || got[0].Stream != e.Stream {
			t.Errorf("got %+v, want the op of the event", got)
		}
	})
}
