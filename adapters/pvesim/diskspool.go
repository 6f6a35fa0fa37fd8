package pvesim

import (
	"maps"
	"slices"
)

// poolKind is how the removal of one kind of pool differs.
type poolKind struct {
	kind, task string
	missing    func(vg, name string) string // complaint about a pool that is not there; nil: none
	matches    func(st *Storage, vg, name string) bool
}

var poolKinds = []poolKind{
	{PoolZFS, "zfsremove", func(_, name string) string {
		return "command 'zpool destroy " + name + "' failed: exit code 1"
	}, func(st *Storage, _, name string) bool { return st.Type == "zfspool" && topOf(st.Pool) == name }},
	{PoolLVM, "lvmremove", func(_, name string) string {
		return "no such volume group '" + name + "'"
	}, func(st *Storage, _, name string) bool { return st.Type == "lvm" && st.VG == name }},
	{PoolLVMThin, "lvmthinremove", func(vg, name string) string {
		return "no such thin pool " + vg + "/" + name
	}, func(st *Storage, vg, name string) bool {
		return st.Type == "lvmthin" && st.VG == vg && st.ThinPool == name
	}},
	{PoolDirectory, "dirremove", nil, func(st *Storage, _, name string) bool {
		return st.Type == "dir" && st.Path == "/mnt/pve/"+name
	}},
}

// removePool is DELETE of a pool, a volume group, a thin pool or a directory:
// nothing is looked at before the task, and nothing asks who uses it.
// (pve-storage: PVE::API2::Disks::ZFS, ::LVM, ::LVMThin and ::Directory, delete)
func removePool(k poolKind) func(*call) {
	return func(c *call) {
		if c.on("cleanup-config") {
			if text := c.rights().all("/storage", "Datastore.Allocate"); text != "" {
				c.forbid(text)
				return
			}
		}
		r := &poolRemoval{s: c.s, poolKind: k, name: c.params["name"], vg: c.params["volume-group"], config: c.on("cleanup-config"), disks: c.on("cleanup-disks")}
		id := r.name
		if k.kind == PoolLVMThin {
			id = r.vg + "-" + r.name
		}
		c.fork(k.task, id, c.s.startStage(), stage{name: StageLock, wait: func(t *task, resume func(string)) {
			key := diskLock
			key.node = t.node.name
			t.takeLock(key, lockTimeout, lockFailure("/run/lock/pve-diskmanage.lck"), resume)
		}}, act(StageDestroy, c.s.pace.Volume, r.destroy))
	}
}

// poolRemoval is one worker's errand.
type poolRemoval struct {
	s *Sim
	poolKind
	name, vg      string
	config, disks bool

	configErr string
}

// destroy ends the pool with all that is on it, and plans the rest: every
// failure from there on comes after the destruction.
func (r *poolRemoval) destroy(t *task) string {
	h := &t.node.hardware
	p := h.pool(r.kind, r.vg, r.name)
	if p == nil && r.missing != nil {
		if r.kind == PoolZFS {
			t.print("cannot open '" + r.name + "': no such pool")
		}
		return r.missing(r.vg, r.name)
	}
	var members []string
	if p != nil {
		members = r.members(t, p)
		r.dropVolumes(t)
		h.pools = slices.DeleteFunc(h.pools, func(o *DiskPool) bool {
			return o == p || r.kind == PoolLVM && o.Kind == PoolLVMThin && o.VG == r.name
		})
		r.mark(t, p)
		r.s.effectOf(t, Effect{Kind: PoolDestroyed, Device: r.device()})
	}
	if r.kind == PoolLVM {
		t.print("  Volume group \"" + r.name + "\" successfully removed")
	}
	var plan []stage
	if r.config {
		plan = append(plan, stage{name: StageConfig, takes: r.s.pace.Cleanup, wait: r.cleanConfig})
	}
	if r.disks {
		if r.kind == PoolLVMThin {
			plan = append(plan, act(StageCheck, 0, r.groupUnused))
		}
		for i, dev := range members {
			plan = append(plan, r.wipe(i, dev))
		}
	}
	t.prepend(append(plan, act(StageEnd, 0, func(*task) string {
		if r.configErr != "" {
			return "config cleanup failed - " + r.configErr
		}
		return ""
	}))...)
	return ""
}

func (r *poolRemoval) device() string {
	if r.kind == PoolLVMThin {
		return r.kind + ":" + r.vg + "/" + r.name
	}
	return r.kind + ":" + r.name
}

// members are the devices to wipe: those of the volume group for a thin pool,
// and the whole disk where the pool has its only partition.
func (r *poolRemoval) members(t *task, p *DiskPool) []string {
	h := &t.node.hardware
	devs := p.Members
	if g := h.pool(PoolLVM, "", r.vg); r.kind == PoolLVMThin && g != nil {
		devs = g.Members
	}
	var out []string
	for _, dev := range devs {
		if d, part := h.find(dev); part != nil && len(d.Partitions) == 1 && r.kind == PoolDirectory {
			dev = d.DevPath
		}
		out = append(out, dev)
	}
	return out
}

// mark leaves on the members what the tools leave there.
func (r *poolRemoval) mark(t *task, p *DiskPool) {
	for _, dev := range p.Members {
		d, part := t.node.hardware.find(dev)
		switch {
		case d == nil:
		case r.kind == PoolDirectory && part != nil:
			part.Mounted = false
		case r.kind == PoolDirectory:
			d.Mounted = false
		case r.kind == PoolLVM && part == nil && d.Used == "":
			d.Used = "LVM2_member" // the label of the physical volume stays
		case r.kind == PoolLVM && part != nil && part.Used == "":
			part.Used = "LVM2_member"
		}
	}
}

// dropVolumes takes what lies on the pool with it. Unmounting a directory
// leaves it on the disk, where nobody sees it.
func (r *poolRemoval) dropVolumes(t *task) {
	for _, id := range slices.Sorted(maps.Keys(r.s.stores)) {
		st := r.s.stores[id]
		thin := r.kind == PoolLVM && st.Type == "lvmthin" && st.VG == r.name
		if !thin && !r.matches(&st.Storage, r.vg, r.name) {
			continue
		}
		for _, v := range st.seen(t.node, 0) {
			st.drop(v)
			if r.kind != PoolDirectory {
				r.s.effectOf(t, Effect{Kind: VolumeDeleted, VMID: v.VMID, Volume: v.VolID, Device: r.device()})
			}
		}
	}
}

func (r *poolRemoval) cleanConfig(t *task, resume func(string)) {
	r.s.detach(t, func(st *Storage) bool { return r.matches(st, r.vg, r.name) }, func(failure string) {
		if failure != "" && t.alive {
			t.print(failure)
			r.configErr = failure
		}
		resume("")
	})
}

func (r *poolRemoval) groupUnused(t *task) string {
	g := t.node.hardware.pool(PoolLVM, "", r.vg)
	switch {
	case g == nil:
		return "no such volume group '" + r.vg + "'"
	case t.node.logical(g) > 0:
		return "volume group '" + r.vg + "' still in use"
	}
	return ""
}

func (r *poolRemoval) wipe(i int, dev string) stage {
	st := r.s.wipeStage(StageWipe+":"+itoa(i), dev)
	wipe := st.act
	st.act = func(t *task) string {
		if failure := wipe(t); failure != "" {
			if r.kind == PoolDirectory {
				return failure
			}
			return "cleanup failed - " + failure
		}
		t.zeroed(dev)
		return ""
	}
	return st
}
