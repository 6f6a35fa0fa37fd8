package pvesim_test

import (
	"strings"
	"testing"
	"time"

	"writ/adapters/pvesim"
)

const del105 = "/nodes/pve1/qemu/105"

func TestDestroyStageByStage(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	made := r.vm(105, 2)
	r.sim.Grant("/vms/105", "svc@pve", "WritAttempt", false)
	var upid string
	stops := []struct {
		stage         string
		disks         int
		lock          string
		acl           bool
		destroyed     int
		configPresent bool
	}{
		{"check", 2, "", true, 0, true},
		{"free:1", 1, "", true, 0, true},
		{"zombie", 0, "", true, 0, true},
		{"access", 0, "destroyed", true, 0, true},
		{"unlink", 0, "destroyed", false, 0, true},
	}
	var holds []*pvesim.Injected
	for _, st := range stops {
		holds = append(holds, r.inject(pvesim.Fault{Kind: pvesim.FaultTaskHold, TaskType: "qmdestroy", Stage: st.stage}))
	}
	upid = r.upid("DELETE", del105, admin)
	for i, st := range stops {
		<-holds[i].Reached()
		g, there := r.sim.Guest(105)
		check(t, st.stage+": config present", there, st.configPresent)
		check(t, st.stage+": lock", g.Lock, st.lock)
		check(t, st.stage+": disks", r.disks(), st.disks)
		check(t, st.stage+": ACL", strings.Contains(string(r.call("GET", "/access/acl", "root@pam!t1", "").Body), "svc@pve"), st.acl)
		check(t, st.stage+": destroyed", r.count(pvesim.GuestDestroyed), st.destroyed)
		check(t, st.stage+": task", r.exit(upid), "running")
		holds[i].Release()
	}
	check(t, "task", r.exit(upid), "OK")
	if _, there := r.sim.Guest(105); there {
		t.Error("after the task: got a guest, want none")
	}
	last := r.sim.Effects()[len(r.sim.Effects())-1]
	check(t, "effect", last.Kind, pvesim.GuestDestroyed)
	check(t, "instance", last.Instance, made.Instance)
	check(t, "uuid", last.UUID, made.UUID)
	check(t, "upid", last.UPID, upid)
	check(t, "auth", last.Auth, admin)
}

func TestDestroyThatDoesNotEndWell(t *testing.T) {
	cases := map[string]struct {
		kind    pvesim.Kind
		fault   pvesim.Fault
		prepare func(*rig)
		during  func(*rig, string)
		exit    string
		disks   int // of three
		guest   string
	}{
		"killed between two volumes: config whole, one disk gone": {
			fault: pvesim.Fault{Kind: pvesim.FaultTaskKill, Stage: "free:1"}, exit: "unexpected status", disks: 2, guest: "there",
		},
		"killed after the config was emptied: only the lock is left": {
			fault: pvesim.Fault{Kind: pvesim.FaultTaskKill, Stage: "access"}, exit: "unexpected status", disks: 0, guest: "destroyed",
		},
		"a failure with any text": {
			fault: pvesim.Fault{Kind: pvesim.FaultTaskFail, Stage: "start", Text: "no space left on device\n"}, exit: "no space left on device", disks: 3, guest: "there",
		},
		"qemu: a volume that cannot be removed is a warning": {
			fault: pvesim.Fault{Kind: pvesim.FaultVolumeStuck, Volume: "*-disk-1"}, exit: "WARNINGS: 1", disks: 1, guest: "none",
		},
		"lxc: a volume that cannot be removed is the end": {
			kind:  pvesim.LXC,
			fault: pvesim.Fault{Kind: pvesim.FaultVolumeStuck, Volume: "*-disk-1", Text: "unlink failed"}, exit: "unlink failed", disks: 2, guest: "there",
		},
		"no quorum: disks gone, config untouched": {
			fault: pvesim.Fault{Kind: pvesim.FaultTaskHold, Stage: "check"},
			during: func(r *rig, _ string) {
				r.node("pve1", pvesim.NodeControl{Quorate: new(false)})
			},
			exit: "unable to open file '/etc/pve/nodes/pve1/qemu-server/105.conf.tmp.", disks: 0, guest: "there",
		},
		"lock of user.cfg not had: zombie": {
			prepare: func(r *rig) { r.sim.HoldUserConfig() },
			exit:    "access permissions cleanup for VM 105 failed: cfs-lock 'file-user_cfg' error: got lock request timeout", disks: 0, guest: "destroyed",
		},
		"qemu: stopping the task is swallowed and orphans one volume": {
			fault:  pvesim.Fault{Kind: pvesim.FaultTaskHold, Stage: "free:1"},
			during: func(r *rig, upid string) { r.call("DELETE", "/nodes/pve1/tasks/"+upid, admin, "") },
			exit:   "WARNINGS: 1", disks: 1, guest: "none",
		},
		"lxc: stopping the task stops it": {
			kind:   pvesim.LXC,
			fault:  pvesim.Fault{Kind: pvesim.FaultTaskHold, Stage: "free:1"},
			during: func(r *rig, upid string) { r.call("DELETE", "/nodes/pve1/tasks/"+upid, admin, "") },
			exit:   "received interrupt", disks: 2, guest: "there",
		},
		"protection set while it waits for the lock": {
			fault:  pvesim.Fault{Kind: pvesim.FaultTaskHold, Stage: "lock"},
			during: func(r *rig, _ string) { r.call("PUT", del105+"/config", admin, "protection=1") },
			exit:   "can't remove VM 105 - protection mode enabled", disks: 3, guest: "there",
		},
		"started by another hand before the lock is had": {
			fault:  pvesim.Fault{Kind: pvesim.FaultTaskHold, Stage: "lock"},
			during: func(r *rig, _ string) { r.sim.PowerGuest(105, true) },
			exit:   "VM 105 is running - destroy failed", disks: 3, guest: "there",
		},
		"the host goes down": {
			fault:  pvesim.Fault{Kind: pvesim.FaultTaskHold, Stage: "free:2"},
			during: func(r *rig, _ string) { r.node("pve1", pvesim.NodeControl{Up: new(false)}) },
			exit:   "unexpected status", disks: 1, guest: "there",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, pvesim.Pace{})
			path := del105
			if c.kind == pvesim.LXC {
				path = "/nodes/pve1/lxc/105"
			}
			r.vm(105, 3, func(g *pvesim.Guest) { g.Kind = c.kind })
			if c.prepare != nil {
				c.prepare(r)
			}
			var hold *pvesim.Injected
			if c.fault.Kind != "" {
				hold = r.inject(c.fault)
			}
			upid := r.upid("DELETE", path, admin)
			if c.during != nil {
				c.during(r, upid)
				hold.Release()
			}
			r.clock.Advance(30 * time.Second)
			r.node("pve1", pvesim.NodeControl{Up: new(true)})
			if got := r.exit(upid); !strings.HasPrefix(got, c.exit) {
				t.Errorf("exit: got %q, want %q", got, c.exit)
			}
			check(t, "disks", r.disks(), c.disks)
			g, there := r.sim.Guest(105)
			state := "none"
			if there {
				state = "there"
				if g.Lock != "" {
					state = g.Lock
				}
			}
			check(t, "guest", state, c.guest)
			check(t, "effects on volumes", r.count(pvesim.VolumeFreed), 3-c.disks)
		})
	}
}

func TestDestroyAgainAfterInterruption(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.vm(105, 2)
	r.inject(pvesim.Fault{Kind: pvesim.FaultTaskKill, Stage: "free:1"})
	r.upid("DELETE", del105, admin)
	check(t, "second try", r.exit(r.upid("DELETE", del105, admin)), "OK")
	check(t, "effects", r.count(pvesim.VolumeFreed), 2)
	check(t, "destroyed", r.count(pvesim.GuestDestroyed), 1)
}

func TestDestroyTwiceAtOnce(t *testing.T) {
	r := newRig(t, pvesim.Pace{Volume: time.Second})
	r.vm(105, 1)
	first, second := r.upid("DELETE", del105, admin), r.upid("DELETE", del105, admin)
	r.clock.Advance(time.Minute)
	check(t, "first", r.exit(first), "OK")
	check(t, "second", r.exit(second), "Configuration file 'nodes/pve1/qemu-server/105.conf' does not exist")
	check(t, "destroyed", r.count(pvesim.GuestDestroyed), 1)
}

// A worker has no idea of the guest's identity: while it waited, the VMID was
// given to another machine, and that one it destroys.
func TestDestroyTakesWhoeverHasTheVMID(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	old := r.vm(105, 1)
	release, ok := r.sim.HoldConfigLock("pve1", pvesim.QEMU, 105)
	check(t, "lock had", ok, true)
	upid := r.upid("DELETE", del105, admin)
	r.sim.DestroyGuest(105)
	check(t, "freed VMID is next", r.call("GET", "/cluster/nextid", admin, "").Data, any("100"))
	fresh := r.vm(105, 1)
	release()
	check(t, "exit", r.exit(upid), "OK")
	e := r.sim.Effects()
	check(t, "last effect's machine", e[len(e)-1].Instance, fresh.Instance)
	if fresh.Instance == old.Instance || fresh.UUID == old.UUID {
		t.Errorf("recreated guest: got instance %d and uuid %s again, want others", fresh.Instance, fresh.UUID)
	}
}

func TestConfigWriteWaitsForADestroy(t *testing.T) {
	r := newRig(t, pvesim.Pace{Volume: 3 * time.Second})
	r.vm(105, 1)
	r.upid("DELETE", del105, admin)
	put := r.send(request("PUT", del105+"/config", admin, "protection=1"))
	if *put != nil {
		t.Fatalf("PUT during the destroy: got %d at once, want it to wait for the lock", (*put).Status)
	}
	check(t, "PUT", r.wait(put).Reason, "Configuration file 'nodes/pve1/qemu-server/105.conf' does not exist")
}

func TestDestroyOptions(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	extra := pvesim.Volume{VolID: "local-lvm:vm-105-disk-9", Node: "pve1", VMID: 105, Size: 1 << 20}
	for _, c := range []struct {
		query string
		left  int
		ha    string
	}{{"", 1, ""}, {"?destroy-unreferenced-disks=1", 0, ""}, {"?purge=1", 1, "started"}} {
		r.vm(105, 1, func(g *pvesim.Guest) { g.HA = c.ha })
		if err := r.sim.AddVolume(extra); err != nil {
			t.Fatal(err)
		}
		check(t, c.query+": exit", r.exit(r.upid("DELETE", del105+c.query, admin)), "OK")
		check(t, c.query+": volumes left", r.disks(), c.left)
		r.sim.DropVolume("pve1", extra.VolID)
	}
	r.vm(105, 1, func(g *pvesim.Guest) { g.Kind, g.Running = pvesim.LXC, true })
	check(t, "running container", r.call("DELETE", "/nodes/pve1/lxc/105", admin, "").Reason, "unable to destroy CT 105 - container is running")
	check(t, "forced", r.exit(r.upid("DELETE", "/nodes/pve1/lxc/105?force=1", admin)), "OK")
	check(t, "stopped first", r.count(pvesim.GuestStopped), 1)
}

func TestMigratedGuestIsMissingOnItsOldNode(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.vm(105, 2)
	if err := r.sim.MoveGuest(105, "pve2"); err != nil {
		t.Fatal(err)
	}
	check(t, "old node", r.call("DELETE", del105, admin, "").Reason, "Configuration file 'nodes/pve1/qemu-server/105.conf' does not exist")
	check(t, "new node", r.exit(r.upid("DELETE", "/nodes/pve2/qemu/105", admin)), "OK")
	check(t, "volumes left", r.disks(), 0)
}
