package gate

import (
	"slices"
	"strings"
	"unicode/utf8"

	"writ/domain/op"
	"writ/domain/signedop"
)

// A Reason says why the gate decided as it did: a closed set, stable for
// programs. What is in the Detail beside it is for people.
type Reason string

// The reasons. Benign and Signed allow; all others refuse.
const (
	Benign           Reason = "benign"
	Signed           Reason = "signed"
	UnknownClass     Reason = "unknown-class"
	Unsigned         Reason = "unsigned"
	Malformed        Reason = "malformed"
	BadSignature     Reason = "bad-signature"
	UnknownKey       Reason = "unknown-key"
	KeyRevoked       Reason = "key-revoked"
	KeyExpired       Reason = "key-expired" // outside the key's validity, before it as well as after
	QuorumNotMet     Reason = "quorum-not-met"
	RoleNotPermitted Reason = "role-not-permitted"
	OutOfScope       Reason = "out-of-scope"
	WrongAudience    Reason = "wrong-audience"
	Expired          Reason = "expired"
	NotYetValid      Reason = "not-yet-valid"
	LifetimeTooLong  Reason = "lifetime-too-long"
	IntentMismatch   Reason = "intent-mismatch"
	NotPermitted     Reason = "not-permitted" // benign without a rule
	NonceReused      Reason = "nonce-reused"  // given by the engine, which knows the stream
	NonceSpent       Reason = "nonce-spent"   // given by the engine, which knows the stream
	Self             Reason = "self"
)

// Reasons gives every reason, in the order of the documentation.
func Reasons() []Reason {
	return []Reason{
		Benign, Signed, UnknownClass, Unsigned, Malformed, BadSignature, UnknownKey, KeyRevoked, KeyExpired,
		QuorumNotMet, RoleNotPermitted, OutOfScope, WrongAudience, Expired, NotYetValid, LifetimeTooLong,
		IntentMismatch, NotPermitted, NonceReused, NonceSpent, Self,
	}
}

// Known tells whether the reason is one of the set.
func (r Reason) Known() bool { return slices.Contains(Reasons(), r) }

// A Decision is the gate's answer. The zero value allows nothing.
type Decision struct {
	Reason Reason
	// Detail names field, value and remedy. It quotes foreign text escaped and
	// shortened, holds at most MaxDetailBytes, and never a whole nonce.
	Detail string
	// Verified is set only if the op is allowed by its signatures (Signed). Its
	// keys are exactly those of Signers.
	Verified *signedop.Verified
	// Signers are the signatures that counted: one for each person; none if
	// the op is benign.
	Signers []op.Signer
	Role    string // of the document; empty if the op is benign
	// PolicySerial is the policy that decided; 0 if none was asked.
	PolicySerial uint64

	permitted bool // set by Permit alone: no other package can make an allowed Decision
}

// Allowed tells whether the op may run. Only a Decision that Permit made is
// ever allowed; one put together elsewhere is not, whatever its fields say.
func (d Decision) Allowed() bool {
	return d.permitted && (d.Reason == Signed && d.Verified != nil || d.Reason == Benign && d.Verified == nil)
}

// MaxDetailBytes bounds a Decision's detail.
const MaxDetailBytes = 1024

// Refuse makes a refusal outside the policy: the engine's, for a nonce that is
// reused or spent. It panics if the reason is not one that refuses.
func Refuse(reason Reason, detail string) Decision {
	if reason == Benign || reason == Signed || !reason.Known() {
		panic("gate: internal error: refusal for the reason " + string(reason))
	}
	return Decision{Reason: reason, Detail: clipTo(detail, MaxDetailBytes)}
}

func (p *Policy) refuse(reason Reason, detail string) Decision {
	d := Refuse(reason, detail)
	d.PolicySerial = p.Serial()
	return d
}

// people lists the names of signers.
func people(signers []op.Signer) string {
	names := make([]string, len(signers))
	for i, s := range signers {
		names[i] = s.Person
	}
	return strings.Join(names, ", ")
}

// clipTo shortens a text to at most limit bytes without splitting a character.
func clipTo(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	const mark = "…"
	end := limit - len(mark)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + mark
}
