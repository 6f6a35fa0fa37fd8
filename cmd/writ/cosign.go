package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"writ/domain/op"
	"writ/domain/signedop"
)

type cosignFlags struct {
	key                         signerFlags
	attach, keyPub, out, paeOut string
	yes                         bool
}

// cosignResult is what cosign tells programs.
type cosignResult struct {
	File       string    `json:"file"`
	NonceShort string    `json:"nonce_short"`
	SHA256     op.Digest `json:"document_sha256"`
	Added      string    `json:"added,omitempty"` // fingerprint
	Signatures int       `json:"signatures"`
	PAE        string    `json:"pae_file,omitempty"`
}

func newCosignCmd(a *app) *cobra.Command {
	var f cosignFlags
	cmd := &cobra.Command{
		Use:   "cosign FILE",
		Short: "Add a signature to a writ or a resolution, after reading what it says",
		Long: `Shows what a writ orders, or what a resolution claims, asks, and adds your signature
to the file. With --attach it adds a signature that was made elsewhere; with --pae
it only writes the bytes to make one of:

  writ cosign x.writ --pae x.pae
  ssh-keygen -Y sign -n writ-op@v1 -f ~/.ssh/id_ed25519_sk x.pae
  writ cosign x.writ --attach x.pae.sig --key-pub ~/.ssh/id_ed25519_sk.pub

For a resolution the namespace is writ-resolution@v1 in place of writ-op@v1.

A signature is added only if it is good. Those already there are not checked:
they are another person's business, and the service's.`,
		Args: oneArg("the file of a writ or a resolution"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := oneOf(cmd, "key", "agent-key", "attach", "pae"); err != nil {
				return err
			}
			if (f.attach == "") != (f.keyPub == "") {
				return usagef("--attach and --key-pub go together: the signature, and the public key that made it")
			}
			return a.cosign(cmd.Context(), args[0], f)
		},
	}
	f.key.register(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.attach, "attach", "", "file of a signature made elsewhere, such as by ssh-keygen -Y sign")
	fl.StringVar(&f.keyPub, "key-pub", "", "with --attach: file of the public key that made it")
	fl.StringVar(&f.paeOut, "pae", "", "write the exact bytes to sign to this file, and add nothing")
	fl.StringVarP(&f.out, "out", "o", "", "file for the result (default: the file itself)")
	fl.BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	return cmd
}

func (a *app) cosign(ctx context.Context, path string, f cosignFlags) error {
	file, err := readSigned(path)
	if err != nil {
		return err
	}
	if f.out != "" {
		if err := mustNotExist(f.out); err != nil {
			return err
		}
	}
	fmt.Fprintf(a.err, "\n%s\n\n", cosignTitle(file))
	file.describe(a.err, a.now())
	fmt.Fprintln(a.err)
	if f.paeOut != "" {
		return a.writePAE(path, file, f.paeOut)
	}
	signed, err := a.addSignature(ctx, file.raw, f)
	if errors.Is(err, signedop.ErrAlreadySigned) {
		return fmt.Errorf("%w; a person counts once, so let another one cosign", err)
	}
	if err != nil {
		return err
	}
	if f.out == "" {
		err = replace(path, signed)
		f.out = path
	} else {
		err = writeNew(f.out, signed, 0o600)
	}
	if err != nil {
		return err
	}
	after, err := parseSigned(signed)
	if err != nil {
		return err
	}
	sigs := after.signatures()
	res := cosignResult{
		File: f.out, NonceShort: file.nonce().Short(), SHA256: file.digest(), Added: sigs[len(sigs)-1].KeyID, Signatures: len(sigs),
	}
	return a.show(res, func(w io.Writer) {
		fmt.Fprintf(w, "%s: signature of %s added, it holds %d now.\n", res.File, res.Added, res.Signatures)
	})
}

func cosignTitle(f *signedFile) string {
	switch n := len(f.signatures()); n {
	case 0:
		return fmt.Sprintf("This %s has no signature yet. It %s:", f.noun(), f.verb())
	case 1:
		return fmt.Sprintf("This %s holds 1 signature (not verified here). It %s:", f.noun(), f.verb())
	default:
		return fmt.Sprintf("This %s holds %d signatures (not verified here). It %s:", f.noun(), n, f.verb())
	}
}

func (a *app) writePAE(path string, f *signedFile, out string) error {
	pae, err := signedop.PAEOf(f.raw)
	if err != nil {
		return err
	}
	if err := writeNew(out, pae, 0o600); err != nil {
		return err
	}
	res := cosignResult{File: path, NonceShort: f.nonce().Short(), SHA256: f.digest(), Signatures: len(f.signatures()), PAE: out}
	return a.show(res, func(w io.Writer) {
		fmt.Fprintf(w, "%s: the bytes to sign.\n%s", out, signElsewhere(f.namespace(), out, path))
	})
}

// signElsewhere says how a signature is made by OpenSSH, and added.
func signElsewhere(namespace, pae, file string) string {
	return fmt.Sprintf("Next: ssh-keygen -Y sign -n %s -f KEY %s\n      writ cosign %s --attach %s.sig --key-pub KEY.pub\n", namespace, pae, file, pae)
}

// addSignature signs after consent, or attaches what was signed elsewhere.
func (a *app) addSignature(ctx context.Context, raw []byte, f cosignFlags) ([]byte, error) {
	if f.attach != "" {
		return attach(raw, f)
	}
	if !f.key.given() {
		return nil, usagef("with which key? Give --key FILE, or --agent-key FINGERPRINT, or --pae FILE to sign elsewhere")
	}
	if ok, err := a.agreed(ctx, f.yes, "Add your signature?"); err != nil || !ok {
		return nil, err
	}
	signer, done, err := f.key.open(ctx, a)
	if err != nil {
		return nil, err
	}
	defer done()
	return signedop.Cosign(raw, signer)
}

func attach(raw []byte, f cosignFlags) ([]byte, error) {
	format, err := signedop.ParseFormat(f.key.format)
	if err != nil {
		return nil, usagef("--format: %v", err)
	}
	line, err := readBounded(f.keyPub, maxKeyFile)
	if err != nil {
		return nil, err
	}
	key, err := signedop.ParseKey(string(line), format)
	if err != nil {
		return nil, fmt.Errorf("public key file %s: %w", f.keyPub, err)
	}
	sig, err := readBounded(f.attach, maxKeyFile)
	if err != nil {
		return nil, err
	}
	return signedop.Attach(raw, key, sig)
}
