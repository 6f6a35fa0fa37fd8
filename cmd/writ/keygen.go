package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"os/user"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"writ/domain/signedop"
)

type keygenFlags struct {
	out, format, person, passphraseFile string
	noPassphrase                        bool
}

// keygenResult is what keygen tells. The private key is in its file only.
type keygenResult struct {
	Private     string `json:"private_key_file"`
	PublicFile  string `json:"public_key_file"`
	Public      string `json:"public_key"`
	Fingerprint string `json:"fingerprint"`
	Format      string `json:"format"`
	Person      string `json:"person"`
	Encrypted   bool   `json:"encrypted"`
	Policy      string `json:"policy_snippet"`
}

func newKeygenCmd(a *app) *cobra.Command {
	var f keygenFlags
	cmd := &cobra.Command{
		Use:   "keygen --out FILE",
		Short: "Make a key to sign with",
		Long: `Makes an Ed25519 key pair: the private key in OpenSSH's format in FILE (readable
by you alone), the public one in FILE.pub, so that ssh-keygen and ssh-agent work
with them too. Nothing is overwritten.

The format is how signatures by this key look, and is said in the policy, never
in a signature: ssh (as "ssh-keygen -Y sign" makes them) suits people, raw (bare
64 bytes) suits programs in languages without SSH signatures.`,
		Example: `  writ keygen --out ~/.ssh/writ_alice --person alice
  ssh-keygen -t ed25519-sk -O verify-required   # better: a key on a FIDO token`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf(cmd, "passphrase-file", "no-passphrase"); err != nil {
				return err
			}
			return a.keygen(cmd.Context(), f)
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.out, "out", "o", "", "file for the private key (required)")
	fl.StringVar(&f.format, "format", "ssh", "how the key signs: ssh or raw")
	fl.StringVar(&f.person, "person", "", "whose key it is, as named in the policy (default: your login name)")
	fl.StringVar(&f.passphraseFile, "passphrase-file", "", "file whose one line encrypts the private key")
	fl.BoolVar(&f.noPassphrase, "no-passphrase", false, "leave the private key unencrypted")
	return cmd
}

func (a *app) keygen(ctx context.Context, f keygenFlags) error {
	if f.out == "" {
		return usagef("--out is required: the file for the private key")
	}
	format, err := signedop.ParseFormat(f.format)
	if err != nil {
		return usagef("--format: %v", err)
	}
	if f.person == "" {
		f.person = loginName()
	}
	if err := signedop.CheckName(f.person); err != nil {
		return usagef("--person: %v", err)
	}
	pubFile := f.out + ".pub"
	for _, path := range []string{f.out, pubFile} {
		if err := mustNotExist(path); err != nil {
			return err
		}
	}
	passphrase, err := a.newPassphrase(ctx, f)
	if err != nil {
		return err
	}

	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("generate key: %w", err)
	}
	line, err := publicLine(public, f.person)
	if err != nil {
		return err
	}
	key, err := signedop.ParseKey(line, format)
	if err != nil {
		return err
	}
	if err := writePrivateKey(f.out, private, f.person, passphrase); err != nil {
		return err
	}
	if err := writeNew(pubFile, []byte(line+"\n"), 0o644); err != nil {
		// A private key whose public half nobody has seen is of no use.
		_ = os.Remove(f.out)
		return err
	}

	res := keygenResult{
		Private: f.out, PublicFile: pubFile, Public: line, Fingerprint: key.Fingerprint, Format: format.String(),
		Person: f.person, Encrypted: len(passphrase) > 0, Policy: policySnippet(f.person, line, format),
	}
	return a.show(res, res.text)
}

func (r keygenResult) text(w io.Writer) {
	protection := "encrypted with your passphrase"
	if !r.Encrypted {
		protection = "NOT encrypted: who can read the file can sign"
	}
	fmt.Fprintf(w, "Private key  %s (%s)\nPublic key   %s\nFingerprint  %s\n\n%s\n\n",
		r.Private, protection, r.PublicFile, r.Fingerprint, r.Public)
	fmt.Fprintf(w, "For the policy file (check the fingerprint with its owner before anyone signs):\n\n%s", r.Policy)
}

// newPassphrase gives the passphrase for a new key; empty only if that was
// said.
func (a *app) newPassphrase(ctx context.Context, f keygenFlags) ([]byte, error) {
	switch {
	case f.noPassphrase:
		return nil, nil
	case f.passphraseFile != "":
		return readSecretFile(f.passphraseFile)
	case !a.canAsk():
		return nil, usagef("standard input is no terminal, so nobody can be asked for a passphrase: use --passphrase-file or --no-passphrase")
	}
	first, err := a.askSecret(ctx, "Passphrase for the new key (empty for none): ")
	if err != nil {
		return nil, err
	}
	second, err := a.askSecret(ctx, "The same passphrase again: ")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(first, second) {
		return nil, fmt.Errorf("the passphrases differ; no key was made")
	}
	return first, nil
}

func publicLine(public ed25519.PublicKey, comment string) (string, error) {
	pub, err := ssh.NewPublicKey(public)
	if err != nil {
		return "", fmt.Errorf("public key: %w", err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(pub))) + " " + comment, nil
}

// writePrivateKey makes the file of a private key, in OpenSSH's format and for
// its owner alone.
func writePrivateKey(path string, private ed25519.PrivateKey, comment string, passphrase []byte) error {
	var block *pem.Block
	var err error
	if len(passphrase) > 0 {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(private, comment, passphrase)
	} else {
		block, err = ssh.MarshalPrivateKey(private, comment)
	}
	if err != nil {
		return fmt.Errorf("encode private key: %w", err)
	}
	return writeNew(path, pem.EncodeToMemory(block), 0o600)
}

// policySnippet is what enrols a key, to be put into a policy file.
func policySnippet(person, line string, format signedop.Format) string {
	return fmt.Sprintf("people:\n  %s:\n    keys:\n      - key: %s\n        format: %s\n", person, line, format)
}

// loginName is the person's name as the system knows it, if a policy could
// hold it.
func loginName() string {
	u, err := user.Current()
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Username)
}
