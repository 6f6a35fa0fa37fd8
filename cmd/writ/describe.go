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
	fmt.Fprint(w, "\n  Lost for good:\n")
	for _, loss := range losses(d) {
		fmt.Fprintf(w, "    - %s\n", loss)
	}
	if d.Class == op.RestoreOverwrite {
		describeRestored(w, d.Params)
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
		op.GuestDestroy:     "DESTROY",
		op.RestoreOverwrite: "RESTORE A BACKUP OVER",
		op.SnapshotRollback: "ROLL BACK to snapshot " + d.Params.Snapshot + ":",
		op.SnapshotDelete:   "DELETE SNAPSHOT " + d.Params.Snapshot + " of",
		op.VolumeDelete:     "DELETE",
		op.BackupDelete:     "DELETE BACKUP",
		op.StorageWipe:      "WIPE",
		op.GuestStop:        "STOP (as by pulling the plug)",
		op.GuestShutdown:    "SHUT DOWN",
		op.GuestReboot:      "REBOOT",
	}[d.Class]
	if what == "" {
		what = string(d.Class) + ":"
	}
	target := guestWords(d.Target, d.Expect.Name)
	if d.Class == op.BackupDelete {
		target = strings.TrimPrefix(target, "volume ")
	}
	return what + " " + target
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

// losses are what nothing brings back once the op has run.
func losses(d signedop.Document) []string {
	switch d.Class {
	case op.GuestDestroy:
		return lossOfGuest(d)
	case op.RestoreOverwrite:
		return append(lossOfGuest(d), fmt.Sprintf("all of this even if the restore of %s fails half-way", d.Params.Archive))
	case op.SnapshotRollback:
		return []string{
			fmt.Sprintf("everything written to its disks, and every change of its configuration, since snapshot %s", d.Params.Snapshot),
			"whatever it is doing: a running guest is stopped first, as by pulling the plug",
		}
	case op.SnapshotDelete:
		return []string{fmt.Sprintf("the way back to snapshot %s", d.Params.Snapshot)}
	case op.VolumeDelete:
		return []string{"volume " + d.Target.Volume + " with all that is on it; the host does not ask whether something uses it"}
	case op.BackupDelete:
		return []string{"backup " + d.Target.Volume + ", with its notes and log"}
	case op.StorageWipe:
		return lossOfStorage(d)
	case op.GuestStop:
		return []string{"whatever it is doing, and what it has not written to its disks yet"}
	case op.GuestShutdown, op.GuestReboot:
		if t := d.Params.Timeout; t != nil {
			return []string{"whatever it is doing; it is given " + plainDuration(time.Duration(*t)*time.Second) + " to shut down"}
		}
		return []string{"whatever it is doing"}
	case op.GuestStart, op.SnapshotCreate, op.BackupCreate:
	}
	return []string{"nothing"}
}

// describeRestored tells what there is afterwards.
func describeRestored(w io.Writer, p op.Params) {
	fmt.Fprintf(w, "\n  In its place:\n    - the guest that is in %s, its volumes on storage %s\n", p.Archive, p.Storage)
	if isTrue(p.Unique) {
		fmt.Fprint(w, "    - with an identity and MAC addresses of its own (unique)\n")
	}
}

func lossOfGuest(d signedop.Document) []string {
	lost := []string{"its configuration and snapshots"}
	for _, v := range d.Expect.Volumes {
		lost = append(lost, "volume "+v)
	}
	if len(d.Expect.Volumes) == 0 {
		lost = append(lost, "no volume: the guest is expected to have none")
	}
	if isTrue(d.Params.Purge) {
		lost = append(lost, "its places in backup jobs, replication and HA (purge)")
	}
	if isTrue(d.Params.Force) {
		lost = append(lost, "whatever it is doing: a running container is stopped first (force)")
	}
	return lost
}

func lossOfStorage(d signedop.Document) []string {
	if d.Target.Disk != "" {
		return []string{"everything on " + d.Target.Disk}
	}
	lost := []string{"everything on " + d.Target.Pool.String()}
	if isTrue(d.Params.CleanupDisks) {
		lost = append(lost, "what else is on the disks that it lies on: they are wiped (cleanup_disks)")
	}
	if isTrue(d.Params.CleanupConfig) {
		lost = append(lost, "the storages defined on it (cleanup_config)")
	}
	return lost
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
	describeSubject(row, x)
	row("plan", x.Plan)
}

// describeSubject lists what binds the order to one snapshot, archive, volume,
// pool or disk.
func describeSubject(row func(name, value string), x signedop.Expect) {
	at := func(seconds int64) string { return time.Unix(seconds, 0).UTC().Format(time.DateTime) + " UTC" }
	volume := func(name string, v *signedop.VolumeExpect) {
		if v == nil {
			return
		}
		row(name+" size", sizeText(v.Size))
		if v.CTime != nil {
			row(name+" time", at(*v.CTime))
		}
	}
	if x.Snapshot != nil {
		row("snapshot of", at(x.Snapshot.Time))
	}
	volume("archive", x.Archive)
	volume("volume", x.Volume)
	if x.Pool != nil {
		row("pool size", sizeText(x.Pool.Size))
		row("pool on", listOrNone(x.Pool.Members))
	}
	if x.Disk != nil {
		row("disk serial", x.Disk.Serial)
		row("disk WWN", x.Disk.WWN)
		row("disk model", x.Disk.Model)
		row("disk size", sizeText(x.Disk.Size))
	}
}

// sizeText is a size to the byte, as it is compared, and as people read it.
func sizeText(n int64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%d bytes (%s)", n, humanBytes(n))
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
