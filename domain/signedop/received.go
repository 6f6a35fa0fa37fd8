package signedop

import (
	"bytes"
	"slices"

	"writ/domain/op"
)

// received is an envelope that is in form, whatever kind of document it holds.
type received struct {
	raw      []byte
	envelope envelope
	digest   op.Digest // of the payload
	checks   checks
}

// receivedFrom keeps a copy of the bytes beside what was read from them.
func receivedFrom(raw []byte, env envelope) received {
	return received{raw: bytes.Clone(raw), envelope: env, digest: op.DigestOf(env.payload)}
}

// Digest is the SHA-256 of the document's exact bytes.
func (r *received) Digest() op.Digest { return r.digest }

// Raw gives the envelope exactly as received, in a copy.
func (r *received) Raw() []byte { return bytes.Clone(r.raw) }

// IsOf tells whether it was parsed from exactly these bytes.
func (r *received) IsOf(raw []byte) bool { return bytes.Equal(r.raw, raw) }

// SignatureInfo is what a signature says of itself.
type SignatureInfo struct {
	KeyID string // claimed fingerprint, well formed, not verified
}

// Signatures gives the claimed signers in the order of the envelope; none if
// it is still to be signed.
func (r *received) Signatures() []SignatureInfo {
	infos := make([]SignatureInfo, len(r.envelope.signatures))
	for i, s := range r.envelope.signatures {
		infos[i] = SignatureInfo{KeyID: s.keyID}
	}
	return infos
}

func (r *received) verify(trusted []Key) ([]VerifiedKey, []Outcome) {
	return r.envelope.verify(trusted, &r.checks)
}

func (r *received) proven(keys []VerifiedKey) proven { return proven{digest: r.digest, keys: keys} }

// proven is what is known of a document whose signatures were verified,
// whatever kind it is of.
type proven struct {
	digest op.Digest
	keys   []VerifiedKey
}

// Digest is the SHA-256 of the exact bytes that were signed.
func (p *proven) Digest() op.Digest { return p.digest }

// A VerifiedKey is a trusted key that signed.
type VerifiedKey struct {
	Fingerprint string
	// Touched tells that a FIDO key vouches for a touch; PINVerified, that it
	// asked for its PIN or the like. Both are part of what was signed and
	// always false for other kinds of key.
	Touched, PINVerified bool
}

// Keys gives the keys that signed, each once, in the order of their first
// valid signature.
func (p *proven) Keys() []VerifiedKey { return slices.Clone(p.keys) }
