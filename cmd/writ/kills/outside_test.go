package kills_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"

	"writ/domain/engine"
	"writ/domain/op"
)

// An outside is a host that goes on living when the power goes where the service
// runs. It loses requests and replies, carries requests out late, and keeps the
// account of what was done. What it is asked makes its time pass.
type outside struct {
	mu   sync.Mutex
	rng  *rand.Rand
	calm bool // nothing goes wrong any more
	gone map[int]bool
	sent map[string]*sent // by op id
	late []*sent          // on their way
	dead map[string]bool  // op ids of attempts that are fenced
	// wrong is what must never happen.
	wrong []string
}

// A sent request is one that the service sent off, and its task once there is one.
type sent struct {
	l      *op.Launching
	delay  int // questions until it arrives
	upid   string
	left   int // questions until its task ends
	hidden int // looks for it that don't find it yet
	exit   string
	effect bool
}

var (
	errLost  = errors.New("connection lost")
	errPower = errors.New("the power is off")
)

const beforeEffect = "VM is locked (backup)"

func newOutside(seed uint64) *outside {
	return &outside{rng: rand.New(rand.NewPCG(seed, 3)), gone: make(map[int]bool), sent: make(map[string]*sent), dead: make(map[string]bool)}
}

func (h *outside) chance(percent int) bool { return !h.calm && h.rng.IntN(100) < percent }

// pass lets requests arrive that are late. Called with the lock held.
func (h *outside) pass() {
	var still []*sent
	for _, r := range h.late {
		if r.delay--; r.delay > 0 {
			still = append(still, r)
			continue
		}
		h.arrive(r)
	}
	h.late = still
}

// settle lets everything arrive that is still on its way.
func (h *outside) settle() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.late {
		h.arrive(r)
	}
	h.late = nil
}

// arrive is where a request becomes a task. Called with the lock held.
func (h *outside) arrive(r *sent) {
	vmid := r.l.Target.Guest.VMID
	if h.dead[r.l.OpID] || h.gone[vmid] {
		return
	}
	r.upid = fmt.Sprintf("UPID:%s:%08X:00ABCDEF:68A60E01:qmdestroy:%d:%s:", r.l.Node, len(h.sent), vmid, r.l.Credential)
	r.left, r.exit = h.rng.IntN(4), "OK"
	if h.chance(20) {
		r.hidden = 1 + h.rng.IntN(2)
	}
	if h.chance(10) {
		r.exit = beforeEffect
		return
	}
	r.effect, h.gone[vmid] = true, true
	for _, other := range h.sent {
		if other != r && other.effect && other.l.Nonce == r.l.Nonce {
			h.wrong = append(h.wrong, fmt.Sprintf("nonce %s took effect by %s and by %s", r.l.Nonce.Short(), other.l.OpID, r.l.OpID))
		}
	}
}

func uuidOf(vmid int) string { return fmt.Sprintf("5c6f0f0e-7a3b-4d1c-9e2f-%012d", vmid) }

func volumeOf(vmid int) string { return fmt.Sprintf("local-lvm:vm-%d-disk-0", vmid) }

// A line is how one life of the service reaches the host: cut when the power goes.
type line struct {
	*outside
	power *power
}

// ask is a question or request that reaches the host, if there is power.
func (n line) ask(do func() error) error {
	return n.power.on(func() error {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.pass()
		if n.chance(3) {
			return errLost
		}
		return do()
	})
}

func (n line) Facts(_ context.Context, t op.Target) (f op.Facts, err error) {
	err = n.ask(func() error {
		f = op.Facts{Found: !n.gone[t.Guest.VMID], Node: t.Node, Name: "web", Storages: []string{"local-lvm"}}
		return nil
	})
	return f, err
}

func (n line) Observe(_ context.Context, a engine.Attempt) (seen op.Observed, err error) {
	t := a.Intent.Target
	err = n.ask(func() error {
		seen = op.Observed{Node: t.Node, NodeOnline: true, Quorate: true}
		if vmid := t.Guest.VMID; !n.gone[vmid] {
			seen = op.Observed{
				Found: true, Node: t.Node, Type: op.QEMU, VMID: vmid, Name: "web", SMBIOSUUID: uuidOf(vmid), Volumes: []string{volumeOf(vmid)},
				Digest: "da39a3ee5e6b4b0d3255bfef95601890afd80709", Status: "stopped", NodeOnline: true, Quorate: true,
			}
		}
		return nil
	})
	return seen, err
}

func (line) Request(a engine.Attempt, seen op.Observed) (op.Request, string, error) {
	return op.Request{Method: "DELETE", Path: fmt.Sprintf("/nodes/%s/qemu/%d", seen.Node, seen.VMID)},
		fmt.Sprintf("writ@pve!w-%s-%d", a.Nonce.Short(), a.Number), nil
}

func (n line) Launch(_ context.Context, _ engine.Attempt, l *op.Launching) (upid string, err error) {
	err = n.power.on(func() error {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.pass()
		r := &sent{l: l}
		if n.sent[l.OpID] != nil {
			n.wrong = append(n.wrong, fmt.Sprintf("attempt %s was launched twice", l.OpID))
		}
		n.sent[l.OpID] = r
		switch {
		case n.chance(10):
			return errLost
		case n.chance(5):
			return engine.Definite(errors.New("VM is protected"))
		case n.chance(15):
			// By far more than recovery asks about an attempt, at times.
			r.delay = 1 + n.rng.IntN([]int{60, 2000}[n.rng.IntN(2)])
			n.late = append(n.late, r)
			return errLost
		}
		n.arrive(r)
		if n.chance(15) {
			return errLost
		}
		upid = r.upid
		if upid == "" {
			return engine.Definite(errors.New("no such guest"))
		}
		return nil
	})
	return upid, err
}

func (n line) Task(_ context.Context, upid string) (task engine.Task, err error) {
	err = n.ask(func() error {
		task.Phase = engine.TaskForgotten
		for _, r := range n.sent {
			switch {
			case r.upid != upid:
			case r.left > 0:
				r.left--
				task.Phase = engine.TaskActive
			default:
				task = engine.Task{Phase: engine.TaskEnded, ExitStatus: r.exit}
			}
		}
		return nil
	})
	return task, err
}

func (n line) FindTasks(_ context.Context, l *op.Launching) (s engine.TaskSearch, err error) {
	s = engine.TaskSearch{Exact: true, Complete: true}
	err = n.ask(func() error {
		if r := n.sent[l.OpID]; r != nil && r.upid != "" {
			if r.hidden > 0 {
				r.hidden--
				return nil
			}
			s.UPIDs = []string{r.upid}
		}
		return nil
	})
	return s, err
}

func (n line) Fence(_ context.Context, l *op.Launching) (engine.Fence, error) {
	err := n.ask(func() error { n.dead[l.OpID] = true; return nil })
	return engine.Fence{Confirmed: err == nil}, err
}

func (line) PrecedesEffect(exit string) bool { return exit == beforeEffect }

func (n line) Probe(_ context.Context, l *op.Launching, _ string, _ []string) (f engine.Finding, err error) {
	err = n.ask(func() error {
		f.Evidence = op.Evidence{Effect: op.EffectNone, Reasons: []string{"the guest is as it was"}}
		if n.gone[l.Target.Guest.VMID] {
			f.Evidence = op.Evidence{Effect: op.EffectDone, Reasons: []string{"no guest of this identity exists"}}
		}
		return nil
	})
	return f, err
}
