package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"writ/domain/signedop"
)

// signerFlags say with which key to sign.
type signerFlags struct {
	file, format, passphraseFile, agentKey string
}

func (f *signerFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.file, "key", "", "file of the private key to sign with, in OpenSSH's format")
	fl.StringVar(&f.agentKey, "agent-key", "", "fingerprint (SHA256:...) of a key of the ssh-agent to sign with")
	fl.StringVar(&f.format, "format", "ssh", "how the key signs, as the policy says of it: ssh or raw")
	fl.StringVar(&f.passphraseFile, "passphrase-file", "", "file whose one line decrypts the private key")
}

func (f signerFlags) given() bool { return f.file != "" || f.agentKey != "" }

// open gives the signer, and what to call when it has signed.
func (f signerFlags) open(ctx context.Context, a *app) (signedop.Signer, func(), error) {
	format, err := signedop.ParseFormat(f.format)
	if err != nil {
		return nil, nil, usagef("--format: %v", err)
	}
	switch {
	case f.file != "" && f.agentKey != "":
		return nil, nil, usagef("--key and --agent-key exclude each other: give one of them")
	case f.agentKey != "" && format != signedop.SSH:
		return nil, nil, usagef("--agent-key: a key of the agent signs in format ssh only")
	case f.agentKey != "":
		return agentSigner(f.agentKey)
	case f.file != "":
		s, err := a.fileSigner(ctx, f.file, f.passphraseFile, format)
		return s, func() {}, err
	}
	return nil, nil, usagef("with which key? Give --key FILE, or --agent-key FINGERPRINT, or --unsigned to sign elsewhere")
}

// maxKeyFile is more than any private key file has.
const maxKeyFile = 64 << 10

// fileSigner opens a private key file, asking for its passphrase if it has
// one.
func (a *app) fileSigner(ctx context.Context, path, passphraseFile string, format signedop.Format) (signedop.Signer, error) {
	if err := checkPrivate(path); err != nil {
		return nil, err
	}
	data, err := readBounded(path, maxKeyFile)
	if err != nil {
		return nil, err
	}
	key, err := ssh.ParseRawPrivateKey(data)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		var passphrase []byte
		if passphraseFile != "" {
			passphrase, err = readSecretFile(passphraseFile)
		} else {
			passphrase, err = a.askSecret(ctx, fmt.Sprintf("Passphrase of %s: ", path))
		}
		if err != nil {
			return nil, err
		}
		key, err = ssh.ParseRawPrivateKeyWithPassphrase(data, passphrase)
	}
	if err != nil {
		return nil, fmt.Errorf("key file %s: %v; a key on a FIDO token signs through --agent-key, or with ssh-keygen -Y sign (see writ sign --help)", path, err)
	}
	private, ok := key.(*ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("key file %s: %T, an Ed25519 private key is required (ssh-keygen -t ed25519, or writ keygen)", path, key)
	}
	if format == signedop.Raw {
		return signedop.NewRawSigner(*private)
	}
	s, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", path, err)
	}
	return signedop.NewSSHSigner(s)
}

// checkPrivate refuses a private key that others can read.
func checkPrivate(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fileError("read", path, err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("key file %s: mode %#o lets others read it: chmod 600 %s, and think about who had access", path, info.Mode().Perm(), path)
	}
	return nil
}

// agentSigner finds a key in the ssh-agent.
func agentSigner(fingerprint string) (signedop.Signer, func(), error) {
	sock := os.Getenv("SSH_AUTH_SOCK")
	if sock == "" {
		return nil, nil, errors.New("ssh-agent: SSH_AUTH_SOCK is not set: start one (eval $(ssh-agent)) and ssh-add the key")
	}
	conn, err := net.Dial("unix", sock) //nolint:gosec // the person's own agent
	if err != nil {
		return nil, nil, fmt.Errorf("ssh-agent: %w", err)
	}
	signers, err := agent.NewClient(conn).Signers()
	if err != nil {
		_ = conn.Close()
		return nil, nil, fmt.Errorf("ssh-agent: list keys: %w", err)
	}
	for _, s := range signers {
		if ssh.FingerprintSHA256(s.PublicKey()) != fingerprint {
			continue
		}
		signer, err := signedop.NewSSHSigner(s)
		if err != nil {
			_ = conn.Close()
			return nil, nil, err
		}
		return signer, func() { _ = conn.Close() }, nil
	}
	_ = conn.Close()
	return nil, nil, fmt.Errorf("ssh-agent: none of its %d keys has the fingerprint %q: see ssh-add -l", len(signers), fingerprint)
}
