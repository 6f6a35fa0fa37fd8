package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"writ/domain/eventstore"
	"writ/domain/gate"
	"writ/domain/op"
)

// A Clock tells the time and lets it pass.
type Clock interface {
	Now() time.Time
	// Wait returns after d, or earlier with the context's error.
	Wait(ctx context.Context, d time.Duration) error
}

// Policies gives the policy in force; a *PolicyBook does.
type Policies interface {
	// Current fails unless the policy is the newest on record.
	Current(ctx context.Context) (*gate.Policy, error)
}

// Config is what an engine needs. All of it is required but the limits, pace
// and executors.
type Config struct {
	Identity  Identity
	Store     eventstore.Store
	Policies  Policies
	Host      Host
	Executors map[op.Class]Executor
	Clock     Clock
	// Draw gives 128 random bits that nobody can foresee, for each claim.
	Draw func() op.Claim
	Log  *slog.Logger

	Pace Pace // zero: DefaultPace
	// Pending lists the ops that are in flight on record; it may list more,
	// but must list all that were when it was called. Nil: nothing is
	// recovered.
	Pending func(context.Context) ([]op.Nonce, error)
	// RecoverEvery is the time between two passes of recovery; 0 means 5 s.
	RecoverEvery time.Duration
	// Queue bounds the ops that are claimed and not ended; 0 means 1024.
	Queue int
	// Parallel bounds the ops that act on the host at a time; 0 means 64.
	Parallel int
	// AppendTimeout bounds one append; 0 means 10 s. What happens after it is
	// of unknown outcome and is repeated.
	AppendTimeout time.Duration

	// Lease is for how long another instance that leads must not have been
	// heard of before this one takes over. 0 means that nobody else can use
	// the store: this one takes over at once, and for good.
	Lease time.Duration
	// OnLead is called each time this instance has taken over, before it
	// recovers or launches anything, and again until it succeeds.
	OnLead func(context.Context) error
	// Guard shows whether this is the newest copy of the ledger, and whether
	// the clock can be believed.
	Guard Guard
}

// An Engine runs ops until it is stopped. Its methods may be called
// concurrently.
type Engine struct {
	cfg      Config
	turns    *turns
	refusals *refusals

	// stopping ends waiting for turns; running ends everything but a request
	// under way.
	stopping, running context.Context //nolint:containedctx // the life of the engine, not of a call
	stop, kill        context.CancelFunc
	jobs              sync.WaitGroup
	crew              *crew         // runs the jobs of callers
	appends           *timebox      // for one append, or a look that is as short
	askers            chan struct{} // one for each recovery that may ask the host at a time

	mu     sync.Mutex // guards what follows
	queued int
	live   map[op.Nonce]*liveJob
	// left are the ops that a job of this process had to leave in flight, with
	// what it knew when it did.
	left map[op.Nonce]leftOp
	held map[op.Nonce]int // ops that jobs of this process hold, live or about to be
	// waiting are ops that jobs hold, with what they wait for.
	waiting map[op.Nonce]string
	wanted  map[op.Nonce]int                // ops that people are about to settle
	yields  map[op.Nonce]context.CancelFunc // asks the recovery of an op to let go of it
	closed  bool
	halts   map[haltCause]error // why nothing is launched
	term    *term               // nil while another instance leads
	// surveyed is closed when what was in flight at the beginning of the
	// present term, or else of the next one, is taken up.
	surveyed chan struct{}
	led      chan struct{} // closed when there is a term
	stirred  chan struct{} // closed, and made anew, when a reason to halt comes up
	standing bool          // by, for another instance that leads
	floor    time.Time     // no time is told that is earlier
	newest   Mark          // of what this process knows to be on record
	noted    Mark          // the newest one that the witness has
	tried    Mark          // the one it was last given
	examined bool          // the ledger was compared with its mark
}

// New gives an engine that is ready to run. Stop must be called.
func New(ctx context.Context, cfg Config) (*Engine, error) {
	switch {
	case cfg.Store == nil || cfg.Policies == nil || cfg.Host == nil || cfg.Clock == nil || cfg.Draw == nil || cfg.Log == nil:
		return nil, errors.New("engine: store, policies, host, clock, draw and log are required")
	case cfg.Queue < 0 || cfg.Parallel < 0:
		return nil, fmt.Errorf("engine: queue %d and parallel %d must not be negative", cfg.Queue, cfg.Parallel)
	case cfg.Identity.Site.Agent == "" || cfg.Identity.Instance == "" || cfg.Identity.Site.Ledger == "":
		return nil, errors.New("engine: agent, ledger and instance must have names")
	}
	if cfg.Pace == (Pace{}) {
		cfg.Pace = DefaultPace()
	}
	if cfg.Queue == 0 {
		cfg.Queue = 1024
	}
	if cfg.Parallel == 0 {
		cfg.Parallel = 64
	}
	if cfg.RecoverEvery == 0 {
		cfg.RecoverEvery = 5 * time.Second
	}
	if cfg.AppendTimeout == 0 {
		cfg.AppendTimeout = 10 * time.Second
	}
	cfg.Guard = cfg.Guard.withDefaults()
	if cfg.Lease != 0 && cfg.Lease < 2*cfg.AppendTimeout {
		return nil, fmt.Errorf("engine: a lease of %s is shorter than two appends may take, %s", cfg.Lease, 2*cfg.AppendTimeout)
	}
	e := &Engine{
		turns:    newTurns(cfg.Parallel),
		crew:     newCrew(),
		live:     make(map[op.Nonce]*liveJob),
		left:     make(map[op.Nonce]leftOp),
		held:     make(map[op.Nonce]int),
		waiting:  make(map[op.Nonce]string),
		wanted:   make(map[op.Nonce]int),
		yields:   make(map[op.Nonce]context.CancelFunc),
		halts:    make(map[haltCause]error),
		askers:   make(chan struct{}, 2*cfg.Parallel),
		surveyed: make(chan struct{}),
		led:      make(chan struct{}),
		stirred:  make(chan struct{}),
		standing: cfg.Lease > 0,
	}
	e.running, e.kill = context.WithCancel(context.WithoutCancel(ctx))
	e.stopping, e.stop = context.WithCancel(e.running)
	e.appends = &timebox{life: e.running, limit: cfg.AppendTimeout}
	// After the two contexts, which it needs: the store as the engine uses it
	// tells how far the ledger has come.
	cfg.Store = witnessed{cfg.Store, e}
	e.cfg = cfg
	e.refusals = newRefusals(cfg.Store, cfg.Identity)
	e.jobs.Go(e.flushRefusals)
	e.jobs.Go(e.leadOn)
	return e, nil
}

// RunSignedJob takes a submission. It returns as soon as the op is claimed and
// on record (InFlight), or when it is certain that this submission does
// nothing. After the claim the op goes on whatever becomes of ctx; Wait waits
// for its end.
//
// If ctx ends before the claim is certain, the answer is Unavailable: the
// claim is possibly written.
func (e *Engine) RunSignedJob(ctx context.Context, sub Submission) Answer {
	l := &liveJob{
		job:      NewJob(e.cfg.Identity, e.cfg.Pace, e.cfg.Draw, sub),
		accepted: make(chan struct{}), done: make(chan struct{}),
	}
	l.job.resumable = e.cfg.Pending != nil
	if !e.begin() {
		return Answer{Outcome: Unavailable, Detail: "the service is stopping; nothing was done, " + sub.anew()}
	}
	e.crew.run(func() {
		defer e.jobs.Done()
		e.run(ctx, l)
	}, e.stopping.Done())
	select {
	case <-l.accepted:
		return l.acceptance
	case <-l.done:
		select {
		case <-l.accepted:
			// It ended as fast as it was claimed. What came of it is told by
			// Wait, which knows the record; the job may have lost it to others.
			return l.acceptance
		default:
			return l.answer
		}
	case <-ctx.Done():
		return Answer{Outcome: Unavailable, Detail: "the caller left before the claim was certain; " + sub.anew()}
	}
}

// begin counts a job in, unless the engine stops.
func (e *Engine) begin() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	e.jobs.Add(1)
	return true
}

// How often Wait looks at an op that no job of this process holds.
const watchInterval = 250 * time.Millisecond

// Wait tells how an op stands, waiting for the end of its attempt as long as
// ctx lasts. An op that was left in flight here is Indeterminate at once. One
// that no job here ever held is looked at again and again: another instance
// may be running it.
func (e *Engine) Wait(ctx context.Context, n op.Nonce) Answer {
	for {
		e.mu.Lock()
		l := e.live[n]
		left := e.left[n].answer
		e.mu.Unlock()
		if l == nil {
			a := e.lastLook(ctx, n)
			if a.Outcome == InFlight && a.OpID == left.OpID {
				return left
			}
			if a.Outcome != InFlight || e.cfg.Clock.Wait(ctx, watchInterval) != nil {
				return a
			}
			continue
		}
		select {
		case <-l.done:
			if l.answer.Outcome != Indeterminate {
				return l.answer
			}
			// If another writer has the op now, it may have ended it.
		case <-ctx.Done():
			return e.lastLook(ctx, n)
		}
	}
}

// lastLook tells how an op stands even if ctx has ended, but not however long
// that takes.
func (e *Engine) lastLook(ctx context.Context, n op.Nonce) Answer {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.cfg.AppendTimeout)
	defer cancel()
	return e.Status(ctx, n)
}

// Status tells how an op stands on record.
func (e *Engine) Status(ctx context.Context, n op.Nonce) Answer {
	o, err := LoadOp(ctx, e.cfg.Store, e.cfg.Store.LedgerID(), n)
	var corrupt *op.CorruptStreamError
	switch {
	case errors.As(err, &corrupt):
		return Answer{Outcome: Corrupt, Nonce: n, Detail: err.Error()}
	case err != nil:
		return Answer{Outcome: Unavailable, Nonce: n, Detail: "the ledger could not be read: " + shown(n, err)}
	}
	return AnswerFor(&o)
}

// Stop ends the engine: nothing new is taken or launched, ops that were not
// sent yet end as interrupted, and whoever is launching or following is given
// until ctx ends to come to an end; after that it is left in flight on record.
// Tasks run on at the host either way.
func (e *Engine) Stop(ctx context.Context) error {
	e.mu.Lock()
	e.closed = true
	e.stop() // before recovery can pass over an op because the engine is closed
	e.mu.Unlock()
	defer e.kill()

	ended := make(chan struct{})
	go func() {
		e.jobs.Wait()
		e.crew.wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		e.kill()
		<-ended
	}
	e.flushCounts() //nolint:contextcheck // what was refused meanwhile is recorded even if the caller has no patience left
	e.bow(ctx)      // last: whoever takes over finds nothing under way
	e.keepMark()    //nolint:contextcheck // as above
	return nil
}

func (e *Engine) flushRefusals() {
	for {
		if e.cfg.Clock.Wait(e.stopping, refusalsCounted) != nil {
			return // Stop flushes last
		}
		e.flushCounts()
	}
}

func (e *Engine) flushCounts() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.running), e.cfg.AppendTimeout)
	defer cancel()
	if err := e.refusals.flush(ctx, e.now()); err != nil {
		e.cfg.Log.Error("counts of refusals could not be recorded", "err", err)
	}
}
