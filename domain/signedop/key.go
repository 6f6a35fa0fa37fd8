package signedop

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Format is how an enrolled key signs. It comes from the policy, never from a
// message.
type Format uint8

// The formats.
const (
	// Raw is an Ed25519 signature of 64 bytes over the DSSE encoding.
	Raw Format = iota + 1
	// SSH is an SSHSIG blob (OpenSSH: PROTOCOL.sshsig) over the DSSE
	// encoding, in the namespace of what is signed, with SHA-512.
	SSH
)

// String is the format's name in a policy.
func (f Format) String() string {
	switch f {
	case Raw:
		return "raw"
	case SSH:
		return "ssh"
	}
	return "invalid format"
}

// ParseFormat is the inverse of Format.String.
func ParseFormat(s string) (Format, error) {
	for _, f := range []Format{Raw, SSH} {
		if s == f.String() {
			return f, nil
		}
	}
	return 0, fmt.Errorf("format: %s is neither raw nor ssh", quote(s))
}

// A Key is a trusted key: whom to believe, and how it signs. Make it with
// ParseKey; one put together in another way is checked again before any
// signature is believed.
type Key struct {
	Fingerprint string // SHA-256 of the public key, as OpenSSH shows it
	Format      Format
	Public      ssh.PublicKey
}

// ParseKey reads a key from a line as in authorized_keys or a .pub file: type,
// base64, and a comment that is ignored. Options before the type are refused,
// for none of them would be obeyed.
//
// The types are ssh-ed25519, sk-ssh-ed25519@openssh.com and
// sk-ecdsa-sha2-nistp256@openssh.com; format Raw goes with the first alone.
func ParseKey(line string, format Format) (Key, error) {
	pub, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(line))
	switch {
	case err != nil:
		return Key{}, fmt.Errorf("key: not a line of type, base64 and comment as in a .pub file: %s", printable(err.Error()))
	case len(options) > 0:
		return Key{}, fmt.Errorf("key: options before the type (%s) are not allowed", quote(options[0]))
	case len(bytes.TrimSpace(rest)) > 0 || strings.HasPrefix(strings.TrimSpace(line), "#"):
		return Key{}, errors.New("key: exactly one line with one key is required")
	}
	return newKey(pub, format)
}

// newKey makes a key of any implementation of a public key, such as an agent's,
// which can't verify.
func newKey(public ssh.PublicKey, format Format) (Key, error) {
	pub, err := ssh.ParsePublicKey(public.Marshal())
	if err != nil {
		return Key{}, fmt.Errorf("key: %s", printable(err.Error()))
	}
	k := Key{Fingerprint: ssh.FingerprintSHA256(pub), Format: format, Public: pub}
	if err := k.check(); err != nil {
		return Key{}, fmt.Errorf("key %s: %w", k.Fingerprint, err)
	}
	return k, nil
}

// check refuses a key that must not be believed.
func (k Key) check() error {
	if k.Public == nil || k.Fingerprint != ssh.FingerprintSHA256(k.Public) {
		return errors.New("the fingerprint is not that of the public key")
	}
	types := []string{ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256}
	switch k.Format {
	case Raw:
		types = types[:1]
	case SSH:
	default:
		return errors.New("no format: raw or ssh is required")
	}
	if typ := k.Public.Type(); !slices.Contains(types, typ) {
		return fmt.Errorf("type %s does not go with format %s: %s is required", quote(typ), k.Format, strings.Join(types, " or "))
	}
	if app, fido := k.application(); fido && !strings.HasPrefix(app, "ssh:") {
		return fmt.Errorf("its FIDO application %s is not one of OpenSSH: it must begin with \"ssh:\"", quote(app))
	}
	switch pub := k.cryptoKey().(type) {
	case ed25519.PublicKey:
		if len(pub) != ed25519.PublicKeySize || lowOrder(pub) {
			return errors.New("an Ed25519 point of low order: anyone can sign for it")
		}
	case *ecdsa.PublicKey:
	default:
		return errors.New("a public key that can't verify")
	}
	return nil
}

// Material gives the bytes of the bare public key, whatever the type and
// application it is enrolled under. Two keys with the same material are one
// key: they must never count twice, nor belong to two people. Empty for a key
// that ParseKey would refuse.
func (k Key) Material() string {
	if k.Public == nil {
		return ""
	}
	switch pub := k.cryptoKey().(type) {
	case ed25519.PublicKey:
		return string(pub)
	case *ecdsa.PublicKey:
		if b, err := pub.Bytes(); err == nil {
			return string(b)
		}
	}
	return ""
}

func (k Key) cryptoKey() any {
	if c, ok := k.Public.(ssh.CryptoPublicKey); ok {
		return c.CryptoPublicKey()
	}
	return nil
}

// application gives a FIDO key's application, the last part of its public
// blob (OpenSSH: PROTOCOL.u2f). Whatever can't be read is empty.
func (k Key) application() (app string, fido bool) {
	switch k.Public.Type() {
	case ssh.KeyAlgoSKED25519:
		var ed struct{ Type, Key, Application string }
		if ssh.Unmarshal(k.Public.Marshal(), &ed) != nil {
			return "", true
		}
		return ed.Application, true
	case ssh.KeyAlgoSKECDSA256:
		var ec struct{ Type, Curve, Key, Application string }
		if ssh.Unmarshal(k.Public.Marshal(), &ec) != nil {
			return "", true
		}
		return ec.Application, true
	}
	return "", false
}

// lowOrder tells whether an encoded point lies in the group of eight points in
// which the signed message hardly matters. The y coordinates of its points are
// all there is to compare, as encoded and, where they are small enough, with
// the field's order added.
func lowOrder(pub ed25519.PublicKey) bool {
	y := slices.Clone(pub)
	y[31] &= 0x7f // without the sign of x
	return slices.Contains([]string{
		"0000000000000000000000000000000000000000000000000000000000000000", // order 4
		"0100000000000000000000000000000000000000000000000000000000000000", // order 1
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // order 2
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", // order 8
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a", // order 8
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // 0 again
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // 1 again
	}, hex.EncodeToString(y))
}
