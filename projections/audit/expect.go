package audit

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"writ/domain/op"
	"writ/domain/signedop"
)

// An unmetExpectation is one thing that was signed and not so.
type unmetExpectation struct{ expected, found string }

// unmet compares what the signers expected of a guest with what was seen right
// before the launch. It is written anew, from what the documents say about
// expectations, and not shared with the service: both would agree on the same
// mistake.
func unmet(x signedop.Expect, t op.Target, seen op.Observed) []unmetExpectation {
	if t.Guest == nil {
		return nil
	}
	var all []unmetExpectation
	add := func(field, expected, found string) {
		all = append(all, unmetExpectation{field + " " + expected, field + " " + found})
	}
	same := func(field, expected, found string) {
		if expected != found {
			add(field, strconv.Quote(expected), strconv.Quote(found))
		}
	}
	list := func(field string, expected, found []string) {
		if !slices.Equal(expected, found) {
			same(field, inOrder(expected), inOrder(found))
		}
	}
	same("type", string(t.Guest.Type), string(seen.Type))
	if t.Guest.VMID != seen.VMID {
		add("vmid", strconv.Itoa(t.Guest.VMID), strconv.Itoa(seen.VMID))
	}
	for _, f := range []struct{ field, expected, found string }{
		{"name", x.Name, seen.Name},
		{"smbios_uuid", x.SMBIOSUUID, seen.SMBIOSUUID},
		{"digest", x.Digest, seen.Digest},
		{"writ_id", x.WritID, seen.WritID},
		{"status", x.Status, seen.Status},
	} {
		if f.expected != "" {
			same(f.field, f.expected, f.found)
		}
	}
	if t.Guest.Type == op.QEMU {
		same("vmgenid", x.VMGenID, seen.VMGenID) // one that was gained or lost counts too
	}
	if x.CTime != nil && *x.CTime != seen.CTime {
		add("ctime", strconv.FormatInt(*x.CTime, 10), strconv.FormatInt(seen.CTime, 10))
	}
	if x.MACs != nil {
		list("macs", x.MACs, seen.MACs)
	}
	list("volumes", x.Volumes, seen.Volumes)
	for _, f := range []struct {
		holds           bool
		expected, found string
	}{
		{seen.Found, "the target found", "not found"},
		{seen.NodeOnline, "the node online", "not online"},
		{seen.Quorate, "the cluster quorate", "not quorate"},
	} {
		if !f.holds {
			all = append(all, unmetExpectation{f.expected, f.found})
		}
	}
	return all
}

func inOrder(s []string) string {
	s = slices.Clone(s)
	slices.Sort(s)
	return strings.Join(s, ", ")
}

// unlike tells how an announced request is not for the target that was signed;
// empty if it is, or if its class is not one of those that are sent to the
// guest itself.
func unlike(s *op.Started, l *op.Launching) string {
	g := s.Target.Guest
	var method string
	switch s.Class {
	case op.GuestDestroy, op.SnapshotDelete:
		method = "DELETE"
	case op.GuestStop, op.GuestShutdown, op.GuestReboot, op.GuestStart, op.SnapshotRollback, op.SnapshotCreate:
		method = "POST"
	case op.RestoreOverwrite, op.VolumeDelete, op.BackupDelete, op.StorageWipe, op.BackupCreate:
		return ""
	}
	if g == nil || method == "" {
		return ""
	}
	guest := fmt.Sprintf("/nodes/%s/%s/%d", l.Node, g.Type, g.VMID)
	inside := l.Request.Path == guest || s.Class != op.GuestDestroy && strings.HasPrefix(l.Request.Path, guest+"/")
	switch {
	case l.Request.Method != method || !inside:
		return fmt.Sprintf("%s %s, where %s %s was signed", l.Request.Method, l.Request.Path, method, guest)
	case l.Node != l.Observed.Node:
		return fmt.Sprintf("a request to node %s, the guest was seen on %s", l.Node, l.Observed.Node)
	}
	return ""
}
