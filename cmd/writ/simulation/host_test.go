package simulation_test

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"writ/adapters/proxmox"
	"writ/domain/engine"
	"writ/domain/op"
)

// A host is a small Proxmox VE cluster as far as guests are destroyed on it.
// Its own goroutine is the scheduler's. What it notes in its account is noted
// where it happens, and by nobody else.
type host struct {
	sim    *sim
	shared bool // one credential for all ops
	nodes  map[string]*node
	names  []string // of the nodes
	guests map[int]*guest
	made   int
	tokens map[string]*token // by their full name
	order  []*token
	tasks  []*task
	account
}

type node struct {
	name    string
	down    time.Time // not reachable before
	blind   time.Time // what was written elsewhere since then it does not see,
	sees    time.Time // before then
	alone   time.Time // not part of the quorum before
	skew    time.Duration
	history time.Time // its list of tasks reaches back to here
	booted  time.Time
}

func (n *node) reachable(now time.Time) bool { return !now.Before(n.down) }
func (n *node) quorate(now time.Time) bool   { return !now.Before(n.alone) }

// blinded lets a node miss what is written elsewhere for a while.
func (n *node) blinded(now, until time.Time) {
	if !now.Before(n.sees) {
		n.blind = now
	}
	if until.After(n.sees) {
		n.sees = until
	}
}

// A guest is one machine. One that is made anew with its VMID is another one.
type guest struct {
	number     int
	vmid       int
	node       string
	uuid       string
	vmgenid    string
	volumes    []string
	there      []bool // which of the volumes are left
	protection bool
	running    bool
	lock       string
	revision   int
	worker     *task // holds the lock of its configuration
	restored   bool  // from a backup, over itself
}

func (g *guest) digest() string { return fmt.Sprintf("%020d%020d", g.number, g.revision) }

func (g *guest) seen() op.Observed {
	status := "stopped"
	if g.running {
		status = "running"
	}
	return op.Observed{
		Found: true, Node: g.node, Type: op.QEMU, VMID: g.vmid, Name: fmt.Sprintf("web-%d", g.number),
		SMBIOSUUID: g.uuid, VMGenID: g.vmgenid, Volumes: append([]string{}, g.volumes...), Digest: g.digest(), Status: status,
		Lock: g.lock, Protection: g.protection,
	}
}

// A token is made for one attempt.
type token struct {
	name    string // in full
	comment string
	made    time.Time
	dead    time.Time // when it was made void; zero: it was not
	through string    // by the node that was asked, which knows at once
	ends    time.Time
	right   *guest // what it may destroy
}

// good tells whether a node takes a token for good.
func (t *token) good(n *node, now time.Time) bool {
	if now.Add(n.skew).After(t.ends) {
		return false
	}
	return !t.seenDead(n, now)
}

func (t *token) seenDead(n *node, now time.Time) bool {
	return !t.dead.IsZero() && (n.name == t.through || !now.Before(n.sees) || t.dead.Before(n.blind))
}

// A request is one DELETE as it was sent.
type request struct {
	number int
	by     *process
	sent   *sent
	token  *token // nil with a shared credential
	l      *op.Launching
	stage  stage
	task   *task
	since  time.Time
	prey   *guest // what its credential was good for when it was checked
	second bool   // what lies between has delivered it once more
}

// A stage is how far a request has come.
type stage uint8

const (
	onItsWay stage = iota + 1 // its credential is yet to be checked
	checked                   // its credential was good, its task is yet to begin
	begun                     // it is a task
	refused                   // it never will be one
)

// A task is what became of a request.
type task struct {
	request *request
	upid    string
	node    *node
	began   time.Time
	listed  time.Time // not in a list before
	never   bool      // never in a list, only in the cluster's log
	ended   time.Time
	exit    string
	log     []string
	prey    *guest
	orphan  bool // a child of it may still be at work
	works   bool // it is past its last check
}

const (
	serviceUser = "writ@pve"
	reader      = "writ@pve!read"
)

func newHost(s *sim, shared bool) *host {
	h := &host{sim: s, shared: shared, nodes: make(map[string]*node), guests: make(map[int]*guest), tokens: make(map[string]*token)}
	for _, name := range []string{"pve1", "pve2", "pve3"} {
		h.nodes[name] = &node{name: name, booted: s.start.Add(-100 * time.Hour), history: s.start.Add(-time.Hour)}
		h.names = append(h.names, name)
	}
	return h
}

// create makes a guest.
func (h *host) create(vmid int, name string) *guest {
	h.made++
	g := &guest{
		number: h.made, vmid: vmid, node: name,
		uuid:    fmt.Sprintf("5c6f0f0e-7a3b-4d1c-9e2f-%012d", h.made),
		vmgenid: fmt.Sprintf("0b9e3c1d-1f2e-4a5b-8c7d-%012d", h.made),
	}
	for i := range 1 + h.made%2 {
		g.volumes, g.there = append(g.volumes, fmt.Sprintf("local-lvm:vm-%d-disk-%d", vmid, i)), append(g.there, true)
	}
	h.guests[vmid] = g
	h.sim.tell("guest", g.uuid[24:], "is made")
	return g
}

// remove takes a guest away, and with it all rights on it.
func (h *host) remove(g *guest) {
	delete(h.guests, g.vmid)
	for _, t := range h.order {
		if t.right == g {
			t.right = nil
		}
	}
}

// status is an answer that is not 200.
func status(code int, text string) error {
	return &proxmox.StatusError{Method: http.MethodDelete, Status: code, Reason: text, Message: text}
}

// check is what each hop does with a request before it passes it on.
func (h *host) check(r *request) error {
	now, n := h.sim.now(), h.nodes[r.l.Node]
	id := r.l.Target.Guest.VMID
	g := h.guests[id]
	refuse := func(code int, text string) error {
		r.stage = refused
		return status(code, text)
	}
	switch {
	case r.token != nil && (h.tokens[r.token.name] != r.token || !r.token.good(n, now)):
		return refuse(http.StatusUnauthorized, "authentication failure")
	case r.token != nil && (g == nil || r.token.right != g):
		return refuse(http.StatusForbidden, fmt.Sprintf("Permission check failed (/vms/%d, VM.Allocate)", id))
	case g == nil || g.node != n.name:
		return refuse(http.StatusInternalServerError, fmt.Sprintf("Configuration file 'nodes/%s/qemu-server/%d.conf' does not exist", n.name, id))
	case g.protection:
		return refuse(http.StatusInternalServerError, fmt.Sprintf("can't remove VM %d - protection mode enabled", id))
	case g.running:
		return refuse(http.StatusInternalServerError, fmt.Sprintf("VM %d is running - destroy failed", id))
	}
	r.stage, r.prey = checked, g
	h.checked(r, g)
	return nil
}

// begin makes a task of a request that was checked.
func (h *host) begin(r *request) *task {
	d := diceFor(h.sim.seed, "task", uint64(r.number))
	now, n := h.sim.now(), h.nodes[r.l.Node]
	user := reader
	if r.token != nil {
		user = r.token.name
	}
	t := &task{request: r, node: n, began: now, upid: proxmox.UPID{
		Node: n.name, PID: uint32(1000 + len(h.tasks)), PStart: uint64(now.Sub(n.booted) / (10 * time.Millisecond)),
		Start: uint32(now.Add(n.skew).Unix()), Type: "qmdestroy", ID: fmt.Sprint(r.l.Target.Guest.VMID), User: user,
	}.String()}
	if !h.sim.calm && d.per1000(200) {
		t.listed = now.Add(d.within(3 * time.Second))
	}
	t.never = !h.sim.calm && d.per1000(20)
	r.stage, r.task = begun, t
	h.tasks = append(h.tasks, t)
	h.sim.tell("task", t.upid)
	h.sim.after(d.within(2*time.Second), func() { h.lock(t, &d, now.Add(10*time.Second)) })
	return t
}

// lock waits for the lock of the guest's configuration; under it, the task
// looks once more, at everything but whose configuration it is.
func (h *host) lock(t *task, d *dice, patience time.Time) {
	id := t.request.l.Target.Guest.VMID
	g := h.guests[id]
	switch {
	case !t.ended.IsZero():
		return
	case g == nil || g.node != t.node.name:
		h.end(t, fmt.Sprintf("Configuration file 'nodes/%s/qemu-server/%d.conf' does not exist", t.node.name, id))
		return
	case g.worker != nil && h.sim.now().Before(patience):
		h.sim.after(500*time.Millisecond, func() { h.lock(t, d, patience) })
		return
	case g.worker != nil:
		h.end(t, fmt.Sprintf("can't lock file '/var/lock/qemu-server/lock-%d.conf' - got timeout", id))
		return
	case g.protection:
		h.end(t, fmt.Sprintf("can't remove VM %d - protection mode enabled", id))
		return
	case g.lock != "":
		h.end(t, fmt.Sprintf("VM is locked (%s)", g.lock))
		return
	case g.running:
		h.end(t, fmt.Sprintf("VM %d is running - destroy failed", id))
		return
	}
	g.worker, t.prey, t.works = t, g, true
	h.sim.after(d.within(time.Second), func() { h.destroy(t, d, 0) })
}

// destroy takes the volumes one by one, and then the configuration.
func (h *host) destroy(t *task, d *dice, volume int) {
	g := t.prey
	if !t.ended.IsZero() {
		return
	}
	if !h.sim.calm && d.per1000(80) {
		h.kill(t, d)
		return
	}
	next := d.within(2 * time.Second)
	if !h.sim.calm && d.per1000(30) {
		next = d.within(2 * time.Minute)
	}
	switch {
	case volume < len(g.volumes):
		if h.sim.calm || !d.per1000(40) {
			h.harmed(t.request, g)
			g.there[volume] = false
		} else {
			t.log = append(t.log, fmt.Sprintf("Could not remove disk '%s', check manually: lvremove failed", g.volumes[volume]))
		}
		h.sim.after(next, func() { h.destroy(t, d, volume+1) })
	case volume == len(g.volumes) && !t.node.quorate(h.sim.now()):
		h.end(t, fmt.Sprintf("unable to open file '/etc/pve/nodes/%s/qemu-server/%d.conf.tmp' - Permission denied", t.node.name, g.vmid))
	case volume == len(g.volumes):
		h.harmed(t.request, g)
		g.lock, g.volumes, g.there = "destroyed", nil, nil
		g.revision++
		h.sim.after(next, func() { h.destroy(t, d, 1000) })
	default:
		g.worker = nil
		h.gone(t.request, g)
		h.remove(g)
		exit := "OK"
		if len(t.log) > 0 {
			exit = fmt.Sprintf("WARNINGS: %d", len(t.log))
		}
		h.end(t, exit)
	}
}

// kill ends a worker from outside. A child of it may go on.
func (h *host) kill(t *task, d *dice) {
	if !t.ended.IsZero() {
		return
	}
	g := t.prey
	h.end(t, []string{"unexpected status", "interrupted by signal", "received interrupt"}[d.upTo(3)])
	if g == nil || len(g.there) == 0 {
		return
	}
	left := slices.Index(g.there, true)
	if left < 0 || !d.per1000(400) {
		return
	}
	t.orphan = true
	h.sim.after(d.within(time.Minute), func() {
		if t.orphan && h.guests[g.vmid] == g && left < len(g.there) {
			h.harmed(t.request, g)
			g.there[left] = false
		}
		t.orphan = false
	})
}

func (h *host) end(t *task, exit string) {
	t.ended, t.exit = h.sim.now(), exit
	if t.prey != nil && t.prey.worker == t {
		t.prey.worker = nil
	}
	h.sim.tell("end of", t.upid, exit)
}

// inList tells whether a node's list shows a task.
func (t *task) inList(now time.Time) bool {
	return !t.never && !now.Before(t.listed) && (t.ended.IsZero() || !t.ended.Before(t.node.history))
}

func (h *host) find(upid string) *task {
	for _, t := range h.tasks {
		if t.upid == upid {
			return t
		}
	}
	return nil
}

// beforeEffect are the ends that come before a task has changed anything.
func beforeEffect(exit string) bool { return sharedExecutor.PrecedesEffect(exit) }

var sharedExecutor, attemptExecutor = executors()

// executors are those of the real adapter, for what they know without asking.
func executors() (shared, attempt engine.Executor) {
	c := proxmox.Config{
		BaseURL: "https://pve1.example:8006", TokenID: reader, Secret: "7e8a5a37-9d4b-4a9f-8a3a-7c2d8a3a7c2d",
		Fingerprints: []string{"00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF"},
	}
	one, err := proxmox.New(c, nil)
	if err != nil {
		panic(err)
	}
	c.ServiceUser, c.ServicePassword = serviceUser, "correct horse"
	own, err := proxmox.New(c, nil)
	if err != nil {
		panic(err)
	}
	return one.Executors()[op.GuestDestroy], own.Executors()[op.GuestDestroy]
}
