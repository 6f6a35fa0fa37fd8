package pebbleviews_test

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"writ/adapters/pebbleviews"
	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
	"writ/domain/op"
	"writ/projections"
	"writ/projections/status"
	"writ/projections/viewtest"
)

var statusOps = flag.Int("status-ops", 100_000, "the ops in the view of the status benchmarks")

func statusSlots(t testing.TB, s *pebbleviews.Store) projections.Slots {
	t.Helper()
	return projections.Slots{A: view(t, s, "status-a"), B: view(t, s, "status-b"), Plan: view(t, s, "status-plan")}
}

// runStatus feeds the view until it has reached the end of the ledger.
func runStatus(t testing.TB, ledger eventstore.Store, slots projections.Slots) *projections.Shelf {
	t.Helper()
	shelf, err := projections.OpenShelf(t.Context(), ledger, "memory", slots, status.View{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- shelf.Run(ctx) }()
	for !shelf.Lag().CaughtUp {
		select {
		case err := <-ended:
			t.Fatal(err)
		case <-time.After(time.Millisecond):
		}
	}
	cancel()
	<-ended
	return shelf
}

// What is in the folder when the process ends is what is read when it begins.
func TestStatusOutlivesItsProcess(t *testing.T) {
	ledger := storetest.NewMemory("3f9c2ab41d6e4a70")
	for n := range uint64(300) {
		s := viewtest.NewStory(t, ledger, viewtest.Nonce(n))
		s.Started()
		s.Launching()
	}
	dir := t.TempDir()
	first := open(t, dir, pebbleviews.Options{})
	runStatus(t, ledger, statusSlots(t, first))
	if err := projections.AskRebuild(t.Context(), statusSlots(t, first)); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	slots := statusSlots(t, open(t, dir, pebbleviews.Options{}))
	shelf, err := projections.OpenShelf(t.Context(), ledger, "memory", slots, status.View{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	old := viewtest.Dump(t, slots.A, "")
	page, err := status.New(shelf).List(t.Context(), status.Query{States: []status.State{status.Launching}, VMID: 105, Limit: 500})
	if err != nil || len(page.Ops) != 300 || page.Next != nil || page.Ops[0].Nonce != viewtest.Nonce(299) {
		t.Errorf("got %d ops, next %v, error %v; want all 300, the newest first", len(page.Ops), page.Next, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- shelf.Run(ctx) }()
	for {
		_, building := shelf.Building()
		if !building {
			break
		}
		select {
		case err := <-ended:
			t.Fatal(err)
		case <-time.After(time.Millisecond):
		}
	}
	cancel()
	<-ended
	if got := viewtest.Dump(t, slots.B, ""); got != old || got == "" {
		t.Errorf("built again: got %d bytes that differ from the %d there were", len(got), len(old))
	}
}

// How fast the view of all ops is built from a ledger in memory.
func BenchmarkRebuildStatus(b *testing.B) {
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
		slots := statusSlots(b, open(b, b.TempDir(), pebbleviews.Options{}))
		b.StartTimer()
		runStatus(b, ledger, slots)
	}
	b.ReportMetric(float64(b.N)*4*ops/b.Elapsed().Seconds(), "events/s")
}

// How long a page of a hundred takes among -status-ops ops. One in a thousand is
// in flight, one in a thousand on guest 1000, and every second signed by bob.
func BenchmarkStatusPage(b *testing.B) {
	dir := b.TempDir()
	store := open(b, dir, pebbleviews.Options{})
	began := time.Now()
	shelf := runStatus(b, made{ops: *statusOps}, statusSlots(b, store))
	b.Logf("%d ops built in %v, events made on the way included", *statusOps, time.Since(began).Round(time.Millisecond))
	ops := status.New(shelf)
	middle, err := ops.List(b.Context(), status.Query{Limit: 500})
	if err != nil || middle.Next == nil {
		b.Fatalf("got next %v, error %v; want a page with a next", middle.Next, err)
	}
	for _, bb := range []struct {
		name string
		q    status.Query
		want int
	}{
		{"newest", status.Query{}, 100},
		{"further on", status.Query{After: middle.Next}, 100},
		{"succeeded", status.Query{States: []status.State{status.Succeeded}}, 100},
		{"in flight", status.Query{States: status.InFlight()}, 100},
		{"one guest", status.Query{VMID: 1000}, 100},
		{"three filters", status.Query{States: []status.State{status.Succeeded}, Signer: "bob", Node: "pve1"}, 100},
		{"in flight and by bob", status.Query{States: status.InFlight(), Signer: "bob"}, 0},
		{"an hour long ago", status.Query{From: since, Until: since.Add(time.Hour)}, 100},
		{"two that never meet", status.Query{Signer: "carol", Node: "pve2"}, 0},
		{"nobody", status.Query{Signer: "mallory"}, 0},
	} {
		b.Run(bb.name, func(b *testing.B) {
			bb.q.Limit = 100
			var took []time.Duration
			for b.Loop() {
				from := time.Now()
				page, err := ops.List(b.Context(), bb.q)
				took = append(took, time.Since(from))
				if err != nil || len(page.Ops) < min(bb.want, *statusOps/1000) {
					b.Fatalf("got %d ops, error %v; want %d", len(page.Ops), err, bb.want)
				}
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
		})
	}
	if err := store.Close(); err != nil {
		b.Fatal(err)
	}
	size := int64(0)
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		size += info.Size()
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("%d bytes on disk, %d an op", size, size/int64(*statusOps))
}

var since = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// made is a ledger whose events are made when they are asked for: one op each
// second, of four events.
type made struct {
	eventstore.Store

	ops int
}

func (made) LedgerID() eventstore.LedgerID { return "3f9c2ab41d6e4a70" }

// Subscribe implements [eventstore.Subscriber], from the beginning.
func (m made) Subscribe(ctx context.Context, _ eventstore.Cursor, _ eventstore.Filter) iter.Seq2[eventstore.Notice, error] {
	return func(yield func(eventstore.Notice, error) bool) {
		at := eventstore.Position(0)
		for n := range m.ops {
			for r, e := range eventsOf(n) {
				data, err := op.Encode(e)
				if err != nil {
					yield(eventstore.Notice{}, err)
					return
				}
				at++
				rec := eventstore.Recorded{
					Stream: eventstore.StreamID(op.HeaderOf(e).Nonce.Stream()), Revision: eventstore.Revision(r), Position: at,
					ID: eventstore.EventID(op.EventID("bench", uint64(at), "", nil)), Type: e.Type(), Data: data, RecordedAt: op.HeaderOf(e).At,
				}
				if !yield(eventstore.Notice{Kind: eventstore.NewEvent, Event: rec, At: eventstore.After(at)}, nil) {
					return
				}
			}
		}
		if yield(eventstore.Notice{Kind: eventstore.CaughtUp, At: eventstore.After(at)}, nil) {
			<-ctx.Done()
		}
	}
}

func eventsOf(n int) []op.Event {
	h := op.Header{
		Nonce: scattered(uint64(n)), Attempt: 1, Class: op.GuestDestroy, Agent: "lab", Instance: "i-1", At: since.Add(time.Duration(n) * time.Second),
		Target: op.Target{Node: "pve1", Guest: &op.Guest{Type: op.QEMU, VMID: 1000 + n%1000}},
	}
	var claim op.Claim
	binary.BigEndian.PutUint64(claim[:], uint64(n))
	h.OpID = op.OpID(h.Nonce, 1, claim)
	signer := "bob"
	if n%2 == 0 {
		signer, h.Target.Node = "carol", "pve1"
	} else if n%4 == 1 {
		h.Target.Node = "pve2"
	}
	all := []op.Event{
		&op.Started{Header: h, Claim: claim, Intent: op.Intent{Class: h.Class, Target: h.Target}, Role: "operator", Signers: []op.Signer{{Person: signer, Key: "SHA256:x"}}},
		&op.Launching{Header: h, Node: h.Target.Node, Credential: "writ@pve!x", Request: op.Request{Method: "DELETE", Path: fmt.Sprintf("/nodes/pve1/qemu/%d", h.Target.Guest.VMID)}},
		&op.TaskRunning{Header: h, UPID: fmt.Sprintf("UPID:pve1:%08X:00ABCDEF:68A60E01:qmdestroy:%d:writ@pve!x:", n, h.Target.Guest.VMID)},
		&op.Succeeded{Header: h, ExitStatus: "OK", Evidence: op.Evidence{Effect: op.EffectDone, Reasons: []string{"gone"}}},
	}
	if n%1000 == 0 {
		return all[:3]
	}
	return all
}
