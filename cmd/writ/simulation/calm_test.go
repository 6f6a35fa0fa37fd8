package simulation_test

import (
	"time"

	"writ/domain/op"
)

// settleDown lets nothing go wrong any more. Then every op must end or stand in
// the recovery queue, by itself; and what stands there people can settle, until
// nothing is left and each target can be used again.
func (s *sim) settleDown() {
	s.calm = true
	s.policy = 0
	now := s.now()
	if s.world != nil {
		s.world.mend()
	} else {
		for _, name := range s.host.names {
			n := s.host.nodes[name]
			n.down, n.alone, n.sees, n.skew = now, now, now, 0
		}
	}
	for _, c := range s.parked {
		if c.fault != noFault && !c.acted {
			c.fault = lost
			if c.kind == waits {
				c.fault = noFault
			}
		}
	}
	for _, i := range s.instances {
		i.skew = 0
		if p := i.up; p != nil {
			p.skew, p.storeCut, p.hostCut, p.pausedUntil = 0, now, now, now
		} else if !i.coming {
			s.riseLater(i)
		}
	}
	s.tell("nothing goes wrong any more")
	ledger := s.copies[len(s.copies)-1]
	// A lease to be waited for, a clock that was ahead, and recovery's longest rest.
	s.run(now.Add(4*time.Minute), nil)
	s.run(now.Add(25*time.Minute), func() bool { return s.leader() != nil && s.rests(ledger) })
	lead := s.leader()
	if lead == nil {
		s.wrong("nobody leads, though nothing goes wrong: %v", s.halted())
		return
	}
	// One that was put on record without the answer getting through is in force
	// nowhere, until it is loaded again.
	s.begin(func() { _ = lead.up.enforce(s.caller()) })
	s.run(s.now().Add(5*time.Second), nil)
	if !s.rests(ledger) {
		s.figures.Losses++
		s.wrong("not every op has ended or stands in the queue: %d in flight, in the queue %v", len(ledger.inFlight()), lead.up.engine.Left())
	}
	s.evident(ledger)
	for range 12 {
		for _, n := range ledger.inFlight() {
			s.settle(lead, n)
		}
		s.run(s.now().Add(20*time.Second), nil)
		if len(ledger.inFlight()) == 0 {
			break
		}
	}
	if left := ledger.inFlight(); len(left) > 0 {
		s.figures.Losses++
		s.wrong("%d ops are in flight although people settled them", len(left))
		return
	}
	s.again(lead, ledger)
}

// halted gives why instances do not launch.
func (s *sim) halted() []error {
	var why []error
	for _, i := range s.instances {
		if i.up != nil {
			why = append(why, i.up.engine.Halted())
		}
	}
	return why
}

// rests tells whether all that is in flight stands in the leader's queue.
func (s *sim) rests(c *copyOf) bool {
	lead := s.leader()
	if lead == nil {
		return false
	}
	left := make(map[op.Nonce]bool)
	for _, a := range lead.up.engine.Left() {
		left[a.Nonce] = true
	}
	for _, n := range c.inFlight() {
		if !left[n] {
			return false
		}
	}
	return true
}

// evident sees to it that nothing waits for people that the host can decide.
func (s *sim) evident(c *copyOf) {
	for _, n := range c.inFlight() {
		s.figures.Events["ops left to people"]++
		if s.world != nil {
			s.tell("left to people:", n.Short())
			continue
		}
		for _, one := range s.host.sent {
			if one.nonce != n || one.by.copy != c {
				continue
			}
			// One task that has ended as a success, listed, and known by its own token.
			// Of a request that was delivered twice there are two tasks, which the
			// engine leaves to people.
			e := s.host.ends[one.uuid]
			if e == nil || e.of != one || s.host.shared || one.requests > 1 {
				continue
			}
			for _, r := range s.host.requests {
				if r.sent == one && r.task != nil && r.task.exit == "OK" && r.task.inList(s.now()) && s.host.guests[one.vmid] == nil && one.attempt == s.attempt(c, n) {
					s.wrong("op %s waits for people, though its task %s has ended as a success", one.opID, r.task.upid)
				}
			}
		}
	}
}

// again lets people use each target once more.
func (s *sim) again(lead *instance, c *copyOf) {
	before := len(s.writs)
	for _, vmid := range s.vmids {
		if s.world != nil {
			s.world.again(lead, vmid)
			continue
		}
		if g := s.host.guests[vmid]; g != nil {
			s.host.ends[g.uuid] = &end{step: s.step}
			s.host.remove(g)
		}
		o := s.order(s.host.create(vmid, s.host.names[0]))
		for o.hostile || o.doc.ExpiresAt.Before(s.start.Add(time.Hour)) {
			o = s.order(s.host.guests[vmid])
		}
		s.deliver(lead, o, 0)
	}
	s.run(s.now().Add(2*time.Minute), nil)
	if s.contested(c) {
		return // for the rest of that process the target is kept from all
	}
	for _, o := range s.writs[before:] {
		switch came := c.last[o.nonce]; {
		case came == "" || came == op.TypeSucceeded:
		case s.world == nil && s.host.takenByWhatWasGivenUp(o.uuid):
			s.figures.Events["taken by what people had given up"]++
		default:
			s.wrong("an order for guest %s, at which nothing is wrong, came to %s", o.uuid, came)
		}
	}
}

// takenByWhatWasGivenUp tells whether a guest was hit by the late request of an
// op whose effect people have settled as unknown. With a shared credential
// nothing but their patience keeps such a request from the VMID's next guest.
func (h *host) takenByWhatWasGivenUp(uuid string) bool {
	for _, e := range h.effects {
		if h.shared && e.uuid == uuid && h.sim.settled[e.of.opID] {
			return true
		}
	}
	return false
}
