package httpapi

import (
	"net/http"
	"time"

	"writ/domain/engine"
	"writ/domain/gate"
	"writ/domain/op"
)

// An Answer is the body of a success: how the op stands on record.
type Answer struct {
	Outcome    string `json:"outcome" enum:"succeeded,already-applied,in-flight,indeterminate" doc:"What became of the submission. Indeterminate: what is known does not decide whether it took effect; a person must look, and sending it again changes nothing."`
	OpID       string `json:"op_id" doc:"The attempt. It may be shown to anyone."`
	NonceShort string `json:"nonce_short" doc:"The beginning of the nonce."`
	Nonce      string `json:"nonce,omitempty" doc:"The nonce, whole, of an op that was asked for without a writ: the service has drawn it, and with it the op can be asked for. It is no key to anything."`
	Attempt    int    `json:"attempt" doc:"The number of the attempt, from 1."`
	State      string `json:"state" enum:"started,launching,task-running,succeeded" doc:"How the op stands on record."`
	UPID       string `json:"upid,omitempty" doc:"The host's task, once there is one."`
	Detail     string `json:"detail" doc:"What happened, for people."`
	// Since is when the op came into its state.
	Since time.Time `json:"since" doc:"When the op came into its state."`
}

// stateName is a state in this interface: both states of failure are one, and
// tell themselves apart by their effect.
func stateName(s op.State) string {
	switch s {
	case op.StateFailedClean:
		return op.StateFailed.String()
	case op.Absent, op.StateStarted, op.StateLaunching, op.StateTaskRunning, op.StateSucceeded, op.StateFailed, op.StateVoided:
		return s.String()
	}
	return "" // the op was not read
}

// answer gives the status and body for what the engine said. Exactly one of
// the bodies is of use: the problem if it is not nil.
func answer(a engine.Answer) (status int, body Answer, p *Problem) {
	switch a.Outcome {
	case engine.Succeeded, engine.AlreadyApplied:
		status = http.StatusOK
	case engine.InFlight, engine.Indeterminate:
		status = http.StatusAccepted
	case engine.RefusedByGate, engine.Failed, engine.Voided, engine.QueueFull, engine.Unavailable, engine.Corrupt, engine.Unknown, engine.Conflict:
		return 0, Answer{}, refusal(a)
	default:
		return 0, Answer{}, refusal(engine.Answer{Outcome: engine.Corrupt})
	}
	return status, Answer{
		Outcome: a.Outcome.String(), OpID: a.OpID, NonceShort: a.Nonce.Short(), Attempt: a.Attempt,
		State: stateName(a.State), UPID: a.UPID, Detail: a.Detail, Since: a.Since.UTC(),
	}, nil
}

// refusal is the problem for an outcome that is no success.
func refusal(a engine.Answer) *Problem {
	status, reason := refusalStatus(a)
	p := problem(status, reason, a.Detail)
	p.OpID, p.Attempt, p.State = a.OpID, a.Attempt, stateName(a.State)
	if p.Detail == "" {
		p.Detail = "the engine gave no outcome; ask how the op stands"
	}
	if a.Nonce != "" {
		p.NonceShort = a.Nonce.Short()
	}
	if a.Failure != nil {
		p.Effect = string(a.Failure.Effect)
	}
	return p
}

func refusalStatus(a engine.Answer) (status int, reason string) {
	switch a.Outcome {
	case engine.RefusedByGate:
		return gateStatus(a.Reason), string(a.Reason)
	case engine.Failed:
		return failureStatus(a.Failure)
	case engine.Voided:
		return http.StatusConflict, string(gate.NonceSpent)
	case engine.Conflict:
		if a.State == 0 {
			// It was not even read: a job holds it.
			return http.StatusConflict, reasonHeld
		}
		return http.StatusConflict, reasonConflict
	case engine.QueueFull:
		return http.StatusTooManyRequests, reasonQueueFull
	case engine.Unavailable:
		return http.StatusServiceUnavailable, reasonUnavailable
	case engine.Corrupt, engine.Unknown, engine.Succeeded, engine.AlreadyApplied, engine.InFlight, engine.Indeterminate:
		// Unknown: the op was claimed, and now nothing is on record.
	}
	return http.StatusInternalServerError, reasonCorrupt
}

func gateStatus(r gate.Reason) int {
	switch r {
	case gate.NonceReused, gate.NonceSpent:
		return http.StatusConflict
	case gate.Malformed:
		return http.StatusUnprocessableEntity
	case gate.UnknownClass, gate.Unsigned, gate.BadSignature, gate.UnknownKey, gate.KeyRevoked, gate.KeyExpired,
		gate.QuorumNotMet, gate.RoleNotPermitted, gate.OutOfScope, gate.WrongAudience, gate.Expired, gate.NotYetValid,
		gate.LifetimeTooLong, gate.IntentMismatch, gate.NotPermitted, gate.Self, gate.Benign, gate.Signed:
	}
	return http.StatusForbidden
}

// failureStatus tells apart whose matter a failed attempt is: the target's,
// the gate's, the host's, or only one of time.
func failureStatus(f *op.Failed) (status int, reason string) {
	if f == nil {
		return http.StatusFailedDependency, string(op.KindTaskFailed)
	}
	switch f.Kind {
	case op.KindRefused:
		// The gate said no when it was asked again right before launch.
		if f.Reason != "" {
			return http.StatusForbidden, f.Reason
		}
		return http.StatusForbidden, string(f.Kind)
	case op.KindPrecondition, op.KindGone:
		return http.StatusPreconditionFailed, string(f.Kind)
	case op.KindInterrupted, op.KindNotExecuted:
		// The request never reached the host. The same writ may be sent again.
		return http.StatusServiceUnavailable, string(f.Kind)
	case op.KindNoExecutor, op.KindRejected, op.KindTaskFailed, op.KindResolved:
	}
	return http.StatusFailedDependency, string(f.Kind)
}
