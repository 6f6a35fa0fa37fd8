package audit

import (
	"fmt"
	"slices"

	"writ/domain/eventstore"
	"writ/domain/gate"
	"writ/domain/op"
)

// gateEvent checks one event of a stream of refusals.
func (w *worker) gateEvent(it *item) {
	e := &it.event
	if !w.follow(e) {
		return
	}
	var err error
	switch e.Type {
	case op.TypeRefused:
		var r op.Refused
		if err = op.Unmarshal(e.Data, &r); err == nil {
			w.checkInstance(e, r.Instance)
			w.checkRefusal(it, &r)
		}
	case op.TypeRefusalsCounted:
		var r op.RefusalsCounted
		if err = op.Unmarshal(e.Data, &r); err == nil {
			w.checkInstance(e, r.Instance)
			for _, n := range r.ByReason {
				w.counts.Refused += uint64(max(n, 0))
				w.notRerun["refusals that came too fast are on record as counts only"] += max(n, 0)
			}
		}
	case op.TypeContested:
		var r op.Contested
		if err = op.Unmarshal(e.Data, &r); err == nil {
			w.find(Contested, e, r.OpID, "no task for an op that has ended", fmt.Sprintf("%s, for attempt %d of nonce %s, %s on record", r.UPID, r.Attempt, r.NonceShort, r.State))
		}
	default:
		w.find(UnknownEvent, e, "", "an event about refusals", e.Type)
	}
	if err != nil {
		w.find(BadEvent, e, "", "data in the form of "+e.Type, err.Error())
	}
}

// checkInstance tells whether refusals stand in the stream of who refused.
func (w *worker) checkInstance(e *eventstore.Recorded, instance string) {
	if op.GateStream(instance) != string(e.Stream) {
		w.find(Contradiction, e, "", "an event of the instance whose stream it is", "one of instance "+instance)
	}
}

// checkRefusal decides a refusal again if nothing but its intent is needed for
// that: of an envelope only the digest is on record.
func (w *worker) checkRefusal(it *item, r *op.Refused) {
	w.counts.Refused++
	reason := gate.Reason(r.Reason)
	if !reason.Known() || reason == gate.Signed || reason == gate.Benign {
		w.find(Contradiction, &it.event, "", "a reason that refuses", r.Reason)
		return
	}
	if r.EnvelopeSHA256 != op.DigestOf(nil) || !slices.Contains([]gate.Reason{gate.UnknownClass, gate.Unsigned, gate.NotPermitted, gate.Malformed}, reason) || r.Intent.Class == "" {
		w.notRerun[notRerunEnvelope]++
		return
	}
	var policy *gate.Policy
	if p := it.world.serial(r.PolicySerial); p != nil {
		policy = p.policy
	}
	auth, d := gate.Authenticate(r.At, policy, it.world.site(r.Agent), gate.Submission{Intent: r.Intent, Caller: r.SubmittedBy})
	switch {
	case auth != nil:
		w.notRerun[notRerunFacts]++
	case d.Reason == reason:
		w.counts.Refusals++
	default:
		w.find(DecisionDiffers, &it.event, "", "as on record: "+r.Reason, "decided again: "+string(d.Reason))
	}
}
