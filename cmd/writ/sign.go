package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"writ/domain/op"
	"writ/domain/signedop"
)

type signFlags struct {
	what                                opFlags
	audience, role, requestedBy, reason string
	nonce                               string
	out, pae                            string
	unsigned, yes, strict, plan         bool

	validity validityFlags

	key    signerFlags
	expect expectFlags
	host   hostFlags
}

// signResult is what sign tells programs. The nonce is in the file, whole.
type signResult struct {
	File       string          `json:"file"`
	NonceShort string          `json:"nonce_short"`
	Class      op.Class        `json:"class"`
	Target     op.Target       `json:"target"`
	Expect     signedop.Expect `json:"expect"`
	Audience   string          `json:"audience"`
	ExpiresAt  time.Time       `json:"expires_at"`
	SHA256     op.Digest       `json:"document_sha256"`
	SignedBy   []string        `json:"signed_by"` // fingerprints
	PAE        string          `json:"pae_file,omitempty"`
	Obstacles  []string        `json:"obstacles,omitempty"`
}

const signLong = `Makes a writ: a signed order to do one thing to one guest, volume, pool or disk,
once. It is a file; nothing happens until somebody submits it, and whoever holds it
can.

A VMID is reused within seconds after its guest is gone, and so are the names of
volumes, snapshots and devices, so the order also says what they look like. With
--config, or --url and a token, that is read from the host. Offline, give what you know
by the --expect-... flags. What each class must expect stands in docs/classes.md.

To sign elsewhere, such as with a key on a FIDO token or on another machine:

  writ sign --unsigned --out x.writ --pae x.pae ...
  ssh-keygen -Y sign -n writ-op@v1 -f ~/.ssh/id_ed25519_sk x.pae
  writ cosign x.writ --attach x.pae.sig --key-pub ~/.ssh/id_ed25519_sk.pub`

func newSignCmd(a *app) *cobra.Command {
	var f signFlags
	cmd := &cobra.Command{
		Use:   "sign [--class CLASS] --qemu VMID|--lxc VMID|--volume ID|--pool KIND/NAME|--disk DEVICE --reason TEXT --key FILE",
		Short: "Sign an order for one destructive operation",
		Long:  signLong,
		Example: `  writ sign --audience lab/3f9c2ab41d6e4a70 --config writ.yaml --qemu 105 --requested-by alice \
      --reason "OPS-123: retire web-3" --key ~/.ssh/writ_bob
  writ sign --audience lab/3f9c2ab41d6e4a70 --config writ.yaml --class snapshot-rollback --qemu 105 \
      --snapshot before-upgrade --requested-by alice --reason "OPS-124: undo" --key ~/.ssh/writ_bob
  writ sign --audience lab/3f9c2ab41d6e4a70 --node pve1 --qemu 105 --requested-by alice \
      --expect-name web-3 --expect-smbios-uuid 5c6f2d3e-6b1a-4f5e-9d57-1f0c8d9a7b42 \
      --expect-volume local-lvm:vm-105-disk-0 --reason "OPS-123" --agent-key SHA256:...`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(cmd); err != nil {
				return err
			}
			return a.sign(cmd.Context(), f)
		},
	}
	f.register(cmd)
	return cmd
}

func (f *signFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	f.what.register(cmd, op.GuestDestroy)
	fl.StringVar(&f.audience, "audience", "", "who may carry it out: agent/ledger, as writ init printed it (required)")
	fl.StringVar(&f.role, "role", "operator", "the role in which you sign, as named in the policy")
	fl.StringVar(&f.requestedBy, "requested-by", "", "the person who asked for it (required)")
	fl.StringVar(&f.reason, "reason", "", "why, in one line, for the record (required)")
	f.validity.register(cmd)
	fl.StringVar(&f.nonce, "nonce", "", "the op's identity, 32 to 128 hex digits (default: 128 random bits)")
	fl.StringVarP(&f.out, "out", "o", "", "file for the writ (default: CLASS-TARGET-NONCE.writ in this folder)")
	fl.BoolVar(&f.unsigned, "unsigned", false, "make it without a signature, for signing elsewhere")
	fl.StringVar(&f.pae, "pae", "", "also write the exact bytes to sign to this file, for ssh-keygen -Y sign")
	fl.BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	fl.BoolVar(&f.strict, "strict", false, "expect every detail of a guest that was read, so that any change to it voids the order")
	fl.BoolVar(&f.plan, "plan", false, "show what would be taken away, as writ plan does, and expect that nothing more, less or else is")
	f.key.register(cmd)
	f.host.register(cmd)
	f.expect.register(cmd)
}

// check refuses command lines that can't be meant.
func (f *signFlags) check(cmd *cobra.Command) error {
	if err := oneOf(cmd, "valid-for", "expires-at"); err != nil {
		return err
	}
	if expected := given(cmd, expectFlagNames()...); len(expected) > 0 && f.host.given() {
		return usagef("%s: what is expected is read from the host; leave it out, or sign offline without --config and --url", expected[0])
	}
	if _, err := f.what.intent(); err != nil {
		return err
	}
	switch {
	case f.expect.plan == "" && len(given(cmd, "expect-plan")) > 0: // such as of a variable that is not set
		return usagef("--expect-plan is empty, and nothing would be expected; give the digest that writ plan has shown")
	case f.requestedBy == "":
		return usagef("--requested-by is required: the person who asked for it, as named in the policy")
	case f.reason == "":
		return usagef("--reason is required: people and auditors will read it")
	case !f.host.given() && f.what.node == "":
		return usagef("--node is required when the host is not read; or give --config, or --url and a token")
	case !f.host.given() && f.strict:
		return usagef("--strict is about what is read from the host: give --config, or --url and a token")
	case !f.host.given() && f.plan:
		return usagef("--plan reads the host: give --config, or --url and a token; offline give what writ plan has shown by --expect-plan")
	case f.unsigned && f.key.given():
		return usagef("--unsigned and a key exclude each other")
	case !f.unsigned && !f.key.given():
		return usagef("with which key? Give --key FILE, or --agent-key FINGERPRINT, or --unsigned to sign elsewhere")
	case f.audience == "":
		return usagef("--audience is required: agent/ledger, as writ init printed it")
	}
	return f.host.check(cmd)
}

func (a *app) sign(ctx context.Context, f signFlags) error {
	d, err := f.document(a.now())
	if err != nil {
		return err
	}
	var obstacle []string
	if f.host.given() {
		obstacle, err = a.fillFromHost(ctx, f, &d)
	} else {
		d.Expect, err = f.expect.expect(d.Intent())
	}
	if err != nil {
		return err
	}
	if err := d.Check(); err != nil {
		return a.signHint(f, err)
	}
	out := f.out
	if out == "" {
		out = fmt.Sprintf("%s-%s-%s.writ", d.Class, fileWord(d.Target), string(d.Nonce)[:8])
	}
	for _, path := range []string{out, f.pae} {
		if path == "" {
			continue
		}
		if err := mustNotExist(path); err != nil {
			return err
		}
	}

	title := "You are about to sign this order. Once it has run, nothing brings back what is lost."
	if f.unsigned {
		title = "This is what there will be to sign. Once it has run, nothing brings back what is lost."
	}
	a.showOrder(title, d, obstacle)
	if ok, err := a.agreed(ctx, f.yes || f.unsigned, "Sign it?"); err != nil || !ok {
		return err
	}
	raw, err := a.seal(ctx, d, f)
	if err != nil {
		return err
	}
	return a.finishSign(f, d, raw, out, obstacle)
}

// fileWord is what a target is called in the name of a file.
func fileWord(t op.Target) string {
	switch {
	case t.Guest != nil:
		return strconv.Itoa(t.Guest.VMID)
	case t.Pool != nil:
		return t.Pool.Name
	}
	name := t.Volume + t.Disk // one of them
	return name[strings.LastIndexAny(name, ":/")+1:]
}

func (a *app) seal(ctx context.Context, d signedop.Document, f signFlags) ([]byte, error) {
	if f.unsigned {
		return signedop.Seal(d)
	}
	signer, done, err := f.key.open(ctx, a)
	if err != nil {
		return nil, err
	}
	defer done()
	return signedop.Seal(d, signer)
}

func (a *app) finishSign(f signFlags, d signedop.Document, raw []byte, out string, obstacle []string) error {
	u, err := signedop.Parse(raw) // what a receiver will see
	if err != nil {
		return err
	}
	if err := writeSigned(out, f.pae, raw); err != nil {
		return err
	}
	res := signResult{
		File: out, NonceShort: d.Nonce.Short(), Class: d.Class, Target: d.Target, Expect: d.Expect, Audience: d.Audience,
		ExpiresAt: d.ExpiresAt, SHA256: u.Digest(), SignedBy: []string{}, PAE: f.pae, Obstacles: obstacle,
	}
	for _, s := range u.Signatures() {
		res.SignedBy = append(res.SignedBy, s.KeyID)
	}
	return a.show(res, res.text)
}

func (r signResult) text(w io.Writer) {
	if len(r.SignedBy) > 0 {
		fmt.Fprintf(w, "%s: signed with %s.\nNext: writ cosign %s (if the role needs more people), then writ submit %s\n", r.File, r.SignedBy[0], r.File, r.File)
		return
	}
	fmt.Fprintf(w, "%s: not signed yet.\n", r.File)
	if r.PAE == "" {
		fmt.Fprintf(w, "Next: writ cosign %s --key FILE, or --pae FILE for the bytes to sign elsewhere\n", r.File)
		return
	}
	fmt.Fprint(w, signElsewhere(signedop.SSHNamespace, r.PAE, r.File))
}
