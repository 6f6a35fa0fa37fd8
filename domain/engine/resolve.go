package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"writ/domain/gate"
	"writ/domain/op"
	"writ/domain/signedop"
)

// Resolve settles an indeterminate op by a signed resolution, kept whole in
// the event that ends the op.
//
// It refuses (RefusedByGate, on record) what the gate does not allow, and
// answers Conflict, changing nothing, if the resolution is for another attempt
// or was signed over an older state of the op, if the op has ended or is being
// worked on, or if it says that there was no effect while a request or task of
// the attempt may still have one: that word would let the same writ run again.
// Until what was in flight at the start is taken up it answers Unavailable,
// having settled nothing.
func (e *Engine) Resolve(ctx context.Context, raw []byte, caller string) Answer {
	if !e.begin() {
		return Answer{Outcome: Unavailable, Detail: "the service is stopping; nothing was settled"}
	}
	defer e.jobs.Done()
	ctx, cancel := e.whileRunning(ctx)
	defer cancel()
	t := e.surveyedTerm()
	if t == nil {
		// To hold an op now would make the survey pass it over; and what
		// another instance works on is settled there.
		return Answer{Outcome: Unavailable, Detail: "this instance is still taking up what is in flight, or another one leads; nothing was settled, hand the resolution in again"}
	}
	policy, err := e.cfg.Policies.Current(ctx)
	if err != nil {
		return Answer{Outcome: Unavailable, Detail: "no policy can be applied: " + err.Error()}
	}
	now := e.now()
	d := gate.Resolve(now, policy, e.cfg.Identity.Site, raw)
	if !d.Allowed() {
		return e.refuseResolution(now, d, raw, caller) //nolint:contextcheck // recorded whether the caller stays or not
	}
	doc := d.Verified.Resolution()
	if !e.holdAlone(ctx, doc.Nonce) {
		return Answer{Outcome: Conflict, Nonce: doc.Nonce, Detail: "the op is being worked on right now; look at it again and settle it then"}
	}
	defer e.release(doc.Nonce)
	a := e.settle(ctx, t, now, doc, &op.Resolved{
		Envelope: raw, PayloadSHA256: d.Verified.Digest(), Signers: d.Signers, Role: d.Role, PolicySerial: d.PolicySerial, Reason: doc.Reason,
	})
	if a.Outcome == Succeeded || a.Outcome == Failed {
		e.settled(&op.Op{Nonce: doc.Nonce, Attempt: a.Attempt})
		e.cfg.Log.Info("op settled by a signed resolution", "op_id", a.OpID, "nonce", doc.Nonce.Short(), "verdict", string(doc.Verdict), "effect", string(doc.Effect))
	}
	return a
}

func (e *Engine) refuseResolution(now time.Time, d gate.ResolutionDecision, raw []byte, caller string) Answer {
	_ = e.recordRefusal(op.Refused{ // logged where it happens; the refusal stands
		Agent: e.cfg.Identity.Site.Agent, Instance: e.cfg.Identity.Instance, At: now.UTC(),
		Reason: string(d.Reason), Detail: text("resolution: " + d.Detail), EnvelopeSHA256: op.DigestOf(raw),
		SubmittedBy: brief(caller), PolicySerial: d.PolicySerial,
	})
	return Answer{Outcome: RefusedByGate, Reason: d.Reason, Detail: d.Detail}
}

// whileRunning ends a call's context with the engine's life, so that a host or
// store that hangs does not hold up the end of the service.
func (e *Engine) whileRunning(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(e.running, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

// settle puts the verdict on record, if it is about the op as it stands.
func (e *Engine) settle(ctx context.Context, t *term, now time.Time, doc signedop.Resolution, r *op.Resolved) Answer {
	o, err := LoadOp(ctx, e.cfg.Store, e.cfg.Store.LedgerID(), doc.Nonce)
	var corrupt *op.CorruptStreamError
	switch {
	case errors.As(err, &corrupt):
		return Answer{Outcome: Corrupt, Nonce: doc.Nonce, Detail: shown(doc.Nonce, err)}
	case err != nil:
		return Answer{Outcome: Unavailable, Nonce: doc.Nonce, Detail: "the ledger could not be read: " + shown(doc.Nonce, err)}
	}
	conflict := func(format string, args ...any) Answer {
		a := AnswerFor(&o)
		a.Outcome, a.Detail = Conflict, fmt.Sprintf(format, args...)
		return a
	}
	switch {
	case o.State != op.StateLaunching && o.State != op.StateTaskRunning:
		return conflict("the op is %s: there is nothing to settle", o.State)
	case o.Attempt != doc.Attempt:
		return conflict("attempt: the resolution is about attempt %d, the op is in attempt %d", doc.Attempt, o.Attempt)
	case o.Tail.Next-1 != doc.Revision:
		return conflict("revision: the resolution was signed at revision %d of the op's stream, it is at %d by now; look again and sign anew", doc.Revision, o.Tail.Next-1)
	}
	why, active := e.mayStillAct(ctx, &o, doc.Effect == op.EffectNone)
	switch {
	case active:
		// Whatever is said about it now, it may not be so when it ends; and
		// the next op on the target must not run beside it.
		return conflict("the host is at work on it: %s. Wait for its end, or stop the task at the host; then look again and sign anew", why)
	case why != "" && doc.Effect == op.EffectNone:
		return conflict("effect: none can't be recorded while something of the attempt may still act: %s. Resolve it as unknown: the nonce stays spent, and a new writ can be signed", why)
	case why != "":
		// The people's word ends it. What may still act is fenced as far as
		// that could be done.
		e.cfg.Log.Warn("an op is settled while something of it may still act", "op_id", o.OpID, "why", why)
	}
	events := verdict(e.resolutionHeader(t, now, o), &o, doc, r)
	return e.appendVerdict(ctx, o, events)
}

// mayStillAct says what of the attempt can still have an effect, after fencing
// it; empty if it is certain that nothing can, for which the host gets the time
// to list a task that is new (patient). Active: the host says that its task is
// at work.
func (e *Engine) mayStillAct(ctx context.Context, o *op.Op, patient bool) (why string, active bool) {
	if o.State == op.StateTaskRunning && o.Running.UPID != "" {
		t, why, active := e.endOf(ctx, o.Running.UPID)
		if why != "" {
			return why, active
		}
		return e.orphanMayAct(ctx, o, t), false
	}
	f := e.raiseFence(ctx, RaiseFence{Announced: o.Launching})
	s := e.findTasks(ctx, FindTasks{Announced: o.Launching})
	pause := e.cfg.Pace.HostRetry
	for try := 1; patient && f.Err == nil && f.Fence.Confirmed && s.Err == nil && len(s.Search.UPIDs) == 0 && try < e.cfg.Pace.FindTries; try++ {
		if err := e.cfg.Clock.Wait(ctx, pause); err != nil {
			return "the host had no time to list a task: " + text(err.Error()), false
		}
		pause = min(2*pause, e.cfg.Pace.HostRetryMax)
		s = e.findTasks(ctx, FindTasks{Announced: o.Launching})
	}
	if s.Err == nil && s.Search.Exact {
		for _, upid := range s.Search.UPIDs {
			if _, why, active := e.endOf(ctx, upid); active {
				return why, true
			}
		}
	}
	switch {
	case f.Err != nil:
		return "the fence could not be raised: " + text(f.Err.Error()), false
	case !f.Fence.Confirmed:
		return sentence(lines(f.Fence.Reasons)), false
	case s.Err != nil:
		return "the host could not be asked for its tasks: " + text(s.Err.Error()), false
	case len(s.Search.UPIDs) > 0:
		return "the host has a task that can be its own: " + list(lines(s.Search.UPIDs)), false
	case !s.Search.Complete:
		// Not even where the target is untouched: the worker of a task that the
		// host has forgotten may have been killed, and a child of it be at work.
		return "the host's history of tasks does not reach far enough to say that none ran: " + sentence(lines(s.Search.Reasons)), false
	}
	return e.fencedStill(ctx, o, f.Fence), false
}

// fencedStill says why a fence that was confirmed does not hold any more; empty
// if it does. What stands on the target goes with the target: a request that the
// host has let in and holds up would act on what takes its place.
func (e *Engine) fencedStill(ctx context.Context, o *op.Op, f Fence) string {
	p := e.probe(ctx, ProbeHost{Announced: asFenced(o.Launching, &f)})
	switch {
	case p.Err != nil:
		return "the target could not be read since it was fenced: " + text(p.Err.Error())
	case p.Finding.Evidence.Effect == op.EffectDone:
		return "the target is gone by other hands since it was fenced: " + sentence(lines(p.Finding.Evidence.Reasons))
	}
	return ""
}

// endOf asks for a task, and says why it is not one that has ended.
func (e *Engine) endOf(ctx context.Context, upid string) (t Task, why string, active bool) {
	t, err := e.cfg.Host.Task(ctx, upid)
	switch {
	case err != nil:
		return t, "the host could not be asked about its task: " + text(err.Error()), false
	case t.Phase == TaskActive:
		return t, "its task is running: " + text(upid), true
	case t.Phase != TaskEnded:
		return t, "its task has not ended for all the host knows", false
	}
	return t, "", false
}

// orphanMayAct says what a task that has ended may have left at work. It goes by
// the end that the host told: asked again, it may have forgotten.
func (e *Engine) orphanMayAct(ctx context.Context, o *op.Op, t Task) string {
	p := e.probe(ctx, ProbeHost{Announced: o.Launching, ExitStatus: text(t.ExitStatus), Log: lines(t.Log)})
	switch {
	case p.Err != nil:
		return "the target could not be read: " + text(p.Err.Error())
	case p.Finding.MayStillAct:
		return sentence(lines(p.Finding.Evidence.Reasons))
	}
	return ""
}

func (e *Engine) resolutionHeader(t *term, now time.Time, o op.Op) op.Header {
	h, who := o.Started.Header, e.identity(t)
	h.Agent, h.Instance, h.Epoch = who.Site.Agent, who.Instance, who.Epoch
	if h.At = now.UTC(); h.At.Before(o.Since) {
		h.At = o.Since
	}
	return h
}

// verdict gives the events that record a resolution.
func verdict(h op.Header, o *op.Op, doc signedop.Resolution, r *op.Resolved) []op.Event {
	if doc.Verdict != signedop.VerdictSucceeded {
		return []op.Event{&op.Failed{
			Header: h, Kind: op.KindResolved, Effect: doc.Effect, Message: "settled by a signed resolution: " + doc.Reason, Resolution: r,
		}}
	}
	succeeded := &op.Succeeded{
		Header: h, ExitStatus: op.ExitResolved, Resolution: r,
		Evidence: op.Evidence{Effect: op.EffectDone, Reasons: []string{"on the word of the people who signed the resolution: " + doc.Reason}},
	}
	if o.State == op.StateLaunching {
		// Success can't follow launching. Both in one append: a crash must not
		// leave an op that claims a task which nobody has seen.
		return []op.Event{&op.TaskRunning{Header: h, Adopted: true}, succeeded}
	}
	return []op.Event{succeeded}
}

func (e *Engine) appendVerdict(ctx context.Context, o op.Op, events []op.Event) Answer {
	after := o
	var recs []op.Record
	for _, ev := range events {
		rec, next, err := after.Propose(ev)
		if err != nil {
			return Answer{Outcome: Corrupt, Nonce: o.Nonce, OpID: o.OpID, State: o.State, Detail: shown(o.Nonce, err)}
		}
		recs, after = append(recs, rec), next
	}
	switch done := AppendRecord(ctx, e.cfg.Store, o.Nonce.Stream(), recs...); done.Outcome {
	case AppendOK:
		return AnswerFor(&after)
	case AppendLost:
		a := AnswerFor(&o)
		a.Outcome, a.Detail = Conflict, "the op was moved on meanwhile; look again and sign anew"
		return a
	case AppendRefused, AppendUnknown:
		return Answer{
			Outcome: Unavailable, Nonce: o.Nonce, OpID: o.OpID, State: o.State,
			Detail: "it is not certain that the resolution is on record: " + shown(o.Nonce, done.Err) + "; hand it in again",
		}
	}
	panic("engine: internal error: an append without outcome")
}
