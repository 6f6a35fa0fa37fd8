package signedop_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/asn1"
	"encoding/base64"
	"flag"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"

	"writ/domain/op"
	"writ/domain/signedop"
)

var update = flag.Bool("update", false, "rewrite the vectors in testdata")

const testNonce = "6f1c9a0e5d7b4c2f8a3e1d0c9b8a7f6e"

// order is a document that is right in every respect.
func order() signedop.Document {
	purge := false
	return signedop.Document{
		Version:  1,
		Nonce:    testNonce,
		Audience: "lab/3f9c2ab41d6e4a70",
		Class:    op.GuestDestroy,
		Target:   op.Target{Node: "pve1", Guest: &op.Guest{Type: op.QEMU, VMID: 105}},
		Params:   op.Params{Purge: &purge},
		Expect: signedop.Expect{
			Name:       "web-3",
			SMBIOSUUID: "5c6f0a1e-7b2d-4c3f-8a4e-9d0b1c2f3a5e",
			VMGenID:    "0b9e4f6a-1c2d-4e3f-9a5b-7c8d9e0f1a2b",
			Volumes:    []string{"local-lvm:vm-105-disk-0"},
		},
		Role:        "operator",
		RequestedBy: "alice",
		NotBefore:   time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC),
		ExpiresAt:   time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC),
		Reason:      "OPS-123: retire web-3",
	}
}

// containerOrder is the same for a container.
func containerOrder() signedop.Document {
	d := order()
	d.Target.Guest.Type = op.LXC
	d.Expect = signedop.Expect{
		Name:    "web-3",
		MACs:    []string{"BC:24:11:0A:1B:2C"},
		Volumes: []string{"local-lvm:vm-105-disk-0"},
		WritID:  "00112233445566778899aabbccddeeff",
	}
	return d
}

// private is a fixed Ed25519 key for each name.
func private(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("writ test key " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func rawSigner(tb testing.TB, name string) signedop.Signer {
	tb.Helper()
	s, err := signedop.NewRawSigner(private(name))
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func sshSigner(tb testing.TB, name string) signedop.Signer {
	tb.Helper()
	signer, err := ssh.NewSignerFromKey(private(name))
	if err != nil {
		tb.Fatal(err)
	}
	s, err := signedop.NewSSHSigner(signer)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func keysOf(signers ...signedop.Signer) []signedop.Key {
	keys := make([]signedop.Key, len(signers))
	for i, s := range signers {
		keys[i] = s.Key()
	}
	return keys
}

func seal(tb testing.TB, doc signedop.Document, signers ...signedop.Signer) []byte {
	tb.Helper()
	raw, err := signedop.Seal(doc, signers...)
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

func encode(tb testing.TB, doc signedop.Document) []byte {
	tb.Helper()
	payload, err := doc.Encode()
	if err != nil {
		tb.Fatal(err)
	}
	return payload
}

func parse(tb testing.TB, raw []byte) *signedop.Unverified {
	tb.Helper()
	u, err := signedop.Parse(raw)
	if err != nil {
		tb.Fatalf("parse: %v\n%s", err, raw)
	}
	return u
}

// sig is one signature as it stands in an envelope.
type sig struct{ keyID, sig string }

// rawEnvelope writes an envelope of an op document without asking the package.
func rawEnvelope(payload []byte, sigs ...sig) []byte {
	return rawEnvelopeOf(signedop.PayloadType, payload, sigs...)
}

func rawEnvelopeOf(payloadType string, payload []byte, sigs ...sig) []byte {
	parts := make([]string, len(sigs))
	for i, s := range sigs {
		parts[i] = fmt.Sprintf(`{"keyid":%q,"sig":%q}`, s.keyID, s.sig)
	}
	return fmt.Appendf(nil, `{"payload":%q,"payloadType":%q,"signatures":[%s]}`,
		base64.StdEncoding.EncodeToString(payload), payloadType, strings.Join(parts, ","))
}

// signRaw signs whatever bytes are given as payload.
func signRaw(tb testing.TB, name string, payload []byte) sig {
	tb.Helper()
	s := rawSigner(tb, name)
	return sig{s.Key().Fingerprint, base64.StdEncoding.EncodeToString(ed25519.Sign(private(name), pae(payload)))}
}

// pae is the DSSE pre-authentication encoding of an op document.
func pae(payload []byte) []byte { return paeOf(signedop.PayloadType, payload) }

// paeOf is the DSSE pre-authentication encoding, written again from its
// specification.
func paeOf(payloadType string, payload []byte) []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload)
}

// A fidoKey is an authenticator in software, after OpenSSH's PROTOCOL.u2f and
// PROTOCOL.sshsig. What it signs can be bent in each part.
type fidoKey struct {
	tb    testing.TB
	ed    ed25519.PrivateKey
	ec    *ecdsa.PrivateKey // instead of ed
	app   string
	flags byte

	namespace string
	hash      sshsig.HashAlgorithm
	bend      func(*ssh.Signature)
}

func newFIDO(tb testing.TB, name string, flags byte) *fidoKey {
	tb.Helper()
	return &fidoKey{
		tb: tb, ed: private(name), app: "ssh:", flags: flags,
		namespace: signedop.SSHNamespace, hash: sshsig.HashSHA512, bend: func(*ssh.Signature) {},
	}
}

func newFIDOECDSA(tb testing.TB, name string, flags byte) *fidoKey {
	tb.Helper()
	k := newFIDO(tb, name, flags)
	seed := sha256.Sum256([]byte("writ test ecdsa key " + name))
	seed[0] = 0 // below the group order
	ec, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), seed[:])
	if err != nil {
		tb.Fatal(err)
	}
	k.ec = ec
	return k
}

func (k *fidoKey) line() string {
	public, _ := k.ed.Public().(ed25519.PublicKey)
	typ, blob := ssh.KeyAlgoSKED25519, ssh.Marshal(struct{ Type, Key, App string }{
		ssh.KeyAlgoSKED25519, string(public), k.app,
	})
	if k.ec != nil {
		point, err := k.ec.PublicKey.Bytes()
		if err != nil {
			k.tb.Fatal(err)
		}
		typ, blob = ssh.KeyAlgoSKECDSA256, ssh.Marshal(struct{ Type, Curve, Key, App string }{
			ssh.KeyAlgoSKECDSA256, "nistp256", string(point), k.app,
		})
	}
	return typ + " " + base64.StdEncoding.EncodeToString(blob) + " token"
}

func (k *fidoKey) Key() signedop.Key {
	k.tb.Helper()
	key, err := signedop.ParseKey(k.line(), signedop.SSH)
	if err != nil {
		k.tb.Fatal(err)
	}
	return key
}

// public is the key without asking the package, which refuses some.
func (k *fidoKey) public() ssh.PublicKey {
	pub, _, _, _, err := ssh.ParseAuthorizedKey([]byte(k.line()))
	if err != nil {
		k.tb.Fatal(err)
	}
	return pub
}

func (k *fidoKey) Sign(message []byte) ([]byte, error) {
	h := k.hash.Hash()
	h.Write(message)
	toSign := append([]byte("SSHSIG"), ssh.Marshal(struct{ Namespace, Reserved, Hash, Digest string }{
		k.namespace, "", k.hash.String(), string(h.Sum(nil)),
	})...)
	app, digest := sha256.Sum256([]byte(k.app)), sha256.Sum256(toSign)
	counter := []byte{0, 0, 0, 7}
	data := bytes.Join([][]byte{app[:], {k.flags}, counter, digest[:]}, nil)

	sig := &ssh.Signature{Format: ssh.KeyAlgoSKED25519, Blob: ed25519.Sign(k.ed, data), Rest: append([]byte{k.flags}, counter...)}
	if k.ec != nil {
		r, s, err := signECDSA(k.ec, data)
		if err != nil {
			return nil, err
		}
		sig.Format, sig.Blob = ssh.KeyAlgoSKECDSA256, ssh.Marshal(struct{ R, S *big.Int }{r, s})
	}
	k.bend(sig)
	return sshsig.Signature{Version: 1, PublicKey: k.public(), Namespace: k.namespace, HashAlgorithm: k.hash, Signature: sig}.Marshal(), nil
}

// signECDSA signs deterministically (RFC 6979).
func signECDSA(key *ecdsa.PrivateKey, data []byte) (r, s *big.Int, err error) {
	digest := sha256.Sum256(data)
	der, err := key.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		return nil, nil, err
	}
	var rs struct{ R, S *big.Int }
	_, err = asn1.Unmarshal(der, &rs)
	return rs.R, rs.S, err
}

// sshBlob makes an SSHSIG blob by an ordinary key with each part as given.
func sshBlob(name, namespace, reserved, hash string, message []byte) []byte {
	pub, err := ssh.NewPublicKey(private(name).Public())
	if err != nil {
		panic(err)
	}
	sum := sha512.Sum512(message)
	digest := sum[:]
	if hash == "sha256" {
		short := sha256.Sum256(message)
		digest = short[:]
	}
	toSign := append([]byte("SSHSIG"), ssh.Marshal(struct{ Namespace, Reserved, Hash, Digest string }{
		namespace, reserved, hash, string(digest),
	})...)
	inner := ssh.Marshal(ssh.Signature{Format: ssh.KeyAlgoED25519, Blob: ed25519.Sign(private(name), toSign)})
	return append([]byte("SSHSIG\x00\x00\x00\x01"), ssh.Marshal(struct{ Key, Namespace, Reserved, Hash, Sig string }{
		string(pub.Marshal()), namespace, reserved, hash, string(inner),
	})...)
}
