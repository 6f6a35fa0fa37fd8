package signedop

import (
	"time"

	"github.com/go-json-experiment/json"

	"writ/domain/op"
)

const (
	// ResolutionPayloadType is the DSSE payload type of a resolution, version 1.
	ResolutionPayloadType = "application/vnd.writ.resolution.v1+json"

	// ResolutionSSHNamespace is the SSHSIG namespace of every signature of
	// format SSH over a resolution. It differs from SSHNamespace, so that a
	// person who signs with ssh-keygen says which of the two they sign.
	ResolutionSSHNamespace = "writ-resolution@v1"

	// ResolutionVersion is the version of the resolution that this program
	// writes and reads.
	ResolutionVersion = 1
)

// A Verdict is how a resolution ends an attempt.
type Verdict string

// The verdicts.
const (
	VerdictSucceeded Verdict = "succeeded"
	VerdictFailed    Verdict = "failed"
)

// A Resolution settles one attempt of an op that the evidence on the host does
// not decide: who signs it has looked, and answers for what they say. It is
// about exactly what the signers saw. Whoever carries it out must compare
// Nonce, Attempt and Revision with the op's stream, and refuse it if an event
// was recorded since.
//
// All members are always written.
type Resolution struct {
	Version int      `json:"version"` // 1
	Nonce   op.Nonce `json:"nonce"`   // of the op
	// Audience is as in a Document.
	Audience string `json:"audience"`
	Attempt  int    `json:"attempt"` // the one that is settled; from 1
	// Revision is that of the newest event of the op's stream that the signers
	// saw. It is at least 1: with the claim alone on record nothing was sent,
	// and there is nothing to settle.
	Revision uint64  `json:"revision"`
	Verdict  Verdict `json:"verdict"`
	// Effect is what the attempt did to the host: done if it succeeded; none,
	// partial or unknown if it failed. None lets the same writ run once more,
	// so it says that no request of this attempt can still take effect either.
	// All others spend the nonce.
	Effect op.Effect `json:"effect"`
	Role   string    `json:"role"` // in which the signers sign
	// RequestedBy, NotBefore, ExpiresAt and Reason are as in a Document; the
	// times bound when the resolution may be handed in.
	RequestedBy string    `json:"requested_by"`
	NotBefore   time.Time `json:"not_before"`
	ExpiresAt   time.Time `json:"expires_at"`
	Reason      string    `json:"reason"`
}

// resolutionMembers are those that every resolution has.
func resolutionMembers() []string {
	return []string{
		"version", "nonce", "audience", "attempt", "revision", "verdict", "effect", "role", "requested_by", "not_before",
		"expires_at", "reason",
	}
}

func (r Resolution) frame() frame {
	return frame{
		nonce: r.Nonce, audience: r.Audience, role: r.Role, requestedBy: r.RequestedBy,
		notBefore: r.NotBefore, expiresAt: r.ExpiresAt, reason: r.Reason,
	}
}

// Check tells what is wrong with the form of a resolution, as a
// *MalformedError. It compares with no clock, policy or stream.
func (r Resolution) Check() error {
	if r.Version != ResolutionVersion {
		return malformed("version", "%d, this program knows only %d", r.Version, ResolutionVersion)
	}
	if err := r.frame().check(); err != nil {
		return err
	}
	if r.Attempt < 1 || r.Attempt > maxInteger {
		return malformed("attempt", "%d is not the number of an attempt: they count from 1", r.Attempt)
	}
	if r.Revision < 1 || r.Revision > maxInteger {
		return malformed("revision", "%d is not the revision of an event after the claim: 1 to %d is required", r.Revision, int64(maxInteger))
	}
	return r.checkVerdict()
}

// checkVerdict refuses a verdict and an effect that contradict each other.
func (r Resolution) checkVerdict() error {
	if !r.Effect.Known() {
		return malformed("effect", "%s is none of none, done, partial and unknown", quote(string(r.Effect)))
	}
	switch r.Verdict {
	case VerdictSucceeded:
		if r.Effect != op.EffectDone {
			return malformed("effect", "%s: an attempt succeeded only if its effect is done", r.Effect)
		}
		return nil
	case VerdictFailed:
		// Done by this attempt is what succeeded means. Done by other hands is
		// no effect of the attempt; who can't tell whose it was says unknown.
		if r.Effect == op.EffectDone {
			return malformed("effect", "done: an attempt whose effect is done has succeeded; if others did it, say none, or unknown if that is not certain")
		}
		return nil
	}
	return malformed("verdict", "%s is neither succeeded nor failed", quote(string(r.Verdict)))
}

// Encode gives the resolution's one sequence of bytes, or the *MalformedError
// of Check.
func (r Resolution) Encode() ([]byte, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	r.NotBefore, r.ExpiresAt = r.NotBefore.UTC(), r.ExpiresAt.UTC()
	data, err := json.Marshal(r)
	if err != nil {
		return nil, malformed("resolution", "%v", err)
	}
	return canonicalize(data)
}

// again is Encode: resolutions are few.
func (r Resolution) again() ([]byte, error) { return r.Encode() }

// parseResolution reads a resolution from the exact bytes that were signed.
func parseResolution(payload []byte) (Resolution, error) {
	return parsePayload[Resolution]("resolution", payload, resolutionMembers())
}

// An UnverifiedResolution is a resolution that is in form. Nothing in it is
// proven: anyone can have made it. It does not change and may be used
// concurrently.
type UnverifiedResolution struct {
	received

	resolution Resolution
}

// ParseResolution reads an envelope with a resolution; one with an op document
// is refused. The error is always a *MalformedError. The bytes are copied; not
// more than MaxEnvelopeBytes of them are ever looked at.
func ParseResolution(raw []byte) (*UnverifiedResolution, error) {
	env, err := parseEnvelope(raw, kindResolution)
	if err != nil {
		return nil, err
	}
	res, err := parseResolution(env.payload)
	if err != nil {
		return nil, err
	}
	return &UnverifiedResolution{received: receivedFrom(raw, env), resolution: res}, nil
}

// Nonce is the nonce of the op that is to be settled: a key to look up what is
// on record, no more.
func (u *UnverifiedResolution) Nonce() op.Nonce { return u.resolution.Nonce }

// String shows the resolution without giving the nonce away.
func (u *UnverifiedResolution) String() string {
	return "unverified resolution of " + u.Nonce().Short()
}

// UnverifiedResolution gives the resolution though nobody may have signed it.
// It is for showing it to a person, such as before they sign. Never decide or
// act on it: use [UnverifiedResolution.Verify].
func (u *UnverifiedResolution) UnverifiedResolution() Resolution { return u.resolution }

// Verify checks each signature as [Unverified.Verify] does.
func (u *UnverifiedResolution) Verify(trusted []Key) (*VerifiedResolution, []Outcome) {
	keys, outcomes := u.verify(trusted)
	if len(keys) == 0 {
		return nil, outcomes
	}
	return &VerifiedResolution{proven: u.proven(keys), resolution: u.resolution}, outcomes
}

// A VerifiedResolution is a resolution with the trusted keys that signed it,
// at least one. Only [UnverifiedResolution.Verify] makes it. It is immutable.
type VerifiedResolution struct {
	proven

	resolution Resolution
}

// String shows the resolution without giving the nonce away.
func (v *VerifiedResolution) String() string {
	return "verified resolution of " + v.resolution.Nonce.Short()
}

// Resolution gives what was signed.
func (v *VerifiedResolution) Resolution() Resolution { return v.resolution }

// SealResolution makes the envelope of a resolution, signed by each signer in
// turn. Without a signer it makes one that is still to be signed.
func SealResolution(res Resolution, signers ...Signer) ([]byte, error) {
	payload, err := res.Encode()
	return seal(kindResolution, payload, err, signers)
}
