package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"writ/adapters/httpapi"
	"writ/domain/op"
)

// listFlags say which ops are asked for.
type listFlags struct {
	all                                    bool
	states                                 []string
	class, node, signer, opID, from, until string
	vmid, limit                            int
	cursor, atLeast                        string
}

func newOpsLsCmd(a *app) *cobra.Command {
	var (
		f clientFlags
		l listFlags
	)
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List ops: those in flight, or those asked for",
		Long: `Lists ops, the one that began last first. Without a filter it lists the ops in flight:
claimed, and not at their end; and those whose stream is corrupt, because a person must
look at them. With filters it lists all that fit every one of them, and
with --all every op there ever was.

At the end of a page that is not the last it says how to go on. An op never changes its
place in the list: whoever goes on to the end sees every op once.`,
		Example: `  writ ops ls
  writ ops ls --all --limit 20
  writ ops ls --state failed,corrupt --from 2026-11-01T00:00:00Z
  writ ops ls --vmid 105`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query, err := l.query(a.now())
			if err != nil {
				return err
			}
			c, err := f.open()
			if err != nil {
				return err
			}
			list, err := c.list(cmd.Context(), query)
			if err != nil {
				return err
			}
			return a.show(list, func(w io.Writer) { listText(w, list, query.Get("state") == openStates, a.now()) })
		},
	}
	f.register(cmd)
	fl := cmd.Flags()
	fl.BoolVar(&l.all, "all", false, "all ops, not just those in flight")
	fl.StringSliceVar(&l.states, "state", nil, "ops in one of these states: "+strings.Join(listStates, ", "))
	fl.StringVar(&l.class, "class", "", "ops of this class, such as guest-destroy")
	fl.IntVar(&l.vmid, "vmid", 0, "ops on the guest of this number")
	fl.StringVar(&l.node, "node", "", "ops that name this node, or were sent to it")
	fl.StringVar(&l.signer, "signer", "", "ops that this person signed")
	fl.StringVar(&l.opID, "op-id", "", "the op with this attempt")
	fl.StringVar(&l.from, "from", "", "ops that began at this time or later, or for so long: 2026-11-23T09:00:00Z, 24h")
	fl.StringVar(&l.until, "until", "", "ops that began before this time, or longer ago")
	fl.IntVar(&l.limit, "limit", 0, "the most ops to list, up to 500 (default 100)")
	fl.StringVar(&l.cursor, "cursor", "", "go on where the page before ended")
	fl.StringVar(&l.atLeast, "at-least", "", "wait until the list is as far as this cursor of the ledger")
	return cmd
}

// listStates are what can be asked for as a state.
var listStates = []string{"in-flight", "started", "launching", "task-running", "succeeded", "failed", "failed-clean", "voided", "corrupt"}

// openStates are of ops that are not at their end, or at which a person must look.
const openStates = "in-flight,corrupt"

// query gives what is asked of the service.
func (l *listFlags) query(now time.Time) (url.Values, error) {
	for _, s := range l.states {
		if !slices.Contains(listStates, s) {
			return nil, usagef("--state %q is none of %s", s, strings.Join(listStates, ", "))
		}
	}
	q := url.Values{}
	set := func(name, value string) {
		if value != "" {
			q.Set(name, value)
		}
	}
	set("state", strings.Join(l.states, ","))
	set("class", l.class)
	set("node", l.node)
	set("signer", l.signer)
	set("op_id", l.opID)
	if l.vmid != 0 {
		q.Set("vmid", strconv.Itoa(l.vmid))
	}
	for _, t := range []struct{ flag, name, value string }{{"--from", "from", l.from}, {"--until", "until", l.until}} {
		at, err := pointInTime(t.value, now)
		if err != nil {
			return nil, usagef("%s %q: %w", t.flag, t.value, err)
		}
		set(t.name, at)
	}
	if len(l.states) > 0 && l.all {
		return nil, usagef("--all and --state can't be given together")
	}
	if len(q) == 0 && !l.all {
		q.Set("state", openStates)
	}
	if l.limit != 0 {
		q.Set("limit", strconv.Itoa(l.limit))
	}
	set("cursor", l.cursor)
	set("at_least", l.atLeast)
	return q, nil
}

// pointInTime reads a time, or how long ago it was.
func pointInTime(text string, now time.Time) (string, error) {
	if text == "" {
		return "", nil
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago).UTC().Format(time.RFC3339Nano), nil
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return "", fmt.Errorf("not a time such as 2026-11-23T09:00:00Z, nor a span such as 24h")
	}
	return at.UTC().Format(time.RFC3339Nano), nil
}

func (c *client) list(ctx context.Context, query url.Values) (httpapi.OpList, error) {
	var list httpapi.OpList
	path := "/v1/ops"
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	err := c.get(ctx, path, &list)
	return list, err
}

// inFlight gives all ops in flight, and the corrupt ones.
func (c *client) inFlight(ctx context.Context) (httpapi.OpList, error) {
	query := url.Values{"state": {openStates}, "limit": {"500"}}
	all, err := c.list(ctx, query)
	for next := all.Next; err == nil && next != ""; {
		query.Set("cursor", next)
		var page httpapi.OpList
		page, err = c.list(ctx, query)
		all.Ops, next = append(all.Ops, page.Ops...), page.Next
	}
	all.Next = ""
	return all, err
}

func listText(w io.Writer, list httpapi.OpList, inFlight bool, now time.Time) {
	w = plainWriter{w}
	if !list.CaughtUp {
		fmt.Fprintln(w, "The list lags behind the ledger: ops may be missing.")
	}
	switch {
	case len(list.Ops) == 0 && list.Next != "":
		fmt.Fprintln(w, "No op so far, there is more to look through.")
	case len(list.Ops) == 0 && inFlight:
		fmt.Fprintln(w, "No op is in flight.")
	case len(list.Ops) == 0:
		fmt.Fprintln(w, "No op fits.")
	default:
		listTable(w, list.Ops, inFlight, now)
	}
	if list.Next != "" {
		fmt.Fprintf(w, "There is more: the same with --cursor %s\n", list.Next)
	}
}

func listTable(w io.Writer, ops []httpapi.OpItem, inFlight bool, now time.Time) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	head := "NONCE\tCLASS\tTARGET\tSTATE\tBEGAN\tDETAIL"
	if inFlight {
		head = "NONCE\tCLASS\tTARGET\tSTATE\tFOR\tWHY"
	}
	fmt.Fprintln(t, head)
	for _, o := range ops {
		state := o.State
		switch {
		case o.Corrupt != "":
			state = "corrupt"
		case o.State == "failed":
			state += ", effect " + o.Effect
		}
		when := o.Began.Format(time.RFC3339)
		if inFlight {
			when = now.Sub(o.Since).Round(time.Second).String()
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", op.Nonce(o.Nonce).Short(), o.Class, targetText(o.Target), state, when, o.Detail)
	}
	_ = t.Flush()
}
