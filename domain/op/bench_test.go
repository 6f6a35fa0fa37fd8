package op_test

import (
	"testing"

	"writ/domain/op"
)

func BenchmarkFoldFourEvents(b *testing.B) {
	_, records := given(b, started(1, 0), launching(1, 1), running(1, 2), succeeded(1, 3))
	b.ReportAllocs()
	for b.Loop() {
		if o, err := op.Fold(ledger, nonce, stream(records)); err != nil || !o.Applied() {
			b.Fatalf("got %s (error %v), want an applied op", o.State, err)
		}
	}
}

func BenchmarkTransition(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := op.Transition(op.StateTaskRunning, op.OnSucceeded); err != nil {
			b.Fatal(err)
		}
	}
}
