package audit

import (
	"fmt"

	"writ/domain/gate"
	"writ/domain/op"
	"writ/domain/signedop"
)

// checkResolution decides a resolution again, and compares what was signed with
// how the op ended.
func (w *worker) checkResolution(it *item, s *opState, r *op.Resolved, effect op.Effect) {
	if r == nil {
		if f := s.op.Failed; f != nil && s.op.State != op.StateSucceeded && f.Kind == op.KindResolved {
			w.find(ResolutionDiffers, &it.event, f.OpID, "the signed resolution by which it was settled", "none is on record")
		}
		return
	}
	h := endHeader(&s.op)
	p := w.policyOf(it, h.OpID, r.PolicySerial, h.At)
	if p == nil {
		return
	}
	site := it.world.site(h.Agent)
	d := gate.Resolve(h.At, p.policy, site, r.Envelope)
	if !d.Allowed() {
		d = gate.Resolve(h.At.Add(-claimDelay), p.policy, site, r.Envelope)
	}
	expected := describeDecision(gate.Signed, r.Signers, r.Role, r.PolicySerial, r.PayloadSHA256, s.op.Nonce)
	found := fmt.Sprintf("%s: %s", d.Reason, d.Detail)
	if d.Allowed() {
		doc := d.Verified.Resolution()
		found = describeDecision(d.Reason, d.Signers, d.Role, d.PolicySerial, d.Verified.Digest(), doc.Nonce)
		if expected == found {
			expected, found = settledAs(&s.op, it, effect, r.Reason), signedAs(doc)
		}
	}
	if expected != found {
		w.find(ResolutionDiffers, &it.event, h.OpID, "as on record: "+expected, "decided again: "+found)
		return
	}
	w.counts.Resolutions++
	w.counts.Signatures += uint64(len(d.Signers))
}

func endHeader(o *op.Op) op.Header {
	if o.State == op.StateSucceeded {
		return o.Succeeded.Header
	}
	return o.Failed.Header
}

// settledAs says how an op was settled, in the words of signedAs.
func settledAs(o *op.Op, it *item, effect op.Effect, reason string) string {
	verdict, seen := signedop.VerdictFailed, uint64(it.event.Revision)-1
	if o.State == op.StateSucceeded {
		verdict = signedop.VerdictSucceeded
		if o.Running.Adopted && o.Running.UPID == "" && seen > 0 {
			seen-- // the task that nobody saw was put on record in the same append
		}
	}
	return fmt.Sprintf("attempt %d at revision %d: %s, effect %s: %s", o.Attempt, seen, verdict, effect, reason)
}

func signedAs(doc signedop.Resolution) string {
	return fmt.Sprintf("attempt %d at revision %d: %s, effect %s: %s", doc.Attempt, doc.Revision, doc.Verdict, doc.Effect, doc.Reason)
}
