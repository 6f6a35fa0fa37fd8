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

// BenchmarkSeal makes the record of an event of the size of OpStarted, which
// holds the whole writ.
func BenchmarkSeal(b *testing.B) {
	data := make([]byte, 2048)
	tail := op.Tail{Next: 1, Last: op.ID{1}}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := tail.Seal(ledger, nonce.Stream(), string(nonce), op.TypeStarted, data); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEncode makes the bytes of the four events of an op.
func BenchmarkEncode(b *testing.B) {
	events := []op.Event{started(1, 0), launching(1, 1), running(1, 2), succeeded(1, 3)}
	b.ReportAllocs()
	for b.Loop() {
		for _, e := range events {
			if _, err := op.Encode(e); err != nil {
				b.Fatal(err)
			}
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
