package esdb_test

import (
	"fmt"
	"slices"
	"testing"

	"writ/adapters/esdb"
	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
	"writ/domain/eventstore/transfer"
)

// A ledger moves from another store into the database and back, while
// connections are cut, and is the same afterwards.
func TestLedgerMovesThereAndBack(t *testing.T) {
	t.Parallel()
	source := storetest.NewMemory(ledgerID)
	for n := range 200 {
		stream, at := eventstore.StreamID(fmt.Sprint("op-", n%7)), n/7
		expected := eventstore.NoStream()
		if at > 0 {
			expected = eventstore.At(eventstore.Revision(at - 1))
		}
		if _, err := source.Append(t.Context(), stream, expected, happened(n)); err != nil {
			t.Fatal(err)
		}
	}
	r := newRig(t, esdb.Options{})
	r.faulty.After = func(c storetest.AppendCall, _ eventstore.Appended, _ error) {
		if c.N%20 == 0 {
			r.proxy.cut()
		}
	}
	checked := 0
	o := transfer.Options{Chain: func(eventstore.StreamID) func(eventstore.Recorded) error {
		return func(eventstore.Recorded) error { checked++; return nil }
	}}
	if report, err := transfer.Copy(t.Context(), source, r, o); err != nil || report.Events != 200 || report.Foreign != 0 || checked != 200 {
		t.Fatalf("there: got %+v, %v, %d events checked, want 200", report, err, checked)
	}
	back := storetest.NewMemory(ledgerID)
	if report, err := transfer.Copy(t.Context(), r, back, o); err != nil || report.Events != 200 {
		t.Fatalf("back: got %+v, %v, want 200 events", report, err)
	}
	for n := range 7 {
		stream := eventstore.StreamID(fmt.Sprint("op-", n))
		if got, want := ids(t, back, stream), ids(t, source, stream); !slices.Equal(got, want) {
			t.Errorf("%s: got %x, want %x", stream, got, want)
		}
	}
}
