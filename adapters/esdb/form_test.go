package esdb_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"

	"writ/adapters/esdb"
	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
)

// What would mean something else on the wire is never sent: behind the largest
// revision of the protocol stand 'no stream', 'any' and 'exists'.
func TestAppendRefusesWhatTheProtocolCannotSay(t *testing.T) {
	t.Parallel()
	server, addr := newScripted(t)
	server.append = func(streams.Streams_AppendServer) error {
		t.Error("the append was sent")
		return errors.New("refused")
	}
	s := open(t, options(addr))
	tests := map[string]struct {
		stream   eventstore.StreamID
		expected eventstore.Expected
	}{
		"the revision that is 'no stream'":   {"s", eventstore.At(math.MaxUint64)},
		"the revision that is 'any'":         {"s", eventstore.At(math.MaxUint64 - 1)},
		"the revision that is 'exists'":      {"s", eventstore.At(math.MaxUint64 - 3)},
		"the first negative one":             {"s", eventstore.At(math.MaxInt64 + 1)},
		"the revision of a tombstone":        {"s", eventstore.At(math.MaxInt64)},
		"one whose successor is a tombstone": {"s", eventstore.At(math.MaxInt64 - 1)},
		"the ledger's own stream":            {esdb.LedgerStream, eventstore.At(0)},
		"a stream's metadata":                {"$$s", eventstore.NoStream()},
		"no expectation":                     {"s", eventstore.Expected{}},
	}
	for name, c := range tests {
		var invalid *eventstore.InvalidError
		if _, err := s.Append(t.Context(), c.stream, c.expected, happened(1)); !errors.As(err, &invalid) {
			t.Errorf("%s: got error %v, want an *InvalidError", name, err)
		}
	}
}

// Nor is a read from behind it, which would begin at the end.
func TestReadFromBeyondAllRevisions(t *testing.T) {
	t.Parallel()
	r := newRig(t, esdb.Options{})
	if _, err := r.Append(t.Context(), "s", eventstore.NoStream(), happened(1)); err != nil {
		t.Fatal(err)
	}
	for _, from := range []eventstore.Revision{math.MaxInt64 - 1, math.MaxInt64, math.MaxInt64 + 1, math.MaxUint64 - 1, math.MaxUint64} {
		for e, err := range r.ReadStream(t.Context(), "s", from) {
			t.Errorf("from %d: got %v, %v, want nothing", from, e, err)
		}
	}
	for _, p := range []eventstore.Position{math.MaxInt64 + 1, math.MaxUint64} {
		for e, err := range r.ReadAll(t.Context(), eventstore.After(p), eventstore.Filter{}) {
			if err == nil {
				t.Errorf("behind %d: got %v, want no event", p, e)
			}
		}
		if err := last(r.Subscribe(t.Context(), eventstore.After(p), eventstore.Filter{})); err == nil {
			t.Errorf("subscribed behind %d: got no error", p)
		}
	}
}

// The ledger's own record is the store's: who reads the ledger gets what was
// appended to it, and nothing else.
func TestLedgersOwnRecordIsHidden(t *testing.T) {
	t.Parallel()
	r := newRig(t, esdb.Options{})
	if _, err := r.Append(t.Context(), "writ-ledgers", eventstore.NoStream(), happened(1)); err != nil {
		t.Fatal(err)
	}
	for _, filter := range []eventstore.Filter{{}, {StreamPrefixes: []string{"writ"}}, {StreamPrefixes: []string{"x", ""}}, {StreamPrefixes: []string{"$", "writ-ledger"}}} {
		var got []eventstore.StreamID
		for e, err := range r.ReadAll(t.Context(), eventstore.Cursor{}, filter) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, e.Stream)
		}
		if !slices.Equal(got, []eventstore.StreamID{"writ-ledgers"}) {
			t.Errorf("filter %q: got events of %q, want of writ-ledgers", filter.StreamPrefixes, got)
		}
	}
	for _, stream := range []eventstore.StreamID{esdb.LedgerStream, "$all", "$$s", ""} {
		if _, err := r.Head(t.Context(), stream); !errors.Is(err, eventstore.ErrStreamNotFound) {
			t.Errorf("head of %q: got %v, want ErrStreamNotFound", stream, err)
		}
		if err := last(r.ReadStream(t.Context(), stream, 0)); !errors.Is(err, eventstore.ErrStreamNotFound) {
			t.Errorf("%q: got %v, want ErrStreamNotFound", stream, err)
		}
	}
	if err := last(r.ReadAll(t.Context(), eventstore.Cursor{}, eventstore.Filter{StreamPrefixes: []string{"\xff"}})); err == nil {
		t.Error("a prefix that is not UTF-8: got no error")
	}
}

func TestCreate(t *testing.T) {
	t.Parallel()
	behind := storetest.NewFaulty(storetest.NewMemory("0000000000000000"))
	behind.OnAppend = storetest.FailNth(1, storetest.DoneButFailed)
	addr, _ := serve(t, behind, "")
	for _, id := range []eventstore.LedgerID{"", "3F9C2AB41D6E4A70", "3f9c2ab41d6e4a7", "3f9c2ab41d6e4a700"} {
		if err := esdb.Create(t.Context(), options(addr), id); err == nil {
			t.Errorf("ledger id %q: got no error", id)
		}
	}
	if s, err := esdb.Open(t.Context(), options(addr)); err == nil {
		s.Close()
		t.Error("opened before there was a ledger")
	}
	s := create(t, options(addr)) // though the first answer was lost
	if got := s.LedgerID(); got != ledgerID {
		t.Errorf("got ledger id %q, want %q", got, ledgerID)
	}
	if name := s.Name(); !strings.HasPrefix(name, "esdb-") || strings.ContainsAny(name, ": ") || name != open(t, options(addr)).Name() {
		t.Errorf("got name %q, want esdb- and what stays the same", name)
	}
	if err := esdb.Create(t.Context(), options(addr), ledgerID); err == nil || !strings.Contains(err.Error(), "holds a ledger already") {
		t.Errorf("created again: got error %v, want that there is one", err)
	}
	if got := ids(t, behind, esdb.LedgerStream); len(got) != 1 {
		t.Errorf("got %d records of the ledger, want 1", len(got))
	}
}

// Pages end by size too: a stream of large events is read whole, in parts.
func TestStreamOfLargeEvents(t *testing.T) {
	t.Parallel()
	r := newRig(t, esdb.Options{})
	var want []eventstore.EventID
	expected := eventstore.NoStream()
	for n := range 12 {
		e := happened(n)
		e.Data = fmt.Appendf(nil, `"%s"`, strings.Repeat("x", eventstore.MaxEventBytes-10))
		done, err := r.Append(t.Context(), "s", expected, e)
		if err != nil {
			t.Fatal(err)
		}
		expected = eventstore.At(done.Revision)
		want = append(want, e.ID)
	}
	if got := ids(t, r, "s"); !slices.Equal(got, want) {
		t.Errorf("got %d events, want %d", len(got), len(want))
	}
	n := 0
	for _, err := range r.ReadAll(t.Context(), eventstore.Cursor{}, eventstore.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != len(want) {
		t.Errorf("read all: got %d events, want %d", n, len(want))
	}
}
