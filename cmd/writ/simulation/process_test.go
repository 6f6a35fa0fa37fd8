package simulation_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing/synctest"
	"time"

	"writ/domain/engine"
	"writ/domain/eventstore"
	"writ/domain/gate"
	"writ/domain/op"
	"writ/projections"
	"writ/projections/recoveryqueue"
	"writ/projections/viewtest"
)

// An instance is one of the service's, however often its process dies.
type instance struct {
	name   string
	starts int
	skew   time.Duration // of its machine's clock
	up     *process      // nil while none is running
	copy   *copyOf       // the ledger that it uses
	coming bool          // its next process is on its way
}

// A process is one life of an instance.
type process struct {
	sim    *sim
	of     *instance
	name   string
	copy   *copyOf
	engine *engine.Engine
	book   *engine.PolicyBook
	skew   time.Duration

	dead                           bool // written under the scheduler's lock
	pausedUntil, storeCut, hostCut time.Time
	busy                           bool // its policy is being put in force
	leaving                        bool
	heard                          uint64 // the newest epoch that it knows to have begun
	launched                       map[string]bool
	drawn, secrets                 uint64
	endViews                       context.CancelFunc
}

const (
	appendTimeout = 10 * time.Second
	leadLease     = time.Minute
)

func (p *process) paused(now time.Time) bool { return now.Before(p.pausedUntil) }

// away tells why a call can't get to where it should, if that is so.
func (p *process) away(k callKind, now time.Time) error {
	switch k {
	case writes, reads:
		if now.Before(p.storeCut) {
			return errLost
		}
	case asks, moves:
		if now.Before(p.hostCut) {
			return errLost
		}
	case waits:
	}
	return nil
}

// Now implements engine.Clock: by the process's own clock, which may be wrong.
func (p *process) Now() time.Time { return p.sim.now().Round(0).Add(p.skew) }

// Wait implements engine.Clock. What is done every second the process is at
// times slow to do.
func (p *process) Wait(ctx context.Context, d time.Duration) error {
	if d == time.Second {
		p.drawn++
		dice := diceFor(p.sim.seed, p.name, p.drawn<<16)
		d = dice.between(time.Second, 20*time.Second)
	}
	return p.sim.park(&call{key: p.name + " waits " + d.String(), by: p, ctx: ctx, kind: waits, due: p.sim.now().Add(d)})
}

func (p *process) draw() op.Claim {
	p.drawn++
	sum := sha256.Sum256(fmt.Appendf(nil, "claim %d %s %d", p.sim.seed, p.name, p.drawn))
	return op.Claim(sum[:16])
}

// rise starts a process of an instance.
func (s *sim) rise(i *instance) {
	if s.over {
		return
	}
	i.starts++
	p := &process{
		sim: s, of: i, name: fmt.Sprintf("%s.%d", i.name, i.starts), copy: i.copy, skew: i.skew, launched: make(map[string]bool),
	}
	st := store{i.copy, p}
	who := engine.Identity{Site: gate.Site{Agent: agent, Ledger: s.audience}, Instance: i.name}
	p.book = engine.NewPolicyBook(st, who, p)
	var host engine.Host = executor{p}
	executors := map[op.Class]engine.Executor{op.GuestDestroy: executor{p}}
	foreign, hostTime := p.foreign, p.hostTime
	if s.world != nil {
		host, executors, foreign, hostTime = p.carried()
	}
	log := slog.New(slog.DiscardHandler)
	if s.verbose != nil {
		log = slog.New(slog.NewTextHandler(s.verbose, nil)).With("process", p.name)
	}
	cfg := engine.Config{
		Identity: who, Store: st, Policies: p.book, Host: host, Executors: executors,
		Clock: p, Draw: p.draw, Log: log, RecoverEvery: 20 * time.Second, AppendTimeout: appendTimeout, Parallel: 4, Queue: 16,
		Pace: engine.Pace{
			AppendRetry: 200 * time.Millisecond, AppendRetryMax: 5 * time.Second, HostRetry: 500 * time.Millisecond, HostRetryMax: 20 * time.Second,
			FindTries: 5, LookTries: 3, Poll: time.Second, PollMax: 15 * time.Second, StaleLook: 10 * time.Second,
		},
		OnLead: func(ctx context.Context) error { return p.enforce(ctx) },
		Guard: engine.Guard{
			Witness: i.copy.witnessOf(i.name), Foreign: foreign, HostTime: hostTime, Shared: !s.alone,
		},
		Pending: p.pending,
	}
	if !s.alone {
		cfg.Lease = leadLease
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.endViews = cancel
	if s.views {
		p.follow(ctx, st, &cfg, log)
	}
	e, err := engine.New(ctx, cfg)
	if err != nil {
		panic(err)
	}
	p.engine = e
	if s.copying == rolled && i.copy.number > 0 && s.rng.per1000(400) {
		// Of all times, the host does not answer now.
		p.hostCut = s.now().Add(s.rng.within(time.Minute))
	}
	i.up, i.coming = p, false
	s.processes++
	s.tell(p.name, "begins")
}

// enforce puts the policy in force that people have written down.
func (p *process) enforce(ctx context.Context) error {
	if p.busy {
		return errors.New("a policy is being put in force")
	}
	p.busy = true
	defer func() { p.busy = false }()
	all := policies
	if p.sim.world != nil {
		all = worldPolicies
	}
	_, err := p.book.Enforce(ctx, all[p.sim.policy], op.Digest{})
	return err
}

// follow keeps the view of what is in flight by the projection that the service
// has, and lists what is in flight as the service does.
func (p *process) follow(ctx context.Context, st store, cfg *engine.Config, log *slog.Logger) {
	view := viewtest.NewMemory()
	queue := recoveryqueue.New(view)
	runner := projections.New(st, "memory", view, queue, log)
	go func() { _ = runner.Run(ctx) }()
	cfg.Pending = func(ctx context.Context) ([]op.Nonce, error) {
		if err := runner.WaitCaughtUp(ctx); err != nil {
			return nil, err
		}
		from := runner.Lag().Applied
		items, err := queue.List(ctx)
		if err != nil {
			return nil, err
		}
		var found []op.Nonce
		for _, i := range items {
			found = append(found, i.Nonce)
		}
		for e, err := range st.ReadAll(ctx, from, eventstore.Filter{StreamPrefixes: []string{op.StreamPrefix}}) {
			if err != nil {
				return nil, err
			}
			if n, ok := op.NonceOfStream(string(e.Stream)); ok && !slices.Contains(found, n) {
				found = append(found, n)
			}
		}
		return found, nil
	}
}

// pending lists what is in flight, and at times something that no longer is.
func (p *process) pending(ctx context.Context) (found []op.Nonce, err error) {
	err = store{p.copy, p}.read(ctx, "what is in flight", func() {
		found = p.copy.inFlight()
		if n := len(p.copy.nonces); n > 0 && p.sim.rng.per1000(300) {
			if extra := p.copy.nonces[p.sim.rng.upTo(n)]; !slices.Contains(found, extra) {
				found = append(found, extra)
			}
		}
	})
	return found, err
}

// foreign gives the attempts that the host remembers and the ledger does not.
func (p *process) foreign(ctx context.Context) (strange []string, err error) {
	h := p.sim.host
	var names []string
	if err := (executor{p}).ask(ctx, asks, "tokens of attempts", nil, pollPatience, h.front(), func() {
		for _, t := range h.order {
			names = append(names, t.name)
		}
	}); err != nil || len(names) == 0 {
		return nil, err
	}
	err = store{p.copy, p}.read(ctx, "announcements", func() {
		for _, name := range names {
			if !p.sim.knows(p.copy, name) && !p.sim.accepted[name] {
				strange = append(strange, name)
			}
		}
	})
	return strange, err
}

func (p *process) hostTime(ctx context.Context) (at time.Time, err error) {
	h := p.sim.host
	front := h.front()
	err = executor{p}.ask(ctx, asks, "time", nil, pollPatience, front, func() {
		at = h.sim.now().Round(0).Add(h.nodes[front].skew).Truncate(time.Second)
	})
	return at, err
}

// fall lets a process die where it stands: of what it has begun nothing more
// takes effect, but for what others carry already.
func (s *sim) fall(i *instance) {
	p := i.up
	i.up = nil
	s.tell(p.name, "dies")
	over := make(chan struct{})
	ended, end := context.WithCancel(context.Background())
	end()
	go func() {
		_ = p.engine.Stop(ended)
		close(over)
	}()
	synctest.Wait()
	s.kill(p)
	p.endViews()
	<-over
	synctest.Wait()
}

// kill cuts a process off from the world, and answers all that it waits for.
func (s *sim) kill(p *process) {
	s.mu.Lock()
	p.dead = true
	fresh := s.arrived
	s.arrived = nil
	var others []*call
	for _, c := range fresh {
		if c.by != p {
			others = append(others, c)
		}
	}
	s.arrived = others
	s.mu.Unlock()
	for _, c := range fresh {
		if c.by == p {
			c.err = errDead
			close(c.done)
		}
	}
	s.parked = slices.DeleteFunc(s.parked, func(c *call) bool {
		if c.by != p {
			return false
		}
		c.err = errDead
		close(c.done)
		return true
	})
}

// leave ends a process in order.
func (s *sim) leave(i *instance, then func()) {
	p := i.up
	p.leaving = true
	s.tell(p.name, "is stopped")
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	ended := make(chan struct{})
	go func() {
		_ = p.engine.Stop(ctx)
		cancel()
		close(ended)
	}()
	var look func()
	look = func() {
		if p.dead {
			return
		}
		select {
		case <-ended:
			s.tell(p.name, "has ended")
			s.kill(p)
			p.endViews()
			i.up = nil
			then()
		default:
			s.after(time.Second, look)
		}
	}
	s.after(time.Second, look)
}

// A witness keeps how far a copy of the ledger had come, outside of it. At times
// it can't be reached.
type witness struct {
	sim   *sim
	asked uint64
	mark  engine.Mark
	kept  bool
}

func (c *copyOf) witnessOf(name string) *witness {
	if c.marks[name] == nil {
		// That of the very first process of an installation.
		c.marks[name] = &witness{sim: c.sim, kept: true, mark: engine.Mark{Ledger: ledger}}
	}
	return c.marks[name]
}

var errStale = errors.New("stale file handle")

func (w *witness) away() bool {
	w.asked++
	d := diceFor(w.sim.seed, "witness", w.asked)
	return !w.sim.calm && d.per1000(w.sim.faulty/2)
}

// Seen implements engine.Witness.
func (w *witness) Seen(context.Context) (engine.Mark, bool, error) {
	if w.away() {
		return engine.Mark{}, false, errStale
	}
	return w.mark, w.kept, nil
}

// Keep implements engine.Witness.
func (w *witness) Keep(_ context.Context, m engine.Mark) error {
	if w.away() {
		return errStale
	}
	w.mark, w.kept = m, true
	return nil
}
