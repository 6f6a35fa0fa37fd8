package main

import (
	"strings"

	"github.com/spf13/cobra"

	"writ/domain/op"
)

// opFlags say what is to be done to what.
type opFlags struct {
	class, node   string
	qemu, lxc     int
	volume, disk  string
	pool          string
	snapshot      string
	archive       string
	storage       string
	timeout       int
	purge, force  bool
	unique        bool
	cleanupDisks  bool
	cleanupConfig bool

	changed func(flag string) bool
}

func (f *opFlags) register(cmd *cobra.Command, class op.Class) {
	fl := cmd.Flags()
	f.changed = fl.Changed
	fl.StringVar(&f.class, "class", string(class), "what to do: "+classNames(class == ""))
	fl.IntVar(&f.qemu, "qemu", 0, "VMID of the virtual machine")
	fl.IntVar(&f.lxc, "lxc", 0, "VMID of the container")
	fl.StringVar(&f.node, "node", "", "the node (of a guest a hint, as guests migrate; read from the host if not given)")
	fl.StringVar(&f.volume, "volume", "", "id of the volume or backup to delete, such as local-lvm:vm-105-disk-1 (with --node)")
	fl.StringVar(&f.pool, "pool", "", "pool to take down: zfs/NAME, lvm/NAME, directory/NAME or lvmthin/GROUP/NAME (with --node)")
	fl.StringVar(&f.disk, "disk", "", "disk to wipe, such as /dev/sdb (with --node)")
	fl.StringVar(&f.snapshot, "snapshot", "", "name of the snapshot")
	fl.StringVar(&f.archive, "archive", "", "volume id of the backup to restore over the guest")
	fl.StringVar(&f.storage, "storage", "", "where the restored volumes, or the backup, go")
	fl.IntVar(&f.timeout, "timeout", 0, "seconds that the guest is given to shut down")
	fl.BoolVar(&f.purge, "purge", false, "destroy: also remove it from backup jobs, replication and HA")
	fl.BoolVar(&f.force, "force", false, "destroy: stop a running container first (lxc only)")
	fl.BoolVar(&f.unique, "unique", false, "restore: give the guest an identity and MAC addresses of its own")
	fl.BoolVar(&f.cleanupDisks, "cleanup-disks", false, "pool: also wipe the disks that it was on")
	fl.BoolVar(&f.cleanupConfig, "cleanup-config", false, "pool: also remove the storages defined on it")
}

// classNames are those of the benign classes, or of the signed ones.
func classNames(benign bool) string {
	var names []string
	for _, c := range op.Classes() {
		if c.Benign() == benign {
			names = append(names, string(c))
		}
	}
	return strings.Join(names, ", ")
}

// opFlagNames are the flags beside the class that register adds.
func opFlagNames() []string {
	return []string{
		"qemu", "lxc", "node", "volume", "pool", "disk", "snapshot", "archive", "storage", "timeout", "purge", "force", "unique",
		"cleanup-disks", "cleanup-config",
	}
}

// intent makes the intent of the flags. Whether it is well formed is its own
// check.
func (f *opFlags) intent() (op.Intent, error) {
	in := op.Intent{Class: op.Class(f.class), Target: op.Target{Node: f.node, Volume: f.volume, Disk: f.disk}}
	if !in.Class.Known() {
		return op.Intent{}, usagef("--class: %q is none of %v", f.class, op.Classes())
	}
	if err := f.aim(&in.Target); err != nil {
		return op.Intent{}, err
	}
	in.Params = op.Params{Snapshot: f.snapshot, Archive: f.archive, Storage: f.storage}
	for _, x := range []struct {
		flag  string
		value *bool
		into  **bool
	}{
		{"purge", &f.purge, &in.Params.Purge},
		{"force", &f.force, &in.Params.Force},
		{"unique", &f.unique, &in.Params.Unique},
		{"cleanup-disks", &f.cleanupDisks, &in.Params.CleanupDisks},
		{"cleanup-config", &f.cleanupConfig, &in.Params.CleanupConfig},
	} {
		if f.changed(x.flag) {
			*x.into = x.value
		}
	}
	if f.changed("timeout") {
		in.Params.Timeout = &f.timeout
	}
	return in, nil
}

// aim adds the guest or the pool.
func (f *opFlags) aim(t *op.Target) error {
	named := 0
	for _, given := range []bool{f.qemu != 0, f.lxc != 0, f.volume != "", f.pool != "", f.disk != ""} {
		if given {
			named++
		}
	}
	if named != 1 {
		return usagef("on what? Give --qemu VMID, --lxc VMID, --volume ID, --pool KIND/NAME or --disk DEVICE, one of them")
	}
	switch {
	case f.qemu != 0:
		t.Guest = &op.Guest{Type: op.QEMU, VMID: f.qemu}
	case f.lxc != 0:
		t.Guest = &op.Guest{Type: op.LXC, VMID: f.lxc}
	case f.pool != "":
		kind, name, ok := strings.Cut(f.pool, "/")
		if !ok {
			return usagef("--pool: %q is not KIND/NAME, such as zfs/tank, or lvmthin/GROUP/NAME", f.pool)
		}
		t.Pool = &op.Pool{Kind: op.PoolKind(kind), Name: name}
		group, thin, two := strings.Cut(name, "/")
		if thinPool := t.Pool.Kind == op.LVMThin; two != thinPool {
			return usagef("--pool: %q: a thin pool is lvmthin/GROUP/NAME, every other one KIND/NAME", f.pool)
		}
		if two {
			t.Pool.VolumeGroup, t.Pool.Name = group, thin
		}
	}
	if t.Guest == nil && f.node == "" {
		return usagef("--node is required: volumes, pools and disks of one name are on many nodes")
	}
	return nil
}
