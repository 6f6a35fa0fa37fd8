package simulation_test

import (
	"fmt"
	"io"
	"sync"
	"testing/synctest"
	"time"

	"writ/domain/eventstore"
	"writ/domain/op"
)

const (
	ledger = eventstore.LedgerID("3f9c2ab41d6e4a70")
	agent  = "lab"
)

// A sim is one history: some instances of the service, a ledger, a host, people
// who order and people who interfere, and whatever goes wrong between them.
type sim struct {
	scheduler

	faulty    int  // in how many of a thousand calls something goes wrong
	views     bool // what is in flight is listed by the service's own view
	alone     bool // one instance, which has its store alone
	safety    bool // nothing ever stops going wrong
	copying   copying
	instances []*instance
	copies    []*copyOf
	host      *host
	vmids     []int
	audience  string // the ledger's part of it
	accepted  map[string]bool
	policy    int
	writs     []*order
	drawn     map[string]int // how many orders there were for a guest
	orders    map[op.Nonce]*order
	settled   map[string]bool // ids of ops of which people said that the effect is unknown
	settledOn map[int]bool
	saidNone  map[string]int // how often people said so of an attempt
	cloned    bool
	over      bool // no process begins any more
	processes int
	callers   int
	calls     sync.WaitGroup
	verbose   io.Writer

	world *world // the cluster of a carried history; nil otherwise

	announcements map[string]*announcement
	credentials   map[string]bool
	figures       figures
	failures      []string
}

// A copying is what people do to the ledger besides using it.
type copying uint8

const (
	noCopies  copying = iota
	restored          // an old copy is put in the place of the ledger
	rolled            // and what is kept outside of it is as old
	clonedToo         // the machine is cloned with all that is on it, and both run
)

// play plays one history to its end and says what it was.
func play(seed uint64, verbose io.Writer, into []byte) *sim {
	s := newSim(seed, verbose, into)
	r := &s.rng
	s.faulty = []int{0, 20, 60, 130}[r.upTo(4)]
	s.views = r.per1000(120)
	s.safety = r.per1000(500)
	shared := r.per1000(200)
	s.alone = r.per1000(350)
	if !shared && r.per1000(200) {
		s.copying, s.safety = []copying{restored, rolled, clonedToo}[r.upTo(3)], true
	}
	s.host = newHost(s, shared)
	s.host.ends = make(map[string]*end)
	s.host.whole = make(map[string]int)
	for i := range 3 {
		s.vmids = append(s.vmids, 100+i)
		s.host.create(100+i, s.host.names[r.upTo(3)])
	}
	s.populate()
	s.after(8*time.Second, s.people)
	s.after(15*time.Second, s.fate)
	if s.copying != noCopies {
		s.after(r.between(2*time.Minute, 5*time.Minute), s.copyLedger)
	}
	s.run(s.start.Add(6*time.Minute), nil)
	if !s.safety {
		s.settleDown()
	}
	s.finish()
	return s
}

func newSim(seed uint64, verbose io.Writer, into []byte) *sim {
	s := &sim{
		accepted: make(map[string]bool), orders: make(map[op.Nonce]*order), settled: make(map[string]bool), settledOn: make(map[int]bool), saidNone: make(map[string]int), drawn: make(map[string]int),
		announcements: make(map[string]*announcement), credentials: make(map[string]bool), audience: string(ledger), verbose: verbose,
	}
	s.scheduler = scheduler{seed: seed, rng: diceFor(seed, "world", 0), asked: make(map[string]uint64), log: into[:0]}
	s.start = s.now()
	s.figures = newFigures()
	return s
}

// populate makes the ledger and the instances that use it.
func (s *sim) populate() {
	r := &s.rng
	s.copies = []*copyOf{newCopy(s, 0)}
	names := []string{"a", "b", "c"}
	switch {
	case s.alone:
		names = names[:1]
	case r.per1000(700):
		names = names[:2]
	}
	for _, name := range names {
		s.instances = append(s.instances, &instance{name: name, copy: s.copies[0]})
	}
	for _, i := range s.instances {
		s.after(r.within(5*time.Second), func() { s.rise(i) })
	}
}

// people do one thing, and the next one a little later.
func (s *sim) people() {
	if s.calm {
		return
	}
	r := &s.rng
	s.after(r.within(10*time.Second), s.people)
	i := s.instances[r.upTo(len(s.instances))]
	if lead := s.leader(); lead != nil && r.per1000(850) {
		i = lead
	}
	vmid := s.vmids[r.upTo(len(s.vmids))]
	g := s.host.guests[vmid]
	switch n := r.upTo(100); {
	case n < 38 && g != nil:
		s.ready(g)
		if g = s.host.guests[vmid]; g != nil {
			s.deliver(i, s.order(g), 0)
		}
	case n < 38:
		s.host.create(vmid, s.host.names[r.upTo(3)])
	case n < 60 && len(s.writs) > 0:
		s.deliver(i, s.writs[max(0, len(s.writs)-1-r.upTo(4))], 0)
	case n < 66 && len(s.writs) > 0:
		s.deliver(i, s.writs[r.upTo(len(s.writs))], 1+r.upTo(3))
	case n < 69 && len(s.writs) > 0:
		s.void(i, s.writs[r.upTo(len(s.writs))])
	case n < 77:
		if left := i.copy.inFlight(); len(left) > 0 {
			s.settle(i, left[r.upTo(len(left))])
		}
	case n < 84:
		s.lift(vmid)
	default:
		s.meddle(vmid, g)
	}
}

// ready lets people mostly see to it that a guest can be destroyed before they
// sign that it is to be.
func (s *sim) ready(g *guest) {
	r := &s.rng
	if r.per1000(300) || g.worker != nil {
		return
	}
	s.lift(g.vmid)
	g.running = false
	if g.lock == "destroyed" {
		s.host.ends[g.uuid] = &end{step: s.step}
		s.host.remove(g)
		s.host.create(g.vmid, g.node)
	}
}

// meddle lets other people do something to a guest, past the service.
func (s *sim) meddle(vmid int, g *guest) {
	r := &s.rng
	if g == nil {
		s.host.create(vmid, s.host.names[r.upTo(3)])
		return
	}
	if g.worker != nil {
		return // its configuration is locked
	}
	what := ""
	switch r.upTo(7) {
	case 0, 1:
		what = "is destroyed and made anew"
		s.host.ends[g.uuid] = &end{step: s.step}
		s.host.remove(g)
		s.host.create(vmid, s.host.names[r.upTo(3)])
	case 2:
		what = "is destroyed"
		s.host.ends[g.uuid] = &end{step: s.step}
		s.host.remove(g)
	case 3:
		what = "is restored"
		g.restored, g.lock = true, ""
		g.revision++
		g.vmgenid = fmt.Sprintf("0b9e3c1d-1f2e-4a5b-8c7d-%06d%06d", g.number, g.revision)
		g.volumes, g.there = []string{fmt.Sprintf("local-lvm:vm-%d-disk-0", vmid)}, []bool{true}
	case 4:
		what = "is protected"
		g.protection = true
		g.revision++
	case 5:
		what = "migrates"
		if g.lock == "" {
			g.node = s.host.names[r.upTo(3)]
		}
	case 6:
		what = "is started or stopped"
		g.running = r.per1000(500)
	}
	s.tell("guest", g.uuid[24:], what, "by other people")
	s.figures.Events["acts of other people"]++
}

// lift takes a guest's protection away. Whoever does waits until no request
// that the host has let in is held up any more; and, where nothing else stops
// one that is on its way, for those, too.
func (s *sim) lift(vmid int) {
	g := s.host.guests[vmid]
	if g == nil || !g.protection || g.worker != nil {
		return
	}
	for _, r := range s.host.requests {
		held := r.stage == checked || r.stage == begun && r.task.ended.IsZero()
		if r.l.Target.Guest.VMID == vmid && (held || s.host.shared && s.host.mayAct(r)) {
			return
		}
	}
	g.protection = false
	g.revision++
	s.tell("guest", g.uuid[24:], "is not protected any more")
}

// leader is an instance that leads.
func (s *sim) leader() *instance {
	for _, i := range s.instances {
		if i.up != nil && i.up.engine.Standing().Leads {
			return i
		}
	}
	return nil
}

// finish brings everything to its end: what is on its way arrives, all
// protection is lifted, and then nothing may come of what was said to have no
// effect.
func (s *sim) finish() {
	s.stop()
	for range 3 {
		for _, vmid := range s.vmids {
			s.lift(vmid)
		}
		s.run(s.now().Add(3*time.Minute), nil)
	}
	s.check()
}

// stop ends all processes, and whoever calls them.
func (s *sim) stop() {
	s.over, s.calm = true, true
	for _, i := range s.instances {
		if i.up != nil {
			s.fall(i)
		}
	}
	synctest.Wait()
	s.calls.Wait()
}
