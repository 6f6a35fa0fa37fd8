package signedop_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"

	"writ/domain/op"
	"writ/domain/signedop"
)

// signedBy gives an envelope over the order with signatures as given.
func signedBy(tb testing.TB, sigs ...sig) *signedop.Unverified {
	tb.Helper()
	return parse(tb, rawEnvelope(encode(tb, order()), sigs...))
}

func orderPAE(tb testing.TB) []byte {
	tb.Helper()
	return pae(encode(tb, order()))
}

func sigOf(key signedop.Key, b []byte) sig {
	return sig{key.Fingerprint, base64.StdEncoding.EncodeToString(b)}
}

func must(tb testing.TB, s signedop.Signer, message []byte) []byte {
	tb.Helper()
	b, err := s.Sign(message)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func results(outcomes []signedop.Outcome) []signedop.Result {
	var rs []signedop.Result
	for _, o := range outcomes {
		rs = append(rs, o.Result)
	}
	return rs
}

func fingerprints(v *signedop.Verified) []string {
	var fs []string
	if v != nil {
		for _, k := range v.Keys() {
			fs = append(fs, k.Fingerprint)
		}
	}
	return fs
}

const (
	valid    = signedop.Valid
	unknown  = signedop.UnknownKey
	bad      = signedop.BadSignature
	repeated = signedop.Repeated
)

func TestVerifyCountsDistinctTrustedKeys(t *testing.T) {
	alice, bob, mallory := rawSigner(t, "alice"), sshSigner(t, "bob"), rawSigner(t, "mallory")
	message := orderPAE(t)
	a, b, m := sigOf(alice.Key(), must(t, alice, message)), sigOf(bob.Key(), must(t, bob, message)), sigOf(mallory.Key(), must(t, mallory, message))
	junk := sigOf(alice.Key(), make([]byte, 64))
	trusted := keysOf(alice, bob)
	aliceSSH := sshSigner(t, "alice")
	aliceBoth := append(keysOf(alice, aliceSSH), bob.Key())
	aSSH := sigOf(aliceSSH.Key(), must(t, aliceSSH, message))
	for _, c := range []struct {
		name    string
		sigs    []sig
		trusted []signedop.Key
		want    []signedop.Result
		keys    []string
	}{
		{"no signature", nil, trusted, nil, nil},
		{"no trusted key", []sig{a}, nil, []signedop.Result{unknown}, nil},
		{"one", []sig{a}, trusted, []signedop.Result{valid}, []string{a.keyID}},
		{"two", []sig{b, a}, trusted, []signedop.Result{valid, valid}, []string{b.keyID, a.keyID}},
		{"a stranger's beside a valid one", []sig{m, a}, trusted, []signedop.Result{unknown, valid}, []string{a.keyID}},
		{"a stranger's alone", []sig{m}, trusted, []signedop.Result{unknown}, nil},
		{"a stranger's under a trusted key id", []sig{{a.keyID, m.sig}}, trusted, []signedop.Result{bad}, nil},
		{"a trusted one under a stranger's key id", []sig{{m.keyID, a.sig}}, trusted, []signedop.Result{unknown}, nil},
		{"a trusted one under another trusted key id", []sig{{b.keyID, a.sig}}, trusted, []signedop.Result{bad}, nil},
		{"the same twice", []sig{a, a}, trusted, []signedop.Result{valid, repeated}, []string{a.keyID}},
		{"junk before the key's valid one", []sig{junk, a}, trusted, []signedop.Result{bad, valid}, []string{a.keyID}},
		{"junk after the key's valid one", []sig{a, junk}, trusted, []signedop.Result{valid, bad}, []string{a.keyID}},
		{"one key in both its formats", []sig{a, aSSH}, aliceBoth, []signedop.Result{valid, repeated}, []string{a.keyID}},
		{"a key trusted twice", []sig{a}, append(trusted, alice.Key()), []signedop.Result{valid}, []string{a.keyID}},
		{"an SSH signature of a raw key", []sig{aSSH}, trusted, []signedop.Result{bad}, nil},
		{"a raw signature of an SSH key", []sig{a}, keysOf(aliceSSH), []signedop.Result{bad}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, outcomes := signedBy(t, c.sigs...).Verify(c.trusted)
			if got := results(outcomes); !slices.Equal(got, c.want) {
				t.Errorf("results: got %v, want %v", outcomes, c.want)
			}
			if got := fingerprints(v); !slices.Equal(got, c.keys) || (v == nil) != (c.keys == nil) {
				t.Errorf("keys: got %v, want %v", got, c.keys)
			}
			for i, o := range outcomes {
				if o.KeyID != c.sigs[i].keyID || (o.Why == "") != (o.Result == valid) || o.Touched || o.PINVerified {
					t.Errorf("outcome %d: %+v", i, o)
				}
			}
			if v != nil && !reflect.DeepEqual(v.Document(), order()) {
				t.Errorf("document: got %+v", v.Document())
			}
		})
	}
}

// A signature is over the type and every byte of the payload.
func TestVerifyRefusesOtherBytes(t *testing.T) {
	alice := rawSigner(t, "alice")
	payload := encode(t, order())
	message := pae(payload)
	other := encode(t, withDoc(order(), func(d *signedop.Document) { d.Target.Guest.VMID = 106 }))
	for _, c := range []struct {
		name    string
		message []byte
		payload []byte
		want    signedop.Result
	}{
		{"this order", message, payload, valid},
		{"another order", message, other, bad},
		{"the payload without DSSE's encoding", payload, payload, bad},
		{"another payload type", bytes.Replace(message, []byte("writ.op"), []byte("writ.xx"), 1), payload, bad},
		{"a line end more", append(bytes.Clone(message), '\n'), payload, bad},
		{"nothing", nil, payload, bad},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := parse(t, rawEnvelope(c.payload, sigOf(alice.Key(), ed25519.Sign(private("alice"), c.message))))
			if _, outcomes := u.Verify(keysOf(alice)); outcomes[0].Result != c.want {
				t.Errorf("got %v, want %v", outcomes, c.want)
			}
		})
	}
}

// groupOrder is the order of Ed25519's base point.
func groupOrder() *big.Int {
	l, _ := new(big.Int).SetString("27742317777372353535851937790883648493", 10)
	return l.Add(l, new(big.Int).Lsh(big.NewInt(1), 252))
}

// plusOrder gives the other encoding of the same signature: S plus the order
// of the group.
func plusOrder(sig []byte) []byte {
	le := slices.Clone(sig[32:])
	slices.Reverse(le)
	s := new(big.Int).Add(new(big.Int).SetBytes(le), groupOrder())
	be := s.FillBytes(make([]byte, 32))
	slices.Reverse(be)
	return append(slices.Clone(sig[:32]), be...)
}

func TestVerifyRefusesSecondEncodings(t *testing.T) {
	alice, bob := rawSigner(t, "alice"), sshSigner(t, "bob")
	message := orderPAE(t)
	rawSig := must(t, alice, message)
	reshape := func(blob []byte, bend func(*ssh.Signature)) []byte {
		s, err := sshsig.ParseSignature(blob)
		if err != nil {
			t.Fatal(err)
		}
		bend(s.Signature)
		return s.Marshal()
	}
	bobSig := must(t, bob, message)
	ec := newFIDOECDSA(t, "token", 0x01)
	ecSig := must(t, ec, message)
	for _, c := range []struct {
		name string
		key  signedop.Key
		sig  []byte
		why  string
	}{
		{"raw, S plus the group's order", alice.Key(), plusOrder(rawSig), "did not make"},
		{"raw, a byte more", alice.Key(), append(slices.Clone(rawSig), 0), "65 bytes where"},
		{"raw, a byte less", alice.Key(), rawSig[:63], "63 bytes where"},
		{"ssh, S plus the group's order", bob.Key(), reshape(bobSig, func(s *ssh.Signature) { s.Blob = plusOrder(s.Blob) }), "did not make"},
		{"ssh, a byte more after the blob", bob.Key(), append(slices.Clone(bobSig), 0), "not an SSHSIG blob"},
		{"ssh, a byte more after the signature", bob.Key(), reshape(bobSig, func(s *ssh.Signature) { s.Rest = []byte{0} }), "1 more bytes after"},
		{"ssh, a byte more in the signature", bob.Key(), reshape(bobSig, func(s *ssh.Signature) { s.Blob = append(s.Blob, 0) }), "65 bytes where"},
		{"ssh, armored", bob.Key(), armored(t, bobSig), "not an SSHSIG blob"},
		{"ecdsa, a zero before r", ec.Key(), reshape(ecSig, func(s *ssh.Signature) {
			n := s.Blob[3]
			s.Blob = append([]byte{0, 0, 0, n + 1, 0}, s.Blob[4:]...)
		}), "shortest form"},
		{"ecdsa, a byte more", ec.Key(), reshape(ecSig, func(s *ssh.Signature) { s.Blob = append(s.Blob, 0) }), "shortest form"},
		{"ecdsa, flags twice", ec.Key(), reshape(ecSig, func(s *ssh.Signature) { s.Rest = append(s.Rest, s.Rest...) }), "flags and counter"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, outcomes := signedBy(t, sigOf(c.key, c.sig)).Verify([]signedop.Key{c.key})
			if o := outcomes[0]; o.Result != bad || !strings.Contains(o.Why, c.why) {
				t.Errorf("got %v: %s\nwant %v with %q", o.Result, o.Why, bad, c.why)
			}
		})
	}
}

func armored(t *testing.T, blob []byte) []byte {
	t.Helper()
	s, err := sshsig.ParseSignature(blob)
	if err != nil {
		t.Fatal(err)
	}
	return sshsig.Armor(s)
}

// What an SSHSIG blob says of itself must be exactly what is required, even
// where the key really signed what the blob says.
func TestVerifyRefusesForeignSSHSIG(t *testing.T) {
	message := orderPAE(t)
	bob := sshSigner(t, "bob")
	good := sshBlob("bob", signedop.SSHNamespace, "", "sha512", message)
	swap := func(old, with string) []byte { return bytes.Replace(good, []byte(old), []byte(with), 1) }
	for _, c := range []struct {
		name string
		sig  []byte
		want signedop.Result
		why  string
	}{
		{"as required", good, valid, ""},
		{"another namespace", sshBlob("bob", "file", "", "sha512", message), bad, `namespace "file"`},
		{"a longer namespace", sshBlob("bob", signedop.SSHNamespace+"0", "", "sha512", message), bad, "namespace"},
		{"an empty namespace", sshBlob("bob", "", "", "sha512", message), bad, "namespace"},
		{"sha256", sshBlob("bob", signedop.SSHNamespace, "", "sha256", message), bad, `hash "sha256"`},
		{"a reserved field", sshBlob("bob", signedop.SSHNamespace, "x", "sha512", message), bad, "reserved"},
		{"another person's key", sshBlob("mallory", signedop.SSHNamespace, "", "sha512", message), bad, "another public key"},
		{"version 2", swap("SSHSIG\x00\x00\x00\x01", "SSHSIG\x00\x00\x00\x02"), bad, "version"},
		{"another magic", swap("SSHSIG", "SSHSIH"), bad, "magic"},
		{"sha1", swap("\x00\x00\x00\x06sha512", "\x00\x00\x00\x04sha1"), bad, "hash"},
		{"cut short", good[:len(good)-1], bad, "not an SSHSIG blob"},
		{"nothing but a magic", []byte("SSHSIG"), bad, "not an SSHSIG blob"},
		{"another type of signature", swap("\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x40", "\x00\x00\x00\x0bssh-ed25518\x00\x00\x00\x40"), bad, "signature of type"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, outcomes := signedBy(t, sigOf(bob.Key(), c.sig)).Verify(keysOf(bob))
			if o := outcomes[0]; o.Result != c.want || !strings.Contains(o.Why, c.why) {
				t.Errorf("got %v: %s\nwant %v with %q", o.Result, o.Why, c.want, c.why)
			}
		})
	}
}

func TestVerifyReadsTouchAndPIN(t *testing.T) {
	message := orderPAE(t)
	for name, make := range map[string]func(testing.TB, string, byte) *fidoKey{"ed25519": newFIDO, "ecdsa": newFIDOECDSA} {
		for _, c := range []struct {
			name         string
			flags        byte
			bend         func(*ssh.Signature)
			want         signedop.Result
			touched, pin bool
		}{
			{"touched", 0x01, nil, valid, true, false},
			{"touched, with PIN", 0x05, nil, valid, true, true},
			{"touched, with flags of no meaning here", 0xc1, nil, valid, true, false},
			{"not touched", 0x00, nil, bad, false, false},
			{"not touched, with PIN", 0x04, nil, bad, false, false},
			{"touch claimed, not signed", 0x00, func(s *ssh.Signature) { s.Rest[0] = 0x01 }, bad, false, false},
			{"PIN claimed, not signed", 0x01, func(s *ssh.Signature) { s.Rest[0] = 0x05 }, bad, false, false},
			{"another counter than signed", 0x01, func(s *ssh.Signature) { s.Rest[4]++ }, bad, false, false},
			{"no flags", 0x01, func(s *ssh.Signature) { s.Rest = nil }, bad, false, false},
			{"as a plain key's", 0x01, func(s *ssh.Signature) { s.Format = ssh.KeyAlgoED25519 }, bad, false, false},
		} {
			t.Run(name+", "+c.name, func(t *testing.T) {
				token := make(t, "token", c.flags)
				if c.bend != nil {
					token.bend = c.bend
				}
				v, outcomes := signedBy(t, sigOf(token.Key(), must(t, token, message))).Verify(keysOf(token))
				o := outcomes[0]
				if o.Result != c.want || o.Touched != c.touched || o.PINVerified != c.pin {
					t.Errorf("got %+v, want %v, touched %t, PIN %t", o, c.want, c.touched, c.pin)
				}
				if c.want != valid {
					return
				}
				want := []signedop.VerifiedKey{{Fingerprint: token.Key().Fingerprint, Touched: c.touched, PINVerified: c.pin}}
				if got := v.Keys(); !slices.Equal(got, want) {
					t.Errorf("keys: got %v, want %v", got, want)
				}
			})
		}
	}
}

// The same secret enrolled as a plain key and as a FIDO key, or under two
// applications, is one key and counts once.
func TestVerifyCountsMaterialOnce(t *testing.T) {
	message := orderPAE(t)
	plain, token, other := sshSigner(t, "alice"), newFIDO(t, "alice", 0x01), newFIDO(t, "alice", 0x01)
	other.app = "ssh:other"
	u := signedBy(t, sigOf(plain.Key(), must(t, plain, message)), sigOf(token.Key(), must(t, token, message)), sigOf(other.Key(), must(t, other, message)))
	_, outcomes := u.Verify(keysOf(plain, token, other))
	if got, want := results(outcomes), []signedop.Result{valid, repeated, repeated}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", outcomes, want)
	}
}

// A Key that was put together by hand is not believed for what it says.
func TestVerifyRefusesUnusableKeys(t *testing.T) {
	alice, mallory := rawSigner(t, "alice"), rawSigner(t, "mallory")
	message := orderPAE(t)
	foreign := newFIDO(t, "token", 0x01)
	foreign.app = "webauthn:example.org"
	for _, c := range []struct {
		name string
		key  signedop.Key
		sig  []byte
	}{
		{"without format", signedop.Key{Fingerprint: alice.Key().Fingerprint, Public: alice.Key().Public}, must(t, alice, message)},
		{"without public key", signedop.Key{Fingerprint: alice.Key().Fingerprint, Format: signedop.Raw}, must(t, alice, message)},
		{"under another's fingerprint", signedop.Key{Fingerprint: alice.Key().Fingerprint, Format: signedop.Raw, Public: mallory.Key().Public}, must(t, mallory, message)},
		{"for another application", signedop.Key{Fingerprint: ssh.FingerprintSHA256(foreign.public()), Format: signedop.SSH, Public: foreign.public()}, must(t, foreign, message)},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, outcomes := signedBy(t, sigOf(c.key, c.sig)).Verify([]signedop.Key{c.key})
			if o := outcomes[0]; v != nil || o.Result != bad || !strings.Contains(o.Why, "unusable") {
				t.Errorf("got %+v, want %v, unusable", o, bad)
			}
		})
	}
}

func TestIntent(t *testing.T) {
	got, doc := order().Intent(), order()
	want := op.Intent{Class: doc.Class, Target: doc.Target, Params: doc.Params}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
