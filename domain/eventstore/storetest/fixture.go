package storetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"
	"time"

	"writ/domain/eventstore"
)

// patience bounds each test: a store that hangs fails instead.
const patience = 2 * time.Minute

// A fixture is one test's store, with stream names that nobody else uses.
type fixture struct {
	eventstore.Store
	ctx    context.Context //nolint:containedctx // lives as long as one test
	prefix string
}

func (s Suite) open(t *testing.T) *fixture {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return &fixture{Store: s.Open(t), ctx: ctx, prefix: "t" + hex.EncodeToString(random(8)) + "-"}
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

// stream gives a name that only this test uses.
func (f *fixture) stream(name string) eventstore.StreamID {
	return eventstore.StreamID(f.prefix + name)
}

// mine passes this test's streams whose names begin so.
func (f *fixture) mine(names ...string) eventstore.Filter {
	if len(names) == 0 {
		names = []string{""}
	}
	var filter eventstore.Filter
	for _, n := range names {
		filter.StreamPrefixes = append(filter.StreamPrefixes, f.prefix+n)
	}
	return filter
}

// event proposes an event that differs from every other.
func event() eventstore.Proposed {
	id := eventstore.EventID(random(16))
	return eventstore.Proposed{ID: id, Type: "Happened", Data: fmt.Appendf(nil, `{"it":"%x"}`, id), Metadata: []byte(`{"chain":"00"}`)}
}

func several(n int) []eventstore.Proposed {
	events := make([]eventstore.Proposed, n)
	for i := range events {
		events[i] = event()
	}
	return events
}

// settle appends as the port tells a caller to: it repeats until the answer is
// definite.
func (f *fixture) settle(stream eventstore.StreamID, expected eventstore.Expected, events ...eventstore.Proposed) (eventstore.Appended, error) {
	for {
		done, err := f.Append(f.ctx, stream, expected, events...)
		if err == nil || eventstore.Definite(err) || f.ctx.Err() != nil {
			return done, err
		}
	}
}

// add appends what must succeed.
func (f *fixture) add(t *testing.T, stream eventstore.StreamID, expected eventstore.Expected, events ...eventstore.Proposed) eventstore.Appended {
	t.Helper()
	done, err := f.settle(stream, expected, events...)
	if err != nil {
		t.Fatalf("append %d events to %s at %s: got error %v, want none", len(events), stream, expected, err)
	}
	if want := expected.Next() + eventstore.Revision(len(events)) - 1; done.Revision != want {
		t.Fatalf("append %d events to %s at %s: got revision %d, want %d", len(events), stream, expected, done.Revision, want)
	}
	return done
}

// grow appends single events to the end of streams, in turns, and gives them
// in order.
func (f *fixture) grow(t *testing.T, n int, streams ...eventstore.StreamID) []eventstore.Recorded {
	t.Helper()
	expected := make(map[eventstore.StreamID]eventstore.Expected)
	for _, s := range streams {
		expected[s] = f.end(t, s)
	}
	var all []eventstore.Recorded
	for i := range n {
		s := streams[i%len(streams)]
		e := event()
		done := f.add(t, s, expected[s], e)
		expected[s] = eventstore.At(done.Revision)
		all = append(all, recorded(s, done, e))
	}
	return all
}

// recorded is what an append of one event must have put on record.
func recorded(stream eventstore.StreamID, done eventstore.Appended, e eventstore.Proposed) eventstore.Recorded {
	return eventstore.Recorded{
		Stream: stream, Revision: done.Revision, Position: done.Position,
		ID: e.ID, Type: e.Type, Data: e.Data, Metadata: e.Metadata,
	}
}

// end gives the expectation that holds of a stream now.
func (f *fixture) end(t *testing.T, stream eventstore.StreamID) eventstore.Expected {
	t.Helper()
	head, err := f.Head(f.ctx, stream)
	if errors.Is(err, eventstore.ErrStreamNotFound) {
		return eventstore.NoStream()
	}
	if err != nil {
		t.Fatalf("head of %s: got error %v, want none", stream, err)
	}
	return eventstore.At(head.Revision)
}

// read gives all events of a stream; none if there is no stream.
func (f *fixture) read(t *testing.T, stream eventstore.StreamID, from eventstore.Revision) []eventstore.Recorded {
	t.Helper()
	var all []eventstore.Recorded
	for e, err := range f.ReadStream(f.ctx, stream, from) {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			return nil
		}
		if err != nil {
			t.Fatalf("read %s from %d: got error %v after %d events, want none", stream, from, err, len(all))
		}
		all = append(all, e)
	}
	return all
}

// readAll gives what passes a filter, to the end of the ledger.
func (f *fixture) readAll(t *testing.T, after eventstore.Cursor, filter eventstore.Filter) []eventstore.Recorded {
	t.Helper()
	var all []eventstore.Recorded
	for e, err := range f.ReadAll(f.ctx, after, filter) {
		if err != nil {
			t.Fatalf("read all: got error %v after %d events, want none", err, len(all))
		}
		all = append(all, e)
	}
	return all
}

// same compares events but for the time of record.
func same(t *testing.T, what string, got, want []eventstore.Recorded) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		g, w := got[i], want[i]
		if g.Stream != w.Stream || g.Revision != w.Revision || g.Position != w.Position || g.ID != w.ID || g.Type != w.Type ||
			!bytes.Equal(g.Data, w.Data) || !bytes.Equal(g.Metadata, w.Metadata) {
			t.Fatalf("%s: event %d: got %s, want %s", what, i, show(g), show(w))
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%s: got %d events, want %d", what, len(got), len(want))
	}
}

func show(e eventstore.Recorded) string {
	return fmt.Sprintf("%s@%d (position %d, id %x, type %q, data %.80q, metadata %.80q)",
		e.Stream, e.Revision, e.Position, e.ID, e.Type, e.Data, e.Metadata)
}

// holds checks that a stream consists of exactly these events.
func (f *fixture) holds(t *testing.T, stream eventstore.StreamID, want ...eventstore.Proposed) {
	t.Helper()
	got := f.read(t, stream, 0)
	all := make([]eventstore.Recorded, len(want))
	for i, e := range want {
		all[i] = recorded(stream, eventstore.Appended{Revision: eventstore.Revision(i)}, e)
		if i < len(got) {
			all[i].Position = got[i].Position // not known beforehand
		}
	}
	same(t, "stream "+string(stream), got, all)
}

// refused checks that an error proves that the stream was not as expected.
func refused(t *testing.T, err error, stream eventstore.StreamID, expected, actual eventstore.Expected) {
	t.Helper()
	var wrong *eventstore.WrongRevisionError
	if !errors.As(err, &wrong) {
		t.Fatalf("append to %s at %s: got error %v, want a *WrongRevisionError", stream, expected, err)
	}
	if wrong.Stream != stream || wrong.Expected != expected {
		t.Errorf("append to %s at %s: the error speaks of %s at %s", stream, expected, wrong.Stream, wrong.Expected)
	}
	if wrong.Actual.Valid() && wrong.Actual != actual {
		t.Errorf("append to %s at %s: the error says the stream is at %s, want %s", stream, expected, wrong.Actual, actual)
	}
}
