package audit_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"iter"
	"runtime"
	"testing"
	"time"

	"writ/domain/eventstore"
	"writ/domain/op"
	"writ/projections/audit"
)

// many is a ledger of ops that is made while it is read, so that what memory
// there is, is the audit's. Each op is told by one function.
type many struct {
	ops  int
	each func(n op.Nonce, at time.Time) []op.Event
}

func (m many) Name() string                   { return "generated" }
func (m many) LedgerID() eventstore.LedgerID  { return ledger }
func (m many) Progress() (done, total uint64) { return 0, 0 }

func (m many) Events(context.Context, eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		at := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
		position := eventstore.Position(0)
		for i := range m.ops {
			sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
			n := op.Nonce(hex.EncodeToString(sum[:16]))
			o := op.New(ledger, n)
			for _, ev := range m.each(n, at) {
				rec, after, err := o.Propose(ev)
				if err != nil {
					panic(err)
				}
				o = after
				position++
				e := eventstore.Recorded{
					Stream: eventstore.StreamID(n.Stream()), Revision: eventstore.Revision(rec.Revision), Position: position,
					ID: eventstore.EventID(rec.ID), Type: rec.Type, Data: rec.Data, Metadata: rec.Metadata,
				}
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

func voided(n op.Nonce, at time.Time) []op.Event {
	return []op.Event{&op.Voided{Header: op.Header{Nonce: n, Agent: "lab", Instance: "node-a", At: at}, Reason: "r", VoidedBy: "b"}}
}

func failedClean(n op.Nonce, at time.Time) []op.Event {
	h := op.Header{
		OpID: op.OpID(n, 1, op.Claim{}), Nonce: n, Attempt: 1, Class: op.GuestDestroy, Target: target(105), Agent: "lab", Instance: "node-a", At: at,
	}
	return []op.Event{
		&op.Started{Header: h, Intent: op.Intent{Class: op.GuestDestroy, Target: target(105)}},
		&op.Failed{Header: h, Kind: op.KindPrecondition, Effect: op.EffectNone, Message: "m"},
	}
}

// BenchmarkMemory tells how much memory an audit keeps for each op of a long
// ledger.
func BenchmarkMemory(b *testing.B) {
	for name, each := range map[string]func(op.Nonce, time.Time) []op.Event{"ended": voided, "failed with effect none": failedClean} {
		b.Run(name, func(b *testing.B) {
			const ops = 200_000
			var grown float64
			for b.Loop() {
				before := heap()
				most := uint64(0)
				_, err := audit.Verify(context.Background(), many{ops, each}, audit.Options{Limit: 1, Progress: func(p audit.Progress) {
					if p.Events > ops-8192 {
						most = max(most, heap())
					}
				}})
				if err != nil {
					b.Fatal(err)
				}
				grown = max(grown, float64(most)-float64(before))
			}
			b.ReportMetric(grown/ops, "B-kept/op")
		})
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
