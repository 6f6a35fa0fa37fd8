package engine_test

import (
	"context"
	"fmt"
	"sync"

	"writ/domain/engine"
	"writ/domain/op"
)

// A fakeHost is a host in memory that does at once what it is told, and keeps
// its own account of what was done to it.
type fakeHost struct {
	mu       sync.Mutex
	guests   map[int]op.Observed
	tasks    map[string]engine.Task
	launches []*op.Launching // every request that reached it
	attempts []engine.Attempt
	fences   int
	owner    map[string]string // task -> op id
	fenced   map[string]bool   // op ids whose late requests do nothing
	effects  map[op.Nonce]int
	busy     map[int]int // requests under way by VMID, to see overlaps
	overlap  bool

	// What happens to a launch; nil: it is carried out, the task ends OK.
	onLaunch func(h *fakeHost, l *op.Launching) (string, error)
	// Errors for questions, by name of the method; counted down.
	failures map[string]int
	// onFacts and onObserve run before the answer.
	onFacts, onObserve func()
	precedes           map[string]bool
	finding            *engine.Finding
	onProbe            func(exit string) // runs before the answer
	forgets            bool              // each task, once it was asked for
	// What recovery is told; nil: the tasks of the attempt that there are, and
	// a fence that holds.
	search func(h *fakeHost, l *op.Launching) engine.TaskSearch
	fence  func(h *fakeHost, l *op.Launching) engine.Fence
	hang   chan struct{} // while it is open, searches get no answer
}

func newFakeHost() *fakeHost {
	return &fakeHost{
		guests: make(map[int]op.Observed), tasks: make(map[string]engine.Task), owner: make(map[string]string), fenced: make(map[string]bool), effects: make(map[op.Nonce]int),
		failures: make(map[string]int), precedes: map[string]bool{"VM is locked (backup)": true}, busy: make(map[int]int),
	}
}

// change changes what happens from now on, while questions are under way.
func (h *fakeHost) change(f func(h *fakeHost)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f(h)
}

func (h *fakeHost) add(g op.Observed) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.guests[g.VMID] = g
}

// fails tells whether a question is to fail now. Called with the lock held.
func (h *fakeHost) fails(method string) error {
	if h.failures[method] > 0 {
		h.failures[method]--
		return fmt.Errorf("%s: connection refused", method)
	}
	return nil
}

func (h *fakeHost) Facts(_ context.Context, t op.Target) (op.Facts, error) {
	if h.onFacts != nil {
		h.onFacts()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	g, ok := h.guests[t.Guest.VMID]
	return op.Facts{Found: ok, Node: g.Node, Name: g.Name, Storages: []string{"local-lvm"}}, h.fails("Facts")
}

func (h *fakeHost) Observe(_ context.Context, a engine.Attempt) (op.Observed, error) {
	t := a.Intent.Target
	if h.onObserve != nil {
		h.onObserve()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.guests[t.Guest.VMID], h.fails("Observe")
}

func (h *fakeHost) Request(a engine.Attempt, seen op.Observed) (op.Request, string, error) {
	return op.Request{
		Method: "DELETE", Path: fmt.Sprintf("/nodes/%s/%s/%d", seen.Node, seen.Type, a.Intent.Target.Guest.VMID),
	}, "writ@pve!launch", nil
}

func (h *fakeHost) Launch(_ context.Context, a engine.Attempt, l *op.Launching) (string, error) {
	h.mu.Lock()
	h.launches = append(h.launches, l)
	h.attempts = append(h.attempts, a)
	h.busy[l.Target.Guest.VMID]++
	if h.busy[l.Target.Guest.VMID] > 1 {
		h.overlap = true
	}
	onLaunch := h.onLaunch
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.busy[l.Target.Guest.VMID]--
	}()
	if onLaunch != nil {
		return onLaunch(h, l)
	}
	return h.carryOut(l, "OK"), nil
}

// carryOut does what the request asks for and gives the task.
func (h *fakeHost) carryOut(l *op.Launching, exit string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.guests, l.Target.Guest.VMID)
	h.effects[l.Nonce]++
	return h.task(l, engine.Task{Phase: engine.TaskEnded, ExitStatus: exit})
}

// start registers a task without any effect.
func (h *fakeHost) start(l *op.Launching, t engine.Task) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.task(l, t)
}

func (h *fakeHost) task(l *op.Launching, t engine.Task) string {
	upid := fmt.Sprintf("UPID:%s:%08X:%08X:%08X:qmdestroy:%d:%s:", l.Node, len(h.tasks)+1, 7, 8, l.Target.Guest.VMID, l.Credential)
	h.tasks[upid] = t
	h.owner[upid] = l.OpID
	return upid
}

func (h *fakeHost) Task(_ context.Context, upid string) (engine.Task, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.fails("Task"); err != nil {
		return engine.Task{}, err
	}
	t, ok := h.tasks[upid]
	if !ok {
		return engine.Task{Phase: engine.TaskForgotten}, nil
	}
	if h.forgets {
		delete(h.tasks, upid)
	}
	return t, nil
}

func (h *fakeHost) PrecedesEffect(s string) bool { return h.precedes[s] }

func (h *fakeHost) Probe(_ context.Context, l *op.Launching, exit string, _ []string) (engine.Finding, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.fails("Probe"); err != nil {
		return engine.Finding{}, err
	}
	if h.onProbe != nil {
		h.onProbe(exit)
	}
	if h.finding != nil {
		return *h.finding, nil
	}
	g, ok := h.guests[l.Target.Guest.VMID]
	if !ok || g.SMBIOSUUID != l.Observed.SMBIOSUUID {
		return engine.Finding{Evidence: op.Evidence{Effect: op.EffectDone, Reasons: []string{"no such guest any more"}}}, nil
	}
	return engine.Finding{Evidence: op.Evidence{Effect: op.EffectNone, Reasons: []string{"the guest is as it was"}}}, nil
}

func (h *fakeHost) launched() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.launches)
}

func (h *fakeHost) FindTasks(ctx context.Context, l *op.Launching) (engine.TaskSearch, error) {
	if h.hang != nil {
		select {
		case <-h.hang:
		case <-ctx.Done():
			return engine.TaskSearch{}, ctx.Err()
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.fails("FindTasks"); err != nil {
		return engine.TaskSearch{}, err
	}
	if h.search != nil {
		return h.search(h, l), nil
	}
	s := engine.TaskSearch{Exact: true, Complete: true}
	for upid := range h.tasks {
		if h.owner[upid] == l.OpID {
			s.UPIDs = append(s.UPIDs, upid)
		}
	}
	return s, nil
}

func (h *fakeHost) Fence(_ context.Context, l *op.Launching) (engine.Fence, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.fails("Fence"); err != nil {
		return engine.Fence{}, err
	}
	h.fences++
	if h.fence != nil {
		return h.fence(h, l), nil
	}
	h.fenced[l.OpID] = true
	return engine.Fence{Confirmed: true, Digest: "fenced", Gone: h.guests[l.Target.Guest.VMID].SMBIOSUUID != l.Observed.SMBIOSUUID}, nil
}
