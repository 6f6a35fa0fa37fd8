package signedop_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/crypto/ssh"

	"writ/domain/op"
	"writ/domain/signedop"
)

// Files of vectors, by the kind of document.
const (
	vectorsFile           = "testdata/vectors.json"
	resolutionVectorsFile = "testdata/resolution-vectors.json"
)

// A vector is one envelope and the verdict over it; testdata/README.md
// documents the members.
type vector struct {
	Name          string          `json:"name"`
	Envelope      []byte          `json:"envelope"`
	Trusted       []vectorKey     `json:"trusted,omitzero"`
	Result        string          `json:"result"`
	Field         string          `json:"field,omitzero"`
	Nonce         op.Nonce        `json:"nonce,omitzero"`
	PayloadSHA256 string          `json:"payload_sha256,omitzero"`
	Outcomes      []vectorOutcome `json:"outcomes,omitzero"`
}

type vectorKey struct {
	Key    string `json:"key"`
	Format string `json:"format"`
}

type vectorOutcome struct {
	KeyID       string `json:"keyid"`
	Result      string `json:"result"`
	Touched     bool   `json:"touched,omitzero"`
	PINVerified bool   `json:"pin_verified,omitzero"`
}

const (
	vectorSigned    = "signed"
	vectorNotSigned = "not signed"
	vectorMalformed = "malformed"
)

func TestVectorsAreUpToDate(t *testing.T) {
	for file, vs := range map[string][]vector{
		vectorsFile: makeVectors(t), resolutionVectorsFile: makeResolutionVectors(t),
	} {
		want, err := json.Marshal(vs, jsontext.WithIndent("  "), json.Deterministic(true))
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, '\n')
		if *update {
			if err := os.WriteFile(file, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := readFile(t, file); !bytes.Equal(got, want) {
			t.Errorf("%s differs from what the cases give; run the test with -update and review the change", file)
		}
	}
}

func readVectors(tb testing.TB, file string) []vector {
	tb.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	var vs []vector
	if err := json.Unmarshal(data, &vs, json.RejectUnknownMembers(true)); err != nil {
		tb.Fatal(err)
	}
	return vs
}

func (v vector) keys(tb testing.TB) []signedop.Key {
	tb.Helper()
	var keys []signedop.Key
	for _, k := range v.Trusted {
		f, err := signedop.ParseFormat(k.Format)
		if err != nil {
			tb.Fatal(err)
		}
		key, err := signedop.ParseKey(k.Key, f)
		if err != nil {
			tb.Fatal(err)
		}
		keys = append(keys, key)
	}
	return keys
}

func TestVectors(t *testing.T) {
	for _, k := range docKinds() {
		seen := make(map[string]bool)
		for _, v := range readVectors(t, k.vectors) {
			t.Run(k.name+"/"+v.Name, func(t *testing.T) {
				if seen[v.Name] {
					t.Fatal("two vectors have this name")
				}
				seen[v.Name] = true
				v.check(t, k)
			})
		}
	}
}

func (v vector) check(t *testing.T, k docKind) {
	t.Helper()
	u, err := k.parse(v.Envelope)
	if v.Result == vectorMalformed {
		m, ok := errors.AsType[*signedop.MalformedError](err)
		if !ok || m.Field != v.Field {
			t.Errorf("got %v, want malformed %s", err, v.Field)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if u.Nonce() != v.Nonce || u.Digest().String() != v.PayloadSHA256 {
		t.Errorf("got nonce %s, digest %s, want %s, %s", u.Nonce(), u.Digest(), v.Nonce, v.PayloadSHA256)
	}
	verified, outcomes := k.verify(u, v.keys(t))
	if (verified != nil) != (v.Result == vectorSigned) {
		t.Errorf("got %v, want %s", verified, v.Result)
	}
	var got []vectorOutcome
	for _, o := range outcomes {
		got = append(got, vectorOutcome{o.KeyID, o.Result.String(), o.Touched, o.PINVerified})
	}
	if !slices.Equal(got, v.Outcomes) {
		t.Errorf("outcomes: got %v, want %v", got, v.Outcomes)
	}
}

// makeVectors states each case with the verdict it must get; none of the
// verdicts is asked of the code under test.
func makeVectors(t *testing.T) []vector {
	t.Helper()
	alice, bob, mallory := rawSigner(t, "alice"), sshSigner(t, "bob"), rawSigner(t, "mallory")
	token, ecToken := newFIDO(t, "token", 0x01), newFIDOECDSA(t, "ec token", 0x05)
	trusted := trustedVectorKeys(t)
	wellFormed := func(name string, doc signedop.Document, outcomes []vectorOutcome, sigs ...[]byte) vector {
		v := wellFormedVector(name, signedop.PayloadType, encode(t, doc), outcomes, sigs...)
		v.Trusted, v.Nonce = trusted, doc.Nonce
		return v
	}
	touched, both := out(token, valid), out(ecToken, valid)
	touched.Touched, both.Touched, both.PINVerified = true, true, true

	m := orderPAE(t)
	container := pae(encode(t, containerOrder()))
	noDisks := withDoc(order(), func(d *signedop.Document) { d.Expect.Volumes = []string{} })
	escapes := withDoc(order(), func(d *signedop.Document) { d.Reason = `"quoted" \ </script> & für 東京 😀` })
	untouched := newFIDO(t, "token", 0x00)
	lying := newFIDO(t, "token", 0x01)
	lying.bend = func(s *ssh.Signature) { s.Rest[0] = 0x05 }
	sign := func(s signedop.Signer, message []byte) []byte { return must(t, s, message) }

	vs := []vector{
		wellFormed("no signature yet", order(), nil),
		wellFormed("one raw signature", order(), outs(out(alice, valid)), sign(alice, m)),
		wellFormed("one ssh signature", order(), outs(out(bob, valid)), sign(bob, m)),
		wellFormed("a FIDO signature with touch", order(), outs(touched), sign(token, m)),
		wellFormed("a FIDO ECDSA signature with touch and PIN", order(), outs(both), sign(ecToken, m)),
		wellFormed("four people", order(), outs(out(alice, valid), out(bob, valid), touched, both),
			sign(alice, m), sign(bob, m), sign(token, m), sign(ecToken, m)),
		wellFormed("a container", containerOrder(), outs(out(alice, valid)), sign(alice, container)),
		wellFormed("a guest without volumes", noDisks, outs(out(alice, valid)), sign(alice, pae(encode(t, noDisks)))),
		wellFormed("text that tempts to escape", escapes, outs(out(alice, valid)), sign(alice, pae(encode(t, escapes)))),

		wellFormed("a stranger's signature", order(), outs(out(mallory, unknown)), sign(mallory, m)),
		wellFormed("a stranger's beside a valid one", order(), outs(out(mallory, unknown), out(alice, valid)), sign(mallory, m), sign(alice, m)),
		wellFormed("a stranger's under a trusted key id", order(), outs(out(alice, bad)), sign(mallory, m)),
		wellFormed("one key twice", order(), outs(out(alice, valid), out(alice, repeated)), sign(alice, m), sign(alice, m)),
		wellFormed("junk before the valid one", order(), outs(out(alice, bad), out(alice, valid)), make([]byte, 64), sign(alice, m)),
		wellFormed("over another document", order(), outs(out(alice, bad)), sign(alice, container)),
		wellFormed("over the same bytes as a resolution", order(), outs(out(alice, bad)), sign(alice, paeOf(signedop.ResolutionPayloadType, encode(t, order())))),
		wellFormed("over the bare payload", order(), outs(out(alice, bad)), sign(alice, encode(t, order()))),
		wellFormed("raw where ssh is enrolled", order(), outs(out(bob, bad)), sign(rawSigner(t, "bob"), m)),
		wellFormed("ssh where raw is enrolled", order(), outs(out(alice, bad)), sign(sshSigner(t, "alice"), m)),
		wellFormed("raw, S plus the group's order", order(), outs(out(alice, bad)), plusOrder(sign(alice, m))),
		wellFormed("raw, a byte too long", order(), outs(out(alice, bad)), append(sign(alice, m), 0)),
		wellFormed("ssh, another namespace", order(), outs(out(bob, bad)), sshBlob("bob", "file", "", "sha512", m)),
		wellFormed("ssh, the namespace of resolutions", order(), outs(out(bob, bad)), sshBlob("bob", signedop.ResolutionSSHNamespace, "", "sha512", m)),
		wellFormed("ssh, sha256", order(), outs(out(bob, bad)), sshBlob("bob", signedop.SSHNamespace, "", "sha256", m)),
		wellFormed("ssh, reserved field in use", order(), outs(out(bob, bad)), sshBlob("bob", signedop.SSHNamespace, "x", "sha512", m)),
		wellFormed("ssh, another key inside", order(), outs(out(bob, bad)), sshBlob("mallory", signedop.SSHNamespace, "", "sha512", m)),
		wellFormed("ssh, a byte too long", order(), outs(out(bob, bad)), append(sign(bob, m), 0)),
		wellFormed("FIDO, not touched", order(), outs(out(token, bad)), sign(untouched, m)),
		wellFormed("FIDO, PIN claimed and not signed", order(), outs(out(token, bad)), sign(lying, m)),
	}
	for _, c := range documentCases() {
		payload := c.bend(t, documentText(encode(t, order()), c.old))
		raw := rawEnvelope(payload, signRaw(t, "alice", payload))
		vs = append(vs, vector{Name: "document: " + c.name, Envelope: raw, Result: vectorMalformed, Field: c.field})
	}
	for _, c := range envelopeCases(t) {
		raw := c.bend(t, seal(t, order(), alice))
		vs = append(vs, vector{Name: "envelope: " + c.name, Envelope: raw, Result: vectorMalformed, Field: c.field})
	}
	settled := encodeResolution(t, settlement())
	return append(vs,
		vector{Name: "a signed resolution", Envelope: sealResolution(t, settlement(), alice), Result: vectorMalformed, Field: "payloadType"},
		vector{Name: "a resolution as an order", Envelope: rawEnvelope(settled, signRaw(t, "alice", settled)), Result: vectorMalformed, Field: "class"},
	)
}

// wellFormedVector is one of an envelope in form; a signature for each outcome.
func wellFormedVector(name, payloadType string, payload []byte, outcomes []vectorOutcome, sigs ...[]byte) vector {
	digest := sha256.Sum256(payload)
	v := vector{Name: name, Result: vectorNotSigned, PayloadSHA256: hex.EncodeToString(digest[:]), Outcomes: outcomes}
	var es []sig
	for i, b := range sigs {
		es = append(es, sigOf(signedop.Key{Fingerprint: outcomes[i].KeyID}, b))
		if outcomes[i].Result == valid.String() {
			v.Result = vectorSigned
		}
	}
	v.Envelope = rawEnvelopeOf(payloadType, payload, es...)
	return v
}

func out(s signedop.Signer, r signedop.Result) vectorOutcome {
	return vectorOutcome{KeyID: s.Key().Fingerprint, Result: r.String()}
}

func outs(os ...vectorOutcome) []vectorOutcome { return os }

func trustedVectorKeys(tb testing.TB) []vectorKey {
	tb.Helper()
	var keys []vectorKey
	for _, s := range trustedSigners(tb) {
		k := s.Key()
		line := string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(k.Public)))
		keys = append(keys, vectorKey{Key: line, Format: k.Format.String()})
	}
	return keys
}

// trustedSigners are those whom the vectors and the fuzzing trust.
func trustedSigners(tb testing.TB) []signedop.Signer {
	tb.Helper()
	return []signedop.Signer{
		rawSigner(tb, "alice"), sshSigner(tb, "bob"), newFIDO(tb, "token", 0x01), newFIDOECDSA(tb, "ec token", 0x05),
	}
}
