package kills_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/crypto/ssh"

	"writ/adapters/pebblestore"
	"writ/domain/engine"
	"writ/domain/eventstore"
	"writ/domain/gate"
	"writ/domain/op"
	"writ/domain/signedop"
)

var losses = flag.Int("losses", perHistory, "how often TestPowerLoss cuts the power")

const (
	powerLedger = eventstore.LedgerID("3f9c2ab41d6e4a70")
	ledgerDir   = "ledger"
	// perHistory is how often the power goes over one ledger.
	perHistory = 25
	// hurry is by how much the engine's time passes faster than ours.
	hurry = 50
)

// Whatever a disk keeps of what was not synced, the next start finds all that was
// acknowledged, never launches what may have been sent, and never takes a torn
// end for damage.
func TestPowerLoss(t *testing.T) {
	t.Parallel()
	n := *losses
	for first := 0; first < n; first += perHistory {
		t.Run(fmt.Sprintf("seed=%d", int(*seed)+first), func(t *testing.T) {
			newHistory(t, *seed+uint64(first)).play(min(perHistory, n-first))
		})
	}
}

// A power is that of one life of the service's machine. When it goes, it goes for
// everything at one instant: nothing is half done outside.
type power struct {
	mu  sync.RWMutex
	off bool
}

// on does something, unless there is no power.
func (p *power) on(do func() error) error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.off {
		return errPower
	}
	return do()
}

// A fastClock passes time faster, so that what waits for seconds comes to an end
// within a life of a fraction of one.
type fastClock struct{ began time.Time }

func (c fastClock) Now() time.Time {
	passed := time.Since(c.began)
	return c.began.Add(passed * hurry)
}

func (c fastClock) Wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d / hurry)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// An acknowledgement is an append of which the engine was told that it is on
// record.
type acknowledgement struct {
	stream eventstore.StreamID
	answer eventstore.Appended
	id     eventstore.EventID
}

// A history is one ledger through many losses of power, with what outlives each:
// the host, the callers, and the mark that is kept on another disk.
type history struct {
	t     *testing.T
	rng   *rand.Rand
	disk  *vfs.MemFS
	host  *outside
	clock fastClock
	log   *tail

	mu     sync.Mutex // guards what follows
	acks   []acknowledgement
	orders []*powerOrder
	mark   engine.Mark
	marked bool
	found  map[op.State]int // by what was in flight after a loss
	torn   int              // losses while the ledger was being opened
}

type powerOrder struct {
	nonce op.Nonce
	vmid  int
	sub   engine.Submission
	acked bool // guarded by the history's lock
}

func newHistory(t *testing.T, seed uint64) *history {
	t.Helper()
	h := &history{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), disk: vfs.NewCrashableMem(), host: newOutside(seed),
		clock: fastClock{time.Now()}, log: &tail{}, found: make(map[op.State]int),
	}
	if err := pebblestore.Create(ledgerDir, powerLedger, h.options(h.disk)); err != nil {
		t.Fatal(err)
	}
	h.mark, h.marked = engine.Mark{Ledger: powerLedger}, true
	return h
}

// options make tables small, so that there are many.
func (h *history) options(disk vfs.FS) pebblestore.Options {
	return pebblestore.Options{FS: disk, CacheBytes: 1 << 20, MemTableBytes: 64 << 10, Clock: h.clock.Now}
}

func (h *history) play(losses int) {
	for i := range losses {
		if h.rng.IntN(6) == 0 {
			h.loseWhileOpening()
		}
		m := h.rise(i)
		m.load(3 + h.rng.IntN(8))
		most := 60 * time.Millisecond
		if h.rng.IntN(6) == 0 {
			most = 400 * time.Millisecond
		}
		<-time.After(time.Duration(h.rng.Int64N(int64(most))))
		h.disk = m.lose(h.rng)
	}
	h.end()
}

// loseWhileOpening cuts the power at some moment of a start.
func (h *history) loseWhileOpening() {
	h.t.Helper()
	opened := make(chan error, 1)
	go func() {
		s, err := pebblestore.Open(ledgerDir, h.options(h.disk))
		if err == nil {
			err = s.Close()
		}
		opened <- err
	}()
	<-time.After(time.Duration(h.rng.Int64N(int64(4 * time.Millisecond))))
	after := h.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: h.rng.IntN(101), RNG: h.rng})
	if err := <-opened; err != nil {
		h.t.Fatalf("the ledger does not open: %v", err)
	}
	h.disk = after
	h.torn++
}

func powerPolicy() gate.PolicyDocument {
	line := string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(alice().Key().Public)))
	return gate.PolicyDocument{
		Version: 1,
		People:  map[string]gate.Person{"alice": {Keys: []gate.Key{{Key: line, Format: "raw"}}}},
		Roles: map[string]gate.Role{"operator": {
			Holders: []string{"alice"}, Quorum: 1, MaxLifetime: "240h", RequesterCounts: true,
			Allow: []gate.Rule{{Classes: []op.Class{op.GuestDestroy}, On: gate.On{VMIDs: []string{"100-999999999"}}}},
		}},
	}
}

func (h *history) newOrder(vmid int) *powerOrder {
	h.t.Helper()
	sum := sha256.Sum256(fmt.Appendf(nil, "power %d", vmid))
	now := h.clock.began.UTC().Truncate(time.Second)
	d := signedop.Document{
		Version: 1, Nonce: op.Nonce(fmt.Sprintf("%x", sum[:16])), Audience: "lab/" + string(powerLedger), Class: op.GuestDestroy,
		Target: op.Target{Node: "pve1", Guest: &op.Guest{Type: op.QEMU, VMID: vmid}},
		Expect: signedop.Expect{Name: "web", SMBIOSUUID: uuidOf(vmid), Volumes: []string{volumeOf(vmid)}},
		Role:   "operator", RequestedBy: "alice", NotBefore: now.Add(-time.Minute), ExpiresAt: now.Add(200 * time.Hour), Reason: "retire web",
	}
	writ, err := signedop.Seal(d, alice())
	if err != nil {
		panic(err)
	}
	return &powerOrder{nonce: d.Nonce, vmid: vmid, sub: engine.Submission{Intent: d.Intent(), Envelope: writ, SubmittedBy: "test"}}
}
