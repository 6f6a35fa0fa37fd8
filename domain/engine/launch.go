package engine

import (
	"errors"
	"fmt"
	"time"

	"writ/domain/gate"
	"writ/domain/op"
)

// onTurn begins the second look. Everything that was decided at the gate may
// have changed while the op waited: the policy, the time, the target.
func (j *Job) onTurn(now time.Time, in TurnCame) Command {
	if j.recovering {
		return j.recoverOnTurn(in)
	}
	if in.Blocked != "" {
		return j.fail(now, op.KindPrecondition, op.EffectNone, "target: "+in.Blocked+"; nothing was sent", nil)
	}
	if in.Stopping {
		return j.interrupted(now)
	}
	return j.to(phaseLookPolicy, ReadPolicy{})
}

// interrupted ends an attempt that the end of the service came before.
func (j *Job) interrupted(now time.Time) Command {
	return j.fail(now, op.KindInterrupted, op.EffectNone, "the service is stopping; nothing was sent. "+j.again(), nil)
}

// onLookPolicy takes the newest policy. Permit, once the facts are read, takes
// every check again with it.
func (j *Job) onLookPolicy(now time.Time, in PolicyRead) Command {
	if in.Err != nil {
		return j.lookAgain(now, op.KindRefused, "no policy can be applied", in.Err)
	}
	j.policy = in.Policy
	return j.to(phaseLookFacts, ReadFacts{Target: j.sub.Intent.Target})
}

func (j *Job) onLookFacts(now time.Time, in FactsRead) Command {
	if in.Err != nil {
		return j.lookAgain(now, op.KindPrecondition, "the host could not be asked about the target", in.Err)
	}
	if d := gate.Permit(now, j.policy, j.who.Site, j.authentic, in.Facts); !d.Allowed() {
		return j.refuseLate(now, d)
	}
	j.facts = in.Facts
	j.lookFrom = now
	return j.to(phaseLookTarget, Observe{Attempt: j.attempt()})
}

// refuseLate ends an attempt that the gate no longer allows.
func (j *Job) refuseLate(now time.Time, d gate.Decision) Command {
	return j.put(phaseEnd, &op.Failed{
		Header: j.header(now), Kind: op.KindRefused, Reason: string(d.Reason), Effect: op.EffectNone, Message: text(d.Detail),
	})
}

// lookAgain repeats the whole look right before launch a few times, from the
// policy on: it may have changed while the host did not answer. Nothing has
// been sent, so giving up is safe: effect none, and the caller may deliver the
// writ again.
func (j *Job) lookAgain(now time.Time, kind op.FailureKind, what string, err error) Command {
	if j.looks++; j.looks >= j.pace.LookTries {
		return j.fail(now, kind, op.EffectNone, fmt.Sprintf("%s, tried %d times: %v; nothing was sent", what, j.looks, err), nil)
	}
	j.phase, j.tries = phaseLookPolicy, j.looks-1
	return j.pause(j.pace.HostRetry, j.pace.HostRetryMax, ReadPolicy{})
}

func (j *Job) onObserved(now time.Time, in HostObserved) Command {
	intent := j.sub.Intent
	switch {
	case in.NoExecutor && in.Err != nil:
		return j.fail(now, op.KindNoExecutor, op.EffectNone, in.Err.Error()+"; nothing was sent", nil)
	case in.NoExecutor:
		return j.fail(now, op.KindNoExecutor, op.EffectNone,
			fmt.Sprintf("this service has no executor for class %s; nothing was sent", intent.Class), nil)
	case in.Err != nil:
		return j.lookAgain(now, op.KindPrecondition, "the target could not be looked at", in.Err)
	}
	if why := Unmet(j.sub.Intent, j.document().Expect, in.Seen); len(why) > 0 {
		return j.fail(now, op.KindPrecondition, op.EffectNone, sentence(why), &op.Evidence{Effect: op.EffectNone, Reasons: why})
	}
	return j.put(phaseAnnounce, &op.Launching{
		Header: j.header(now),
		Node:   in.Seen.Node, Credential: in.Credential, Request: in.Request, Observed: in.Seen,
		PolicySerial: j.policy.Serial(), Facts: j.facts,
	})
}

// onReread goes on after an announcement that took several tries. It may have
// been on record since the first: a store answers a repeated append as it did
// the first one, even if others have gone on from there. Whoever did may have
// concluded that nothing was ever sent, and then nothing may be.
func (j *Job) onReread(now time.Time, in OpRead) Command {
	var corrupt *op.CorruptStreamError
	switch {
	case errors.As(in.Err, &corrupt):
		return j.indeterminate("the announcement is on record, but its stream can't be read; nothing was sent: " + corrupt.Error())
	case in.Err != nil:
		return j.pause(j.pace.AppendRetry, j.pace.AppendRetryMax, ReadOp{Nonce: j.op.Nonce})
	case in.Op.Tail != j.op.Tail:
		return j.indeterminate("another writer has moved the op on since it was announced; nothing was sent by this one")
	}
	return j.launch(now)
}

// launch sends the request that is now durably announced. If the process dies
// on this line, the record says launching and recovery asks the host what
// became of it; it never sends again.
func (j *Job) launch(now time.Time) Command {
	// Making the announcement durable may have taken long, and what was true
	// when the target was looked at may be so no more. This job is the only
	// one that can send this request, and it has not: effect none is certain.
	if age := j.lookAge(now); age > j.pace.StaleLook || age < 0 {
		return j.fail(now, op.KindPrecondition, op.EffectNone, fmt.Sprintf(
			"the last look at the target was %s old when the announcement was on record, %s are allowed; nothing was sent. %s",
			age.Round(time.Millisecond), j.pace.StaleLook, j.again()), nil)
	}
	if exp := j.document().ExpiresAt; !j.op.Started.Keyless && !now.Before(exp) {
		return j.refuseLate(now, gate.Refuse(gate.Expired,
			fmt.Sprintf("expires_at: %s passed before launch; nothing was sent", exp.Format(time.RFC3339))))
	}
	return j.to(phaseLaunch, Launch{Attempt: j.attempt(), Announced: j.op.Launching, Epoch: j.who.Epoch})
}

// lookAge is how long ago the last look at the target began, as its identity
// is what a look reads first. A machine that slept meanwhile knows that by its
// wall clock alone, one whose wall clock was set back by the other: the less
// welcome of the two counts.
func (j *Job) lookAge(now time.Time) time.Duration {
	age, byWall := now.Sub(j.lookFrom), now.Round(0).Sub(j.lookFrom.Round(0))
	if byWall < 0 {
		return byWall
	}
	return max(age, byWall)
}

func (j *Job) onLaunch(now time.Time, in LaunchDone) Command {
	switch {
	case in.Withheld != "":
		return j.fail(now, op.KindInterrupted, op.EffectNone, in.Withheld+"; nothing was sent. "+j.again(), nil)
	case in.Err == nil:
		// The host has taken it. If this append is never made, recovery finds
		// the task by what was announced.
		j.found = in.UPID
		return j.put(phaseRunning, &op.TaskRunning{Header: j.header(now), UPID: in.UPID})
	case IsDefinite(in.Err):
		return j.fail(now, op.KindRejected, op.EffectNone, "the host refused and started nothing: "+in.Err.Error(), nil)
	default:
		// No proof either way. Nothing is written: the op stays in flight as
		// launching, and only the host's own account can settle it.
		return j.indeterminate("the request was sent and its outcome is unknown: " + in.Err.Error())
	}
}

// indeterminate ends the job and leaves the op in flight, for recovery.
func (j *Job) indeterminate(detail string) Command {
	a := AnswerFor(&j.op)
	a.Outcome = Indeterminate
	a.Detail = detail + ". It is not sent again; it waits for recovery"
	return j.finish(a)
}

// fail ends the attempt on record.
func (j *Job) fail(now time.Time, kind op.FailureKind, effect op.Effect, message string, seen *op.Evidence) Command {
	f := &op.Failed{Header: j.header(now), Kind: kind, Effect: effect, Message: text(message), LogTail: j.log}
	if seen != nil {
		fit := evidence(*seen)
		f.Evidence = &fit
	}
	return j.put(phaseEnd, f)
}
