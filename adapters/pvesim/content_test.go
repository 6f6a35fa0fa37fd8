package pvesim_test

import (
	"strings"
	"testing"
	"time"

	"writ/adapters/pvesim"
)

const content = "/nodes/pve1/storage/"

// volume puts a volume on pve1.
func (r *rig) volume(v pvesim.Volume) {
	r.t.Helper()
	v.Node = "pve1"
	if err := r.sim.AddVolume(v); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) storage(st pvesim.Storage) { r.sim.AddStorage(st) }

// log is all that a task has written.
func (r *rig) log(upid string) string {
	r.t.Helper()
	rows, _ := r.call("GET", "/nodes/pve1/tasks/"+upid+"/log?limit=500", admin, "").Data.([]any)
	var out []string
	for _, row := range rows {
		m, _ := row.(map[string]any)
		line, _ := m["t"].(string)
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}

func TestVolumeDeleteStageByStage(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	g := r.vm(105, 1)
	path := content + "local-lvm/content/" + g.Disks[0]
	var holds []*pvesim.Injected
	stops := []struct {
		stage string
		disks int
	}{{"start", 1}, {"lock", 1}, {"free:0", 1}, {"end", 0}}
	for _, st := range stops {
		holds = append(holds, r.inject(pvesim.Fault{Kind: pvesim.FaultTaskHold, TaskType: "imgdel", Stage: st.stage}))
	}
	upid := r.upid("DELETE", path, admin)
	for i, st := range stops {
		<-holds[i].Reached()
		check(t, st.stage+": volumes", r.disks(), st.disks)
		check(t, st.stage+": effects", r.count(pvesim.VolumeDeleted), 1-st.disks)
		check(t, st.stage+": task", r.exit(upid), "running")
		holds[i].Release()
	}
	check(t, "task", r.exit(upid), "OK")
	check(t, "worker's id", strings.Split(upid, ":")[6], "105@local-lvm")
	e := r.sim.Effects()
	check(t, "volume", e[0].Volume, g.Disks[0])
	check(t, "upid", e[0].UPID, upid)
	still, _ := r.sim.Guest(105)
	check(t, "config still points there", still.Digest, g.Digest)
	check(t, "start", r.exit(r.upid("POST", del105+"/status/start", admin)), "volume 'local-lvm:vm-105-disk-0' does not exist")
}

func TestVolumeDeleteKilledAtItsEnd(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	g := r.vm(105, 1)
	r.inject(pvesim.Fault{Kind: pvesim.FaultTaskKill, TaskType: "imgdel", Stage: pvesim.StageEnd})
	check(t, "exit", r.exit(r.upid("DELETE", content+"local-lvm/content/"+g.Disks[0], admin)), "unexpected status")
	check(t, "effects", r.count(pvesim.VolumeDeleted), 1)
}

func TestVolumeDeleteByKindOfStorage(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.storage(pvesim.Storage{ID: "thick", Type: "lvm", Content: []string{"images"}})
	r.storage(pvesim.Storage{ID: "safe", Type: "lvm", Content: []string{"images"}, SafeRemove: true})
	r.storage(pvesim.Storage{ID: "tank", Type: "zfspool", Content: []string{"images", "rootdir"}})
	r.storage(pvesim.Storage{ID: "pbs", Type: "pbs", Content: []string{"backup"}})
	r.storage(pvesim.Storage{ID: "off", Type: "dir", Path: "/off", Content: []string{"iso"}, Disabled: true})
	r.volume(pvesim.Volume{VolID: "safe:vm-105-disk-0", VMID: 105, Size: 1 << 30})
	r.volume(pvesim.Volume{VolID: "tank:base-105-disk-0", VMID: 105, Size: 1 << 30})
	r.volume(pvesim.Volume{VolID: "tank:base-105-disk-0/vm-106-disk-0", VMID: 106, Size: 1 << 30, Parent: "tank:base-105-disk-0"})
	r.volume(pvesim.Volume{VolID: "local:backup/vzdump-qemu-105-2026_01_02-03_04_05.vma", VMID: 105, Size: 9, Content: "backup", Protected: true})
	cases := []struct{ name, path, exit, id string }{
		{"missing on a directory", "local/content/local:105/vm-105-disk-7.raw", "OK", "105@local"},
		{"missing on LVM thin", "local-lvm/content/vm-105-disk-7", "OK", "105@local-lvm"},
		{"missing on ZFS", "tank/content/subvol-105-disk-7", "OK", "105@tank"},
		{"missing on LVM", "thick/content/vm-105-disk-7", `lvremove 'thick/vm-105-disk-7' error:   Failed to find logical volume "thick/vm-105-disk-7"`, "105@thick"},
		{"missing on a backup server", "pbs/content/pbs:backup/vm/105/2026-01-02T03:04:05Z", "proxmox-backup-client failed: Error: snapshot does not exist", "105@pbs"},
		{"base of a linked clone", "tank/content/base-105-disk-0", "base volume 'base-105-disk-0' is still in use by linked clones", "105@tank"},
		{"protected backup", "local/content/backup/vzdump-qemu-105-2026_01_02-03_04_05.vma", "cannot remove protected volume 'backup/vzdump-qemu-105-2026_01_02-03_04_05.vma' on 'local'", "105@local"},
		{"disabled storage", "off/content/iso/a.iso", "storage 'off' is disabled", "off"},
		{"zeroed by a second task", "safe/content/vm-105-disk-0", "OK", "105@safe"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			upid := r.upid("DELETE", content+c.path, admin)
			check(t, "exit", r.exit(upid), c.exit)
			check(t, "worker's id", strings.Split(upid, ":")[6], c.id)
		})
	}
	check(t, "effects", r.count(pvesim.VolumeDeleted), 1)
	rows, _ := r.call("GET", "/nodes/pve1/tasks?typefilter=imgdel&limit=1", admin, "").Data.([]any)
	m, _ := rows[0].(map[string]any)
	if m["id"] != "105@safe" && m["id"] != "" {
		t.Errorf("newest task: got id %q, want that of the deletion or its second task", m["id"])
	}
	for _, name := range []string{"vm-105", "subvol-105-disk-0", "backup/x/y"} {
		rep := r.call("DELETE", content+"local-lvm/content/"+name, admin, "")
		check(t, name, rep.Reason, "unable to parse lvm volume name '"+name+"'")
	}
}

func TestVolumeDeleteThatIsWaitedFor(t *testing.T) {
	cases := []struct {
		name           string
		pace           time.Duration
		fault          *pvesim.Fault
		status         int
		reason         string
		upid           bool
		took           time.Duration
		deletedInReply int
	}{
		{"done in time", 1500 * time.Millisecond, nil, 200, "OK", false, 2 * time.Second, 1},
		{"not done in time", 4 * time.Second, nil, 200, "OK", true, 3 * time.Second, 0},
		{
			"an error after the effect", time.Second,
			&pvesim.Fault{Kind: pvesim.FaultTaskFail, Stage: pvesim.StageEnd, Text: "no space left on device"},
			500, "no space left on device", false, time.Second, 1,
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, pvesim.Pace{Volume: c.pace})
			g := r.vm(105, 1)
			if c.fault != nil {
				r.inject(*c.fault)
			}
			begun := r.clock.Now()
			rep := r.call("DELETE", content+"local-lvm/content/"+g.Disks[0]+"?delay=3", admin, "")
			check(t, "status", rep.Status, c.status)
			check(t, "reason", rep.Reason, c.reason)
			check(t, "a UPID", rep.Data != nil, c.upid)
			check(t, "time", r.clock.Now().Sub(begun), c.took)
			check(t, "deleted", r.count(pvesim.VolumeDeleted), c.deletedInReply)
			r.clock.Advance(time.Minute)
			check(t, "deleted in the end", r.count(pvesim.VolumeDeleted), 1)
		})
	}
}

func TestVolumeDeleteWaitsForTheStorage(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.storage(pvesim.Storage{ID: "nfs", Type: "nfs", Path: "/mnt/pve/nfs", Content: []string{"iso"}, Shared: true})
	for store, text := range map[string]string{
		"local": "can't lock file '/var/lock/pve-manager/pve-storage-local' - got timeout",
		"nfs":   "cfs-lock 'storage-nfs' error: got lock request timeout",
	} {
		release, ok := r.sim.HoldStorageLock("pve1", store)
		check(t, store+": lock had", ok, true)
		upid := r.upid("DELETE", content+store+"/content/iso/a.iso", admin)
		r.clock.Advance(9 * time.Second)
		check(t, store+": before", r.exit(upid), "running")
		r.clock.Advance(2 * time.Second)
		check(t, store+": after", r.exit(upid), text)
		release()
		check(t, store+": freed", r.exit(r.upid("DELETE", content+store+"/content/iso/a.iso", admin)), "OK")
	}
	if _, ok := r.sim.HoldStorageLock("pve1", "nope"); ok {
		t.Error("lock of no storage: got it, want none")
	}
}

func TestVolumeRights(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.token("svc@pve!t", pvesim.Token{})
	r.sim.AddRole("Space", "Datastore.AllocateSpace", "Datastore.Audit")
	r.sim.AddRole("Backup", "VM.Backup")
	backup := "local:backup/vzdump-qemu-105-2026_01_02-03_04_05.vma"
	r.volume(pvesim.Volume{VolID: backup, VMID: 105, Size: 9, Content: "backup", Notes: "first\nsecond"})
	path := content + "local/content/" + backup
	check(t, "nothing", r.call("DELETE", path, "svc@pve!t", "").Reason, "Permission check failed (/storage/local, Datastore.AllocateSpace)")
	r.sim.Grant("/storage/local", "svc@pve", "Space", false)
	check(t, "space alone", r.call("DELETE", path, "svc@pve!t", "").Reason, "Permission check failed (/vms/105, VM.Backup)")
	check(t, "read", r.call("GET", path, "svc@pve!t", "").Reason, "Permission check failed (/vms/105, VM.Backup)")
	check(t, "edit", r.call("PUT", path, "svc@pve!t", "protected=1").Reason, "Permission check failed (/vms/105, VM.Backup)")
	r.sim.Grant("/vms/105", "svc@pve", "Backup", false)
	check(t, "disk", r.call("DELETE", content+"local-lvm/content/vm-105-disk-0", "svc@pve!t", "").Reason, "Permission check failed (/storage/local-lvm, Datastore.Allocate)")
	check(t, "edit", r.call("PUT", path, "svc@pve!t", "protected=1&notes=kept").Status, 200)
	m, _ := r.call("GET", path, "svc@pve!t", "").Data.(map[string]any)
	check(t, "notes", m["notes"], any("kept"))
	check(t, "protected", m["protected"], any(1.0))
	check(t, "notes of a disk", r.call("PUT", content+"local-lvm/content/vm-105-disk-0", admin, "notes=x").Reason, "attribute 'notes' is not supported for storage type 'lvmthin'")
	check(t, "protection of an image", r.call("PUT", content+"local/content/iso/a.iso", admin, "protected=1").Reason, "only backups support attribute 'protected'")
	check(t, "unprotect", r.call("PUT", path, admin, "protected=0").Status, 200)
	check(t, "delete", r.exit(r.upid("DELETE", path, "svc@pve!t")), "OK")
	check(t, "effects", r.count(pvesim.BackupDeleted), 1)
}

func TestContentByKindOfStorage(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.storage(pvesim.Storage{ID: "tank", Type: "zfspool", Content: []string{"images", "rootdir"}})
	r.storage(pvesim.Storage{ID: "pbs", Type: "pbs", Content: []string{"backup"}})
	r.vm(105, 0, func(g *pvesim.Guest) { g.Kind, g.Disks = pvesim.LXC, []string{"tank:1"} })
	r.volume(pvesim.Volume{VolID: "pbs:backup/ct/105/2026-01-02T03:04:05Z", VMID: 105, Size: 9, Content: "backup", Format: "pbs-ct"})
	cases := []struct{ path, want string }{
		{"tank/content", `[{"content":"rootdir","format":"subvol","size":1073741824,"vmid":105,"volid":"tank:subvol-105-disk-0"}]`},
		{"tank/content?content=images", `[]`},
		{"tank/content?vmid=106", `[]`},
		{"pbs/content?vmid=105", `[{"content":"backup","ctime":1767323045,"format":"pbs-ct","size":9,"subtype":"lxc","vmid":105,"volid":"pbs:backup/ct/105/2026-01-02T03:04:05Z"}]`},
	}
	for _, c := range cases {
		check(t, c.path, string(r.call("GET", content+c.path, admin, "").Body), `{"data":`+c.want+`}`)
	}
	r.sim.DestroyGuest(105)
	r.volume(pvesim.Volume{VolID: "tank:subvol-105-disk-0", VMID: 105, Size: 1 << 30, Content: "rootdir"})
	body := string(r.call("GET", content+"tank/content?content=images", admin, "").Body)
	check(t, "a container's disk without the container", strings.Contains(body, "subvol-105-disk-0"), true)
}

func TestPruning(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	for _, day := range []string{"01-03_04_05", "02-03_04_05", "02-23_04_05", "03-03_04_05"} {
		r.volume(pvesim.Volume{VolID: "local:backup/vzdump-qemu-105-2026_01_" + day + ".vma", VMID: 105, Size: 9, Content: "backup"})
	}
	r.volume(pvesim.Volume{VolID: "local:backup/vzdump-lxc-200-2026_01_01-03_04_05.tar", VMID: 200, Size: 9, Content: "backup"})
	marks := func(options string) string {
		rows, _ := r.call("GET", content+"local/prunebackups?vmid=105&prune-backups="+options, admin, "").Data.([]any)
		out := ""
		for _, row := range rows {
			m, _ := row.(map[string]any)
			s, _ := m["mark"].(string)
			out += s[:1]
		}
		return out
	}
	check(t, "all", marks("keep-all%3D1"), "kkkk")
	check(t, "the last", marks("keep-last%3D1"), "rrrk")
	check(t, "one a day", marks("keep-daily%3D3"), "krkk")
	check(t, "the last and one more a day", marks("keep-last%3D1,keep-daily%3D1"), "rrkk")
	check(t, "one a week", marks("keep-weekly%3D2"), "rrrk")
	if err := r.sim.AddVolume(pvesim.Volume{VolID: "local:backup/vzdump-qemu-105-2026_01_01-03_04_05.vma", Node: "pve1", VMID: 105, Size: 9, Content: "backup", Protected: true}); err != nil {
		t.Fatal(err)
	}
	check(t, "protected", marks("keep-last%3D1"), "prrk")
	r.inject(pvesim.Fault{Kind: pvesim.FaultTaskKill, Stage: "free:1"})
	check(t, "killed half-way", r.exit(r.upid("DELETE", content+"local/prunebackups?vmid=105&prune-backups=keep-last%3D1", admin)), "unexpected status")
	check(t, "deleted by then", r.count(pvesim.BackupDeleted), 1)
	check(t, "again", r.exit(r.upid("DELETE", content+"local/prunebackups?vmid=105&prune-backups=keep-last%3D1", admin)), "OK")
	check(t, "left", r.disks(), 3)
	r.storage(pvesim.Storage{ID: "none", Type: "dir", Path: "/none", Content: []string{"iso"}})
	check(t, "no backups", r.exit(r.upid("DELETE", content+"none/prunebackups?prune-backups=keep-last%3D1", admin)), "storage 'none' does not support backups")
}

func TestStorageDefinitions(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.sim.Grant("/storage/local-lvm", "svc@pve", "PVEDatastoreAdmin", false)
	g := r.vm(105, 1)
	check(t, "remove", r.call("DELETE", "/storage/local-lvm", admin, "").Status, 200)
	check(t, "volumes out of reach", r.call("GET", content+"local-lvm/content", admin, "").Reason, "storage 'local-lvm' does not exist")
	check(t, "disk", r.exit(r.upid("POST", del105+"/status/start", admin)), "storage 'local-lvm' does not exist")
	check(t, "effects", r.count(pvesim.StorageRemoved), 1)
	check(t, "disks freed", r.count(pvesim.VolumeDeleted), 0)
	check(t, "config", len(g.Disks), 1)
	check(t, "again", r.call("DELETE", "/storage/local-lvm", admin, "").Reason, "delete storage failed: storage 'local-lvm' does not exist")
	r.node("pve1", pvesim.NodeControl{Quorate: new(false)})
	begun := r.clock.Now()
	check(t, "no quorum", r.call("DELETE", "/storage/local", admin, "").Reason, "delete storage failed: cfs-lock 'file-storage_cfg' error: no quorum!")
	check(t, "after", r.clock.Now().Sub(begun), 10*time.Second)
}
