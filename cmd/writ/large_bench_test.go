package main

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"writ/adapters/pebblestore"
	"writ/adapters/pebbleviews"
	"writ/domain/engine"
	"writ/domain/eventstore"
	"writ/domain/op"
	"writ/domain/signedop"
	"writ/projections/appliedkeys"
	"writ/projections/audit"
)

var (
	largeOps = flag.Int("ops", 10_000, "the largest ledger of BenchmarkLargeLedger, in ops; each power of ten from 10000 on comes before it")
	largeDir = flag.String("ledger", "", "folder for its ledgers, which are kept, and finished by the next run (default: a temporary one)")
)

// BenchmarkLargeLedger measures what must not grow with the ledger, and what
// must grow no faster than it. Each ledger is filled first, if need be; what is
// measured is a copy of it.
//
//	go test ./cmd/writ -run '^$' -bench LargeLedger -benchtime 1x -timeout 1h -ops 1000000 -ledger DIR
func BenchmarkLargeLedger(b *testing.B) {
	dir := *largeDir
	if dir == "" {
		dir = b.TempDir()
	}
	for _, ops := range largeSizes(*largeOps) {
		l := &largeLedger{}
		b.Run(fmt.Sprintf("ops=%d/fill", ops), func(b *testing.B) {
			l = fillLedger(b, filepath.Join(dir, strconv.Itoa(ops)), ops)
			b.ReportMetric(float64(folderSize(b, l.ledger()))/float64(ops), "bytes/op")
			b.ReportMetric(0, "ns/op")
		})
		if l.ops == 0 {
			continue // it failed, or nobody asked for this size
		}
		work := l.copy(b)
		for _, part := range []struct {
			name string
			run  func(*testing.B, *largeLedger)
		}{
			{"audit", benchLargeAudit},
			{"rebuild", func(b *testing.B, work *largeLedger) {
				benchLargeRebuild(b, work)
				linkFolder(b, work.config(b).Store.Views, l.config(b).Store.Views) // for a run without this part
			}},
			{"dedupe", benchLargeDedupe},
			{"serve", benchLargeServe},
			{"signed", benchLargeSigned},
		} {
			b.Run(fmt.Sprintf("ops=%d/%s", ops, part.name), func(b *testing.B) {
				part.run(b, work)
				b.ReportMetric(0, "ns/op")
			})
		}
		if err := os.RemoveAll(work.dir); err != nil {
			b.Fatal(err)
		}
	}
}

// largeSizes gives the sizes up to the largest.
func largeSizes(largest int) []int {
	var sizes []int
	for n := 10_000; n < largest; n *= 10 {
		sizes = append(sizes, n)
	}
	return append(sizes, largest)
}

// copy makes a ledger that can be worked on and thrown away. Tables, which never
// change, are shared with the original.
func (l *largeLedger) copy(b *testing.B) *largeLedger {
	b.Helper()
	work := *l
	work.dir = l.dir + "-work"
	linkFolder(b, l.dir, work.dir)
	return &work
}

// linkFolder makes a copy of a folder that shares its tables.
func linkFolder(b *testing.B, from, to string) {
	b.Helper()
	if err := os.RemoveAll(to); err != nil {
		b.Fatal(err)
	}
	err := filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		at := filepath.Join(to, name)
		switch {
		case err != nil:
			return err
		case e.IsDir():
			return os.MkdirAll(at, 0o700)
		case filepath.Ext(path) == ".sst":
			return os.Link(path, at)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(at, data, 0o600)
	})
	if err != nil {
		b.Fatal(err)
	}
}

func folderSize(b *testing.B, dir string) (size int64) {
	b.Helper()
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return size
}

// open opens the ledger as the service does.
func (l *largeLedger) open(b *testing.B) *pebblestore.Store {
	b.Helper()
	store, err := pebblestore.Open(l.ledger(), pebblestore.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := store.Close(); err != nil {
			b.Error(err)
		}
	})
	return store
}

// benchLargeAudit audits the whole ledger, and beside it the floor, which is
// that of BenchmarkAuditVerify, over the events of its first ops.
func benchLargeAudit(b *testing.B, l *largeLedger) {
	store, err := openLedgerFolder(l.ledger())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := store.Close(); err != nil {
			b.Error(err)
		}
	})
	const sample = 10_000
	var events []eventstore.Recorded
	ops := 0
	for e, err := range store.ReadAll(b.Context(), eventstore.Cursor{}, eventstore.Filter{StreamPrefixes: []string{op.StreamPrefix}}) {
		if err != nil {
			b.Fatal(err)
		}
		if e.Revision == 0 {
			ops++
		}
		if ops > sample {
			ops--
			break
		}
		events = append(events, e)
	}
	var keys []signedop.Key
	for _, s := range l.signers {
		keys = append(keys, s.Key())
	}
	var floor, audited stopwatch
	floor.time(b, func() { auditFloor(b, events, keys, true) })
	audited.time(b, func() {
		r, err := audit.Verify(b.Context(), audit.OfStore(store), audit.Options{})
		if err != nil || !r.Sound || r.Counts.Ops.Succeeded != uint64(l.ops)*9/10 {
			b.Fatalf("got %v and %+v, want a sound record of %d ops", err, r, l.ops)
		}
	})
	all := float64(l.ops + largeInFlight)
	b.ReportMetric(all/audited.wall, "ops/s")
	b.ReportMetric(float64(ops)/floor.wall, "floor-ops/s")
	b.ReportMetric(floor.wall/float64(ops)*all/audited.wall, "of-floor")
	b.ReportMetric(floor.cpu/float64(ops)*all/audited.cpu, "of-floor-cpu")
}

// benchLargeRebuild builds all views of the service from nothing, all at once,
// as a start without them does.
func benchLargeRebuild(b *testing.B, l *largeLedger) {
	c := l.config(b)
	if err := os.RemoveAll(c.Store.Views); err != nil {
		b.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	store, err := openEmbedded(c.Store.Embedded.Path, log)
	if err != nil {
		b.Fatal(err)
	}
	s := &service{opts: serviceOptions{Config: c, Log: log}, Store: store, failed: make(chan error, 4)}
	s.undo = append(s.undo, store.Close)
	var end eventstore.Position
	if mark, _, err := l.mark().Seen(b.Context()); err == nil {
		end = mark.Position
	}
	began, used := time.Now(), processorSeconds(b)
	if err := s.startViews(b.Context()); err != nil {
		b.Fatal(err)
	}
	for _, v := range []struct {
		name string
		wait func(context.Context, eventstore.Position) error
	}{
		{"queue", s.queue.runner.WaitFor}, {"attempts", s.attempts.runner.WaitFor}, {"keys", s.keys.runner.WaitFor}, {"status", s.ops.WaitFor},
	} {
		if err := v.wait(b.Context(), end); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(began).Seconds(), "s-"+v.name)
	}
	took := time.Since(began)
	if err := s.close(); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(end)/took.Seconds(), "events/s")
	b.ReportMetric((processorSeconds(b)-used)*1e6/float64(end), "cpu-µs/event")
	b.ReportMetric(float64(folderSize(b, c.Store.Views))/float64(l.ops), "bytes/op")
}

// benchLargeDedupe looks up nonces at random: what a submission does first. One
// that is there is folded from its whole stream, and its chain checked; of one
// that is not there it is only found out that it is not. The view's word, which
// is final when it says applied, is measured as well.
func benchLargeDedupe(b *testing.B, l *largeLedger) {
	store := l.open(b)
	views, err := pebbleviews.Open(l.config(b).Store.Views, pebbleviews.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := views.Close(); err != nil {
			b.Error(err)
		}
	})
	in, err := views.View("appliedkeys")
	if err != nil {
		b.Fatal(err)
	}
	keys := appliedkeys.New(in)
	const asked, warm = 60_000, 20_000 // a service that runs has its filters in memory
	for _, bb := range []struct {
		name string
		from int
		ask  func(op.Nonce) (there bool, err error)
	}{
		{"absent", 2 * l.ops, func(n op.Nonce) (bool, error) {
			o, err := engine.LoadOp(b.Context(), store, l.id, n)
			return o.State != op.Absent, err
		}},
		{"there", 0, func(n op.Nonce) (bool, error) {
			o, err := engine.LoadOp(b.Context(), store, l.id, n)
			return o.State != op.Absent, err
		}},
		{"view", 0, func(n op.Nonce) (bool, error) {
			_, found, err := keys.Lookup(b.Context(), n)
			return found, err
		}},
	} {
		var took []time.Duration
		for range asked {
			// Not one that was taken back or failed without an effect.
			n := largeNonce(bb.from + randomBelow(b, l.ops/100)*100 + 8 + randomBelow(b, 92))
			from := time.Now()
			there, err := bb.ask(n)
			took = append(took, time.Since(from))
			if err != nil || there != (bb.name != "absent") {
				b.Fatalf("%s: %s: got there %v, error %v", bb.name, n.Short(), there, err)
			}
		}
		reportTimes(b, bb.name, took[warm:])
	}
}

func randomBelow(b *testing.B, n int) int {
	b.Helper()
	r, err := rand.Int(rand.Reader, big.NewInt(int64(n)))
	if err != nil {
		b.Fatal(err)
	}
	return int(r.Int64())
}

// reportTimes tells the median and the 99th percentile.
func reportTimes(b *testing.B, name string, took []time.Duration) {
	b.Helper()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1e3, name+"-p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1e3, name+"-p99-µs")
}

// benchLargeSigned runs signed ops through the engine, on top of what there is.
func benchLargeSigned(b *testing.B, l *largeLedger) {
	store := l.open(b)
	who, book := l.identity(), l.enforce(b, store)
	e, err := engine.New(b.Context(), engine.Config{
		Identity: who, Store: store, Policies: book, Host: instantHost{},
		Executors: map[op.Class]engine.Executor{op.GuestDestroy: instantHost{}},
		Clock:     systemClock{}, Draw: drawClaim, Log: slog.New(slog.DiscardHandler), Queue: 4096, Parallel: 1024,
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := e.Stop(context.Background()); err != nil {
			b.Error(err)
		}
	})
	next := 10 * l.ops
	for _, bb := range []struct{ submitters, ops int }{{1, 500}, {64, 8000}} {
		subs := make([]engine.Submission, bb.ops)
		for i := range subs {
			s := l.story(next)
			next++
			d := s.document()
			d.Expect = signedop.Expect{Name: "web-3", SMBIOSUUID: instantHost{}.seen(d.Target).SMBIOSUUID, Volumes: instantHost{}.seen(d.Target).Volumes}
			d.NotBefore = time.Now().UTC().Truncate(time.Second).Add(-time.Minute)
			d.ExpiresAt = d.NotBefore.Add(time.Hour)
			payload, err := d.Encode()
			if err != nil {
				b.Fatal(err)
			}
			subs[i] = engine.Submission{Intent: d.Intent(), Envelope: largeSeal(payload, l.signers[s.signer()])}
		}
		took := each(bb.submitters, bb.ops, func(i int) {
			a := e.RunSignedJob(context.Background(), subs[i])
			if a.Outcome == engine.InFlight {
				a = e.Wait(context.Background(), a.Nonce)
			}
			if a.Outcome != engine.Succeeded && !b.Failed() {
				b.Errorf("op %d: %s: %s", i, a.Outcome, a.Detail)
			}
		})
		b.ReportMetric(float64(took.Microseconds())/float64(bb.ops), fmt.Sprintf("µs/op-by-%d", bb.submitters))
	}
}

// config is that of the ledger's folder.
func (l *largeLedger) config(b *testing.B) *config {
	b.Helper()
	c, err := loadConfig(filepath.Join(l.dir, configName), nil)
	if err != nil {
		b.Fatal(err)
	}
	return c
}
