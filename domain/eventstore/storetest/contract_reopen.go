package storetest

import (
	"fmt"
	"testing"

	"writ/domain/eventstore"
)

// reopening checks what must hold across the end of a process.
func (s Suite) reopening(t *testing.T) {
	if s.Reopen == nil {
		t.Skip("this store does not outlive its process")
	}
	f := s.open(t)
	id := f.LedgerID()
	var want []eventstore.Recorded
	first := several(3)
	answer := f.add(t, f.stream("first"), eventstore.NoStream(), first...)
	want = append(want, f.read(t, f.stream("first"), 0)...)
	for life := range 4 {
		want = append(want, f.grow(t, 25, f.stream("a"), f.stream(fmt.Sprint("life-", life)))...)
		f.Store = s.Reopen(t, f.Store)
		if got := f.LedgerID(); got != id {
			t.Fatalf("life %d: got ledger id %q, want %q", life, got, id)
		}
		same(t, fmt.Sprint("life ", life), f.readAll(t, eventstore.Cursor{}, f.mine()), want)
		if got := f.add(t, f.stream("first"), eventstore.NoStream(), first...); got != answer {
			t.Errorf("life %d: an append of the first life repeated: got %+v, want %+v", life, got, answer)
		}
		_, err := f.settle(f.stream("first"), eventstore.NoStream(), event())
		refused(t, err, f.stream("first"), eventstore.NoStream(), eventstore.At(2))
		w := f.follow(t, eventstore.After(want[len(want)/2].Position), f.mine())
		w.toCaughtUp(t)
		same(t, "behind a cursor of an earlier life", w.events, want[len(want)/2+1:])
	}
}
