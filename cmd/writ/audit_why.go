package main

import (
	"errors"

	"github.com/spf13/cobra"

	"writ/domain/op"
	"writ/projections/audit"
)

func newAuditWhyCmd(a *app) *cobra.Command {
	var f auditFlags
	cmd := &cobra.Command{
		Use:   "why NONCE",
		Short: "Tell the story of one op in plain words",
		Long: `Tells the story of one op from its record: who signed what and when, what the gate saw
and by which policy it decided, what was sent to the host, what the host said, how it
ended and by which evidence; and whether all of it still holds when checked again.

The first eight digits of the nonce or more are enough. The exit code is 10 if
something of it does not hold.`,
		Args: oneArg("a nonce"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.auditWhy(cmd, &f, args[0]) },
	}
	f.register(cmd)
	return cmd
}

func (a *app) auditWhy(cmd *cobra.Command, f *auditFlags, nonce string) (err error) {
	src, err := f.open(cmd.Context(), a, cmd)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.close()) }()
	s, err := audit.Why(cmd.Context(), src.Source, nonce)
	if err != nil {
		return err
	}
	if a.asJSON {
		data, err := op.Marshal(s)
		if err != nil {
			return err
		}
		if _, err := a.out.Write(append(data, '\n')); err != nil {
			return err
		}
	} else if err := s.WriteText(plainWriter{a.out}); err != nil {
		return err
	}
	if len(s.Findings) > 0 {
		return &toldError{exitUnsound}
	}
	return nil
}
