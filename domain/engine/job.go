package engine

import (
	"errors"
	"fmt"
	"time"

	"writ/domain/gate"
	"writ/domain/op"
	"writ/domain/signedop"
)

// Pace are the times by which a job goes.
type Pace struct {
	// AppendRetry is the first pause before an append of unknown outcome is
	// repeated; it doubles up to AppendRetryMax.
	AppendRetry, AppendRetryMax time.Duration
	// HostRetry is the first pause after the host could not be asked; it
	// doubles up to HostRetryMax.
	HostRetry, HostRetryMax time.Duration
	// FindTries is how often recovery looks for a task before it raises the
	// fence, and again behind it: a task can run for some seconds before it is
	// listed. So it is with people's word that there was no effect.
	FindTries int
	// LookTries is how often a look right before launch is tried before the
	// attempt is given up, effect none.
	LookTries int
	// Poll is the first pause between two questions about a running task; it
	// doubles up to PollMax.
	Poll, PollMax time.Duration
	// StaleLook is how old the last look at the host may be at launch.
	StaleLook time.Duration
}

// DefaultPace suits a Proxmox VE cluster on a local network.
func DefaultPace() Pace {
	return Pace{
		AppendRetry: 20 * time.Millisecond, AppendRetryMax: 5 * time.Second,
		HostRetry: 250 * time.Millisecond, HostRetryMax: 30 * time.Second,
		FindTries: 6, LookTries: 4,
		Poll: 100 * time.Millisecond, PollMax: 2 * time.Second,
		StaleLook: 10 * time.Second,
	}
}

// Identity is who writes a job's events.
type Identity struct {
	Site     gate.Site
	Instance string
	Epoch    uint64 // set by the engine, for each term anew
}

// phase is what a job waits for the result of.
type phase uint8

const (
	phaseDedupe phase = iota + 1
	phaseGatePolicy
	phaseGateFacts
	phaseRefusal
	phaseReserve
	phaseClaim
	phaseTurn
	phaseLookPolicy
	phaseLookFacts
	phaseLookTarget
	phaseAnnounce
	phaseReread
	phaseLaunch
	phaseRunning
	phaseFollow
	phaseProbe
	phaseEnd
	phaseFind
	phaseTake
	phaseFence
	phaseProbeFenced
	phaseContest
	phaseFresh
	phaseOver
)

// A Job takes one submission from delivery to its end. It is a step function:
// Begin and Step give the command to carry out next; the same results at the
// same times always give the same commands. It must not be used concurrently.
type Job struct {
	who  Identity
	pace Pace
	draw func() op.Claim // 128 fresh random bits for each claim

	sub        Submission
	unverified *signedop.Unverified
	op         op.Op
	claimed    bool
	recovering bool
	resumable  bool // recovery takes the op up again if the job lets go of it

	policy    *gate.Policy
	authentic *gate.Authenticated
	decision  gate.Decision
	facts     op.Facts

	lookFrom   time.Time // when the last look at the target began
	exitStatus string
	log        []string
	forgotten  bool
	found      string // UPID of a task: answered to the launch, or found by recovery
	fence      *Fence // once it is confirmed
	unfenced   string // why it could not be, if it was tried before all else

	phase   phase
	pending *op.Record    // being appended
	after   op.Op         // the op once it is
	resume  Command       // what to do after a pause
	waiting bool          // a pause is under way
	unheard int           // questions in a row that the host did not answer
	ended   bool          // the task was seen to have ended
	orphan  bool          // something that it began may not have
	mute    string        // what the host does not answer, and why
	contest *op.Contested // a task that the record has no place for
	tries   int           // of the present question
	looks   int           // right before launch, that came to nothing
	answer  Answer        // to give after a refusal is recorded
}

// NewJob prepares a job. draw gives 128 fresh random bits each time. The
// submission is copied: the caller may use what it points to again.
func NewJob(who Identity, pace Pace, draw func() op.Claim, sub Submission) *Job {
	return &Job{who: who, pace: pace, draw: draw, sub: sub.clone()}
}

// Claimed tells whether this job's OpStarted is on record: from then on the
// submission may be answered as accepted.
func (j *Job) Claimed() bool { return j.claimed }

// Committed tells whether a claim of this job is on record or may be: from
// then on the job must be carried on whatever becomes of the caller.
func (j *Job) Committed() bool { return j.claimed || j.phase == phaseClaim }

// Op gives the op as the job knows it.
func (j *Job) Op() op.Op { return j.op }

// Begin gives the first command.
func (j *Job) Begin(now time.Time) Command {
	if j.recovering {
		return j.recoverBegin(now)
	}
	if len(j.sub.Envelope) > 0 {
		// The nonce is taken from an unverified document: it is a look-up key
		// here and nothing else. What does not parse is the gate's to refuse.
		if u, err := signedop.Parse(j.sub.Envelope); err == nil {
			j.unverified = u
			return j.readOp()
		}
	}
	return j.to(phaseGatePolicy, ReadPolicy{})
}

// Step takes the result of the last command and gives the next one.
func (j *Job) Step(now time.Time, in Result) Command {
	if j.waiting {
		if p, ok := in.(Paused); ok {
			j.waiting = false
			if p.LetGo != "" && j.mayYield() {
				return j.indeterminate(p.LetGo)
			}
			if j.phase == phaseLookTarget {
				j.lookFrom = now
			}
			return j.resume
		}
	}
	if j.answered(in) {
		j.unheard, j.mute = 0, ""
	}
	switch in := in.(type) {
	case OpRead:
		return j.onRead(now, in)
	case PolicyRead:
		return j.onPolicy(now, in)
	case FactsRead:
		return j.onFacts(now, in)
	case RefusalRecorded:
		if in.Err != nil && j.contest != nil {
			// Nobody may miss it: a log can be lost.
			return j.pause(j.pace.AppendRetry, j.pace.AppendRetryMax, RecordContested{Contested: *j.contest})
		}
		return j.finish(j.answer)
	case Reserved:
		return j.onReserved(now, in)
	case AppendDone:
		return j.onAppend(now, in)
	case TurnCame:
		return j.onTurn(now, in)
	case HostObserved:
		return j.onObserved(now, in)
	case LaunchDone:
		return j.onLaunch(now, in)
	case TaskAsked:
		return j.onTask(now, in)
	case Probed:
		if j.phase == phaseProbeFenced {
			return j.onProbeFenced(now, in)
		}
		return j.onProbe(now, in)
	case TasksFound:
		return j.onTasksFound(now, in)
	case TaskTaken:
		return j.onTaskTaken(now, in)
	case Fenced:
		return j.onFenced(in)
	}
	panic(fmt.Sprintf("engine: internal error: %T in phase %d", in, j.phase))
}

// answered tells whether a result is an answer of the host about an op in
// flight.
func (j *Job) answered(in Result) bool {
	switch in := in.(type) {
	case TaskAsked:
		return in.Err == nil && in.Task.Phase >= TaskActive && in.Task.Phase <= TaskForgotten
	case Probed:
		return in.Err == nil
	case TasksFound:
		// Asked again on the way to a probe, it is not what went unanswered.
		return in.Err == nil && j.phase != phaseProbeFenced
	case Fenced:
		return in.Err == nil
	}
	return false
}

func (j *Job) onRead(now time.Time, in OpRead) Command {
	switch j.phase { //nolint:exhaustive // only these phases read the op
	case phaseReread:
		return j.onReread(now, in)
	case phaseContest:
		return j.onContestRead(now, in)
	case phaseFresh:
		return j.onFresh(in)
	default:
		return j.onOpRead(now, in)
	}
}

func (j *Job) to(p phase, c Command) Command {
	if p != j.phase {
		j.tries = 0
	}
	j.phase = p
	return c
}

// mayYield tells whether the op may be let go of between two questions, for a
// person to settle it or for the service to end: only in recovery, where whatever comes next finds out
// from the record how far this job had come, and never while there is
// something to be said that nobody else knows.
func (j *Job) mayYield() bool { return j.recovering && j.contest == nil && j.phase != phaseContest }

// pause lets time pass before a command is given again.
func (j *Job) pause(first, most time.Duration, again Command) Command {
	d := first
	for range min(j.tries, 16) {
		d = min(2*d, most)
	}
	j.tries++
	j.resume, j.waiting = again, true
	return Pause{For: d}
}

// again says how an attempt that ended without an effect is made good.
func (j *Job) again() string {
	if j.op.Started != nil && j.op.Started.Keyless {
		return "Order it anew if it is still wanted"
	}
	return "Deliver the writ again"
}

func (j *Job) finish(a Answer) Command {
	j.phase = phaseOver
	return Finish{Answer: a}
}

// header is what every event of the op says. Its time is never earlier than
// that of the event before, whatever the clock does.
func (j *Job) header(now time.Time) op.Header {
	if now.Before(j.op.Since) {
		now = j.op.Since
	}
	return op.Header{
		OpID: j.op.OpID, Nonce: j.op.Nonce, Attempt: j.op.Attempt,
		Class: j.sub.Intent.Class, Target: j.sub.Intent.Target,
		Agent: j.who.Site.Agent, Instance: j.who.Instance, Epoch: j.who.Epoch,
		At: now.UTC(),
	}
}

// put gives the command that appends an event, after the state machine agreed.
func (j *Job) put(p phase, e op.Event) Command {
	rec, after, err := j.op.Propose(e)
	if err != nil && p == phaseAnnounce {
		// What was seen has no form in which it could be on record.
		return j.failUnannounced(op.HeaderOf(e).At, err)
	}
	if err != nil {
		if j.claimed {
			// What the host said has no form in which it could be on record, or
			// the steps of this package and the table in op disagree. The op is
			// in flight, and its request may be at work.
			return j.indeterminate("what happened can't be put on record: " + err.Error())
		}
		// Nothing was appended; the op stays as it is on record.
		return j.finish(Answer{Outcome: Corrupt, Detail: err.Error(), Nonce: j.op.Nonce, OpID: j.op.OpID, State: j.op.State})
	}
	j.pending, j.after = &rec, after
	return j.to(p, Append{Nonce: j.op.Nonce, Record: rec})
}

func (j *Job) onAppend(now time.Time, in AppendDone) Command {
	switch in.Outcome {
	case AppendOK:
		j.op, j.pending = j.after, nil
		return j.onRecord(now)
	case AppendUnknown:
		// The record may be there or may still get there. Only the very same
		// append, same bytes and id at the same place, can tell; anything
		// else written now could end up beside it.
		return j.pause(j.pace.AppendRetry, j.pace.AppendRetryMax, Append{Nonce: j.op.Nonce, Record: *j.pending})
	case AppendLost, AppendRefused:
	}
	if j.phase == phaseClaim && in.Outcome == AppendLost {
		// Somebody else moved the op on. Nothing of ours is on record.
		if j.unverified == nil {
			j.claimed = false
			return j.unavailable("no claim is taken: %v", errors.New("the stream drawn for this op is in use"))
		}
		return j.readOp()
	}
	if j.phase == phaseAnnounce && in.Outcome == AppendRefused {
		return j.failUnannounced(now, in.Err)
	}
	if j.phase == phaseRunning && in.Outcome == AppendLost && j.found != "" {
		return j.rereadContested()
	}
	return j.onAppendLost(in)
}

// onRecord goes on after the event of the present phase became durable.
func (j *Job) onRecord(now time.Time) Command {
	switch j.phase { //nolint:exhaustive // only these phases append
	case phaseClaim:
		// From here on the op is in flight, whatever happens.
		j.claimed = true
		return j.to(phaseTurn, AwaitTurn{Key: j.sub.Intent.Target.Key(), Epoch: j.who.Epoch})
	case phaseAnnounce:
		if j.tries > 0 {
			return j.to(phaseReread, ReadOp{Nonce: j.op.Nonce})
		}
		return j.launch(now)
	case phaseRunning:
		return j.follow()
	case phaseEnd:
		return j.finish(AnswerFor(&j.op))
	default:
		panic(fmt.Sprintf("engine: internal error: append answered in phase %d", j.phase))
	}
}

// onAppendLost ends the job: another writer has moved on an op that this job
// held, so it is no longer ours to act on. If it was lost at the announcement,
// nothing was sent and nothing will be.
func (j *Job) onAppendLost(in AppendDone) Command {
	a := AnswerFor(&j.op)
	a.Outcome = Unavailable
	if j.claimed {
		a.Outcome = Indeterminate
	}
	a.Detail = fmt.Sprintf("%s could not be put on record: %s", j.pending.Type, shown(j.op.Nonce, in.Err))
	return j.finish(a)
}

// failUnannounced ends an attempt whose announcement can never be on record,
// for its form or size. Without it nothing is sent.
func (j *Job) failUnannounced(now time.Time, err error) Command {
	return j.fail(now, op.KindPrecondition, op.EffectNone,
		"what was seen of the target can't be put on record, so nothing was sent: "+shown(j.op.Nonce, err), nil)
}
