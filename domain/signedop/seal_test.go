package signedop_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"writ/domain/signedop"
)

func TestSealCosignAttach(t *testing.T) {
	alice, bob, token, carol := rawSigner(t, "alice"), sshSigner(t, "bob"), newFIDO(t, "token", 0x05), rawSigner(t, "carol")
	raw := seal(t, order())
	if u := parse(t, raw); len(u.Signatures()) != 0 {
		t.Fatalf("got %v, want no signature", u.Signatures())
	}
	toSign, err := signedop.PAEOf(raw)
	if err != nil {
		t.Fatal(err)
	}
	if want := orderPAE(t); !bytes.Equal(toSign, want) {
		t.Fatalf("PAE: got %q, want %q", toSign, want)
	}
	for _, s := range []signedop.Signer{alice, bob} {
		if raw, err = signedop.Cosign(raw, s); err != nil {
			t.Fatal(err)
		}
	}
	if raw, err = signedop.Attach(raw, token.Key(), armored(t, must(t, token, toSign))); err != nil {
		t.Fatal(err)
	}
	if raw, err = signedop.Attach(raw, carol.Key(), must(t, carol, toSign)); err != nil {
		t.Fatal(err)
	}
	v, outcomes := parse(t, raw).Verify(keysOf(alice, bob, token, carol))
	want := []string{alice.Key().Fingerprint, bob.Key().Fingerprint, token.Key().Fingerprint, carol.Key().Fingerprint}
	if got := fingerprints(v); !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, outcomes, want)
	}
	if k := v.Keys()[2]; !k.Touched || !k.PINVerified {
		t.Errorf("got %+v, want touched, with PIN", k)
	}
}

// A brokenSigner answers as it was told.
type brokenSigner struct {
	signedop.Signer

	sig []byte
	err error
}

func (s brokenSigner) Sign([]byte) ([]byte, error) { return s.sig, s.err }

// An agentKey is a public key that can't verify, such as an SSH agent gives.
type agentKey struct{ ssh.PublicKey }

func (agentKey) Verify([]byte, *ssh.Signature) error { return errors.New("can't verify") }

type agentSigner struct{ ssh.Signer }

func (s agentSigner) PublicKey() ssh.PublicKey { return agentKey{s.Signer.PublicKey()} }

func TestAnAgentsKeySigns(t *testing.T) {
	signer, err := ssh.NewSignerFromKey(private("bob"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := signedop.NewSSHSigner(agentSigner{signer})
	if err != nil {
		t.Fatal(err)
	}
	v, outcomes := parse(t, seal(t, order(), s)).Verify(keysOf(sshSigner(t, "bob")))
	if v == nil {
		t.Errorf("got %v, want a valid signature", outcomes)
	}
}

func TestNothingWrongIsAdded(t *testing.T) {
	alice, bob := rawSigner(t, "alice"), sshSigner(t, "bob")
	raw := seal(t, order(), alice)
	message, other := orderPAE(t), pae(encode(t, containerOrder()))
	refused := errors.New("no touch within 30 s")
	full := seal(t, order())
	for i := range signedop.MaxSignatures {
		var err error
		if full, err = signedop.Cosign(full, rawSigner(t, fmt.Sprint("signer ", i))); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		add  func() ([]byte, error)
		is   error
		why  string
	}{
		{"cosign by a key that signed", func() ([]byte, error) { return signedop.Cosign(raw, alice) }, signedop.ErrAlreadySigned, ""},
		{"attach of a key that signed", func() ([]byte, error) { return signedop.Attach(raw, alice.Key(), must(t, alice, message)) }, signedop.ErrAlreadySigned, ""},
		{"seal by one key twice", func() ([]byte, error) { return signedop.Seal(order(), alice, alice) }, signedop.ErrAlreadySigned, ""},
		{"seal by one key in both formats", func() ([]byte, error) { return signedop.Seal(order(), alice, sshSigner(t, "alice")) }, signedop.ErrAlreadySigned, ""},
		{"cosign of a full writ", func() ([]byte, error) { return signedop.Cosign(full, alice) }, nil, "no more are allowed"},
		{"cosign of what is no writ", func() ([]byte, error) { return signedop.Cosign(raw[1:], bob) }, nil, "JSON object is required"},
		{"attach to what is no writ", func() ([]byte, error) { return signedop.Attach(nil, bob.Key(), nil) }, nil, "JSON object is required"},
		{"encoding of what is no writ", func() ([]byte, error) { return signedop.PAEOf(raw[:9]) }, nil, "ends too early"},
		{"seal of what is no order", func() ([]byte, error) { return signedop.Seal(signedop.Document{}, alice) }, nil, "version"},
		{"a signer that refuses", func() ([]byte, error) { return signedop.Cosign(raw, brokenSigner{bob, nil, refused}) }, refused, ""},
		{"a signer that signs something else", func() ([]byte, error) {
			return signedop.Cosign(raw, brokenSigner{bob, must(t, bob, other), nil})
		}, nil, "did not make"},
		{"a signer that gives nothing", func() ([]byte, error) { return signedop.Cosign(raw, brokenSigner{bob, nil, nil}) }, nil, "not an SSHSIG blob"},
		{"attach of another writ's", func() ([]byte, error) { return signedop.Attach(raw, bob.Key(), must(t, bob, other)) }, nil, "did not make"},
		{"attach of another key's", func() ([]byte, error) {
			return signedop.Attach(raw, bob.Key(), must(t, sshSigner(t, "carol"), message))
		}, nil, "another public key"},
		{"attach of another namespace", func() ([]byte, error) {
			return signedop.Attach(raw, bob.Key(), sshBlob("bob", "file", "", "sha512", message))
		}, nil, "-n writ-op@v1"},
		{"attach of broken armor", func() ([]byte, error) {
			return signedop.Attach(raw, bob.Key(), []byte("-----BEGIN SSH SIGNATURE-----\nAAAA\n"))
		}, nil, "armored"},
		{"attach of a public key file", func() ([]byte, error) {
			return signedop.Attach(raw, bob.Key(), ssh.MarshalAuthorizedKey(bob.Key().Public))
		}, nil, "not an SSHSIG blob"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.add()
			if err == nil || got != nil || (c.is != nil && !errors.Is(err, c.is)) || !strings.Contains(err.Error(), c.why) {
				t.Errorf("got %s, %v, want an error (%v) with %q", got, err, c.is, c.why)
			}
		})
	}
}

// A document that would not fit its envelope is refused before anyone is asked
// to sign it.
func TestSealRefusesWhatWouldNotBeRead(t *testing.T) {
	d := order()
	d.Expect.Volumes = nil
	for i := range signedop.MaxListItems {
		d.Expect.Volumes = append(d.Expect.Volumes, fmt.Sprintf("store:%03d%s", i, strings.Repeat("x", 400)))
	}
	raw, err := signedop.Seal(d, brokenSigner{rawSigner(t, "alice"), nil, errors.New("asked to sign")})
	m, ok := errors.AsType[*signedop.MalformedError](err)
	if !ok || m.Field != "envelope" {
		t.Errorf("got %d bytes, %v, want a *MalformedError of the envelope", len(raw), err)
	}
}

func TestSignersRefuseKeys(t *testing.T) {
	if s, err := signedop.NewRawSigner(make(ed25519.PrivateKey, 10)); err == nil {
		t.Errorf("short key: got %v, want an error", s)
	}
	// Public half all zeros: a point of low order.
	if s, err := signedop.NewRawSigner(make(ed25519.PrivateKey, ed25519.PrivateKeySize)); err == nil {
		t.Errorf("key of low order: got %v, want an error", s)
	}
	if s, err := signedop.NewSSHSigner(rsaSigner{}); err == nil || !strings.Contains(err.Error(), "ssh signer") {
		t.Errorf("RSA key: got %v, %v, want an error", s, err)
	}
}

// rsaSigner shows a key of a type that is not allowed.
type rsaSigner struct{}

func (rsaSigner) Sign(io.Reader, []byte) (*ssh.Signature, error) { return nil, errors.New("not asked") }

func (rsaSigner) PublicKey() ssh.PublicKey {
	modulus := make([]byte, 257)
	modulus[1], modulus[256] = 0x80, 1
	pub, err := ssh.ParsePublicKey(ssh.Marshal(struct {
		Type string
		E    []byte
		N    []byte
	}{ssh.KeyAlgoRSA, []byte{1, 0, 1}, modulus}))
	if err != nil {
		panic(err)
	}
	return pub
}
