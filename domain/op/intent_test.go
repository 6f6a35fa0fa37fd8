package op_test

import (
	"reflect"
	"strings"
	"testing"

	"writ/domain/op"
)

// targetOf gives a target that ops of a class act on.
func targetOf(c op.Class) op.Target {
	t := op.Target{Node: "pve1"}
	switch {
	case c.ActsOnGuest():
		t.Guest = &op.Guest{Type: op.QEMU, VMID: 105}
	case c == op.StorageWipe:
		t.Pool = &op.Pool{Kind: op.ZFS, Name: "tank"}
	default:
		t.Volume = "local-lvm:vm-105-disk-0"
	}
	return t
}

// paramsOf gives the parameters without which a class is malformed.
func paramsOf(c op.Class) op.Params {
	switch c { //nolint:exhaustive // the others need none
	case op.SnapshotRollback, op.SnapshotDelete, op.SnapshotCreate:
		return op.Params{Snapshot: "before-upgrade"}
	case op.RestoreOverwrite:
		return op.Params{Archive: "local:backup/vzdump-qemu-105-2026_11_01-02_00_00.vma.zst", Storage: "local-lvm"}
	case op.BackupCreate:
		return op.Params{Storage: "backups"}
	}
	return op.Params{}
}

func TestIntentCheckOfEachClass(t *testing.T) {
	yes, minute, never := true, 60, 0
	aim := func(c op.Class, change func(*op.Intent)) op.Intent {
		in := op.Intent{Class: c, Target: targetOf(c), Params: paramsOf(c)}
		change(&in)
		return in
	}
	for _, tt := range []struct {
		name string
		in   op.Intent
		want string // how the error begins; empty: none
	}{
		{"a rollback without a snapshot", aim(op.SnapshotRollback, func(in *op.Intent) { in.Params.Snapshot = "" }), "params.snapshot: missing"},
		{"a rollback to what is no snapshot", aim(op.SnapshotRollback, func(in *op.Intent) { in.Params.Snapshot = "current" }), "params.snapshot: "},
		{"a snapshot that is a path", aim(op.SnapshotDelete, func(in *op.Intent) { in.Params.Snapshot = "a/../b" }), "params.snapshot: "},
		{"a snapshot that is too long", aim(op.SnapshotDelete, func(in *op.Intent) { in.Params.Snapshot = strings.Repeat("s", 41) }), "params.snapshot: "},
		{"a snapshot of a stop", aim(op.GuestStop, func(in *op.Intent) { in.Params.Snapshot = "s1" }), "params.snapshot: class"},
		{"a restore without an archive", aim(op.RestoreOverwrite, func(in *op.Intent) { in.Params.Archive = "" }), "params.archive: missing"},
		{"an archive that is a file", aim(op.RestoreOverwrite, func(in *op.Intent) { in.Params.Archive = "/mnt/a.vma" }), "params.archive: "},
		{"a restore with an identity of its own", aim(op.RestoreOverwrite, func(in *op.Intent) { in.Params.Unique = &yes }), ""},
		{"a restore to nowhere", aim(op.RestoreOverwrite, func(in *op.Intent) { in.Params.Storage = "" }), "params.storage: missing"},
		{"a storage that is a path", aim(op.BackupCreate, func(in *op.Intent) { in.Params.Storage = "a/b" }), "params.storage: "},
		{"a backup to nowhere", aim(op.BackupCreate, func(in *op.Intent) { in.Params.Storage = "" }), "params.storage: missing"},
		{"a shutdown in a minute", aim(op.GuestShutdown, func(in *op.Intent) { in.Params.Timeout = &minute }), ""},
		{"a shutdown in no time", aim(op.GuestShutdown, func(in *op.Intent) { in.Params.Timeout = &never }), "params.timeout: 0"},
		{"a stop in a minute", aim(op.GuestStop, func(in *op.Intent) { in.Params.Timeout = &minute }), "params.timeout: class"},
		{"a volume of another form", aim(op.VolumeDelete, func(in *op.Intent) { in.Target.Volume = "vm-105-disk-0" }), "target.volume: "},
		{"a volume that leads elsewhere", aim(op.VolumeDelete, func(in *op.Intent) { in.Target.Volume = "local:105/../106/vm-106-disk-0.raw" }), "target.volume: "},
		{"a volume that ends the path", aim(op.VolumeDelete, func(in *op.Intent) { in.Target.Volume = "local:105/vm-105-disk-0.raw?delay=30" }), "target.volume: "},
		{"a volume on a storage of no name", aim(op.BackupDelete, func(in *op.Intent) { in.Target.Volume = ":x" }), "target.volume: "},
		{"a volume beside a guest", aim(op.GuestDestroy, func(in *op.Intent) { in.Target.Volume = "local-lvm:x" }), "target.volume: class"},
		{"nothing to wipe", aim(op.StorageWipe, func(in *op.Intent) { in.Target.Pool = nil }), "target.pool: missing"},
		{"a disk", aim(op.StorageWipe, func(in *op.Intent) { in.Target.Pool, in.Target.Disk = nil, "/dev/sdb" }), ""},
		{"a disk beside a pool", aim(op.StorageWipe, func(in *op.Intent) { in.Target.Disk = "/dev/sdb" }), "target.pool: class"},
		{"a disk by what the host refuses", aim(op.StorageWipe, func(in *op.Intent) { in.Target.Pool, in.Target.Disk = nil, "/dev/disk/by-id/x" }), "target.disk: "},
		{"a disk that leads elsewhere", aim(op.StorageWipe, func(in *op.Intent) { in.Target.Pool, in.Target.Disk = nil, "/dev//sdb" }), "target.disk: "},
		{"a disk whose pool is cleaned up", aim(op.StorageWipe, func(in *op.Intent) {
			in.Target.Pool, in.Target.Disk, in.Params.CleanupDisks = nil, "/dev/sdb", &yes
		}), "params.cleanup_disks: class"},
		{"a pool and its disks", aim(op.StorageWipe, func(in *op.Intent) { in.Params.CleanupDisks, in.Params.CleanupConfig = &yes, &yes }), ""},
		{"a pool of no kind", aim(op.StorageWipe, func(in *op.Intent) { in.Target.Pool.Kind = "btrfs" }), "target.pool.kind: "},
		{"a pool that is a path", aim(op.StorageWipe, func(in *op.Intent) { in.Target.Pool.Name = "tank/data" }), "target.pool.name: "},
		{"a thin pool in no volume group", aim(op.StorageWipe, func(in *op.Intent) { in.Target.Pool.Kind = op.LVMThin }), "target.pool.volume_group: "},
		{"a thin pool", aim(op.StorageWipe, func(in *op.Intent) { in.Target.Pool.Kind, in.Target.Pool.VolumeGroup = op.LVMThin, "pve" }), ""},
		{"a ZFS pool in a volume group", aim(op.StorageWipe, func(in *op.Intent) { in.Target.Pool.VolumeGroup = "pve" }), "target.pool.volume_group: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.in.Check()
			if (err == nil) != (tt.want == "") || err != nil && !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got error %v, want one that begins with %q", err, tt.want)
			}
		})
	}
}

// What is copied shares nothing, whatever fields come to be.
func TestClonesShareNothing(t *testing.T) {
	yes, n := true, 1
	in := op.Intent{
		Target: op.Target{Guest: &op.Guest{VMID: 1}, Pool: &op.Pool{Name: "a"}},
		Params: op.Params{Purge: &yes, Force: &yes, Unique: &yes, Timeout: &n, CleanupDisks: &yes, CleanupConfig: &yes},
	}
	var walk func(path string, a, b reflect.Value)
	walk = func(path string, a, b reflect.Value) {
		switch a.Kind() {
		case reflect.Struct:
			for i := range a.NumField() {
				walk(path+"."+a.Type().Field(i).Name, a.Field(i), b.Field(i))
			}
		case reflect.Pointer:
			if a.IsNil() || b.IsNil() || a.Pointer() == b.Pointer() {
				t.Errorf("%s: got %v and %v, want two values, of which neither is nil", path, a, b)
			}
		}
	}
	walk("intent", reflect.ValueOf(in), reflect.ValueOf(in.Clone()))
}

// A parameter that Differs does not know would let a caller ask for more than
// was signed.
func TestDiffersKnowsEveryParameter(t *testing.T) {
	for i := range reflect.TypeFor[op.Params]().NumField() {
		var p op.Params
		v := reflect.ValueOf(&p).Elem().Field(i)
		if v.Kind() == reflect.Pointer {
			v.Set(reflect.New(v.Type().Elem()))
		} else {
			v.SetString("x")
		}
		name, _, _ := strings.Cut(reflect.TypeFor[op.Params]().Field(i).Tag.Get("json"), ",")
		if got := p.Differs(op.Params{}); got != name {
			t.Errorf("parameters that differ in %s: got %q", name, got)
		}
	}
}
