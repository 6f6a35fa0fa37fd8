package op_test

import (
	"strings"
	"testing"

	"writ/domain/op"
)

func TestIntentCheck(t *testing.T) {
	yes := true
	vm := &op.Guest{Type: op.QEMU, VMID: 105}
	ct := &op.Guest{Type: op.LXC, VMID: 105}
	intent := func(c op.Class, node string, g *op.Guest, p op.Params) op.Intent {
		return op.Intent{Class: c, Target: op.Target{Node: node, Guest: g}, Params: p}
	}
	tests := []struct {
		name string
		in   op.Intent
		want string // how the error begins; empty: none
	}{
		{"destroy a VM", intent(op.GuestDestroy, "pve1", vm, op.Params{Purge: &yes}), ""},
		{"destroy a running container", intent(op.GuestDestroy, "pve1", ct, op.Params{Force: &yes}), ""},
		{"no class", intent("", "pve1", vm, op.Params{}), "class: "},
		{"unknown class", intent("guest-delete", "pve1", vm, op.Params{}), "class: "},
		{"no node", intent(op.GuestDestroy, "", vm, op.Params{}), "target.node: "},
		{"a node that is a path", intent(op.GuestDestroy, "pve1/../x", vm, op.Params{}), "target.node: "},
		{"a node that ends in a hyphen", intent(op.GuestDestroy, "pve-", vm, op.Params{}), "target.node: "},
		{"a node that is too long", intent(op.GuestDestroy, strings.Repeat("n", 64), vm, op.Params{}), "target.node: "},
		{"no guest", intent(op.GuestDestroy, "pve1", nil, op.Params{}), "target.guest: missing"},
		{"a guest for a wipe", intent(op.StorageWipe, "pve1", vm, op.Params{}), "target.guest: class"},
		{"a guest for deleting a volume", intent(op.VolumeDelete, "pve1", vm, op.Params{}), "target.guest: class"},
		{"a guest for deleting a backup", intent(op.BackupDelete, "pve1", ct, op.Params{}), "target.guest: class"},
		{"no type of guest", intent(op.GuestStop, "pve1", &op.Guest{VMID: 105}, op.Params{}), "target.guest.type: "},
		{"VMID of the host", intent(op.GuestStop, "pve1", &op.Guest{Type: op.QEMU, VMID: 99}, op.Params{}), "target.guest.vmid: "},
		{"VMID beyond the last", intent(op.GuestStop, "pve1", &op.Guest{Type: op.QEMU, VMID: 1_000_000_000}, op.Params{}), "target.guest.vmid: "},
		{"purge of a stop", intent(op.GuestStop, "pve1", vm, op.Params{Purge: &yes}), "params.purge: "},
		{"force on a VM", intent(op.GuestDestroy, "pve1", vm, op.Params{Force: &yes}), "params.force: "},
		{"force of a wipe", op.Intent{Class: op.StorageWipe, Target: targetOf(op.StorageWipe), Params: op.Params{Force: &yes}}, "params.force: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.in.Check()
			if (err == nil) != (tt.want == "") || err != nil && !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got error %v, want one that begins with %q", err, tt.want)
			}
		})
	}
}

// A class is signed unless it takes nothing away.
func TestOnlyThreeClassesAreBenign(t *testing.T) {
	benign := map[op.Class]bool{op.GuestStart: true, op.SnapshotCreate: true, op.BackupCreate: true}
	for _, c := range op.Classes() {
		if !c.Known() || c.Benign() != benign[c] {
			t.Errorf("%s: got known %v, benign %v; want true, %v", c, c.Known(), c.Benign(), benign[c])
		}
	}
	if got, want := len(op.Classes()), 13; got != want {
		t.Errorf("got %d classes, want %d", got, want)
	}
	if c := op.Class("guest-explode"); c.Known() || c.Benign() {
		t.Errorf("%s: got known %v, benign %v; want neither", c, c.Known(), c.Benign())
	}
}

// Every class either demands a guest or refuses one: none is left to chance.
func TestActsOnGuest(t *testing.T) {
	storage := map[op.Class]bool{op.VolumeDelete: true, op.BackupDelete: true, op.StorageWipe: true}
	for _, c := range op.Classes() {
		if got, want := c.ActsOnGuest(), !storage[c]; got != want {
			t.Errorf("%s: got acts on a guest %v, want %v", c, got, want)
		}
		for _, of := range op.Classes() {
			target := targetOf(of)
			err := op.Intent{Class: c, Target: target, Params: paramsOf(c)}.Check()
			fits := c.ActsOnGuest() && target.Guest != nil || c == op.StorageWipe && target.Pool != nil ||
				(c == op.VolumeDelete || c == op.BackupDelete) && target.Volume != ""
			if fits != (err == nil) {
				t.Errorf("%s on %s: got error %v, want one: %v", c, target, err, !fits)
			}
		}
	}
	if op.Class("guest-explode").ActsOnGuest() {
		t.Error("guest-explode: got acts on a guest, want an unknown class to act on nothing")
	}
}

// Ops on one guest share a key wherever it runs, and no two targets do.
func TestTargetKey(t *testing.T) {
	vm := func(node string, id int) op.Target {
		return op.Target{Node: node, Guest: &op.Guest{Type: op.QEMU, VMID: id}}
	}
	if a, b := vm("pve1", 105).Key(), vm("pve2", 105).Key(); a != b {
		t.Errorf("one guest on two nodes: got keys %s and %s, want one", a, b)
	}
	if a, b := vm("pve1", 105).Key(), vm("pve1", 106).Key(); a == b {
		t.Errorf("two guests: got one key %s, want two", a)
	}
	if a, b := (op.Target{Node: "pve1"}).Key(), vm("pve1", 105).Key(); a == b {
		t.Errorf("a node and a guest: got one key %s, want two", a)
	}
}

func TestEqualComparesValues(t *testing.T) {
	yes, alsoYes, no := true, true, false
	if !(op.Params{Purge: &yes}).Equal(op.Params{Purge: &alsoYes}) {
		t.Error("got unequal, want equal parameters with equal values")
	}
	for _, p := range []op.Params{{}, {Purge: &no}, {Force: &yes}} {
		if (op.Params{Purge: &yes}).Equal(p) {
			t.Errorf("got equal to %+v, want unequal", p)
		}
	}
	a := op.Target{Node: "pve1", Guest: &op.Guest{Type: op.QEMU, VMID: 105}}
	if b := (op.Target{Node: "pve1", Guest: &op.Guest{Type: op.QEMU, VMID: 105}}); !a.Equal(b) {
		t.Errorf("got %s and %s unequal, want equal", a, b)
	}
	for _, b := range []op.Target{
		{Node: "pve1"},
		{Node: "pve2", Guest: a.Guest},
		{Node: "pve1", Guest: &op.Guest{Type: op.LXC, VMID: 105}},
	} {
		if a.Equal(b) || b.Equal(a) {
			t.Errorf("got %s and %s equal, want unequal", a, b)
		}
	}
}
