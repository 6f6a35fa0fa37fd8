package pebbleviews_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"testing"

	"writ/adapters/pebbleviews"
	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
	"writ/domain/op"
	"writ/projections"
	"writ/projections/appliedkeys"
	"writ/projections/viewtest"
)

// How fast a view is built from a ledger in memory: the view's own cost.
func BenchmarkRebuild(b *testing.B) {
	const ops = 10_000
	ledger := storetest.NewMemory("3f9c2ab41d6e4a70")
	for n := range uint64(ops) {
		s := viewtest.NewStory(b, ledger, viewtest.Nonce(n))
		s.Started()
		s.Launching()
		s.Running("UPID:x")
		s.Succeeded()
	}
	b.ResetTimer()
	for range b.N {
		b.StopTimer()
		v := view(b, open(b, b.TempDir(), pebbleviews.Options{}), "appliedkeys")
		r := projections.New(ledger, "memory", v, appliedkeys.New(v), slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(b.Context())
		ended := make(chan error, 1)
		b.StartTimer()
		go func() { ended <- r.Run(ctx) }()
		if err := r.WaitCaughtUp(ctx); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		cancel()
		_ = <-ended
		b.StartTimer()
	}
	b.ReportMetric(float64(b.N)*4*ops/b.Elapsed().Seconds(), "events/s")
}

// How fast a nonce is looked up among a million applied keys, and one that is
// not there. The order is that of a hash: no two look-ups are neighbours.
func BenchmarkLookupAmongAMillion(b *testing.B) {
	const keys = 1_000_000
	v := view(b, open(b, b.TempDir(), pebbleviews.Options{}), "appliedkeys")
	row := rowOfAnAppliedKey(b)
	for n := uint64(0); n < keys; {
		var batch projections.Batch
		for range 1000 {
			batch.Set = append(batch.Set, projections.Entry{Key: "op/" + string(scattered(n)), Value: row})
			n++
		}
		commit(b, v, batch)
	}
	lookup := appliedkeys.New(v)
	for _, bb := range []struct {
		name  string
		from  uint64
		found bool
	}{{"applied", 0, true}, {"unknown", keys, false}} {
		b.Run(bb.name, func(b *testing.B) {
			n := uint64(0)
			for b.Loop() {
				e, found, err := lookup.Lookup(b.Context(), scattered(bb.from+n*7919%keys))
				if err != nil || found != bb.found || found && !e.Applied() {
					b.Fatalf("got found %v, error %v; want %v", found, err, bb.found)
				}
				n++
			}
		})
	}
}

// scattered gives the n-th of many nonces that are in no order.
func scattered(n uint64) op.Nonce {
	id := op.EventID("bench", n, "", binary.BigEndian.AppendUint64(nil, n))
	return op.Nonce(fmt.Sprintf("%x", id[:]))
}

// rowOfAnAppliedKey is what the view stores of a succeeded op.
func rowOfAnAppliedKey(b *testing.B) []byte {
	b.Helper()
	ledger := storetest.NewMemory(eventstore.LedgerID("3f9c2ab41d6e4a70"))
	s := viewtest.NewStory(b, ledger, viewtest.Nonce(1))
	s.Started()
	s.Launching()
	s.Running("UPID:x")
	s.Succeeded()
	v := viewtest.NewMemory()
	r := projections.New(ledger, "memory", v, appliedkeys.New(v), slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	if err := r.WaitCaughtUp(ctx); err != nil {
		b.Fatal(err)
	}
	cancel()
	_ = <-ended
	row, found, err := v.Get(b.Context(), "op/"+string(viewtest.Nonce(1)))
	if err != nil || !found {
		b.Fatalf("got found %v, error %v; want a row", found, err)
	}
	return row
}
