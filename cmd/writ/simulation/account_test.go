package simulation_test

import (
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"writ/domain/op"
)

// An account is what the host knows of its own: who sent what, what came of it,
// and whom it hit. It is written where that happens and read by the checks; the
// service never sees it.
type account struct {
	sent     []*sent
	requests []*request
	effects  []*effect
	ends     map[string]*end // of guests, by their uuid
	whole    map[string]int  // the step at which the guest of an op was last read and there, by the op
}

// sent is one call of the service to launch.
type sent struct {
	by        *process
	step      int
	opID      string
	nonce     op.Nonce
	attempt   int
	epoch     uint64
	vmid      int
	uuid      string // as announced
	requests  int
	announced int // the step at which it was; in a carried history, at which it was looked at
}

// An effect is what one call to launch did to one guest.
type effect struct {
	of   *sent
	step int
	uuid string
	vmid int
	// second: by one of two deliveries, of which the other came to nothing.
	second bool
	// next: on the guest that strangers put in the place of the one that was
	// signed for, while the request was held up.
	next bool
}

// An end is how a guest came to be no more.
type end struct {
	step int
	of   *sent // nil if other people did it
}

// An announcement is what the ledger says before anything is sent.
type announcement struct {
	copy  *copyOf
	step  int
	epoch uint64
	place int // among the records of its copy
}

// announced notes that a copy of the ledger has announced a launch.
func (s *sim) announced(c *copyOf, n op.Nonce, data []byte) {
	var l struct {
		OpID       string `json:"op_id"`
		Epoch      uint64 `json:"epoch"`
		Credential string `json:"credential"`
	}
	if err := json.Unmarshal(data, &l); err != nil {
		s.wrong("an announcement of op %s can't be read: %v", n.Short(), err)
		return
	}
	key := fmt.Sprint(c.number, l.OpID)
	if s.announcements[key] == nil {
		s.announcements[key] = &announcement{copy: c, step: s.step, epoch: l.Epoch, place: c.records}
	}
	s.credentials[fmt.Sprint(c.number, l.Credential)] = true
}

// knows tells whether a copy of the ledger has announced a credential.
func (s *sim) knows(c *copyOf, credential string) bool {
	return s.credentials[fmt.Sprint(c.number, credential)]
}

// launching is told of each call to launch, before anything is sent.
func (s *sim) launching(p *process, l *op.Launching) *sent {
	one := &sent{
		by: p, step: s.step, opID: l.OpID, nonce: l.Nonce, attempt: l.Attempt, epoch: l.Epoch,
		vmid: vmidOf(op.Intent{Target: l.Target}), uuid: l.Observed.SMBIOSUUID,
	}
	s.tell(p.name, "launches", l.OpID, l.Credential)
	a := s.announcements[fmt.Sprint(p.copy.number, l.OpID)]
	switch {
	case a == nil:
		s.wrong("op %s is launched by %s, its announcement is not durable", l.OpID, p.name)
	case a.epoch != l.Epoch:
		s.wrong("op %s is launched with epoch %d, %d was announced", l.OpID, l.Epoch, a.epoch)
	case p.copy.tookOver(l.Epoch+1) > 0 && p.copy.tookOver(l.Epoch+1) < a.place:
		s.wrong("op %s is launched by %s with epoch %d, though %d had begun before it was announced", l.OpID, p.name, l.Epoch, l.Epoch+1)
	}
	if p.heard > l.Epoch {
		s.wrong("op %s is launched by %s with epoch %d, though that has heard of %d", l.OpID, p.name, l.Epoch, p.heard)
	}
	if a != nil {
		one.announced = a.step
	}
	all := s.launches()
	for _, o := range *all {
		if o.opID == l.OpID && o.by.copy == p.copy {
			s.wrong("op %s is launched twice, by %s and %s", l.OpID, o.by.name, p.name)
		}
	}
	*all = append(*all, one)
	if s.world != nil {
		s.world.byOp[l.OpID] = one
	}
	return one
}

// launches are all calls to launch.
func (s *sim) launches() *[]*sent {
	if s.world != nil {
		return &s.world.sent
	}
	return &s.host.sent
}

// receive is what the host does with a request that gets there.
func (h *host) receive(by *process, one *sent, t *token, l *op.Launching) (string, error) {
	s := h.sim
	r := &request{number: len(h.requests) + 1, by: by, sent: one, token: t, l: l, stage: onItsWay, since: s.now()}
	one.requests++
	h.alone(r)
	h.requests = append(h.requests, r)
	d := diceFor(s.seed, "request", uint64(r.number))
	if !s.calm && d.per1000(180) {
		// It waits somewhere. Nobody hears of it any more.
		s.figures.Events["requests delayed"]++
		s.after(d.within([]time.Duration{5 * time.Second, time.Minute, 5 * time.Minute}[d.upTo(3)]), func() { _, _ = h.arrive(r, &d) })
		return "", errNoAnswer
	}
	return h.arrive(r, &d)
}

func (h *host) arrive(r *request, d *dice) (string, error) {
	s := h.sim
	if err := h.check(r); err != nil {
		s.tell("request of", r.l.OpID, "is refused:", err.Error())
		return "", err
	}
	if !s.calm && r.token != nil && d.per1000(40) {
		// What lies between has delivered it twice. With a shared credential
		// nobody could tell.
		again := &request{number: len(h.requests) + 1, by: r.by, sent: r.sent, token: r.token, l: r.l, stage: onItsWay, since: s.now(), second: true}
		h.requests = append(h.requests, again)
		r.sent.requests++
		s.figures.Events["requests delivered twice"]++
		s.after(d.within(5*time.Second), func() {
			if h.check(again) == nil {
				h.begin(again)
			}
		})
	}
	if !s.calm && d.per1000(60) {
		// It was let in, and is held up before it begins. It is gone if its node
		// starts anew until then.
		s.after(d.within(20*time.Second), func() {
			if r.stage == checked {
				h.begin(r)
			}
		})
		return "", errNoAnswer
	}
	return h.begin(r).upid, nil
}

// mayAct tells whether a request can still have an effect.
func (h *host) mayAct(r *request) bool {
	g := h.guests[r.l.Target.Guest.VMID]
	switch r.stage {
	case onItsWay:
		return r.token == nil || g != nil && r.token.right == g && r.token.good(h.nodes[r.l.Node], h.sim.now())
	case checked:
		return g == nil || g != r.prey || !g.protection
	case begun:
		switch t := r.task; {
		case !t.ended.IsZero():
			return t.orphan && h.guests[t.prey.vmid] == t.prey && slices.Contains(t.prey.there, true)
		case t.works:
			return true
		default:
			return g != nil && !g.protection
		}
	case refused:
	}
	return false
}

// alone sees to it that nothing else of this ledger acts on the target.
func (h *host) alone(r *request) {
	for _, o := range h.requests {
		if o.sent == r.sent || o.l.Target.Guest.VMID != r.l.Target.Guest.VMID || o.by.copy != r.by.copy || o.second || h.sim.settled[o.l.OpID] {
			continue
		}
		if o.stage == checked && o.prey.uuid == o.sent.uuid && h.guests[r.sent.vmid] != o.prey && (h.byStrangers(o) || o.sent.requests > 1) {
			continue // the gap that harmed tells of: a fence has stopped it for good on the guest that it was for
		}
		if h.mayAct(o) && h.mayAct(r) {
			h.sim.wrong("op %s is launched on %d beside op %s", r.l.OpID, r.sent.vmid, o.l.OpID)
		}
	}
}

// checked looks at whom a request was let in for.
func (h *host) checked(r *request, g *guest) {
	want := h.sim.orders[r.l.Nonce]
	switch {
	case want == nil:
		h.sim.wrong("op %s is not what anybody has signed", r.l.OpID)
	case r.token != nil && (g.uuid != want.uuid || g.vmid != want.vmid):
		h.sim.wrong("op %s was signed for guest %s, and was let in for guest %s", r.l.OpID, want.uuid, g.uuid)
	case r.token == nil && g.uuid != want.uuid && !h.byOthers(want.uuid) && !h.sim.settledOn[want.vmid]:
		h.sim.wrong("op %s was signed for guest %s, and was let in for guest %s, though nobody else was at it", r.l.OpID, want.uuid, g.uuid)
	}
}

// harmed notes that a guest has lost something for good.
func (h *host) harmed(r *request, g *guest) {
	for _, e := range h.effects {
		if e.of == r.sent && e.uuid == g.uuid {
			return
		}
	}
	s := h.sim
	s.tell("op", r.l.OpID, "takes effect on guest", g.uuid[24:])
	// A worker knows no identity: what the host has let in for the guest that was
	// signed for, and holds up until that one is gone, hits the next with its
	// VMID. Nothing that a service does can keep it from that. Who has another
	// copy of the ledger is as strange to it as other people are.
	gap := g.uuid != r.sent.uuid && r.prey != nil && r.prey.uuid == r.sent.uuid && (h.byStrangers(r) || r.sent.requests > 1)
	if gap {
		s.figures.Events["let in for one guest, hit the next"]++
	}
	for _, e := range h.effects {
		if e.of.nonce == r.l.Nonce && !gap {
			s.figures.Doubles++
			s.wrong("nonce %s had two effects, by op %s on %s and by op %s on %s", r.l.Nonce.Short(), e.of.opID, e.uuid, r.l.OpID, g.uuid)
		}
	}
	if g.uuid != r.sent.uuid && !gap && r.token != nil {
		s.wrong("op %s hit guest %s, it was for %s", r.l.OpID, g.uuid, r.sent.uuid)
	}
	h.effects = append(h.effects, &effect{of: r.sent, step: s.step, uuid: g.uuid, vmid: g.vmid, second: r.second || h.cameToNothing(r), next: gap})
}

// besideAnother tells whether a request may act though its op has ended without
// effect: as one of two deliveries, of which the other has ended it. Nobody can
// know of a first one that is on its way yet, or in no list; once its task is
// listed, it is looked at.
func (h *host) besideAnother(q *request) bool {
	if q.second {
		return true
	}
	unseen := q.stage != begun || !q.task.inList(h.sim.now())
	return unseen && h.cameToNothing(q)
}

// cameToNothing tells whether a request was delivered a second time, and that
// delivery was refused or failed before any effect.
func (h *host) cameToNothing(q *request) bool {
	for _, o := range h.requests {
		if o.sent == q.sent && o.second && o != q && (o.stage == refused || o.task != nil && !o.task.ended.IsZero() && beforeEffect(o.task.exit)) {
			return true
		}
	}
	return false
}

// gone notes that a guest is no more.
func (h *host) gone(r *request, g *guest) {
	h.ends[g.uuid] = &end{step: h.sim.step, of: r.sent}
}

// byStrangers tells whether the guest that was signed for was taken away by
// people, or by an op of another copy of the ledger.
func (h *host) byStrangers(r *request) bool {
	e := h.ends[r.sent.uuid]
	return e != nil && (e.of == nil || e.of.by.copy != r.by.copy)
}

// byOthers tells whether other people took a guest away.
func (h *host) byOthers(uuid string) bool {
	e := h.ends[uuid]
	return e != nil && e.of == nil
}
