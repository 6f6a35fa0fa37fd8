package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"writ/adapters/httpapi"
	"writ/domain/op"
)

func newOpsCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{Use: "ops", Short: "See the ops of a service", Args: noArgs}
	cmd.AddCommand(newOpsLsCmd(a), newOpsShowCmd(a))
	return cmd
}

func newOpsShowCmd(a *app) *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use:   "show NONCE",
		Short: "Show an op with its events",
		Long: `Shows how an op stands on record, folded from its stream, and what happened in it.
The nonce is that of the writ (writ inspect shows it); of a benign op, which has no
writ, the one that writ submit has told. Of an op in flight, its first eight digits or
more are enough.`,
		Args: oneArg("a nonce"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := f.open()
			if err != nil {
				return err
			}
			nonce, err := c.findNonce(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			var o httpapi.Op
			if err := c.get(cmd.Context(), "/v1/ops/"+string(nonce), &o); err != nil {
				return err
			}
			return a.show(o, func(w io.Writer) { opText(w, o) })
		},
	}
	f.register(cmd)
	return cmd
}

// minPrefix is how much of a nonce must be given: as much as is ever shown.
const minPrefix = 8

// findNonce completes the beginning of a nonce of an op in flight.
func (c *client) findNonce(ctx context.Context, given string) (op.Nonce, error) {
	return completeNonce(given, func() ([]string, error) {
		list, err := c.inFlight(ctx)
		if err != nil {
			return nil, err
		}
		nonces := make([]string, len(list.Ops))
		for i, o := range list.Ops {
			nonces[i] = o.Nonce
		}
		return nonces, nil
	})
}

// completeNonce gives a nonce for what a person typed: whole, or the beginning
// of one of those in flight, for which alone they are listed.
func completeNonce(given string, inFlight func() ([]string, error)) (op.Nonce, error) {
	given = strings.TrimSuffix(given, "…")
	if n, err := op.ParseNonce(given); err == nil {
		return n, nil
	} else if len(given) < minPrefix || len(given) >= op.MinNonceDigits || strings.Trim(given, "0123456789abcdef") != "" {
		return "", usagef("%w; of an op in flight, the first %d digits or more are enough", err, minPrefix)
	}
	nonces, err := inFlight()
	if err != nil {
		return "", err
	}
	var found []op.Nonce
	for _, n := range nonces {
		if strings.HasPrefix(n, given) {
			found = append(found, op.Nonce(n))
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", fmt.Errorf("no op in flight has a nonce that begins with %s; give the whole nonce (writ inspect shows it)", given)
	default:
		return "", fmt.Errorf("%d ops in flight have a nonce that begins with %s; give more of it", len(found), given)
	}
}

func targetText(t httpapi.Target) string {
	what := t.Volume + t.Disk // one of them
	switch {
	case t.Guest != nil:
		what = fmt.Sprintf("%s %d", t.Guest.Type, t.Guest.VMID)
	case t.Pool != nil:
		what = op.Pool{Kind: op.PoolKind(t.Pool.Kind), Name: t.Pool.Name, VolumeGroup: t.Pool.VolumeGroup}.String()
	}
	if what == "" {
		return t.Node
	}
	return what + " on " + t.Node
}

func opText(w io.Writer, o httpapi.Op) {
	w = plainWriter{w}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(t, "%s\t%s\n", name, value)
		}
	}
	row("nonce", o.NonceShort)
	row("state", fmt.Sprintf("%s since %s", o.State, o.Since.Format(time.RFC3339)))
	row("what", o.Class)
	if o.Target != nil {
		row("target", targetText(*o.Target))
	}
	if o.Attempt > 0 {
		row("op", fmt.Sprintf("%s, attempt %d", o.OpID, o.Attempt))
	}
	row("upid", o.UPID)
	row("effect", o.Effect)
	row("detail", o.Detail)
	row("CORRUPT", o.Corrupt)
	_ = t.Flush()
	fmt.Fprintln(w)
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "#\tAT\tEVENT\tWHAT")
	if o.Omitted > 0 {
		fmt.Fprintf(t, "\t\t(%d older)\t\n", o.Omitted)
	}
	for _, e := range o.Events {
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\n", e.Revision, e.At.Format("2006-01-02T15:04:05.000Z07:00"), e.Type, eventText(e))
	}
	_ = t.Flush()
}

// eventText says in a line what an event adds.
func eventText(e httpapi.Event) string {
	if len(e.Data) == 0 {
		return "can't be read"
	}
	ev, err := op.Decode(e.Type, e.Data)
	if err != nil {
		return "unknown to this program"
	}
	switch ev := ev.(type) {
	case *op.Started:
		if ev.Keyless {
			return fmt.Sprintf("attempt %d claimed; benign, so nobody signed it; allowed to %s under policy %d", ev.Attempt, ev.SubmittedBy, ev.PolicySerial)
		}
		return fmt.Sprintf("attempt %d claimed; signed by %s as %s under policy %d; submitted by %s",
			ev.Attempt, signersText(ev.Signers), ev.Role, ev.PolicySerial, ev.SubmittedBy)
	case *op.Launching:
		return fmt.Sprintf("about to send %s %s to %s as %s", ev.Request.Method, requestText(ev.Request), ev.Node, ev.Credential)
	case *op.TaskRunning:
		return runningText(ev)
	case *op.Succeeded:
		text := fmt.Sprintf("done (%s): %s", ev.ExitStatus, strings.Join(ev.Evidence.Reasons, "; "))
		if len(ev.Residue) > 0 {
			text += "; left behind: " + strings.Join(ev.Residue, ", ")
		}
		return text + resolvedText(ev.Resolution)
	case *op.Failed:
		return fmt.Sprintf("%s, effect %s: %s", ev.Kind, ev.Effect, ev.Message) + resolvedText(ev.Resolution)
	case *op.Voided:
		return fmt.Sprintf("taken back by %s: %s", ev.VoidedBy, ev.Reason)
	}
	return ""
}

func signersText(signers []op.Signer) string {
	names := make([]string, len(signers))
	for i, s := range signers {
		names[i] = s.Person
	}
	return strings.Join(names, ", ")
}

// resolvedText says on whose word an op ended; empty if on the host's.
func resolvedText(r *op.Resolved) string {
	if r == nil {
		return ""
	}
	return fmt.Sprintf("; on the word of %s as %s under policy %d", signersText(r.Signers), r.Role, r.PolicySerial)
}

func requestText(r op.Request) string {
	if r.Query == "" {
		return r.Path
	}
	return r.Path + "?" + r.Query
}

// runningText says how the op came to its task.
func runningText(e *op.TaskRunning) string {
	switch {
	case e.UPID == "" && e.Adopted:
		return "the host took it, on the word of those who settled it; no task of it is known"
	case e.Adopted:
		return "recovery found the host's task: " + e.UPID
	}
	return "the host took it: " + e.UPID
}
