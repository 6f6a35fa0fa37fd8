package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"writ/domain/gate"
	"writ/domain/op"
	"writ/domain/signedop"
)

type inspectFlags struct{ policy, at, audience string }

// An inspection is what inspect tells programs.
type inspection struct {
	File     string `json:"file"`
	Verified bool   `json:"verified"` // by a policy, apart from what the host or the op's stream says
	// One of the two, as the file holds a writ or a resolution.
	Document   *signedop.Document   `json:"document,omitempty"`
	Resolution *signedop.Resolution `json:"resolution,omitempty"`
	SHA256     op.Digest            `json:"document_sha256"`
	Bytes      int                  `json:"bytes"`
	Warning    string               `json:"warning,omitempty"`

	Signatures []signatureView `json:"signatures"`
	Decision   *decisionView   `json:"decision,omitempty"`

	of *signedFile
}

// A signatureView is one signature; all but the key only with a policy.
type signatureView struct {
	Key    string `json:"key"` // claimed fingerprint
	Person string `json:"person,omitempty"`
	Counts *bool  `json:"counts,omitempty"`
	Note   string `json:"note,omitempty"`
}

// A decisionView is what the gate would say, apart from the host's facts.
type decisionView struct {
	At       time.Time   `json:"at"`
	Policy   string      `json:"policy_file"`
	Accepted bool        `json:"accepted"`
	Reason   gate.Reason `json:"reason,omitempty"` // of a refusal
	Detail   string      `json:"detail,omitempty"`
	Audience string      `json:"audience_checked,omitempty"` // empty: it was not compared
}

const notVerified = "NOT VERIFIED: anyone can have written this. Check it with --policy FILE before you believe a word of it."

func newInspectCmd(a *app) *cobra.Command {
	var f inspectFlags
	cmd := &cobra.Command{
		Use:   "inspect FILE",
		Short: "Show what a writ orders, or a resolution claims, and who signed it",
		Long: `Shows everything in a writ or a resolution, whole nonce included: who knows the
nonce of a writ that has not run yet should be somebody who may submit it.

Without --policy nothing is verified. With it, the signatures are checked and the
gate is asked as the service would ask it, but for what only the host can tell:
whether the target is in scope and still the one that was signed for. Of a resolution
it is the op's stream that can't be told: whether the op still stands as its signers
saw it. What would be refused ends with exit code 1.`,
		Args: oneArg("the file of a writ or a resolution"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if with := given(cmd, "at", "audience"); len(with) > 0 && f.policy == "" {
				return usagef("%s goes with --policy only: without it nothing is verified", with[0])
			}
			return a.inspect(args[0], f)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.policy, "policy", "", "policy file to verify it by")
	fl.StringVar(&f.at, "at", "", "with --policy: decide as of this time, such as 2026-11-23T09:00:00Z (default: now)")
	fl.StringVar(&f.audience, "audience", "", "with --policy: agent/ledger it must be for (default: whatever it says)")
	return cmd
}

func (a *app) inspect(path string, f inspectFlags) error {
	now := a.now().UTC()
	if f.at != "" {
		var err error
		if now, err = parseTime("--at", f.at); err != nil {
			return err
		}
	}
	file, err := readSigned(path)
	if err != nil {
		return err
	}
	v := inspection{
		File: path, SHA256: file.digest(), Bytes: len(file.raw), Warning: notVerified, Signatures: []signatureView{}, of: file,
	}
	if file.order != nil {
		d := file.order.UnverifiedDocument()
		v.Document = &d
	} else {
		r := file.resolution.UnverifiedResolution()
		v.Resolution = &r
	}
	for _, s := range file.signatures() {
		v.Signatures = append(v.Signatures, signatureView{Key: s.KeyID})
	}
	if f.policy != "" {
		if err := v.verify(now, f); err != nil {
			return err
		}
	}
	if err := a.show(v, func(w io.Writer) { v.text(w, now) }); err != nil {
		return err
	}
	if v.Decision != nil && !v.Decision.Accepted {
		return &toldError{exitFailed}
	}
	return nil
}

// verify asks the gate, and tells of each signature what became of it.
func (v *inspection) verify(now time.Time, f inspectFlags) error {
	file, err := readPolicyFile(f.policy)
	if err != nil {
		return err
	}
	policy, err := file.compile(1)
	if err != nil {
		return err
	}
	audience := f.audience
	if audience == "" {
		audience = v.of.terms().audience
	}
	agent, ledger, ok := strings.Cut(audience, "/")
	if !ok {
		return usagef("--audience: %q is not agent/ledger, as writ init printed it", audience)
	}
	site := gate.Site{Agent: agent, Ledger: ledger}
	v.Decision = &decisionView{At: now, Policy: f.policy, Audience: f.audience}
	if v.of.order != nil {
		authentic, refusal := gate.Authenticate(now, policy, site, gate.Submission{Intent: v.Document.Intent(), Envelope: v.of.raw})
		v.Verified, v.Decision.Reason, v.Decision.Detail = authentic != nil, refusal.Reason, refusal.Detail
	} else if d := gate.Resolve(now, policy, site, v.of.raw); d.Allowed() {
		v.Verified = true
	} else {
		v.Decision.Reason, v.Decision.Detail = d.Reason, d.Detail
	}
	v.Decision.Accepted = v.Verified
	if v.Verified {
		v.Warning = ""
	}
	v.Signatures = signatureViews(now, policy.Document(), v.of)
	return nil
}

func (v inspection) text(w io.Writer, now time.Time) {
	if v.Warning != "" && v.Decision == nil {
		fmt.Fprintf(w, "%s\n\n", v.Warning)
	}
	fmt.Fprintf(w, "%s %s:\n\n", v.File, v.of.verb())
	v.of.describe(w, now)
	fmt.Fprintf(w, "  %-13s %s\n  %-13s %s\n", "Nonce", string(v.of.nonce()), "SHA-256", v.SHA256)
	if len(v.Signatures) == 0 {
		fmt.Fprint(w, "\nSignatures: none\n")
	} else {
		fmt.Fprint(w, "\nSignatures:\n")
	}
	for _, s := range v.Signatures {
		switch {
		case s.Counts == nil:
			fmt.Fprintf(w, "  - %s (claimed)\n", s.Key)
		case *s.Counts:
			fmt.Fprintf(w, "  - %s: %s, counts\n", s.Key, s.Person)
		default:
			fmt.Fprintf(w, "  - %s: does not count: %s\n", s.Key, s.Note)
		}
	}
	d := v.Decision
	switch {
	case d == nil:
	case d.Accepted:
		provided := "the host shows the target in the role's scope and as expected above"
		if v.Resolution != nil {
			provided = fmt.Sprintf("the op is still in attempt %d, and event %d its newest", v.Resolution.Attempt, v.Resolution.Revision)
		}
		fmt.Fprintf(w, "\nVerified by %s as of %s: ACCEPTED, provided that %s.\n", d.Policy, d.At.Format(time.RFC3339), provided)
		if d.Audience == "" {
			fmt.Fprintf(w, "Not compared: the audience; give --audience to be sure it is for your ledger.\n")
		}
	default:
		fmt.Fprintf(w, "\nBy %s as of %s: REFUSED, %s\n  %s\n", d.Policy, d.At.Format(time.RFC3339), d.Reason, d.Detail)
	}
}
