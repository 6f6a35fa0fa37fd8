package main

import (
	"crypto/ed25519"
	"crypto/sha256"
	"testing"

	"golang.org/x/crypto/ssh"

	"writ/domain/signedop"
)

var madeKeys byte

// testSigner makes a key of format ssh, another one at each call and the same
// ones in each run.
func testSigner(t *testing.T, comment string) (signedop.Signer, string) {
	t.Helper()
	madeKeys++
	seed := sha256.Sum256([]byte{madeKeys})
	private := ed25519.NewKeyFromSeed(seed[:])
	public, ok := private.Public().(ed25519.PublicKey)
	if !ok {
		t.Fatal("not an Ed25519 key")
	}
	line, err := publicLine(public, comment)
	if err != nil {
		t.Fatal(err)
	}
	inner, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := signedop.NewSSHSigner(inner)
	if err != nil {
		t.Fatal(err)
	}
	return signer, line
}
