package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"writ/domain/op"
	"writ/domain/signedop"
)

// orders are one of each signed class, of a machine and of a container where the class
// has both, and of each thing that is no guest.
func orders() []signedop.Document {
	at, yes, no, limit := int64(1793498400), true, false, 60
	vm := func(c op.Class, p op.Params) signedop.Document {
		d := testDocument()
		d.Class, d.Params = c, p
		d.Expect = signedop.Expect{
			Name: "web-3", SMBIOSUUID: d.Expect.SMBIOSUUID, VMGenID: "0b9e2d3e-6b1a-4f5e-9d57-1f0c8d9a7b42", Volumes: []string{"local-lvm:vm-105-disk-0"},
		}
		return d
	}
	ct := func(c op.Class, p op.Params) signedop.Document {
		d := testDocument()
		d.Class, d.Params = c, p
		d.Target.Guest = &op.Guest{Type: op.LXC, VMID: 106}
		d.Expect = signedop.Expect{
			Name: "cache", MACs: []string{"BC:24:11:00:00:06"}, Volumes: []string{"local-lvm:vm-106-disk-0"}, WritID: "00112233445566778899aabbccddeeff",
		}
		return d
	}
	on := func(c op.Class, t op.Target, x signedop.Expect) signedop.Document {
		d := testDocument()
		d.Class, d.Target, d.Expect = c, t, x
		return d
	}
	snapshot := func(d signedop.Document) signedop.Document {
		d.Params.Snapshot, d.Expect.Snapshot = "before-upgrade", &signedop.SnapshotExpect{Time: at}
		return d
	}
	restore := func(d signedop.Document, archive string) signedop.Document {
		d.Params.Archive, d.Params.Storage = archive, "local-lvm"
		d.Expect.Archive = &signedop.VolumeExpect{Size: 3 << 29, CTime: &at}
		return d
	}
	wipe := func(p op.Pool, params op.Params) signedop.Document {
		d := on(op.StorageWipe, op.Target{Node: "pve1", Pool: &p}, signedop.Expect{Pool: &signedop.PoolExpect{Size: 1 << 40, Members: []string{"/dev/sdb", "/dev/sdc"}}})
		d.Params = params
		return d
	}
	const backup = "backups:backup/vzdump-qemu-105-2026_11_01-02_00_00.vma.zst"
	all := []signedop.Document{
		vm(op.GuestDestroy, op.Params{Purge: &yes}), ct(op.GuestDestroy, op.Params{Purge: &no, Force: &yes}),
		restore(vm(op.RestoreOverwrite, op.Params{Unique: &yes}), backup), restore(ct(op.RestoreOverwrite, op.Params{}), "backups:backup/vzdump-lxc-106-2026_11_01-02_00_00.tar.zst"),
		snapshot(vm(op.SnapshotRollback, op.Params{})), snapshot(ct(op.SnapshotRollback, op.Params{})),
		snapshot(vm(op.SnapshotDelete, op.Params{})), snapshot(ct(op.SnapshotDelete, op.Params{})),
		on(op.VolumeDelete, op.Target{Node: "pve1", Volume: "local-lvm:vm-300-disk-0"}, signedop.Expect{Volume: &signedop.VolumeExpect{Size: 1 << 30, CTime: &at}}),
		on(op.BackupDelete, op.Target{Node: "pve1", Volume: backup}, signedop.Expect{Volume: &signedop.VolumeExpect{Size: 1000}}),
		wipe(op.Pool{Kind: op.ZFS, Name: "tank"}, op.Params{}), wipe(op.Pool{Kind: op.LVM, Name: "vg1"}, op.Params{CleanupDisks: &yes}),
		wipe(op.Pool{Kind: op.LVMThin, Name: "data", VolumeGroup: "vg1"}, op.Params{CleanupConfig: &yes}), wipe(op.Pool{Kind: op.Directory, Name: "old"}, op.Params{CleanupDisks: &yes, CleanupConfig: &yes}),
		on(op.StorageWipe, op.Target{Node: "pve1", Disk: "/dev/sdd"}, signedop.Expect{Disk: &signedop.DiskExpect{Serial: "S4EWNX0M", WWN: "0x5002538e", Size: 1 << 40}}),
	}
	for _, c := range []op.Class{op.GuestStop, op.GuestShutdown, op.GuestReboot} {
		limited := op.Params{}
		if c != op.GuestStop {
			limited.Timeout = &limit
		}
		all = append(all, vm(c, op.Params{}), ct(c, limited))
	}
	return all
}

// TestEveryClassInPlainWords keeps what a signer reads of an order of each class as a
// file to read.
func TestEveryClassInPlainWords(t *testing.T) {
	told := make(map[op.Class]bool)
	var got bytes.Buffer
	for _, d := range orders() {
		if err := d.Check(); err != nil {
			t.Errorf("%s on %s: %v, want an order that can be given", d.Class, d.Target, err)
		}
		told[d.Class] = true
		fmt.Fprintf(&got, "# %s on %s\n\n", d.Class, d.Target)
		var text bytes.Buffer
		describe(&text, d, d.NotBefore.Add(30*time.Minute))
		head, _, ok := strings.Cut(text.String(), "  Reason  ") // what follows is the same of each
		if !ok {
			t.Fatalf("%s: no reason in\n%s", d.Class, &text)
		}
		got.WriteString(head)
	}
	for _, c := range op.Classes() {
		if told[c] == c.Benign() {
			t.Errorf("%s: told is %t, want every class that is signed, and no other", c, told[c])
		}
	}
	golden(t, "describe_classes.txt", got.String())
}
