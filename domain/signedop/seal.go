package signedop

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

// A Signer signs with one key.
type Signer interface {
	// Key is the public half, in the format in which Sign signs.
	Key() Key
	// Sign signs the DSSE encoding of a document or a resolution and gives the
	// signature as an envelope holds it: 64 bytes (Raw) or a binary SSHSIG
	// blob in the namespace that belongs to what is signed (SSH). It may wait
	// for a person to touch a key.
	Sign(pae []byte) ([]byte, error)
}

// NewRawSigner makes a signer of format Raw of a key in memory.
func NewRawSigner(private ed25519.PrivateKey) (Signer, error) {
	if len(private) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("raw signer: %d bytes where an Ed25519 private key has %d", len(private), ed25519.PrivateKeySize)
	}
	pub, err := ssh.NewPublicKey(private.Public())
	if err != nil {
		return nil, fmt.Errorf("raw signer: %w", err)
	}
	key, err := newKey(pub, Raw)
	if err != nil {
		return nil, fmt.Errorf("raw signer: %w", err)
	}
	return &rawSigner{key: key, private: slices.Clone(private)}, nil
}

type rawSigner struct {
	key     Key
	private ed25519.PrivateKey
}

func (s *rawSigner) Key() Key { return s.key }

func (s *rawSigner) Sign(pae []byte) ([]byte, error) { return ed25519.Sign(s.private, pae), nil }

// NewSSHSigner makes a signer of format SSH of a key file's or an agent's
// signer, FIDO keys included. It takes the namespace from what it is given to
// sign, and refuses whatever is neither a document nor a resolution.
func NewSSHSigner(signer ssh.Signer) (Signer, error) {
	key, err := newKey(signer.PublicKey(), SSH)
	if err != nil {
		return nil, fmt.Errorf("ssh signer: %w", err)
	}
	return &sshSigner{key: key, signer: signer}, nil
}

type sshSigner struct {
	key    Key
	signer ssh.Signer
}

func (s *sshSigner) Key() Key { return s.key }

func (s *sshSigner) Sign(pae []byte) ([]byte, error) {
	k, err := kindOfPAE(pae)
	if err != nil {
		return nil, err
	}
	sig, err := sshsig.SignWithRand(bytes.NewReader(pae), rand.Reader, s.signer, sshsig.HashSHA512, k.namespace())
	if err != nil {
		return nil, err
	}
	return sig.Marshal(), nil
}

// Seal makes the writ of a document, signed by each signer in turn. Without a
// signer it makes one that is still to be signed.
func Seal(doc Document, signers ...Signer) ([]byte, error) {
	payload, err := doc.Encode()
	return seal(kindOp, payload, err, signers)
}

// seal makes an envelope of what Encode gave.
func seal(k kind, payload []byte, err error, signers []Signer) ([]byte, error) {
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	env := envelope{kind: k, payload: payload}
	if _, err := env.encode(); err != nil { // too large: nobody needs to be asked
		return nil, fmt.Errorf("seal: %w", err)
	}
	for _, s := range signers {
		if err := env.sign(s); err != nil {
			return nil, fmt.Errorf("seal: %w", err)
		}
	}
	return env.encode()
}

// open reads the envelope of a writ or of a resolution, which must be in form.
func open(raw []byte) (envelope, error) {
	env, err := parseEnvelope(raw, kinds()...)
	if err != nil {
		return envelope{}, err
	}
	switch env.kind {
	case kindOp:
		_, err = parseDocument(env.payload)
	case kindResolution:
		_, err = parseResolution(env.payload)
	}
	if err != nil {
		return envelope{}, err
	}
	return env, nil
}

// Cosign adds a signature to a writ or a resolution. It looks at its form and
// at no signature on it: who signs must have read what they sign. A second
// signature by the same key is refused.
func Cosign(raw []byte, s Signer) ([]byte, error) {
	env, err := open(raw)
	if err != nil {
		return nil, fmt.Errorf("cosign: %w", err)
	}
	if err := env.sign(s); err != nil {
		return nil, fmt.Errorf("cosign: %w", err)
	}
	return env.encode()
}

// Attach adds a signature made elsewhere over the bytes of PAEOf. For a key of
// format SSH it may be binary or armored, as "ssh-keygen -Y sign" writes it.
// Nothing is added that this key did not make over this writ or resolution,
// nor a second signature by the same key.
func Attach(raw []byte, key Key, sig []byte) ([]byte, error) {
	env, err := open(raw)
	if err != nil {
		return nil, fmt.Errorf("attach: %w", err)
	}
	if key.Format == SSH && bytes.HasPrefix(bytes.TrimSpace(sig), []byte("-----BEGIN")) {
		unarmored, err := sshsig.Unarmor(sig)
		if err != nil {
			return nil, fmt.Errorf("attach: not an armored SSH signature: %s", printable(err.Error()))
		}
		sig = unarmored.Marshal()
	}
	if err := env.add(key, sig); err != nil {
		return nil, fmt.Errorf("attach: %w", err)
	}
	return env.encode()
}

// PAEOf gives the exact bytes to sign for a writ, such as with "ssh-keygen -Y
// sign -n writ-op@v1", or for a resolution (-n writ-resolution@v1): the DSSE
// pre-authentication encoding of the document.
func PAEOf(raw []byte) ([]byte, error) {
	env, err := open(raw)
	if err != nil {
		return nil, err
	}
	return env.pae(), nil
}

// sign asks a signer, after making sure that its signature could be added: it
// may cost a person a touch.
func (e *envelope) sign(s Signer) error {
	key := s.Key()
	if err := e.mayAdd(key); err != nil {
		return err
	}
	sig, err := s.Sign(e.pae())
	if err != nil {
		return fmt.Errorf("sign with key %s: %w", key.Fingerprint, err)
	}
	return e.add(key, sig)
}

// add appends a signature after verifying it the way a receiver will.
func (e *envelope) add(key Key, sig []byte) error {
	if err := e.mayAdd(key); err != nil {
		return err
	}
	if _, err := key.verify(e.kind, e.pae(), sig); err != nil {
		return fmt.Errorf("signature of key %s: %w", key.Fingerprint, err)
	}
	e.signatures = append(e.signatures, signature{keyID: key.Fingerprint, sig: slices.Clone(sig)})
	return nil
}

// ErrAlreadySigned says that the envelope holds a signature of this key, valid or
// not.
var ErrAlreadySigned = errors.New("already holds a signature of this key")

func (e *envelope) mayAdd(key Key) error {
	if len(e.signatures) >= MaxSignatures {
		return fmt.Errorf("the envelope holds %d signatures, no more are allowed", len(e.signatures))
	}
	for _, s := range e.signatures {
		if s.keyID == key.Fingerprint {
			return fmt.Errorf("the envelope %w, %s", ErrAlreadySigned, key.Fingerprint)
		}
	}
	return nil
}
