package signedop

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

// SSHNamespace is the SSHSIG namespace of every signature of format SSH over
// an op document, so that what a key signed for another purpose never passes
// here.
const SSHNamespace = "writ-op@v1"

// Result is what became of one signature.
type Result uint8

// The results. Only Valid counts.
const (
	// Valid: made by a trusted key over exactly these bytes.
	Valid Result = iota + 1
	// UnknownKey: no trusted key has this fingerprint.
	UnknownKey
	// BadSignature: a trusted key is named, but it did not make this.
	BadSignature
	// Repeated: the same key has a valid signature before this one.
	Repeated
)

// String says the result in words.
func (r Result) String() string {
	switch r {
	case Valid:
		return "valid"
	case UnknownKey:
		return "unknown key"
	case BadSignature:
		return "bad signature"
	case Repeated:
		return "repeated"
	}
	return "invalid result"
}

// An Outcome tells what became of one signature.
type Outcome struct {
	KeyID  string // as the envelope says
	Result Result
	// Touched and PINVerified are as in VerifiedKey; false unless Valid.
	Touched, PINVerified bool
	Why                  string // for people; empty if Valid
}

// verify checks every signature and gives the distinct keys that signed.
func (e envelope) verify(trusted []Key, done *checks) ([]VerifiedKey, []Outcome) {
	var keys []VerifiedKey
	outcomes := make([]Outcome, 0, len(e.signatures))
	var signed []string // by key material: a fingerprint also covers the type it is enrolled under
	for i, s := range e.signatures {
		check := func(k Key) (flags, error) { return done.verify(e, i, k) }
		out, material := s.verify(check, trusted, signed)
		if out.Result == Valid {
			signed = append(signed, material)
			keys = append(keys, VerifiedKey{Fingerprint: out.KeyID, Touched: out.Touched, PINVerified: out.PINVerified})
		}
		outcomes = append(outcomes, out)
	}
	return keys, outcomes
}

// verify judges one signature; signed are the keys that have a valid one
// already. It also gives the material of the key that made it.
func (s signature) verify(check func(Key) (flags, error), trusted []Key, signed []string) (Outcome, string) {
	out := Outcome{KeyID: s.keyID, Result: UnknownKey, Why: "no trusted key has this fingerprint"}
	// A key may be trusted in both formats, so more than one can match.
	for _, k := range trusted {
		if k.Fingerprint != s.keyID {
			continue
		}
		fl, err := check(k)
		if err != nil {
			out.Result, out.Why = BadSignature, err.Error()
			continue
		}
		if material := k.Material(); !slices.Contains(signed, material) {
			return Outcome{KeyID: s.keyID, Result: Valid, Touched: fl.touched, PINVerified: fl.pinVerified}, material
		}
		return Outcome{KeyID: s.keyID, Result: Repeated, Why: "the same key has signed already; it counts once"}, ""
	}
	return out, ""
}

// checks remembers what the verification of one envelope's signatures gave.
// Kind, message and signatures are fixed and a signature by a given key is valid or
// not for ever, so each pair is verified once, however often policy and time
// are consulted about the writ.
type checks struct {
	mu   sync.Mutex // guards done
	done []checked  // mostly one for each signature: searched faster than a map
}

// A check names all that a verification depends on beside the envelope.
type check struct {
	signature   int // index in the envelope
	format      Format
	fingerprint string
	keyType     string
	public      string // the key's bytes: with the type, they are all of it
}

func checkOf(i int, k Key) check {
	c := check{signature: i, format: k.Format, fingerprint: k.Fingerprint, keyType: k.Public.Type()}
	if bare, ok := k.cryptoKey().(ed25519.PublicKey); ok && c.keyType == ssh.KeyAlgoED25519 {
		c.public = string(bare) // which is all that Marshal would encode, at some cost
	} else {
		c.public = string(k.Public.Marshal())
	}
	return c
}

type checked struct {
	check check
	flags flags
	err   error
}

func (c *checks) verify(e envelope, i int, k Key) (flags, error) {
	if k.Public == nil {
		return k.verify(e.kind, e.pae(), e.signatures[i].sig)
	}
	id := checkOf(i, k)
	c.mu.Lock()
	defer c.mu.Unlock()
	for j := range c.done {
		if got := &c.done[j]; got.check == id {
			return got.flags, got.err
		}
	}
	fl, err := k.verify(e.kind, e.pae(), e.signatures[i].sig)
	c.done = append(c.done, checked{check: id, flags: fl, err: err})
	return fl, err
}

// flags are what a FIDO key vouches for.
type flags struct{ touched, pinVerified bool }

// Bits of the flags in a FIDO signature (CTAP 2: authenticator data).
const (
	flagUserPresent  = 0x01
	flagUserVerified = 0x04
)

// verify tells whether this key made this signature over this message, the
// encoding of a document of the given kind. It is the only place where a
// signature is believed.
func (k Key) verify(as kind, message, sig []byte) (flags, error) {
	if err := k.check(); err != nil {
		return flags{}, fmt.Errorf("the trusted key is unusable: %w", err)
	}
	if k.Format == SSH {
		return k.verifySSH(as.namespace(), message, sig)
	}
	pub, ok := k.cryptoKey().(ed25519.PublicKey)
	if !ok {
		return flags{}, errors.New("the trusted key is unusable: no Ed25519 key")
	}
	if len(sig) != ed25519.SignatureSize {
		return flags{}, fmt.Errorf("%d bytes where a raw signature has %d", len(sig), ed25519.SignatureSize)
	}
	if !ed25519.Verify(pub, message, sig) {
		return flags{}, errors.New("the key did not make this signature over these bytes")
	}
	return flags{}, nil
}

// verifySSH checks an SSHSIG blob. What it says of itself (key, namespace,
// hash) must be what is required and is used for nothing but a clear message:
// the blob is verified as the one that this key would have had to make.
func (k Key) verifySSH(namespace string, message, blob []byte) (flags, error) {
	claimed, err := sshsig.ParseSignature(blob)
	if err != nil {
		return flags{}, fmt.Errorf("not an SSHSIG blob: %s", printable(err.Error()))
	}
	inner := claimed.Signature
	required := &sshsig.Signature{
		Version: 1, PublicKey: k.Public, Namespace: namespace, HashAlgorithm: sshsig.HashSHA512, Signature: inner,
	}
	switch {
	case !bytes.Equal(claimed.PublicKey.Marshal(), k.Public.Marshal()):
		return flags{}, errors.New("the SSHSIG blob holds another public key than the trusted one")
	case claimed.Namespace != namespace:
		return flags{}, fmt.Errorf("SSHSIG namespace %s, %s is required (ssh-keygen -Y sign -n %s)", quote(claimed.Namespace), namespace, namespace)
	case claimed.HashAlgorithm != sshsig.HashSHA512:
		return flags{}, fmt.Errorf("SSHSIG hash %s, %s is required", quote(claimed.HashAlgorithm.String()), sshsig.HashSHA512)
	case !bytes.Equal(required.Marshal(), blob):
		return flags{}, errors.New("the SSHSIG blob is not in canonical form, or its reserved field is not empty")
	}
	fl, err := checkInner(k.Public.Type(), inner)
	if err != nil {
		return flags{}, err
	}
	if err := sshsig.Verify(bytes.NewReader(message), required, k.Public, sshsig.HashSHA512, namespace); err != nil {
		return flags{}, fmt.Errorf("the key did not make this signature over these bytes: %s", printable(err.Error()))
	}
	// The flags are part of what has just been verified. (x/crypto/ssh, from
	// version 0.52 on, refuses a FIDO signature without touch by itself.)
	return fl, nil
}

// checkInner refuses a signature of another type than the key's and all
// encodings but one; it reads a FIDO signature's flags, which nothing vouches
// for until the signature has been verified.
func checkInner(keyType string, sig *ssh.Signature) (flags, error) {
	if sig.Format != keyType {
		return flags{}, fmt.Errorf("signature of type %s by a key of type %s", quote(sig.Format), keyType)
	}
	if keyType == ssh.KeyAlgoSKECDSA256 {
		var rs struct{ R, S *big.Int }
		if err := ssh.Unmarshal(sig.Blob, &rs); err != nil || !bytes.Equal(ssh.Marshal(rs), sig.Blob) {
			return flags{}, errors.New("the ECDSA signature is not two integers in their shortest form")
		}
	} else if len(sig.Blob) != ed25519.SignatureSize {
		return flags{}, fmt.Errorf("%d bytes where an Ed25519 signature has %d", len(sig.Blob), ed25519.SignatureSize)
	}
	if keyType == ssh.KeyAlgoED25519 {
		if len(sig.Rest) > 0 {
			return flags{}, fmt.Errorf("%d more bytes after the signature", len(sig.Rest))
		}
		return flags{}, nil
	}
	var fido struct {
		Flags   byte
		Counter uint32
	}
	if err := ssh.Unmarshal(sig.Rest, &fido); err != nil {
		return flags{}, errors.New("the FIDO signature does not end with flags and counter")
	}
	return flags{touched: fido.Flags&flagUserPresent != 0, pinVerified: fido.Flags&flagUserVerified != 0}, nil
}
