package pvesim_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"writ/adapters/pvesim"
)

// backup makes a backup of a guest on local at once.
func (r *rig) backup(vmid int) pvesim.Volume {
	r.t.Helper()
	v, err := r.sim.AddBackup(vmid, "local")
	if err != nil {
		r.t.Fatal(err)
	}
	return v
}

// restoreBody asks for a restore of an archive over a guest.
func restoreBody(kind pvesim.Kind, vmid, archive, more string) string {
	body := "vmid=" + vmid + "&force=1&archive=" + url.QueryEscape(archive)
	if kind == pvesim.LXC {
		body = "vmid=" + vmid + "&force=1&restore=1&storage=local-lvm&ostemplate=" + url.QueryEscape(archive)
	}
	return body + more
}

// restores starts a restore and gives the task.
func (r *rig) restores(kind pvesim.Kind, vmid, archive, more string) string {
	r.t.Helper()
	rep := r.call("POST", "/nodes/pve1/"+string(kind), admin, restoreBody(kind, vmid, archive, more))
	upid, ok := rep.Data.(string)
	if !ok {
		r.t.Fatalf("restore: got %d %s, want a UPID", rep.Status, rep.Reason)
	}
	return upid
}

// state is a guest's config in one word: how much of it is there.
func (r *rig) state(vmid int) string {
	g, there := r.sim.Guest(vmid)
	switch {
	case !there:
		return "none"
	case len(g.Config) == 1 && g.Config["memory"] == "128":
		return "stub"
	case len(g.Config) == 1:
		return "only " + g.Lock
	case g.Lock != "":
		return g.Name + " locked " + g.Lock
	}
	return g.Name
}

func TestRestoreVMStageByStage(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.vm(106, 1, func(g *pvesim.Guest) { g.Name = "saved" })
	archive := r.backup(106)
	old := r.vm(105, 2)
	stops := []struct {
		stage, state string
		disks        int // of 105
		overwritten  int
	}{
		{"start", "web locked create", 2, 0},
		{"check", "web locked create", 2, 0},
		{"lock", "web locked create", 2, 0},
		{"header", "web locked create", 2, 0},
		{"stub", "web locked create", 2, 0},
		{"free:0", "stub", 2, 1},
		{"allocate:0", "stub", 1, 1},
		{"extract", "stub", 2, 1},
		{"config", "stub", 2, 1},
		{"end", "saved", 2, 1},
	}
	var holds []*pvesim.Injected
	for _, st := range stops {
		holds = append(holds, r.inject(pvesim.Fault{Kind: pvesim.FaultTaskHold, TaskType: "qmrestore", Stage: st.stage}))
	}
	upid := r.restores(pvesim.QEMU, "105", archive.VolID, "")
	for i, st := range stops {
		<-holds[i].Reached()
		check(t, st.stage+": state", r.state(105), st.state)
		rows, _ := r.call("GET", content+"local-lvm/content?vmid=105", admin, "").Data.([]any)
		check(t, st.stage+": disks", len(rows), st.disks)
		check(t, st.stage+": overwritten", r.count(pvesim.GuestOverwritten), st.overwritten)
		check(t, st.stage+": task", r.exit(upid), "running")
		holds[i].Release()
	}
	check(t, "exit", r.exit(upid), "OK")
	g, _ := r.sim.Guest(105)
	source, _ := r.sim.Guest(106)
	check(t, "uuid of the backup", g.UUID, source.UUID)
	check(t, "MAC of the backup", g.MACs[0], source.MACs[0])
	check(t, "created as in the backup", g.Created, source.Created)
	if g.GenID == source.GenID || g.GenID == old.GenID || g.GenID == "" {
		t.Errorf("vmgenid: got %q, want a new one", g.GenID)
	}
	check(t, "the disk without a place in the backup", g.Config["unused0"], old.Disks[1])
	check(t, "disk", g.Config["scsi0"], "local-lvm:vm-105-disk-0,size=1G")
	for _, e := range r.sim.Effects() {
		switch e.Kind { //nolint:exhaustive // those of a restore
		case pvesim.GuestOverwritten, pvesim.VolumeFreed:
			check(t, string(e.Kind)+": machine", e.Instance, old.Instance)
			check(t, string(e.Kind)+": uuid", e.UUID, old.UUID)
		case pvesim.GuestRestored:
			check(t, "restored: another machine", e.Instance, g.Instance)
		default:
			t.Errorf("effect: got %s, want none of that kind", e.Kind)
		}
	}
	if g.Instance == old.Instance {
		t.Error("instance: got the old machine's, want another")
	}
}

func TestRestoreVMThatDoesNotEndWell(t *testing.T) {
	cases := []struct {
		name, exit, state string
		fault             pvesim.Fault
		prepare           func(*rig)
		during            func(*rig, string)
		disks, lost       int
	}{
		{
			name: "an error before the point of no return", exit: "no space left on device", state: "web", disks: 2,
			fault: pvesim.Fault{Kind: pvesim.FaultTaskFail, Stage: "stub", Text: "no space left on device"},
		},
		{
			name: "killed before it", exit: "unexpected status", state: "web locked create", disks: 2,
			fault: pvesim.Fault{Kind: pvesim.FaultTaskKill, Stage: "stub"},
		},
		{
			name: "an error after it", exit: "write error", state: "stub", disks: 1, lost: 1,
			fault: pvesim.Fault{Kind: pvesim.FaultTaskFail, Stage: "extract", Text: "write error"},
		},
		{
			name: "killed after it", exit: "unexpected status", state: "stub", disks: 2, lost: 1,
			fault: pvesim.Fault{Kind: pvesim.FaultTaskKill, Stage: "extract"},
		},
		{
			name: "told to stop after it", exit: "interrupted by signal", state: "stub", disks: 1, lost: 1,
			fault:  pvesim.Fault{Kind: pvesim.FaultTaskHold, Stage: "extract"},
			during: func(r *rig, upid string) { r.call("DELETE", "/nodes/pve1/tasks/"+upid, admin, "") },
		},
		{
			name: "an old disk that cannot be freed", exit: "OK", state: "saved", disks: 3, lost: 1,
			fault: pvesim.Fault{Kind: pvesim.FaultVolumeStuck, Volume: "*vm-105-disk-0", Text: "busy"},
		},
		{
			name: "a storage switched off after it", exit: "storage 'local-lvm' is disabled", state: "stub", disks: 2, lost: 1,
			fault: pvesim.Fault{Kind: pvesim.FaultTaskHold, Stage: "free:0"},
			during: func(r *rig, _ string) {
				r.storage(pvesim.Storage{ID: "local-lvm", Type: "lvmthin", Content: []string{"images"}, Disabled: true})
			},
		},
		{
			name: "a storage without room for disks, before it", exit: "Content type 'images' is not available on storage 'local-lvm'", state: "web", disks: 2,
			prepare: func(r *rig) {
				r.storage(pvesim.Storage{ID: "local-lvm", Type: "lvmthin", Content: []string{"rootdir"}})
			},
		},
		{
			name: "quorum lost before it", exit: "unable to open file '/etc/pve/nodes/pve1/qemu-server/105.conf.tmp.", state: "web locked create", disks: 2,
			fault:  pvesim.Fault{Kind: pvesim.FaultTaskHold, Stage: "stub"},
			during: func(r *rig, _ string) { r.node("pve1", pvesim.NodeControl{Quorate: new(false)}) },
		},
		{
			name: "the guest's lock is not had", exit: "can't lock file '/var/lock/qemu-server/lock-105.conf' - got timeout", state: "web", disks: 2,
			fault: pvesim.Fault{Kind: pvesim.FaultTaskHold, Stage: "check"},
			during: func(r *rig, _ string) {
				if _, ok := r.sim.HoldConfigLock("pve1", pvesim.QEMU, 105); !ok {
					r.t.Error("lock: got it held, want it free")
				}
			},
		},
		{
			name: "an archive that is none", state: "web", disks: 2,
			exit:    "command 'set -o pipefail && vma extract -v -r /var/tmp/vzdumptmp",
			prepare: func(r *rig) { r.volume(pvesim.Volume{VolID: archive106, VMID: 106, Size: 4, Content: "backup"}) },
		},
		{
			name: "the archive is deleted meanwhile", exit: "volume '" + archive106 + "' does not exist", state: "web", disks: 2,
			fault:  pvesim.Fault{Kind: pvesim.FaultTaskHold, Stage: "header"},
			during: func(r *rig, _ string) { r.sim.DropVolume("pve1", archive106) },
		},
		{
			name: "started by another hand", exit: "unable to restore VM 105 - vm is running", state: "web", disks: 2,
			fault:  pvesim.Fault{Kind: pvesim.FaultTaskHold, Stage: "check"},
			during: func(r *rig, _ string) { r.sim.PowerGuest(105, true) },
		},
		{
			name: "protected", exit: "unable to restore VM 105 - - protection mode enabled", state: "web", disks: 2,
			prepare: func(r *rig) { r.sim.EditGuest(105, map[string]string{"protection": "1"}) },
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, pvesim.Pace{})
			r.vm(106, 1, func(g *pvesim.Guest) { g.Name = "saved" })
			archive := r.backup(106)
			check(t, "archive", archive.VolID, archive106)
			r.vm(105, 2)
			if c.prepare != nil {
				c.prepare(r)
			}
			var hold *pvesim.Injected
			if c.fault.Kind != "" {
				hold = r.inject(c.fault)
			}
			upid := r.restores(pvesim.QEMU, "105", archive.VolID, "")
			if c.during != nil {
				c.during(r, upid)
				hold.Release()
			}
			r.clock.Advance(2 * time.Minute)
			if got := r.exit(upid); !strings.HasPrefix(got, c.exit) {
				t.Errorf("exit: got %q, want %q", got, c.exit)
			}
			check(t, "state", r.state(105), c.state)
			disks := 0
			for _, v := range r.sim.Volumes() {
				if v.VMID == 105 {
					disks++
				}
			}
			check(t, "disks", disks, c.disks)
			check(t, "overwritten", r.count(pvesim.GuestOverwritten), c.lost)
		})
	}
}

const archive106 = "local:backup/vzdump-qemu-106-2026_11_23-06_40_00.vma.zst"

func TestRestoreCTStageByStage(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.vm(206, 1, func(g *pvesim.Guest) { g.Kind, g.Name = pvesim.LXC, "saved" })
	archive := r.backup(206)
	old := r.vm(205, 2, func(g *pvesim.Guest) { g.Kind = pvesim.LXC })
	stops := []struct {
		stage, state string
		disks        int
	}{
		{"lock", "web locked create", 2},
		{"header", "web locked create", 2},
		{"allocate:0", "web locked create", 2},
		{"free:0", "web locked create", 3},
		{"free:1", "web locked create", 2},
		{"stub", "web locked create", 1},
		{"extract", "only create", 1},
		{"end", "saved", 1},
	}
	var holds []*pvesim.Injected
	for _, st := range stops {
		holds = append(holds, r.inject(pvesim.Fault{Kind: pvesim.FaultTaskHold, TaskType: "vzrestore", Stage: st.stage}))
	}
	upid := r.restores(pvesim.LXC, "205", archive.VolID, "")
	for i, st := range stops {
		<-holds[i].Reached()
		check(t, st.stage+": state", r.state(205), st.state)
		rows, _ := r.call("GET", content+"local-lvm/content?vmid=205", admin, "").Data.([]any)
		check(t, st.stage+": disks", len(rows), st.disks)
		holds[i].Release()
	}
	check(t, "exit", r.exit(upid), "OK")
	g, _ := r.sim.Guest(205)
	check(t, "rootfs", g.Config["rootfs"], "local-lvm:vm-205-disk-2,size=1G")
	check(t, "overwritten", r.count(pvesim.GuestOverwritten), 1)
	check(t, "restored", r.count(pvesim.GuestRestored), 1)
	check(t, "freed", r.count(pvesim.VolumeFreed), len(old.Disks))
}

func TestRestoreCTThatDoesNotEndWell(t *testing.T) {
	cases := []struct {
		name, exit, state string
		fault             pvesim.Fault
		disks, vanished   int
	}{
		{
			name: "an error before the first new disk", exit: "unable to restore CT 205 - tar: bad header", state: "web", disks: 2,
			fault: pvesim.Fault{Kind: pvesim.FaultTaskFail, Stage: "allocate:0", Text: "tar: bad header"},
		},
		{
			name: "an error after it leaves no container, and its old disks", exit: "unable to restore CT 205 - mkfs failed", state: "none", disks: 2, vanished: 1,
			fault: pvesim.Fault{Kind: pvesim.FaultTaskFail, Stage: "free:0", Text: "mkfs failed"},
		},
		{
			name: "an old disk that cannot be freed", exit: "unable to restore CT 205 - busy", state: "none", disks: 1, vanished: 1,
			fault: pvesim.Fault{Kind: pvesim.FaultVolumeStuck, Volume: "*vm-205-disk-1", Text: "busy"},
		},
		{
			name: "an error while unpacking", exit: "unable to restore CT 205 - tar failed", state: "none", disks: 0, vanished: 1,
			fault: pvesim.Fault{Kind: pvesim.FaultTaskFail, Stage: "extract", Text: "tar failed"},
		},
		{
			name: "killed while unpacking", exit: "unexpected status", state: "only create", disks: 1,
			fault: pvesim.Fault{Kind: pvesim.FaultTaskKill, Stage: "extract"},
		},
		{
			name: "killed at its end", exit: "unexpected status", state: "saved", disks: 1,
			fault: pvesim.Fault{Kind: pvesim.FaultTaskKill, Stage: "end"},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, pvesim.Pace{})
			r.vm(206, 1, func(g *pvesim.Guest) { g.Kind, g.Name = pvesim.LXC, "saved" })
			archive := r.backup(206)
			r.vm(205, 2, func(g *pvesim.Guest) { g.Kind = pvesim.LXC })
			r.inject(c.fault)
			check(t, "exit", r.exit(r.restores(pvesim.LXC, "205", archive.VolID, "")), c.exit)
			check(t, "state", r.state(205), c.state)
			disks := 0
			for _, v := range r.sim.Volumes() {
				if v.VMID == 205 {
					disks++
				}
			}
			check(t, "disks", disks, c.disks)
			check(t, "destroyed", r.count(pvesim.GuestDestroyed), c.vanished)
			check(t, "VMID free", r.call("GET", "/cluster/nextid?vmid=205", admin, "").Status == 200, c.state == "none")
		})
	}
}

func TestRestoreRefusedInTheReply(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.vm(105, 1)
	r.vm(106, 1)
	r.vm(205, 1, func(g *pvesim.Guest) { g.Kind = pvesim.LXC })
	vma, tar := r.backup(106).VolID, r.backup(205).VolID
	r.storage(pvesim.Storage{ID: "off", Type: "dir", Path: "/off", Content: []string{"rootdir"}, Disabled: true})
	cases := []struct{ name, path, body, want string }{
		{"no force", "qemu", "vmid=105&archive=" + vma, "unable to restore VM 105 - VM 105 already exists on node 'pve1'"},
		{"a container's VMID", "qemu", "vmid=205&force=1&archive=" + vma, "unable to restore VM 205 - close (rename) atomic file '/etc/pve/nodes/pve1/qemu-server/205.conf' failed: File exists"},
		{"no archive", "qemu", "vmid=105&force=1&archive=local:backup/vzdump-qemu-1-2020.vma", "volume 'local:backup/vzdump-qemu-1-2020.vma' does not exist"},
		{"no backup", "qemu", "vmid=105&force=1&archive=local:iso/a.iso", "unable to use volume local:iso/a.iso - content type needs to be 'backup'"},
		{"a path", "qemu", "vmid=105&force=1&archive=/tmp/a.vma", "Only root can pass arbitrary filesystem paths."},
		{"storage that is off", "lxc", "vmid=205&force=1&restore=1&storage=off&ostemplate=" + tar, "storage 'off' is disabled"},
		{"mount points alone", "lxc", "vmid=205&force=1&restore=1&mp0=local:1&ostemplate=" + tar, "mount points configured, but 'rootfs' not set - aborting"},
	}
	for _, c := range cases {
		check(t, c.name, r.call("POST", "/nodes/pve1/"+c.path, admin, c.body).Reason, c.want)
	}
	check(t, "a drive and an archive", r.call("POST", "/nodes/pve1/qemu", admin, "vmid=105&force=1&scsi1=local:1&archive="+vma).Errors["scsi1"], "option conflicts with option 'archive'")
	check(t, "unique without an archive", r.call("POST", "/nodes/pve1/qemu", admin, "vmid=107&unique=1").Errors["archive"], "missing property required by 'unique'")
	check(t, "no directory for containers", r.call("POST", "/nodes/pve1/lxc", admin, "vmid=207&restore=1&storage=plain&ostemplate="+tar).Reason, "storage 'plain' does not exist")
	release, _ := r.sim.HoldConfigLock("pve1", pvesim.QEMU, 105)
	begun := r.clock.Now()
	check(t, "lock", r.call("POST", "/nodes/pve1/qemu", admin, restoreBody(pvesim.QEMU, "105", vma, "")).Reason, "unable to restore VM 105 - can't lock file '/var/lock/qemu-server/lock-105.conf' - got timeout")
	check(t, "after", r.clock.Now().Sub(begun), 5*time.Second)
	release()
	r.node("pve1", pvesim.NodeControl{Quorate: new(false)})
	for _, kind := range []pvesim.Kind{pvesim.QEMU, pvesim.LXC} {
		check(t, "no quorum: "+string(kind), r.call("POST", "/nodes/pve1/"+string(kind), admin, restoreBody(kind, "105", vma, "")).Reason, "cluster not ready - no quorum?")
	}
	check(t, "effects", len(r.sim.Effects()), 0)
	check(t, "state", r.state(105), "web")
}

func TestRestoreRights(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.vm(105, 1)
	r.vm(205, 1, func(g *pvesim.Guest) { g.Kind, g.Config = pvesim.LXC, map[string]string{"unprivileged": "1"} })
	vma := r.backup(105).VolID
	r.sim.EditGuest(205, map[string]string{"unprivileged": ""})
	tar := r.backup(205).VolID
	r.sim.EditGuest(205, map[string]string{"unprivileged": "1"})
	r.token("svc@pve!t", pvesim.Token{})
	r.sim.AddRole("Backup", "VM.Backup")
	post := func(kind pvesim.Kind, vmid, archive string) *reply {
		return r.call("POST", "/nodes/pve1/"+string(kind), "svc@pve!t", restoreBody(kind, vmid, archive, ""))
	}
	check(t, "nothing", post(pvesim.QEMU, "105", vma).Reason, "Permission check failed")
	r.sim.Grant("/vms", "svc@pve", "Backup", true)
	check(t, "a VMID with no guest", post(pvesim.QEMU, "107", vma).Reason, "Permission check failed")
	check(t, "another's archive", post(pvesim.QEMU, "105", "local:backup/vzdump-qemu-1-2020.vma").Reason, "Permission check failed (/storage/local, Datastore.AllocateSpace)")
	upid, _ := post(pvesim.QEMU, "105", vma).Data.(string)
	check(t, "no room on the storage", r.exit(upid), "Permission check failed (/storage/local-lvm, Datastore.AllocateSpace)")
	r.sim.Grant("/storage/local-lvm", "svc@pve", "PVEDatastoreUser", false)
	upid, _ = post(pvesim.QEMU, "105", vma).Data.(string)
	check(t, "backup rights are enough", r.exit(upid), "OK")
	upid, _ = post(pvesim.LXC, "205", tar).Data.(string)
	check(t, "a privileged container over an unprivileged one", r.exit(upid), "unable to restore CT 205 - Permission check failed (/, Sys.Modify)")
	check(t, "state", r.state(205), "web")
}

func TestRestoreOptions(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	source := r.vm(105, 1, func(g *pvesim.Guest) { g.Tags = []string{"old"} })
	r.sim.AddPool("p1", "", "local")
	archive := r.backup(105).VolID
	upid := r.restores(pvesim.QEMU, "107", archive, "&unique=1&start=1&pool=p1&name=copy&storage=local")
	check(t, "exit", r.exit(upid), "OK")
	g, _ := r.sim.Guest(107)
	check(t, "name", g.Name, "copy")
	check(t, "running", g.Running, true)
	check(t, "pool", g.Pool, "p1")
	check(t, "disk", g.Disks[0], "local:107/vm-107-disk-0.raw")
	if g.UUID == source.UUID || g.MACs[0] == source.MACs[0] {
		t.Errorf("unique: got uuid %s and MAC %s of the source, want others", g.UUID, g.MACs[0])
	}
	check(t, "nothing overwritten", r.count(pvesim.GuestOverwritten), 0)
	check(t, "restored", r.count(pvesim.GuestRestored), 1)
	check(t, "started", r.count(pvesim.GuestStarted), 1)
	check(t, "unknown pool", r.call("POST", "/nodes/pve1/qemu", admin, restoreBody(pvesim.QEMU, "108", archive, "&pool=p2")).Reason, "Permission check failed (pool 'p2' does not exist)")
}

func TestRestoreTwiceAtOnce(t *testing.T) {
	r := newRig(t, pvesim.Pace{Volume: time.Second})
	r.vm(105, 1)
	archive := r.backup(105).VolID
	upid := r.restores(pvesim.QEMU, "105", archive, "")
	second := r.call("POST", "/nodes/pve1/qemu", admin, restoreBody(pvesim.QEMU, "105", archive, ""))
	check(t, "the second", second.Reason, "unable to restore VM 105 - can't lock file '/var/lock/qemu-server/lock-105.conf' - got timeout")
	r.clock.Advance(time.Minute)
	check(t, "the first", r.exit(upid), "OK")
	check(t, "overwritten", r.count(pvesim.GuestOverwritten), 1)
}

// named adds guest 105, with one disk.
func (r *rig) named(kind pvesim.Kind, name string) {
	r.t.Helper()
	if kind == pvesim.LXC {
		r.ct(105, func(g *pvesim.Guest) { g.Name = name })
		return
	}
	r.vm(105, 1, func(g *pvesim.Guest) { g.Name = name })
}

// Where a restore waits for the guest's lock it has looked at the protection of the
// guest already. That of a container goes on whatever was written since; that of a
// virtual machine looks once more.
func TestRestoreHeldAtTheLock(t *testing.T) {
	for _, c := range []struct {
		kind        pvesim.Kind
		overwritten int
		left        string
	}{
		{pvesim.QEMU, 0, "web"},
		{pvesim.LXC, 1, "saved"},
	} {
		t.Run(string(c.kind), func(t *testing.T) {
			r := newRig(t, pvesim.Pace{})
			r.named(c.kind, "saved")
			archive := r.backup(105).VolID
			r.sim.DestroyGuest(105)
			r.named(c.kind, "web")
			hold := r.inject(pvesim.Fault{Kind: pvesim.FaultHold, Point: pvesim.PointLock, Method: "POST"})
			got := r.send(request("POST", "/nodes/pve1/"+string(c.kind), admin, restoreBody(c.kind, "105", archive, "")))
			<-hold.Reached()
			check(t, "answered while held", *got == nil, true)
			r.call("PUT", "/nodes/pve1/"+string(c.kind)+"/105/config", admin, "protection=1")
			hold.Release()
			check(t, "overwritten", r.count(pvesim.GuestOverwritten), c.overwritten)
			check(t, "left", r.state(105), c.left)
		})
	}
}

func TestRestoreHeldAtTheLockDiesWithItsNode(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.ct(105, func(g *pvesim.Guest) { g.Node = "pve2" })
	archive := r.backup(105).VolID
	hold := r.inject(pvesim.Fault{Kind: pvesim.FaultHold, Point: pvesim.PointLock, Method: "POST"})
	got := r.send(request("POST", "/nodes/pve2/lxc", admin, restoreBody(pvesim.LXC, "105", archive, "")))
	<-hold.Reached()
	r.node("pve2", pvesim.NodeControl{Up: new(false)})
	hold.Release()
	check(t, "status", r.wait(got).Status, 596)
	r.node("pve2", pvesim.NodeControl{Up: new(true)})
	check(t, "overwritten", r.count(pvesim.GuestOverwritten), 0)
}
