package signedop_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"writ/domain/op"
	"writ/domain/signedop"
)

// A docKind is one kind of document, for what holds for all of them.
type docKind struct {
	name        string
	payloadType string
	namespace   string
	vectors     string
	sample      func(tb testing.TB, signers ...signedop.Signer) []byte
	parse       func(raw []byte) (envelopeView, error)
	payload     func(tb testing.TB, u envelopeView) []byte // encoded again
	verify      func(u envelopeView, trusted []signedop.Key) (verifiedView, []signedop.Outcome)
}

// What both kinds show before and after verification.
type (
	envelopeView interface {
		Nonce() op.Nonce
		Digest() op.Digest
		Raw() []byte
		IsOf(raw []byte) bool
		Signatures() []signedop.SignatureInfo
	}
	verifiedView interface {
		Digest() op.Digest
		Keys() []signedop.VerifiedKey
	}
)

func docKinds() []docKind { return []docKind{orders(), resolutions()} }

func orders() docKind {
	as := func(u envelopeView) *signedop.Unverified {
		w, ok := u.(*signedop.Unverified)
		if !ok {
			panic("not an order")
		}
		return w
	}
	return docKind{
		name: "order", payloadType: signedop.PayloadType, namespace: signedop.SSHNamespace, vectors: vectorsFile,
		sample: func(tb testing.TB, signers ...signedop.Signer) []byte {
			tb.Helper()
			return seal(tb, order(), signers...)
		},
		parse: func(raw []byte) (envelopeView, error) {
			u, err := signedop.Parse(raw)
			if err != nil {
				return nil, err // not a nil of a type
			}
			return u, nil
		},
		payload: func(tb testing.TB, u envelopeView) []byte { tb.Helper(); return encode(tb, as(u).UnverifiedDocument()) },
		verify: func(u envelopeView, trusted []signedop.Key) (verifiedView, []signedop.Outcome) {
			v, outcomes := as(u).Verify(trusted)
			if v == nil {
				return nil, outcomes
			}
			return v, outcomes
		},
	}
}

func resolutions() docKind {
	as := func(u envelopeView) *signedop.UnverifiedResolution {
		r, ok := u.(*signedop.UnverifiedResolution)
		if !ok {
			panic("not a resolution")
		}
		return r
	}
	return docKind{
		name: "resolution", payloadType: signedop.ResolutionPayloadType, namespace: signedop.ResolutionSSHNamespace,
		vectors: resolutionVectorsFile,
		sample: func(tb testing.TB, signers ...signedop.Signer) []byte {
			tb.Helper()
			return sealResolution(tb, settlement(), signers...)
		},
		parse: func(raw []byte) (envelopeView, error) {
			u, err := signedop.ParseResolution(raw)
			if err != nil {
				return nil, err // not a nil of a type
			}
			return u, nil
		},
		payload: func(tb testing.TB, u envelopeView) []byte {
			tb.Helper()
			return encodeResolution(tb, as(u).UnverifiedResolution())
		},
		verify: func(u envelopeView, trusted []signedop.Key) (verifiedView, []signedop.Outcome) {
			v, outcomes := as(u).Verify(trusted)
			if v == nil {
				return nil, outcomes
			}
			return v, outcomes
		},
	}
}

// inNamespace makes an authenticator sign in the namespace of a kind.
func (k docKind) inNamespace(f *fidoKey) *fidoKey {
	f.namespace = k.namespace
	return f
}

// An order is never a resolution, nor a resolution an order: not whole, not
// with its type exchanged, and not by the other's signatures.
func TestKindsNeverPassForEachOther(t *testing.T) {
	alice, bob := rawSigner(t, "alice"), sshSigner(t, "bob")
	for _, k := range docKinds() {
		for _, other := range docKinds() {
			if other.name == k.name {
				continue
			}
			raw := k.sample(t, alice, bob)
			_, err := other.parse(raw)
			m, ok := errors.AsType[*signedop.MalformedError](err)
			if !ok || m.Field != "payloadType" || !strings.Contains(m.Why, other.payloadType) {
				t.Errorf("%s read as %s: got %v, want payloadType to be refused", k.name, other.name, err)
			}
			relabelled := bytes.Replace(raw, []byte(k.payloadType), []byte(other.payloadType), 1)
			for _, any := range docKinds() {
				if u, err := any.parse(relabelled); err == nil {
					t.Errorf("%s with the type of %s was read as %s: %v", k.name, other.name, any.name, u)
				}
			}
			if _, err := signedop.PAEOf(relabelled); err == nil {
				t.Errorf("%s with the type of %s can be signed", k.name, other.name)
			}
			if _, err := signedop.Cosign(relabelled, rawSigner(t, "carol")); err == nil {
				t.Errorf("%s with the type of %s can be cosigned", k.name, other.name)
			}

			u, err := k.parse(raw)
			if err != nil {
				t.Fatal(err)
			}
			payload := k.payload(t, u)
			right, wrong := paeOf(k.payloadType, payload), paeOf(other.payloadType, payload)
			token := newFIDO(t, "token", 0x05)
			for _, c := range []struct {
				name string
				key  signedop.Key
				sig  []byte
				want signedop.Result
			}{
				{"raw", alice.Key(), must(t, alice, right), valid},
				{"raw over the other type", alice.Key(), must(t, alice, wrong), bad},
				{"ssh", bob.Key(), must(t, bob, right), valid},
				{"ssh over the other type", bob.Key(), must(t, bob, wrong), bad},
				{"ssh over this type in the other's namespace", bob.Key(), sshBlob("bob", other.namespace, "", "sha512", right), bad},
				{"ssh over the other type in this namespace", bob.Key(), sshBlob("bob", k.namespace, "", "sha512", wrong), bad},
				{"FIDO", token.Key(), must(t, k.inNamespace(token), right), valid},
				{"FIDO over this type in the other's namespace", token.Key(), must(t, other.inNamespace(token), right), bad},
			} {
				u, err := k.parse(rawEnvelopeOf(k.payloadType, payload, sigOf(c.key, c.sig)))
				if err != nil {
					t.Fatal(err)
				}
				if _, outcomes := k.verify(u, []signedop.Key{c.key}); outcomes[0].Result != c.want {
					t.Errorf("%s, %s: got %+v, want %v", k.name, c.name, outcomes[0], c.want)
				}
				if _, err := signedop.Attach(k.sample(t), c.key, c.sig); (err == nil) != (c.want == valid) {
					t.Errorf("%s, %s: attach gives %v, want it %v", k.name, c.name, err, c.want)
				}
			}
		}
	}
}

// A signer of format SSH signs nothing of which it does not know the
// namespace.
func TestSSHSignersSignOnlyDocuments(t *testing.T) {
	bob := sshSigner(t, "bob")
	for name, message := range map[string][]byte{
		"text":               []byte("other"),
		"nothing":            nil,
		"a bare payload":     encode(t, order()),
		"an unknown type":    paeOf("application/vnd.writ.op.v2+json", encode(t, order())),
		"a longer type":      paeOf(signedop.PayloadType+"x", encode(t, order())),
		"a type cut short":   paeOf(signedop.PayloadType[:20], encode(t, order())),
		"a type of no bytes": []byte("DSSEv1 0 " + signedop.PayloadType + " 0 "),
	} {
		if sig, err := bob.Sign(message); err == nil {
			t.Errorf("%s: got a signature of %d bytes, want an error", name, len(sig))
		}
	}
}
