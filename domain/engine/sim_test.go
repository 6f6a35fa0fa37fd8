package engine_test

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"writ/domain/engine"
	"writ/domain/eventstore/storetest"
	"writ/domain/op"
	"writ/domain/signedop"
)

var (
	simSeeds = flag.Int("sim.seeds", 5, "how many histories TestSimulation plays")
	simFirst = flag.Uint64("sim.first", 1, "seed of the first of them")
)

// Whatever the host, the store, the process and other people do, the
// invariants hold by the host's own account. Which goroutine runs first is not
// up to the seed, so a history may differ a little from run to run: goroutines
// run side by side here, as they do in production, and the race detector sees
// them. In cmd/writ/simulation, which goes much further, one runs at a time.
func TestSimulation(t *testing.T) {
	for i := range *simSeeds {
		seed := *simFirst + uint64(i)
		for _, shared := range []bool{false, true} {
			t.Run(fmt.Sprintf("seed=%d/shared=%t", seed, shared), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { newSim(t, seed, shared).play() })
			})
		}
	}
}

// A sim is one history.
type sim struct {
	*world
	sim     *simHost
	rng     *rand.Rand // the driver's own
	faults  *rand.Rand
	faultMu sync.Mutex
	dead    chan struct{}
	docs    []signedop.Document
	by      map[string]bool // uuids of guests that other people destroyed
	settled map[string]bool // ids of ops that people have settled by their word
	calls   sync.WaitGroup
}

func newSim(t *testing.T, seed uint64, shared bool) *sim {
	s := &sim{
		world: newWorld(t), rng: rand.New(rand.NewPCG(seed, 1)), faults: rand.New(rand.NewPCG(seed, 2)),
		by: make(map[string]bool), settled: make(map[string]bool),
	}
	s.stop()
	s.sim = newSimHost(rand.New(rand.NewPCG(seed, 3)), shared)
	s.sim.onLaunch, s.sim.onEffect = s.checkLaunch, s.checkEffect
	for vmid := range 3 {
		s.sim.replace(100 + vmid)
	}
	s.rise()
	return s
}

// rise starts a process.
func (s *sim) rise() {
	s.dead = make(chan struct{})
	host := simProcess{s.sim, s.dead}
	store := storetest.NewFaulty(s.memory)
	store.OnAppend = func(storetest.AppendCall) storetest.Fault {
		s.faultMu.Lock()
		defer s.faultMu.Unlock()
		if s.sim.calm || s.faults.Float64() > 0.15 {
			return 0
		}
		f := []storetest.Fault{storetest.Lost, storetest.DoneButFailed, storetest.Late}[s.faults.IntN(3)]
		if f == storetest.Late {
			after := time.Duration(s.faults.Int64N(int64(10 * time.Second)))
			go func() {
				pass(after)
				store.Deliver(context.Background())
			}()
		}
		return f
	}
	s.store = store
	s.start(recovering(s.world), func(c *engine.Config) {
		c.RecoverEvery = 20 * time.Second
		c.Host, c.Executors = host, map[op.Class]engine.Executor{op.GuestDestroy: host}
	})
}

// fall ends the process, by its death or by an orderly stop.
func (s *sim) fall(orderly bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if !orderly {
		s.store.Cut()
		close(s.dead)
		cancel()
	}
	began := time.Now()
	if err := s.engine.Stop(ctx); err != nil {
		s.t.Errorf("stop: %v", err)
	}
	if took := time.Since(began); took > 2*time.Minute {
		s.t.Errorf("stop took %s", took)
	}
	s.calls.Wait()
}

func (s *sim) play() {
	for range 60 {
		pass(time.Duration(s.rng.Int64N(int64(time.Minute))))
		s.act()
	}
	s.end()
}

func (s *sim) act() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	go func() { pass(time.Minute); cancel() }()
	switch n := s.rng.IntN(20); {
	case n < 6:
		s.order()
	case n < 11:
		s.deliver(ctx, s.docs)
	case n < 13:
		s.fall(s.rng.IntN(3) == 0)
		s.rise()
	case n < 14 && len(s.docs) > 0:
		d := s.docs[s.rng.IntN(len(s.docs))]
		s.calls.Go(func() { s.engine.Void(ctx, d.Nonce, "alice", "changed my mind") })
	case n < 16:
		s.settle(ctx, []op.Effect{op.EffectNone, op.EffectUnknown}[s.rng.IntN(2)])
	case n < 17:
		s.meddle(100 + s.rng.IntN(3))
	case n < 18:
		s.sim.mu.Lock()
		s.sim.away = !s.sim.away
		s.sim.mu.Unlock()
	default:
		s.lift()
	}
}

// order signs a writ for a guest as it is now, and delivers it.
func (s *sim) order() {
	s.sim.mu.Lock()
	vmid := 100 + s.rng.IntN(3)
	g := s.sim.guests[vmid]
	if g == nil {
		s.sim.replace(vmid)
		g = s.sim.guests[vmid]
	}
	seen := g.seen
	s.sim.mu.Unlock()
	d := order(seen, func(d *signedop.Document) {
		d.Nonce, d.ExpiresAt = nonce(fmt.Sprintf("order %d", len(s.docs))), d.NotBefore.Add(24*time.Hour)
	})
	s.docs = append(s.docs, d)
	s.deliver(context.Background(), s.docs[len(s.docs)-1:])
}

func (s *sim) deliver(ctx context.Context, docs []signedop.Document) {
	if len(docs) == 0 {
		return
	}
	sub := signed(s.t, docs[s.rng.IntN(len(docs))])
	e := s.engine
	s.calls.Go(func() { e.RunSignedJob(ctx, sub) })
}

// settle lets a person settle the oldest op that was left in flight.
func (s *sim) settle(ctx context.Context, effect op.Effect) {
	left := s.engine.Left()
	if len(left) == 0 {
		return
	}
	o := s.op(left[0].Nonce)
	if o.State != op.StateLaunching && o.State != op.StateTaskRunning {
		return
	}
	s.sim.mu.Lock()
	if slices.ContainsFunc(s.sim.requests, func(r *simRequest) bool { return r.effect && r.l.OpID == o.OpID }) {
		effect = op.EffectUnknown // people look before they sign
	}
	s.sim.mu.Unlock()
	raw := settling(s.world, o.Nonce, as("failed", effect), person("alice"))
	if effect != op.EffectNone {
		// It may be on record even if the answer is that this is not certain.
		s.sim.mu.Lock()
		s.settled[o.OpID] = true
		s.sim.mu.Unlock()
	}
	s.calls.Go(func() { s.engine.Resolve(ctx, raw, "test") })
}

// meddle destroys a guest and makes another with its VMID, past the service.
func (s *sim) meddle(vmid int) {
	s.sim.mu.Lock()
	defer s.sim.mu.Unlock()
	if g := s.sim.guests[vmid]; g != nil {
		s.by[g.seen.SMBIOSUUID] = true
	}
	s.sim.replace(vmid)
}

// lift takes protection away. With a shared credential nothing else stops a
// late request, so there people wait until none of the guest is unsettled.
func (s *sim) lift() {
	s.sim.mu.Lock()
	defer s.sim.mu.Unlock()
	for vmid, g := range s.sim.guests {
		mayAct := func(r *simRequest) bool {
			return r.l.Target.Guest.VMID == vmid && (r.state == onItsWay || r.state == atWork)
		}
		if g.seen.Protection && (!s.sim.shared || !slices.ContainsFunc(s.sim.requests, mayAct)) {
			g.seen.Protection, g.seen.Digest = false, "lifted"
		}
	}
}

// checkLaunch is asked when a request reaches the host.
func (s *sim) checkLaunch(r *simRequest) string {
	o, err := engine.LoadOp(context.Background(), s.memory, ledger, r.l.Nonce)
	if err != nil || o.State != op.StateLaunching || o.OpID != r.l.OpID {
		return fmt.Sprintf("op %s launched, but on record is %s of %s (error %v)", r.l.OpID, o.State, o.OpID, err)
	}
	for _, other := range s.sim.requests {
		mayAct := other.state == atWork || other.state == onItsWay && !other.dead
		switch {
		case other.l.OpID == r.l.OpID:
			return fmt.Sprintf("op %s launched twice", r.l.OpID)
		case mayAct && other.l.Target.Guest.VMID == r.l.Target.Guest.VMID && !s.settled[other.l.OpID] && !s.fenced(other):
			return fmt.Sprintf("op %s launched while the request of %s may act (state %d), which is on record as %s", r.l.OpID, other.l.OpID, other.state, s.standing(other))
		}
	}
	return ""
}

// settledOn tells whether people settled an op on a target by their word: from
// then on its request may act beside those of others.
func (s *sim) settledOn(t op.Target) bool {
	return slices.ContainsFunc(s.sim.requests, func(r *simRequest) bool { return s.settled[r.l.OpID] && r.l.Target.Key() == t.Key() })
}

// standing tells how the op of a request stands on record.
func (s *sim) standing(r *simRequest) string {
	o, err := engine.LoadOp(context.Background(), s.memory, ledger, r.l.Nonce)
	switch {
	case err != nil:
		return err.Error()
	case o.Failed != nil:
		return fmt.Sprintf("attempt %d, %s, kind %s: %s", o.Attempt, o.State, o.Failed.Kind, o.Failed.Message)
	}
	return fmt.Sprintf("attempt %d, %s", o.Attempt, o.State)
}

// fenced tells whether a request on its way can't begin on the guest that it
// was meant for, nor on the one there is.
func (s *sim) fenced(r *simRequest) bool {
	g := s.sim.guests[r.l.Target.Guest.VMID]
	return r.state == onItsWay && (g == nil || g.seen.Protection || !s.sim.shared && g != r.acl)
}

// checkEffect is asked when a guest is harmed.
func (s *sim) checkEffect(r *simRequest) string {
	for _, other := range s.sim.requests {
		if other != r && other.effect && other.l.Nonce == r.l.Nonce {
			return fmt.Sprintf("nonce %s had two effects, by %s and %s", r.l.Nonce.Short(), other.l.OpID, r.l.OpID)
		}
	}
	o, err := engine.LoadOp(context.Background(), s.memory, ledger, r.l.Nonce)
	switch {
	case err != nil:
		return fmt.Sprintf("op %s: %v", r.l.OpID, err)
	case o.OpID != r.l.OpID:
		return fmt.Sprintf("op %s had an effect when attempt %d was begun", r.l.OpID, o.Attempt)
	case o.State == op.StateFailedClean && !s.settled[o.OpID]:
		return fmt.Sprintf("op %s had an effect when it was on record as %s, kind %s (%s)", r.l.OpID, o.State, o.Failed.Kind, o.Failed.Message)
	case r.victim != r.l.Observed.SMBIOSUUID && !s.by[r.l.Observed.SMBIOSUUID] && !s.settledOn(r.l.Target):
		return fmt.Sprintf("op %s hit guest %s, it was for %s, which nobody but the service destroyed", r.l.OpID, r.victim, r.l.Observed.SMBIOSUUID)
	}
	return ""
}

// end lets all go well from now on, and looks at what has become of each op.
func (s *sim) end() {
	s.sim.mu.Lock()
	s.faultMu.Lock()
	s.sim.calm, s.sim.away = true, false
	s.faultMu.Unlock()
	s.sim.mu.Unlock()
	pass(2 * time.Hour)
	s.calls.Wait()

	left := make(map[op.Nonce]bool)
	for _, a := range s.engine.Left() {
		left[a.Nonce] = true
	}
	for _, d := range s.docs {
		o := s.op(d.Nonce)
		if o.State.InFlight() != left[d.Nonce] {
			s.t.Errorf("op %s is %s, left in flight: %t", o.OpID, o.State, left[d.Nonce])
		}
		if o.State == op.StateSucceeded && !s.harmed(d) && !s.by[d.Expect.SMBIOSUUID] {
			s.t.Errorf("op %s is on record as succeeded, its guest was destroyed by nobody", o.OpID)
		}
		if o.State == op.StateFailedClean && s.harmedBy(d) && !s.settled[o.OpID] {
			s.t.Errorf("op %s is on record as without effect (%s), the host knows better", o.OpID, o.Failed.Kind)
		}
	}
	for _, typ := range s.types(op.GateStream("node-a")) {
		if typ == op.TypeContested && len(s.settled) == 0 {
			s.t.Errorf("contested, though nobody but recovery ended an op")
		}
	}
	s.unblocked()
	for _, why := range s.sim.wrong {
		s.t.Error(why)
	}
	s.fall(true)
}

func (s *sim) harmed(d signedop.Document) bool {
	return slices.ContainsFunc(s.sim.requests, func(r *simRequest) bool { return r.effect && r.victim == d.Expect.SMBIOSUUID })
}

func (s *sim) harmedBy(d signedop.Document) bool {
	return slices.ContainsFunc(s.sim.requests, func(r *simRequest) bool { return r.effect && r.l.Nonce == d.Nonce })
}

// unblocked sees to it that, once people have settled what was left, no target
// is kept from those who come next.
func (s *sim) unblocked() {
	for range 100 {
		s.settle(context.Background(), op.EffectUnknown)
		s.calls.Wait()
		pass(7 * time.Second) // recovery may be at work on it
	}
	if left := s.engine.Left(); len(left) > 0 {
		s.t.Errorf("left in flight after it was settled: got %+v, want nothing", left)
	}
	contested := slices.Contains(s.types(op.GateStream("node-a")), op.TypeContested)
	for _, vmid := range slices.Sorted(maps.Keys(s.sim.guests)) {
		s.meddle(vmid)
		d := order(s.sim.guests[vmid].seen, func(d *signedop.Document) { d.Nonce = nonce(fmt.Sprintf("last %d", vmid)) })
		if a := s.runToEnd(signed(s.t, d)); a.Outcome != engine.Succeeded && !contested {
			s.t.Errorf("a new op on %d: got %s (%s), want succeeded", vmid, a.Outcome, a.Detail)
		}
	}
}
