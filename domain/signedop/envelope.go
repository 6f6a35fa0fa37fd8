package signedop

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
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
	wire := wireEnvelope{
		Payload:     base64.StdEncoding.EncodeToString(e.payload),
		PayloadType: e.kind.payloadType(),
		Signatures:  []wireSignature{},
	}
	for _, s := range e.signatures {
		wire.Signatures = append(wire.Signatures, wireSignature{KeyID: s.keyID, Sig: base64.StdEncoding.EncodeToString(s.sig)})
	}
	data, err := json.Marshal(wire)
	if err != nil {
		return nil, malformed("envelope", "%v", err)
	}
	raw, err := canonicalize(data)
	if err != nil {
		return nil, malformed("envelope", "%v", err)
	}
	// Nothing leaves here that would not be let in.
	if _, err := parseEnvelope(raw, e.kind); err != nil {
		return nil, err
	}
	return raw, nil
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
