package proxmox_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"writ/adapters/pvesim"
	"writ/domain/op"
)

// The host says no, in its answer or as the end of a task, before it has changed
// anything.
func TestSnapshotRefusals(t *testing.T) {
	edit := func(key, value string) func(*classRig) {
		return func(r *classRig) { r.sim.EditGuest(107, map[string]string{key: value}) }
	}
	moved := func(r *classRig) { _ = r.sim.MoveGuest(107, "pve2") }
	dropped := func(r *classRig) { r.sim.DropSnapshot(107, before) }
	replicated := func(r *classRig) {
		r.sim.AddReplication(107, "pve2")
		if release, ok := r.sim.HoldMigrationLock("pve1", 107); ok {
			t.Cleanup(release)
		}
		r.fault(pvesim.Fault{Kind: pvesim.FaultTaskFail, Stage: pvesim.StageMigration, Text: "Failed to obtain guest migration lock - replication running?"})
	}
	cases := []struct {
		name   string
		class  op.Class
		before func(*classRig)
		kind   string
		text   string // %s is VM or CT
	}{
		{"locked", op.SnapshotRollback, edit("lock", "backup"), "none", "%s is locked (backup)"},
		{"locked", op.SnapshotDelete, edit("lock", "backup"), "none", "%s is locked (backup)"},
		{"locked", op.SnapshotCreate, edit("lock", "backup"), "none", "%s is locked (backup)"},
		{"without the snapshot by now", op.SnapshotRollback, dropped, "none", "snapshot 'before-upgrade' does not exist"},
		{"without the snapshot by now", op.SnapshotDelete, dropped, "none", "snapshot 'before-upgrade' does not exist"},
		{"with a snapshot of the name by now", op.SnapshotCreate, func(r *classRig) { r.sim.AddSnapshot(107, next, "") }, "none", "snapshot name 'next' already used"},
		{"a template by now", op.SnapshotRollback, edit("template", "1"), "none", "you can't rollback if vm is a template"},
		{"a template by now", op.SnapshotCreate, edit("template", "1"), "none", "you can't take a snapshot if it's a template"},
		{"migrated", op.SnapshotRollback, moved, "none", "does not exist"},
		{"migrated", op.SnapshotDelete, moved, "none", "does not exist"},
		{"being replicated", op.SnapshotDelete, replicated, "none", "Failed to obtain guest migration lock - replication running?"},
	}
	for _, c := range cases {
		for _, kind := range kinds {
			t.Run(fmt.Sprintf("%s of a %s guest that is %s", c.class, kind, c.name), func(t *testing.T) {
				inBothModes(t, func(t *testing.T, r *classRig) {
					o := r.order(r.live(c.class, kind))
					e := o.playAfter(func() { c.before(r) })
					text := c.text
					if strings.Contains(text, "%s") {
						text = fmt.Sprintf(text, map[pvesim.Kind]string{pvesim.QEMU: "VM", pvesim.LXC: "CT"}[kind])
					}
					e.want(t, c.kind, op.EffectNone, text)
					if got := o.kinds(); len(got) != 0 {
						t.Errorf("effects: got %v, want none", got)
					}
				})
			})
		}
	}
}

// The config of a machine that has moved is looked for before the fork; that of a
// container only in the task.
func TestSnapshotCreateOfAMigratedGuest(t *testing.T) {
	for kind, want := range map[pvesim.Kind]string{pvesim.QEMU: "definite", pvesim.LXC: "none"} {
		inBothModes(t, func(t *testing.T, r *classRig) {
			o := r.order(r.live(op.SnapshotCreate, kind))
			e := o.playAfter(func() { _ = r.sim.MoveGuest(107, "pve2") })
			e.want(t, want, op.EffectNone, ".conf' does not exist")
		})
	}
}

// On ZFS only the newest snapshot can be rolled back to, which the host finds out
// before it stops the guest.
func TestRollbackToAnOlderSnapshotOnZFS(t *testing.T) {
	for _, kind := range kinds {
		inBothModes(t, func(t *testing.T, r *classRig) {
			r.sim.AddStorage(pvesim.Storage{ID: "tank", Type: "zfspool", Content: []string{"images", "rootdir"}})
			r.guest(kind, running, func(g *pvesim.Guest) {
				g.Disks, g.Snapshots = []string{"tank:1"}, []string{before, "newer"}
			})
			in := guestIntent(op.SnapshotRollback, kind)
			in.Params.Snapshot = before
			o := r.order(in)
			o.play().want(t, "none", op.EffectNone, "is not most recent snapshot")
			if g, _ := r.sim.Guest(107); !g.Running {
				t.Error("the guest was stopped")
			}
		})
	}
}

// A snapshot whose deletion was begun once can't be rolled back to.
func TestRollbackToAnIncompleteSnapshot(t *testing.T) {
	inBothModes(t, func(t *testing.T, r *classRig) {
		in := r.live(op.SnapshotDelete, pvesim.QEMU)
		r.fault(pvesim.Fault{Kind: pvesim.FaultTaskFail, VMID: 107, Stage: pvesim.StageVolume + "1", Text: "lvremove failed"})
		r.order(in).play().want(t, "none", op.EffectPartial, "begun and not ended")
		r.sim.EditGuest(107, map[string]string{"lock": ""}) // a person has unlocked it
		o := r.order(op.Intent{Class: op.SnapshotRollback, Target: in.Target, Params: in.Params})
		if s := o.l.Observed.Snapshot; s == nil || s.State != "delete" {
			t.Errorf("observed: got %+v, want a snapshot in state delete", s)
		}
	})
}

// What is left of a task that failed on its way, and what is said about it.
func TestSnapshotFindings(t *testing.T) {
	const lv = "lvcreate 'pve/snap' error: out of space"
	fails := func(stage, text string) func(*classRig) {
		return func(r *classRig) {
			r.fault(pvesim.Fault{Kind: pvesim.FaultTaskFail, VMID: 107, Stage: stage, Text: text})
		}
	}
	kill := func(stage string) func(*classRig) {
		return func(r *classRig) {
			r.fault(pvesim.Fault{Kind: pvesim.FaultTaskKill, VMID: 107, Stage: stage})
		}
	}
	lost := func(r *classRig) {
		for _, method := range []string{"POST", "DELETE"} {
			r.fault(pvesim.Fault{Kind: pvesim.FaultCut, Method: method, Path: "/nodes/*/*/107/**"})
		}
	}
	forget := func(r *classRig) { r.fault(pvesim.Fault{Kind: pvesim.FaultTaskForget, VMID: 107}) }
	nothing := func(*classRig) {}
	start := func(r *classRig) { r.sim.PowerGuest(107, true) }
	flock := map[pvesim.Kind]string{
		pvesim.QEMU: "can't lock file '/var/lock/qemu-server/lock-107.conf' - got timeout",
		pvesim.LXC:  "can't lock file '/run/lock/lxc/pve-config-107.lock' - got timeout",
	}
	onPVE2 := func(method, target string) func(*classRig) {
		return func(r *classRig) {
			if err := r.sim.MoveGuest(107, "pve2"); err != nil {
				r.t.Fatal(err)
			}
			byRoot(method, target)(r)
		}
	}
	unlisted := func(method, target string) func(*classRig) {
		return func(r *classRig) {
			forget(r)
			byRoot(method, target)(r)
		}
	}
	muchLater := func(r *classRig) {
		r.shift.Store(int64(time.Hour))
		defer r.shift.Store(0)
		r.sim.AddSnapshot(107, next, "")
	}
	const qemu, lxc = pvesim.QEMU, pvesim.LXC
	cases := []struct {
		name          string
		kind          pvesim.Kind
		class         op.Class
		before, after func(*classRig)
		want          op.Effect
		says          string
	}{
		{"fails half-way", qemu, op.SnapshotRollback, fails("volume:1", lv), nothing, op.EffectPartial, "qm unlock or pct unlock 107"},
		{"fails half-way", lxc, op.SnapshotRollback, fails("volume:1", lv), nothing, op.EffectPartial, "locked (rollback)"},
		{"fails half-way", qemu, op.SnapshotDelete, fails("volume:1", lv), nothing, op.EffectPartial, "delete it there with force"},
		{"fails half-way", lxc, op.SnapshotDelete, fails("volume:1", lv), nothing, op.EffectPartial, "begun and not ended"},
		{"fails half-way, and is undone", qemu, op.SnapshotCreate, fails("volume:1", lv), nothing, op.EffectNone, "has no snapshot next"},
		{"fails half-way, and is undone", lxc, op.SnapshotCreate, fails("volume:1", lv), nothing, op.EffectNone, "has no snapshot next"},

		{"fails with the guest stopped", qemu, op.SnapshotRollback, fails("mark", lv), nothing, op.EffectPartial, "as a rollback does first"},
		{"fails with the guest stopped", lxc, op.SnapshotRollback, fails("mark", lv), nothing, op.EffectPartial, "as a rollback does first"},
		{"fails because HA has started the guest again", qemu, op.SnapshotRollback, fails("mark", "unable to rollback vm 107: vm is running"), start, op.EffectPartial, "stopped since, as a rollback does first, and started again"},
		{"fails because HA has started the guest again", lxc, op.SnapshotRollback, fails("mark", "unable to rollback vm 107: vm is running"), start, op.EffectPartial, "stopped since, as a rollback does first, and started again"},
		{"is lost, and the guest is restarted by another hand", qemu, op.SnapshotRollback, lost, func(r *classRig) { r.sim.PowerGuest(107, false); start(r) }, op.EffectUnknown, "not by whom"},
		{"fails before anything", qemu, op.SnapshotRollback, fails("check", lv), nothing, op.EffectNone, "as it was, to the byte"},
		{"fails before anything", lxc, op.SnapshotRollback, fails("check", lv), nothing, op.EffectNone, "not locked, as a rollback that fails half-way leaves it"},
		{"fails before anything", lxc, op.SnapshotDelete, fails("check", lv), nothing, op.EffectNone, "and whole"},

		// The lock file is taken more than once: its timeout alone tells nothing.
		{"can't lock at first", qemu, op.SnapshotDelete, fails("mark", flock[qemu]), nothing, op.EffectNone, "and whole"},
		{"can't lock in the end", qemu, op.SnapshotDelete, fails("finish", flock[qemu]), nothing, op.EffectPartial, "begun and not ended"},
		{"can't lock at first", lxc, op.SnapshotRollback, fails("check", flock[lxc]), nothing, op.EffectNone, "as it was"},
		{"can't lock in the end", lxc, op.SnapshotRollback, fails("finish", flock[lxc]), nothing, op.EffectPartial, "locked (rollback)"},
		{"can't lock in the end", qemu, op.SnapshotRollback, fails("finish", flock[qemu]), nothing, op.EffectPartial, "locked (rollback)"},
		{"can't lock at first", qemu, op.SnapshotCreate, fails("prepare", flock[qemu]), nothing, op.EffectNone, "no snapshot next"},
		{"is a template, with the lock written", qemu, op.SnapshotDelete, fails("prepare", "you can't delete a snapshot if vm is a template"), nothing, op.EffectPartial, "begun and not ended"},

		{"ends well, with warnings", qemu, op.SnapshotDelete, fails("end", "WARNINGS: 1"), nothing, op.EffectDone, "WARNINGS: 1"},
		{"says that it ended well, and did not", qemu, op.SnapshotDelete, fails("check", "OK"), nothing, op.EffectUnknown, "still there"},
		{"ends well, and goes on to another snapshot", lxc, op.SnapshotRollback, nothing, func(r *classRig) { r.sim.AddSnapshot(107, "later", "") }, op.EffectDone, "no longer comes from"},
		{"is made, and deleted by another hand", qemu, op.SnapshotCreate, nothing, func(r *classRig) { r.sim.DropSnapshot(107, next) }, op.EffectDone, "was deleted"},

		{"is lost, and another hand deletes it", qemu, op.SnapshotDelete, lost, func(r *classRig) { r.sim.DropSnapshot(107, before) }, op.EffectUnknown, "can't be told who deleted it"},
		{"is lost, and another hand makes it", qemu, op.SnapshotCreate, lost, func(r *classRig) { r.sim.AddSnapshot(107, next, "") }, op.EffectUnknown, "can't be told who made it"},
		{"is lost, and another hand locks the guest", lxc, op.SnapshotRollback, lost, func(r *classRig) { r.sim.EditGuest(107, map[string]string{"lock": "rollback"}) }, op.EffectUnknown, "can't be told by whom"},
		{"is lost, and another hand edits the guest", qemu, op.SnapshotRollback, lost, func(r *classRig) { r.sim.EditGuest(107, map[string]string{"name": "web-2"}) }, op.EffectUnknown, "has changed since"},
		{"is lost", lxc, op.SnapshotRollback, lost, nothing, op.EffectUnknown, "no task of the attempt is known"},

		{"is forgotten", qemu, op.SnapshotRollback, forget, nothing, op.EffectUnknown, "has changed since"},
		{"is forgotten", lxc, op.SnapshotDelete, forget, nothing, op.EffectUnknown, "can't be told who deleted it"},
		{"is forgotten", qemu, op.SnapshotCreate, forget, nothing, op.EffectUnknown, "can't be told who made it"},

		{"is killed at once, and another task does it", qemu, op.SnapshotDelete, kill("start"), byRoot("DELETE", "/nodes/pve1/qemu/107/snapshot/before-upgrade"), op.EffectUnknown, "it can have been task UPID:"},
		{"is killed at once, and another task does it", qemu, op.SnapshotRollback, kill("start"), byRoot("POST", "/nodes/pve1/qemu/107/snapshot/before-upgrade/rollback"), op.EffectUnknown, "it can have been task UPID:"},
		{"is killed at once, and another task does it", lxc, op.SnapshotCreate, kill("start"), byRoot("POST", "/nodes/pve1/lxc/107/snapshot?snapname=next"), op.EffectUnknown, "it can have been task UPID:"},
		{"is killed at once, and another task does it where the guest is by then", qemu, op.SnapshotDelete, kill("start"), onPVE2("DELETE", "/nodes/pve2/qemu/107/snapshot/before-upgrade"), op.EffectUnknown, "on node pve2 by now"},
		{"is killed at once, and another task does it where the guest is by then", lxc, op.SnapshotCreate, kill("start"), onPVE2("POST", "/nodes/pve2/lxc/107/snapshot?snapname=next"), op.EffectUnknown, "on node pve2 by now"},

		// A task may never get into its node's list, or be forgotten by it.
		{"is killed at once, and a task that no list shows does it", qemu, op.SnapshotDelete, kill("start"), unlisted("DELETE", "/nodes/pve1/qemu/107/snapshot/before-upgrade"), op.EffectUnknown, "of which only the cluster's log knows"},
		{"is killed at once, and a task that no list shows does it", qemu, op.SnapshotRollback, kill("start"), unlisted("POST", "/nodes/pve1/qemu/107/snapshot/before-upgrade/rollback"), op.EffectUnknown, "of which only the cluster's log knows"},
		{"is killed at once, and another hand makes it later", qemu, op.SnapshotCreate, kill("start"), muchLater, op.EffectUnknown, "another has made it"},
		{"is killed at once, and another hand makes it later", lxc, op.SnapshotCreate, kill("start"), muchLater, op.EffectUnknown, "another has made it"},
		{"is killed in the end, with the snapshot made", lxc, op.SnapshotCreate, kill("end"), nothing, op.EffectDone, "nor does the cluster's log"},
	}
	for _, c := range cases {
		t.Run(fmt.Sprintf("%s of %s that %s", c.class, c.kind, c.name), func(t *testing.T) {
			inBothModes(t, func(t *testing.T, r *classRig) {
				o := r.order(r.live(c.class, c.kind))
				c.before(r)
				upid, err := o.x.Launch(t.Context(), o.a, o.l)
				c.after(r)
				o.settle(upid, err).want(t, launchKind(err), c.want, c.says)
			})
		})
	}
}

// byRoot is another administrator's request.
func byRoot(method, target string) func(*classRig) {
	return func(r *classRig) {
		r.t.Helper()
		path, query, _ := strings.Cut(target, "?")
		got := r.sim.Do(r.t.Context(), pvesim.Request{
			Node: "pve1", Method: method, Path: "/api2/json" + path, Query: query,
			Header: map[string][]string{"Authorization": {"PVEAPIToken=root@pam!old=" + secret}},
		})
		if got.Status != 200 {
			r.t.Fatalf("%s %s: got %d %s", method, target, got.Status, got.Reason)
		}
	}
}

// Where the node has restarted since, no child of a killed worker is left, and a
// guest that is as it was is proven to be untouched.
func TestSnapshotKilledByARestartOfTheNode(t *testing.T) {
	down, up := false, true
	inBothModes(t, func(t *testing.T, r *classRig) {
		o := r.order(r.live(op.SnapshotDelete, pvesim.QEMU))
		r.fault(pvesim.Fault{Kind: pvesim.FaultTaskKill, VMID: 107, Stage: pvesim.StageStart})
		upid, err := o.x.Launch(t.Context(), o.a, o.l)
		r.node("pve1", pvesim.NodeControl{Up: &down})
		r.node("pve1", pvesim.NodeControl{Up: &up})
		o.settle(upid, err).want(t, "none", op.EffectNone, "and whole")
	})
}

// A container's configuration can be the same to the byte after a rollback. Killed at
// its very end, with the node restarted since, its task has left no trace, and yet
// has thrown away what was written after the snapshot.
func TestRollbackWithoutATrace(t *testing.T) {
	down, up := false, true
	inBothModes(t, func(t *testing.T, r *classRig) {
		r.guest(pvesim.LXC, func(g *pvesim.Guest) { g.Snapshots = []string{before} })
		in := guestIntent(op.SnapshotRollback, pvesim.LXC)
		in.Params.Snapshot = before
		o := r.order(in)
		r.fault(pvesim.Fault{Kind: pvesim.FaultTaskKill, VMID: 107, Stage: pvesim.StageEnd})
		upid, err := o.x.Launch(t.Context(), o.a, o.l)
		r.node("pve1", pvesim.NodeControl{Up: &down})
		r.node("pve1", pvesim.NodeControl{Up: &up})
		o.settle(upid, err).want(t, "none", op.EffectUnknown, "which it can be after a rollback too")
	})
}
