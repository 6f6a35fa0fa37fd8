package proxmox

import (
	"slices"
	"strings"

	"writ/domain/op"
)

// A likeness is the comparison of two guests by what is made at random for
// each, or set as a mark. Names, creation times and volume names are not:
// whoever makes a guest again under the same VMID gives it the same ones.
type likeness struct {
	equal, unequal []string // what was compared, in words
}

// A sameness is what follows.
type sameness uint8

const (
	same sameness = iota + 1
	different
	undecided
)

// verdict is cautious both ways: one equal mark and no other is the same guest;
// a different guest differs in everything compared, in at least two things, or
// in one if the attempt's own task says that it destroyed the old one. (A
// person may have changed one mark by hand meanwhile.)
func (l likeness) verdict(taskSaysDone bool) sameness {
	switch {
	case len(l.equal) > 0 && len(l.unequal) == 0:
		return same
	case len(l.equal) > 0:
		return undecided
	case len(l.unequal) >= 2, len(l.unequal) == 1 && taskSaysDone:
		return different
	}
	return undecided
}

// String names what was found, for people.
func (l likeness) String() string {
	var parts []string
	if len(l.equal) > 0 {
		parts = append(parts, "same "+strings.Join(l.equal, ", "))
	}
	if len(l.unequal) > 0 {
		parts = append(parts, "other "+strings.Join(l.unequal, ", "))
	}
	if parts == nil {
		return "it has nothing to tell it by"
	}
	return strings.Join(parts, "; ")
}

// liken compares the guest at the announcement with the one now.
func (p *probe) liken(now op.Observed) likeness {
	var l likeness
	note := func(what string, eq bool) {
		if eq {
			l.equal = append(l.equal, what)
		} else {
			l.unequal = append(l.unequal, what)
		}
	}
	compare := func(what, before, now string) {
		if before != "" && now != "" {
			note(what, before == now)
		}
	}
	compare("SMBIOS uuid", p.before.SMBIOSUUID, now.SMBIOSUUID)
	compare("vmgenid", p.before.VMGenID, now.VMGenID)
	if len(p.before.MACs) > 0 && len(now.MACs) > 0 {
		shared := slices.ContainsFunc(p.before.MACs, func(mac string) bool { return slices.Contains(now.MACs, mac) })
		note("MAC addresses", shared)
	}
	if p.before.WritID != "" {
		note("writ id", p.before.WritID == now.WritID)
	}
	return l
}
