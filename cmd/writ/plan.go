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
	"writ/adapters/proxmox"
	"writ/domain/op"
	"writ/domain/signedop"
)

const planLong = `Tells what an operation would take away from the host, as things stand: disks with
their sizes, snapshots, entries in pools and access lists; what would remain, backups
first of all; and what would keep it from running. It changes nothing.

The digest at its end is about what is taken away alone. In an order (writ sign --plan,
or --expect-plan) it keeps the operation from running once more, less or something else
would be lost.

The token needs no more than to look (role PVEAuditor); to see backups also VM.Backup on
the guest and Datastore.AllocateSpace on their storage. What it may not see is named.`

func newPlanCmd(a *app) *cobra.Command {
	var what opFlags
	var from hostFlags
	cmd := &cobra.Command{
		Use:   "plan [--class CLASS] --qemu VMID|--lxc VMID|--volume ID|--pool KIND/NAME|--disk DEVICE",
		Short: "Tell what an operation would take away",
		Long:  planLong,
		Example: `  writ plan --config writ.yaml --qemu 105
  writ plan --config writ.yaml --class snapshot-rollback --qemu 105 --snapshot before-upgrade
  writ plan --url https://pve1.example:8006 --token-id alice@pve!look --token-secret-file look.secret \
      --class storage-wipe --pool zfs/tank --node pve1 --cleanup-disks`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !from.given() {
				return usagef("no host is named: give --config, or --url with --token-id and --token-secret-file")
			}
			if err := from.check(cmd); err != nil {
				return err
			}
			in, err := what.intent()
			if err != nil {
				return err
			}
			return a.plan(cmd.Context(), from, in)
		},
	}
	what.register(cmd, op.GuestDestroy)
	from.register(cmd)
	return cmd
}

func (a *app) plan(ctx context.Context, from hostFlags, in op.Intent) error {
	host, err := from.open()
	if err != nil {
		return err
	}
	defer host.Close()
	if in.Target.Guest != nil {
		if in.Target.Node, err = whereIs(ctx, host, *in.Target.Guest, in.Target.Node); err != nil {
			return err
		}
	}
	if err := in.Check(); err != nil {
		return usagef("this can't be planned: %v", err)
	}
	p, err := host.Plan(ctx, in)
	if err != nil {
		return err
	}
	return a.show(httpapi.PlanOf(p), func(w io.Writer) { showPlan(plainWriter{w}, p) })
}

// expectPlan shows what the order would take away, and makes exactly that
// expected.
func (a *app) expectPlan(ctx context.Context, host *proxmox.Host, d *signedop.Document) error {
	p, err := host.Plan(ctx, d.Intent())
	if err != nil {
		return err
	}
	// What is in the way is shown with the order.
	shown := p
	shown.Obstacles = nil
	fmt.Fprintln(a.err)
	showPlan(plainWriter{a.err}, shown)
	digest, err := p.Digest()
	if err != nil {
		return fmt.Errorf("--plan: %w. Give the token what it lacks, or sign without --plan", err)
	}
	d.Expect.Plan = digest.String()
	return nil
}

// showPlan is a plan for people.
func showPlan(w io.Writer, p op.Plan) {
	fmt.Fprintf(w, "Plan of %s: %s\n", p.Class, p.Target)
	planList(w, "Taken away for good:", p.TakesAway, "nothing")
	planList(w, "Stopped:", p.Stops, "")
	planList(w, "Remains:", p.Remains, "")
	planTexts(w, "Keeps it from running:", p.Obstacles)
	var unknown []string
	for _, g := range p.Unknown {
		unknown = append(unknown, g.What+": "+g.Why)
	}
	planTexts(w, "Could not be read:", unknown)
	planBackups(w, p)
	digest, err := p.Digest()
	if err != nil {
		fmt.Fprint(w, "\n  No digest, as not all that would be taken away could be read.\n")
		return
	}
	fmt.Fprintf(w, "\n  Digest of what is taken away: %s\n", digest)
}

func planList(w io.Writer, title string, items []op.PlanItem, none string) {
	switch {
	case len(items) > 0:
		fmt.Fprintf(w, "\n  %s\n", title)
	case none != "":
		fmt.Fprintf(w, "\n  %s %s\n", title, none)
	}
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, i := range items {
		var details []string
		if i.Time != 0 {
			at := time.Unix(i.Time, 0).UTC().Format(time.DateTime) + " UTC"
			if i.Kind == op.PlanSnapshot || i.Kind == op.PlanBackup {
				at = "made " + at
			} else {
				at = "of " + at
			}
			details = append(details, at)
		}
		if i.Note != "" {
			details = append(details, i.Note)
		}
		if len(i.Users) > 0 {
			details = append(details, "USED BY "+strings.Join(i.Users, ", "))
		}
		size := ""
		if i.Size != nil {
			size = humanBytes(*i.Size)
		}
		fmt.Fprintf(t, "    %s\t%s\t%s\t%s\n", i.Kind, i.Name, size, strings.Join(details, "; "))
	}
	_ = t.Flush() // a Builder takes everything
	for line := range strings.Lines(b.String()) {
		fmt.Fprintln(w, strings.TrimRight(line, " \n")) // cells that are empty leave spaces
	}
}

func planTexts(w io.Writer, title string, texts []string) {
	if len(texts) == 0 {
		return
	}
	fmt.Fprintf(w, "\n  %s\n", title)
	for _, text := range texts {
		fmt.Fprintf(w, "    - %s\n", text)
	}
}

// planBackups warns if what is lost is nowhere else, as far as could be seen.
func planBackups(w io.Writer, p op.Plan) {
	if len(p.TakesAway) == 0 || p.Class != op.GuestDestroy && p.Class != op.RestoreOverwrite {
		return
	}
	for _, i := range p.Remains {
		if i.Kind == op.PlanBackup {
			return
		}
	}
	fmt.Fprint(w, "\n  No backup of the guest was seen.\n")
}

// humanBytes gives a size as people say it, exact only in its first digits.
func humanBytes(n int64) string {
	const units = "KMGTPE"
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n), -1
	for f >= 1<<10 && unit < len(units)-1 {
		f /= 1 << 10
		unit++
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", f), ".0") + " " + units[unit:unit+1] + "iB"
}
