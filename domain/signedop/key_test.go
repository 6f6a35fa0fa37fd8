package signedop_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"writ/domain/signedop"
)

func authorizedLine(t *testing.T, public any) string {
	t.Helper()
	pub, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(pub)))
}

func TestParseKey(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	plain := authorizedLine(t, private("alice").Public())
	foreign := newFIDO(t, "token", 1)
	foreign.app = "https://example.org"
	fields := strings.Fields(plain)
	for _, c := range []struct {
		name   string
		line   string
		format signedop.Format
		why    string // empty if it is a key
	}{
		{"plain, raw", plain, signedop.Raw, ""},
		{"plain, ssh", plain, signedop.SSH, ""},
		{"with a comment", plain + " alice@example.org (work)", signedop.SSH, ""},
		{"with a line end", plain + "\n", signedop.SSH, ""},
		{"sk-ed25519", newFIDO(t, "token", 1).line(), signedop.SSH, ""},
		{"sk-ecdsa", newFIDOECDSA(t, "token", 1).line(), signedop.SSH, ""},
		{"sk-ed25519, raw", newFIDO(t, "token", 1).line(), signedop.Raw, "does not go with format raw"},
		{"sk-ecdsa, raw", newFIDOECDSA(t, "token", 1).line(), signedop.Raw, "does not go with format raw"},
		{"plain ecdsa", authorizedLine(t, ec.Public()), signedop.SSH, "does not go with format ssh"},
		{"no format", plain, 0, "raw or ssh is required"},
		{"another application", foreign.line(), signedop.SSH, "must begin with"},
		{"nothing", "", signedop.SSH, "not a line of"},
		{"only a comment", "# " + plain, signedop.SSH, "key:"},
		{"two lines", plain + "\n" + plain, signedop.SSH, "exactly one"},
		{"a comment line before", "# alice\n" + plain, signedop.SSH, "exactly one"},
		{"options", "no-touch-required " + plain, signedop.SSH, "options"},
		{"the base64 alone", fields[1], signedop.SSH, "not a line of"},
		{"another type in front", "sk-ssh-ed25519@openssh.com " + fields[1], signedop.SSH, "key:"},
		{"a byte more in the blob", fields[0] + " " + longer(t, fields[1]), signedop.SSH, "not a line of"},
	} {
		t.Run(c.name, func(t *testing.T) {
			k, err := signedop.ParseKey(c.line, c.format)
			if c.why != "" {
				if err == nil || !strings.Contains(err.Error(), c.why) {
					t.Errorf("got %v, %v, want an error with %q", k, err, c.why)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if want := ssh.FingerprintSHA256(k.Public); k.Fingerprint != want || k.Format != c.format || k.Material() == "" {
				t.Errorf("got %+v, want fingerprint %s, format %v and some material", k, want, c.format)
			}
		})
	}
}

func longer(t *testing.T, b64 string) string {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(b64)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(append(b, 0))
}

// Under an Ed25519 key of low order, a signature made without any secret
// verifies for every message or every few. Such a key must never be enrolled.
func TestParseKeyRefusesKeysForWhichAnyoneCanSign(t *testing.T) {
	for _, encoded := range []string{
		"0100000000000000000000000000000000000000000000000000000000000000",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0000000000000000000000000000000000000000000000000000000000000080",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
		"0100000000000000000000000000000000000000000000000000000000000080",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
	} {
		t.Run(encoded, func(t *testing.T) {
			pub, err := hex.DecodeString(encoded)
			if err != nil {
				t.Fatal(err)
			}
			if !forgeable(pub) {
				t.Errorf("crypto/ed25519 accepted no forgery: the case shows nothing")
			}
			_, err = signedop.ParseKey(authorizedLine(t, ed25519.PublicKey(pub)), signedop.Raw)
			if err == nil || !strings.Contains(err.Error(), "low order") {
				t.Errorf("got %v, want a refusal for low order", err)
			}
		})
	}
}

// forgeable looks for a message under which R = the neutral point, S = 0 is a
// signature.
func forgeable(pub ed25519.PublicKey) bool {
	forged := make([]byte, ed25519.SignatureSize)
	forged[0] = 1
	for i := range 1000 {
		if ed25519.Verify(pub, fmt.Append(nil, i), forged) {
			return true
		}
	}
	return false
}

func TestFormatNames(t *testing.T) {
	for _, f := range []signedop.Format{signedop.Raw, signedop.SSH} {
		if got, err := signedop.ParseFormat(f.String()); err != nil || got != f {
			t.Errorf("%v: got %v, %v", f, got, err)
		}
	}
	for _, s := range []string{"", "RAW", "pgp", signedop.Format(0).String()} {
		if f, err := signedop.ParseFormat(s); err == nil {
			t.Errorf("%q: got %v, want an error", s, f)
		}
	}
}
