package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"writ/domain/op"
)

// A liveJob is a job that is being run in this process.
type liveJob struct {
	job *Job

	accepted   chan struct{} // closed when the claim is on record
	acceptance Answer        // set before accepted is closed
	done       chan struct{} // closed when the job is over
	answer     Answer        // set before done is closed

	reserved bool            // holds a place in the queue
	turn     *turn           // holds its target
	holds    op.Nonce        // counted among those held
	muted    bool            // it was told that the host does not answer
	queued   func()          // of a recovery: called once it stands in line
	wanted   context.Context //nolint:containedctx // of a recovery: ends when people want to settle the op
}

// run carries a job's commands out until it is over, or until the engine is
// halted: then the op stays on record as far as it came.
//
//nolint:contextcheck // from the claim on, the engine's life bounds the work and not the caller's
func (e *Engine) run(caller context.Context, l *liveJob) {
	defer e.end(l)
	asking, cancel := context.WithCancel(caller)
	defer cancel()
	// A question before the claim must not hold up the end of the service: an
	// op that nobody has claimed can be given up at any time.
	defer context.AfterFunc(e.stopping, cancel)()
	cmd := l.job.Begin(e.now())
	for {
		if f, ok := cmd.(Finish); ok {
			l.answer = f.Answer
			e.tell(l)
			return
		}
		// Up to the claim the caller's patience counts; from the claim on, the
		// op goes on whatever becomes of the caller.
		ctx := e.patience(l, cmd)
		if !l.job.Committed() {
			ctx = asking
		} else if l.holds == "" {
			// Before the claim can be on record, so that recovery never takes
			// up an op that is live.
			e.hold(l)
		}
		e.doing(l, cmd)
		res, halted := e.carryOut(ctx, l, cmd)
		if halted {
			l.answer = stopped(l.job)
			return
		}
		cmd = l.job.Step(e.now(), res)
		if l.job.Claimed() {
			e.accept(l)
		}
	}
}

// stopped tells how a job stands that was cut short by the end of the service.
func stopped(j *Job) Answer {
	o := j.Op()
	a := AnswerFor(&o)
	a.Detail += "; the service stopped while it was under way"
	if !j.Claimed() {
		a.Outcome = Unavailable
		a.Detail = "the service stopped before the claim was certain; " + j.sub.anew()
	}
	return a
}

// accept makes the claim known: to the caller, and to those who wait.
func (e *Engine) accept(l *liveJob) {
	select {
	case <-l.accepted:
		return
	default:
	}
	o := l.job.Op()
	l.acceptance = AnswerFor(&o)
	e.mu.Lock()
	e.live[o.Nonce] = l
	e.mu.Unlock()
	close(l.accepted)
}

// end gives back whatever a job held and tells those who wait.
func (e *Engine) end(l *liveJob) {
	o := l.job.Op()
	e.mu.Lock()
	if l.reserved {
		e.queued--
	}
	if e.live[o.Nonce] == l {
		delete(e.live, o.Nonce)
		if l.answer.Outcome == Indeterminate && o.Started != nil {
			// Before the turn is given back: nobody may slip in between.
			e.leaveOp(o.Nonce, o.Started.Target.Key(), l.answer, l.job.mayStillAct())
		}
	}
	e.mu.Unlock()
	if l.job.Claimed() && !o.State.InFlight() {
		e.settled(&o)
	}
	if c := l.job.contest; c != nil {
		// For the rest of this process: nobody follows that task.
		e.turns.block(l.job.sub.Intent.Target.Key(), o.Nonce, fmt.Sprintf(
			"op %s on it is contested: a task of the host for it may be at work. Look at %s, then start the service again", c.OpID, c.UPID))
	}
	if l.turn != nil {
		e.turns.give(l.turn)
	}
	if l.holds != "" {
		e.release(l.holds)
	}
	close(l.done)
}

//nolint:contextcheck // appends, turns and launches are bounded by the engine's life, not by the caller's
func (e *Engine) carryOut(ctx context.Context, l *liveJob, cmd Command) (res Result, halted bool) {
	switch c := cmd.(type) {
	case ReadOp:
		o, err := LoadOp(ctx, e.cfg.Store, e.cfg.Store.LedgerID(), c.Nonce)
		return OpRead{Op: o, Err: err}, false
	case ReadPolicy:
		// An instance that is about to lead puts its policy in force first.
		if _, why := e.leading(ctx); why != "" {
			return PolicyRead{Err: errors.New(why)}, false
		}
		p, err := e.cfg.Policies.Current(ctx)
		return PolicyRead{Policy: p, Err: err}, false
	case ReadFacts:
		f, err := e.cfg.Host.Facts(ctx, c.Target)
		return FactsRead{Facts: f, Err: err}, false
	case RecordRefusal:
		return RefusalRecorded{Err: e.recordRefusal(c.Refused)}, false
	case Reserve:
		return e.admit(ctx, l), false
	case Append:
		return e.append(c)
	case AwaitTurn:
		return e.awaitTurn(l, c), false
	case Observe:
		return e.observe(ctx, c), false
	case Launch:
		return e.launch(c), false
	case AskTask:
		defer e.asking(l)()
		t, err := e.cfg.Host.Task(ctx, c.UPID)
		res := TaskAsked{Task: t, Err: err}
		if x := e.cfg.Executors[c.Class]; x != nil && err == nil {
			res.PrecedesEffect = x.PrecedesEffect(t.ExitStatus)
		}
		return res, false
	case ProbeHost:
		defer e.asking(l)()
		return e.probe(ctx, c), false
	case FindTasks:
		defer e.asking(l)()
		return e.findTasks(ctx, c), false
	case TakeTask:
		return e.takeTask(ctx, c), false
	case RaiseFence:
		defer e.asking(l)()
		return e.raiseFence(ctx, c), false
	case RecordContested:
		return RefusalRecorded{Err: e.recordContested(c.Contested)}, false
	case Pause:
		return e.pause(ctx, l, c)
	}
	panic("engine: internal error: unknown command")
}

// hold counts an op among those that a job of this process holds.
func (e *Engine) hold(l *liveJob) {
	e.mu.Lock()
	defer e.mu.Unlock()
	l.holds = l.job.Op().Nonce
	e.held[l.holds]++
}

func (e *Engine) awaitTurn(l *liveJob, c AwaitTurn) TurnCame {
	if c.Recovering {
		l.turn = e.turns.hold(l.wanted, c.Key, l.queued)
		return TurnCame{Stopping: l.turn == nil}
	}
	t := e.termOf(c.Epoch)
	if t == nil {
		return TurnCame{Blocked: notLeading}
	}
	select {
	case <-t.surveyed:
	case <-t.ctx.Done():
		return t.overFor(e)
	}
	select {
	case <-t.checked:
	case <-t.ctx.Done():
		return t.overFor(e)
	}
	// Asked once more, as select is fair: what is put on record for an op that
	// the end of the term overtakes must not be left to chance.
	if t.ctx.Err() != nil {
		return t.overFor(e)
	}
	if err := e.Halted(); err != nil {
		return TurnCame{Blocked: "launching is stopped: " + err.Error()}
	}
	held, blocked := e.turns.take(t.ctx, c.Key, func() {})
	if err := e.Halted(); err != nil && held != nil {
		e.turns.give(held)
		return TurnCame{Blocked: "launching is stopped: " + err.Error()}
	}
	if held == nil && blocked == "" {
		return t.overFor(e)
	}
	l.turn = held
	return TurnCame{Blocked: blocked}
}

// overFor tells a job that waits why it need not any more: the engine stops, or
// another instance leads.
func (t *term) overFor(e *Engine) TurnCame {
	if e.stopping.Err() != nil {
		return TurnCame{Stopping: true}
	}
	return TurnCame{Blocked: notLeading}
}

// append makes one attempt at an append. It isn't bound to any caller: once
// begun, its outcome matters more than whoever asked for it.
func (e *Engine) append(c Append) (Result, bool) {
	return AppendRecord(e.appends.begin(), e.cfg.Store, c.Nonce.Stream(), c.Record), false
}

func (e *Engine) observe(ctx context.Context, c Observe) HostObserved {
	x := e.cfg.Executors[c.Attempt.Intent.Class]
	if x == nil {
		e.cfg.Log.Warn("no executor for the class of an op that was claimed", "class", string(c.Attempt.Intent.Class))
		return HostObserved{NoExecutor: true}
	}
	seen, err := x.Observe(ctx, c.Attempt)
	var req op.Request
	var credential string
	if err == nil && seen.Found {
		req, credential, err = x.Request(c.Attempt, seen)
	}
	if errors.Is(err, ErrNoExecutor) {
		e.cfg.Log.Warn("no executor for the target of an op that was claimed", "class", string(c.Attempt.Intent.Class), "err", err)
		return HostObserved{NoExecutor: true, Err: err}
	}
	return HostObserved{Seen: seen, Request: req, Credential: credential, Err: err}
}

// launch sends the request. Nothing cuts it short but the adapter's own
// deadline: a request that was given up half-way is one whose outcome nobody
// knows.
func (e *Engine) launch(c Launch) LaunchDone {
	if why := e.withhold(c.Epoch); why != "" {
		return LaunchDone{Withheld: why}
	}
	x := e.cfg.Executors[c.Announced.Class]
	if x == nil {
		return LaunchDone{Err: Definite(errNoExecutor)}
	}
	upid, err := x.Launch(context.WithoutCancel(e.running), c.Attempt, c.Announced)
	if IsOtherCopy(err) {
		e.metOtherCopy(c.Epoch, err)
	}
	return LaunchDone{UPID: upid, Err: err}
}

func (e *Engine) probe(ctx context.Context, c ProbeHost) Probed {
	x := e.cfg.Executors[c.Announced.Class]
	if x == nil {
		return Probed{Err: errNoExecutor}
	}
	f, err := x.Probe(ctx, c.Announced, c.ExitStatus, c.Log)
	return Probed{Finding: f, Err: err}
}

// admit lets a job claim its op, if this instance takes claims now.
func (e *Engine) admit(ctx context.Context, l *liveJob) Reserved {
	if why := e.closedFor(); why != "" {
		return Reserved{Closed: why}
	}
	t, why := e.leading(ctx)
	if halted := e.closedFor(); halted != "" {
		why = halted
	}
	if why != "" {
		return Reserved{Closed: why}
	}
	return Reserved{OK: e.reserve(l), Epoch: t.lead.Epoch()}
}

func (e *Engine) reserve(l *liveJob) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !l.reserved {
		if e.queued >= e.cfg.Queue {
			return false
		}
		e.queued++
		l.reserved = true
	}
	return true
}

func (e *Engine) recordRefusal(r op.Refused) error {
	ctx, cancel := context.WithTimeout(e.running, e.cfg.AppendTimeout)
	defer cancel()
	err := e.refusals.record(ctx, e.now(), r)
	if err != nil {
		// The refusal stands: nothing runs. Only its record is missing.
		e.cfg.Log.Error("a refusal could not be recorded", "reason", r.Reason, "nonce", r.NonceShort, "err", err)
	}
	return err
}

// tell logs the end of a job for operators; the record is the stream.
func (e *Engine) tell(l *liveJob) {
	a := l.answer
	level := slog.LevelInfo
	if a.Outcome == Indeterminate || a.Outcome == Corrupt {
		level = slog.LevelError
	}
	e.cfg.Log.Log(e.running, level, "submission answered",
		"outcome", a.Outcome.String(), "reason", string(a.Reason), "op_id", a.OpID, "nonce", a.Nonce.Short(),
		"attempt", a.Attempt, "upid", a.UPID, "detail", a.Detail)
}
