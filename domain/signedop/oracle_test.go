package signedop_test

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"writ/domain/signedop"
)

// A dsseKey lets the DSSE library's verifier use an Ed25519 key.
type dsseKey struct {
	id  string
	pub ed25519.PublicKey
}

func (k dsseKey) Verify(_ context.Context, data, sig []byte) error {
	if !ed25519.Verify(k.pub, data, sig) {
		return errors.New("bad signature")
	}
	return nil
}

func (k dsseKey) KeyID() (string, error)   { return k.id, nil }
func (k dsseKey) Public() crypto.PublicKey { return k.pub }

// On plain envelopes the DSSE library's own verifier and ours agree, so what
// we make and accept is DSSE. (It is laxer: it takes payloads in two kinds of
// base64 and JSON in any form. It is not used outside of this test.)
func TestTheDSSELibraryAgrees(t *testing.T) {
	alice, bob, mallory := rawSigner(t, "alice"), rawSigner(t, "bob"), rawSigner(t, "mallory")
	trusted := keysOf(alice, bob)
	payload := encode(t, order())
	other := encode(t, containerOrder())
	a, b, m := signRaw(t, "alice", payload), signRaw(t, "bob", payload), signRaw(t, "mallory", payload)
	for _, c := range []struct {
		name string
		raw  []byte
		want int
	}{
		{"one signature", seal(t, order(), alice), 1},
		{"two signatures", seal(t, order(), alice, bob), 2},
		{"a stranger's", seal(t, order(), mallory), 0},
		{"a stranger's beside a good one", rawEnvelope(payload, m, b), 1},
		{"one key twice", rawEnvelope(payload, a, a), 1},
		{"junk under a trusted key id", rawEnvelope(payload, sig{a.keyID, m.sig}, b), 1},
		{"over another payload", rawEnvelope(other, a), 0},
		{"no signature", rawEnvelope(payload), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, outcomes := parse(t, c.raw).Verify(trusted)
			if got := len(fingerprints(v)); got != c.want {
				t.Errorf("ours: got %d keys, %v, want %d", got, outcomes, c.want)
			}
			if got := dsseCount(t, c.raw, trusted); got != c.want {
				t.Errorf("the library's: got %d keys, want %d", got, c.want)
			}
		})
	}
}

// dsseCount tells how many keys the library accepts.
func dsseCount(t *testing.T, raw []byte, trusted []signedop.Key) int {
	t.Helper()
	var providers []dsse.Verifier
	for _, k := range trusted {
		providers = append(providers, dsseKey{k.Fingerprint, ed25519.PublicKey(k.Material())})
	}
	verifier, err := dsse.NewEnvelopeVerifier(providers...)
	if err != nil {
		t.Fatal(err)
	}
	var env dsse.Envelope
	if err := json.Unmarshal(raw, &env); err != nil {
		t.Fatal(err)
	}
	accepted, err := verifier.Verify(t.Context(), &env)
	if err != nil {
		return 0
	}
	return len(accepted)
}
