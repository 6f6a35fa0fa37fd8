package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"writ/domain/op"
)

// How long recovery lets an op rest that it could not settle: at first, and at
// most.
const (
	recoverRest    = 15 * time.Second
	recoverRestMax = 5 * time.Minute
)

// A leftOp is an op that a job of this process had to leave in flight.
type leftOp struct {
	answer Answer // what the job knew when it did
	tries  int
	next   time.Time // not tried again before
	target string    // blocked for its sake while its request may still act
}

// recoverAll settles what is in flight and held by nobody, when a term begins
// and then again and again, until it is over.
func (e *Engine) recoverAll(t *term) {
	if e.cfg.Pending == nil {
		close(t.surveyed)
		return
	}
	var once sync.Once
	// A copy of which the host remembers more than it knows must not say what
	// became of its ops.
	select {
	case <-t.checked:
	case <-t.ctx.Done():
		return
	}
	for {
		if !e.doubtful(t) {
			e.recoverPass(t, &once)
		}
		if e.cfg.Clock.Wait(t.ctx, e.cfg.RecoverEvery) != nil {
			return
		}
	}
}

// doubtful tells whether another copy was known of before this one had begun to
// recover, or may have been had the host answered: what this copy has as claimed
// may have been launched in a future that it has lost.
func (e *Engine) doubtful(t *term) bool {
	select {
	case <-t.surveyed:
		return false
	default:
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.halts[haltOtherCopy] != nil || e.halts[haltSuperseded] != nil || e.halts[haltUnchecked] != nil
}

// recoverPass takes up every op that is due. On the first pass it also waits
// until each of them stands in line for its target, so that no later op can
// get there before: from then on launches are let through.
func (e *Engine) recoverPass(t *term, first *sync.Once) {
	pending, err := e.cfg.Pending(t.ctx)
	if err != nil {
		if t.ctx.Err() == nil {
			e.cfg.Log.Error("what is in flight could not be listed; nothing is launched until it can", "err", err)
		}
		return
	}
	e.forgetSettled(pending)
	var inLine sync.WaitGroup
	for _, n := range pending {
		e.recoverOne(t, n, &inLine)
	}
	first.Do(func() {
		inLine.Wait()
		close(t.surveyed)
	})
}

// recoverOne starts the recovery of an op, unless a job of this process holds
// it, it rests, or the engine stops.
func (e *Engine) recoverOne(t *term, n op.Nonce, inLine *sync.WaitGroup) {
	now := e.cfg.Clock.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	// What rests was left by an earlier term, and others may have moved it on
	// since: the survey takes up all of it.
	surveyed := false
	select {
	case <-t.surveyed:
		surveyed = true
	default:
	}
	if left, ok := e.left[n]; e.closed || e.held[n] > 0 || e.wanted[n] > 0 || surveyed && ok && now.Before(left.next) {
		return
	}
	// Held from before the op is read, so that nobody settles it between the
	// reading and the first append.
	e.held[n]++
	e.waiting[n] = "its record is being read"
	e.jobs.Add(1)
	inLine.Add(1)
	queued := sync.OnceFunc(inLine.Done)
	go func() {
		defer e.jobs.Done()
		defer queued()
		defer e.release(n)
		e.recoverOp(t, n, queued)
	}()
}

func (e *Engine) recoverOp(t *term, n op.Nonce, queued func()) {
	o, err := e.readInFlight(t.ctx, n)
	if err != nil {
		if t.ctx.Err() == nil {
			e.setAside(&o, err)
		}
		return
	}
	if !o.State.InFlight() {
		e.settled(&o)
		return
	}
	if e.liveElsewhere(t, &o) || t.ctx.Err() != nil {
		return
	}
	if o.Started.Epoch > t.lead.Epoch() {
		// Another instance leads by now, and has claimed it. To fence it would
		// stop that one's launch.
		t.end()
		return
	}
	l := &liveJob{
		job:      NewRecovery(e.identity(t), e.cfg.Pace, o),
		accepted: make(chan struct{}), done: make(chan struct{}),
		queued: queued,
	}
	defer e.yieldable(l, n)()
	e.run(e.running, l)
}

// readInFlight reads an op until the store answers: as long as its target is
// not known, the survey does not end, and nothing is launched.
func (e *Engine) readInFlight(ctx context.Context, n op.Nonce) (op.Op, error) {
	for pause := e.cfg.Pace.AppendRetry; ; pause = min(2*pause, e.cfg.Pace.AppendRetryMax) {
		o, err := LoadOp(ctx, e.cfg.Store, e.cfg.Store.LedgerID(), n)
		var corrupt *op.CorruptStreamError
		if err == nil || errors.As(err, &corrupt) {
			return o, err
		}
		e.cfg.Log.Warn("an op in flight could not be read, trying again", "nonce", n.Short(), "err", shown(n, err))
		if e.cfg.Clock.Wait(ctx, pause) != nil {
			return o, err
		}
	}
}

// liveElsewhere tells whether an op that was read in flight, and that recovery
// holds, is also held by the job that brought it there: the list was out of
// date, and the op was claimed after recovery began to hold it. As a job holds
// its op before it claims it, whoever sees the claim sees the hold.
//
// Before the survey's end no job can be past its claim: one that holds an op
// which is further has lost its own claim and will let go.
func (e *Engine) liveElsewhere(t *term, o *op.Op) bool {
	surveyed := false
	select {
	case <-t.surveyed:
		surveyed = true
	default:
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.held[o.Nonce] > 1 && (surveyed || o.State == op.StateStarted)
}

// setAside leaves an op alone whose stream can't be read as an op: it stops
// nobody but itself. But if it may have sent something, its target is kept from
// all others, as that of any op whose request may still act.
func (e *Engine) setAside(o *op.Op, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, known := e.left[o.Nonce]; !known {
		e.cfg.Log.Error("ALARM: an op in flight can't be read as one; it is left as it is", "nonce", o.Nonce.Short(), "err", shown(o.Nonce, err))
	}
	target := ""
	if o.Started != nil {
		target = o.Started.Target.Key()
	}
	a := AnswerFor(o)
	a.Outcome, a.Detail = Corrupt, shown(o.Nonce, err)
	e.leaveOp(o.Nonce, target, a, target != "")
}

// release gives up the hold on an op.
func (e *Engine) release(n op.Nonce) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.held[n]--; e.held[n] <= 0 {
		delete(e.held, n)
		delete(e.waiting, n)
	}
}

// Waiting gives the ops that recovery is at work on right now, and those of which
// the host does not answer a question, each with what it waits for, for people.
func (e *Engine) Waiting() map[op.Nonce]string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.waiting)
}

// doing notes what an op waits for next, if that is worth telling.
func (e *Engine) doing(l *liveJob, cmd Command) {
	if !l.job.recovering && l.job.mute == "" && !l.muted {
		return
	}
	l.muted = l.job.mute != ""
	what := waitsFor(cmd)
	if p, ok := cmd.(Pause); ok {
		what = fmt.Sprintf("%s, again in %s", waitsFor(l.job.resume), p.For)
	}
	if l.muted {
		what = fmt.Sprintf("%s. It is asked again", l.job.mute)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if what == "" {
		return
	}
	if !l.job.recovering && !l.muted {
		delete(e.waiting, l.job.op.Nonce)
		return
	}
	e.waiting[l.job.op.Nonce] = what
}

func waitsFor(cmd Command) string {
	switch c := cmd.(type) {
	case AwaitTurn:
		return "another op on the same target is looked into first"
	case FindTasks:
		return "the host is asked for the tasks that its request may have started"
	case TakeTask:
		return "the task that was found is put on record as its own"
	case RaiseFence:
		return "the fence against a late request is raised"
	case AskTask:
		return "the host is asked how its task stands: " + text(c.UPID)
	case ProbeHost:
		return "the target is compared with what was announced"
	case Append:
		return "what was found is put on record"
	case ReadOp, RecordContested:
		return "its record is being read"
	}
	return ""
}

// leaveOp notes that a job had to leave its op in flight. While its request may
// still act, no other op may use the target: it could free a VMID, and the
// late request would hit whoever gets it next. Called with the lock held.
func (e *Engine) leaveOp(n op.Nonce, target string, a Answer, mayStillAct bool) {
	left := e.left[n]
	left.answer = a
	left.tries++
	rest := recoverRest
	for range min(left.tries-1, 8) {
		rest = min(2*rest, recoverRestMax)
	}
	left.next = e.cfg.Clock.Now().Add(rest)
	left.target = target
	if mayStillAct {
		e.turns.block(target, n, fmt.Sprintf("op %s on it is %s: its request or task may still act. Settle it first (writ recovery ls)", a.OpID, a.Outcome))
	} else {
		e.turns.unblock(target, n)
	}
	e.left[n] = left
}

// settled forgets an op that was left in flight and has come to an end. A later
// attempt may have been left since the op was read: that one stays.
func (e *Engine) settled(o *op.Op) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if left, ok := e.left[o.Nonce]; ok && left.answer.Attempt <= o.Attempt {
		e.turns.unblock(left.target, o.Nonce)
		delete(e.left, o.Nonce)
	}
}

// forgetSettled looks at what was left in flight and is not listed any more:
// somebody else may have brought it to an end.
func (e *Engine) forgetSettled(pending []op.Nonce) {
	listed := make(map[op.Nonce]bool, len(pending))
	for _, n := range pending {
		listed[n] = true
	}
	e.mu.Lock()
	var gone []op.Nonce
	for n := range e.left {
		if !listed[n] && e.held[n] == 0 {
			gone = append(gone, n)
		}
	}
	e.mu.Unlock()
	slices.Sort(gone) // so that the same history asks the same questions in the same order
	for _, n := range gone {
		if o, err := LoadOp(e.stopping, e.cfg.Store, e.cfg.Store.LedgerID(), n); err == nil && !o.State.InFlight() {
			e.settled(&o)
		}
	}
}

// Left gives the ops that jobs of this process had to leave in flight, with
// what they knew, the oldest first.
func (e *Engine) Left() []Answer {
	e.mu.Lock()
	defer e.mu.Unlock()
	answers := make([]Answer, 0, len(e.left))
	for _, l := range e.left {
		answers = append(answers, l.answer)
	}
	slices.SortFunc(answers, func(a, b Answer) int { return a.Since.Compare(b.Since) })
	return answers
}

// Surveyed is closed when everything that was in flight at the beginning has
// been taken up: from then on ops are launched. Where several instances share
// the ledger, that is the beginning of this one's term, the present or, while
// another one leads, the next.
func (e *Engine) Surveyed() <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.surveyed
}
