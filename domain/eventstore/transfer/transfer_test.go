package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
	"writ/domain/eventstore/transfer"
	"writ/domain/op"
)

const ledgerID = "3f9c2ab41d6e4a70"

// chained checks a stream as the service writes it.
func chained(stream eventstore.StreamID) func(eventstore.Recorded) error {
	tail := op.Tail{}
	return func(e eventstore.Recorded) error {
		next, err := tail.Check(ledgerID, string(stream), op.Record{
			Revision: uint64(e.Revision), ID: op.ID(e.ID), Type: e.Type, Data: e.Data, Metadata: e.Metadata,
		})
		tail = next
		return err
	}
}

// A writer appends chained events, as the service would.
type writer struct {
	store eventstore.Store
	tails map[string]op.Tail
}

func (w *writer) add(t *testing.T, stream string, n int) {
	t.Helper()
	for range n {
		tail := w.tails[stream]
		rec, after, err := tail.Seal(ledgerID, stream, strings.TrimPrefix(stream, "op-"), "Happened", fmt.Appendf(nil, `{"n":%d}`, tail.Next))
		if err != nil {
			t.Fatal(err)
		}
		put(t, w.store, eventstore.StreamID(stream), eventstore.Revision(rec.Revision), eventstore.Proposed{
			ID: eventstore.EventID(rec.ID), Type: rec.Type, Data: rec.Data, Metadata: rec.Metadata,
		})
		w.tails[stream] = after
	}
}

func put(t *testing.T, s eventstore.Store, stream eventstore.StreamID, at eventstore.Revision, e eventstore.Proposed) {
	t.Helper()
	expected := eventstore.NoStream()
	if at > 0 {
		expected = eventstore.At(at - 1)
	}
	if _, err := s.Append(t.Context(), stream, expected, e); err != nil {
		t.Fatal(err)
	}
}

// ledger makes a store with 47 events in five streams.
func ledger(t *testing.T) (*storetest.Memory, *writer) {
	t.Helper()
	m := storetest.NewMemory(ledgerID)
	w := &writer{store: m, tails: make(map[string]op.Tail)}
	w.add(t, "policy", 1)
	for n := range 10 {
		w.add(t, fmt.Sprintf("op-%032x", n%3), 1+n%4)
		w.add(t, "gate-i-1", n%5)
	}
	w.add(t, "policy", 3)
	return m, w
}

func all(t *testing.T, s eventstore.Store) []eventstore.Recorded {
	t.Helper()
	var all []eventstore.Recorded
	for e, err := range s.ReadAll(t.Context(), eventstore.Cursor{}, eventstore.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	return all
}

// equal checks that the target holds what the source does, in the same order.
func equal(t *testing.T, target, source eventstore.Store) {
	t.Helper()
	got, want := all(t, target), all(t, source)
	if len(got) != len(want) {
		t.Fatalf("got %d events, want %d", len(got), len(want))
	}
	for i, g := range got {
		w := want[i]
		if g.Stream != w.Stream || g.Revision != w.Revision || g.ID != w.ID || g.Type != w.Type || !bytes.Equal(g.Data, w.Data) || !bytes.Equal(g.Metadata, w.Metadata) {
			t.Fatalf("event %d: got revision %d of %s, want revision %d of %s, equal in everything", i, g.Revision, g.Stream, w.Revision, w.Stream)
		}
	}
}

func TestCopy(t *testing.T) {
	source, _ := ledger(t)
	target := storetest.NewMemory(ledgerID)
	var told []transfer.Progress
	report, err := transfer.Copy(t.Context(), source, target, transfer.Options{Chain: chained, Progress: func(p transfer.Progress) { told = append(told, p) }})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, target, source)
	n := uint64(len(all(t, source)))
	if report.Events != n || report.Copied != n || report.Streams != 5 || report.Foreign != 0 || report.Broken != 0 {
		t.Errorf("got %+v, want %d events in 5 streams, all copied", report, n)
	}
	for i := 1; i < len(told); i++ {
		if told[i].Phase < told[i-1].Phase {
			t.Errorf("got %s after %s", told[i].Phase, told[i-1].Phase)
		}
	}
	// Again: there is nothing left to do.
	report, err = transfer.Copy(t.Context(), source, target, transfer.Options{Chain: chained})
	if err != nil || report.Copied != 0 || report.Events != n {
		t.Errorf("the second time: got %+v, %v, want nothing copied", report, err)
	}
	equal(t, target, source)
}

func TestCopyAnEmptyLedger(t *testing.T) {
	report, err := transfer.Copy(t.Context(), storetest.NewMemory(ledgerID), storetest.NewMemory(ledgerID), transfer.Options{Chain: chained})
	if err != nil || report.Events != 0 {
		t.Errorf("got %+v, %v, want nothing", report, err)
	}
}

// Whatever append the copy dies at, and whether that one got there or not, the
// next call goes on from there.
func TestCopyIsResumed(t *testing.T) {
	source, _ := ledger(t)
	for n, died := 1, true; died; n++ {
		for _, there := range []bool{false, true} {
			memory := storetest.NewMemory(ledgerID)
			first := storetest.NewFaulty(memory)
			ctx, cancel := context.WithCancel(t.Context())
			die := func(c storetest.AppendCall) {
				if c.N == n {
					first.Cut()
					cancel()
				}
			}
			if there {
				first.After = func(c storetest.AppendCall, _ eventstore.Appended, _ error) { die(c) }
			} else {
				first.Before = die
			}
			_, err := transfer.Copy(ctx, source, first, transfer.Options{Chain: chained})
			cancel()
			if died = err != nil; !died {
				continue
			}
			before := uint64(len(all(t, memory)))
			report, err := transfer.Copy(t.Context(), source, memory, transfer.Options{Chain: chained})
			if err != nil {
				t.Fatalf("died at append %d, there %t: %v", n, there, err)
			}
			equal(t, memory, source)
			if report.Copied+before != report.Events {
				t.Errorf("died at append %d: %d were there, got %+v", n, before, report)
			}
		}
	}
}

// An append whose outcome is unknown is repeated, whether it got there or not.
func TestCopyGetsOverUnknownOutcomes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, _ := ledger(t)
		memory := storetest.NewMemory(ledgerID)
		target := storetest.NewFaulty(memory)
		target.OnAppend = func(c storetest.AppendCall) storetest.Fault {
			return []storetest.Fault{0, storetest.Lost, storetest.DoneButFailed, storetest.Lost}[c.N%4]
		}
		if _, err := transfer.Copy(t.Context(), source, target, transfer.Options{Chain: chained}); err != nil {
			t.Fatal(err)
		}
		equal(t, memory, source)
	})
}

func TestCopyRefuses(t *testing.T) {
	other := eventstore.Proposed{ID: eventstore.EventID{9}, Type: "Other", Data: []byte(`{}`)}
	tests := map[string]struct {
		prepare func(t *testing.T, target *storetest.Memory, source eventstore.Store)
		stream  eventstore.StreamID
	}{
		"another event under the first name": {func(t *testing.T, target *storetest.Memory, _ eventstore.Store) {
			t.Helper()
			put(t, target, "policy", 0, other)
		}, "policy"},
		"another event under a later name": {func(t *testing.T, target *storetest.Memory, _ eventstore.Store) {
			t.Helper()
			put(t, target, "gate-i-1", 0, other)
		}, "gate-i-1"},
		"the first events, then another one": {func(t *testing.T, target *storetest.Memory, source eventstore.Store) {
			t.Helper()
			for _, e := range all(t, source)[:5] {
				put(t, target, e.Stream, e.Revision, eventstore.Proposed{ID: e.ID, Type: e.Type, Data: e.Data, Metadata: e.Metadata})
			}
			put(t, target, "policy", 1, other)
		}, "policy"},
		"the same events in another order": {func(t *testing.T, target *storetest.Memory, source eventstore.Store) {
			t.Helper()
			e := all(t, source)[1]
			put(t, target, e.Stream, e.Revision, eventstore.Proposed{ID: e.ID, Type: e.Type, Data: e.Data, Metadata: e.Metadata})
		}, "op-00000000000000000000000000000000"},
		"an event with other data": {func(t *testing.T, target *storetest.Memory, source eventstore.Store) {
			t.Helper()
			e := all(t, source)[0]
			put(t, target, e.Stream, e.Revision, eventstore.Proposed{ID: e.ID, Type: e.Type, Data: []byte(`{"n":7}`), Metadata: e.Metadata})
		}, "policy"},
		"an event with other metadata": {func(t *testing.T, target *storetest.Memory, source eventstore.Store) {
			t.Helper()
			e := all(t, source)[0]
			put(t, target, e.Stream, e.Revision, eventstore.Proposed{ID: e.ID, Type: e.Type, Data: e.Data})
		}, "policy"},
		"more than the source has": {func(t *testing.T, target *storetest.Memory, source eventstore.Store) {
			t.Helper()
			for _, e := range all(t, source) {
				put(t, target, e.Stream, e.Revision, eventstore.Proposed{ID: e.ID, Type: e.Type, Data: e.Data, Metadata: e.Metadata})
			}
			put(t, target, "policy", 4, other)
		}, "policy"},
		"what belongs to the source alone": {func(t *testing.T, target *storetest.Memory, _ eventstore.Store) {
			t.Helper()
			put(t, target, "closed", 0, other)
		}, "closed"},
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			source, _ := ledger(t)
			target := storetest.NewMemory(ledgerID)
			c.prepare(t, target, source)
			before := len(all(t, target))
			_, err := transfer.Copy(t.Context(), source, target, transfer.Options{Chain: chained, Leave: []eventstore.StreamID{"closed"}})
			var different *transfer.DifferentError
			if !errors.As(err, &different) || different.Stream != c.stream {
				t.Errorf("got error %v, want that %s differs", err, c.stream)
			}
			if after := len(all(t, target)); after != before {
				t.Errorf("the target has %d events, %d before", after, before)
			}
		})
	}
	source, _ := ledger(t)
	if _, err := transfer.Copy(t.Context(), source, storetest.NewMemory("0000000000000000"), transfer.Options{Chain: chained}); err == nil {
		t.Error("into another ledger: got no error")
	}
	if _, err := transfer.Copy(t.Context(), source, storetest.NewMemory(ledgerID), transfer.Options{}); err == nil {
		t.Error("without a check for chains: got no error")
	}
}

func TestCopyBesideForeignStreams(t *testing.T) {
	source, _ := ledger(t)
	target := storetest.NewMemory(ledgerID)
	for n := range 3 {
		put(t, target, "foreign", eventstore.Revision(n), eventstore.Proposed{ID: eventstore.EventID{byte(n + 1)}, Type: "X"})
	}
	report, err := transfer.Copy(t.Context(), source, target, transfer.Options{Chain: chained})
	if err != nil || report.Foreign != 3 || report.Events != uint64(len(all(t, source))) {
		t.Errorf("got %+v, %v, want 3 foreign events beside the ledger", report, err)
	}
}

func TestCopyLeavesWhatBelongsToTheSource(t *testing.T) {
	source, w := ledger(t)
	w.add(t, "closed", 1)
	w.add(t, "policy", 1)
	target := storetest.NewMemory(ledgerID)
	report, err := transfer.Copy(t.Context(), source, target, transfer.Options{Chain: chained, Leave: []eventstore.StreamID{"closed"}})
	if err != nil || report.Events != uint64(len(all(t, source))-1) {
		t.Errorf("got %+v, %v, want all but one event", report, err)
	}
	if _, err := target.Head(t.Context(), "closed"); !errors.Is(err, eventstore.ErrStreamNotFound) {
		t.Errorf("the stream left out: got %v, want ErrStreamNotFound", err)
	}
}

// Somebody who writes to the target meanwhile makes the copy end, and is not
// overwritten.
func TestCopyBesideAnotherWriter(t *testing.T) {
	source, _ := ledger(t)
	memory := storetest.NewMemory(ledgerID)
	target := storetest.NewFaulty(memory)
	target.Before = func(c storetest.AppendCall) {
		if c.N == 3 {
			put(t, memory, c.Stream, c.Expected.Next(), eventstore.Proposed{ID: eventstore.EventID{9}, Type: "Other"})
		}
	}
	_, err := transfer.Copy(t.Context(), source, target, transfer.Options{Chain: chained})
	var different *transfer.DifferentError
	if !errors.As(err, &different) {
		t.Errorf("got error %v, want that the target differs", err)
	}
}

// A source that somebody writes to meanwhile is not taken for copied.
func TestCopyOfASourceThatGrows(t *testing.T) {
	source, w := ledger(t)
	target := storetest.NewFaulty(storetest.NewMemory(ledgerID))
	target.Before = func(c storetest.AppendCall) {
		if c.N == 3 {
			w.add(t, "policy", 1)
		}
	}
	_, err := transfer.Copy(t.Context(), source, target, transfer.Options{Chain: chained})
	if err == nil || !strings.Contains(err.Error(), "stop what writes to the source") {
		t.Errorf("got error %v, want that the source grows", err)
	}
	if _, err := transfer.Copy(t.Context(), source, target, transfer.Options{Chain: chained}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	equal(t, target, source)
}

// A stream that was damaged before is copied as it is, and named.
func TestCopyReportsBrokenChains(t *testing.T) {
	source, w := ledger(t)
	w.add(t, "agent-lab", 2)
	put(t, source, "agent-lab", 2, eventstore.Proposed{ID: eventstore.EventID{9}, Type: "Happened", Data: []byte(`{}`), Metadata: []byte(`{}`)})
	target := storetest.NewMemory(ledgerID)
	report, err := transfer.Copy(t.Context(), source, target, transfer.Options{Chain: chained})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, target, source)
	if report.Broken != 1 || len(report.Findings) != 1 || report.Findings[0].Stream != "agent-lab" || report.Findings[0].Revision != 2 {
		t.Errorf("got %+v, want a finding at revision 2 of agent-lab", report)
	}
}

func TestCopyOfASourceThatFails(t *testing.T) {
	memory, _ := ledger(t)
	source := storetest.NewFaulty(memory)
	for n := range 5 {
		target := storetest.NewMemory(ledgerID)
		source.OnRead = func(c storetest.ReadCall) (int, error) {
			if c.N%5 == n {
				return 3, errors.New("no more")
			}
			return 0, nil
		}
		for tries := 0; ; tries++ {
			_, err := transfer.Copy(t.Context(), source, target, transfer.Options{Chain: chained})
			if err == nil {
				break
			}
			if !errors.Is(err, storetest.ErrInjected) || tries > 20 {
				t.Fatalf("try %d: got error %v, want the injected one", tries, err)
			}
		}
		equal(t, target, memory)
	}
}
