package main

import (
	"context"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"writ/domain/engine"
	"writ/domain/eventstore"
	"writ/domain/op"
	"writ/domain/signedop"
	"writ/projections/audit"
)

// BenchmarkAuditVerify audits the embedded store, in ops per second, and in the
// same run the floor: each writ parsed strictly and its signature verified, id
// and chain hash of each event computed, with each event parsed and without; on
// the same cores, from memory. Processor time is told besides, as it does not
// depend on what else the machine does.
func BenchmarkAuditVerify(b *testing.B) {
	const n = 3000
	e, store := benchService(b)
	subs := benchOrders(b, 0, n)
	each(64, n, func(i int) {
		a := e.RunSignedJob(context.Background(), subs[i])
		if a.Outcome == engine.InFlight {
			a = e.Wait(context.Background(), a.Nonce)
		}
		if a.Outcome != engine.Succeeded {
			b.Errorf("op %d: %s: %s", i, a.Outcome, a.Detail)
		}
	})
	var events []eventstore.Recorded
	for ev, err := range store.ReadAll(context.Background(), eventstore.Cursor{}, eventstore.Filter{}) {
		if err != nil {
			b.Fatal(err)
		}
		events = append(events, ev)
	}
	_, signer := benchSigner()
	keys := []signedop.Key{signer.Key()}
	var whole, bare, audited stopwatch
	for b.Loop() {
		whole.time(b, func() { auditFloor(b, events, keys, true) })
		bare.time(b, func() { auditFloor(b, events, keys, false) })
		audited.time(b, func() {
			r, err := audit.Verify(context.Background(), audit.OfStore(store), audit.Options{})
			if err != nil || !r.Sound || r.Counts.Claims != n || r.Counts.Ops.Succeeded != n {
				b.Fatalf("got %v and %+v, want a sound record of %d ops", err, r, n)
			}
		})
	}
	ops := float64(b.N) * n
	b.ReportMetric(ops/audited.wall, "ops/s")
	b.ReportMetric(ops/whole.wall, "floor-ops/s")
	b.ReportMetric(whole.wall/audited.wall, "of-floor")
	b.ReportMetric(whole.cpu/audited.cpu, "of-floor-cpu")
	b.ReportMetric(bare.wall/audited.wall, "of-bare-floor")
	b.ReportMetric(bare.cpu/audited.cpu, "of-bare-floor-cpu")
	b.ReportMetric(0, "ns/op")
}

// auditFloor does what no audit can do without.
func auditFloor(b *testing.B, events []eventstore.Recorded, keys []signedop.Key, parse bool) {
	b.Helper()
	cores := runtime.GOMAXPROCS(0)
	var running sync.WaitGroup
	for w := range cores {
		part := events[len(events)*w/cores : len(events)*(w+1)/cores]
		running.Go(func() {
			for _, e := range part {
				if _, ofOp := op.NonceOfStream(string(e.Stream)); !ofOp {
					continue
				}
				_ = op.EventID(string(e.Stream), uint64(e.Revision), e.Type, e.Data)
				_ = op.Chain(string(benchLedger), string(e.Stream), uint64(e.Revision), e.Type, e.Data, op.Digest{})
				if e.Type != op.TypeStarted && !parse {
					continue
				}
				ev, err := op.Decode(e.Type, e.Data)
				if err != nil {
					b.Error(err)
					return
				}
				started, ok := ev.(*op.Started)
				if !ok {
					continue
				}
				u, err := signedop.Parse(started.Envelope)
				if err != nil {
					b.Error(err)
					return
				}
				if v, _ := u.Verify(keys); v == nil {
					b.Error("the floor's signature does not verify")
				}
			}
		})
	}
	running.Wait()
}

// A stopwatch sums up what something takes, in seconds.
type stopwatch struct{ wall, cpu float64 }

func (w *stopwatch) time(b *testing.B, do func()) {
	b.Helper()
	wall, used := b.Elapsed().Seconds(), processorSeconds(b)
	do()
	w.wall += b.Elapsed().Seconds() - wall
	w.cpu += processorSeconds(b) - used
}

func processorSeconds(b *testing.B) float64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}
