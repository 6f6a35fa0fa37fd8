package gate

import (
	"fmt"
	"time"

	"writ/domain/op"
	"writ/domain/signedop"
)

// A ResolutionDecision is the gate's answer about a resolution. The zero value
// allows nothing.
type ResolutionDecision struct {
	Reason Reason
	Detail string // as in a Decision
	// Verified is set only if the resolution is allowed. Its keys are exactly
	// those of Signers.
	Verified *signedop.VerifiedResolution
	// Signers are the signatures that counted: one for each person.
	Signers []op.Signer
	Role    string // of the resolution
	// PolicySerial is the policy that decided.
	PolicySerial uint64

	permitted bool // set by Resolve alone: no other package can make an allowed one
}

// Allowed tells whether people with the right to it have signed the
// resolution. Only what Resolve gave is ever allowed.
func (d ResolutionDecision) Allowed() bool {
	return d.permitted && d.Reason == Signed && d.Verified != nil
}

// Resolve decides whether a resolution counts: that it is well formed and
// signed, in a role that may resolve, by enough distinct people with keys that
// are valid now, for this agent and ledger, and that now is within its
// validity. The order of the checks and the reasons are those of Authenticate.
// It is pure and may be called concurrently; its cost is bounded whatever the
// envelope holds.
//
// It knows nothing of the op. An allowed resolution may be carried out only if
// the op of its nonce is launching or task-running in exactly the attempt that
// it names, and the newest event of the op's stream has exactly its revision;
// the event that records it must be appended at that revision. And the verdict
// is all that the signers vouch for: whether a request of the attempt may
// still take effect must have been settled by a fence before effect none is
// recorded.
func Resolve(now time.Time, p *Policy, site Site, raw []byte) ResolutionDecision {
	if p == nil {
		p = &Policy{}
	}
	refuse := func(r Reason, why string) ResolutionDecision {
		d := p.refuse(r, why)
		return ResolutionDecision{Reason: d.Reason, Detail: d.Detail, PolicySerial: d.PolicySerial}
	}
	if len(raw) == 0 {
		return refuse(Unsigned, "envelope: missing, an op is settled only by a signed resolution")
	}
	u, err := signedop.ParseResolution(raw)
	if err != nil {
		return refuse(Malformed, err.Error())
	}
	signed, outcomes := u.Verify(p.trusted)
	sigs := p.judge(now, outcomes)
	if r, why := unusable("resolution", sigs); r != "" {
		return refuse(r, why)
	}
	res := signed.Resolution()
	signers, r, why := p.agree(now, site, termsOfResolution(res), sigs)
	if r != "" {
		return refuse(r, why)
	}
	// Asked once more against nothing but the keys that counted; the answers
	// are remembered.
	verified, _ := u.Verify(p.keysOf(signers))
	if verified == nil {
		panic("gate: internal error: signatures that counted do not verify")
	}
	detail := fmt.Sprintf("roles.%s may resolve; signed by %s", res.Role, people(signers))
	return ResolutionDecision{
		Reason: Signed, Detail: clipTo(detail, MaxDetailBytes), Verified: verified, Signers: signers, Role: res.Role, PolicySerial: p.Serial(), permitted: true,
	}
}
