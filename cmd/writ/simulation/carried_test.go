package simulation_test

import (
	"context"
	"io"
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"writ/adapters/proxmox"
	"writ/adapters/pvesim"
	"writ/domain/engine"
	"writ/domain/gate"
	"writ/domain/op"
)

// carry plays one carried history to its end: ops of all classes, whose requests
// the adapter for Proxmox VE itself sends, to a cluster simulated by its API.
func carry(seed uint64, verbose io.Writer, into []byte) *sim {
	time.Sleep(26 * 365 * 24 * time.Hour) // the adapter takes no clock for one that shows the year 2000
	s := newSim(seed, verbose, into)
	r := &s.rng
	s.bell = make(chan struct{}, 1)
	s.faulty = []int{0, 6, 20, 45}[r.upTo(4)]
	s.safety = r.per1000(500)
	s.alone = r.per1000(500)
	newWorld(s, r.per1000(250))
	defer s.world.pve.Close()
	s.populate()
	s.after(8*time.Second, s.world.live)
	s.after(12*time.Second, s.fate)
	s.after(10*time.Second, s.world.trouble)
	s.run(s.start.Add(4*time.Minute), nil)
	if !s.safety {
		s.settleDown()
	}
	s.world.finish()
	return s
}

// worldPolicies are what may be ordered on a world.
var worldPolicies = []gate.PolicyDocument{worldPolicy("alice", "bob"), worldPolicy("bob"), worldPolicy("alice")}

func worldPolicy(holders ...string) gate.PolicyDocument {
	d := policy(holders...)
	var guests, others, benign []op.Class
	for _, c := range op.Classes() {
		switch {
		case c.Benign():
			benign = append(benign, c)
		case c.ActsOnGuest():
			guests = append(guests, c)
		default:
			others = append(others, c)
		}
	}
	role := d.Roles["operator"]
	role.Allow = []gate.Rule{
		{Classes: guests, On: gate.On{VMIDs: []string{"100-199"}}},
		{Classes: others, On: gate.On{Storages: []string{disks, backups, "tank", "vg1", "sdb"}}},
	}
	d.Roles["operator"] = role
	d.Benign = []gate.BenignRule{{Callers: []string{"caller"}, Classes: benign, On: gate.On{VMIDs: []string{"100-199"}}}}
	return d
}

// carried is the host as a process of a carried history has it.
func (p *process) carried() (engine.Host, map[op.Class]engine.Executor, func(context.Context) ([]string, error), func(context.Context) (time.Time, error)) {
	h, err := p.sim.world.host(post{p})
	if err != nil {
		panic(err)
	}
	executors := h.Executors()
	for class, x := range executors {
		executors[class] = adapter{x, p}
	}
	foreign := func(ctx context.Context) ([]string, error) {
		return h.ForeignAttempts(asking(ctx, "look for", "others"), func(credential string) bool { return p.sim.knows(p.copy, credential) })
	}
	at := func(ctx context.Context) (time.Time, error) { return h.Time(asking(ctx, "ask for", "the time")) }
	return asked{h}, executors, foreign, at
}

// asked is the adapter's Host, whose questions say what they are for.
type asked struct{ *proxmox.Host }

func (h asked) Facts(ctx context.Context, t op.Target) (op.Facts, error) {
	return h.Host.Facts(asking(ctx, "facts about", t.Key()), t)
}

func (h asked) Task(ctx context.Context, upid string) (engine.Task, error) {
	return h.Host.Task(asking(ctx, "follow", "a task"), upid)
}

// claimed notes an op that nobody has signed, as it begins.
func (s *sim) claimed(n op.Nonce, data []byte) {
	var r record
	if s.world == nil || json.Unmarshal(data, &r) != nil || !r.Keyless || s.orders[n] != nil {
		return
	}
	o := &order{nonce: n, keyless: true, vmid: vmidOf(r.Intent)}
	o.doc.Class, o.doc.Target, o.doc.Params = r.Intent.Class, r.Intent.Target, r.Intent.Params
	o.prize = "what nobody signed"
	s.orders[n] = o
}

// claimed: an op that nobody signed is one that takes nothing away, and that
// somebody has asked for.
func (w *world) claimed(n op.Nonce, r record) {
	asked := slices.ContainsFunc(w.benign, func(in op.Intent) bool {
		return in.Class == r.Intent.Class && in.Target.Equal(r.Intent.Target) && in.Params.Equal(r.Intent.Params)
	})
	if !asked || !r.Intent.Class.Benign() {
		w.sim.wrong("op %s was claimed without a signature, for %s of %s", n.Short(), r.Intent.Class, r.Intent.Target)
	}
}

// failed is told of each end without success as it becomes durable.
func (w *world) failed(r record) {
	s := w.sim
	if s.figures.Classes[string(r.Class)] == nil {
		s.figures.Classes[string(r.Class)] = make(map[string]int)
	}
	s.figures.Classes[string(r.Class)][r.Kind+"/"+r.Effect]++
	if r.Resolution != nil && r.Effect == "unknown" {
		w.givenUp[r.OpID] = true
	}
	if r.Effect != "none" {
		return
	}
	switch {
	case !w.touched(r.OpID):
	case r.Resolution != nil:
		s.figures.Events["effects that people denied"]++
		return
	case w.twice[r.OpID] > 1:
		s.figures.Events["ended without effect beside a second delivery"]++
	default:
		s.figures.False++
		s.wrong("op %s (%s) is on record as %s without effect (%s), by the host's account it had one", r.OpID, r.Class, r.Kind, r.Message)
	}
	w.denied[r.OpID] = true
}

// succeeded is told of each success as it becomes durable: the host's own account
// agrees.
func (s *sim) succeeded(n op.Nonce, data []byte) {
	w := s.world
	var r record
	if w == nil {
		return
	}
	if err := json.Unmarshal(data, &r); err != nil {
		s.wrong("an end of op %s can't be read: %v", n.Short(), err)
		return
	}
	if s.figures.Classes[string(r.Class)] == nil {
		s.figures.Classes[string(r.Class)] = make(map[string]int)
	}
	s.figures.Classes[string(r.Class)]["succeeded"]++
	if o := s.orders[n]; o != nil && !w.done(o, r.OpID) {
		s.figures.False++
		s.wrong("op %s (%s of %s) is on record as succeeded (%s), by the host's account that did not happen", r.OpID, r.Class, o.prize, r.ExitStatus)
	}
}

// count adds to the figures what happened on the host.
func (w *world) count(f *figures) {
	for kind, n := range w.ran {
		f.Effects[string(kind)] += n
	}
	for _, in := range w.faults {
		if n := in.Hits(); n > 0 {
			f.Faults["host: "+string(in.kind)] += n
		}
	}
}

// atWork tells whether a task of an op has not ended.
func (w *world) atWork(opID string) bool {
	return slices.ContainsFunc(w.pve.Running(), func(t pvesim.RunningTask) bool { return t.Tag == opID })
}

// again lets people destroy the guest of a VMID once more.
func (w *world) again(lead *instance, vmid int) {
	s := w.sim
	if _, ok := w.pve.Guest(vmid); ok {
		for _, t := range w.running(vmid) {
			w.pve.KillTask(t.UPID)
		}
		w.pve.DestroyGuest(vmid)
	}
	w.create(vmid)
	w.power(vmid, false)
	for {
		o := w.order(op.GuestDestroy, vmid)
		if o == nil {
			s.wrong("guest %d can't be looked at, though nothing goes wrong", vmid)
			return
		}
		if !o.hostile && o.doc.ExpiresAt.After(s.start.Add(time.Hour)) {
			s.deliver(lead, o, 0)
			return
		}
	}
}

// finish brings everything to its end: what is on its way arrives, all protection
// is lifted, and nothing may come of what was said to have no effect.
func (w *world) finish() {
	s := w.sim
	s.stop()
	w.mend()
	s.run(s.now().Add(time.Minute), nil)
	for range 2 {
		for _, vmid := range s.vmids {
			w.lift(vmid)
		}
		s.run(s.now().Add(90*time.Second), nil)
	}
	w.look()
	s.check()
}
