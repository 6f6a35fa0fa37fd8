package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"writ/adapters/pebblestore"
	"writ/adapters/pebbleviews"
	"writ/domain/engine"
	"writ/domain/gate"
	"writ/domain/op"
	"writ/projections"
	"writ/projections/recoveryqueue"
	"writ/projections/viewtest"
)

// inFlightAtKill is how many ops the killed service leaves behind.
const inFlightAtKill = 10_000

// A rememberingHost answers at once, and what it answers about an attempt
// depends on its guest's number: every fourth request was lost on its way, every
// fourth task is found, and every fourth can't be fenced and waits for a person.
type rememberingHost struct{ instantHost }

const (
	onlyClaimed = iota
	taskFound
	neverArrived
	cutOff
	kinds
)

func kindOf(t op.Target) int { return t.Guest.VMID % kinds }

func (rememberingHost) FindTasks(_ context.Context, l *op.Launching) (engine.TaskSearch, error) {
	s := engine.TaskSearch{Exact: true, Complete: true}
	if kindOf(l.Target) == taskFound {
		s.UPIDs = []string{fmt.Sprintf("UPID:%s:0000ABCD:00ABCDEF:68A60E01:qmdestroy:%d:writ@pve!launch:", l.Node, l.Target.Guest.VMID)}
	}
	return s, nil
}

func (rememberingHost) Fence(_ context.Context, l *op.Launching) (engine.Fence, error) {
	if kindOf(l.Target) == cutOff {
		return engine.Fence{Reasons: []string{"node pve2 does not answer"}}, nil
	}
	return engine.Fence{Confirmed: true}, nil
}

func (h rememberingHost) Probe(ctx context.Context, l *op.Launching, exit string, log []string) (engine.Finding, error) {
	if kindOf(l.Target) == neverArrived {
		return engine.Finding{Evidence: op.Evidence{Effect: op.EffectNone, Reasons: []string{"the guest is as it was"}}}, nil
	}
	return h.instantHost.Probe(ctx, l, exit, log)
}

// BenchmarkRestart opens a ledger that a killed service has left with many ops
// in flight, and measures until each of them has ended by proof, or is listed
// with what it waits for; with a short ledger, and with a long one before it.
func BenchmarkRestart(b *testing.B) {
	for _, ended := range []int{0, 50_000} {
		b.Run(fmt.Sprintf("ended=%d", ended), func(b *testing.B) {
			dir := b.TempDir()
			leaveInFlight(b, dir, ended)
			// One round, whatever is asked for: a second one would find the work done.
			began := time.Now()
			accounted, surveyed := restart(b, dir, began)
			b.ReportMetric(accounted.Seconds(), "s-to-account")
			b.ReportMetric(surveyed.Seconds(), "s-to-launch")
			b.ReportMetric(time.Since(began).Seconds(), "s-to-settle")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// leaveInFlight writes what the killed service had put on record, with its view
// as far as it had come.
func leaveInFlight(b *testing.B, dir string, ended int) {
	b.Helper()
	if err := pebblestore.Create(filepath.Join(dir, "ledger"), benchLedger, pebblestore.Options{}); err != nil {
		b.Fatal(err)
	}
	w := openQueue(b, dir)
	each(256, ended, func(i int) {
		s := viewtest.NewStory(b, w.store, viewtest.Nonce(uint64(inFlightAtKill+i))).On(100 + i)
		s.Started()
		s.Launching()
		s.Running("UPID:x")
		s.Succeeded()
	})
	each(256, inFlightAtKill, func(i int) {
		s := viewtest.NewStory(b, w.store, viewtest.Nonce(uint64(i))).On(100 + i)
		s.Started()
		if kindOf(s.Header().Target) != onlyClaimed {
			s.Launching()
		}
	})
	// The view was killed a little behind the ledger, as it always is.
	w.close(b)
	caughtUp := openQueue(b, dir)
	if err := caughtUp.feed.WaitCaughtUp(b.Context()); err != nil {
		b.Fatal(err)
	}
	caughtUp.close(b)
}

// A queueOnDisk is a ledger with the view of what is in flight.
type queueOnDisk struct {
	store *pebblestore.Store
	views *pebbleviews.Store
	queue *recoveryqueue.Queue
	feed  *projections.Runner
	stop  context.CancelFunc
	runs  sync.WaitGroup
}

func openQueue(b *testing.B, dir string) *queueOnDisk {
	b.Helper()
	log := slog.New(slog.DiscardHandler)
	w := new(queueOnDisk)
	var err error
	if w.store, err = pebblestore.Open(filepath.Join(dir, "ledger"), pebblestore.Options{Logger: log}); err != nil {
		b.Fatal(err)
	}
	if w.views, err = pebbleviews.Open(filepath.Join(dir, "views"), pebbleviews.Options{Logger: log}); err != nil {
		b.Fatal(err)
	}
	in, err := w.views.View("recoveryqueue")
	if err != nil {
		b.Fatal(err)
	}
	w.queue = recoveryqueue.New(in)
	w.feed = projections.New(w.store, storeName, in, w.queue, log)
	var ctx context.Context
	ctx, w.stop = context.WithCancel(context.Background())
	w.runs.Go(func() { _ = w.feed.Run(ctx) })
	return w
}

func (w *queueOnDisk) close(b *testing.B) {
	b.Helper()
	w.stop()
	w.runs.Wait()
	if err := w.views.Close(); err != nil {
		b.Error(err)
	}
	if err := w.store.Close(); err != nil {
		b.Error(err)
	}
}

// restart is the service's start without its HTTP interface. It returns when
// every op is settled or waits for people, and gives when each was accounted for
// and when launching could begin.
func restart(b *testing.B, dir string, began time.Time) (accounted, surveyed time.Duration) {
	b.Helper()
	w := openQueue(b, dir)
	e, err := engine.New(b.Context(), engine.Config{
		Identity: engine.Identity{Site: gate.Site{Agent: "lab", Ledger: string(benchLedger)}, Instance: "bench"}, Store: w.store,
		Policies: engine.NewPolicyBook(w.store, engine.Identity{}, systemClock{}), Host: rememberingHost{},
		Executors: map[op.Class]engine.Executor{op.GuestDestroy: rememberingHost{}},
		Clock:     systemClock{}, Draw: drawClaim, Log: slog.New(slog.DiscardHandler), Pending: inFlightOf(w.store, w.feed, w.queue),
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := e.Stop(context.Background()); err != nil {
			b.Error(err)
		}
		w.close(b)
	})
	awaitAccounted(b, e)
	accounted = time.Since(began)
	<-e.Surveyed()
	surveyed = time.Since(began)
	awaitSettled(b, e, w.queue)
	return accounted, surveyed
}

// awaitAccounted waits until each op has ended, is listed with what it waits for
// from the host, or with what people have to look at.
func awaitAccounted(b *testing.B, e *engine.Engine) {
	b.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		known := make(map[op.Nonce]bool, inFlightAtKill)
		for n, what := range e.Waiting() {
			known[n] = what != ""
		}
		for _, a := range e.Left() {
			known[a.Nonce] = a.Detail != ""
		}
		all := true
		for i := 0; i < inFlightAtKill && all; i++ {
			n := viewtest.Nonce(uint64(i))
			all = known[n] || !inFlightOutcome(e.Status(b.Context(), n))
		}
		if all {
			return
		}
	}
}

func inFlightOutcome(a engine.Answer) bool { return a.Outcome == engine.InFlight }

// awaitSettled waits until the queue lists what waits for a person and nothing
// else, and checks that the service knows what each of these waits for.
func awaitSettled(b *testing.B, e *engine.Engine, queue *recoveryqueue.Queue) {
	b.Helper()
	const waiting = inFlightAtKill / kinds
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		left := e.Left()
		if len(left) < waiting {
			continue
		}
		items, err := queue.List(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		if len(items) > waiting {
			continue
		}
		if len(items) != waiting || len(left) != waiting {
			b.Fatalf("got %d in the queue and %d left, want %d of each", len(items), len(left), waiting)
		}
		for _, a := range left {
			if a.Outcome != engine.Indeterminate || a.Detail == "" {
				b.Fatalf("got %+v, want what it waits for", a)
			}
		}
		return
	}
}
