package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"writ/domain/op"
	"writ/domain/signedop"
)

// describe tells a person in plain words what a document orders: which guest,
// what will be lost, and what must still be true for it to happen. What comes
// from elsewhere was checked by signedop to hold nothing that a terminal obeys
// and nothing invisible.
func describe(w io.Writer, d signedop.Document, now time.Time) {
	fmt.Fprintf(w, "  %s\n", headline(d))
	if d.Class == op.GuestDestroy {
		describeLoss(w, d)
	}
	describeExpectations(w, d.Expect)
	fmt.Fprintln(w)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "  %-13s %s\n", name, fmt.Sprintf(format, args...))
	}
	row("Reason", "%s", d.Reason)
	row("Requested by", "%s", d.RequestedBy)
	row("Signed as", "%s", d.Role)
	row("For", "%s (agent/ledger)", d.Audience)
	row("Valid", "%s", validity(d.NotBefore, d.ExpiresAt, now))
}

// showOrder puts an order before a person's eyes: on standard error, as
// standard output is for the result.
func (a *app) showOrder(title string, d signedop.Document, obstacle []string) {
	fmt.Fprintf(a.err, "\n%s\n\n", title)
	describe(a.err, d, a.now())
	for _, o := range obstacle {
		fmt.Fprintf(a.err, "\n  Note: %s.\n", o)
	}
	fmt.Fprintln(a.err)
}

// headline is the order in one line.
func headline(d signedop.Document) string {
	what := map[op.Class]string{
		op.GuestDestroy:  "DESTROY",
		op.GuestStop:     "STOP (as by pulling the plug)",
		op.GuestShutdown: "SHUT DOWN",
		op.GuestReboot:   "REBOOT",
	}[d.Class]
	if what == "" {
		what = string(d.Class) + ":"
	}
	return what + " " + guestWords(d.Target, d.Expect.Name)
}

func guestWords(t op.Target, name string) string {
	if t.Guest == nil {
		return t.String()
	}
	kind := "virtual machine"
	if t.Guest.Type == op.LXC {
		kind = "container"
	}
	if name == "" {
		return fmt.Sprintf("%s %d (node %s)", kind, t.Guest.VMID, t.Node)
	}
	return fmt.Sprintf("%s %d %q (node %s)", kind, t.Guest.VMID, name, t.Node)
}

func describeLoss(w io.Writer, d signedop.Document) {
	fmt.Fprint(w, "\n  Lost for good:\n    - its configuration and snapshots\n")
	for _, v := range d.Expect.Volumes {
		fmt.Fprintf(w, "    - volume %s\n", v)
	}
	if len(d.Expect.Volumes) == 0 {
		fmt.Fprint(w, "    - no volume: the guest is expected to have none\n")
	}
	if isTrue(d.Params.Purge) {
		fmt.Fprint(w, "    - its places in backup jobs, replication and HA (purge)\n")
	}
	if isTrue(d.Params.Force) {
		fmt.Fprint(w, "    - whatever it is doing: a running container is stopped first (force)\n")
	}
}

// describeExpectations lists what binds the order to one machine.
func describeExpectations(w io.Writer, x signedop.Expect) {
	fmt.Fprint(w, "\n  Only if the host still shows exactly this, else nothing is done:\n")
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "    %-15s %s\n", name, value)
		}
	}
	row("name", x.Name)
	row("SMBIOS UUID", x.SMBIOSUUID)
	row("generation id", x.VMGenID)
	row("writ id", x.WritID)
	row("config digest", x.Digest)
	row("status", x.Status)
	if x.CTime != nil {
		row("created", time.Unix(*x.CTime, 0).UTC().Format(time.DateTime)+" UTC")
	}
	row("MAC addresses", listOrNone(x.MACs))
	row("volumes", listOrNone(x.Volumes))
}

// listOrNone is empty for a list that is not given.
func listOrNone(items []string) string {
	switch {
	case items == nil:
		return ""
	case len(items) == 0:
		return "none"
	}
	return strings.Join(items, ", ")
}

func isTrue(b *bool) bool { return b != nil && *b }

// validity says when a document counts, and how that stands to now.
func validity(notBefore, expiresAt, now time.Time) string {
	s := fmt.Sprintf("%s to %s UTC (%s)", notBefore.UTC().Format(time.DateTime), expiresAt.UTC().Format(time.DateTime),
		plainDuration(expiresAt.Sub(notBefore)))
	switch {
	case now.Before(notBefore):
		s += fmt.Sprintf(", begins in %s", plainDuration(notBefore.Sub(now)))
	case !now.Before(expiresAt):
		s += fmt.Sprintf(", EXPIRED %s ago", plainDuration(now.Sub(expiresAt)))
	default:
		s += fmt.Sprintf(", %s left", plainDuration(expiresAt.Sub(now)))
	}
	return s
}

// plainDuration drops zero parts: 1h, not 1h0m0s.
func plainDuration(d time.Duration) string {
	if d >= time.Second {
		d = d.Round(time.Second)
	} else {
		d = d.Round(time.Millisecond)
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
