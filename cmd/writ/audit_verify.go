package main

import (
	"bytes"
	"errors"
	"fmt"
	"math"

	"github.com/spf13/cobra"

	"writ/projections/audit"
)

type auditVerifyFlags struct {
	auditFlags

	html, today string
	known       []string
	limit       int
}

func newAuditVerifyCmd(a *app) *cobra.Command {
	var f auditVerifyFlags
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check a whole record",
		Long: `Reads a whole record and checks every event, chain hash, transition, signature and
decision. The report tells what does not hold and where, what could not be decided
again from what is on record, and which ops are in flight. Nonces are shortened in
it, and it holds no writ.

With --today it also asks a policy of today about every claim of the past: would it
have been allowed, at its time and with its facts?

Nobody signs policies. With --known-policy, once for each policy file that you know was
in force, any other policy on record is a finding.

The exit code is 0 if the record is sound, 10 if something does not hold, and 1 if
it could not be read to its end.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.auditVerify(cmd, &f) },
	}
	f.register(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.html, "html", "", "also write the report to this file, as a page that prints well")
	fl.StringVar(&f.today, "today", "", "policy file: would it have allowed what is on record?")
	fl.StringArrayVar(&f.known, "known-policy", nil, "policy file that you know; repeat it for each: a policy on record that is none of them is a finding")
	fl.IntVar(&f.limit, "limit", 1000, "how many findings, and ops in flight, are listed at most; all are counted")
	return cmd
}

func (a *app) auditVerify(cmd *cobra.Command, f *auditVerifyFlags) error {
	o := audit.Options{Limit: f.limit}
	if f.limit < 1 {
		return usagef("--limit: %d is not 1 or more", f.limit)
	}
	if f.today != "" {
		policy, err := readPolicyFile(f.today)
		if err != nil {
			return fmt.Errorf("policy: %w", err)
		}
		// Its serial is that of no policy on record.
		if o.Today, err = policy.compile(math.MaxUint64); err != nil {
			return err
		}
	}
	for _, path := range f.known {
		policy, err := readPolicyFile(path)
		if err != nil {
			return fmt.Errorf("policy: %w", err)
		}
		digest, err := audit.PolicyDigest(policy.Document)
		if err != nil {
			return err
		}
		o.Known = append(o.Known, digest)
	}
	r, err := a.verifySource(cmd, f, o)
	if r == nil {
		return err
	}
	if f.html != "" {
		var page bytes.Buffer
		if err := r.WriteHTML(&page); err != nil {
			return err
		}
		if err := replace(f.html, page.Bytes()); err != nil {
			return err
		}
	}
	if err := a.showReport(r); err != nil {
		return err
	}
	switch {
	case err != nil:
		return err
	case !r.Sound:
		return &toldError{exitUnsound}
	}
	return nil
}

// verifySource opens, verifies and closes. The report is nil only if there was
// nothing to be opened.
func (a *app) verifySource(cmd *cobra.Command, f *auditVerifyFlags, o audit.Options) (_ *audit.Report, err error) {
	src, err := f.open(cmd.Context(), a, cmd)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, src.close()) }()
	m := a.newMeter("checked")
	defer m.end()
	o.Progress = m.show
	return audit.Verify(cmd.Context(), src, o)
}

func (a *app) showReport(r *audit.Report) error {
	if !a.asJSON {
		return r.WriteText(plainWriter{a.out})
	}
	data, err := r.JSON()
	if err != nil {
		return err
	}
	_, err = a.out.Write(append(data, '\n'))
	return err
}
