package pvesim

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// Options describe the cluster to simulate. The zero value is one node, pve1,
// that answers at once on the real clock.
type Options struct {
	// Nodes are the node names; the first one is the default front node.
	Nodes []string
	// Cluster is the cluster's name, shown by /cluster/status when there is
	// more than one node. Default "lab".
	Cluster string
	// Now and AfterFunc are the clock: both or neither. AfterFunc runs f once
	// after d, on any goroutine but never inside the call, and returns a
	// function that stops it. The default is package time, which also works
	// inside a testing/synctest bubble; [ManualClock] gives a hand-driven one.
	Now       func() time.Time
	AfterFunc func(d time.Duration, f func()) (stop func() bool)
	// Seed makes UUIDs, secrets, MACs and process ids reproducible.
	Seed uint64
	// AuthDelay is how long a 401 takes. Zero means the real 3 s; negative
	// means none.
	AuthDelay time.Duration
	// Pace is how long the stages of tasks take. All zero: a task is over
	// before its own request is answered.
	Pace Pace
	// OnAdmit is told of each request that has passed the last check of its
	// credentials, before it is answered; of those whose method makes that check,
	// once that has passed, and only if they are to change something. It may call
	// the Sim.
	OnAdmit func(Request)
}

// Pace says how long the stages of a task take. Waiting for locks comes on top.
type Pace struct {
	Start   time.Duration // from fork to the first act of the worker
	Volume  time.Duration // freeing or allocating one volume; unpacking a backup takes four times as long
	Cleanup time.Duration // each stage of a destroy after the volumes
	Power   time.Duration // starting or stopping a guest
	Write   time.Duration // holding the lock of user.cfg for one write
	HA      time.Duration // until the HA stack acts; zero: at once, and on requests only
}

// Timings that Proxmox VE has built in.
const (
	authDelay     = 3 * time.Second
	lockTimeout   = 10 * time.Second
	proxyTimeout  = 30 * time.Second
	statsInterval = 10 * time.Second
	statsLifetime = 300 * time.Second
	ticketLife    = 2 * time.Hour
)

// Sim is one simulated cluster. Make it with [New] and end it with [Sim.Close].
type Sim struct {
	now       func() time.Time
	afterFunc func(time.Duration, func()) func() bool
	authDelay time.Duration
	pace      Pace
	cluster   string
	started   time.Time
	onAdmit   func(Request)

	// mu guards everything below, and everything reachable from it.
	mu         sync.Mutex
	outbox     []func() // replies to deliver once mu is free
	closed     bool
	done       chan struct{} // closed by Close
	timers     map[*timer]struct{}
	rng        *rand.Rand
	nodes      map[string]*node
	order      []*node // as given in Options.Nodes
	guests     map[int]*guest
	freeHint   int // no free VMID below it
	lastInst   int // number of guests ever made
	stores     map[string]*storage
	access     *access
	userCfg    lock // the cluster-wide lock of user.cfg
	flocks     map[flockKey]*lock
	ha         map[int]string            // VMID -> requested state
	haExtra    map[int]map[string]string // other options of the resource
	jobs       []*replicationJob
	backupJobs []*backupJob
	stats      map[int]*statSlot
	ticket     []byte // signing key
	log        clusterLog
	effects    []Effect
	requests   []RequestRecord
	faults     []*Injected
	faultSeq   int
	// heldLocks are those taken through the simulator's own interface.
	heldLocks map[int]func()
	lockSeq   int
}

// New makes a cluster with storages "local" (directory) and "local-lvm" (LVM
// thin) on every node, the user root@pam without a password, and no guests.
func New(o Options) (*Sim, error) {
	if len(o.Nodes) == 0 {
		o.Nodes = []string{"pve1"}
	}
	if (o.Now == nil) != (o.AfterFunc == nil) {
		return nil, fmt.Errorf("simulated cluster: Now and AfterFunc must be given together")
	}
	if o.Now == nil {
		o.Now = time.Now
		o.AfterFunc = func(d time.Duration, f func()) func() bool { return time.AfterFunc(d, f).Stop }
	}
	s := &Sim{
		now: o.Now, afterFunc: o.AfterFunc, pace: o.Pace, cluster: o.Cluster, started: o.Now(),
		authDelay: o.AuthDelay, onAdmit: o.OnAdmit,
		done:   make(chan struct{}),
		timers: map[*timer]struct{}{},
		rng:    rand.New(rand.NewPCG(o.Seed, 0x70766573696d)), //nolint:gosec // reproducible, nothing real is protected
		nodes:  map[string]*node{}, guests: map[int]*guest{}, freeHint: minVMID,
		stores: map[string]*storage{}, access: newAccess(), flocks: map[flockKey]*lock{},
		ha: map[int]string{}, haExtra: map[int]map[string]string{}, stats: map[int]*statSlot{},
		heldLocks: map[int]func(){},
	}
	if s.authDelay == 0 {
		s.authDelay = authDelay
	}
	if s.cluster == "" {
		s.cluster = "lab"
	}
	s.ticket = make([]byte, 32)
	for i := range s.ticket {
		s.ticket[i] = byte(s.rng.Uint32() & 0xff)
	}
	for i, name := range o.Nodes {
		if !nodeName.MatchString(name) || s.nodes[name] != nil {
			return nil, fmt.Errorf("simulated cluster: node name %q is invalid or given twice", name)
		}
		n := s.newNode(name, i+1)
		s.nodes[name] = n
		s.order = append(s.order, n)
	}
	s.addStorage(Storage{ID: "local", Type: "dir", Path: "/var/lib/vz", Content: []string{"images", "rootdir", "iso", "vztmpl", "backup", "snippets"}, PruneBackups: "keep-all=1"})
	s.addStorage(Storage{ID: "local-lvm", Type: "lvmthin", Content: []string{"images", "rootdir"}})
	return s, nil
}

// Close ends the cluster: no timer of it fires afterwards, and whoever waits in
// [Sim.Do] gets a cut connection. Servers made by [Sim.Start] are closed apart.
func (s *Sim) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	close(s.done)
	for t := range s.timers {
		t.stop()
	}
	clear(s.timers)
}

// unlock frees the mutex and then delivers the replies that were decided under
// it, so that a reply function may call back into the Sim.
func (s *Sim) unlock() {
	out := s.outbox
	s.outbox = nil
	s.mu.Unlock()
	for _, f := range out {
		f()
	}
}

// do runs one control action under the mutex.
func (s *Sim) do(f func()) {
	s.mu.Lock()
	defer s.unlock()
	f()
}

type timer struct{ stop func() bool }

// after runs f under the mutex when d has passed, or right away if d is not
// positive. The returned function cancels it.
func (s *Sim) after(d time.Duration, f func()) (cancel func()) {
	if d <= 0 {
		f()
		return func() {}
	}
	if s.closed {
		return func() {}
	}
	t := &timer{}
	s.timers[t] = struct{}{}
	t.stop = s.afterFunc(d, func() {
		s.mu.Lock()
		defer s.unlock()
		if _, pending := s.timers[t]; !pending {
			return // canceled or closed while it waited for the mutex
		}
		delete(s.timers, t)
		f()
	})
	return func() {
		if _, pending := s.timers[t]; pending {
			delete(s.timers, t)
			t.stop()
		}
	}
}

// uuid makes a version 4 UUID from the seeded source.
func (s *Sim) uuid() string {
	a, b := s.rng.Uint64(), s.rng.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", uint32(a>>32), uint16(a>>16), a&0xfff, 0x8000|b>>50, b&0xffffffffffff)
}

// mac makes an address under the prefix that Proxmox VE uses by default.
func (s *Sim) mac() string {
	r := s.rng.Uint32()
	return fmt.Sprintf("BC:24:11:%02X:%02X:%02X", byte(r>>16), byte(r>>8), byte(r))
}
