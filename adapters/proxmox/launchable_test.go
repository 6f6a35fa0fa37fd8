package proxmox_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"writ/adapters/proxmox"
	"writ/adapters/pvesim"
	"writ/domain/engine"
	"writ/domain/op"
)

const shared = "nfs"

// fit makes a guest that an op of the class can be launched on, on pve1, and gives
// the intent. Backups are where every node sees them.
func (r *classRig) fit(class op.Class, kind pvesim.Kind) op.Intent {
	r.t.Helper()
	r.sim.AddStorage(pvesim.Storage{ID: shared, Type: "nfs", Path: "/mnt/pve/nfs", Content: []string{"backup"}, Shared: true})
	switch class { //nolint:exhaustive // the others are about the guest, and at most about a snapshot
	case op.GuestDestroy:
		r.guest(kind)
		return guestIntent(class, kind)
	case op.RestoreOverwrite:
		r.guest(kind)
		v, err := r.sim.AddBackup(107, shared)
		r.add(err)
		in := guestIntent(class, kind)
		in.Params = op.Params{Archive: v.VolID, Storage: "local-lvm"}
		return in
	case op.BackupCreate:
		r.guest(kind)
		in := guestIntent(class, kind)
		in.Params.Storage = shared
		return in
	}
	return r.live(class, kind)
}

// eachOnGuest runs a test for each class that acts on a guest, on a machine and on a
// container.
func eachOnGuest(t *testing.T, test func(t *testing.T, r *classRig, class op.Class, kind pvesim.Kind)) {
	t.Helper()
	for _, class := range op.Classes() {
		if !class.ActsOnGuest() {
			continue
		}
		for _, kind := range kinds {
			t.Run(fmt.Sprintf("%s of %s", class, kind), func(t *testing.T) { test(t, newClassRig(t, true), class, kind) })
		}
	}
}

// obstacles are what the engine would refuse an op for now, by a look of the adapter.
func (r *classRig) obstacles(in op.Intent) []string {
	r.t.Helper()
	seen, err := r.host.Executors()[in.Class].Observe(r.t.Context(), engine.Attempt{Nonce: nonce, Number: 1, Intent: in})
	if err != nil {
		r.t.Fatal(err)
	}
	return engine.Obstacles(in, seen)
}

// A request goes to the node that the guest is on now, wherever it was when the op was
// signed, and does there what it is for.
func TestEveryClassFollowsItsGuest(t *testing.T) {
	eachOnGuest(t, func(t *testing.T, r *classRig, class op.Class, kind pvesim.Kind) {
		in := r.fit(class, kind)
		if err := r.sim.MoveGuest(107, "pve2"); err != nil {
			t.Fatal(err)
		}
		o := r.order(in)
		if o.l.Node != "pve2" || !strings.HasPrefix(o.l.Request.Path, "/nodes/pve2/") {
			t.Errorf("announced: got %s to %s, want a request to pve2", o.l.Request.Path, o.l.Node)
		}
		o.play().want(t, "none", op.EffectDone)
		for _, e := range o.deeds() {
			if e.Node != "pve2" {
				t.Errorf("effect: got %s on %s, want it on pve2", e.Kind, e.Node)
			}
		}
		if !slices.Contains(o.kinds(), aims[class]) {
			t.Errorf("effects: got %v, want %s among them", o.kinds(), aims[class])
		}
	})
}

// What keeps an op from being launched, as the adapter reads it from the host: refused
// is which classes, for a reason that says what to do; every other class is not held up
// by it.
func TestWhatAGuestIsNotLaunchedIn(t *testing.T) {
	ends := []op.Class{op.GuestDestroy, op.RestoreOverwrite}
	power := []op.Class{op.GuestStop, op.GuestShutdown, op.GuestReboot}
	standing := map[string]struct {
		bring   func(t *testing.T, r *classRig)
		refused []op.Class
		says    string
	}{
		"locked": {
			func(_ *testing.T, r *classRig) { r.sim.EditGuest(107, map[string]string{"lock": "backup"}) },
			slices.DeleteFunc(op.Classes(), func(c op.Class) bool { return !c.ActsOnGuest() }),
			"lock: the guest is locked (backup); wait until what holds the lock has ended",
		},
		"protected": {
			func(_ *testing.T, r *classRig) { r.sim.EditGuest(107, map[string]string{"protection": "1"}) },
			ends, "protection: the guest is protected; take the protection away first",
		},
		"managed by HA": {
			func(_ *testing.T, r *classRig) {
				g, _ := r.sim.Guest(107)
				r.sim.SetHA(107, map[bool]string{true: "started", false: "stopped"}[g.Running])
			},
			append([]op.Class{op.SnapshotRollback, op.GuestStart}, append(ends, power...)...),
			"ha: the guest is managed by HA; take it out of HA first",
		},
		"running": {
			func(_ *testing.T, r *classRig) { r.sim.PowerGuest(107, true) },
			append([]op.Class{op.GuestStart}, ends...), "status: the guest is running",
		},
		"stopped": {
			func(_ *testing.T, r *classRig) { r.sim.PowerGuest(107, false) },
			power, "status: the guest is stopped, there is nothing to do",
		},
		"a template": {
			func(_ *testing.T, r *classRig) {
				r.sim.EditGuest(107, map[string]string{"template": "1"})
			},
			[]op.Class{op.SnapshotRollback, op.SnapshotDelete, op.SnapshotCreate, op.GuestStart},
			"template: the guest is a template; ",
		},
	}
	for name, s := range standing {
		t.Run(name, func(t *testing.T) {
			eachOnGuest(t, func(t *testing.T, r *classRig, class op.Class, kind pvesim.Kind) {
				in := r.fit(class, kind)
				if got := r.obstacles(in); len(got) > 0 {
					t.Fatalf("before: got %q, want a guest that nothing is the matter with", got)
				}
				s.bring(t, r)
				got := r.obstacles(in)
				if !slices.Contains(s.refused, class) {
					if len(got) > 0 {
						t.Errorf("got %q, want %s to be no matter to the class", got, name)
					}
					return
				}
				if len(got) != 1 || !strings.HasPrefix(got[0], s.says) {
					t.Errorf("got %q, want one that says %q", got, s.says)
				}
			})
		})
	}
}

// A template on whose disks other guests stand: these would lose theirs with it.
func TestATemplateWithLinkedClonesIsNotTakenAway(t *testing.T) {
	const clone = "local:300/vm-300-disk-0.qcow2"
	eachOnGuest(t, func(t *testing.T, r *classRig, class op.Class, kind pvesim.Kind) {
		if class != op.GuestDestroy && class != op.RestoreOverwrite {
			return
		}
		in := r.fit(class, kind)
		key, base := "scsi5", "local:107/base-107-disk-5.qcow2"
		if kind == pvesim.LXC {
			key = "mp5"
		}
		r.add(r.sim.AddVolume(pvesim.Volume{VolID: base, Node: "pve1", VMID: 107, Size: 1 << 30, Content: "images", Format: "qcow2"}))
		r.sim.EditGuest(107, map[string]string{"template": "1", key: base + ",size=1G"})
		if got := r.obstacles(in); len(got) > 0 {
			t.Errorf("without clones: got %q, want none", got)
		}
		r.add(r.sim.AddVolume(pvesim.Volume{VolID: clone, Node: "pve1", VMID: 300, Size: 1 << 30, Content: "images", Format: "qcow2", Parent: base}))
		want := []string{"clones: other guests have disks that stand on its own (" + clone + "); delete those guests, or move their disks, first"}
		if got := r.obstacles(in); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// With force a container may be running when it is destroyed: that is what it is for.
func TestARunningContainerIsDestroyedWithForce(t *testing.T) {
	r := newClassRig(t, true)
	in := r.fit(op.GuestDestroy, pvesim.LXC)
	r.sim.PowerGuest(107, true)
	in.Params.Force = new(true)
	if got := r.obstacles(in); len(got) > 0 {
		t.Errorf("got %q, want none", got)
	}
}

// others makes what the classes act on that are about no guest, and gives an intent for
// each.
func (r *classRig) others() []op.Intent {
	r.t.Helper()
	r.guest(pvesim.QEMU)
	const volid = "local-lvm:vm-300-disk-0"
	r.add(r.sim.AddVolume(pvesim.Volume{VolID: volid, Node: "pve1", VMID: 300, Size: 1 << 30, Content: "images", Format: "raw"}))
	r.pools()
	all := []op.Intent{
		{Class: op.VolumeDelete, Target: op.Target{Node: "pve1", Volume: volid}},
		{Class: op.BackupDelete, Target: op.Target{Node: "pve1", Volume: r.backup(107)}},
	}
	for _, p := range allPools {
		all = append(all, wipeOf(p))
	}
	return all
}

// Without quorum nothing of any class is launched: the host would take some of it all
// the same.
func TestNothingIsLaunchedWithoutQuorum(t *testing.T) {
	cut := func(r *classRig) {
		r.node("pve1", pvesim.NodeControl{Quorate: new(false)})
		r.node("pve2", pvesim.NodeControl{Quorate: new(false)})
	}
	want := func(t *testing.T, r *classRig, in op.Intent) {
		t.Helper()
		got := r.obstacles(in)
		if !slices.ContainsFunc(got, func(why string) bool {
			return why == "quorum: the cluster is not quorate; nothing is launched until it is"
		}) {
			t.Errorf("%s on %s: got %q, want that nothing is launched until the cluster is quorate", in.Class, in.Target, got)
		}
	}
	eachOnGuest(t, func(t *testing.T, r *classRig, class op.Class, kind pvesim.Kind) {
		in := r.fit(class, kind)
		cut(r)
		want(t, r, in)
	})
	t.Run("volumes, backups and pools", func(t *testing.T) {
		r := newClassRig(t, true)
		all := r.others()
		for _, in := range all {
			if got := r.obstacles(in); len(got) > 0 {
				t.Fatalf("%s on %s, before: got %q, want none", in.Class, in.Target, got)
			}
		}
		cut(r)
		for _, in := range all {
			want(t, r, in)
		}
	})
}

// A node that is down can't be looked at, so nothing is launched there: it is an error,
// or an obstacle, and never a target that is not there.
func TestNothingIsLaunchedOnANodeThatIsDown(t *testing.T) {
	want := func(t *testing.T, r *classRig, in op.Intent) {
		t.Helper()
		seen, err := r.host.Executors()[in.Class].Observe(t.Context(), engine.Attempt{Nonce: nonce, Number: 1, Intent: in})
		if err != nil {
			return
		}
		got := engine.Obstacles(in, seen)
		if !slices.Contains(got, "node: pve1 is not online") {
			t.Errorf("%s on %s: got %q, want an error, or that the node is not online", in.Class, in.Target, got)
		}
	}
	down := func(r *classRig) {
		r.conf.BaseURL = r.conf.Nodes["pve2"]
		r.host = r.another(func(*proxmox.Config) {})
		r.node("pve1", pvesim.NodeControl{Up: new(false)})
	}
	eachOnGuest(t, func(t *testing.T, r *classRig, class op.Class, kind pvesim.Kind) {
		in := r.fit(class, kind)
		down(r)
		want(t, r, in)
	})
	t.Run("volumes, backups and pools", func(t *testing.T) {
		r := newClassRig(t, true)
		all := r.others()
		down(r)
		for _, in := range all {
			want(t, r, in)
		}
	})
}
