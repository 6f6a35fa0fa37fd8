package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"writ/domain/eventstore"
)

func (s Suite) appending(t *testing.T) {
	t.Run("takes effect only if the stream is exactly as expected", s.expectedRevision)
	t.Run("without an expectation that can be met is refused", s.noExpectation)
	t.Run("puts all its events on record, in order", s.severalEvents)
	t.Run("that breaks the form is refused", s.badForm)
	t.Run("up to the limits is taken", s.limits)
	t.Run("keeps names and bytes as they are", s.bytesKept)
	t.Run("leaves the caller's slices to the caller", s.ownSlices)
	t.Run("with a context that has ended is settled by repeating it", s.cancelledAppend)
	t.Run("is stamped in UTC", s.recordedAt)
}

func (s Suite) expectedRevision(t *testing.T) {
	f := s.open(t)
	expectations := []eventstore.Expected{eventstore.NoStream()}
	for _, r := range []eventstore.Revision{0, 1, 2, 3, 4, 1 << 40} {
		expectations = append(expectations, eventstore.At(r))
	}
	for length := range 4 {
		stream := f.stream(fmt.Sprintf("length-%d", length))
		f.grow(t, length, stream)
		is := f.end(t, stream)
		before := f.read(t, stream, 0)
		for _, expected := range expectations {
			if expected == is {
				continue
			}
			_, err := f.settle(stream, expected, event())
			refused(t, err, stream, expected, is)
			same(t, "after a refused append", f.read(t, stream, 0), before)
		}
		e := event()
		done := f.add(t, stream, is, e)
		same(t, "after the append", f.read(t, stream, 0), append(before, recorded(stream, done, e)))
	}
}

func (s Suite) noExpectation(t *testing.T) {
	f := s.open(t)
	stream := f.stream("none")
	for range 2 { // on no stream, and on one
		before := f.read(t, stream, 0)
		_, err := f.Append(f.ctx, stream, eventstore.Expected{}, event())
		invalid(t, err)
		// The next revision is 0 again, which a new stream has.
		_, err = f.Append(f.ctx, stream, eventstore.At(math.MaxUint64), event())
		invalid(t, err)
		same(t, "after a refused append", f.read(t, stream, 0), before)
		f.grow(t, 1, stream)
	}
}

func invalid(t *testing.T, err error) {
	t.Helper()
	var refused *eventstore.InvalidError
	if !errors.As(err, &refused) {
		t.Fatalf("got error %v, want an *InvalidError", err)
	}
}

func (s Suite) severalEvents(t *testing.T) {
	f := s.open(t)
	stream := f.stream("several")
	var all []eventstore.Proposed
	expected := eventstore.NoStream()
	for _, n := range []int{1, 2, 3, 17, eventstore.MaxAppendEvents} {
		events := several(n)
		done := f.add(t, stream, expected, events...)
		all = append(all, events...)
		expected = eventstore.At(done.Revision)
		head, err := f.Head(f.ctx, stream)
		if err != nil || head.Revision != done.Revision || head.Position != done.Position {
			t.Fatalf("after an append answered %+v: got head %s, %v", done, show(head), err)
		}
	}
	f.holds(t, stream, all...)
	got := f.read(t, stream, 0)
	for i := 1; i < len(got); i++ {
		if got[i].Position <= got[i-1].Position {
			t.Fatalf("revision %d has position %d, the one before it %d: want them to grow", i, got[i].Position, got[i-1].Position)
		}
	}

	_, err := f.settle(stream, eventstore.NoStream(), several(5)...)
	refused(t, err, stream, eventstore.NoStream(), expected)
	f.holds(t, stream, all...)
}

func (s Suite) badForm(t *testing.T) {
	f := s.open(t)
	stream := f.stream("form")
	with := func(change func(e *eventstore.Proposed)) []eventstore.Proposed {
		events := several(2)
		change(&events[1])
		return events
	}
	twice := event()
	cases := []struct {
		name   string
		stream eventstore.StreamID
		events []eventstore.Proposed
	}{
		{"no event", stream, nil},
		{"too many events", stream, several(eventstore.MaxAppendEvents + 1)},
		{"stream without a name", "", several(1)},
		{"stream of the store", "$" + stream, several(1)},
		{"name of the stream too long", stream + eventstore.StreamID(strings.Repeat("x", eventstore.MaxNameBytes)), several(1)},
		{"event without an id", stream, with(func(e *eventstore.Proposed) { e.ID = eventstore.EventID{} })},
		{"an id twice", stream, []eventstore.Proposed{twice, event(), twice}},
		{"event without a type", stream, with(func(e *eventstore.Proposed) { e.Type = "" })},
		{"type too long", stream, with(func(e *eventstore.Proposed) { e.Type = strings.Repeat("x", eventstore.MaxNameBytes+1) })},
		{"data too large", stream, with(func(e *eventstore.Proposed) { e.Data = make([]byte, eventstore.MaxEventBytes+1) })},
		{"data plus metadata too large", stream, with(func(e *eventstore.Proposed) {
			e.Data, e.Metadata = make([]byte, eventstore.MaxEventBytes/2), make([]byte, eventstore.MaxEventBytes/2+1)
		})},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := f.Append(f.ctx, c.stream, eventstore.NoStream(), c.events...)
			invalid(t, err)
			f.holds(t, stream)
		})
	}
}

func (s Suite) limits(t *testing.T) {
	f := s.open(t)
	name := f.stream("")
	name += eventstore.StreamID(strings.Repeat("n", eventstore.MaxNameBytes-len(name)))
	large := event()
	large.Type = strings.Repeat("T", eventstore.MaxNameBytes)
	large.Data = bytes.Repeat([]byte{0, 'x', 0xff}, eventstore.MaxEventBytes/3)
	large.Metadata = nil
	f.add(t, name, eventstore.NoStream(), large)
	many := several(eventstore.MaxAppendEvents)
	f.add(t, name, eventstore.At(0), many...)
	f.holds(t, name, append([]eventstore.Proposed{large}, many...)...)
}

func (s Suite) bytesKept(t *testing.T) {
	f := s.open(t)
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	// Names that a careless key or URL would mix up.
	names := []string{"a", "a\x00", "a\x00\x00", "a\x01", "ab", "a/b", "a%2fb", "A", "ä", "a b", "a-0", "a-00"}
	contents := [][2][]byte{{nil, nil}, {{}, {}}, {every, nil}, {nil, every}, {every, every}, {{0}, {0}}, {[]byte(`{"a":1.0,"a":2}`), []byte(" {} ")}}
	want := make(map[eventstore.StreamID][]eventstore.Proposed)
	for _, n := range names {
		for i, c := range contents {
			e := event()
			e.Type, e.Data, e.Metadata = "Type "+n, c[0], c[1]
			expected := eventstore.NoStream()
			if i > 0 {
				expected = eventstore.At(eventstore.Revision(i - 1))
			}
			f.add(t, f.stream(n), expected, e)
			want[f.stream(n)] = append(want[f.stream(n)], e)
		}
	}
	for stream, events := range want {
		f.holds(t, stream, events...)
	}
}

func (s Suite) ownSlices(t *testing.T) {
	f := s.open(t)
	stream := f.stream("own")
	e := event()
	kept := e
	kept.Data, kept.Metadata = bytes.Clone(e.Data), bytes.Clone(e.Metadata)
	f.add(t, stream, eventstore.NoStream(), e)
	spoil := func(data, metadata []byte) {
		for _, b := range [][]byte{data, metadata} {
			for i := range b {
				b[i] = '!'
			}
		}
	}
	spoil(e.Data, e.Metadata)
	f.holds(t, stream, kept)
	for _, r := range f.read(t, stream, 0) {
		spoil(r.Data, r.Metadata)
	}
	for _, r := range f.readAll(t, eventstore.Cursor{}, f.mine()) {
		spoil(r.Data, r.Metadata)
	}
	head, err := f.Head(f.ctx, stream)
	if err != nil {
		t.Fatal(err)
	}
	spoil(head.Data, head.Metadata)
	for n, err := range f.Subscribe(f.ctx, eventstore.Cursor{}, f.mine()) {
		if err != nil {
			t.Fatal(err)
		}
		spoil(n.Event.Data, n.Event.Metadata)
		if n.Kind == eventstore.CaughtUp {
			break
		}
	}
	f.holds(t, stream, kept)
}

func (s Suite) cancelledAppend(t *testing.T) {
	f := s.open(t)
	stream := f.stream("cancelled")
	ctx, cancel := context.WithCancel(f.ctx)
	cancel()
	e := event()
	_, err := f.Append(ctx, stream, eventstore.NoStream(), e)
	if err == nil || eventstore.Definite(err) {
		t.Fatalf("with a cancelled context: got error %v, want one that is not definite", err)
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("with a cancelled context: got error %v, want the context's inside", err)
	}
	f.add(t, stream, eventstore.NoStream(), e)
	f.holds(t, stream, e)

	_, err = f.Append(ctx, stream, eventstore.Expected{}, e)
	invalid(t, err)
}

func (s Suite) recordedAt(t *testing.T) {
	f := s.open(t)
	stream := f.stream("time")
	f.add(t, stream, eventstore.NoStream(), several(2)...)
	for _, e := range f.read(t, stream, 0) {
		if e.RecordedAt.IsZero() || e.RecordedAt.Location() != time.UTC {
			t.Errorf("revision %d: recorded at %v, want a time in UTC", e.Revision, e.RecordedAt)
		}
	}
	first, second := f.read(t, stream, 0), f.read(t, stream, 0)
	for i := range first {
		if !first[i].RecordedAt.Equal(second[i].RecordedAt) {
			t.Errorf("revision %d: recorded at %v, the second time %v", i, first[i].RecordedAt, second[i].RecordedAt)
		}
	}
}
