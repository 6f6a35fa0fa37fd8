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
}

func newFakeHost() *fakeHost {
	return &fakeHost{
		guests: make(map[int]op.Observed), tasks: make(map[string]engine.Task), effects: make(map[op.Nonce]int),
		failures: make(map[string]int), precedes: map[string]bool{"VM is locked (backup)": true}, busy: make(map[int]int),
	}
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

func (h *fakeHost) Observe(_ context.Context, t op.Target) (op.Observed, error) {
	if h.onObserve != nil {
		h.onObserve()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.guests[t.Guest.VMID], h.fails("Observe")
}

func (h *fakeHost) Request(i op.Intent, seen op.Observed) (op.Request, string, error) {
	return op.Request{
		Method: "DELETE", Path: fmt.Sprintf("/nodes/%s/%s/%d", seen.Node, seen.Type, i.Target.Guest.VMID),
	}, "writ@pve!launch", nil
}

func (h *fakeHost) Launch(_ context.Context, l *op.Launching) (string, error) {
	h.mu.Lock()
	h.launches = append(h.launches, l)
	h.busy[l.Target.Guest.VMID]++
	if h.busy[l.Target.Guest.VMID] > 1 {
		h.overlap = true
	}
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.busy[l.Target.Guest.VMID]--
	}()
	if h.onLaunch != nil {
		return h.onLaunch(h, l)
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
	return t, nil
}

func (h *fakeHost) PrecedesEffect(s string) bool { return h.precedes[s] }

func (h *fakeHost) Probe(_ context.Context, l *op.Launching, _ string, _ []string) (engine.Finding, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.fails("Probe"); err != nil {
		return engine.Finding{}, err
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
