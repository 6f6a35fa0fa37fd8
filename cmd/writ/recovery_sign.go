package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"writ/adapters/httpapi"
	"writ/domain/op"
	"writ/domain/signedop"
)

type recoverySignFlags struct {
	verdict, effect, role, requestedBy, reason, audience string
	attempt                                              int
	revision                                             uint64
	offline                                              bool
	out, pae                                             string
	unsigned, yes                                        bool

	validity validityFlags
	key      signerFlags
	client   clientFlags
}

// resolutionResult is what recovery sign tells programs.
type resolutionResult struct {
	File       string           `json:"file"`
	NonceShort string           `json:"nonce_short"`
	Attempt    int              `json:"attempt"`
	Revision   uint64           `json:"revision"`
	Verdict    signedop.Verdict `json:"verdict"`
	Effect     op.Effect        `json:"effect"`
	Audience   string           `json:"audience"`
	ExpiresAt  time.Time        `json:"expires_at"`
	SHA256     op.Digest        `json:"document_sha256"`
	SignedBy   []string         `json:"signed_by"` // fingerprints
	PAE        string           `json:"pae_file,omitempty"`
}

const recoverySignLong = `Makes a resolution: a signed statement of what became of one attempt of an op. It is
a file; nothing is settled until it is handed in (writ recovery resolve). The op is
then ended on the word of those who signed, and their resolution is kept on record.

Look before you sign: writ recovery show says at what. Say what you have seen:

  --verdict succeeded                  it did all that the writ orders
  --verdict failed --effect none       it did nothing, and nothing of it can act any more;
                                       the same writ may then run ONCE MORE
  --verdict failed --effect partial    it did a part
  --verdict failed --effect unknown    it can't be told

With all but none the nonce is spent: the writ never runs again.

The attempt, and the newest event of the op, are read from the service, and the
resolution holds only as long as they are so. Offline, or on another machine, give
them by --attempt and --revision, as writ recovery show says, and the whole nonce.`

func newRecoverySignCmd(a *app) *cobra.Command {
	var f recoverySignFlags
	cmd := &cobra.Command{
		Use:   "sign NONCE --verdict succeeded|failed --effect EFFECT --reason TEXT --key FILE",
		Short: "Sign a resolution: what became of an op that the evidence does not decide",
		Long:  recoverySignLong,
		Example: `  writ recovery sign 6f1c9a0e --audience lab/3f9c2ab41d6e4a70 --verdict failed --effect unknown \
      --requested-by alice --reason "INC-7: node pve1 burned down" --key ~/.ssh/writ_bob`,
		Args: oneArg("a nonce"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(cmd); err != nil {
				return err
			}
			return a.recoverySign(cmd.Context(), f, args[0])
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.verdict, "verdict", "", "succeeded or failed (required)")
	fl.StringVar(&f.effect, "effect", "", "what it did: none, partial, unknown; done goes with succeeded alone (required with failed)")
	fl.StringVar(&f.reason, "reason", "", "what you have seen and why you are certain, in one line, for the record (required)")
	fl.StringVar(&f.requestedBy, "requested-by", "", "the person who asked for it (required)")
	fl.StringVar(&f.role, "role", "resolver", "the role in which you sign, as named in the policy; it must have resolve: true")
	fl.StringVar(&f.audience, "audience", "", "whose op it is: agent/ledger, as writ init printed it (required)")
	fl.IntVar(&f.attempt, "attempt", 0, "offline, with --revision: the attempt that is in flight")
	fl.Uint64Var(&f.revision, "revision", 0, "offline, with --attempt: the number of the newest event of the op")
	fl.StringVarP(&f.out, "out", "o", "", "file for the resolution (default: NONCE-attemptN.resolution in this folder)")
	fl.BoolVar(&f.unsigned, "unsigned", false, "make it without a signature, for signing elsewhere")
	fl.StringVar(&f.pae, "pae", "", "also write the exact bytes to sign to this file, for ssh-keygen -Y sign -n "+signedop.ResolutionSSHNamespace)
	fl.BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	f.validity.register(cmd)
	f.key.register(cmd)
	f.client.register(cmd)
	return cmd
}

// check refuses command lines that can't be meant.
func (f *recoverySignFlags) check(cmd *cobra.Command) error {
	if err := oneOf(cmd, "valid-for", "expires-at"); err != nil {
		return err
	}
	f.offline = cmd.Flags().Changed("attempt")
	if f.offline != cmd.Flags().Changed("revision") {
		return usagef("--attempt and --revision go together: writ recovery show says both")
	}
	if with := given(cmd, "url", "token-file", "service-ca-file"); f.offline && len(with) > 0 {
		return usagef("%s: with --attempt and --revision the service is not asked; leave it out", with[0])
	}
	if f.verdict == string(signedop.VerdictSucceeded) && f.effect == "" {
		f.effect = string(op.EffectDone)
	}
	switch {
	case f.verdict == "":
		return usagef("--verdict is required: succeeded or failed, as you have seen it")
	case f.effect == "":
		return usagef("--effect is required: none, partial or unknown; unknown if it can't be told")
	case f.reason == "":
		return usagef("--reason is required: what you have seen; people and auditors will read it")
	case f.requestedBy == "":
		return usagef("--requested-by is required: the person who asked for it, as named in the policy")
	case f.audience == "":
		return usagef("--audience is required: agent/ledger, as writ init printed it")
	case f.unsigned && f.key.given():
		return usagef("--unsigned and a key exclude each other")
	case !f.unsigned && !f.key.given():
		return usagef("with which key? Give --key FILE, or --agent-key FINGERPRINT, or --unsigned to sign elsewhere")
	}
	return nil
}

func (a *app) recoverySign(ctx context.Context, f recoverySignFlags, nonce string) error {
	res := signedop.Resolution{
		Version: signedop.ResolutionVersion, Audience: f.audience, Attempt: f.attempt, Revision: f.revision,
		Verdict: signedop.Verdict(f.verdict), Effect: op.Effect(f.effect),
		Role: f.role, RequestedBy: f.requestedBy, Reason: f.reason,
	}
	var err error
	if res.NotBefore, res.ExpiresAt, err = f.validity.times(a.now()); err != nil {
		return err
	}
	var it *httpapi.RecoveryItem
	if f.offline {
		res.Nonce, err = op.ParseNonce(nonce)
		if err != nil {
			return usagef("%w; offline, the nonce must be given whole", err)
		}
	} else if it, err = f.fillFromService(ctx, nonce, &res); err != nil {
		return err
	}
	if err := res.Check(); err != nil {
		return fmt.Errorf("this can't be claimed: %w", err)
	}
	if f.out == "" {
		f.out = fmt.Sprintf("%s-attempt%d.resolution", string(res.Nonce)[:8], res.Attempt)
	}
	for _, path := range []string{f.out, f.pae} {
		if path == "" {
			continue
		}
		if err := mustNotExist(path); err != nil {
			return err
		}
	}
	a.showClaim(f, res, it)
	if ok, err := a.agreed(ctx, f.yes || f.unsigned, "Sign it?"); err != nil || !ok {
		return err
	}
	raw, err := a.sealResolution(ctx, res, f)
	if err != nil {
		return err
	}
	return a.finishResolution(f, res, raw)
}

// fillFromService puts into a resolution which op it is about, as it stands
// now.
func (f recoverySignFlags) fillFromService(ctx context.Context, nonce string, res *signedop.Resolution) (*httpapi.RecoveryItem, error) {
	c, err := f.client.open()
	if err != nil {
		return nil, err
	}
	r, it, err := c.recoveryItem(ctx, nonce)
	if err != nil {
		return nil, err
	}
	n := op.Nonce(it.Nonce)
	ledger, _, _ := strings.Cut(r.AsOf, ":")
	_, mine, _ := strings.Cut(f.audience, "/")
	switch {
	case ledger != "" && ledger != mine:
		return nil, fmt.Errorf("--audience %s: the service keeps the ledger %s: is it the service you mean?", f.audience, ledger)
	case it.Corrupt != "" || it.Revision == nil:
		return nil, fmt.Errorf("op %s can't be settled, its stream is corrupt: %s", n.Short(), it.Corrupt)
	case *it.Revision == 0:
		return nil, fmt.Errorf("op %s is only claimed: nothing was sent, and it ends by itself. There is nothing to settle", n.Short())
	}
	res.Nonce, res.Attempt, res.Revision = n, it.Attempt, *it.Revision
	return &it, nil
}

// showClaim puts before a person's eyes what they are about to vouch for.
func (a *app) showClaim(f recoverySignFlags, res signedop.Resolution, it *httpapi.RecoveryItem) {
	w := plainWriter{a.err}
	if f.unsigned {
		fmt.Fprint(w, "\nThis is what there will be to sign. The service takes the word of those who sign.\n\n")
	} else {
		fmt.Fprint(w, "\nYou are about to vouch for this. The service takes the word of those who sign.\n\n")
	}
	describeResolution(w, res, a.now())
	if it == nil {
		fmt.Fprint(w, "\n  The service was not asked: see for yourself that it is this op, attempt and event.\n\n")
		return
	}
	fmt.Fprintf(w, "\n  The op: %s of %s, %s since %s\n", it.Class, targetText(it.Target), recoveryState(*it), it.Since.Format(time.RFC3339))
	if it.Detail != "" {
		fmt.Fprintf(w, "  Known:  %s\n", it.Detail)
	}
	if !it.Indeterminate {
		fmt.Fprint(w, "  Note: it is not indeterminate. writ is still working on it and may bring it to its end by itself.\n")
	}
	fmt.Fprint(w, "\n  Have you looked at:\n")
	for _, l := range it.Look {
		fmt.Fprintf(w, "    - %s\n", l)
	}
	fmt.Fprintln(w)
}

func (a *app) sealResolution(ctx context.Context, res signedop.Resolution, f recoverySignFlags) ([]byte, error) {
	if f.unsigned {
		return signedop.SealResolution(res)
	}
	signer, done, err := f.key.open(ctx, a)
	if err != nil {
		return nil, err
	}
	defer done()
	return signedop.SealResolution(res, signer)
}

func (a *app) finishResolution(f recoverySignFlags, res signedop.Resolution, raw []byte) error {
	u, err := signedop.ParseResolution(raw) // what a receiver will see
	if err != nil {
		return err
	}
	if err := writeSigned(f.out, f.pae, raw); err != nil {
		return err
	}
	result := resolutionResult{
		File: f.out, NonceShort: res.Nonce.Short(), Attempt: res.Attempt, Revision: res.Revision, Verdict: res.Verdict, Effect: res.Effect,
		Audience: res.Audience, ExpiresAt: res.ExpiresAt, SHA256: u.Digest(), SignedBy: []string{}, PAE: f.pae,
	}
	for _, s := range u.Signatures() {
		result.SignedBy = append(result.SignedBy, s.KeyID)
	}
	return a.show(result, result.text)
}

func (r resolutionResult) text(w io.Writer) {
	switch {
	case len(r.SignedBy) > 0:
		fmt.Fprintf(w, "%s: signed with %s.\nNext: writ cosign %s (if the role needs more people), then writ recovery resolve %s\n", r.File, r.SignedBy[0], r.File, r.File)
	case r.PAE == "":
		fmt.Fprintf(w, "%s: not signed yet.\nNext: writ cosign %s --key FILE, or --pae FILE for the bytes to sign elsewhere\n", r.File, r.File)
	default:
		fmt.Fprintf(w, "%s: not signed yet.\n%s", r.File, signElsewhere(signedop.ResolutionSSHNamespace, r.PAE, r.File))
	}
}
