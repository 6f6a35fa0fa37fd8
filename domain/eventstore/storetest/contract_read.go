package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"writ/domain/eventstore"
)

func (s Suite) readingStreams(t *testing.T) {
	t.Run("from any revision to the end", s.readFrom)
	t.Run("that has no events says so", s.readMissing)
	t.Run("sees what was acknowledged before the call", s.readYourWrites)
	t.Run("may stop early", s.stopEarly)
	t.Run("ends with the context's error", s.cancelledRead)
}

func (s Suite) readFrom(t *testing.T) {
	f := s.open(t)
	one, two := f.stream("from"), f.stream("from-")
	var want []eventstore.Recorded
	for _, e := range f.grow(t, 600, one, two) { // more than one page of any store
		if e.Stream == one {
			want = append(want, e)
		}
	}
	for _, from := range []int{0, 1, 2, 150, len(want) - 1} {
		same(t, fmt.Sprint("from ", from), f.read(t, one, eventstore.Revision(from)), want[from:])
	}
	for _, beyond := range []eventstore.Revision{eventstore.Revision(len(want)), eventstore.Revision(len(want)) + 1, 1 << 40} {
		for e, err := range f.ReadStream(f.ctx, one, beyond) {
			t.Errorf("from %d, beyond the end: got %s, %v, want nothing", beyond, show(e), err)
		}
	}
	head, err := f.Head(f.ctx, one)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "head", []eventstore.Recorded{head}, want[len(want)-1:])
	sequence := f.ReadStream(f.ctx, one, 0)
	for time := range 2 {
		n := 0
		for _, err := range sequence {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if n != len(want) {
			t.Errorf("ranged over for time %d: got %d events, want %d", time, n, len(want))
		}
	}
}

func (s Suite) readMissing(t *testing.T) {
	f := s.open(t)
	f.grow(t, 2, f.stream("miss"), f.stream("missing-not"))
	missing := f.stream("missing")
	for _, from := range []eventstore.Revision{0, 1, 1 << 40} {
		n := 0
		for e, err := range f.ReadStream(f.ctx, missing, from) {
			n++
			if !errors.Is(err, eventstore.ErrStreamNotFound) || e.ID != (eventstore.EventID{}) {
				t.Errorf("from %d: got %s, %v, want a zero event and ErrStreamNotFound", from, show(e), err)
			}
		}
		if n != 1 {
			t.Errorf("from %d: got %d elements, want 1", from, n)
		}
	}
	if e, err := f.Head(f.ctx, missing); !errors.Is(err, eventstore.ErrStreamNotFound) {
		t.Errorf("head: got %s, %v, want ErrStreamNotFound", show(e), err)
	}
}

func (s Suite) readYourWrites(t *testing.T) {
	f := s.open(t)
	together(8, func(i int) {
		stream := f.stream(fmt.Sprint("own-writes-", i))
		expected := eventstore.NoStream()
		var at eventstore.Cursor
		for n := range max(s.Rounds/10, 2) {
			e := event()
			done, err := f.settle(stream, expected, e)
			if err != nil {
				t.Error(err)
				return
			}
			head, err := f.Head(f.ctx, stream)
			if err != nil || head.ID != e.ID {
				t.Errorf("%s@%d: got head %s, %v", stream, n, show(head), err)
			}
			var last eventstore.Recorded
			for r, err := range f.ReadStream(f.ctx, stream, done.Revision) {
				if err != nil {
					t.Error(err)
				}
				last = r
			}
			if last.ID != e.ID {
				t.Errorf("%s@%d: reading the stream gave %s", stream, n, show(last))
			}
			for r, err := range f.ReadAll(f.ctx, at, eventstore.Filter{StreamPrefixes: []string{string(stream)}}) {
				if err != nil {
					t.Error(err)
				}
				last = r
			}
			if last.ID != e.ID || last.Position != done.Position {
				t.Errorf("%s@%d: reading all gave %s", stream, n, show(last))
			}
			expected, at = eventstore.At(done.Revision), eventstore.After(done.Position)
		}
	})
}

func (s Suite) stopEarly(t *testing.T) {
	f := s.open(t)
	stream := f.stream("early")
	want := f.grow(t, 10, stream)
	for range 3 {
		for e, err := range f.ReadStream(f.ctx, stream, 0) {
			if err != nil || e.ID != want[0].ID {
				t.Fatalf("got %s, %v, want the first event", show(e), err)
			}
			break
		}
		for e, err := range f.ReadAll(f.ctx, eventstore.Cursor{}, f.mine()) {
			if err != nil || e.ID != want[0].ID {
				t.Fatalf("got %s, %v, want the first event", show(e), err)
			}
			break
		}
	}
	f.add(t, stream, eventstore.At(9), event())
}

func (s Suite) cancelledRead(t *testing.T) {
	f := s.open(t)
	stream := f.stream("cancelled")
	want := f.grow(t, 300, stream)
	ended, cancel := context.WithCancel(f.ctx)
	cancel()
	if _, err := f.Head(ended, stream); !errors.Is(err, context.Canceled) {
		t.Errorf("head: got error %v, want the context's", err)
	}
	for name, read := range map[string]func(ctx context.Context, each func(eventstore.Recorded, error) bool){
		"ReadStream": func(ctx context.Context, each func(eventstore.Recorded, error) bool) {
			f.ReadStream(ctx, stream, 0)(each)
		},
		"ReadAll": func(ctx context.Context, each func(eventstore.Recorded, error) bool) {
			f.ReadAll(ctx, eventstore.Cursor{}, f.mine())(each)
		},
	} {
		var last error
		read(ended, func(_ eventstore.Recorded, err error) bool { last = err; return true })
		if !errors.Is(last, context.Canceled) {
			t.Errorf("%s with a context that has ended: got error %v, want the context's", name, last)
		}
		ctx, cancel := context.WithCancel(f.ctx)
		n := 0
		read(ctx, func(_ eventstore.Recorded, err error) bool {
			last = err
			if err == nil {
				n++
			}
			cancel()
			return true
		})
		if n < len(want) && !errors.Is(last, context.Canceled) {
			t.Errorf("%s cancelled while reading: got %d of %d events, then %v, want the context's error", name, n, len(want), last)
		}
	}
}

func (s Suite) readingAll(t *testing.T) {
	t.Run("gives every event once, in order of position", s.allInOrder)
	t.Run("begins behind a cursor", s.allBehind)
	t.Run("gives what passes the filter", s.allFiltered)
	t.Run("ends where the ledger ended at the call", s.allEnds)
}

func (s Suite) allInOrder(t *testing.T) {
	f := s.open(t)
	want := f.grow(t, 600, f.stream("a"), f.stream("b"), f.stream("c"))
	same(t, "with a filter", f.readAll(t, eventstore.Cursor{}, f.mine()), want)
	var mine []eventstore.Recorded
	for _, e := range f.readAll(t, eventstore.Cursor{}, eventstore.Filter{}) {
		if f.mine().Passes(e.Stream) {
			mine = append(mine, e)
		}
	}
	same(t, "without a filter", mine, want)
	for i := 1; i < len(want); i++ {
		if want[i].Position <= want[i-1].Position {
			t.Fatalf("event %d was answered position %d, the one before it %d: want them to grow", i, want[i].Position, want[i-1].Position)
		}
	}
	for _, name := range []string{"a", "b", "c"} {
		of := slices.DeleteFunc(slices.Clone(want), func(e eventstore.Recorded) bool { return e.Stream != f.stream(name) })
		same(t, "stream "+name, f.read(t, f.stream(name), 0), of)
	}
}

func (s Suite) allBehind(t *testing.T) {
	f := s.open(t)
	want := f.grow(t, 20, f.stream("a"), f.stream("b"))
	for i, e := range want {
		same(t, fmt.Sprint("behind event ", i), f.readAll(t, eventstore.After(e.Position), f.mine()), want[i+1:])
		// A cursor may well stand at an event that does not pass.
		of := slices.DeleteFunc(slices.Clone(want[i+1:]), func(e eventstore.Recorded) bool { return e.Stream != f.stream("a") })
		same(t, fmt.Sprint("of a, behind event ", i), f.readAll(t, eventstore.After(e.Position), f.mine("a")), of)
	}
}

func (s Suite) allFiltered(t *testing.T) {
	f := s.open(t)
	want := f.grow(t, 30, f.stream("op-1"), f.stream("op-2"), f.stream("gate-1"), f.stream("o"), f.stream("policy"))
	for name, filter := range map[string]eventstore.Filter{
		"one prefix":            f.mine("op-"),
		"two prefixes":          f.mine("gate-", "policy"),
		"prefixes that overlap": f.mine("o", "op-", "op-1"),
		"a whole name":          f.mine("op-2"),
		"no such name":          f.mine("none"),
		"all":                   f.mine(),
	} {
		passing := slices.DeleteFunc(slices.Clone(want), func(e eventstore.Recorded) bool { return !filter.Passes(e.Stream) })
		same(t, name, f.readAll(t, eventstore.Cursor{}, filter), passing)
	}
}

func (s Suite) allEnds(t *testing.T) {
	f := s.open(t)
	stream := f.stream("ends")
	want := f.grow(t, 5, stream)
	var got []eventstore.Recorded
	for e, err := range f.ReadAll(f.ctx, eventstore.Cursor{}, f.mine()) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e)
		if len(got) > len(want) {
			break
		}
		f.grow(t, 1, stream)
	}
	same(t, "while each event read makes a new one", got, want)
}
