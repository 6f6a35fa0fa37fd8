package engine

import (
	"fmt"
	"strings"
	"time"

	"writ/domain/op"
)

// follow asks for the task until it ends, for as long as that takes. An op
// that was synchronous has no task: its effect is looked for at once.
func (j *Job) follow() Command {
	if j.op.Running.UPID == "" {
		return j.probe()
	}
	return j.to(phaseFollow, j.ask())
}

func (j *Job) ask() Command {
	return AskTask{Class: j.op.Started.Class, UPID: j.op.Running.UPID}
}

// How often in a row the host may leave a question about an op in flight
// unanswered before the job lets go of the op. Recovery takes it up again and
// again, but meanwhile a person can settle it: a node may be gone for good.
const (
	askTries        = 16 // of a job that has launched
	recoverAskTries = 8
)

// askAgain repeats a question that the host did not answer, for a while.
func (j *Job) askAgain(what string, err error, again Command) Command {
	j.unheard++
	j.mute = fmt.Sprintf("%s, asked %d times: %s", what, j.unheard, text(err.Error()))
	most := askTries
	if j.recovering {
		most = recoverAskTries
	}
	if j.resumable && j.unheard >= most {
		return j.indeterminate(j.mute)
	}
	return j.pause(j.pace.HostRetry, j.pace.HostRetryMax, again)
}

// mayStillAct tells whether the attempt's request, or a task that it started,
// may still have an effect, for all this job knows.
func (j *Job) mayStillAct() bool {
	switch j.op.State { //nolint:exhaustive // in the others nothing of the attempt is at the host
	case op.StateLaunching:
		return true
	case op.StateTaskRunning:
		return j.op.Running.UPID != "" && !j.ended || j.orphan
	}
	return false
}

func (j *Job) onTask(now time.Time, in TaskAsked) Command {
	if in.Err != nil {
		// A question that failed is not an answer.
		return j.askAgain("the host could not be asked about the task", in.Err, j.ask())
	}
	switch in.Task.Phase {
	case TaskActive:
		return j.pause(j.pace.Poll, j.pace.PollMax, j.ask())
	case TaskForgotten:
		// The host keeps its history for a while only. That it knows nothing
		// says nothing; its state may.
		j.forgotten = true
		return j.probe()
	case TaskEnded:
	default:
		// A state that is none: the task may be running.
		return j.askAgain("the host could not be asked about the task", fmt.Errorf("phase %d is none", in.Task.Phase), j.ask())
	}
	j.ended = true
	j.exitStatus, j.log = text(in.Task.ExitStatus), lines(in.Task.Log)
	// Until the target is read: a job that has to let go before keeps it from others.
	j.orphan = !saidOK(j.exitStatus)
	if !saidOK(j.exitStatus) && in.PrecedesEffect {
		return j.fail(now, op.KindTaskFailed, op.EffectNone, "the task failed before it changed anything: "+j.exitStatus,
			&op.Evidence{Effect: op.EffectNone, Reasons: []string{fmt.Sprintf("the host raises %q before any effect", j.exitStatus)}})
	}
	return j.probe()
}

// saidOK tells whether a task's exit status claims success. Warnings of a
// destroy mean that the guest is gone and a disk may be left.
func saidOK(exitStatus string) bool {
	return exitStatus == "OK" || strings.HasPrefix(exitStatus, "WARNINGS: ")
}

func (j *Job) probe() Command {
	return j.to(phaseProbe, ProbeHost{Announced: j.op.Launching, ExitStatus: j.exitStatus, Log: j.log})
}

// onProbe ends the op by what the host's state proves. The task's own word is
// never enough for success, and its error never enough for failure.
func (j *Job) onProbe(now time.Time, in Probed) Command {
	if in.Err != nil {
		return j.askAgain(j.taskSaid()+", and the target could not be read", in.Err,
			ProbeHost{Announced: j.op.Launching, ExitStatus: j.exitStatus, Log: j.log})
	}
	ev := evidence(in.Finding.Evidence)
	j.orphan = in.Finding.MayStillAct
	said := j.taskSaid()
	switch ev.Effect {
	case op.EffectDone:
		if j.orphan {
			// The guest is gone, and what has the same names now is another's: an
			// end would free the target for an op on that one.
			break
		}
		return j.put(phaseEnd, &op.Succeeded{
			Header: j.header(now), ExitStatus: j.exitStatus, Evidence: ev, Residue: lines(in.Finding.Residue),
		})
	case op.EffectPartial:
		if j.orphan || j.forgotten {
			// An end would free the target for the next op, beside what is at work;
			// and a task that is merely forgotten might not be over.
			break
		}
		return j.fail(now, op.KindTaskFailed, op.EffectPartial, said+", and the target is half done: "+sentence(ev.Reasons), &ev)
	case op.EffectNone:
		// The task is over, so nothing of ours can act any more, and the
		// target is untouched. Unless the task claims success, or is merely
		// forgotten and so might not be over: then the two disagree.
		if !saidOK(j.exitStatus) && !j.forgotten && !j.orphan && j.op.Running.UPID != "" {
			return j.fail(now, op.KindTaskFailed, op.EffectNone, said+", and the target is untouched", &ev)
		}
	case op.EffectUnknown:
	}
	return j.indeterminate(said + ", and the host's state does not decide: " + sentence(ev.Reasons))
}

func (j *Job) taskSaid() string {
	switch {
	case j.op.Running.UPID == "":
		return "the host answered at once"
	case j.forgotten:
		return "the host no longer knows the task"
	default:
		return fmt.Sprintf("the task ended with %q", j.exitStatus)
	}
}
