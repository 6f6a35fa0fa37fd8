package engine

import (
	"fmt"
	"slices"
	"strings"

	"writ/domain/op"
	"writ/domain/signedop"
)

func (j *Job) document() signedop.Document { return j.authentic.Document() }

// unmet compares a fresh look at the host with what the signer saw and with
// what the class needs. Each element names a field, what was expected and what
// was found; none means that the op may be launched.
func unmet(d signedop.Document, seen op.Observed) []string {
	if d.Target.Guest == nil {
		return []string{fmt.Sprintf("target: no expectations can be checked for %s", d.Target)}
	}
	if !seen.Found {
		return []string{fmt.Sprintf("target: there is no %s", guestName(*d.Target.Guest))}
	}
	var why []string
	why = append(why, identityMismatch(d, seen)...)
	if !seen.NodeOnline {
		why = append(why, fmt.Sprintf("node: %s is not online", seen.Node))
	}
	if !seen.Quorate {
		// Without quorum the host frees local disks and then can't write the
		// config: data gone, guest still listed.
		why = append(why, "quorum: the cluster is not quorate; nothing is launched until it is")
	}
	if d.Class == op.GuestDestroy {
		why = append(why, destroyUnmet(d, seen)...)
	}
	return why
}

// identityMismatch is what makes a signature over a VMID one over a machine.
func identityMismatch(d signedop.Document, seen op.Observed) []string {
	var why []string
	differs := func(field, want, got string) {
		if want != got {
			why = append(why, fmt.Sprintf("expect.%s: signed for %q, the host has %q", field, want, got))
		}
	}
	g, x := *d.Target.Guest, d.Expect
	if seen.Type != g.Type || seen.VMID != g.VMID {
		why = append(why, fmt.Sprintf("target: signed for %s, the host has %s", guestName(g), guestName(op.Guest{Type: seen.Type, VMID: seen.VMID})))
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

// destroyUnmet are the states in which the host refuses to destroy a guest, or
// fails half-way. Knowing them beforehand costs the caller nothing.
func destroyUnmet(d signedop.Document, seen op.Observed) []string {
	var why []string
	if seen.Protection {
		why = append(why, "protection: the guest is protected; take the protection away first")
	}
	if seen.Lock != "" {
		why = append(why, fmt.Sprintf("lock: the guest is locked (%s); wait until what holds the lock has ended", seen.Lock))
	}
	force := d.Params.Force != nil && *d.Params.Force
	if seen.Status != "stopped" && !force {
		why = append(why, fmt.Sprintf("status: the guest is %s; stop it first", seen.Status))
	}
	if seen.HAManaged {
		why = append(why, "ha: the guest is managed by HA; take it out of HA first")
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
