package engine

import (
	"errors"
	"fmt"
	"time"

	"writ/domain/op"
)

// NewRecovery prepares the job that settles an op which is in flight and which
// no live job holds. It joins the ordinary path at the step that the record
// shows, goes through the same functions from there, and launches nothing: a
// restart by itself changes nothing on the host but what a fence does.
func NewRecovery(who Identity, pace Pace, o op.Op) *Job {
	return &Job{who: who, pace: pace, sub: Submission{Intent: o.Started.Intent}, op: o, claimed: true, recovering: true, resumable: true}
}

// recoverBegin gives the first command of a recovery.
func (j *Job) recoverBegin(now time.Time) Command {
	if j.op.State == op.StateStarted {
		// Nothing was ever sent: what is sent is announced on record before.
		return j.fail(now, op.KindInterrupted, op.EffectNone,
			"the service ended before anything was sent. "+j.again(), nil)
	}
	// Ops on one target run one after another, and one in flight is still
	// running for all that is known.
	return j.to(phaseTurn, AwaitTurn{Key: j.sub.Intent.Target.Key(), Recovering: true})
}

func (j *Job) recoverOnTurn(in TurnCame) Command {
	switch {
	case in.Stopping:
		return j.indeterminate("the service is stopping, or a person is settling it")
	case j.op.State == op.StateTaskRunning:
		return j.follow()
	default:
		return j.find()
	}
}

// find looks for the task that the announced request has started.
func (j *Job) find() Command { return j.to(phaseFind, FindTasks{Announced: j.op.Launching}) }

func (j *Job) onTasksFound(now time.Time, in TasksFound) Command {
	s := in.Search
	switch {
	case in.Err != nil:
		return j.askAgain("the host's tasks could not be looked through", in.Err, FindTasks{Announced: j.op.Launching})
	case len(s.UPIDs) == 1:
		j.found = s.UPIDs[0]
		if s.Exact {
			return j.adopt(now)
		}
		// With a shared credential two ops can have started tasks that look
		// alike. Whoever first puts this UPID on record has it.
		return j.to(phaseTake, TakeTask{UPID: j.found, OpID: j.op.OpID, Target: j.op.Started.Target})
	case len(s.UPIDs) > 1:
		return j.indeterminate(fmt.Sprintf("%d tasks of the host can be this attempt's: %s", len(s.UPIDs), list(lines(s.UPIDs))))
	case j.fence != nil && (j.phase != phaseFind || j.tries+1 >= j.pace.FindTries):
		// As much time again as before the fence: a task that began right
		// before it, and was killed since, may still have to be listed.
		return j.afterFence(s)
	case j.fence == nil && j.unfenced == "" && j.inherited():
		// Whoever announced it may only be paused, and go on at any time: the
		// fence comes before everything that takes time.
		return j.to(phaseFence, RaiseFence{Announced: j.op.Launching})
	case j.tries+1 < j.pace.FindTries:
		// A task can run for some seconds before it is listed.
		return j.pause(j.pace.HostRetry, j.pace.HostRetryMax, FindTasks{Announced: j.op.Launching})
	case j.unfenced != "":
		return j.indeterminate(j.unfenced)
	default:
		return j.to(phaseFence, RaiseFence{Announced: j.op.Launching})
	}
}

// inherited tells whether the request was announced under an earlier epoch, so
// that its sender may be another instance, which is alive for all that is known.
func (j *Job) inherited() bool { return j.op.Launching.Epoch != j.who.Epoch }

func (j *Job) onTaskTaken(now time.Time, in TaskTaken) Command {
	switch {
	case in.Err != nil:
		return j.pause(j.pace.AppendRetry, j.pace.AppendRetryMax, TakeTask{UPID: j.found, OpID: j.op.OpID, Target: j.op.Started.Target})
	case !in.Ours:
		return j.indeterminate(fmt.Sprintf("the task %s that was found belongs to another op, or can be that of one on the same target which people settled", j.found))
	}
	return j.adopt(now)
}

// adopt puts a task that was found on record as this attempt's own.
func (j *Job) adopt(now time.Time) Command {
	return j.put(phaseRunning, &op.TaskRunning{Header: j.header(now), UPID: j.found, Adopted: true})
}

// onFenced goes on after a fence was tried. Only once no late request of ours
// can act any more does 'no task' mean that there never will be one.
func (j *Job) onFenced(in Fenced) Command {
	switch {
	case in.Err != nil:
		return j.askAgain("no task was found, and the fence could not be raised", in.Err, RaiseFence{Announced: j.op.Launching})
	case !in.Fence.Confirmed:
		why := "no task was found, and a late request can't be ruled out: " + sentence(lines(in.Fence.Reasons))
		if !j.inherited() {
			return j.indeterminate(why)
		}
		// The fence was tried before the host was given its time to list the
		// task: that time is still due.
		j.unfenced = why
		return j.find()
	}
	j.fence = &in.Fence
	return j.find()
}

// afterFence concludes from a search that found nothing behind a fence.
func (j *Job) afterFence(s TaskSearch) Command {
	if !s.Complete {
		return j.indeterminate("fenced, but the host's history does not reach far enough to say that no task ran: " + sentence(lines(s.Reasons)))
	}
	return j.to(phaseProbeFenced, ProbeHost{Announced: asFenced(j.op.Launching, j.fence)})
}

// asFenced gives an announcement as it is to be found untouched: the fence
// itself may have changed the target's config.
func asFenced(announced *op.Launching, f *Fence) *op.Launching {
	seen := *announced
	if f.Digest != "" {
		seen.Observed.Digest = f.Digest
		seen.Observed.Protection = true
	}
	return &seen
}

// onProbeFenced ends an op whose request never became a task and never will.
func (j *Job) onProbeFenced(now time.Time, in Probed) Command {
	if in.Err != nil {
		return j.askAgain("fenced and no task found, and the target could not be read", in.Err, FindTasks{Announced: j.op.Launching})
	}
	ev := evidence(in.Finding.Evidence)
	switch ev.Effect {
	case op.EffectNone:
		return j.fail(now, op.KindNotExecuted, op.EffectNone,
			"the request never took effect and can't any more: fenced, no task, target untouched", &ev)
	case op.EffectDone:
		// It went by other hands after the fence was up, and the part of the
		// fence that stood on it went with it: a request that the host has let
		// in and holds up would act on what takes the target's place.
		return j.indeterminate("the target is gone by other hands since it was fenced, and with it what held back a request that the host may have let in before: " + sentence(lines(ev.Reasons)))
	case op.EffectPartial, op.EffectUnknown:
	}
	return j.indeterminate("fenced and no task found, but the target is not as it was: " + sentence(ev.Reasons))
}

// rereadContested looks again at an op whose record moved on while its request was on
// the way: a task that turns up for an op that has ended must never happen.
func (j *Job) rereadContested() Command {
	return j.to(phaseContest, ReadOp{Nonce: j.op.Nonce})
}

func (j *Job) onContestRead(now time.Time, in OpRead) Command {
	upid := j.found
	var corrupt *op.CorruptStreamError
	switch {
	case errors.As(in.Err, &corrupt):
		return j.indeterminate(fmt.Sprintf("the host started %s, which can't be put on record: %s", text(upid), corrupt.Error()))
	case in.Err != nil:
		return j.pause(j.pace.AppendRetry, j.pace.AppendRetryMax, ReadOp{Nonce: j.op.Nonce})
	}
	lost := j.op
	j.op = in.Op
	if j.op.OpID == lost.OpID && (j.op.State.InFlight() && j.op.Running == nil || j.op.Running != nil && j.op.Running.UPID == upid) {
		// Somebody else follows this attempt, and knows or will find the task.
		return j.indeterminate("another writer has the op by now")
	}
	j.answer = AnswerFor(&j.op)
	j.answer.Outcome = Indeterminate
	j.answer.Detail = fmt.Sprintf("the host started %s for attempt %d, but the record says otherwise by now (%s). It is on record as contested; a person must look",
		upid, lost.Attempt, j.op.State)
	j.contest = &op.Contested{
		Agent: j.who.Site.Agent, Instance: j.who.Instance, At: now.UTC(),
		NonceShort: lost.Nonce.Short(), OpID: lost.OpID, Attempt: lost.Attempt, UPID: text(upid), State: j.op.State.String(),
	}
	return j.to(phaseRefusal, RecordContested{Contested: *j.contest})
}
