package proxmox_test

import (
	"slices"
	"strings"
	"testing"

	"writ/adapters/pvesim"
	"writ/domain/engine"
	"writ/domain/op"
)

// volume makes a volume on pve1.
func (r *classRig) volume(v pvesim.Volume) {
	r.t.Helper()
	v.Node = "pve1"
	if v.Size == 0 {
		v.Size = 1 << 20
	}
	if err := r.sim.AddVolume(v); err != nil {
		r.t.Fatal(err)
	}
}

// storages makes one of each kind beside those that are there.
func (r *classRig) storages() {
	r.sim.AddStorage(pvesim.Storage{ID: "tank", Type: "zfspool", Content: []string{"images", "rootdir"}})
	r.sim.AddStorage(pvesim.Storage{ID: "thick", Type: "lvm", Content: []string{"images", "rootdir"}})
}

func deletionOf(volid string) op.Intent {
	return op.Intent{Class: op.VolumeDelete, Target: op.Target{Node: "pve1", Volume: volid}}
}

func backupDeletionOf(volid string) op.Intent {
	return op.Intent{Class: op.BackupDelete, Target: op.Target{Node: "pve1", Volume: volid}}
}

const thinDisk = "local-lvm:vm-107-disk-9"

// orphan makes a disk that nobody refers to, and orders its deletion.
func (r *classRig) orphan() *order {
	r.t.Helper()
	r.volume(pvesim.Volume{VolID: thinDisk, VMID: 107})
	return r.order(deletionOf(thinDisk))
}

// oldBackup makes a backup of a guest that is gone, and orders its deletion.
func (r *classRig) oldBackup() *order {
	r.t.Helper()
	r.guest(pvesim.QEMU)
	volid := r.backup(107)
	r.sim.DestroyGuest(107)
	return r.order(backupDeletionOf(volid))
}

func TestVolumeDeleted(t *testing.T) {
	cases := []struct {
		name, task string
		volume     pvesim.Volume
		ctime      bool
	}{
		{"thin disk", "107@local-lvm", pvesim.Volume{VolID: thinDisk, VMID: 107}, true},
		{"dataset", "107@tank", pvesim.Volume{VolID: "tank:vm-107-disk-0", VMID: 107}, false},
		{"container's dataset", "107@tank", pvesim.Volume{VolID: "tank:subvol-107-disk-0", VMID: 107, Content: "rootdir", Format: "subvol"}, false},
		{"thick disk", "107@thick", pvesim.Volume{VolID: "thick:vm-107-disk-0", VMID: 107}, true},
		{"file", "107@local", pvesim.Volume{VolID: "local:107/vm-107-disk-0.qcow2", VMID: 107, Format: "qcow2"}, true},
		{"image of a CD", "local", pvesim.Volume{VolID: "local:iso/a.iso", Content: "iso", Format: "iso"}, true},
		{"template", "local", pvesim.Volume{VolID: "local:vztmpl/debian-13.tar.zst", Content: "vztmpl", Format: "tzst"}, true},
		{"snippet", "local", pvesim.Volume{VolID: "local:snippets/a.yaml", Content: "snippets", Format: "snippet"}, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, r *classRig) {
				r.storages()
				r.guest(pvesim.QEMU)
				r.volume(c.volume)
				o := r.order(deletionOf(c.volume.VolID))
				v := o.l.Observed.Volume
				if v == nil || len(v.Users) > 0 || v.Size != 1<<20 || (v.CTime != 0) != c.ctime {
					t.Errorf("observed: got %+v", v)
				}
				e := o.play()
				e.want(t, "none", op.EffectDone, "does not list it any more")
				if !strings.Contains(e.upid, ":imgdel:"+c.task+":") {
					t.Errorf("task: got %s, want %s", e.upid, c.task)
				}
				if got := o.kinds(); !slices.Equal(got, []pvesim.EffectKind{pvesim.VolumeDeleted}) {
					t.Errorf("effects: got %v", got)
				}
			})
		})
	}
}

func TestBackupDeleted(t *testing.T) {
	inBothModes(t, func(t *testing.T, r *classRig) {
		o := r.oldBackup()
		if v := o.l.Observed.Volume; v.VMID != 107 || v.Content != "backup" {
			t.Errorf("observed: got %+v", v)
		}
		o.play().want(t, "none", op.EffectDone)
		if got := o.kinds(); !slices.Equal(got, []pvesim.EffectKind{pvesim.BackupDeleted}) {
			t.Errorf("effects: got %v", got)
		}
	})
	t.Run("of nobody", func(t *testing.T) {
		inBothModes(t, func(t *testing.T, r *classRig) {
			r.volume(pvesim.Volume{VolID: "local:backup/renamed.vma.zst", Content: "backup", Format: "vma.zst"})
			r.order(backupDeletionOf("local:backup/renamed.vma.zst")).play().want(t, "none", op.EffectDone)
		})
	})
}

// Whatever refers to a volume is found: the host would ask nobody.
func TestVolumeUsers(t *testing.T) {
	const disk, file, iso = "local-lvm:vm-107-disk-0", "local:107/base-107-disk-0.qcow2", "local:iso/a.iso"
	clone := func(r *classRig) {
		r.volume(pvesim.Volume{VolID: file, VMID: 107, Format: "qcow2"})
		r.volume(pvesim.Volume{VolID: file + "/108/vm-108-disk-0.qcow2", VMID: 108, Format: "qcow2", Parent: file})
	}
	uses := func(vmid int, key, value string) func(*classRig) {
		return func(r *classRig) { r.sim.EditGuest(vmid, map[string]string{key: value}) }
	}
	cases := []struct {
		name  string
		kind  pvesim.Kind
		do    func(*classRig)
		volid string
		users []string
	}{
		{"the owner", pvesim.QEMU, func(*classRig) {}, disk, []string{"qemu/107 scsi0"}},
		{"a container", pvesim.LXC, func(*classRig) {}, disk, []string{"lxc/107 rootfs"}},
		{"the owner, as unused", pvesim.QEMU, func(r *classRig) {
			r.sim.EditGuest(107, map[string]string{"scsi0": "", "unused0": disk})
		}, disk, []string{"qemu/107 unused0"}},
		{"another guest", pvesim.QEMU, func(r *classRig) {
			r.guest(pvesim.LXC, func(g *pvesim.Guest) { g.VMID, g.Node, g.Disks = 120, "pve2", []string{"local:1"} })
			uses(120, "mp0", disk+",mp=/data")(r)
		}, disk, []string{"lxc/120 mp0", "qemu/107 scsi0"}},
		{"a snapshot of the owner", pvesim.QEMU, func(r *classRig) {
			r.sim.AddSnapshot(107, "before", "")
			r.sim.EditGuest(107, map[string]string{"scsi0": ""})
		}, disk, []string{"qemu/107 snapshot before scsi0"}},
		{"a CD drive", pvesim.QEMU, uses(107, "ide2", iso+",media=cdrom"), iso, []string{"qemu/107 ide2"}},
		{"another storage on the same ground", pvesim.QEMU, func(r *classRig) {
			r.sim.AddStorage(pvesim.Storage{ID: "again", Type: "dir", Path: "/var/lib/vz/", Content: []string{"iso"}})
			uses(107, "ide2", "again:iso/a.iso,media=cdrom")(r)
		}, iso, []string{"qemu/107 ide2"}},
		{"a script", pvesim.QEMU, uses(107, "hookscript", iso), iso, []string{"qemu/107 hookscript"}},
		{"settings for cloud-init", pvesim.QEMU, uses(107, "cicustom", "user=local:snippets/u.yaml,meta="+iso), iso, []string{"qemu/107 cicustom"}},
		{"a linked clone", pvesim.QEMU, clone, file, []string{file + "/108/vm-108-disk-0.qcow2"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := newClassRig(t, true)
			r.guest(c.kind)
			r.volume(pvesim.Volume{VolID: iso, Content: "iso", Format: "iso"})
			c.do(r)
			if got := r.order(deletionOf(c.volid)).l.Observed.Volume.Users; !slices.Equal(got, c.users) {
				t.Errorf("users: got %q, want %q", got, c.users)
			}
		})
	}
}

// A token that can't see everything makes an error, never an absence.
func TestVolumeNotSeen(t *testing.T) {
	cases := []struct {
		name  string
		in    op.Intent
		do    func(*classRig)
		wants string
	}{
		{"a guest that only others see", deletionOf(thinDisk), func(r *classRig) {
			r.guest(pvesim.QEMU)
			r.sim.Grant("/vms/107", "svc@pve", "NoAccess", false)
		}, "VMID 107 is in use"},
		{"guests in general", deletionOf(thinDisk), func(r *classRig) { r.sim.Revoke("/vms", "svc@pve") }, "give it VM.Audit on /vms"},
		{"storages in general", deletionOf(thinDisk), func(r *classRig) { r.sim.Grant("/storage", "svc@pve", "NoAccess", false) }, "give it Datastore.Audit on /storage"},
		{"the storage", deletionOf(thinDisk), func(r *classRig) { r.sim.Grant("/storage/local-lvm", "svc@pve", "NoAccess", false) }, "403"},
		{"the disk, by the guest's rights", deletionOf("local-lvm:vm-108-disk-0"), func(r *classRig) {
			r.sim.AddRole("Look", "Datastore.Audit")
			r.sim.Grant("/storage/local-lvm", "svc@pve", "Look", false)
			r.sim.Grant("/vms/108", "svc@pve", "NoAccess", false)
		}, "which says nothing"},
		{"the backup, by the guest's rights", backupDeletionOf("local:backup/vzdump-qemu-108-2026_01_01-00_00_00.vma.zst"), func(r *classRig) {
			r.sim.AddRole("Look", "Datastore.AllocateSpace", "Datastore.Audit")
			r.sim.Grant("/storage/local", "svc@pve", "Look", false)
			r.sim.Grant("/vms/108", "svc@pve", "PVEAuditor", false)
		}, "which says nothing"},
		{"the node", deletionOf(thinDisk), func(r *classRig) { r.node("pve1", pvesim.NodeControl{Daemon: pvesim.Refusing}) }, "595"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := newClassRig(t, false)
			r.volume(pvesim.Volume{VolID: thinDisk, VMID: 107})
			c.do(r)
			seen, err := r.host.Executors()[c.in.Class].Observe(t.Context(), engine.Attempt{Intent: c.in})
			if err == nil || !strings.Contains(err.Error(), c.wants) {
				t.Errorf("got %+v, %v, want an error with %q", seen, err, c.wants)
			}
		})
	}
	t.Run("absent, and it would be seen", func(t *testing.T) {
		for _, volid := range []string{"local-lvm:vm-108-disk-0", "local:iso/none.iso", "local:snippets/none.yaml", "nowhere:vm-108-disk-0"} {
			r := newClassRig(t, false)
			seen, err := r.host.Executors()[op.VolumeDelete].Observe(t.Context(), engine.Attempt{Intent: deletionOf(volid)})
			if err != nil || seen.Found || !seen.Quorate || !seen.NodeOnline {
				t.Errorf("%s: got %+v, %v, want not found", volid, seen, err)
			}
		}
	})
	t.Run("absent backups, by the rights over their guest", func(t *testing.T) {
		r := newClassRig(t, false)
		r.sim.AddRole("Look", "Datastore.AllocateSpace")
		r.sim.Grant("/storage/local", "svc@pve", "Look", false)
		in := backupDeletionOf("local:backup/vzdump-qemu-108-2026_01_01-00_00_00.vma.zst")
		if seen, err := r.host.Executors()[op.BackupDelete].Observe(t.Context(), engine.Attempt{Intent: in}); err != nil || seen.Found {
			t.Errorf("got %+v, %v, want not found", seen, err)
		}
	})
}

// What the host refuses, at once or in the task, has no effect.
func TestVolumeRefused(t *testing.T) {
	const base = "local:107/base-107-disk-0.qcow2"
	off := func(r *classRig) {
		r.sim.AddStorage(pvesim.Storage{ID: "local-lvm", Type: "lvmthin", Content: []string{"images"}, Disabled: true})
	}
	inUse := func(r *classRig) *order {
		r.volume(pvesim.Volume{VolID: base, VMID: 107, Format: "qcow2"})
		return r.order(deletionOf(base))
	}
	cases := []struct {
		name  string
		order func(*classRig) *order
		do    func(*classRig)
		kind  string
		text  string
	}{
		{"no storage", (*classRig).orphan, func(r *classRig) { r.sim.RemoveStorage("local-lvm") }, "definite", "storage 'local-lvm' does not exist"},
		{"no right", (*classRig).orphan, func(r *classRig) {
			r.sim.Revoke("/", "svc@pve")
			r.sim.Revoke("/", serviceUser)
		}, "definite", "403"},
		{"daemon down", (*classRig).orphan, func(r *classRig) { r.node("pve1", pvesim.NodeControl{Daemon: pvesim.Refusing}) }, "definite", "595"},
		{"storage off", (*classRig).orphan, off, "none", "storage 'local-lvm' is disabled"},
		{"protected backup", (*classRig).oldBackup, func(r *classRig) {
			for _, v := range r.sim.Volumes() {
				r.sim.DropVolume(v.Node, v.VolID)
				r.volume(pvesim.Volume{VolID: v.VolID, VMID: v.VMID, Size: v.Size, Content: v.Content, Format: v.Format, CTime: v.CTime, Protected: true})
			}
		}, "none", "cannot remove protected volume"},
		{"base of linked clones", inUse, func(r *classRig) {
			r.volume(pvesim.Volume{VolID: base + "/108/vm-108-disk-0.qcow2", VMID: 108, Format: "qcow2", Parent: base})
		}, "none", "is still in use by linked clones"},
		{"gone already, thick", func(r *classRig) *order {
			r.storages()
			r.volume(pvesim.Volume{VolID: "thick:vm-107-disk-9", VMID: 107})
			return r.order(deletionOf("thick:vm-107-disk-9"))
		}, func(r *classRig) { r.sim.DropVolume("pve1", "thick:vm-107-disk-9") }, "none", "Failed to find logical volume"},
		{"the program fails", (*classRig).orphan, func(r *classRig) {
			r.fault(pvesim.Fault{Kind: pvesim.FaultVolumeStuck, Volume: thinDisk, Times: -1, Text: "lvremove 'pve/vm-107-disk-9' error:   Logical volume pve/vm-107-disk-9 in use."})
		}, "none", "in use"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, r *classRig) {
				o := c.order(r)
				o.playAfter(func() { c.do(r) }).want(t, c.kind, op.EffectNone, c.text)
			})
		})
	}
}

// Whatever happens to the answer, the task is found by the attempt's name, though
// its id is not the VMID.
func TestVolumeAnswerLost(t *testing.T) {
	cases := map[string]struct {
		fault pvesim.Fault
		done  bool
	}{
		"cut before":               {pvesim.Fault{Kind: pvesim.FaultCut}, false},
		"cut after":                {pvesim.Fault{Kind: pvesim.FaultCut, After: true}, true},
		"596, executed":            {pvesim.Fault{Kind: pvesim.FaultAnswer, Status: 596, Reason: "Connection timed out", After: true}, true},
		"the task can't be listed": {pvesim.Fault{Kind: pvesim.FaultActiveLock}, true},
	}
	for name, c := range cases {
		for class, order := range map[op.Class]func(*classRig) *order{op.VolumeDelete: (*classRig).orphan, op.BackupDelete: (*classRig).oldBackup} {
			t.Run(name+", "+string(class), func(t *testing.T) {
				inBothModes(t, func(t *testing.T, r *classRig) {
					o := order(r)
					c.fault.Method, c.fault.Path = "DELETE", "/nodes/*/storage/**"
					in := r.fault(c.fault)
					e := o.play()
					if in.Hits() != 1 || e.adopted != c.done {
						t.Errorf("hits %d, adopted %v, want once, %v", in.Hits(), e.adopted, c.done)
					}
					if c.done {
						e.want(t, "ambiguous", op.EffectDone)
						return
					}
					// Nothing holds back a late deletion that has passed the check of
					// its token.
					e.want(t, "ambiguous", op.EffectUnknown, "lists it, with the same size and time")
				})
			})
		}
	}
}

// A worker that dies, before it has removed the volume and after.
func TestVolumeWorkerKilled(t *testing.T) {
	for stage, want := range map[string]op.Effect{
		"start": op.EffectUnknown, "lock": op.EffectUnknown, "free:0": op.EffectUnknown, "end": op.EffectDone,
	} {
		t.Run(stage, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, r *classRig) {
				o := r.orphan()
				r.fault(pvesim.Fault{Kind: pvesim.FaultTaskKill, TaskType: "imgdel", Stage: stage})
				e := o.play()
				e.want(t, "none", want, "unexpected status")
				if e.finding.MayStillAct != (want == op.EffectUnknown) {
					t.Errorf("may still act: got %v", e.finding.MayStillAct)
				}
			})
		})
	}
}

// What others do meanwhile, and ids that are given again.
func TestVolumeAndSomebodyElse(t *testing.T) {
	again := func(r *classRig, volid string, size, ctime int64) {
		r.sim.DropVolume("pve1", volid)
		r.volume(pvesim.Volume{VolID: volid, VMID: 107, Size: size, CTime: ctime})
	}
	t.Run("made again before the launch", func(t *testing.T) {
		r := newClassRig(t, true)
		o := r.orphan()
		again(r, thinDisk, 2<<20, 0)
		o.play().want(t, "definite", op.EffectNone, "is another one than was announced")
	})
	t.Run("gone before the launch", func(t *testing.T) {
		r := newClassRig(t, true)
		o := r.orphan()
		r.sim.DropVolume("pve1", thinDisk)
		o.play().want(t, "definite", op.EffectNone, "any more")
	})
	t.Run("made again after it was deleted", func(t *testing.T) {
		r := newClassRig(t, true)
		o := r.orphan()
		upid, err := o.x.Launch(t.Context(), o.a, o.l)
		again(r, thinDisk, 2<<20, 0)
		o.settle(upid, err).want(t, "none", op.EffectDone, "it was made since")
	})
	t.Run("made again with the same size, where times are not kept", func(t *testing.T) {
		r := newClassRig(t, true)
		r.storages()
		r.volume(pvesim.Volume{VolID: "tank:vm-107-disk-0", VMID: 107})
		o := r.order(deletionOf("tank:vm-107-disk-0"))
		upid, err := o.x.Launch(t.Context(), o.a, o.l)
		again(r, "tank:vm-107-disk-0", 1<<20, 0)
		o.settle(upid, err).want(t, "none", op.EffectUnknown, "does not tell when a volume was made")
	})
	t.Run("changed while the task failed", func(t *testing.T) {
		r := newClassRig(t, true)
		o := r.orphan()
		r.fault(pvesim.Fault{Kind: pvesim.FaultVolumeStuck, Volume: thinDisk, Text: "unlink failed - Operation not permitted"})
		upid, err := o.x.Launch(t.Context(), o.a, o.l)
		again(r, thinDisk, 1<<20, 1700000000)
		o.settle(upid, err).want(t, "none", op.EffectUnknown, "changed, or made anew")
	})
	t.Run("deleted by hand, the request lost", func(t *testing.T) {
		r := newClassRig(t, true)
		o := r.orphan()
		r.fault(pvesim.Fault{Kind: pvesim.FaultCut, Method: "DELETE", Path: "/nodes/*/storage/**"})
		upid, err := o.x.Launch(t.Context(), o.a, o.l)
		r.sim.DropVolume("pve1", thinDisk)
		o.settle(upid, err).want(t, "ambiguous", op.EffectUnknown, "can't be told who removed it")
	})
	t.Run("the storage taken away after the task failed", func(t *testing.T) {
		r := newClassRig(t, true)
		o := r.orphan()
		r.fault(pvesim.Fault{Kind: pvesim.FaultVolumeStuck, Volume: thinDisk, Text: "in use"})
		upid, err := o.x.Launch(t.Context(), o.a, o.l)
		r.sim.RemoveStorage("local-lvm")
		o.settle(upid, err).want(t, "none", op.EffectUnknown, "define it again and look")
	})
	t.Run("the storage taken away after it succeeded", func(t *testing.T) {
		r := newClassRig(t, true)
		o := r.orphan()
		upid, err := o.x.Launch(t.Context(), o.a, o.l)
		r.sim.RemoveStorage("local-lvm")
		o.settle(upid, err).want(t, "none", op.EffectDone)
	})
}

// The host deletes volumes without quorum as well: what is refused is refused
// before the launch.
func TestVolumeWithoutQuorum(t *testing.T) {
	r := newClassRig(t, true)
	o := r.orphan()
	r.node("pve1", pvesim.NodeControl{Quorate: new(false)})
	if seen, err := o.x.Observe(t.Context(), o.a); err != nil || seen.Quorate {
		t.Errorf("observed: got %+v, %v, want it not quorate", seen, err)
	}
	o.play().want(t, "definite", op.EffectNone, "quorate")
}

// The request goes to the volume's own node, and says nothing but its name.
func TestVolumeRequest(t *testing.T) {
	r := newClassRig(t, true)
	o := r.oldBackup()
	want := op.Request{Method: "DELETE", Path: "/nodes/pve1/storage/local/content/" + o.l.Target.Volume}
	if o.l.Request != want || o.l.Node != "pve1" {
		t.Errorf("got %+v on %s, want %+v", o.l.Request, o.l.Node, want)
	}
}
