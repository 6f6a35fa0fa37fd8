package gate

import (
	"fmt"
	"time"

	"writ/domain/op"
	"writ/domain/signedop"
)

// terms are what a signed document of any kind says about who may sign it, for
// whom it is and when it holds.
type terms struct {
	noun                 string // what the document is called
	role, requestedBy    string
	audience             string
	notBefore, expiresAt time.Time
	mayNot               func(*role) string // why the role has no right to it; empty if it has
}

func termsOf(d *signedop.Document) terms {
	class := d.Class
	return terms{
		noun: "writ", role: d.Role, requestedBy: d.RequestedBy, audience: d.Audience,
		notBefore: d.NotBefore, expiresAt: d.ExpiresAt,
		mayNot: func(r *role) string {
			if r.allows(class) {
				return ""
			}
			return fmt.Sprintf("role: %s does not allow %s: sign in a role that does", r.name, class)
		},
	}
}

func termsOfResolution(s signedop.Resolution) terms {
	return terms{
		noun: "resolution", role: s.Role, requestedBy: s.RequestedBy, audience: s.Audience,
		notBefore: s.NotBefore, expiresAt: s.ExpiresAt,
		mayNot: func(r *role) string {
			if r.resolves {
				return ""
			}
			return fmt.Sprintf("role: %s may not resolve: sign in a role with resolve: true", r.name)
		},
	}
}

// agree takes checks 5 to 7. It gives one signer for each person who counts,
// or a reason and why.
func (p *Policy) agree(now time.Time, site Site, t terms, sigs []signature) ([]op.Signer, Reason, string) {
	signers, r, why := p.approve(t, sigs)
	if r != "" {
		return nil, r, why
	}
	if want := site.Audience(); t.audience != want {
		return nil, WrongAudience, fmt.Sprintf("audience: the %s is for %s, this is %s: sign one for this ledger", t.noun, quote(t.audience), quote(want))
	}
	if r, why := p.checkTime(now, t); r != "" {
		return nil, r, why
	}
	return signers, "", ""
}

// checkTime tells why a document is not valid at this time; no reason if it is.
// The policy's clock skew is granted to the signer's clock, at the start
// only: expiry is exact.
func (p *Policy) checkTime(now time.Time, t terms) (Reason, string) {
	if now.Add(p.skew).Before(t.notBefore) {
		return NotYetValid, fmt.Sprintf("not_before: the %s is valid from %s, now it is %s: submit it then", t.noun, stamp(t.notBefore), stamp(now))
	}
	if !now.Before(t.expiresAt) {
		return Expired, fmt.Sprintf("expires_at: the %s expired at %s, now it is %s: sign a new one", t.noun, stamp(t.expiresAt), stamp(now))
	}
	if limit := p.roles[t.role].maxLifetime; t.expiresAt.Sub(t.notBefore) > limit {
		return LifetimeTooLong, fmt.Sprintf("expires_at: %s after not_before, role %s allows at most %s (max_lifetime): sign a shorter one",
			t.expiresAt.Sub(t.notBefore), t.role, limit)
	}
	return "", ""
}
