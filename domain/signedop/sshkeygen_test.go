package signedop_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"

	"writ/domain/signedop"
)

// sshKeygen runs OpenSSH's own tool in a folder; stdin may be nil.
func sshKeygen(t *testing.T, dir string, stdin []byte, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath("ssh-keygen")
	if err != nil && os.Getenv("WRIT_CI") != "" {
		t.Fatal("ssh-keygen is not installed, and the checks are to test agreement with OpenSSH")
	}
	if err != nil {
		t.Skip("ssh-keygen is not installed: agreement with OpenSSH is not tested here")
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Dir = dir
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func writeFile(t *testing.T, dir, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestSSHKeygenSigns(t *testing.T) {
	dir := t.TempDir()
	if out, err := sshKeygen(t, dir, nil, "-q", "-t", "ed25519", "-N", "", "-C", "alice", "-f", "key"); err != nil {
		t.Fatalf("make a key: %v\n%s", err, out)
	}
	key, err := signedop.ParseKey(string(readFile(t, filepath.Join(dir, "key.pub"))), signedop.SSH)
	if err != nil {
		t.Fatal(err)
	}
	raw := seal(t, order())
	toSign, err := signedop.PAEOf(raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args []string
		ok   bool
	}{
		{"as documented", []string{"-n", signedop.SSHNamespace}, true},
		{"with another namespace", []string{"-n", "file"}, false},
		{"with another hash", []string{"-n", signedop.SSHNamespace, "-O", "hashalg=sha256"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := t.TempDir()
			writeFile(t, out, "message", toSign)
			args := append([]string{"-Y", "sign", "-f", filepath.Join(dir, "key")}, c.args...)
			if text, err := sshKeygen(t, out, nil, append(args, "message")...); err != nil {
				t.Fatalf("sign: %v\n%s", err, text)
			}
			signed, err := signedop.Attach(raw, key, readFile(t, filepath.Join(out, "message.sig")))
			if !c.ok {
				if err == nil {
					t.Errorf("attached, want an error")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if v, outcomes := parse(t, signed).Verify([]signedop.Key{key}); v == nil {
				t.Errorf("got %v, want a valid signature", outcomes)
			}
		})
	}
}

func TestSSHKeygenVerifies(t *testing.T) {
	message := orderPAE(t)
	for name, s := range map[string]signedop.Signer{
		"ed25519":    sshSigner(t, "bob"),
		"sk-ed25519": newFIDO(t, "token", 0x01),
		"sk-ecdsa":   newFIDOECDSA(t, "token", 0x05),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			parsed, err := sshsig.ParseSignature(must(t, s, message))
			if err != nil {
				t.Fatal(err)
			}
			writeFile(t, dir, "message.sig", sshsig.Armor(parsed))
			writeFile(t, dir, "allowed", append([]byte("bob "), ssh.MarshalAuthorizedKey(s.Key().Public)...))
			args := []string{"-Y", "verify", "-f", "allowed", "-I", "bob", "-n", signedop.SSHNamespace, "-s", "message.sig"}
			if out, err := sshKeygen(t, dir, message, args...); err != nil {
				t.Errorf("verify: %v\n%s", err, out)
			}
			if out, err := sshKeygen(t, dir, append(message, 'x'), args...); err == nil {
				t.Errorf("other bytes were accepted: %s", out)
			}
		})
	}
}
