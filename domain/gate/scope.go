package gate

import (
	"fmt"
	"slices"
	"strings"

	"writ/domain/op"
)

// scope is one compiled rule.
type scope struct {
	classes []op.Class
	vmids   []vmidRange
	pools   []string
	stores  []string
	names   []namePattern
	tags    []string
	nodes   []string
}

type vmidRange struct{ first, last int }

func (r vmidRange) contains(vmid int) bool { return r.first <= vmid && vmid <= r.last }

func (r vmidRange) String() string {
	if r.first == r.last {
		return fmt.Sprint(r.first)
	}
	return fmt.Sprintf("%d-%d", r.first, r.last)
}

// namePattern is a whole name, or a prefix of one.
type namePattern struct {
	text   string
	prefix bool
}

func (n namePattern) matches(name string) bool {
	if n.prefix {
		return strings.HasPrefix(name, n.text)
	}
	return name == n.text
}

// allows tells whether any rule of the role is for the class.
func (r *role) allows(c op.Class) bool {
	return slices.ContainsFunc(r.rules, func(s scope) bool { return slices.Contains(s.classes, c) })
}

// grants gives the rule, and what in it, that grants the target; or an empty
// text, and why none of the rules for the class does.
func (r *role) grants(c op.Class, t op.Target, facts op.Facts) (granted, why string) {
	var missed []string
	for i, s := range r.rules {
		if !slices.Contains(s.classes, c) {
			continue
		}
		by, not := s.grants(c, t, facts)
		if by != "" {
			return fmt.Sprintf("allow[%d] grants it by %s", i, by), ""
		}
		missed = append(missed, fmt.Sprintf("allow[%d]: %s", i, not))
	}
	return "", fmt.Sprintf("target: %s is not in the scope of role %s for %s (sign in a role that grants it): %s", t, r.name, c, strings.Join(missed, "; "))
}

// grants tells by what the rule grants the target and does not take it away
// again, or why it does not.
func (s scope) grants(c op.Class, t op.Target, facts op.Facts) (by, not string) {
	if by, not = s.on(c, t, facts); by == "" {
		return "", not
	}
	if not = s.except(facts); not != "" {
		return "", not
	}
	return by, ""
}

// on tells by what the rule grants the target, or why it does not. An absent
// or unknown fact grants nothing.
func (s scope) on(c op.Class, t op.Target, facts op.Facts) (by, not string) {
	guest := t.Guest != nil && c.ActsOnGuest()
	if guest {
		for _, r := range s.vmids {
			if r.contains(t.Guest.VMID) {
				return "vmids " + r.String(), ""
			}
		}
	}
	if !facts.Found {
		if len(s.vmids) > 0 && guest {
			return "", fmt.Sprintf("vmid %d is not in %v, and the host has no such target to know a pool or storages of", t.Guest.VMID, s.vmids)
		}
		return "", "the host has no such target, so that no pool or storage is known to grant it by"
	}
	if guest && facts.Pool != "" && slices.Contains(s.pools, facts.Pool) {
		return "pool " + facts.Pool, ""
	}
	other := slices.IndexFunc(facts.Storages, func(name string) bool { return !slices.Contains(s.stores, name) })
	if len(facts.Storages) > 0 && other < 0 {
		return "storages " + strings.Join(facts.Storages, ", "), ""
	}
	var misses []string
	if guest && len(s.vmids) > 0 {
		misses = append(misses, fmt.Sprintf("vmid %d is not in %v", t.Guest.VMID, s.vmids))
	}
	switch {
	case !guest || len(s.pools) == 0:
	case facts.Pool == "":
		misses = append(misses, "it is in no pool")
	default:
		misses = append(misses, fmt.Sprintf("pool %s is not in %s", quote(facts.Pool), quoteAll(s.pools)))
	}
	switch {
	case len(s.stores) == 0:
	case other < 0:
		misses = append(misses, "it has no volume on any storage")
	default:
		misses = append(misses, fmt.Sprintf("storage %s is not in %s", quote(facts.Storages[other]), quoteAll(s.stores)))
	}
	return "", strings.Join(misses, ", ")
}

// except tells which narrowing of the rule the target fails; empty if none.
func (s scope) except(facts op.Facts) string {
	if len(s.names) == 0 && len(s.tags) == 0 && len(s.nodes) == 0 {
		return ""
	}
	if !facts.Found {
		return "the host has no such target, so that its name, tags and node are not known to be those of only"
	}
	if len(s.names) > 0 && !slices.ContainsFunc(s.names, func(n namePattern) bool { return n.matches(facts.Name) }) {
		return fmt.Sprintf("only.names: its name %s matches none", quote(facts.Name))
	}
	for _, tag := range s.tags {
		if !slices.Contains(facts.Tags, tag) {
			return fmt.Sprintf("only.tags: %s is missing, it carries %s", quote(tag), quoteAll(facts.Tags))
		}
	}
	if len(s.nodes) > 0 && !slices.Contains(s.nodes, facts.Node) {
		return fmt.Sprintf("only.nodes: it is on %s, not on %s", quote(facts.Node), quoteAll(s.nodes))
	}
	return ""
}

// touchesSelf tells how an op would touch writ's own guest or storage; empty
// if it would not.
func (s Site) touchesSelf(c op.Class, t op.Target, facts op.Facts) string {
	if t.Guest != nil && slices.ContainsFunc(s.Self, func(g op.Guest) bool { return g.VMID == t.Guest.VMID }) {
		return fmt.Sprintf("target.guest.vmid: %d is the guest that writ itself runs in: do it by hand, with writ stopped", t.Guest.VMID)
	}
	if c.ActsOnGuest() {
		return ""
	}
	for _, name := range facts.Storages {
		if slices.Contains(s.SelfStorages, name) {
			return fmt.Sprintf("target: storage %s holds writ's own ledger: do it by hand, with writ stopped", quote(name))
		}
	}
	return ""
}
