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

// unmet compares what the signers expected, and what the class needs, with what
// was seen right before the launch. It is written anew, from what the documents say about expectations,
// and not shared with the service: both would agree on the same mistake.
func unmet(x signedop.Expect, in op.Intent, seen op.Observed) []unmetExpectation {
	all, t := append(unmetState(seen), unfit(in, seen)...), in.Target
	switch {
	case in.Class.Benign():
		// Nobody signed what the guest was to look like.
		if t.Guest == nil || seen.Type != t.Guest.Type || seen.VMID != t.Guest.VMID {
			all = append(all, unmetExpectation{t.String(), fmt.Sprintf("%s %d", seen.Type, seen.VMID)})
		}
		return all
	case t.Guest != nil:
		all = append(all, unmetGuest(x, *t.Guest, seen)...)
	case seen.Node != t.Node:
		all = append(all, unmetExpectation{"node " + t.Node, "node " + seen.Node})
	}
	if x.Plan != "" && x.Plan != seen.Plan {
		found := "no plan read"
		if seen.Plan != "" {
			found = "plan " + seen.Plan
		}
		all = append(all, unmetExpectation{"plan " + x.Plan, found})
	}
	return append(all, unmetSubject(x, t, seen)...)
}

// unmetState is what no op may be launched without.
func unmetState(seen op.Observed) []unmetExpectation {
	var all []unmetExpectation
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

func unmetGuest(x signedop.Expect, g op.Guest, seen op.Observed) []unmetExpectation {
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
	same("type", string(g.Type), string(seen.Type))
	if g.VMID != seen.VMID {
		add("vmid", strconv.Itoa(g.VMID), strconv.Itoa(seen.VMID))
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
	if g.Type == op.QEMU {
		same("vmgenid", x.VMGenID, seen.VMGenID) // one that was gained or lost counts too
	}
	if x.CTime != nil && *x.CTime != seen.CTime {
		add("ctime", strconv.FormatInt(*x.CTime, 10), strconv.FormatInt(seen.CTime, 10))
	}
	if x.MACs != nil {
		list("macs", x.MACs, seen.MACs)
	}
	list("volumes", x.Volumes, seen.Volumes)
	return all
}

func inOrder(s []string) string {
	s = slices.Clone(s)
	slices.Sort(s)
	return strings.Join(s, ", ")
}
