package pebblestore_test

import (
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"writ/adapters/pebblestore"
	"writ/domain/eventstore"
)

// foreign gives events as another store has them: positions with gaps, streams
// of the store's own.
func foreign(n int) []eventstore.Recorded {
	all := make([]eventstore.Recorded, n)
	next := make(map[eventstore.StreamID]eventstore.Revision)
	at := eventstore.Position(167)
	for i := range all {
		stream := eventstore.StreamID([]string{"orders", "$$orders", "$stats", "accounts"}[i%4])
		p := proposal(stream, i, 1, 50+i%3*900)[0]
		all[i] = eventstore.Recorded{
			Stream: stream, Revision: next[stream], Position: at, ID: p.ID, Type: p.Type, Data: p.Data, Metadata: p.Metadata,
			RecordedAt: time.Unix(1_580_000_000, int64(i)*100).UTC(),
		}
		next[stream]++
		at += eventstore.Position(1 + i%5*130)
	}
	return all
}

func sequence(events []eventstore.Recorded) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for _, e := range events {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func ledgerFrom(t *testing.T, s *pebblestore.Store, after eventstore.Cursor) []eventstore.Recorded {
	t.Helper()
	var all []eventstore.Recorded
	for e, err := range s.ReadAll(t.Context(), after, eventstore.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

func sameEvents(t *testing.T, what string, got, want []eventstore.Recorded) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: got %d events, want %d", what, len(got), len(want))
	}
	for i := range got {
		if fmt.Sprint(got[i]) != fmt.Sprint(want[i]) {
			t.Fatalf("%s: event %d: got %v, want %v", what, i, got[i], want[i])
		}
	}
}

func TestImport(t *testing.T) {
	for _, n := range []int{0, 1, 5, 2500} {
		t.Run(fmt.Sprintf("%d events", n), func(t *testing.T) {
			o := small(vfs.NewMem())
			o.SystemStreams = true
			want := foreign(n)
			if err := pebblestore.Import("ledger", ledgerID, o, sequence(want)); err != nil {
				t.Fatal(err)
			}
			for life := range 3 { // each goes on with it
				s := reopen(t, o)
				sameEvents(t, "all", ledgerFrom(t, s, eventstore.Cursor{}), want)
				streams := make(map[eventstore.StreamID][]eventstore.Recorded)
				for i, e := range want {
					streams[e.Stream] = append(streams[e.Stream], e)
					if i%397 > 0 && i < len(want)-4 {
						continue
					}
					// From each place in the gap behind it too.
					for _, after := range []eventstore.Position{e.Position - 1, e.Position, e.Position + 1, e.Position + 60} {
						first := i
						for first < len(want) && want[first].Position <= after {
							first++
						}
						for got, err := range s.ReadAll(t.Context(), eventstore.After(after), eventstore.Filter{}) {
							if err != nil || fmt.Sprint(got) != fmt.Sprint(want[first]) {
								t.Fatalf("after %d: got %v, %v, want %v", after, got, err, want[first])
							}
							break
						}
					}
				}
				for stream, want := range streams {
					var got []eventstore.Recorded
					for e, err := range s.ReadStream(t.Context(), stream, 0) {
						if err != nil {
							t.Fatal(err)
						}
						got = append(got, e)
					}
					sameEvents(t, string(stream), got, want)
				}
				if err := s.Verify(t.Context(), nil); err != nil {
					t.Error(err)
				}
				stream := eventstore.StreamID(fmt.Sprintf("$$new-%d", life))
				answer, err := s.Append(t.Context(), stream, eventstore.NoStream(), proposal(stream, life, 1, 10)...)
				if err != nil || n > 0 && len(want) > 0 && answer.Position != want[len(want)-1].Position+1 {
					t.Fatalf("append: got %v, %v", answer, err)
				}
				head, err := s.Head(t.Context(), stream)
				if err != nil {
					t.Fatal(err)
				}
				want = append(want, head)
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// Subscriptions cross the gaps, and reach what is appended behind.
func TestSubscribeToWhatWasImported(t *testing.T) {
	o := small(vfs.NewMem())
	want := foreign(600)
	if err := pebblestore.Import("ledger", ledgerID, o, sequence(want)); err != nil {
		t.Fatal(err)
	}
	s := open(t, "ledger", o)
	n := 0
	for notice, err := range s.Subscribe(t.Context(), eventstore.After(168), eventstore.Filter{}) {
		switch {
		case err != nil:
			t.Fatal(err)
		case notice.Kind == eventstore.NewEvent && n == len(want)-2:
			return // the one that was appended
		case notice.Kind == eventstore.NewEvent:
			n++
		case notice.Kind == eventstore.CaughtUp:
			if n != len(want)-2 {
				t.Fatalf("caught up after %d events, want %d", n, len(want)-2)
			}
			goesOn(t, s, "op-new")
		}
	}
}

func TestImportRefuses(t *testing.T) {
	change := func(at int, change func(e *eventstore.Recorded)) []eventstore.Recorded {
		events := foreign(40)
		change(&events[at])
		return events
	}
	for name, c := range map[string]struct {
		events []eventstore.Recorded
		says   string
	}{
		"position 0":               {change(0, func(e *eventstore.Recorded) { e.Position = 0 }), "must grow"},
		"a position twice":         {change(9, func(e *eventstore.Recorded) { e.Position = foreign(40)[8].Position }), "must grow"},
		"a position from before":   {change(9, func(e *eventstore.Recorded) { e.Position = 167 }), "must grow"},
		"a position too far":       {change(39, func(e *eventstore.Recorded) { e.Position = 1 << 63 }), "stay below"},
		"a stream begun late":      {change(0, func(e *eventstore.Recorded) { e.Revision = 1 }), "next revision is 0"},
		"a revision left out":      {change(9, func(e *eventstore.Recorded) { e.Revision++ }), "next revision is 2"},
		"a revision twice":         {change(9, func(e *eventstore.Recorded) { e.Revision-- }), "next revision is 2"},
		"no id":                    {change(9, func(e *eventstore.Recorded) { e.ID = eventstore.EventID{} }), "no id"},
		"no type":                  {change(9, func(e *eventstore.Recorded) { e.Type = "" }), "type"},
		"no stream":                {change(9, func(e *eventstore.Recorded) { e.Stream = "" }), "no name"},
		"too large":                {change(9, func(e *eventstore.Recorded) { e.Data = make([]byte, 1<<20) }), "bytes"},
		"no time":                  {change(9, func(e *eventstore.Recorded) { e.RecordedAt = time.Time{} }), "between 1970"},
		"a time in the far future": {change(9, func(e *eventstore.Recorded) { e.RecordedAt = time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC) }), "between 1970"},
	} {
		t.Run(name, func(t *testing.T) {
			o := small(vfs.NewMem())
			wantError(t, pebblestore.Import("ledger", ledgerID, o, sequence(c.events)), c.says)
			_, err := pebblestore.Open("ledger", o)
			wantError(t, err, "not a ledger")
		})
	}
	t.Run("a source that fails", func(t *testing.T) {
		o, broken := small(vfs.NewMem()), errors.New("cable pulled")
		err := pebblestore.Import("ledger", ledgerID, o, func(yield func(eventstore.Recorded, error) bool) {
			_ = yield(foreign(1)[0], nil) && yield(eventstore.Recorded{}, broken)
		})
		wantError(t, err, "cable pulled")
		_, err = pebblestore.Open("ledger", o)
		wantError(t, err, "not a ledger")
	})
	t.Run("a ledger that is there", func(t *testing.T) {
		o := small(vfs.NewMem())
		goesOn(t, create(t, "ledger", o), "op-1")
		wantError(t, pebblestore.Import("ledger", ledgerID, o, sequence(foreign(1))), "not empty")
	})
}

func TestSystemStreams(t *testing.T) {
	long := eventstore.StreamID(strings.Repeat("x", eventstore.MaxNameBytes))
	for name, c := range map[string]struct {
		stream    eventstore.StreamID
		with, not bool // accepted with the option, and without
	}{
		"ordinary":                  {"orders", true, true},
		"metadata":                  {"$$orders", true, false},
		"the store's":               {"$stats", true, false},
		"metadata of the store's":   {"$$$stats", true, false},
		"longest":                   {long, true, true},
		"metadata of the longest":   {"$$" + long, true, false},
		"metadata of one too long":  {"$$x" + long, false, false},
		"one too long":              {"x" + long, false, false},
		"more dollars than that":    {"$$$$stats", false, false},
		"nothing behind the dollar": {"$$", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			for _, system := range []bool{false, true} {
				o := small(vfs.NewMem())
				o.SystemStreams = system
				s := create(t, "ledger", o)
				_, err := s.Append(t.Context(), c.stream, eventstore.NoStream(), proposal(c.stream, 0, 1, 10)...)
				var invalid *eventstore.InvalidError
				if accepted := map[bool]bool{true: c.with, false: c.not}[system]; accepted != (err == nil) ||
					!accepted && (!errors.As(err, &invalid) || invalid.Stream != c.stream) {
					t.Errorf("system streams %t: got %v, want it accepted: %t", system, err, accepted)
				}
			}
		})
	}
}
