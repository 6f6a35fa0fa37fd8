package gate

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"writ/domain/op"
	"writ/domain/signedop"
)

// A signature as judged. Its state is Signed if it is good: valid, by an
// enrolled key that counts now; otherwise the reason why it is none.
type signature struct {
	key    string // fingerprint
	person string // empty unless the signature is valid
	state  Reason
	why    string // of one that is not good
	fido   FIDO   // what it proves
}

// judge compares the key of each signature, as verified with all enrolled
// keys, with the time.
func (p *Policy) judge(now time.Time, outcomes []signedop.Outcome) []signature {
	sigs := make([]signature, len(outcomes))
	for i, o := range outcomes {
		s := signature{key: o.KeyID, why: o.Why, fido: FIDO{Touch: o.Touched, PIN: o.PINVerified}}
		switch e := p.keys[o.KeyID]; o.Result {
		case signedop.Valid:
			s.person = e.person
			s.state, s.why = e.stateAt(now)
		case signedop.Repeated, signedop.BadSignature:
			// Who repeats a key adds nothing, however good the signature is.
			s.state = BadSignature
		case signedop.UnknownKey:
			s.state, s.why = UnknownKey, "the policy has no such key"
		}
		sigs[i] = s
	}
	return sigs
}

// stateAt tells whether signatures of the key count at a time.
func (e enrolled) stateAt(now time.Time) (state Reason, why string) {
	switch {
	case !e.revokedAt.IsZero() && !now.Before(e.revokedAt):
		return KeyRevoked, fmt.Sprintf("the key of %s is revoked since %s", e.person, stamp(e.revokedAt))
	case !e.notAfter.IsZero() && !now.Before(e.notAfter):
		return KeyExpired, fmt.Sprintf("the key of %s expired at %s", e.person, stamp(e.notAfter))
	case !e.notBefore.IsZero() && now.Before(e.notBefore):
		return KeyExpired, fmt.Sprintf("the key of %s counts only from %s on", e.person, stamp(e.notBefore))
	}
	return Signed, ""
}

// unusable gives the most telling reason if no signature is good, and none if
// one is: that a key was revoked, or is outside its validity, says
// more than that a signature is bad, and that more than that a stranger
// signed.
func unusable(noun string, sigs []signature) (Reason, string) {
	if len(sigs) == 0 {
		return Unsigned, fmt.Sprintf("signatures: empty, the %s has yet to be signed", noun)
	}
	if slices.ContainsFunc(sigs, func(s signature) bool { return s.state == Signed }) {
		return "", ""
	}
	for _, r := range []Reason{KeyRevoked, KeyExpired, BadSignature, UnknownKey} {
		for _, s := range sigs {
			if s.state == r {
				return r, fmt.Sprintf("signatures: none counts; %s: %s: sign with a key that is enrolled and valid", s.key, s.why)
			}
		}
	}
	panic("gate: internal error: signature in no state")
}

// approve finds the role and counts the people who hold it among the good
// signatures. It gives one signer for each, in the order of the signatures, or
// a reason and why.
func (p *Policy) approve(t terms, sigs []signature) ([]op.Signer, Reason, string) {
	r, ok := p.roles[t.role]
	if !ok {
		return nil, RoleNotPermitted, fmt.Sprintf("role: %s is none of the policy: sign in one of %s",
			quote(t.role), quoteAll(slices.Sorted(maps.Keys(p.roles))))
	}
	if why := t.mayNot(r); why != "" {
		return nil, RoleNotPermitted, why
	}
	n := r.count(t.requestedBy, sigs)
	switch {
	case len(n.signers) >= r.quorum:
		return n.signers, "", ""
	case !n.held:
		// Not even with a key that no longer counts.
		return nil, RoleNotPermitted, fmt.Sprintf("role: %s is held by none of the signers (%s); its holders are %s",
			r.name, strings.Join(n.notes, "; "), quoteAll(r.holders))
	}
	why := fmt.Sprintf("signatures: %d of the %d people that role %s requires", len(n.signers), r.quorum, r.name)
	if len(n.notes) > 0 {
		why += " (" + strings.Join(n.notes, "; ") + ")"
	}
	why += ": let others of its holders cosign"
	// Enough people have signed, but with keys that no longer count: that is
	// what must be known, not that people are missing.
	if len(n.signers)+len(n.lost) >= r.quorum {
		for _, state := range []Reason{KeyRevoked, KeyExpired} {
			for _, s := range n.lost {
				if s == state {
					return nil, state, why
				}
			}
		}
	}
	return nil, QuorumNotMet, why
}

// A tally is what became of the signatures of a document in a role.
type tally struct {
	signers []op.Signer       // one for each person who counts
	lost    map[string]Reason // people who would count, had their key not been revoked or expired
	held    bool              // a holder is among those who made a valid signature
	notes   []string          // why signatures do not count
}

func (r *role) count(requestedBy string, sigs []signature) tally {
	t := tally{lost: make(map[string]Reason)}
	for _, s := range sigs {
		note := s.why
		if s.person == "" {
			t.notes = append(t.notes, s.key+": "+note)
			continue
		}
		fit := r.accepts(requestedBy, s)
		t.held = t.held || slices.Contains(r.holders, s.person)
		switch {
		case s.state != Signed:
			if fit == "" && (t.lost[s.person] == "" || s.state == KeyRevoked) {
				t.lost[s.person] = s.state
			}
		case fit != "":
			note = fit
		case slices.ContainsFunc(t.signers, func(o op.Signer) bool { return o.Person == s.person }):
			note = s.person + " has signed already and counts once"
		default:
			t.signers = append(t.signers, op.Signer{Person: s.person, Key: s.key})
			continue
		}
		t.notes = append(t.notes, note)
	}
	for _, s := range t.signers {
		delete(t.lost, s.Person)
	}
	return t
}

// accepts tells why a person's signature does not count in the role, whatever
// the state of the key; empty if it does.
func (r *role) accepts(requestedBy string, s signature) string {
	switch {
	case !slices.Contains(r.holders, s.person):
		return s.person + " does not hold the role"
	case !r.requesterCounts && strings.EqualFold(s.person, requestedBy):
		return s.person + " is the requester, who does not count in this role"
	case r.fido.Touch && !s.fido.Touch:
		return s.person + " signed without a FIDO touch, which the role requires"
	case r.fido.PIN && !s.fido.PIN:
		return s.person + " signed without a FIDO PIN, which the role requires"
	}
	return ""
}

// keysOf gives the enrolled keys of signers.
func (p *Policy) keysOf(signers []op.Signer) []signedop.Key {
	keys := make([]signedop.Key, len(signers))
	for i, s := range signers {
		keys[i] = p.keys[s.Key].key
	}
	return keys
}
