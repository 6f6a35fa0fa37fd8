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
// A [Resolution] settles an op that the evidence does not decide. It is sealed
// by [SealResolution], read by [ParseResolution], and otherwise treated the
// same: Cosign, Attach and PAEOf work for both. It has a payload type and an
// SSHSIG namespace of its own, so that a signature over one kind never counts
// for the other.
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

import "writ/domain/op"

// PayloadType is the DSSE payload type of an op document, version 1.
const PayloadType = "application/vnd.writ.op.v1+json"

// An Unverified is a writ that is in form. Nothing in it is proven: anyone can
// have made it. It does not change and may be used concurrently.
type Unverified struct {
	received

	doc Document
}

// Parse reads an envelope with an op document; one with a resolution is
// refused. The error is always a *MalformedError. The bytes are copied; not
// more than MaxEnvelopeBytes of them are ever looked at.
func Parse(raw []byte) (*Unverified, error) {
	env, err := parseEnvelope(raw, kindOp)
	if err != nil {
		return nil, err
	}
	doc, err := parseDocument(env.payload)
	if err != nil {
		return nil, err
	}
	return &Unverified{received: receivedFrom(raw, env), doc: doc}, nil
}

// Nonce is the document's nonce: a key to look up what is on record, no more.
func (u *Unverified) Nonce() op.Nonce { return u.doc.Nonce }

// String shows the writ without giving the nonce away.
func (u *Unverified) String() string { return "unverified writ " + u.Nonce().Short() }

// UnverifiedDocument gives the document though nobody may have signed it. It
// is for showing a writ to a person, such as before they sign it. Never decide
// or act on it: use [Unverified.Verify].
func (u *Unverified) UnverifiedDocument() Document { return u.doc.clone() }

// Verify checks each signature against the trusted key that its key id names.
// There is one outcome for each signature, in the order of the envelope. A
// signature that does not count never spoils one that does. The first result
// is nil if none is valid.
func (u *Unverified) Verify(trusted []Key) (*Verified, []Outcome) {
	keys, outcomes := u.verify(trusted)
	if len(keys) == 0 {
		return nil, outcomes
	}
	return &Verified{proven: u.proven(keys), doc: &u.doc}, outcomes
}

// A Verified is an op document with the trusted keys that signed it, at least
// one. Only [Unverified.Verify] makes it. It is immutable.
type Verified struct {
	proven

	doc *Document // of the Unverified, and as unchangeable
}

// String shows the writ without giving the nonce away.
func (v *Verified) String() string { return "verified writ " + v.doc.Nonce.Short() }

// Document gives what was signed, in a copy.
func (v *Verified) Document() Document { return v.doc.clone() }
