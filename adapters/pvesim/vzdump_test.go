package pvesim_test

import (
	"strings"
	"testing"
	"time"

	"writ/adapters/pvesim"
)

// dumps starts a backup and gives the task.
func (r *rig) dumps(body string) string {
	r.t.Helper()
	rep := r.call("POST", "/nodes/pve1/vzdump", admin, body)
	upid, ok := rep.Data.(string)
	if !ok || !strings.HasPrefix(upid, "UPID:") {
		r.t.Fatalf("vzdump: got %d %s %v, want a UPID", rep.Status, rep.Reason, rep.Data)
	}
	return upid
}

func TestBackupStageByStage(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	g := r.vm(105, 2, func(g *pvesim.Guest) { g.Running = true })
	stops := []struct {
		stage, state string
		running      bool
		backups      int
	}{
		{"start", "web", true, 0},
		{"job", "web", true, 0},
		{"mark", "web", true, 0},
		{"stop", "web locked backup", true, 0},
		{"archive", "web locked backup", false, 0},
		{"store", "web locked backup", false, 0},
		{"prune", "web locked backup", false, 1},
		{"unlock", "web locked backup", false, 1},
		{"end", "web", true, 1},
	}
	var holds []*pvesim.Injected
	for _, st := range stops {
		holds = append(holds, r.inject(pvesim.Fault{Kind: pvesim.FaultTaskHold, TaskType: "vzdump", Stage: st.stage}))
	}
	upid := r.dumps("vmid=105&storage=local&mode=stop&compress=zstd&notes-template=%7B%7Bguestname%7D%7D")
	for i, st := range stops {
		<-holds[i].Reached()
		check(t, st.stage+": state", r.state(105), st.state)
		now, _ := r.sim.Guest(105)
		check(t, st.stage+": running", now.Running, st.running)
		check(t, st.stage+": backups", r.count(pvesim.BackupCreated), st.backups)
		holds[i].Release()
	}
	check(t, "exit", r.exit(upid), "OK")
	check(t, "worker's id", strings.Split(upid, ":")[6], "105")
	var made pvesim.Volume
	for _, v := range r.sim.Volumes() {
		if v.Content == "backup" {
			made = v
		}
	}
	check(t, "volume", made.VolID, "local:backup/vzdump-qemu-105-2026_11_23-06_40_00.vma.zst")
	check(t, "ctime", made.CTime, r.clock.Now().Unix())
	check(t, "notes", made.Notes, "web")
	check(t, "size", made.Size, 2<<30)
	for _, e := range r.sim.Effects() {
		if e.Kind == pvesim.BackupCreated {
			check(t, "machine", e.Instance, g.Instance)
			check(t, "effect's volume", e.Volume, made.VolID)
		}
	}
	after, _ := r.sim.Guest(105)
	check(t, "digest as before", after.Digest, g.Digest)
	check(t, "what was saved", made.Archive.Config["lock"], "")
}

func TestBackupOfARunningGuestInSnapshotMode(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.vm(105, 1, func(g *pvesim.Guest) { g.Running = true })
	check(t, "exit", r.exit(r.dumps("vmid=105&storage=local&mode=snapshot&remove=0")), "OK")
	check(t, "stopped", r.count(pvesim.GuestStopped), 0)
	check(t, "created", r.count(pvesim.BackupCreated), 1)
	check(t, "state", r.state(105), "web")
}

func TestBackupThatDoesNotEndWell(t *testing.T) {
	cases := []struct {
		name, exit, state string
		fault             pvesim.Fault
		prepare           func(*rig)
		during            func(*rig, string)
		running           bool
		created           int
	}{
		{
			name: "killed: lock left, guest down", exit: "unexpected status", state: "web locked backup",
			fault: pvesim.Fault{Kind: pvesim.FaultTaskKill, Stage: "store"},
		},
		{
			name: "an error: cleaned up", exit: "job errors", state: "web", running: true,
			fault: pvesim.Fault{Kind: pvesim.FaultTaskFail, Stage: "store", Text: "disk full"},
		},
		{
			name: "an error after the backup was made", exit: "job errors", state: "web", running: true, created: 1,
			fault: pvesim.Fault{Kind: pvesim.FaultTaskFail, Stage: "prune", Text: "disk full"},
		},
		{
			name: "told to stop", exit: "interrupted by signal", state: "web", running: true,
			fault:  pvesim.Fault{Kind: pvesim.FaultTaskHold, Stage: "store"},
			during: func(r *rig, upid string) { r.call("DELETE", "/nodes/pve1/tasks/"+upid, admin, "") },
		},
		{
			name: "a guest that is locked", exit: "job errors", state: "web locked migrate", running: true,
			prepare: func(r *rig) { r.sim.EditGuest(105, map[string]string{"lock": "migrate"}) },
		},
		{
			name: "a disk that is missing", exit: "job errors", state: "web", running: true,
			prepare: func(r *rig) { r.sim.DropVolume("pve1", "local-lvm:vm-105-disk-0") },
		},
		{
			name: "a guest under HA", exit: "job errors", state: "web", running: true,
			prepare: func(r *rig) { r.sim.SetHA(105, "started") },
		},
		{
			name: "no quorum", exit: "job errors", state: "web", running: true,
			prepare: func(r *rig) { r.node("pve1", pvesim.NodeControl{Quorate: new(false)}) },
		},
		{
			name: "a storage that is off", exit: "could not activate storage 'local': storage 'local' is disabled", state: "web", running: true,
			prepare: func(r *rig) {
				r.storage(pvesim.Storage{ID: "local", Type: "dir", Path: "/x", Content: []string{"backup"}, Disabled: true})
			},
		},
		{
			name: "a storage for something else", exit: "could not get storage information for 'local': can't use storage 'local' for backups - wrong content type", state: "web", running: true,
			prepare: func(r *rig) {
				r.storage(pvesim.Storage{ID: "local", Type: "dir", Path: "/x", Content: []string{"iso"}})
			},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, pvesim.Pace{})
			r.vm(105, 1, func(g *pvesim.Guest) { g.Running = true })
			if c.prepare != nil {
				c.prepare(r)
			}
			var hold *pvesim.Injected
			if c.fault.Kind != "" {
				hold = r.inject(c.fault)
			}
			upid := r.dumps("vmid=105&storage=local&mode=stop")
			if c.during != nil {
				c.during(r, upid)
				hold.Release()
			}
			check(t, "exit", r.exit(upid), c.exit)
			check(t, "state", r.state(105), c.state)
			g, _ := r.sim.Guest(105)
			check(t, "running", g.Running, c.running)
			check(t, "created", r.count(pvesim.BackupCreated), c.created)
		})
	}
}

func TestBackupJobs(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.vm(105, 1)
	r.vm(106, 1, func(g *pvesim.Guest) { g.Lock = "migrate" })
	r.vm(107, 1, func(g *pvesim.Guest) { g.Node = "pve2" })
	r.sim.AddPool("p1", "")
	r.sim.SetPool(105, "p1")
	check(t, "a guest elsewhere", r.call("POST", "/nodes/pve1/vzdump", admin, "vmid=107&storage=local").Data, any("OK"))
	upid := r.dumps("vmid=105,106,107&storage=local&remove=0")
	check(t, "one of two fails", r.exit(upid), "job errors")
	check(t, "worker's id", strings.Split(upid, ":")[6], "")
	log := r.log(upid)
	for _, line := range []string{"INFO: skip external VMs: 107", "ERROR: Backup of VM 106 failed - VM is locked (migrate)", "INFO: Finished Backup of VM 105 (00:00:00)"} {
		if !strings.Contains(log, line) {
			t.Errorf("log: got\n%s\nwant a line %q", log, line)
		}
	}
	check(t, "created", r.count(pvesim.BackupCreated), 1)
	r.clock.Advance(time.Minute)
	check(t, "by pool", r.exit(r.dumps("pool=p1&storage=local")), "OK")
	r.clock.Advance(time.Minute)
	check(t, "all but", r.exit(r.dumps("all=1&exclude=106&storage=local")), "OK")
	check(t, "created in the end", r.count(pvesim.BackupCreated), 3)
}

func TestBackupRemovesOldOnesOnlyIfRetentionSaysSo(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.vm(105, 1)
	for _, c := range []struct {
		more    string
		backups int
		deleted int
	}{{"", 1, 0}, {"", 2, 0}, {"&prune-backups=keep-last%3D1&remove=0", 3, 0}, {"&prune-backups=keep-last%3D1", 1, 3}, {"&protected=1", 2, 3}} {
		check(t, c.more+": exit", r.exit(r.dumps("vmid=105&storage=local"+c.more)), "OK")
		check(t, c.more+": backups", r.disks()-1, c.backups)
		check(t, c.more+": deleted", r.count(pvesim.BackupDeleted), c.deleted)
		r.clock.Advance(time.Minute)
	}
	rows, _ := r.call("GET", content+"local/content?content=backup", admin, "").Data.([]any)
	m, _ := rows[1].(map[string]any)
	check(t, "protected", m["protected"], any(1.0))
}

func TestBackupWaitsForTheOneBefore(t *testing.T) {
	r := newRig(t, pvesim.Pace{Volume: time.Second})
	r.vm(105, 1)
	r.vm(106, 1)
	first, second := r.dumps("vmid=105&storage=local"), r.dumps("vmid=106&storage=local")
	r.clock.Advance(1500 * time.Millisecond)
	check(t, "the first", r.exit(first), "OK")
	check(t, "the second", r.exit(second), "running")
	r.clock.Advance(time.Second)
	check(t, "the second in the end", r.exit(second), "OK")
}

func TestBackupWaitsForADestroy(t *testing.T) {
	r := newRig(t, pvesim.Pace{Volume: time.Second})
	r.vm(105, 3)
	r.upid("DELETE", del105, admin)
	upid := r.dumps("vmid=105&storage=local")
	r.clock.Advance(time.Minute)
	check(t, "exit", r.exit(upid), "job errors")
	if log := r.log(upid); !strings.Contains(log, "failed - Configuration file 'nodes/pve1/qemu-server/105.conf' does not exist") {
		t.Errorf("log: got\n%s\nwant it to say that the config is gone", log)
	}
	check(t, "destroyed", r.count(pvesim.GuestDestroyed), 1)
	check(t, "created", r.count(pvesim.BackupCreated), 0)
	r.vm(105, 1)
	release, _ := r.sim.HoldConfigLock("pve1", pvesim.QEMU, 105)
	upid = r.dumps("vmid=105&storage=local")
	r.clock.Advance(time.Minute)
	check(t, "a lock that is not had", r.exit(upid), "job errors")
	release()
	check(t, "state", r.state(105), "web")
}

func TestBackupStopsOthers(t *testing.T) {
	r := newRig(t, pvesim.Pace{Volume: time.Second})
	r.vm(105, 1)
	first := r.dumps("vmid=105&storage=local")
	check(t, "stop", r.call("POST", "/nodes/pve1/vzdump", admin, "stop=1").Data, any("OK"))
	check(t, "the first", r.exit(first), "interrupted by signal")
	check(t, "state", r.state(105), "web")
	r.token("svc@pve!t", pvesim.Token{})
	check(t, "rights", r.call("POST", "/nodes/pve1/vzdump", "svc@pve!t", "stop=1").Reason, "Permission check failed (/nodes/pve1, Sys.Modify)")
}

func TestBackupRights(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.vm(105, 1)
	r.token("svc@pve!t", pvesim.Token{})
	post := func(body string) *reply { return r.call("POST", "/nodes/pve1/vzdump", "svc@pve!t", body) }
	check(t, "options of root", post("vmid=105&storage=local&script=/x").Errors["script"], "Only root may set this option.")
	check(t, "a limit", post("vmid=105&storage=local&bwlimit=1").Reason, "Permission check failed (/, Sys.Modify)")
	check(t, "retention", post("vmid=105&storage=local&prune-backups=keep-last%3D1").Reason, "Permission check failed (/storage/local, Datastore.Allocate)")
	check(t, "the storage", post("vmid=105&storage=local").Reason, "Permission check failed (/storage/local, Datastore.AllocateSpace)")
	r.sim.Grant("/storage/local", "svc@pve", "PVEDatastoreUser", false)
	upid, _ := post("vmid=105&storage=local").Data.(string)
	check(t, "the guest", r.exit(upid), "Permission check failed (/vms/105, VM.Backup)")
	check(t, "no such option", post("vmid=105&force=1").Status, 400)
	check(t, "no VMID", post("vmid=5").Errors["vmid"], "invalid format - value does not look like a valid VM ID\n")
}

func TestBackupToABackupServerAndBack(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.storage(pvesim.Storage{ID: "pbs", Type: "pbs", Content: []string{"backup"}})
	g := r.vm(105, 1)
	check(t, "exit", r.exit(r.dumps("vmid=105&storage=pbs&remove=0")), "OK")
	archive := "pbs:backup/vm/105/2026-11-23T06:40:00Z"
	config, _ := r.call("GET", "/nodes/pve1/vzdump/extractconfig?volume="+archive, admin, "").Data.(string)
	check(t, "its config", strings.Contains(config, "smbios1: uuid="+g.UUID), true)
	hold := r.inject(pvesim.Fault{Kind: pvesim.FaultTaskHold, Stage: pvesim.StageExtract})
	upid := r.restores(pvesim.QEMU, "105", archive, "")
	<-hold.Reached()
	now, _ := r.sim.Guest(105)
	check(t, "stub", now.Config["memory"], "128")
	check(t, "locked, as it comes from there", now.Lock, "create")
	hold.Release()
	check(t, "restore", r.exit(upid), "OK")
	check(t, "delete", r.exit(r.upid("DELETE", content+"pbs/content/"+archive, admin)), "OK")
	check(t, "deleted", r.count(pvesim.BackupDeleted), 1)
	if _, err := r.sim.AddBackup(105, "local-lvm"); err == nil {
		t.Error("backup on a storage for disks: got no error, want one")
	}
}
