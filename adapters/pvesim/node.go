package pvesim

import (
	"errors"
	"fmt"
	"time"
)

// node is one host of the cluster: its daemons, its clock and its tasks.
type node struct {
	s    *Sim
	name string
	id   int
	boot time.Time
	skew time.Duration

	down       bool // host off: connections to it are refused
	downSince  time.Time
	proxy      Health // pveproxy as other nodes reach it
	daemonLife Health // pvedaemon
	quorate    bool
	view       *view         // a copy of the cluster's files; nil: current
	waiting    []func()      // requests that a hanging daemon has accepted
	stalled    []func()      // requests that a hanging pveproxy has accepted
	servers    []*nodeServer // listeners to close while the host is down
	tasks      taskLog
	lastPID    int
	print      string // certificate fingerprint
	hardware   hardware
}

// view is what a node sees whose pmxcfs is behind or cut off.
type view struct {
	access *access
	vmids  map[int]vmRef
}

type vmRef struct {
	node string
	kind Kind
}

// Health is the state of a daemon.
type Health int

// The states. A request that a hanging daemon has accepted is answered with 596
// after 30 seconds by the node in front of it, and executed when the daemon
// goes on.
const (
	Serving Health = iota + 1
	Refusing
	NoRoute
	Silent // packets are dropped: 595 after 30 seconds, nothing is executed
	Hanging
)

func (s *Sim) newNode(name string, id int) *node {
	n := &node{
		s: s, name: name, id: id, boot: s.started.Add(-time.Hour), quorate: true,
		proxy: Serving, daemonLife: Serving, lastPID: 1000 + s.rng.IntN(20000),
	}
	n.tasks.logs = map[string]*task{}
	for i := range 32 {
		if i > 0 {
			n.print += ":"
		}
		n.print += fmt.Sprintf("%02X", s.rng.IntN(256))
	}
	return n
}

// now is the node's own clock.
func (n *node) now() time.Time { return n.s.now().Add(n.skew) }

// users is user.cfg as this node sees it.
func (n *node) users() *access {
	if n.view != nil {
		return n.view.access
	}
	return n.s.access
}

// exists looks a VMID up in the list of guests as this node sees it.
func (n *node) exists(vmid int) (vmRef, bool) {
	if n.view != nil {
		r, ok := n.view.vmids[vmid]
		return r, ok
	}
	if g := n.s.guests[vmid]; g != nil {
		return vmRef{g.node.name, g.kind}, true
	}
	return vmRef{}, false
}

func (n *node) freeze() {
	if n.view == nil {
		n.view = n.s.current()
	}
}

// current is what a node sees that is behind in nothing.
func (s *Sim) current() *view {
	v := &view{access: s.access.clone(), vmids: map[int]vmRef{}}
	for vmid, g := range s.guests {
		v.vmids[vmid] = vmRef{g.node.name, g.kind}
	}
	return v
}

// ownWrite is a config file that came or went at the node. All nodes apply all
// writes in one order, and a write ends once it is applied where it was made: so the
// node has seen whatever came before, and falls behind anew from there.
// (pve-cluster: pmxcfs, dfsm over corosync's closed process groups)
func (n *node) ownWrite() {
	if n.view != nil {
		n.view = n.s.current()
	}
}

func (n *node) thaw() {
	if n.quorate {
		n.view = nil
	}
}

// proxyTo carries a call from its front node to the pveproxy of n.
func (s *Sim) proxyTo(c *call, n *node) {
	health := n.proxy
	switch {
	case n.down:
		health = Refusing
	case n.quorate != c.front.quorate:
		health = NoRoute // the network between them is what took the quorum
	}
	s.connect(c, health, &n.stalled, c.enter)
}

// daemon hands a call to the pvedaemon of n.
func (s *Sim) daemon(c *call, n *node, then func()) {
	s.connect(c, n.daemonLife, &n.waiting, then)
}

func (s *Sim) connect(c *call, health Health, queue *[]func(), then func()) {
	switch health {
	case Refusing:
		c.answer(bare(595, "Connection refused"))
	case NoRoute:
		s.after(time.Second, func() { c.answer(bare(595, "No route to host")) })
	case Silent:
		s.after(proxyTimeout, func() { c.answer(bare(595, "Connection timed out")) })
	case Hanging:
		*queue = append(*queue, then)
		s.after(proxyTimeout, func() { c.answer(bare(596, "Connection timed out")) })
	case Serving:
		then()
	}
}

// NodeControl changes one node. Only the fields that are set act.
type NodeControl struct {
	// Up turns the host on or off. Off: its tasks die without a verdict, its
	// listeners refuse, its guests stop.
	Up *bool
	// Quorate says whether the node belongs to the majority. Without quorum it
	// cannot write /etc/pve, and its view of the cluster's files freezes.
	Quorate *bool
	// Behind freezes the node's view of user.cfg and of the guest list, as a
	// stalled pmxcfs does, while it still has quorum. The view is frozen anew
	// whenever a guest comes or goes at the node itself.
	Behind *bool
	// Proxy and Daemon set the health of pveproxy and pvedaemon; zero is no
	// change. Requests accepted by a hanging one run when it serves again.
	Proxy, Daemon Health
	// Skew is how far the node's clock is ahead.
	Skew *time.Duration
	// ReloadProxy closes the connections of pveproxy, those on which a request is
	// under way once it is answered: as a reload does, and a worker that has
	// served its thousand requests.
	ReloadProxy bool
	// KillProxy breaks all connections of pveproxy, as its sudden end does, and
	// starts it again. What it has passed on to pvedaemon goes on.
	KillProxy bool
	// RestartDaemon is systemctl restart pvedaemon: requests that wait for it
	// are lost, and every worker is told to stop, as they share its control
	// group. (A reload, as an upgrade does it, leaves workers alone.)
	RestartDaemon bool
}

// Node applies a change to a node. It fails if there is no such node, or if the
// address of a node that comes up is taken by now; the node is up all the same.
func (s *Sim) Node(name string, change NodeControl) error {
	var power func() error
	var servers []*nodeServer
	var err error
	s.do(func() {
		n := s.nodes[name]
		if n == nil {
			err = fmt.Errorf("change node %s: no such node", name)
			return
		}
		power = n.apply(change)
		servers = n.servers
	})
	// Listeners are closed and opened outside the mutex: their handlers take it.
	if power != nil {
		err = power()
	}
	for _, sv := range servers {
		if change.ReloadProxy {
			sv.reload()
		}
		if change.KillProxy {
			sv.shut()
			err = errors.Join(err, sv.open())
		}
	}
	return err
}

func (n *node) apply(ch NodeControl) (power func() error) {
	if ch.Skew != nil {
		n.skew = *ch.Skew
	}
	if ch.Quorate != nil && *ch.Quorate != n.quorate {
		n.quorate = *ch.Quorate
		if n.quorate {
			n.thaw()
		} else {
			n.freeze()
		}
	}
	if ch.Behind != nil {
		if *ch.Behind {
			n.freeze()
		} else {
			n.thaw()
		}
	}
	if ch.Up != nil && *ch.Up == n.down {
		power = n.switchPower(*ch.Up)
	}
	if ch.RestartDaemon {
		n.waiting = nil
		n.daemonLife = Serving
		for _, t := range n.tasks.running() {
			t.interrupt()
		}
	}
	if ch.Proxy != 0 {
		n.proxy = ch.Proxy
		n.resume(ch.Proxy, &n.stalled)
	}
	if ch.Daemon != 0 {
		n.daemonLife = ch.Daemon
		n.resume(ch.Daemon, &n.waiting)
	}
	return power
}

// resume runs what a hanging daemon had accepted. If it was restarted instead
// (any other state), what it had accepted is lost.
func (n *node) resume(h Health, queue *[]func()) {
	if h == Hanging {
		return
	}
	held := *queue
	*queue = nil
	if h != Serving {
		return
	}
	for _, f := range held {
		f()
	}
}

func (n *node) switchPower(up bool) func() error {
	n.down = !up
	servers := n.servers
	if up {
		n.boot = n.s.now()
		return func() error {
			for _, sv := range servers {
				if err := sv.open(); err != nil {
					return fmt.Errorf("listen for node %s again: %w", n.name, err)
				}
			}
			return nil
		}
	}
	n.downSince = n.s.now()
	n.waiting, n.stalled = nil, nil
	for _, t := range n.tasks.running() {
		t.die()
	}
	for _, g := range n.s.guests {
		if g.node == n {
			g.running = false
		}
	}
	return func() error {
		for _, sv := range servers {
			sv.shut()
		}
		return nil
	}
}
