package signedop

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
)

// Bounds of an envelope. They hold before any signature is looked at.
const (
	// MaxEnvelopeBytes bounds the whole envelope.
	MaxEnvelopeBytes = 64 << 10
	// MaxSignatures bounds how many signatures an envelope holds.
	MaxSignatures = 16
)

// An envelope is a DSSE envelope, decoded: the exact payload bytes, what they
// are, and the signatures. It knows nothing of what the payload says.
type envelope struct {
	kind       kind
	payload    []byte
	signatures []signature
}

type signature struct {
	keyID string // fingerprint of the key that claims to have made it
	sig   []byte
}

// The envelope's JSON form.
type (
	wireEnvelope struct {
		Payload     string          `json:"payload"`
		PayloadType string          `json:"payloadType"`
		Signatures  []wireSignature `json:"signatures"`
	}
	wireSignature struct {
		KeyID string `json:"keyid"`
		Sig   string `json:"sig"`
	}
)

// parseEnvelope reads an envelope with a payload of one of the given kinds;
// the error is a *MalformedError.
func parseEnvelope(raw []byte, allowed ...kind) (envelope, error) {
	if len(raw) > MaxEnvelopeBytes {
		return envelope{}, malformed("envelope", "%d bytes, at most %d are allowed", len(raw), MaxEnvelopeBytes)
	}
	if env, ok := readEnvelope(raw, allowed); ok {
		return env, nil
	}
	return parseEnvelopeClosely(raw, allowed)
}

// readEnvelope reads an envelope that is, byte for byte, what appendTo gives
// for what was read from it: how the members are found then proves nothing and
// need not. Nearly every envelope is of this kind; of any other it says nothing.
func readEnvelope(raw []byte, allowed []kind) (envelope, bool) {
	rest, ok := strings.CutPrefix(string(raw), envelopeBegin)
	payload, rest, ok2 := strings.Cut(rest, envelopeType)
	typ, rest, ok3 := strings.Cut(rest, envelopeSignatures)
	is := slices.IndexFunc(allowed, func(k kind) bool { return typ == k.payloadType() })
	if !ok || !ok2 || !ok3 || is < 0 {
		return envelope{}, false
	}
	env := envelope{kind: allowed[is]}
	var err error
	if env.payload, err = decodeBase64(payload); err != nil {
		return envelope{}, false
	}
	for rest != envelopeEnd {
		var keyID, sig string
		rest = strings.TrimPrefix(strings.TrimPrefix(rest, ","), signatureBegin)
		keyID, rest, ok = strings.Cut(rest, signatureSig)
		sig, rest, ok2 = strings.Cut(rest, signatureEnd)
		if !ok || !ok2 || len(env.signatures) == MaxSignatures || checkFingerprint(keyID) != nil {
			return envelope{}, false
		}
		s := signature{keyID: strings.Clone(keyID)} // not a piece of the whole
		if s.sig, err = decodeBase64(sig); err != nil {
			return envelope{}, false
		}
		env.signatures = append(env.signatures, s)
	}
	return env, bytes.Equal(raw, env.appendTo(make([]byte, 0, len(raw))))
}

// parseEnvelopeClosely takes every rule one after the other, to say which one
// an envelope breaks. What it lets through is what readEnvelope does.
func parseEnvelopeClosely(raw []byte, allowed []kind) (envelope, error) {
	var wire wireEnvelope
	if err := decodeStrict("envelope", raw, []string{"payload", "payloadType", "signatures"}, &wire); err != nil {
		return envelope{}, err
	}
	is := slices.IndexFunc(allowed, func(k kind) bool { return wire.PayloadType == k.payloadType() })
	if is < 0 {
		return envelope{}, malformed("payloadType", "%s, %s is required", quote(wire.PayloadType), payloadTypes(allowed))
	}
	if n := len(wire.Signatures); n > MaxSignatures {
		return envelope{}, malformed("signatures", "%d signatures, at most %d are allowed", n, MaxSignatures)
	}
	env := envelope{kind: allowed[is]}
	var err error
	if env.payload, err = decodeBase64(wire.Payload); err != nil {
		return envelope{}, malformed("payload", "%v", err)
	}
	for i, w := range wire.Signatures {
		if err := checkFingerprint(w.KeyID); err != nil {
			return envelope{}, malformed(fmt.Sprintf("signatures[%d].keyid", i), "%v", err)
		}
		sig, err := decodeBase64(w.Sig)
		if err != nil {
			return envelope{}, malformed(fmt.Sprintf("signatures[%d].sig", i), "%v", err)
		}
		env.signatures = append(env.signatures, signature{keyID: w.KeyID, sig: sig})
	}
	return env, nil
}

// encode gives the envelope's one sequence of bytes, or a *MalformedError if
// it is beyond the bounds.
func (e envelope) encode() ([]byte, error) {
	for i, s := range e.signatures {
		if err := checkFingerprint(s.keyID); err != nil {
			return nil, malformed(fmt.Sprintf("signatures[%d].keyid", i), "%v", err)
		}
	}
	raw := e.appendTo(nil)
	// Nothing leaves here that would not be let in.
	if len(raw) > MaxEnvelopeBytes {
		return nil, malformed("envelope", "%d bytes, at most %d are allowed", len(raw), MaxEnvelopeBytes)
	}
	if _, err := parseEnvelopeClosely(raw, []kind{e.kind}); err != nil {
		return nil, err
	}
	return raw, nil
}

// The text between what varies in an envelope, in the canonical form of RFC
// 8785: the names are sorted.
const (
	envelopeBegin      = `{"payload":"`
	envelopeType       = `","payloadType":"`
	envelopeSignatures = `","signatures":[`
	signatureBegin     = `{"keyid":"`
	signatureSig       = `","sig":"`
	signatureEnd       = `"}`
	envelopeEnd        = `]}`
)

// appendTo gives the envelope in its canonical form. What varies in it (base64,
// fingerprints that were checked, payload types) holds no character that JSON
// would escape.
func (e envelope) appendTo(b []byte) []byte {
	b = base64.StdEncoding.AppendEncode(append(b, envelopeBegin...), e.payload)
	b = append(append(b, envelopeType...), e.kind.payloadType()...)
	b = append(b, envelopeSignatures...)
	for i, s := range e.signatures {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(b, signatureBegin...), s.keyID...)
		b = base64.StdEncoding.AppendEncode(append(b, signatureSig...), s.sig)
		b = append(b, signatureEnd...)
	}
	return append(b, envelopeEnd...)
}

// pae is what is signed: the DSSE pre-authentication encoding.
func (e envelope) pae() []byte { return dsse.PAE(e.kind.payloadType(), e.payload) }

// decodeBase64 accepts the one standard encoding of at least one byte: padded,
// trailing bits zero, no line ends (Go's decoder skips those).
func decodeBase64(s string) ([]byte, error) {
	if s == "" {
		return nil, fmt.Errorf("missing or empty: standard base64 is required")
	}
	if i := strings.IndexAny(s, "\r\n"); i >= 0 {
		return nil, fmt.Errorf("line end at character %d: standard base64 without any is required", i)
	}
	data, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("not standard base64 with padding: %s", printable(err.Error()))
	}
	return data, nil
}

const fingerprintPrefix = "SHA256:"

// checkFingerprint refuses what is not the SHA-256 fingerprint of a key as
// OpenSSH shows it.
func checkFingerprint(s string) error {
	digest, ok := strings.CutPrefix(s, fingerprintPrefix)
	if ok && !strings.ContainsAny(digest, "\r\n") {
		if sum, err := base64.RawStdEncoding.Strict().DecodeString(digest); err == nil && len(sum) == sha256.Size {
			return nil
		}
	}
	return fmt.Errorf("%s is not a key's fingerprint: %s and 43 characters of base64 are required", quote(s), fingerprintPrefix)
}
