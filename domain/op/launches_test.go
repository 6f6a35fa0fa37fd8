package op_test

import (
	"slices"
	"testing"

	"writ/domain/op"
)

// Whatever attempt was announced stays known: a request of it may have been
// sent, and a token made for it.
func TestLaunchesAreKeptAcrossAttempts(t *testing.T) {
	life := []op.Event{
		started(1, 0), launching(1, 1), failed(1, 2, op.EffectNone),
		started(2, 3), failed(2, 4, op.EffectNone), // refused before it was announced
		started(3, 5), launching(3, 6), running(3, 7), failed(3, 8, op.EffectNone),
		started(4, 9), launching(4, 10), running(4, 11), succeeded(4, 12),
	}
	want := [][]int{
		nil,
		{1},
		{1},
		{1},
		{1},
		{1},
		{1, 3},
		{1, 3},
		{1, 3},
		{1, 3},
		{1, 3, 4},
		{1, 3, 4},
		{1, 3, 4},
	}
	for n := range life {
		stepwise, records := given(t, life[:n+1]...)
		folded, err := op.Fold(ledger, nonce, stream(records))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(stepwise.Launches, want[n]) || !slices.Equal(folded.Launches, want[n]) {
			t.Errorf("after %d events: got %v, folded %v, want %v", n+1, stepwise.Launches, folded.Launches, want[n])
		}
	}
}

// A copy of an op, or what Propose foresees, shares no list with another: two
// futures of one op don't write into each other.
func TestLaunchesAreNotShared(t *testing.T) {
	var life []op.Event
	for attempt := 1; attempt <= 8; attempt++ { // as many as make a list grow with room to spare
		n := len(life)
		life = append(life, started(attempt, n))
		o, _ := given(t, life...)
		before := slices.Clone(o.Launches)
		_, foreseen, err := o.Propose(launching(attempt, n+1))
		if err != nil {
			t.Fatal(err)
		}
		_, again, err := o.Propose(launching(attempt, n+2))
		if err != nil {
			t.Fatal(err)
		}
		for i := range again.Launches {
			again.Launches[i] = 99
		}
		if want := append(before, attempt); !slices.Equal(foreseen.Launches, want) || !slices.Equal(o.Launches, want[:len(want)-1]) {
			t.Errorf("got %v and, before it, %v; want %v and one less", foreseen.Launches, o.Launches, want)
		}
		life = append(life, launching(attempt, n+1), failed(attempt, n+2, op.EffectNone))
	}
}

// An event that is refused leaves no trace in the list.
func TestARefusedLaunchIsNotListed(t *testing.T) {
	o, _ := given(t, started(1, 0))
	wrong := change(launching(1, 1), func(e *op.Launching) { e.OpID = "another" })
	if _, _, err := o.Propose(wrong); err == nil {
		t.Fatal("proposed, want an error")
	}
	isCorrupt(t, o.Apply(sealed(t, o, wrong)), 1)
	if len(o.Launches) != 0 {
		t.Errorf("got %v, want none", o.Launches)
	}
}
