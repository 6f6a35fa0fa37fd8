package op

import (
	"errors"
	"fmt"
)

// ExitResolved is the exit status of an OpSucceeded that a person settled.
const ExitResolved = "resolved"

// A Resolved is the signed resolution by which people settled an attempt that
// the evidence did not decide, with all that an audit needs to decide again.
// It is kept in the event that ends the attempt.
//
// A verdict of failure is recorded as OpFailed of kind resolved with the
// effect that was signed, in launching and in task-running alike. A verdict of
// success is recorded as OpSucceeded with the exit status ExitResolved and
// evidence of effect done, whose reasons must say that it rests on the
// signers' word. That can't follow launching. So for an op in launching
// OpTaskRunning, adopted and with an empty UPID, goes before it, in the same
// append: a crash must not leave an op that claims to have a task which nobody
// has seen. Propose the second event of the op that the first Propose foresees.
type Resolved struct {
	// Envelope is the resolution exactly as received; base64 in the stored
	// JSON.
	Envelope []byte `json:"envelope"`
	// PayloadSHA256 is the digest of the bytes that were signed.
	PayloadSHA256 Digest   `json:"payload_sha256"`
	Signers       []Signer `json:"signers"`
	Role          string   `json:"role"`
	// PolicySerial is the policy that allowed it.
	PolicySerial uint64 `json:"policy_serial"`
	Reason       string `json:"reason"` // as signed
}

// check refuses a resolution that no gate can have allowed; nil is none.
func (r *Resolved) check() error {
	switch {
	case r == nil:
		return nil
	case len(r.Envelope) == 0:
		return errors.New("resolution.envelope: empty, it is kept whole")
	case len(r.Signers) == 0:
		return errors.New("resolution.signers: empty, nobody has resolved it")
	case r.Role == "":
		return errors.New("resolution.role: empty, a resolution is signed in a role")
	}
	return nil
}

// check refuses a success that contradicts itself.
func (e *Succeeded) check() error {
	if e.Evidence.Effect != EffectDone {
		return fmt.Errorf("%s with evidence of effect %q: only done is success", TypeSucceeded, clip(string(e.Evidence.Effect)))
	}
	if e.Resolution != nil && e.ExitStatus != ExitResolved {
		return fmt.Errorf("%s by a resolution with exit status %q: %s is required", TypeSucceeded, clip(e.ExitStatus), ExitResolved)
	}
	return e.Resolution.check()
}

// check refuses a failure that contradicts itself. One of kind resolved
// without its resolution can be read, though the gate never led to one.
func (e *Failed) check() error {
	if !e.Kind.Known() || !e.Effect.Known() {
		return fmt.Errorf("%s of kind %q with effect %q: not both are known", TypeFailed, clip(string(e.Kind)), clip(string(e.Effect)))
	}
	if e.Reason != "" && e.Kind != KindRefused {
		return fmt.Errorf("%s of kind %s with the gate's reason %q: only %s has one", TypeFailed, e.Kind, clip(e.Reason), KindRefused)
	}
	if e.Resolution == nil {
		return nil
	}
	if e.Kind != KindResolved {
		return fmt.Errorf("%s of kind %s with a resolution: only %s has one", TypeFailed, e.Kind, KindResolved)
	}
	return e.Resolution.check()
}
