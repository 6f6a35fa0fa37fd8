// Package signedop is the writ itself: the op document, which says what may be
// done once, and the DSSE envelope that carries its exact bytes and the
// signatures over them.
//
// A signer fills in a [Document] and calls [Seal]; more people add theirs with
// [Cosign], or with [Attach] when the signature was made elsewhere, such as by
// "ssh-keygen -Y sign" over the bytes that [PAEOf] gives. A receiver calls
// [Parse]. What it returns is not verified, so it shows only a nonce to look
// up, a digest, and who claims to have signed; the document comes out of
// [Unverified.Verify] alone, and only if at least one of the trusted keys made
// a signature over exactly these bytes. Whether the keys suffice (people,
// roles, quorum, touch) is the gate's business, not this package's.
//
// There is one parser, and it is strict. Envelope and document must each be
// in the canonical form of RFC 8785, hold every member once and none that is
// unknown, no null, and no number but plain integers. So there is exactly one
// sequence of bytes for a document, and nothing that two readers could
// understand differently. All bounds hold before the first signature is
// checked.
//
// Which algorithm and which format a signature has is said by the trusted
// [Key], never by the message. Ed25519 is verified without the cofactor and
// with S below the group order, as crypto/ed25519 and OpenSSH do: nobody can
// turn a signature into a second one of the same message. ECDSA (sk-ecdsa
// keys) has no such rule: who holds the signature (r, s) can make (r, -s). And
// anyone can leave out a signature or add one that does not count. All this
// changes the envelope and neither the document nor who signed it. So a writ
// is identified by its nonce and the digest of its document, never by its
// envelope's bytes.
//
// The package does no I/O and reads no clock. Values are safe to read from
// several goroutines.
package signedop

import (
	"bytes"
	"crypto/sha256"
	"slices"

	"writ/domain/op"
)

// PayloadType is the DSSE payload type of an op document, version 1.
const PayloadType = "application/vnd.writ.op.v1+json"

// An Unverified is a writ that is in form. Nothing in it is proven: anyone can
// have made it. It does not change and may be used concurrently.
type Unverified struct {
	raw      []byte
	envelope envelope
	doc      Document
	checks   checks
}

// Parse reads an envelope with an op document. The error is always a
// *MalformedError. The bytes are copied; not more than MaxEnvelopeBytes of
// them are ever looked at.
func Parse(raw []byte) (*Unverified, error) {
	env, err := parseEnvelope(raw, PayloadType)
	if err != nil {
		return nil, err
	}
	doc, err := parseDocument(env.payload)
	if err != nil {
		return nil, err
	}
	return &Unverified{raw: bytes.Clone(raw), envelope: env, doc: doc}, nil
}

// Nonce is the document's nonce: a key to look up what is on record, no more.
func (u *Unverified) Nonce() op.Nonce { return u.doc.Nonce }

// Digest is the SHA-256 of the document's exact bytes.
func (u *Unverified) Digest() op.Digest { return sha256.Sum256(u.envelope.payload) }

// String shows the writ without giving the nonce away.
func (u *Unverified) String() string { return "unverified writ " + u.Nonce().Short() }

// Raw gives the envelope exactly as received, in a copy.
func (u *Unverified) Raw() []byte { return bytes.Clone(u.raw) }

// IsOf tells whether the writ was parsed from exactly these bytes.
func (u *Unverified) IsOf(raw []byte) bool { return bytes.Equal(u.raw, raw) }

// SignatureInfo is what a signature says of itself.
type SignatureInfo struct {
	KeyID string // claimed fingerprint, well formed, not verified
}

// Signatures gives the claimed signers in the order of the envelope; none for
// a writ that is still to be signed.
func (u *Unverified) Signatures() []SignatureInfo {
	infos := make([]SignatureInfo, len(u.envelope.signatures))
	for i, s := range u.envelope.signatures {
		infos[i] = SignatureInfo{KeyID: s.keyID}
	}
	return infos
}

// UnverifiedDocument gives the document though nobody may have signed it. It
// is for showing a writ to a person, such as before they sign it. Never decide
// or act on it: use [Unverified.Verify].
func (u *Unverified) UnverifiedDocument() Document { return u.doc.clone() }

// Verify checks each signature against the trusted key that its key id names.
// There is one outcome for each signature, in the order of the envelope. A
// signature that does not count never spoils one that does. The first result
// is nil if none is valid.
func (u *Unverified) Verify(trusted []Key) (*Verified, []Outcome) {
	keys, outcomes := u.envelope.verify(trusted, &u.checks)
	if len(keys) == 0 {
		return nil, outcomes
	}
	return &Verified{doc: u.doc.clone(), digest: u.Digest(), keys: keys}, outcomes
}

// A Verified is an op document with the trusted keys that signed it, at least
// one. Only [Unverified.Verify] makes it. It is immutable.
type Verified struct {
	doc    Document
	digest op.Digest
	keys   []VerifiedKey
}

// String shows the writ without giving the nonce away.
func (v *Verified) String() string { return "verified writ " + v.doc.Nonce.Short() }

// Document gives what was signed, in a copy.
func (v *Verified) Document() Document { return v.doc.clone() }

// Digest is the SHA-256 of the exact bytes that were signed.
func (v *Verified) Digest() op.Digest { return v.digest }

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
func (v *Verified) Keys() []VerifiedKey { return slices.Clone(v.keys) }
