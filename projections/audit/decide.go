package audit

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"writ/domain/gate"
	"writ/domain/op"
	"writ/domain/signedop"
)

// By how much the time on record may be later than the time of the decision
// that it stands for: a claim is made right after the gate has decided, and a
// launch is announced after the target has been looked at. A decision that does
// not hold at the time on record is tried at that time less this.
const (
	claimDelay = 2 * time.Second
	lookDelay  = 30 * time.Second
)

// Why decisions can't be taken again from the record.
const (
	notRerunPolicy    = "the policy that decided is damaged on record, or was replaced many times before"
	notRerunFacts     = "the facts of that moment are not on record, and those of the claim do not decide"
	notRerunEnvelope  = "a refused writ is on record as a digest only"
	notRerunUnclaimed = "the claim itself could not be confirmed"
)

// checkClaim decides a claim again.
func (w *worker) checkClaim(it *item, s *opState) {
	e := s.op.Started
	s.writ, s.allowed = nil, nil
	p := w.policyOf(it, e.OpID, e.PolicySerial, e.At)
	if p == nil {
		return
	}
	if len(e.Envelope) > 0 {
		// Parsed once; every decision below uses it, and none verifies a
		// signature twice.
		s.writ, _ = signedop.Parse(e.Envelope)
	}
	sub := gate.Submission{Intent: e.Intent, Envelope: e.Envelope, Parsed: s.writ, Caller: e.SubmittedBy}
	d := w.claimDecision(it, p.policy, e, sub, e.At, s)
	if !d.Allowed() {
		d = w.claimDecision(it, p.policy, e, sub, e.At.Add(-claimDelay), s)
	}
	w.decideToday(it, e, sub)
	if !sameDecision(e, d, s.writ) {
		s.allowed = nil
		w.find(DecisionDiffers, &it.event, e.OpID, "as on record: "+recordedDecision(e), "decided again: "+takenDecision(d, s.writ))
		return
	}
	w.counts.Claims++
	w.counts.Signatures += uint64(len(d.Signers))
}

func (w *worker) claimDecision(it *item, p *gate.Policy, e *op.Started, sub gate.Submission, at time.Time, s *opState) gate.Decision {
	site := it.world.site(e.Agent)
	auth, d := gate.Authenticate(at, p, site, sub)
	if auth == nil {
		return d
	}
	s.allowed = auth
	return gate.Permit(at, p, site, auth, e.Facts)
}

// policyOf gives the policy that a decision names, if it can be asked.
func (w *worker) policyOf(it *item, opID string, serial uint64, at time.Time) *policyOnRecord {
	p := it.world.serial(serial)
	if p == nil {
		newest := uint64(0)
		if it.world.policy != nil {
			newest = it.world.policy.serial
		}
		w.find(PolicyMissing, &it.event, opID, fmt.Sprintf("policy %d on record before", serial), fmt.Sprintf("the newest before is %d", newest))
		return nil
	}
	switch newest := it.world.policy; {
	case p == newest && at.Before(p.at.Add(-lookDelay)):
		w.find(PolicyMissing, &it.event, opID, fmt.Sprintf("a decision not before its policy %d, of %s", serial, stamp(p.at)), "one dated "+stamp(at))
	case !it.world.inForce(p, at):
		w.find(PolicySuperseded, &it.event, opID, fmt.Sprintf("a decision by policy %d of %s, the newest on record before it", newest.serial, stamp(newest.at)),
			fmt.Sprintf("one by policy %d, replaced at %s, dated %s", serial, stamp(p.replaced), stamp(at)))
	}
	if p.policy == nil {
		w.notRerun[notRerunPolicy]++
		return nil
	}
	return p
}

// inForce tells whether a decision that is on record here can have been taken
// by a policy: by the newest, or by another one at about the time when the
// newest came. A date of long before that is not believed, as the newest was on
// record first.
func (w *world) inForce(p *policyOnRecord, at time.Time) bool {
	return p == w.policy || !at.After(p.replaced.Add(lookDelay)) && !at.Before(w.policy.at.Add(-lookDelay))
}

// sameDecision tells whether the gate, asked again, has allowed what is on
// record: the same document under the same nonce, by the same signatures.
func sameDecision(e *op.Started, d gate.Decision, u *signedop.Unverified) bool {
	switch {
	case !d.Allowed() || d.PolicySerial != e.PolicySerial || d.Role != e.Role || !slices.Equal(d.Signers, e.Signers):
		return false
	case d.Verified == nil:
		asked, err := op.Marshal(e.Intent)
		return err == nil && e.Keyless && len(e.Envelope) == 0 && e.PayloadSHA256 == op.DigestOf(asked)
	}
	return !e.Keyless && d.Verified.Digest() == e.PayloadSHA256 && u.Nonce() == e.Nonce
}

// recordedDecision and takenDecision say in one form what was decided, to be
// shown side by side.
func recordedDecision(e *op.Started) string {
	if e.Keyless {
		return describeDecision(gate.Benign, e.Signers, e.Role, e.PolicySerial, e.PayloadSHA256, e.Nonce)
	}
	return describeDecision(gate.Signed, e.Signers, e.Role, e.PolicySerial, e.PayloadSHA256, e.Nonce)
}

func takenDecision(d gate.Decision, u *signedop.Unverified) string {
	switch {
	case !d.Allowed():
		return fmt.Sprintf("%s: %s", d.Reason, d.Detail)
	case d.Verified == nil:
		return describeDecision(d.Reason, d.Signers, d.Role, d.PolicySerial, op.Digest{}, "")
	}
	return describeDecision(d.Reason, d.Signers, d.Role, d.PolicySerial, d.Verified.Digest(), u.Nonce())
}

func describeDecision(r gate.Reason, signers []op.Signer, role string, serial uint64, payload op.Digest, n op.Nonce) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s under policy %d", r, serial)
	if r == gate.Benign {
		return b.String()
	}
	fmt.Fprintf(&b, ", role %s, document %s of nonce %s", role, payload, n.Short())
	if len(n) > len(n.Short()) {
		// The rest of a nonce is compared, not shown.
		fmt.Fprintf(&b, " (%s)", op.DigestOf([]byte(n)).String()[:16])
	}
	b.WriteString(", signed by")
	for _, s := range signers {
		fmt.Fprintf(&b, " %s (%s)", s.Person, s.Key)
	}
	return b.String()
}

// checkLaunch decides again for the moment of an announcement, by the policy and
// with the facts that it names.
func (w *worker) checkLaunch(it *item, s *opState) {
	e := s.op.Launching
	if s.allowed == nil {
		w.notRerun[notRerunUnclaimed]++
		return
	}
	if why := unlike(s.op.Started, e); why != "" {
		w.find(RequestDiffers, &it.event, e.OpID, "a request for what was ordered", why)
	}
	for _, u := range unmet(s.allowed.Document().Expect, s.op.Started.Intent, e.Observed) {
		w.find(ExpectationUnmet, &it.event, e.OpID, u.expected, u.found)
	}
	p := w.policyOf(it, e.OpID, e.PolicySerial, e.At)
	if p == nil {
		return
	}
	site := it.world.site(e.Agent)
	d := gate.Permit(e.At, p.policy, site, s.allowed, e.Facts)
	if !d.Allowed() {
		d = gate.Permit(e.At.Add(-lookDelay), p.policy, site, s.allowed, e.Facts)
	}
	if !d.Allowed() {
		w.find(LaunchNotAllowed, &it.event, e.OpID, fmt.Sprintf("a launch that policy %d allows with the facts on record", e.PolicySerial),
			fmt.Sprintf("%s: %s", d.Reason, d.Detail))
		return
	}
	w.counts.LaunchDecisions++
}

// decideLate asks the gate as it was asked right before launch: by the newest
// policy, or by one that was replaced while the target was being looked at. The
// answer that is wanted counts, else that of the newest.
func (w *worker) decideLate(it *item, s *opState, at time.Time, wanted func(gate.Decision) bool) (d gate.Decision, known bool) {
	site := it.world.site(s.op.Started.Agent)
	for p := it.world.policy; p != nil; p = p.before {
		if !it.world.inForce(p, at) {
			break
		}
		if p.policy == nil {
			continue
		}
		again := gate.Permit(at, p.policy, site, s.allowed, s.op.Started.Facts)
		if wanted(again) {
			return again, true
		}
		if !known {
			d, known = again, true
		}
	}
	return d, known
}

// checkFailure decides a refusal right before launch again.
func (w *worker) checkFailure(it *item, s *opState) {
	e := s.op.Failed
	if e.Kind == op.KindResolved || e.Resolution != nil {
		w.checkResolution(it, s, e.Resolution, e.Effect)
		return
	}
	if e.Reason == "" {
		return
	}
	if s.allowed == nil {
		w.notRerun[notRerunUnclaimed]++
		return
	}
	d, known := w.decideLate(it, s, e.At, func(d gate.Decision) bool { return string(d.Reason) == e.Reason })
	switch {
	case !known:
		w.notRerun[notRerunPolicy]++
	case string(d.Reason) == e.Reason:
		w.counts.Refusals++
	case gate.Reason(e.Reason) == gate.OutOfScope || gate.Reason(e.Reason) == gate.Self:
		// What was found at the host then, and what belongs to the service
		// itself, is not on record. A refusal sent nothing.
		w.notRerun[notRerunFacts]++
	default:
		w.find(DecisionDiffers, &it.event, e.OpID, "as on record: "+e.Reason, fmt.Sprintf("decided again: %s", d.Reason))
	}
}

// decideToday asks today's policy about a claim, at its time and with its
// facts.
func (w *worker) decideToday(it *item, e *op.Started, sub gate.Submission) {
	p := w.auditor.today
	if p == nil {
		return
	}
	site := it.world.site(e.Agent)
	auth, d := gate.Authenticate(e.At, p, site, sub)
	if auth != nil {
		d = gate.Permit(e.At, p, site, auth, e.Facts)
	}
	t := &w.tally.today
	if d.Allowed() {
		t.allowed++
		return
	}
	t.reasons[string(d.Reason)]++
	if len(t.refused) < w.limit {
		t.refused = append(t.refused, TodayRefused{
			OpLine: lineOf(&e.Header, it.event.Position), Reason: string(d.Reason), Detail: shorten(d.Detail),
		})
	}
}

// site is where a decision was taken: what belongs to the service itself is not
// on record, and can only have refused more.
func (w *world) site(agent string) gate.Site { return gate.Site{Agent: agent, Ledger: w.audience} }
