package gate_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"writ/domain/gate"
	"writ/domain/op"
)

type scopeCase struct {
	name  string
	on    gate.On
	only  gate.Only
	facts op.Facts
	want  bool
}

func scopeCases() []scopeCase {
	here := op.Facts{Found: true, Node: "pve1", Name: "web-3", Pool: "test", Tags: []string{"disposable", "prod"}, Storages: []string{"a", "b"}}
	with := func(change func(*op.Facts)) op.Facts {
		f := here
		change(&f)
		return f
	}
	vmids := func(list ...string) gate.On { return gate.On{VMIDs: list} }
	all := vmids("100-999999999")
	return []scopeCase{
		{"a single vmid", vmids("105"), gate.Only{}, here, true},
		{"a neighbour of it", vmids("104", "106"), gate.Only{}, here, false},
		{"the first of a range", vmids("105-106"), gate.Only{}, here, true},
		{"the last of a range", vmids("104-105"), gate.Only{}, here, true},
		{"below a range", vmids("106-999"), gate.Only{}, here, false},
		{"by vmid although the host has no such guest", vmids("105"), gate.Only{}, op.Facts{}, true},

		{"the pool it is in", gate.On{Pools: []string{"prod", "test"}}, gate.Only{}, here, true},
		{"another pool", gate.On{Pools: []string{"prod"}}, gate.Only{}, here, false},
		{"a pool in other capitals", gate.On{Pools: []string{"Test"}}, gate.Only{}, here, false},
		{"the pool around its own", gate.On{Pools: []string{"test"}}, gate.Only{}, with(func(f *op.Facts) { f.Pool = "test/web" }), false},
		{"the pool within its own", gate.On{Pools: []string{"test/web"}}, gate.Only{}, here, false},
		{"in no pool", gate.On{Pools: []string{"test"}}, gate.Only{}, with(func(f *op.Facts) { f.Pool = "" }), false},
		{"a pool of a guest that was not found", gate.On{Pools: []string{"test"}}, gate.Only{}, with(func(f *op.Facts) { f.Found = false }), false},

		{"all of its storages", gate.On{Storages: []string{"a", "b", "c"}}, gate.Only{}, here, true},
		{"one of its two storages", gate.On{Storages: []string{"a"}}, gate.Only{}, here, false},
		{"no volumes at all", gate.On{Storages: []string{"a", "b"}}, gate.Only{}, with(func(f *op.Facts) { f.Storages = nil }), false},
		{"storages of a guest that was not found", gate.On{Storages: []string{"a", "b"}}, gate.Only{}, with(func(f *op.Facts) { f.Found = false }), false},
		{"a storage without a name", gate.On{Storages: []string{"a", "b"}}, gate.Only{}, with(func(f *op.Facts) { f.Storages = []string{"a", ""} }), false},

		{"one member of on suffices", gate.On{VMIDs: []string{"200"}, Pools: []string{"test"}, Storages: []string{"x"}}, gate.Only{}, here, true},
		{"no member of on", gate.On{VMIDs: []string{"200"}, Pools: []string{"prod"}, Storages: []string{"x"}}, gate.Only{}, here, false},

		{"a name in full", all, gate.Only{Names: []string{"web-3"}}, here, true},
		{"the beginning of its name without an asterisk", all, gate.Only{Names: []string{"web"}}, here, false},
		{"a prefix of its name", all, gate.Only{Names: []string{"db-*", "web-*"}}, here, true},
		{"a prefix longer than its name", all, gate.Only{Names: []string{"web-3-*"}}, here, false},
		{"a name in other capitals", all, gate.Only{Names: []string{"WEB-3"}}, here, false},
		{"every tag", all, gate.Only{Tags: []string{"disposable", "prod"}}, here, true},
		{"one of two tags", all, gate.Only{Tags: []string{"disposable", "test"}}, here, false},
		{"no tags on it", all, gate.Only{Tags: []string{"disposable"}}, with(func(f *op.Facts) { f.Tags = nil }), false},
		{"one of the nodes", all, gate.Only{Nodes: []string{"pve2", "pve1"}}, here, true},
		{"migrated since to another node", all, gate.Only{Nodes: []string{"pve1"}}, with(func(f *op.Facts) { f.Node = "pve2" }), false},
		{"all of only", all, gate.Only{Names: []string{"web-*"}, Tags: []string{"prod"}, Nodes: []string{"pve1"}}, here, true},
		{"all of only but one", all, gate.Only{Names: []string{"web-*"}, Tags: []string{"prod"}, Nodes: []string{"pve2"}}, here, false},
		{"narrowed, and the host has no such guest", all, gate.Only{Names: []string{"web-*"}}, with(func(f *op.Facts) { f.Found = false }), false},
		{"hostile facts", gate.On{Pools: []string{"test"}}, gate.Only{}, with(func(f *op.Facts) { f.Pool = strings.Repeat("\x1b[31m", 1000) }), false},
	}
}

func TestScopeOfARule(t *testing.T) {
	var out bytes.Buffer
	for _, c := range scopeCases() {
		t.Run(c.name, func(t *testing.T) {
			r := allowed()
			role := r.policy.Roles["operator"]
			role.Allow = []gate.Rule{{Classes: []op.Class{op.GuestDestroy}, On: c.on, Only: c.only}}
			r.policy.Roles["operator"] = role
			r.facts = c.facts
			d := r.decide()
			fmt.Fprintf(&out, "%s\n    %s: %s\n", c.name, d.Reason, d.Detail)
			want := gate.OutOfScope
			if c.want {
				want = gate.Signed
			}
			if d.Reason != want {
				t.Errorf("reason %s (%s), want %s", d.Reason, d.Detail, want)
			}
			if len(d.Detail) > gate.MaxDetailBytes || strings.ContainsRune(d.Detail, '\x1b') {
				t.Errorf("detail of %d bytes shows what a terminal obeys: %q", len(d.Detail), d.Detail)
			}
		})
	}
	golden(t, "scope.golden", out.Bytes())
}

func TestTwoRulesDoNotAddUp(t *testing.T) {
	r := allowed()
	role := r.policy.Roles["operator"]
	destroy := []op.Class{op.GuestDestroy}
	role.Allow = []gate.Rule{
		{Classes: destroy, On: gate.On{Storages: []string{"a"}}},
		{Classes: destroy, On: gate.On{Storages: []string{"b"}}},
		{Classes: []op.Class{op.GuestStop}, On: gate.On{VMIDs: []string{"105"}}},
		{Classes: destroy, On: gate.On{VMIDs: []string{"105"}}, Only: gate.Only{Names: []string{"other"}}},
	}
	r.policy.Roles["operator"] = role
	r.facts.Storages = []string{"a", "b"}
	if d := r.decide(); d.Reason != gate.OutOfScope {
		t.Errorf("reason %s (%s), want %s: no rule alone grants it", d.Reason, d.Detail, gate.OutOfScope)
	}
}

func TestVolumesAndStoragesAreGrantedByStorageAlone(t *testing.T) {
	doc := document()
	role := doc.Roles["operator"]
	role.Allow = []gate.Rule{{
		Classes: []op.Class{op.VolumeDelete, op.BackupDelete, op.StorageWipe},
		On:      gate.On{VMIDs: []string{"105"}, Pools: []string{"test"}, Storages: []string{"scratch"}},
	}}
	doc.Roles["operator"] = role
	p := must(gate.Compile(doc, serial))
	bare, named := op.Target{Node: "pve1"}, op.Target{Node: "pve1", Guest: guest(105)}
	for _, class := range role.Allow[0].Classes {
		for _, c := range []struct {
			name   string
			target op.Target
			facts  op.Facts
			want   bool
		}{
			{"its storage is listed", bare, op.Facts{Found: true, Storages: []string{"scratch"}}, true},
			{"another storage", bare, op.Facts{Found: true, Storages: []string{"local"}}, false},
			{"no storage known", bare, op.Facts{Found: true, Pool: "test"}, false},
			{"a vmid and a pool say nothing about the volume", named, op.Facts{Found: true, Pool: "test", Storages: []string{"local"}}, false},
			{"nothing found", named, op.Facts{}, false},
		} {
			if granted, why := p.GrantsForTest("operator", class, c.target, c.facts); (granted != "") != c.want {
				t.Errorf("%s, %s: granted %q (%s), want granted: %t", class, c.name, granted, why, c.want)
			}
		}
	}
}

func TestSelf(t *testing.T) {
	here := gate.Site{Self: []op.Guest{{Type: op.LXC, VMID: 150}}, SelfStorages: []string{"ledger"}}
	node := op.Target{Node: "pve1"}
	onLedger := op.Facts{Found: true, Storages: []string{"scratch", "ledger"}}
	for _, c := range []struct {
		name   string
		class  op.Class
		target op.Target
		facts  op.Facts
		want   bool
	}{
		{"its own guest", op.GuestStop, op.Target{Node: "pve1", Guest: &op.Guest{Type: op.LXC, VMID: 150}}, op.Facts{}, true},
		{"its own vmid under the other type", op.GuestDestroy, op.Target{Node: "pve1", Guest: guest(150)}, op.Facts{}, true},
		{"another guest", op.GuestDestroy, op.Target{Node: "pve1", Guest: guest(151)}, op.Facts{}, false},
		{"another guest whose disk shares a storage with the ledger", op.GuestDestroy, op.Target{Node: "pve1", Guest: guest(151)}, onLedger, false},
		{"wiping the storage with the ledger", op.StorageWipe, node, onLedger, true},
		{"deleting a volume on it", op.VolumeDelete, node, onLedger, true},
		{"deleting a backup on it", op.BackupDelete, node, onLedger, true},
		{"wiping another storage", op.StorageWipe, node, op.Facts{Found: true, Storages: []string{"scratch"}}, false},
	} {
		if why := here.TouchesSelfForTest(c.class, c.target, c.facts); (why != "") != c.want {
			t.Errorf("%s: %q, want refused: %t", c.name, why, c.want)
		}
	}
}
