package audit_test

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"writ/domain/gate"
	"writ/domain/op"
	"writ/domain/signedop"
	"writ/projections/audit"
)

// benchRecord is a ledger of n ops that succeeded, each signed by one person.
func benchRecord(b *testing.B, n int) list {
	b.Helper()
	r := newRecord(b)
	r.policy("100-199")
	for i := range n {
		s := r.story(fmt.Sprintf("bench %d", i), 105)
		s.done()
	}
	return r.events()
}

// floor is what no audit can do without: each writ parsed strictly and its
// signatures verified, each event parsed strictly, its id and its chain hash
// computed; on as many cores.
func floor(l list) {
	keys := make([]signedop.Key, 0, 2)
	for _, name := range []string{"alice", "bob"} {
		keys = append(keys, signer(name).Key())
	}
	var running sync.WaitGroup
	cores := runtime.GOMAXPROCS(0)
	for w := range cores {
		running.Go(func() {
			from, to := len(l)*w/cores, len(l)*(w+1)/cores
			for _, e := range l[from:to] {
				if e.Stream == gate.PolicyStream {
					continue
				}
				_ = op.EventID(string(e.Stream), uint64(e.Revision), e.Type, e.Data)
				_ = op.Chain(ledger, string(e.Stream), uint64(e.Revision), e.Type, e.Data, op.Digest{})
				ev, err := op.Decode(e.Type, e.Data)
				if err != nil {
					panic(err)
				}
				started, ok := ev.(*op.Started)
				if !ok {
					continue
				}
				u, err := signedop.Parse(started.Envelope)
				if err != nil {
					panic(err)
				}
				if v, _ := u.Verify(keys); v == nil {
					panic("a signature that is none")
				}
			}
		})
	}
	running.Wait()
}

// cpu is the processor time that the process has used. On a machine that does
// other things besides, it tells more than the clock on the wall.
func cpu() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// a watch sums up what something takes.
type watch struct{ wall, cpu float64 }

func (w *watch) time(b *testing.B, f func()) {
	b.Helper()
	wall, used := b.Elapsed().Seconds(), cpu()
	f()
	w.wall += b.Elapsed().Seconds() - wall
	w.cpu += cpu() - used
}

// BenchmarkVerify gives the ops that Verify checks in a second, from a ledger
// in memory and from an export, beside what verify, strict parse and hash alone
// allow on the same cores in the same run: by the clock, and by processor time.
func BenchmarkVerify(b *testing.B) {
	const ops = 4000
	l := benchRecord(b, ops)
	data := export(b, l)
	var least, store, exported watch
	for b.Loop() {
		least.time(b, func() { floor(l) })
		store.time(b, func() {
			if r := verify(b, l, audit.Options{}); !r.Sound || r.Counts.Claims != ops {
				b.Fatalf("the record is not sound: %+v", r)
			}
		})
		exported.time(b, func() {
			if r := verifyExport(b, data); !r.Sound || r.Counts.Claims != ops {
				b.Fatalf("the export is not sound: %+v", r)
			}
		})
	}
	n := float64(b.N) * ops
	b.ReportMetric(n/least.wall, "floor-ops/s")
	b.ReportMetric(n/store.wall, "store-ops/s")
	b.ReportMetric(n/exported.wall, "export-ops/s")
	b.ReportMetric(least.wall/store.wall, "store/floor")
	b.ReportMetric(least.wall/exported.wall, "export/floor")
	b.ReportMetric(least.cpu/store.cpu, "store/floor-cpu")
	b.ReportMetric(least.cpu/exported.cpu, "export/floor-cpu")
	b.ReportMetric(1e6*least.cpu/n, "floor-cpu-us/op")
	b.ReportMetric(1e6*store.cpu/n, "store-cpu-us/op")
	b.ReportMetric(0, "ns/op")
}

func verifyExport(t testing.TB, data []byte) *audit.Report {
	t.Helper()
	src, err := audit.OpenExport(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	r, err := audit.Verify(context.Background(), src, audit.Options{})
	if err != nil {
		t.Fatalf("verify: %v", err)
	}
	return r
}
