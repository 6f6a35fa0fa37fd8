package engine

import (
	"errors"
	"fmt"
	"time"

	"writ/domain/gate"
	"writ/domain/op"
)

func (j *Job) readOp() Command {
	j.claimed = false
	return j.to(phaseDedupe, ReadOp{Nonce: j.unverified.Nonce()})
}

// onOpRead is the dedupe: what is on record for the nonce decides whether
// anything may run at all.
func (j *Job) onOpRead(now time.Time, in OpRead) Command {
	var corrupt *op.CorruptStreamError
	switch {
	case errors.As(in.Err, &corrupt):
		return j.finish(Answer{
			Outcome: Corrupt, Nonce: j.unverified.Nonce(),
			Detail: corrupt.Error() + ". The op is not run; compare the ledger with a backup or another replica",
		})
	case in.Err != nil:
		return j.finish(Answer{
			Outcome: Unavailable, Nonce: j.unverified.Nonce(),
			Detail: fmt.Sprintf("the ledger could not be read: %s; deliver the same writ again", shown(j.unverified.Nonce(), in.Err)),
		})
	}
	j.op = in.Op
	o := &j.op
	if o.Pinned {
		if o.Payload != j.unverified.Digest() {
			return j.refuse(now, gate.Refuse(gate.NonceReused,
				"nonce: another document was already submitted under it; every writ needs a nonce of its own"))
		}
		// The payload is, byte for byte, the one that was verified when the op
		// was claimed, so its document can be believed here.
		if err := sameIntent(j.sub.Intent, j.unverified.UnverifiedDocument().Intent()); err != nil {
			// A caller that asks for one thing under the writ for another must
			// not be told that what it asked for is done.
			return j.refuse(now, gate.Refuse(gate.IntentMismatch, err.Error()))
		}
	}
	switch {
	case o.Applied():
		a := AnswerFor(o)
		a.Outcome = AlreadyApplied
		a.Detail = "it had already taken effect; nothing was done now"
		return j.finish(a)
	case o.Spent():
		return j.refuse(now, gate.Refuse(gate.NonceSpent, spentDetail(o)))
	case o.State.InFlight():
		return j.finish(AnswerFor(o))
	}
	return j.to(phaseGatePolicy, ReadPolicy{})
}

func sameIntent(asked, signed op.Intent) error {
	switch {
	case asked.Class != signed.Class:
		return fmt.Errorf("class: the intent says %q, the signed document %q", asked.Class, signed.Class)
	case !asked.Target.Equal(signed.Target):
		return fmt.Errorf("target: the intent says %s, the signed document %s", asked.Target, signed.Target)
	case !asked.Params.Equal(signed.Params):
		return errors.New("params: the intent differs from the signed document")
	}
	return nil
}

func spentDetail(o *op.Op) string {
	if o.State == op.StateVoided {
		return "nonce: the writ was taken back: " + o.Voided.Reason
	}
	return fmt.Sprintf("nonce: attempt %d failed with effect %s (%s); sign a new writ that expects the target as it is now",
		o.Attempt, o.Failed.Effect, o.Failed.Message)
}

// refuse puts a refusal on record, in the gate's stream, and answers it. The
// op's own stream is not touched: whoever can make bytes could fill it.
func (j *Job) refuse(now time.Time, d gate.Decision) Command {
	j.answer = Answer{Outcome: RefusedByGate, Reason: d.Reason, Detail: d.Detail, State: j.op.State, OpID: j.op.OpID, Attempt: j.op.Attempt}
	r := op.Refused{
		Agent: j.who.Site.Agent, Instance: j.who.Instance, At: now.UTC(),
		Reason: string(d.Reason), Detail: text(d.Detail),
		EnvelopeSHA256: op.DigestOf(j.sub.Envelope),
		Intent:         refused(j.sub.Intent), SubmittedBy: brief(j.sub.SubmittedBy),
	}
	if j.policy != nil {
		r.PolicySerial = j.policy.Serial()
	}
	if j.unverified != nil {
		j.answer.Nonce = j.unverified.Nonce()
		r.NonceShort = j.unverified.Nonce().Short()
	}
	return j.to(phaseRefusal, RecordRefusal{Refused: r})
}

func (j *Job) onPolicy(now time.Time, in PolicyRead) Command {
	if j.phase == phaseLookPolicy {
		return j.onLookPolicy(now, in)
	}
	if in.Err != nil {
		return j.unavailable("no policy can be applied: %v", in.Err)
	}
	j.policy = in.Policy
	auth, d := gate.Authenticate(now, in.Policy, j.who.Site, gate.Submission{
		Intent: j.sub.Intent, Envelope: j.sub.Envelope, Parsed: j.unverified, Caller: j.sub.SubmittedBy,
	})
	if auth == nil {
		return j.refuse(now, d)
	}
	j.authentic = auth
	return j.to(phaseGateFacts, ReadFacts{Target: j.sub.Intent.Target})
}

func (j *Job) onFacts(now time.Time, in FactsRead) Command {
	if j.phase == phaseLookFacts {
		return j.onLookFacts(now, in)
	}
	if in.Err != nil {
		// Nothing was decided, so nothing is recorded.
		return j.unavailable("the host could not be asked about the target: %v", in.Err)
	}
	j.decision = gate.Permit(now, j.policy, j.who.Site, j.authentic, in.Facts)
	if !j.decision.Allowed() {
		return j.refuse(now, j.decision)
	}
	j.facts = in.Facts
	if j.unverified == nil {
		// Without a writ there is no nonce: it gets one that nobody can have
		// foreseen, and with it a stream of its own.
		return j.to(phaseFresh, ReadOp{Nonce: op.NonceOf(j.draw())})
	}
	return j.to(phaseReserve, Reserve{})
}

// onFresh takes the stream of an op without a writ, of which nothing can be on
// record.
func (j *Job) onFresh(in OpRead) Command {
	switch {
	case in.Err != nil:
		return j.unavailable("the ledger could not be read: %v", in.Err)
	case in.Op.State != op.Absent:
		return j.unavailable("no claim is taken: %v", errors.New("the stream drawn for this op is in use"))
	}
	j.op = in.Op
	return j.to(phaseReserve, Reserve{})
}

// payload is the digest that the op's stream pins: of the signed document, or,
// where nothing was signed, of what was asked for.
func (j *Job) payload() (op.Digest, error) {
	if j.unverified != nil {
		return j.unverified.Digest(), nil
	}
	data, err := op.Marshal(j.sub.Intent)
	return op.DigestOf(data), err
}

func (j *Job) unavailable(format string, err error) Command {
	a := Answer{Outcome: Unavailable, State: j.op.State, Detail: fmt.Sprintf(format, err) + "; nothing was done, " + j.sub.anew()}
	if j.unverified != nil {
		a.Nonce = j.unverified.Nonce()
	}
	return j.finish(a)
}

// onReserved claims the op: OpStarted at exactly the revision that the dedupe
// saw. If this line's append is lost, somebody else has the op and nothing of
// ours is on record; if its outcome is unknown, it is repeated until it isn't.
func (j *Job) onReserved(now time.Time, in Reserved) Command {
	if in.Closed != "" {
		return j.unavailable("no claim is taken: %v", errors.New(in.Closed))
	}
	if !in.OK {
		return j.finish(Answer{
			Outcome: QueueFull, Nonce: j.op.Nonce, State: j.op.State,
			Detail: "the queue is full; nothing was done, " + j.sub.anew() + " later",
		})
	}
	j.who.Epoch = in.Epoch
	payload, err := j.payload()
	if err != nil {
		return j.unavailable("the intent can't be put on record: %v", err)
	}
	claim := j.draw()
	h := j.header(now)
	h.Attempt = j.op.Attempt + 1
	h.OpID = op.OpID(h.Nonce, h.Attempt, claim)
	return j.put(phaseClaim, &op.Started{
		Header: h, Claim: claim, Intent: j.sub.Intent, Envelope: j.sub.Envelope,
		PayloadSHA256: payload, Keyless: j.unverified == nil,
		Signers: j.decision.Signers, Role: j.decision.Role, PolicySerial: j.decision.PolicySerial,
		Facts: j.facts, SubmittedBy: j.sub.SubmittedBy,
	})
}
