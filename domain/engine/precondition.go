package engine

import (
	"fmt"
	"slices"
	"strings"

	"writ/domain/op"
	"writ/domain/signedop"
)

func (j *Job) document() signedop.Document { return j.authentic.Document() }

// Unmet compares a fresh look at the host with what the signers expect and with
// what the class needs. Each element names a field, what was expected and what
// was found; none means that the op may be launched. It is what decides right
// before a launch, and what tells signers beforehand what would keep their
// order from running.
func Unmet(in op.Intent, x signedop.Expect, seen op.Observed) []string {
	if why := absent(in, seen); why != "" {
		return []string{why}
	}
	var why []string
	if in.Target.Guest != nil {
		why = append(why, identityMismatch(in, x, seen)...)
	}
	why = append(why, subjectMismatch(in, x, seen)...)
	if x.Plan != "" && x.Plan != seen.Plan {
		why = append(why, fmt.Sprintf("expect.plan: signed for plan %s, what would be taken away now is plan %s; plan again (writ plan), and sign what it shows", x.Plan, seen.Plan))
	}
	if !seen.NodeOnline {
		why = append(why, fmt.Sprintf("node: %s is not online", seen.Node))
	}
	if !seen.Quorate {
		// Without quorum the host frees local disks and then can't write the
		// config: data gone, guest still listed.
		why = append(why, "quorum: the cluster is not quorate; nothing is launched until it is")
	}
	return append(why, obstacles(in, seen)...)
}

// Obstacles is Unmet without what signers expect: what would keep an order from
// running that expects the target exactly as it was seen.
func Obstacles(in op.Intent, seen op.Observed) []string {
	return Unmet(in, asSeen(in, seen), seen)
}

// asSeen expects what was seen, and that there is what the class is about.
func asSeen(in op.Intent, seen op.Observed) signedop.Expect {
	x := signedop.Expect{VMGenID: seen.VMGenID, Volumes: seen.Volumes}
	if in.Class == op.SnapshotRollback || in.Class == op.SnapshotDelete {
		x.Snapshot = &signedop.SnapshotExpect{}
		if seen.Snapshot != nil {
			x.Snapshot.Time = seen.Snapshot.Time
		}
	}
	if in.Class == op.RestoreOverwrite {
		x.Archive = &signedop.VolumeExpect{}
		if a := seen.Archive; a != nil {
			x.Archive = &signedop.VolumeExpect{Size: a.Size, CTime: &a.CTime}
		}
	}
	return x
}

// absent tells that there is nothing to act on; empty if there is.
func absent(in op.Intent, seen op.Observed) string {
	t := in.Target
	there := seen.Found
	switch {
	case t.Volume != "":
		there = there && seen.Volume != nil && seen.Volume.ID == t.Volume
	case t.Pool != nil:
		there = there && seen.Pool != nil && seen.Pool.Pool == *t.Pool
	case t.Disk != "":
		there = there && seen.Disk != nil && seen.Disk.Path == t.Disk
	case t.Guest == nil:
		there = false
	}
	switch {
	case there && t.Guest == nil && seen.Node != t.Node:
		return fmt.Sprintf("target: signed for node %s, it was seen on %s", t.Node, seen.Node)
	case there:
		return ""
	case t.Guest != nil:
		return fmt.Sprintf("target: there is no %s", guestName(*t.Guest))
	}
	return fmt.Sprintf("target: there is no %s", t)
}

// identityMismatch is what makes a signature over a VMID one over a machine. Of
// an op that nobody signed it compares only what was asked for.
func identityMismatch(in op.Intent, x signedop.Expect, seen op.Observed) []string {
	var why []string
	differs := func(field, want, got string) {
		if want != got {
			why = append(why, fmt.Sprintf("expect.%s: signed for %q, the host has %q", field, want, got))
		}
	}
	g := *in.Target.Guest
	if seen.Type != g.Type || seen.VMID != g.VMID {
		why = append(why, fmt.Sprintf("target: signed for %s, the host has %s", guestName(g), guestName(op.Guest{Type: seen.Type, VMID: seen.VMID})))
	}
	if in.Class.Benign() {
		return why
	}
	given := func(field, want, got string) {
		if want != "" {
			differs(field, want, got)
		}
	}
	given("name", x.Name, seen.Name)
	given("smbios_uuid", x.SMBIOSUUID, seen.SMBIOSUUID)
	if g.Type == op.QEMU {
		// Required if the guest has one: a guest that has gained or lost its
		// generation id is not the one that was seen.
		differs("vmgenid", x.VMGenID, seen.VMGenID)
	}
	given("digest", x.Digest, seen.Digest)
	given("writ_id", x.WritID, seen.WritID)
	given("status", x.Status, seen.Status)
	if x.CTime != nil && *x.CTime != seen.CTime {
		why = append(why, fmt.Sprintf("expect.ctime: signed for %d, the host has %d", *x.CTime, seen.CTime))
	}
	if x.MACs != nil && !sameSet(x.MACs, seen.MACs) {
		differs("macs", list(x.MACs), list(seen.MACs))
	}
	if !sameSet(x.Volumes, seen.Volumes) {
		differs("volumes", list(x.Volumes), list(seen.Volumes))
	}
	return why
}

func guestName(g op.Guest) string { return fmt.Sprintf("%s guest %d", g.Type, g.VMID) }

func list(s []string) string { return strings.Join(s, ", ") }

func sentence(reasons []string) string { return strings.Join(reasons, "; ") }

// sameSet compares without regard to order; repeats count.
func sameSet(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}
