package proxmox_test

import (
	"slices"
	"strings"
	"testing"

	"writ/adapters/pvesim"
	"writ/domain/engine"
	"writ/domain/op"
)

// pools makes one pool of each kind on pve1, with nothing on any.
func (r *classRig) pools() {
	r.t.Helper()
	for _, d := range []string{"sdb", "sdc", "sdd", "sde", "sdf"} {
		if err := r.sim.AddDisk(pvesim.Disk{Node: "pve1", DevPath: "/dev/" + d, Size: 1 << 30, Serial: "S-" + d}); err != nil {
			r.t.Fatal(err)
		}
	}
	for _, p := range []pvesim.DiskPool{
		{Kind: pvesim.PoolZFS, Name: "tank", Size: 1 << 30, Members: []string{"/dev/sdc", "/dev/sdb"}},
		{Kind: pvesim.PoolLVM, Name: "vg1", Size: 1 << 30, Members: []string{"/dev/sdd"}},
		{Kind: pvesim.PoolLVM, Name: "vg2", Size: 1 << 30, Members: []string{"/dev/sde"}},
		{Kind: pvesim.PoolLVMThin, VG: "vg2", Name: "data", Size: 1 << 29},
		{Kind: pvesim.PoolDirectory, Name: "big", Members: []string{"/dev/sdf"}},
	} {
		p.Node = "pve1"
		if err := r.sim.AddDiskPool(p); err != nil {
			r.t.Fatal(err)
		}
	}
}

var (
	zfsPool  = op.Pool{Kind: op.ZFS, Name: "tank"}
	lvmPool  = op.Pool{Kind: op.LVM, Name: "vg1"}
	thinPool = op.Pool{Kind: op.LVMThin, Name: "data", VolumeGroup: "vg2"}
	dirPool  = op.Pool{Kind: op.Directory, Name: "big"}
	allPools = []op.Pool{zfsPool, lvmPool, thinPool, dirPool}
	// taskOf are type and id of the tasks that take them down.
	taskOf = map[op.Pool]string{zfsPool: "zfsremove:tank", lvmPool: "lvmremove:vg1", thinPool: "lvmthinremove:vg2-data", dirPool: "dirremove:big"}
	// storageOn is a storage that lies on each.
	storageOn = map[op.Pool]pvesim.Storage{
		zfsPool:  {ID: "on-tank", Type: "zfspool", Pool: "tank/vms", Content: []string{"images"}},
		lvmPool:  {ID: "on-vg1", Type: "lvm", VG: "vg1", Content: []string{"images"}},
		thinPool: {ID: "on-data", Type: "lvmthin", VG: "vg2", ThinPool: "data", Content: []string{"images"}},
		dirPool:  {ID: "on-big", Type: "dir", Path: "/mnt/pve/big", Content: []string{"images", "iso"}},
	}
)

func wipeOf(p op.Pool, change ...func(*op.Params)) op.Intent {
	in := op.Intent{Class: op.StorageWipe, Target: op.Target{Node: "pve1", Pool: &p}}
	for _, f := range change {
		f(&in.Params)
	}
	return in
}

func withCleanup(p *op.Params) { p.CleanupConfig, p.CleanupDisks = new(true), new(true) }

// eachPool runs a test for each kind of pool, in both modes.
func eachPool(t *testing.T, test func(t *testing.T, r *classRig, p op.Pool)) {
	t.Helper()
	for _, p := range allPools {
		t.Run(string(p.Kind), func(t *testing.T) {
			inBothModes(t, func(t *testing.T, r *classRig) {
				r.pools()
				test(t, r, p)
			})
		})
	}
}

// ownPool runs a test for each kind of pool, with a token per attempt.
func ownPool(t *testing.T, test func(t *testing.T, r *classRig, p op.Pool)) {
	t.Helper()
	for _, p := range allPools {
		t.Run(string(p.Kind), func(t *testing.T) {
			r := newClassRig(t, true)
			r.pools()
			test(t, r, p)
		})
	}
}

func TestWipe(t *testing.T) {
	members := map[op.Pool][]string{zfsPool: {"/dev/sdb", "/dev/sdc"}, lvmPool: {"/dev/sdd"}, thinPool: {"/dev/sde"}, dirPool: {"/dev/sdf"}}
	sizes := map[op.Pool]int64{zfsPool: 1 << 30, lvmPool: 1 << 30, thinPool: 1 << 29}
	eachPool(t, func(t *testing.T, r *classRig, p op.Pool) {
		o := r.order(wipeOf(p))
		seen := o.l.Observed.Pool
		if seen.Pool != p || seen.Size != sizes[p] || !slices.Equal(seen.Members, members[p]) || len(seen.Storages) > 0 || len(seen.Users) > 0 {
			t.Errorf("observed: got %+v", seen)
		}
		e := o.play()
		e.want(t, "none", op.EffectDone, "any more")
		if !strings.Contains(e.upid, ":"+taskOf[p]+":") {
			t.Errorf("task: got %s, want %s", e.upid, taskOf[p])
		}
		if got := o.kinds(); !slices.Equal(got, []pvesim.EffectKind{pvesim.PoolDestroyed}) {
			t.Errorf("effects: got %v", got)
		}
	})
}

// With clean-up the storages on the pool go from the configuration, and its disks
// are blank.
func TestWipeCleansUp(t *testing.T) {
	eachPool(t, func(t *testing.T, r *classRig, p op.Pool) {
		storage := storageOn[p]
		storage.Nodes = []string{"pve1"} // one of all nodes is only taken off this one
		r.sim.AddStorage(storage)
		o := r.order(wipeOf(p, withCleanup))
		if got := o.l.Observed.Pool.Storages; !slices.Equal(got, []string{storageOn[p].ID}) {
			t.Errorf("storages: got %q", got)
		}
		o.play().want(t, "none", op.EffectDone)
		kinds := o.kinds()
		for _, want := range []pvesim.EffectKind{pvesim.PoolDestroyed, pvesim.StorageRemoved, pvesim.DiskWiped} {
			if !slices.Contains(kinds, want) {
				t.Errorf("effects: got %v, want %s among them", kinds, want)
			}
		}
	})
}

// Whatever lies on a pool is seen, wherever it is referred to.
func TestWipeUsers(t *testing.T) {
	disk := map[op.Pool]string{zfsPool: "on-tank:vm-107-disk-0", lvmPool: "on-vg1:vm-107-disk-0", thinPool: "on-data:vm-107-disk-0", dirPool: "on-big:107/vm-107-disk-0.raw"}
	ownPool(t, func(t *testing.T, r *classRig, p op.Pool) {
		r.sim.AddStorage(storageOn[p])
		r.guest(pvesim.QEMU, func(g *pvesim.Guest) { g.Disks = []string{storageOn[p].ID + ":1"} })
		users := r.order(wipeOf(p)).l.Observed.Pool.Users
		if want := []string{disk[p], "qemu/107 scsi0"}; !slices.Equal(users, want) {
			t.Errorf("users: got %q, want %q", users, want)
		}
		r.sim.EditGuest(107, map[string]string{"scsi0": ""})
		users = r.order(wipeOf(p)).l.Observed.Pool.Users
		if want := []string{disk[p]}; !slices.Equal(users, want) {
			t.Errorf("users without the reference: got %q, want %q", users, want)
		}
	})
	t.Run("volumes that no storage knows", func(t *testing.T) {
		r := newClassRig(t, true)
		if err := r.sim.AddDiskPool(pvesim.DiskPool{Node: "pve1", Kind: pvesim.PoolLVM, Name: "vg1", Size: 1 << 30, Members: []string{"/dev/sda3"}, Volumes: 2}); err != nil {
			t.Fatal(err)
		}
		users := r.order(wipeOf(lvmPool)).l.Observed.Pool.Users
		if len(users) != 1 || !strings.Contains(users[0], "2 logical volumes of vg1") {
			t.Errorf("users: got %q, want the two volumes", users)
		}
	})
	t.Run("storages of other nodes and other things of the name", func(t *testing.T) {
		r := newClassRig(t, true)
		r.pools()
		other := storageOn[zfsPool]
		other.Nodes = []string{"pve2"}
		r.sim.AddStorage(other)
		r.sim.AddStorage(pvesim.Storage{ID: "ceph", Type: "rbd", Pool: "tank", Content: []string{"images"}})
		if got := r.order(wipeOf(zfsPool)).l.Observed.Pool.Storages; len(got) > 0 {
			t.Errorf("storages: got %q, want none", got)
		}
	})
}

func TestWipeNotSeen(t *testing.T) {
	cases := map[string]struct {
		do    func(*classRig)
		wants string
	}{
		"the node's disks": {func(r *classRig) { r.sim.AddRole("Cluster", "Datastore.Audit") }, "403"},
		"storages":         {func(r *classRig) { r.sim.AddRole("Cluster", "Sys.Audit") }, "does not see all storages"},
		"guests":           {func(r *classRig) { r.sim.AddStorage(storageOn[zfsPool]); r.sim.Revoke("/vms", "svc@pve") }, "does not see all guests"},
		"the storage's content": {func(r *classRig) {
			off := storageOn[zfsPool]
			off.Disabled = true
			r.sim.AddStorage(off)
		}, "storage 'on-tank' is disabled"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := newClassRig(t, false)
			r.pools()
			c.do(r)
			seen, err := r.host.Executors()[op.StorageWipe].Observe(t.Context(), engine.Attempt{Intent: wipeOf(zfsPool)})
			if err == nil || !strings.Contains(err.Error(), c.wants) {
				t.Errorf("got %+v, %v, want an error with %q", seen.Pool, err, c.wants)
			}
		})
	}
	t.Run("absent", func(t *testing.T) {
		r := newClassRig(t, false)
		for _, p := range allPools {
			seen, err := r.host.Executors()[op.StorageWipe].Observe(t.Context(), engine.Attempt{Intent: wipeOf(p)})
			if err != nil || seen.Found || !seen.Quorate {
				t.Errorf("%s: got %+v, %v, want not found", p, seen, err)
			}
		}
	})
}

// What is refused, at once or in the task, has no effect.
func TestWipeRefused(t *testing.T) {
	t.Run("no right", func(t *testing.T) {
		inBothModes(t, func(t *testing.T, r *classRig) {
			r.pools()
			o := r.order(wipeOf(zfsPool))
			o.playAfter(func() { r.sim.Revoke("/", "svc@pve"); r.sim.Revoke("/", serviceUser) }).want(t, "definite", op.EffectNone, "403")
		})
	})
	for p, text := range map[op.Pool]string{lvmPool: "no such volume group 'vg1'", thinPool: "no such thin pool vg2/data", zfsPool: "zpool destroy tank"} {
		t.Run("taken down by somebody else: "+string(p.Kind), func(t *testing.T) {
			inBothModes(t, func(t *testing.T, r *classRig) {
				r.pools()
				o, hand := r.order(wipeOf(p)), r.byHand(p)
				o.playAfter(hand).want(t, "none", op.EffectNone, text)
			})
		})
	}
	t.Run("the lock is not had", func(t *testing.T) {
		inBothModes(t, func(t *testing.T, r *classRig) {
			r.pools()
			r.fault(pvesim.Fault{Kind: pvesim.FaultTaskFail, TaskType: "zfsremove", Stage: "lock", Text: "can't lock file '/run/lock/pve-diskmanage.lck' - got timeout"})
			r.order(wipeOf(zfsPool)).play().want(t, "none", op.EffectNone, "got timeout")
		})
	})
	t.Run("gone or another before the launch", func(t *testing.T) {
		for name, do := range map[string]func(*classRig){
			"there is no zfs pool tank": func(*classRig) {},
			"is not as it was announced": func(r *classRig) {
				if err := r.sim.AddDiskPool(pvesim.DiskPool{Node: "pve1", Kind: pvesim.PoolZFS, Name: "tank", Size: 1 << 20, Members: []string{"/dev/sdb"}}); err != nil {
					t.Fatal(err)
				}
			},
		} {
			r := newClassRig(t, true)
			r.pools()
			o := r.order(wipeOf(zfsPool))
			r.byHand(zfsPool)()
			do(r)
			o.play().want(t, "definite", op.EffectNone, name)
		}
	})
	t.Run("no quorum", func(t *testing.T) {
		r := newClassRig(t, true)
		r.pools()
		o := r.order(wipeOf(zfsPool))
		r.node("pve1", pvesim.NodeControl{Quorate: new(false)})
		o.play().want(t, "definite", op.EffectNone, "quorate")
	})
}

// byHand gives what takes a pool down as another administrator would.
func (r *classRig) byHand(p op.Pool) func() {
	return func() {
		r.t.Helper()
		path := "/api2/json/nodes/pve1/disks/" + string(p.Kind) + "/" + p.Name
		got := r.sim.Do(r.t.Context(), pvesim.Request{
			Node: "pve1", Method: "DELETE", Path: path, Query: map[bool]string{true: "volume-group=" + p.VolumeGroup}[p.VolumeGroup != ""],
			Header: map[string][]string{"Authorization": {"PVEAPIToken=root@pam!old=" + secret}},
		})
		if got.Status != 200 {
			r.t.Errorf("take %s down: got %d %s", p, got.Status, got.Reason)
		}
	}
}

func TestWipeAnswerLost(t *testing.T) {
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
		t.Run(name, func(t *testing.T) {
			eachPool(t, func(t *testing.T, r *classRig, p op.Pool) {
				o := r.order(wipeOf(p))
				c.fault.Method, c.fault.Path = "DELETE", "/nodes/*/disks/**"
				in := r.fault(c.fault)
				e := o.play()
				if in.Hits() != 1 || e.adopted != c.done {
					t.Errorf("hits %d, adopted %v, want once, %v", in.Hits(), e.adopted, c.done)
				}
				if c.done {
					e.want(t, "ambiguous", op.EffectDone)
					return
				}
				e.want(t, "ambiguous", op.EffectUnknown, "is there, with the same size and members")
			})
		})
	}
	t.Run("and somebody else has done it", func(t *testing.T) {
		r := newClassRig(t, true)
		r.pools()
		o := r.order(wipeOf(zfsPool))
		r.fault(pvesim.Fault{Kind: pvesim.FaultCut, Method: "DELETE", Path: "/nodes/*/disks/**"})
		upid, err := o.x.Launch(t.Context(), o.a, o.l)
		r.byHand(zfsPool)()
		o.settle(upid, err).want(t, "ambiguous", op.EffectUnknown, "can't be told who took it down")
	})
}

// A worker that dies or fails at each of its stages.
func TestWipeEndsEarly(t *testing.T) {
	cases := []struct {
		stage string
		clean bool
		kill  op.Effect
		fail  op.Effect
		says  string
	}{
		{"start", false, op.EffectUnknown, "", "is there, with the same size and members"},
		{"destroy", false, op.EffectUnknown, op.EffectUnknown, "is there, with the same size and members"},
		{"end", false, op.EffectDone, op.EffectDone, "no more than that was asked for"},
		{"config", true, op.EffectPartial, op.EffectPartial, "still defined on it, remove them: on-"},
		{"wipe:0", true, op.EffectPartial, op.EffectPartial, "no storage is defined on it any more"},
		{"end", true, op.EffectPartial, op.EffectPartial, "wipefs -n"},
	}
	look := map[op.Pool]string{
		zfsPool: "systemctl enable zfs-import@tank.service", lvmPool: "the group has 0 now", thinPool: "lvs vg2 on node pve1", dirPool: "/mnt/pve/big and its mount unit",
	}
	for _, c := range cases {
		for _, kind := range []pvesim.FaultKind{pvesim.FaultTaskKill, pvesim.FaultTaskFail} {
			want := map[pvesim.FaultKind]op.Effect{pvesim.FaultTaskKill: c.kill, pvesim.FaultTaskFail: c.fail}[kind]
			if want == "" {
				continue
			}
			t.Run(string(kind)+" at "+c.stage+map[bool]string{true: ", with clean-up"}[c.clean], func(t *testing.T) {
				ownPool(t, func(t *testing.T, r *classRig, p op.Pool) {
					in := wipeOf(p)
					if c.clean {
						r.sim.AddStorage(storageOn[p])
						in = wipeOf(p, withCleanup)
					}
					o := r.order(in)
					typ, _, _ := strings.Cut(taskOf[p], ":")
					r.fault(pvesim.Fault{Kind: kind, TaskType: typ, Stage: c.stage, Text: "command failed: exit code 5"})
					e := o.play()
					e.want(t, "none", want, c.says)
					if want == op.EffectUnknown && !strings.Contains(e.reasons(), look[p]) {
						t.Errorf("reasons: got %s, want them to say %q", e.reasons(), look[p])
					}
				})
			})
		}
	}
}

// A pool that is busy stays whole: only its import may have been disabled.
func TestWipeBusyPool(t *testing.T) {
	r := newClassRig(t, true)
	r.pools()
	r.fault(pvesim.Fault{Kind: pvesim.FaultTaskFail, TaskType: "zfsremove", Stage: "destroy", Text: "command 'zpool destroy tank' failed: exit code 1"})
	r.order(wipeOf(zfsPool)).play().want(t, "none", op.EffectPartial, "nothing that was on it is lost", "systemctl enable zfs-import@tank.service")
}

// After the pool was taken down another of the name was made.
func TestWipeMadeAgain(t *testing.T) {
	r := newClassRig(t, true)
	r.pools()
	o := r.order(wipeOf(zfsPool))
	upid, err := o.x.Launch(t.Context(), o.a, o.l)
	if e := r.sim.AddDiskPool(pvesim.DiskPool{Node: "pve1", Kind: pvesim.PoolZFS, Name: "tank", Size: 1 << 20, Members: []string{"/dev/sdb"}}); e != nil {
		t.Fatal(e)
	}
	o.settle(upid, err).want(t, "none", op.EffectDone, "another zfs pool tank was made since")
}
