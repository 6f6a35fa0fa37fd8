package pvesim_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"writ/adapters/pvesim"
)

const snap105 = "/nodes/pve1/qemu/105/snapshot"

// snapshotRig has VM 105 with two disks and the snapshots s1 and s2.
func snapshotRig(t *testing.T, pace pvesim.Pace, change ...func(*pvesim.Guest)) *rig {
	t.Helper()
	r := newRig(t, pace)
	r.vm(105, 2, append(change, func(g *pvesim.Guest) { g.Snapshots = []string{"s1", "s2"} })...)
	return r
}

// run starts a task and moves the clock until it is over.
func (r *rig) run(method, path, body string) string {
	r.t.Helper()
	rep := r.call(method, path, admin, body)
	upid, ok := rep.Data.(string)
	if !ok {
		r.t.Fatalf("%s %s: got %d %s, want a UPID", method, path, rep.Status, rep.Reason)
	}
	return r.end(upid)
}

func (r *rig) end(upid string) string {
	r.t.Helper()
	for r.exit(upid) == "running" {
		if !r.clock.Step() {
			r.t.Fatalf("%s: got running and no timer left, want its end", upid)
		}
	}
	return r.exit(upid)
}

func (r *rig) guest(vmid int) pvesim.Guest {
	r.t.Helper()
	g, ok := r.sim.Guest(vmid)
	if !ok {
		r.t.Fatalf("guest %d: got none, want one", vmid)
	}
	return g
}

func (r *rig) reason(method, path, body string) string {
	r.t.Helper()
	return r.call(method, path, admin, body).Reason
}

func TestSnapshotCreate(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.vm(105, 2, func(g *pvesim.Guest) { g.Description = "writ-id:0123" })
	check(t, "create", r.run("POST", snap105, "snapname=one&description=first"), "OK")
	g := r.guest(105)
	check(t, "parent", g.Config["parent"], "one")
	check(t, "lock", g.Lock, "")
	check(t, "description of the guest", g.Description, "writ-id:0123")
	check(t, "volumes", r.count(pvesim.VolumeSnapshotted), 2)
	check(t, "snapshots", r.count(pvesim.SnapshotCreated), 1)
	last := r.sim.Effects()[len(r.sim.Effects())-1]
	check(t, "effect names the snapshot", last.Snapshot, "one")
	check(t, "on the volume", fmt.Sprint(r.sim.VolumeSnapshots("pve1", g.Disks[0])), "[one]")

	m, _ := r.call("GET", snap105+"/one/config", admin, "").Data.(map[string]any)
	check(t, "its description", m["description"], any("first"))
	check(t, "no digest in it", m["digest"], nil)
	check(t, "describe", r.call("PUT", snap105+"/one/config", admin, "description=second").Status, 200)
	m, _ = r.call("GET", "/nodes/pve1/qemu/105/config?snapshot=one", admin, "").Data.(map[string]any)
	check(t, "its new description", m["description"], any("second"))
	check(t, "digest of the whole file", m["digest"], any(r.guest(105).Digest))

	check(t, "again", r.run("POST", snap105, "snapname=one"), "snapshot name 'one' already used")
	check(t, "reserved", r.reason("POST", snap105, "snapname=Pending"), "unable to use snapshot name 'pending' (reserved name)")
	check(t, "too long", r.call("POST", snap105, admin, "snapname="+strings.Repeat("x", 41)).Errors["snapname"], "value may only be 40 characters long")
	check(t, "count stays", r.count(pvesim.SnapshotCreated), 1)
}

func TestSnapshotWithMemory(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.vm(105, 1, func(g *pvesim.Guest) { g.Running = true })
	check(t, "create", r.run("POST", snap105, "snapname=live&vmstate=1"), "OK")
	check(t, "volumes", r.disks(), 2)
	r.sim.PowerGuest(105, false)
	check(t, "rollback", r.run("POST", snap105+"/live/rollback", ""), "OK")
	check(t, "memory starts it", r.guest(105).Running, true)
	check(t, "delete", r.run("DELETE", snap105+"/live", ""), "OK")
	check(t, "memory is freed", r.disks(), 1)
}

// A task that is killed leaves its lock; one that fails cleans up after itself
// only while creating.
func TestSnapshotLeftovers(t *testing.T) {
	cases := []struct {
		name, method, path, body, taskType, stage string
		kind                                      pvesim.FaultKind
		lock, state, exit                         string
		snapshots                                 int
	}{
		{"create killed before the lock", "POST", "", "snapname=s3", "qmsnapshot", "prepare", pvesim.FaultTaskKill, "", "", "unexpected status", 2},
		{"create killed at a volume", "POST", "", "snapname=s3", "qmsnapshot", "volume:1", pvesim.FaultTaskKill, "snapshot", "prepare", "unexpected status", 3},
		{"create failing at a volume", "POST", "", "snapname=s3", "qmsnapshot", "volume:1", pvesim.FaultTaskFail, "", "", "out of space", 2},
		{"create killed before the end", "POST", "", "snapname=s3", "qmsnapshot", "finish", pvesim.FaultTaskKill, "snapshot", "prepare", "unexpected status", 3},
		{"delete killed between locks", "DELETE", "/s2", "", "qmdelsnapshot", "prepare", pvesim.FaultTaskKill, "snapshot-delete", "", "unexpected status", 2},
		{"delete failing at a volume", "DELETE", "/s2", "", "qmdelsnapshot", "volume:1", pvesim.FaultTaskFail, "snapshot-delete", "delete", "out of space", 2},
		{"delete killed before the end", "DELETE", "/s2", "", "qmdelsnapshot", "finish", pvesim.FaultTaskKill, "snapshot-delete", "delete", "unexpected status", 2},
		{"rollback killed before the lock", "POST", "/s2/rollback", "", "qmrollback", "mark", pvesim.FaultTaskKill, "", "", "unexpected status", 2},
		{"rollback killed between volumes", "POST", "/s2/rollback", "", "qmrollback", "volume:1", pvesim.FaultTaskKill, "rollback", "", "unexpected status", 2},
		{"rollback failing before the end", "POST", "/s2/rollback", "", "qmrollback", "finish", pvesim.FaultTaskFail, "rollback", "", "out of space", 2},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := snapshotRig(t, pvesim.Pace{})
			r.inject(pvesim.Fault{Kind: c.kind, TaskType: c.taskType, Stage: c.stage, Text: "out of space"})
			check(t, "exit", r.run(c.method, snap105+c.path, c.body), c.exit)
			g := r.guest(105)
			check(t, "lock", g.Lock, c.lock)
			check(t, "snapshots", len(g.Snapshots), c.snapshots)
			state := ""
			rows, _ := r.call("GET", snap105, admin, "").Data.([]any)
			for _, row := range rows {
				if m, _ := row.(map[string]any); m["snapstate"] != nil {
					state, _ = m["snapstate"].(string)
				}
			}
			check(t, "snapstate", state, c.state)
			check(t, "ends on record", r.count(pvesim.GuestRolledBack)+r.count(pvesim.SnapshotDeleted), 0)
			if c.lock != "" {
				check(t, "nothing gets past the lock", r.run("DELETE", snap105+"/s1?force=1", ""), "VM is locked ("+c.lock+")")
			}
		})
	}
}

func TestSnapshotDelete(t *testing.T) {
	r := snapshotRig(t, pvesim.Pace{})
	r.sim.AddSnapshot(105, "s3", "")
	check(t, "delete", r.run("DELETE", snap105+"/s2", ""), "OK")
	g := r.guest(105)
	check(t, "left", fmt.Sprint(g.Snapshots), "[s1 s3]")
	m, _ := r.call("GET", snap105+"/s3/config", admin, "").Data.(map[string]any)
	check(t, "parent handed on", m["parent"], any("s1"))
	check(t, "on the volume", fmt.Sprint(r.sim.VolumeSnapshots("pve1", g.Disks[1])), "[s1 s3]")
	check(t, "volumes", r.count(pvesim.VolumeSnapshotDeleted), 2)
	check(t, "on record", r.count(pvesim.SnapshotDeleted), 1)
	check(t, "again", r.run("DELETE", snap105+"/s2", ""), "snapshot 's2' does not exist")

	r.sim.DropVolumeSnapshot("pve1", g.Disks[0], "s1")
	check(t, "with force although a volume lacks it", r.run("DELETE", snap105+"/s1?force=1", ""), "OK")
	check(t, "left after that", fmt.Sprint(r.guest(105).Snapshots), "[s3]")
}

func TestRollback(t *testing.T) {
	r := snapshotRig(t, pvesim.Pace{}, func(g *pvesim.Guest) { g.Description = "as it was" })
	before := r.guest(105)
	r.call("PUT", "/nodes/pve1/qemu/105/config", admin, "name=renamed&protection=1&description=writ-id:77&memory=1024&scsi2=local-lvm:vm-105-disk-9")
	if err := r.sim.AddVolume(pvesim.Volume{VolID: "local-lvm:vm-105-disk-9", Node: "pve1", VMID: 105, Size: 1 << 30}); err != nil {
		t.Fatal(err)
	}
	r.sim.PowerGuest(105, true)
	check(t, "rollback of a protected, running guest", r.run("POST", snap105+"/s1/rollback", ""), "OK")
	g := r.guest(105)
	check(t, "stopped", g.Running, false)
	check(t, "stops on record", r.count(pvesim.GuestStopped), 1)
	check(t, "name of that time", g.Name, "web")
	check(t, "protection of that time", g.Protection, false)
	check(t, "memory of that time", g.Config["memory"], "512")
	check(t, "description of now", g.Description, "writ-id:77")
	check(t, "UUID", g.UUID, before.UUID)
	check(t, "another generation", g.GenID != before.GenID, true)
	check(t, "parent", g.Config["parent"], "s1")
	check(t, "disk of now", g.Config["unused0"], "local-lvm:vm-105-disk-9")
	check(t, "lock", g.Lock, "")
	check(t, "volumes", r.count(pvesim.VolumeRolledBack), 2)
	check(t, "rollbacks", r.count(pvesim.GuestRolledBack), 1)
	check(t, "the other snapshot stays", fmt.Sprint(g.Snapshots), "[s1 s2]")

	first := g.GenID
	check(t, "the same again", r.run("POST", snap105+"/s1/rollback", ""), "OK")
	check(t, "is another rollback", r.count(pvesim.GuestRolledBack), 2)
	check(t, "with another generation", r.guest(105).GenID != first, true)
}

func TestRollbackStart(t *testing.T) {
	r := snapshotRig(t, pvesim.Pace{})
	check(t, "with start", r.run("POST", snap105+"/s2/rollback", "start=1"), "OK")
	check(t, "runs", r.guest(105).Running, true)
	list := r.call("GET", "/nodes/pve1/tasks?typefilter=qmstart", admin, "")
	check(t, "in a task of its own", list.Total, 1)

	r.sim.AddUser("roll@pve", "secret12")
	r.sim.AddRole("Roll", "VM.Snapshot.Rollback")
	r.sim.Grant("/vms/105", "roll@pve", "Roll", true)
	r.token("roll@pve!t1", pvesim.Token{})
	got := r.call("POST", snap105+"/s2/rollback", "roll@pve!t1", "start=1")
	check(t, "start takes another right", got.Reason, "Permission check failed (/vms/105, VM.PowerMgmt)")
	check(t, "rollback alone does not", r.call("POST", snap105+"/s2/rollback", "roll@pve!t1", "").Status, 200)
	got = r.call("DELETE", snap105+"/s2", "roll@pve!t1", "")
	check(t, "deletion does", got.Reason, "Permission check failed (/vms/105, VM.Snapshot)")
}

func TestRollbackWithoutGenerationID(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.vm(105, 1)
	r.call("PUT", "/nodes/pve1/qemu/105/config", admin, "vmgenid=0")
	r.sim.AddSnapshot(105, "s1", "")
	check(t, "rollback", r.run("POST", snap105+"/s1/rollback", ""), "OK")
	check(t, "stays off", r.guest(105).GenID, "0")
	r.call("PUT", "/nodes/pve1/qemu/105/config", admin, "vmgenid=1")
	check(t, "asked for", len(r.guest(105).GenID), 36)
}

// Without quorum a running guest is stopped before the worker finds that it
// cannot write.
func TestRollbackWithoutQuorum(t *testing.T) {
	r := snapshotRig(t, pvesim.Pace{}, func(g *pvesim.Guest) { g.Running = true })
	before := r.guest(105).Digest
	r.node("pve1", pvesim.NodeControl{Quorate: new(false)})
	got := r.run("POST", snap105+"/s2/rollback", "")
	check(t, "refused", strings.HasSuffix(got, "Permission denied"), true)
	check(t, "stopped", r.guest(105).Running, false)
	check(t, "config", r.guest(105).Digest, before)
	check(t, "volumes", r.count(pvesim.VolumeRolledBack), 0)
}

// The config of a container may be the same before and after its rollback.
func TestRollbackOfContainerLeavesNoTrace(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.sim.AddStorage(pvesim.Storage{ID: "tank", Type: "zfspool", Content: []string{"images", "rootdir"}})
	if _, err := r.sim.AddGuest(pvesim.Guest{Kind: pvesim.LXC, VMID: 201, Name: "ct", Disks: []string{"tank:1"}, Description: "writ-id:77"}); err != nil {
		t.Fatal(err)
	}
	const ct = "/nodes/pve1/lxc/201"
	check(t, "create", r.run("POST", ct+"/snapshot", "snapname=s1"), "OK")
	before := r.guest(201).Digest
	check(t, "rollback", r.run("POST", ct+"/snapshot/s1/rollback", ""), "OK")
	check(t, "digest", r.guest(201).Digest, before)
	check(t, "and yet", r.count(pvesim.GuestRolledBack), 1)
	m, _ := r.call("GET", ct+"/config", admin, "").Data.(map[string]any)
	check(t, "description as it is read", m["description"], any("writ-id:77\n"))
	check(t, "vmstate is for VMs", r.call("POST", ct+"/snapshot", admin, "snapname=s2&vmstate=1").Status, 400)
	check(t, "create of a missing container", r.run("POST", "/nodes/pve1/lxc/999/snapshot", "snapname=s1"), "Configuration file 'nodes/pve1/lxc/999.conf' does not exist")
}

func TestRollbackOnZFS(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.sim.AddStorage(pvesim.Storage{ID: "tank", Type: "zfspool", Content: []string{"images", "rootdir"}})
	g := r.vm(105, 0, func(g *pvesim.Guest) { g.Disks, g.Running = []string{"tank:1"}, true })
	for _, name := range []string{"s1", "s2"} {
		check(t, "create "+name, r.run("POST", snap105, "snapname="+name), "OK")
	}
	check(t, "not the newest", r.run("POST", snap105+"/s1/rollback", ""), "can't rollback, 's1' is not most recent snapshot on '"+g.Disks[0]+"'")
	check(t, "nothing was stopped for it", r.guest(105).Running, true)
	check(t, "nor locked", r.guest(105).Lock, "")

	r.sim.AddReplication(105, "pve2")
	check(t, "delete before the first replication", r.run("DELETE", snap105+"/s1", ""), "snapshot 's1' needed by replication job '105-0' - run replication first")
	r.sim.RunReplication(105)
	check(t, "replication snapshots make way", r.run("POST", snap105+"/s2/rollback", ""), "OK")
	check(t, "on the volume", fmt.Sprint(r.sim.VolumeSnapshots("pve1", g.Disks[0])), "[s1 s2]")
	r.sim.RunReplication(105)
	check(t, "delete after a replication", r.run("DELETE", snap105+"/s1", ""), "OK")
	check(t, "destroy", r.reason("DELETE", "/nodes/pve1/qemu/105", ""), "There is a replication job '105-0' for guest '105' - Please remove that first.")
	check(t, "destroy with purge", r.run("DELETE", "/nodes/pve1/qemu/105?purge=1", ""), "OK")
	check(t, "jobs", fmt.Sprint(r.call("GET", "/cluster/replication", admin, "").Data), "[]")
}

func TestSnapshotLocks(t *testing.T) {
	r := snapshotRig(t, pvesim.Pace{})
	release, ok := r.sim.HoldMigrationLock("pve1", 105)
	check(t, "held", ok, true)
	check(t, "rollback", r.run("POST", snap105+"/s2/rollback", ""), "can't lock file '/var/lock/pve-manager/pve-migrate-105' - got timeout")
	check(t, "delete", r.run("DELETE", snap105+"/s2", ""), "Failed to obtain guest migration lock - replication running?")
	check(t, "delete with force does not ask", r.run("DELETE", snap105+"/s2?force=1", ""), "OK")
	release()
	check(t, "rollback after that", r.run("POST", snap105+"/s1/rollback", ""), "OK")

	release, _ = r.sim.HoldConfigLock("pve1", pvesim.QEMU, 105)
	check(t, "rollback under the config's lock", r.run("POST", snap105+"/s1/rollback", ""), "can't lock file '/var/lock/qemu-server/lock-105.conf' - got timeout")
	release()
	check(t, "and free again", r.run("POST", snap105+"/s1/rollback", ""), "OK")
}

// A rollback that waits is for whoever has the VMID by then.
func TestRollbackOfTheNextGuest(t *testing.T) {
	r := snapshotRig(t, pvesim.Pace{})
	in := r.inject(pvesim.Fault{Kind: pvesim.FaultTaskHold, TaskType: "qmrollback", Stage: "lock"})
	upid := r.upid("POST", snap105+"/s1/rollback", admin)
	r.sim.DestroyGuest(105)
	next := r.vm(105, 1)
	r.sim.AddSnapshot(105, "s1", "")
	in.Release()
	check(t, "exit", r.end(upid), "OK")
	i := slices.IndexFunc(r.sim.Effects(), func(e pvesim.Effect) bool { return e.Kind == pvesim.GuestRolledBack })
	check(t, "instance", r.sim.Effects()[i].Instance, next.Instance)
}

// Stopping the task of a create undoes it, stopping that of a rollback does not.
func TestStopSnapshotTask(t *testing.T) {
	for _, c := range []struct{ name, path, body, typ, lock string }{
		{"create", "", "snapname=s3", "qmsnapshot", ""},
		{"rollback", "/s2/rollback", "", "qmrollback", "rollback"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := snapshotRig(t, pvesim.Pace{})
			r.inject(pvesim.Fault{Kind: pvesim.FaultTaskDelay, TaskType: c.typ, Stage: "volume:1", Delay: time.Minute})
			upid, _ := r.call("POST", snap105+c.path, admin, c.body).Data.(string)
			check(t, "stop", r.call("DELETE", "/nodes/pve1/tasks/"+upid, admin, "").Status, 200)
			check(t, "exit", r.exit(upid), "received interrupt")
			check(t, "lock", r.guest(105).Lock, c.lock)
			check(t, "snapshots", fmt.Sprint(r.guest(105).Snapshots), "[s1 s2]")
		})
	}
}
