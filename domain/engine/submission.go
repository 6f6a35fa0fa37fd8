package engine

import (
	"bytes"
	"time"

	"writ/domain/gate"
	"writ/domain/op"
)

// A Submission is what a caller delivers: an intent, and the writ that is to
// authorize it. Nothing in it is trusted.
type Submission struct {
	Intent   op.Intent
	Envelope []byte // the writ's bytes exactly as received
	// SubmittedBy names the caller as the way in has established it. It
	// authorizes nothing that takes anything away: only rules for benign
	// classes look at it.
	SubmittedBy string
}

// clone shares nothing that could be changed through it.
func (s Submission) clone() Submission {
	s.Envelope = bytes.Clone(s.Envelope)
	s.Intent = s.Intent.Clone()
	return s
}

// anew says how a caller goes on from an answer that decides nothing. A signed
// one takes effect once however often it is delivered; of one that nobody signed
// each delivery is an op of its own.
func (s Submission) anew() string {
	if s.Envelope == nil {
		return "see whether the op is among those on record before it is ordered anew"
	}
	return "deliver the same writ again"
}

// Outcome says what became of a submission, or how an op stands.
type Outcome uint8

// The outcomes. Only of the first four the op has taken effect or still may.
const (
	// Succeeded: the effect is proven and on record.
	Succeeded Outcome = iota + 1
	// AlreadyApplied: it had succeeded before; nothing was done now.
	AlreadyApplied
	// InFlight: claimed, on record, not ended. It goes on by itself.
	InFlight
	// Indeterminate: in flight, and what is known does not decide it. It
	// waits for recovery; sending it again changes nothing.
	Indeterminate

	// RefusedByGate: nothing was done; Reason says why. Recorded.
	RefusedByGate
	// Failed: the attempt ended; Failure says how, with which effect.
	Failed
	// Voided: the writ was taken back before it ran.
	Voided
	// QueueFull: nothing was done; try again later.
	QueueFull
	// Unavailable: ledger or host could not be asked. The claim is possibly
	// written: sending the same writ again is safe and tells.
	Unavailable
	// Corrupt: the op's stream can't be what this program wrote. The op is
	// not run; a person must look.
	Corrupt
	// Unknown: no op with this nonce is on record.
	Unknown
	// Conflict: what was asked does not fit how the op stands; nothing was done.
	Conflict
)

// String is the outcome's name in interfaces.
func (o Outcome) String() string {
	switch o {
	case Succeeded:
		return "succeeded"
	case AlreadyApplied:
		return "already-applied"
	case InFlight:
		return "in-flight"
	case Indeterminate:
		return "indeterminate"
	case RefusedByGate:
		return "refused"
	case Failed:
		return "failed"
	case Voided:
		return "voided"
	case QueueFull:
		return "queue-full"
	case Unavailable:
		return "unavailable"
	case Corrupt:
		return "corrupt"
	case Unknown:
		return "unknown"
	case Conflict:
		return "conflict"
	}
	return "invalid outcome"
}

// An Answer is what a caller is told.
type Answer struct {
	Outcome Outcome
	Reason  gate.Reason // of RefusedByGate
	Detail  string      // for people: what happened and what to do

	OpID    string // empty if there is no attempt
	Nonce   op.Nonce
	Attempt int
	State   op.State // as on record; zero if the op was not read
	UPID    string
	Failure *op.Failed // of Failed
	Since   time.Time  // when the op came into its state
}

// AnswerFor tells how an op stands that was folded from its stream.
func AnswerFor(o *op.Op) Answer {
	a := Answer{OpID: o.OpID, Nonce: o.Nonce, Attempt: o.Attempt, State: o.State, Since: o.Since}
	if o.Running != nil {
		a.UPID = o.Running.UPID
	}
	switch o.State {
	case op.StateSucceeded:
		a.Outcome = Succeeded
		a.Detail = "the effect is proven and on record"
	case op.StateFailed, op.StateFailedClean:
		a.Outcome = Failed
		a.Failure = o.Failed
		a.Detail = o.Failed.Message
	case op.StateVoided:
		a.Outcome = Voided
		a.Detail = "taken back before it ran: " + o.Voided.Reason
	case op.StateStarted, op.StateLaunching, op.StateTaskRunning:
		a.Outcome = InFlight
		a.Detail = "claimed and on record as " + o.State.String()
	case op.Absent:
		a.Outcome = Unknown
		a.Detail = "no op with this nonce is on record"
	}
	return a
}
