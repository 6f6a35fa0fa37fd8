package simulation_test

import (
	"context"
	"fmt"
	"time"

	"writ/domain/engine"
	"writ/domain/eventstore"
	"writ/domain/op"
)

// fate lets one thing go wrong at large, and the next one a little later.
func (s *sim) fate() {
	if s.calm {
		return
	}
	r := &s.rng
	s.after(r.between(2*time.Second, 40*time.Second), s.fate)
	i := s.instances[r.upTo(len(s.instances))]
	if lead := s.leader(); lead != nil && r.per1000(600) {
		i = lead
	}
	var n *node
	if s.world == nil {
		n = s.host.nodes[s.host.names[r.upTo(len(s.host.names))]]
	}
	now := s.now()
	p := i.up
	switch k := r.upTo(15); {
	case k >= 9 && s.world != nil:
		s.world.fate()
	case k >= 9:
		s.fateOfHost(n, now)
	case p == nil || p.leaving:
	case k < 2:
		s.figures.Events["crashes"]++
		s.fall(i)
		s.riseLater(i)
	case k == 2:
		s.figures.Events["orderly stops"]++
		s.leave(i, func() { s.riseLater(i) })
	case k == 3:
		s.figures.Events["partitions"]++
		p.storeCut = now.Add(s.lasting(3 * time.Minute))
		s.tell(p.name, "is cut off from the store")
	case k == 4:
		s.figures.Events["partitions"]++
		p.hostCut = now.Add(s.lasting(2 * time.Minute))
		s.tell(p.name, "is cut off from the host")
	case k == 5 || k == 6:
		s.figures.Events["processes paused"]++
		p.pausedUntil = now.Add(s.lasting(3 * time.Minute))
		s.tell(p.name, "stands still")
	case k == 7:
		s.figures.Events["clocks set"]++
		i.skew = r.within(80*time.Second) - 40*time.Second
		p.skew = i.skew
		s.tell(p.name, "has its clock set", i.skew.String())
	case k == 8:
		s.figures.Events["policies swapped"]++
		s.policy = r.upTo(len(policies))
		s.tell("policy", fmt.Sprint(s.policy))
		if lead := s.leader(); lead != nil {
			p := lead.up
			s.begin(func() { _ = p.enforce(context.Background()) })
		}
	}
}

// lasting is how long something is wrong with a process, in carried histories
// less, as they are shorter.
func (s *sim) lasting(most time.Duration) time.Duration {
	if s.world != nil {
		most /= 4
	}
	return s.rng.within(most)
}

func (s *sim) fateOfHost(n *node, now time.Time) {
	r := &s.rng
	s.figures.Events["faults of nodes"]++
	switch r.upTo(7) {
	case 0:
		n.down = now.Add(r.within(90 * time.Second))
		s.tell(n.name, "does not answer")
	case 1:
		n.blinded(now, now.Add(r.within(40*time.Second)))
		s.tell(n.name, "is behind the others")
	case 2:
		n.alone = now.Add(r.within(time.Minute))
		n.blinded(now, n.alone)
		s.tell(n.name, "is cut off from the quorum")
	case 3:
		n.history = now
		s.tell(n.name, "forgets its tasks")
	case 4:
		s.figures.Events["tasks killed"]++
		for _, t := range s.host.tasks {
			if t.ended.IsZero() {
				d := diceFor(s.seed, "kill", uint64(s.step))
				s.host.kill(t, &d)
				break
			}
		}
	case 5:
		// It is switched off and on: no worker and no child of one is left.
		for _, t := range s.host.tasks {
			if t.node == n && (t.ended.IsZero() || t.orphan) {
				if t.ended.IsZero() {
					s.host.end(t, "unexpected status")
				}
				t.orphan = false
			}
		}
		for _, q := range s.host.requests {
			if q.l.Node == n.name && q.stage == checked {
				q.stage = refused
			}
		}
		n.booted = now
		n.down = now.Add(r.within(30 * time.Second))
		s.tell(n.name, "starts anew")
	case 6:
		n.skew = r.within(40*time.Second) - 20*time.Second
		s.tell(n.name, "has its clock set", n.skew.String())
	}
}

func (s *sim) riseLater(i *instance) {
	i.coming = true
	s.after(s.rng.within(40*time.Second), func() {
		if i.up == nil && i.coming {
			s.rise(i)
		}
	})
}

// copyLedger puts an old copy of the ledger in its place, or has the machine
// cloned.
func (s *sim) copyLedger() {
	r := &s.rng
	now := s.copies[len(s.copies)-1]
	records := now.records
	if s.copying != clonedToo {
		records = 1 + r.upTo(max(1, records))
		if records > now.records {
			return
		}
	}
	if now.records == 0 {
		return
	}
	next := now.branch(len(s.copies), records)
	s.copies = append(s.copies, next)
	s.figures.Events["ledgers copied"]++
	s.tell("a copy of the ledger with", fmt.Sprint(records), "of", fmt.Sprint(now.records), "events")
	switch s.copying {
	case clonedToo:
		s.cloned = true
		for _, i := range s.instances[:len(s.instances):len(s.instances)] {
			twin := &instance{name: i.name, copy: next, skew: i.skew, starts: 100}
			s.instances = append(s.instances, twin)
			s.riseLater(twin)
		}
		return
	case rolled:
		next.forget()
	case noCopies, restored:
	}
	for _, i := range s.instances {
		if i.up != nil {
			s.fall(i)
		}
		i.coming = false
		i.copy = next
		s.riseLater(i)
	}
	if r.per1000(600) {
		s.after(r.between(time.Minute, 2*time.Minute), func() { s.acceptRollback(next) })
	}
}

// forget makes the marks as old as the copy.
func (c *copyOf) forget() {
	mark := engine.Mark{Ledger: ledger}
	for e, err := range c.memory.ReadAll(context.Background(), eventstore.Cursor{}, eventstore.Filter{}) {
		if err == nil {
			mark.Position, mark.Event = e.Position, e.ID
		}
	}
	for _, w := range c.marks {
		w.mark = mark
	}
}

// acceptRollback lets people take the copy for the ledger that counts.
func (s *sim) acceptRollback(c *copyOf) {
	for _, i := range s.instances {
		if i.up != nil {
			s.fall(i)
		}
		i.coming = false
	}
	accepted := op.RollbackAccepted{
		Audience: fmt.Sprintf("%016x", s.seed*7+1), At: s.now().UTC(), By: "root", Reason: "the disk is lost",
	}
	for _, t := range s.host.order {
		if !s.knows(c, t.name) {
			accepted.Attempts = append(accepted.Attempts, t.name)
			s.accepted[t.name] = true
		}
	}
	mark := c.witnessOf(s.instances[0].name)
	p := &process{sim: s, of: s.instances[0], name: "people", copy: c}
	done := make(chan error, 1)
	go func() { done <- engine.AcceptRollback(context.Background(), store{c, p}, mark, agent, accepted) }()
	calm := s.calm
	s.calm = true
	s.run(s.now().Add(time.Second), func() bool { return len(done) > 0 })
	s.calm = calm
	if err := <-done; err != nil {
		panic(err)
	}
	for _, i := range s.instances[1:] {
		w := c.witnessOf(i.name)
		w.mark, w.kept = mark.mark, mark.kept
	}
	s.audience = accepted.Audience
	s.figures.Events["rollbacks accepted"]++
	c.accepted = true
	s.tell("a rollback is accepted")
	for _, i := range s.instances {
		s.riseLater(i)
	}
}
