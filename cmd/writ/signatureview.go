package main

import (
	"slices"
	"strings"
	"time"

	"writ/domain/gate"
	"writ/domain/signedop"
)

// signatureViews tells of each signature whose it is and whether it counts in
// the document's role. It is for people: what decides is the gate, which was
// asked before.
func signatureViews(now time.Time, policy gate.PolicyDocument, f *signedFile) []signatureView {
	enrolled := make(map[string]enrolledKey)
	var trusted []signedop.Key
	for person, p := range policy.People {
		for _, k := range p.Keys {
			if key, ok := parseEnrolled(k); ok {
				enrolled[key.Fingerprint] = enrolledKey{person, k}
				trusted = append(trusted, key)
			}
		}
	}
	said, outcomes := f.terms(), f.outcomes(trusted)
	views := make([]signatureView, 0, len(outcomes))
	counted := make(map[string]bool)
	for _, o := range outcomes {
		e := enrolled[o.KeyID]
		s := signatureView{Key: o.KeyID, Person: e.person}
		switch {
		case o.Result != signedop.Valid:
			s.Note = o.Why
		default:
			s.Note = whyNot(now, policy.Roles[said.role], said, e, o)
			if s.Note == "" && counted[e.person] {
				s.Note = e.person + " has signed already and counts once"
			}
		}
		counts := s.Note == ""
		s.Counts = &counts
		counted[e.person] = counted[e.person] || counts
		views = append(views, s)
	}
	return views
}

type enrolledKey struct {
	person string
	key    gate.Key
}

// parseEnrolled reads a key of a policy that has been compiled.
func parseEnrolled(k gate.Key) (signedop.Key, bool) {
	format, err := signedop.ParseFormat(k.Format)
	if err != nil {
		return signedop.Key{}, false
	}
	key, err := signedop.ParseKey(k.Key, format)
	return key, err == nil
}

// whyNot tells why a valid signature does not count; empty if it does.
func whyNot(now time.Time, role gate.Role, said terms, e enrolledKey, o signedop.Outcome) string {
	if state := keyState(now, e.key); state != "" {
		return e.person + "'s key " + state
	}
	switch {
	case !slices.Contains(role.Holders, e.person):
		return e.person + " does not hold the role " + said.role
	case !role.RequesterCounts && strings.EqualFold(e.person, said.requestedBy):
		return e.person + " is the requester, who does not count in this role"
	case role.FIDO.Touch && !o.Touched:
		return e.person + " signed without a FIDO touch, which the role requires"
	case role.FIDO.PIN && !o.PINVerified:
		return e.person + " signed without a FIDO PIN, which the role requires"
	}
	return ""
}

// keyState tells why a key does not count at a time; empty if it does.
func keyState(now time.Time, k gate.Key) string {
	at := func(s string) time.Time {
		t, err := time.Parse(time.RFC3339, s)
		if err != nil {
			return time.Time{}
		}
		return t
	}
	switch {
	case k.RevokedAt != "" && !now.Before(at(k.RevokedAt)):
		return "is revoked since " + k.RevokedAt
	case k.NotAfter != "" && !now.Before(at(k.NotAfter)):
		return "expired at " + k.NotAfter
	case k.NotBefore != "" && now.Before(at(k.NotBefore)):
		return "counts only from " + k.NotBefore + " on"
	}
	return ""
}
