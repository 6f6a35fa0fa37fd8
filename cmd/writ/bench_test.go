package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"golang.org/x/crypto/ssh"

	"writ/adapters/pebblestore"
	"writ/domain/engine"
	"writ/domain/eventstore"
	"writ/domain/gate"
	"writ/domain/op"
	"writ/domain/signedop"
)

// The figures of docs/performance.md: go test -run '^$' -bench . ./cmd/writ

const benchLedger = eventstore.LedgerID("3f9c2ab41d6e4a70")

// instantHost has every guest that is asked for and does at once what it is
// told: what is measured is writ.
type instantHost struct{}

func (instantHost) seen(t op.Target) op.Observed {
	return op.Observed{
		Found: true, Node: t.Node, Type: t.Guest.Type, VMID: t.Guest.VMID, Name: "web-3",
		SMBIOSUUID: "5c6f0f0e-7a3b-4d1c-9e2f-0a1b2c3d4e5f", Volumes: []string{"local-lvm:vm-105-disk-0"},
		Digest: "da39a3ee5e6b4b0d3255bfef95601890afd80709", Status: "stopped", NodeOnline: true, Quorate: true,
	}
}

func (h instantHost) Facts(context.Context, op.Target) (op.Facts, error) {
	return op.Facts{Found: true, Node: "pve1", Name: "web-3", Storages: []string{"local-lvm"}}, nil
}

func (h instantHost) Observe(_ context.Context, a engine.Attempt) (op.Observed, error) {
	t := a.Intent.Target
	return h.seen(t), nil
}

func (instantHost) Request(a engine.Attempt, seen op.Observed) (op.Request, string, error) {
	return op.Request{Method: "DELETE", Path: fmt.Sprintf("/nodes/%s/%s/%d", seen.Node, seen.Type, a.Intent.Target.Guest.VMID)}, "writ@pve!launch", nil
}

func (instantHost) Launch(_ context.Context, _ engine.Attempt, l *op.Launching) (string, error) {
	return fmt.Sprintf("UPID:%s:0000ABCD:00ABCDEF:68A60E01:qmdestroy:%d:writ@pve!launch:", l.Node, l.Target.Guest.VMID), nil
}

func (instantHost) Task(context.Context, string) (engine.Task, error) {
	return engine.Task{Phase: engine.TaskEnded, ExitStatus: "OK"}, nil
}

func (instantHost) FindTasks(context.Context, *op.Launching) (engine.TaskSearch, error) {
	return engine.TaskSearch{Complete: true}, nil
}

func (instantHost) Fence(context.Context, *op.Launching) (engine.Fence, error) {
	return engine.Fence{Confirmed: true}, nil
}

func (instantHost) PrecedesEffect(string) bool { return false }

func (instantHost) Probe(context.Context, *op.Launching, string, []string) (engine.Finding, error) {
	return engine.Finding{Evidence: op.Evidence{Effect: op.EffectDone, Reasons: []string{"no guest of this identity exists"}}}, nil
}

func benchSigner() (ed25519.PrivateKey, signedop.Signer) {
	seed := sha256.Sum256([]byte("bench"))
	key := ed25519.NewKeyFromSeed(seed[:])
	s, err := signedop.NewRawSigner(key)
	if err != nil {
		panic(err)
	}
	return key, s
}

// benchService is an engine on a pebblestore in a temporary folder.
func benchService(b *testing.B) (*engine.Engine, *pebblestore.Store) {
	b.Helper()
	dir := b.TempDir() + "/ledger"
	if err := pebblestore.Create(dir, benchLedger, pebblestore.Options{}); err != nil {
		b.Fatal(err)
	}
	store, err := pebblestore.Open(dir, pebblestore.Options{})
	if err != nil {
		b.Fatal(err)
	}
	_, signer := benchSigner()
	who := engine.Identity{Site: gate.Site{Agent: "lab", Ledger: string(benchLedger)}, Instance: "bench"}
	book := engine.NewPolicyBook(store, who, systemClock{})
	_, err = book.Enforce(context.Background(), gate.PolicyDocument{
		Version: 1,
		People: map[string]gate.Person{"alice": {Keys: []gate.Key{{
			Key: string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(signer.Key().Public))), Format: "raw",
		}}}},
		Roles: map[string]gate.Role{"operator": {
			Holders: []string{"alice"}, Quorum: 1, MaxLifetime: "24h", RequesterCounts: true,
			Allow: []gate.Rule{{Classes: []op.Class{op.GuestDestroy}, On: gate.On{VMIDs: []string{"100-999999999"}}}},
		}},
	}, op.Digest{})
	if err != nil {
		b.Fatal(err)
	}
	e, err := engine.New(context.Background(), engine.Config{
		Identity: who, Store: store, Policies: book, Host: instantHost{},
		Executors: map[op.Class]engine.Executor{op.GuestDestroy: instantHost{}},
		Clock:     systemClock{}, Draw: func() (c op.Claim) { _, _ = rand.Read(c[:]); return c },
		Log: slog.New(slog.DiscardHandler), Queue: 4096, Parallel: 1024,
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := e.Stop(context.Background()); err != nil {
			b.Error(err)
		}
		if err := store.Close(); err != nil {
			b.Error(err)
		}
	})
	return e, store
}

// benchOrders signs n orders for n guests.
func benchOrders(b *testing.B, from, n int) []engine.Submission {
	b.Helper()
	_, signer := benchSigner()
	now := time.Now().UTC().Truncate(time.Second)
	subs := make([]engine.Submission, n)
	for i := range subs {
		target := op.Target{Node: "pve1", Guest: &op.Guest{Type: op.QEMU, VMID: 100 + from + i}}
		sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("bench nonce"), uint64(from+i)))
		seen := instantHost{}.seen(target)
		d := signedop.Document{
			Version: 1, Nonce: op.Nonce(fmt.Sprintf("%x", sum[:16])), Audience: "lab/" + string(benchLedger), Class: op.GuestDestroy,
			Target: target, Expect: signedop.Expect{Name: seen.Name, SMBIOSUUID: seen.SMBIOSUUID, Volumes: seen.Volumes},
			Role: "operator", RequestedBy: "alice", NotBefore: now.Add(-time.Minute), ExpiresAt: now.Add(6 * time.Hour), Reason: "bench",
		}
		raw, err := signedop.Seal(d, signer)
		if err != nil {
			b.Fatal(err)
		}
		subs[i] = engine.Submission{Intent: d.Intent(), Envelope: raw}
	}
	return subs
}

// each runs n pieces of work on so many goroutines and tells how long it took.
func each(workers, n int, do func(i int)) time.Duration {
	var next atomic.Int64
	var wg sync.WaitGroup
	begin := time.Now()
	for range min(workers, n) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				do(i)
			}
		})
	}
	wg.Wait()
	return time.Since(begin)
}

// BenchmarkSignedOps runs signed ops through the whole engine, and in the same
// run the floor: for each op one Ed25519 verification and as many fsynced
// group commits of the same bytes, and nothing else.
func BenchmarkSignedOps(b *testing.B) {
	for _, submitters := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("submitters=%d", submitters), func(b *testing.B) {
			asServed(b)
			e, store := benchService(b)
			n := max(b.N, submitters)
			subs := benchOrders(b, 0, n)
			b.ReportAllocs()
			b.ResetTimer()
			before := processorTime(b)
			took := each(submitters, n, func(i int) {
				a := e.RunSignedJob(context.Background(), subs[i])
				if a.Outcome == engine.InFlight {
					a = e.Wait(context.Background(), a.Nonce)
				}
				if a.Outcome != engine.Succeeded {
					b.Errorf("op %d: %s: %s", i, a.Outcome, a.Detail)
				}
			})
			b.StopTimer()
			after := processorTime(b)
			if b.Failed() {
				return
			}
			floor := runFloor(b, store, submitters, n, subs)
			b.ReportMetric(float64((after-before).Microseconds())/float64(n), "cpu-µs/op")
			b.ReportMetric(float64((processorTime(b)-after).Microseconds())/float64(n), "floor-cpu-µs/op")
			b.ReportMetric(float64(n)/took.Seconds(), "ops/s")
			b.ReportMetric(float64(n)/floor.Seconds(), "floor-ops/s")
			b.ReportMetric(floor.Seconds()/took.Seconds(), "of-floor")
			if submitters == 1 {
				b.ReportMetric(float64((took-floor).Microseconds())/float64(n), "added-µs/op")
			}
		})
	}
}

// processorTime is what the process has used of it so far.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// asServed has garbage collected as writ serve has it, until the benchmark ends.
func asServed(b *testing.B) {
	b.Helper()
	percent, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(-1)
	debug.SetGCPercent(percent)
	b.Cleanup(func() {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
	})
	keepMemorySmall(b.Context())
}

// runFloor does what no implementation can do without.
func runFloor(b *testing.B, store *pebblestore.Store, submitters, n int, subs []engine.Submission) time.Duration {
	b.Helper()
	key, _ := benchSigner()
	public, _ := key.Public().(ed25519.PublicKey)
	message, err := signedop.PAEOf(subs[0].Envelope)
	if err != nil {
		b.Fatal(err)
	}
	sig := ed25519.Sign(key, message)
	u, err := signedop.Parse(subs[0].Envelope)
	if err != nil {
		b.Fatal(err)
	}
	var values [][]byte
	for ev, err := range store.ReadStream(context.Background(), eventstore.StreamID(u.Nonce().Stream()), 0) {
		if err != nil {
			b.Fatal(err)
		}
		values = append(values, append(bytes.Clone(ev.Data), ev.Metadata...))
	}
	if len(values) != 4 {
		b.Fatalf("an op has %d events, want 4", len(values))
	}
	db, err := pebble.Open(b.TempDir(), &pebble.Options{Logger: quiet{}})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	var seq atomic.Uint64
	return each(submitters, n, func(int) {
		if !ed25519.Verify(public, message, sig) {
			b.Error("the floor's signature does not verify")
		}
		for _, v := range values {
			if err := db.Set(binary.BigEndian.AppendUint64(nil, seq.Add(1)), v, pebble.Sync); err != nil {
				b.Error(err)
			}
		}
	})
}

type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(f string, a ...any) {
	panic(fmt.Sprintf(f, a...))
}
