package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"writ/adapters/httpapi"
	"writ/domain/op"
)

const recoveryLong = `Shows and settles ops that are in flight.

An op is indeterminate if what is known does not decide whether its request took
effect, such as when the answer was lost and the node can't be reached. writ never
guesses: it goes on asking, nothing else is done to the same target meanwhile, and
the op stays here until the host's evidence decides it, or people do:

  writ recovery ls
  writ recovery show NONCE            what is known, and what to look at
  writ recovery sign NONCE ...        make a resolution: your word, signed
  writ cosign FILE ...                if the role needs more people
  writ recovery resolve FILE          hand it in`

func newRecoveryCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "recovery", Short: "See and settle ops that are in flight", Long: recoveryLong, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newRecoveryLsCmd(a), newRecoveryShowCmd(a), newRecoverySignCmd(a), newRecoveryResolveCmd(a))
	return cmd
}

func newRecoveryLsCmd(a *app) *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the recovery queue: what is in flight, and what keeps it there",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := f.open()
			if err != nil {
				return err
			}
			r, err := c.recovery(cmd.Context())
			if err != nil {
				return err
			}
			return a.show(r, func(w io.Writer) { recoveryText(w, r, a.now()) })
		},
	}
	f.register(cmd)
	return cmd
}

func newRecoveryShowCmd(a *app) *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use:   "show NONCE",
		Short: "Show what is known of an op in flight, and what to look at",
		Long: `Shows how an op in flight stands on record, what is known and missing, and what a
person should look at before settling it. The first eight digits of its nonce or
more are enough.`,
		Args: oneArg("a nonce"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := f.open()
			if err != nil {
				return err
			}
			_, it, err := c.recoveryItem(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.show(it, func(w io.Writer) { recoveryItemText(w, it, a.now()) })
		},
	}
	f.register(cmd)
	return cmd
}

func (c *client) recovery(ctx context.Context) (httpapi.Recovery, error) {
	var r httpapi.Recovery
	err := c.get(ctx, "/v1/recovery", &r)
	return r, err
}

// recoveryItem finds an op in flight by its nonce, or by the beginning of it.
func (c *client) recoveryItem(ctx context.Context, given string) (httpapi.Recovery, httpapi.RecoveryItem, error) {
	r, err := c.recovery(ctx)
	if err != nil {
		return r, httpapi.RecoveryItem{}, err
	}
	n, err := completeNonce(given, func() ([]string, error) {
		nonces := make([]string, len(r.Ops))
		for i, it := range r.Ops {
			nonces[i] = it.Nonce
		}
		return nonces, nil
	})
	if err != nil {
		return r, httpapi.RecoveryItem{}, err
	}
	for _, it := range r.Ops {
		if it.Nonce == string(n) {
			return r, it, nil
		}
	}
	why := "it has ended, or never ran here"
	if !r.CaughtUp {
		why += ", or the service's view lags behind its ledger"
	}
	return r, httpapi.RecoveryItem{}, fmt.Errorf("op %s is not in flight: %s (writ ops show tells)", n.Short(), why)
}

// alarms tells what nobody may miss.
func alarms(w io.Writer, r httpapi.Recovery) {
	if r.Halted != "" {
		fmt.Fprintf(w, "ALARM: nothing is launched any more: %s\nLook into it, then start the service again.\n\n", r.Halted)
	}
	if !r.Surveyed {
		fmt.Fprint(w, "The service has not yet taken up all that was in flight when it started; nothing is launched before.\n\n")
	}
	if !r.CaughtUp {
		fmt.Fprint(w, "The list lags behind the ledger: ops may be missing.\n\n")
	}
}

func recoveryText(w io.Writer, r httpapi.Recovery, now time.Time) {
	w = plainWriter{w}
	alarms(w, r)
	if len(r.Ops) == 0 {
		fmt.Fprintln(w, "No op is in flight.")
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NONCE\tCLASS\tTARGET\tATTEMPT\tSTATE\tFOR\tWAITS FOR")
	stuck := 0
	for _, it := range r.Ops {
		if it.Indeterminate {
			stuck++
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t%s\t%s\n", op.Nonce(it.Nonce).Short(), it.Class, targetText(it.Target), it.Attempt,
			recoveryState(it), now.Sub(it.Since).Round(time.Second), it.WaitsFor)
	}
	_ = t.Flush()
	if stuck > 0 {
		fmt.Fprintf(w, "\n%s indeterminate: writ recovery show NONCE says what is known and what to look at.\n", count(stuck, "op is", "ops are"))
	}
}

func recoveryState(it httpapi.RecoveryItem) string {
	switch {
	case it.Corrupt != "":
		return "CORRUPT"
	case it.Indeterminate:
		return it.State + ", indeterminate"
	}
	return it.State
}

func recoveryItemText(w io.Writer, it httpapi.RecoveryItem, now time.Time) {
	w = plainWriter{w}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(t, "%s\t%s\n", name, value)
		}
	}
	row("nonce", op.Nonce(it.Nonce).Short())
	row("what", it.Class)
	row("target", targetText(it.Target))
	row("op", fmt.Sprintf("%s, attempt %d", it.OpID, it.Attempt))
	row("state", fmt.Sprintf("%s since %s (%s)", recoveryState(it), it.Since.Format(time.RFC3339), now.Sub(it.Since).Round(time.Second)))
	if it.Revision != nil {
		row("revision", fmt.Sprint(*it.Revision))
	}
	row("upid", it.UPID)
	row("waits for", it.WaitsFor)
	row("known", it.Detail)
	row("CORRUPT", it.Corrupt)
	_ = t.Flush()
	fmt.Fprint(w, "\nLook at:\n")
	for _, l := range it.Look {
		fmt.Fprintf(w, "  - %s\n", l)
	}
	if it.Indeterminate {
		fmt.Fprintf(w, "\nSettle it once you know, or once nobody can know any more:\n  writ recovery sign %s --verdict ... --effect ... --reason ... (see writ recovery sign --help)\n",
			op.Nonce(it.Nonce).Short())
	}
}
