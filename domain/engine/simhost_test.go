package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"writ/domain/engine"
	"writ/domain/op"
)

// A simHost is a host that misbehaves by chance: it loses replies, carries
// requests out long after they were sent, lets tasks die and forgets them. It
// keeps its own account of what was done to its guests, and by whom.
type simHost struct {
	mu     sync.Mutex // guards everything
	rng    *rand.Rand
	shared bool // one credential for all ops
	calm   bool // nothing goes wrong any more
	away   bool // answers no question

	guests   map[int]*simGuest
	made     int
	requests []*simRequest
	wrong    []string // what must never happen

	// onEffect and onLaunch look at the ledger. They are called with the lock
	// held.
	onEffect, onLaunch func(r *simRequest) string
}

type simGuest struct {
	seen    op.Observed
	partial bool // some of its volumes are gone
}

type requestState int

const (
	onItsWay   requestState = iota + 1
	atWork                  // as a task
	over                    // its task has ended
	neverBegan              // and never will
)

// A simRequest is a request as it was sent, and its task once it has begun.
type simRequest struct {
	l       *op.Launching
	state   requestState
	dead    bool      // the credential is fenced
	acl     *simGuest // that the credential has a right on
	upid    string
	begun   time.Time
	hidden  time.Time // not listed before
	exit    string
	effect  bool
	victim  string // uuid of the guest it acted on
	forgets bool   // the host does, of the task
}

func newSimHost(rng *rand.Rand, shared bool) *simHost {
	return &simHost{rng: rng, shared: shared, guests: make(map[int]*simGuest)}
}

func (h *simHost) chance(p float64) bool { return !h.calm && h.rng.Float64() < p }

func (h *simHost) within(d time.Duration) time.Duration { return time.Duration(h.rng.Int64N(int64(d))) }

// replace makes a guest anew under its VMID, as other people do.
func (h *simHost) replace(vmid int) op.Observed {
	h.made++
	g := web3()
	g.VMID = vmid
	g.SMBIOSUUID = fmt.Sprintf("5c6f0f0e-7a3b-4d1c-9e2f-%012d", h.made)
	g.Volumes = []string{fmt.Sprintf("local-lvm:vm-%d-disk-%d", vmid, h.made)}
	h.guests[vmid] = &simGuest{seen: g}
	return g
}

// begin makes a task of a request, if the host lets it. Called with the lock
// held.
func (h *simHost) begin(r *simRequest) {
	if r.state != onItsWay {
		return
	}
	g := h.guests[r.l.Target.Guest.VMID]
	if r.dead || g == nil || g.seen.Protection || !h.shared && g != r.acl {
		r.state = neverBegan
		return
	}
	r.state, r.begun = atWork, time.Now()
	r.upid = fmt.Sprintf("UPID:%s:%08X:%08X:%08X:qmdestroy:%d:%s:", r.l.Node, len(h.requests), 7, time.Now().UnixNano()/1e6, r.l.Target.Guest.VMID, r.l.Credential)
	if h.chance(0.2) {
		r.hidden = time.Now().Add(h.within(4 * time.Second))
	}
	takes := h.within(20 * time.Second)
	if h.chance(0.1) {
		takes = h.within(30 * time.Minute)
	}
	go func() {
		pass(takes)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.end(r)
	}()
}

// end lets a task come to its end. Under its lock it looks for the guest and
// its protection again, and for nothing else.
func (h *simHost) end(r *simRequest) {
	r.state = over
	g := h.guests[r.l.Target.Guest.VMID]
	switch {
	case g == nil:
		r.exit = "Configuration file does not exist"
		return
	case g.seen.Protection:
		r.exit = "VM is locked (backup)" // one of those that come before any effect
		return
	case h.chance(0.2):
		r.exit = "VM is locked (backup)"
		return
	}
	r.effect, r.victim = true, g.seen.SMBIOSUUID
	if h.chance(0.2) {
		g.partial, r.exit = true, "unexpected status"
	} else {
		delete(h.guests, r.l.Target.Guest.VMID)
		r.exit = "OK"
	}
	if why := h.onEffect(r); why != "" {
		h.wrong = append(h.wrong, why)
	}
	if h.chance(0.15) {
		r.forgets = true
	}
}

// A simProcess is the host as one process of the service reaches it: not any
// more, once that is dead.
type simProcess struct {
	*simHost
	dead chan struct{}
}

// ask begins a question; an error is all the answer there is.
func (p simProcess) ask(ctx context.Context) error {
	p.mu.Lock()
	lost, takes := p.away || p.chance(0.1), p.within(200*time.Millisecond)
	p.mu.Unlock()
	select {
	case <-p.dead:
		return errors.New("the process is dead")
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(takes):
	}
	if lost {
		return errors.New("connection refused")
	}
	return nil
}

func (p simProcess) Facts(ctx context.Context, t op.Target) (op.Facts, error) {
	if err := p.ask(ctx); err != nil {
		return op.Facts{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.guests[t.Guest.VMID]
	return op.Facts{Found: g != nil, Node: "pve1", Name: "web-3", Storages: []string{"local-lvm"}}, nil
}

func (p simProcess) Observe(ctx context.Context, a engine.Attempt) (op.Observed, error) {
	t := a.Intent.Target
	if err := p.ask(ctx); err != nil {
		return op.Observed{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if g := p.guests[t.Guest.VMID]; g != nil {
		return g.seen, nil
	}
	return op.Observed{}, nil
}

func (p simProcess) Request(a engine.Attempt, seen op.Observed) (op.Request, string, error) {
	credential := "writ@pve!shared"
	if !p.shared {
		credential = fmt.Sprintf("writ@pve!%s-%d", a.Nonce[:8], a.Number)
	}
	return op.Request{Method: "DELETE", Path: fmt.Sprintf("/nodes/pve1/qemu/%d", a.Intent.Target.Guest.VMID)}, credential, nil
}

func (p simProcess) Launch(_ context.Context, _ engine.Attempt, l *op.Launching) (string, error) {
	select {
	case <-p.dead:
		return "", errors.New("the process is dead")
	default:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	r := &simRequest{l: l, state: onItsWay, acl: p.guests[l.Target.Guest.VMID]}
	if why := p.onLaunch(r); why != "" {
		p.wrong = append(p.wrong, why)
	}
	p.requests = append(p.requests, r)
	lost := errors.New("connection reset")
	switch {
	case !p.shared && (r.acl == nil || r.acl.seen.SMBIOSUUID != l.Observed.SMBIOSUUID), p.chance(0.1):
		r.state = neverBegan
		return "", engine.Definite(errors.New("the host said no"))
	case p.chance(0.1): // never arrives
		r.state = neverBegan
		return "", lost
	case p.chance(0.2): // waits somewhere
		late := p.within(20 * time.Minute)
		go func() {
			pass(late)
			p.mu.Lock()
			defer p.mu.Unlock()
			p.begin(r)
		}()
		return "", lost
	}
	p.begin(r)
	if p.chance(0.2) {
		return "", lost
	}
	takes := p.within(time.Second)
	if p.chance(0.1) {
		takes = p.within(time.Minute)
	}
	p.mu.Unlock()
	select {
	case <-p.dead:
	case <-time.After(takes):
	}
	p.mu.Lock()
	if r.state == neverBegan {
		return "", engine.Definite(errors.New("the host said no"))
	}
	return r.upid, nil
}

func (p simProcess) Task(ctx context.Context, upid string) (engine.Task, error) {
	if err := p.ask(ctx); err != nil {
		return engine.Task{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.requests {
		switch {
		case r.upid != upid || r.forgets:
		case r.state == atWork:
			return engine.Task{Phase: engine.TaskActive}, nil
		default:
			return engine.Task{Phase: engine.TaskEnded, ExitStatus: r.exit}, nil
		}
	}
	return engine.Task{Phase: engine.TaskForgotten}, nil
}

func (p simProcess) PrecedesEffect(s string) bool { return s == "VM is locked (backup)" }

func (p simProcess) FindTasks(ctx context.Context, l *op.Launching) (engine.TaskSearch, error) {
	if err := p.ask(ctx); err != nil {
		return engine.TaskSearch{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s := engine.TaskSearch{Exact: !p.shared, Complete: true}
	for _, r := range p.requests {
		from := l.At.Add(-10 * time.Second) // clocks differ
		switch {
		case r.upid == "" || r.l.Target.Guest.VMID != l.Target.Guest.VMID:
		case p.shared && r.begun.Before(from), !p.shared && r.l.OpID != l.OpID:
		case r.forgets:
			s.Complete = false
		case time.Now().Before(r.hidden):
		default:
			s.UPIDs = append(s.UPIDs, r.upid)
		}
	}
	return s, nil
}

func (p simProcess) Fence(ctx context.Context, l *op.Launching) (engine.Fence, error) {
	if err := p.ask(ctx); err != nil {
		return engine.Fence{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.chance(0.2) {
		return engine.Fence{Reasons: []string{"no quorum"}}, nil
	}
	if !p.shared {
		for _, r := range p.requests {
			r.dead = r.dead || r.l.OpID == l.OpID
		}
	}
	if p.chance(0.2) {
		return engine.Fence{}, errors.New("connection reset half-way")
	}
	// The lock of the guest's configuration is waited for.
	busy := func(r *simRequest) bool { return r.state == atWork && r.l.Target.Guest.VMID == l.Target.Guest.VMID }
	for slices.ContainsFunc(p.requests, busy) {
		p.mu.Unlock()
		err := p.ask(ctx)
		p.mu.Lock()
		if err != nil {
			return engine.Fence{Reasons: []string{"got timeout"}}, nil
		}
	}
	g := p.guests[l.Target.Guest.VMID]
	if g == nil || g.seen.SMBIOSUUID != l.Observed.SMBIOSUUID {
		return engine.Fence{Gone: true, Reasons: []string{"no such guest"}}, nil
	}
	g.seen.Protection, g.seen.Digest = true, "protected"
	// A shared credential can't be made void: what is still on its way would
	// hit whoever has the VMID when the protection is gone.
	return engine.Fence{Confirmed: !p.shared, Digest: g.seen.Digest, Reasons: []string{"protected"}}, nil
}

func (p simProcess) Probe(ctx context.Context, l *op.Launching, _ string, _ []string) (engine.Finding, error) {
	if err := p.ask(ctx); err != nil {
		return engine.Finding{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	says := func(e op.Effect) (engine.Finding, error) {
		return engine.Finding{Evidence: op.Evidence{Effect: e, Reasons: []string{"looked at"}}}, nil
	}
	switch g := p.guests[l.Target.Guest.VMID]; {
	case g == nil || g.seen.SMBIOSUUID != l.Observed.SMBIOSUUID:
		return says(op.EffectDone)
	case g.partial:
		return says(op.EffectPartial)
	case g.seen.Digest != l.Observed.Digest:
		return says(op.EffectUnknown)
	}
	return says(op.EffectNone)
}
