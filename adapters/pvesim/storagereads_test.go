package pvesim_test

import (
	"strings"
	"testing"

	"writ/adapters/pvesim"
)

func TestSingleVolumes(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.storage(pvesim.Storage{ID: "tank", Type: "zfspool", Content: []string{"images"}})
	r.storage(pvesim.Storage{ID: "dir", Type: "dir", Path: "/srv/dir", Content: []string{"images", "vztmpl", "snippets", "backup"}})
	for _, v := range []pvesim.Volume{
		{VolID: "tank:vm-105-disk-0", VMID: 105, Size: 4096},
		{VolID: "dir:vztmpl/debian.tar.zst", Size: 10, Content: "vztmpl", Format: "tzst"},
		{VolID: "dir:snippets/a.yaml", Size: 10, Content: "snippets", Format: "snippet"},
		{VolID: "dir:backup/other.tar.gz", Size: 10, Content: "backup", Format: "tar.gz"},
		{VolID: "dir:105/vm-105-disk-0.qcow2", VMID: 105, Size: 1 << 30, Format: "qcow2"},
	} {
		r.volume(v)
	}
	cases := []struct{ path, want string }{
		{"tank/content/vm-105-disk-0", `{"data":{"format":"raw","path":"/dev/zvol/tank/vm-105-disk-0","size":4096,"used":4096}}`},
		{"dir/content/vztmpl/debian.tar.zst", `{"data":{"format":"raw","path":"/srv/dir/template/cache/debian.tar.zst","size":10,"used":4096}}`},
		{"dir/content/snippets/a.yaml", `{"data":{"format":"raw","path":"/srv/dir/snippets/a.yaml","size":10,"used":4096}}`},
		{"dir/content/backup/other.tar.gz", `{"data":{"format":"raw","notes":"","path":"/srv/dir/dump/other.tar.gz","protected":0,"size":10,"used":4096}}`},
		{"dir/content/105/vm-105-disk-0.qcow2", `{"data":{"format":"qcow2","path":"/srv/dir/images/105/vm-105-disk-0.qcow2","size":1073741824,"used":278528}}`},
	}
	for _, c := range cases {
		check(t, c.path, string(r.call("GET", content+c.path, admin, "").Body), c.want)
	}
	for path, want := range map[string]string{
		"tank/content/vm-105-disk-9":      "zfs error: cannot open 'tank/vm-105-disk-9': dataset does not exist",
		"local-lvm/content/vm-105-disk-9": "can't get size of '/dev/local-lvm/vm-105-disk-9'",
		"dir/content/105/vm-105-disk-0":   "unable to parse volume filename 'vm-105-disk-0'",
		"tank/content/disk-0":             "unable to parse zfs volume name 'disk-0'",
		"nope/content/disk-0":             "storage 'nope' does not exist",
	} {
		check(t, path, r.call("GET", content+path, admin, "").Reason, want)
	}
	check(t, "no volume id", r.call("DELETE", content+"dir/content/:iso", admin, "").Errors["volume"], "unable to parse volume ID ':iso'\n")
}

func TestVolumesAreReadByThoseWhoMay(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.token("svc@pve!t", pvesim.Token{})
	r.volume(pvesim.Volume{VolID: "local:iso/a.iso", Size: 512, Content: "iso", Format: "iso"})
	r.volume(pvesim.Volume{VolID: "local:105/vm-105-disk-0.raw", VMID: 105, Size: 512})
	r.volume(pvesim.Volume{VolID: "local:backup/other.tar.gz", Size: 512, Content: "backup", Format: "tar.gz"})
	get := func(path string) string { return r.call("GET", content+"local/content/"+path, "svc@pve!t", "").Reason }
	check(t, "image, nothing", get("iso/a.iso"), "Permission check failed (/storage/local, Datastore.AllocateSpace|Datastore.Audit)")
	r.sim.Grant("/storage/local", "svc@pve", "PVEAuditor", false)
	check(t, "image", get("iso/a.iso"), "OK")
	check(t, "disk", get("105/vm-105-disk-0.raw"), "Permission check failed (/vms/105, VM.Config.Disk)")
	check(t, "nobody's backup", get("backup/other.tar.gz"), "missing privileges to access local:backup/other.tar.gz")
	r.sim.AddRole("Disk", "VM.Config.Disk")
	r.sim.Grant("/vms/105", "svc@pve", "Disk", false)
	check(t, "disk of a guest of one's own", get("105/vm-105-disk-0.raw"), "OK")
}

func TestNewVolumes(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	cases := []struct{ name, store, body, data, reason string }{
		{"file", "local", "vmid=105&filename=vm-105-disk-0.qcow2&size=1G", "local:105/vm-105-disk-0.qcow2", "OK"},
		{"in KiB", "local-lvm", "vmid=105&filename=vm-105-disk-0&size=1024", "local-lvm:vm-105-disk-0", "OK"},
		{"twice", "local-lvm", "vmid=105&filename=vm-105-disk-0&size=1024", "", "volume 'local-lvm:vm-105-disk-0' already exists"},
		{"another's name", "local-lvm", "vmid=105&filename=vm-106-disk-0&size=1024", "", "illegal name 'vm-106-disk-0' - should be 'vm-105-*'"},
		{"no storage", "nope", "vmid=105&filename=vm-105-disk-0&size=1024", "", "storage 'nope' does not exist"},
	}
	for _, c := range cases {
		rep := r.call("POST", content+c.store+"/content", admin, c.body)
		check(t, c.name, rep.Reason, c.reason)
		got, _ := rep.Data.(string)
		check(t, c.name+": volume", got, c.data)
	}
	check(t, "size", r.sim.Volumes()[0].Size+r.sim.Volumes()[1].Size, 1<<30+1<<20)
}

func TestPoolsAreListedByKind(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.disk("/dev/sdb", func(d *pvesim.Disk) { d.Held = true })
	r.disk("/dev/sdc", func(d *pvesim.Disk) { d.Mounted = true })
	r.disk("/dev/sdd", func(d *pvesim.Disk) { d.Used, d.GPT = "LVM2_member", true })
	r.diskPool(pvesim.DiskPool{Kind: pvesim.PoolLVMThin, Name: "data", VG: "vg1", Size: 1 << 20, Used: 1 << 10})
	r.diskPool(pvesim.DiskPool{Kind: pvesim.PoolDirectory, Name: "d-1", Members: []string{"/dev/sdc"}})
	r.diskPool(pvesim.DiskPool{Kind: pvesim.PoolZFS, Name: "tank", Members: []string{"/dev/sde", "/dev/sdf"}})
	for path, want := range map[string]string{
		"/directory": `[{"device":"/dev/sdc","options":"defaults","path":"/mnt/pve/d-1","type":"ext4","unitfile":"/etc/systemd/system/mnt-pve-d\\x2d1.mount"}]`,
		"/lvmthin": `[{"ctime":1795416000,"lv":"data","lv_size":1048576,"lv_state":"a","lv_type":"t","metadata_size":1024,"metadata_used":1,` +
			`"used":1024,"vg":"vg1"}]`,
	} {
		check(t, path, string(r.call("GET", disksPath+path, admin, "").Body), `{"data":`+want+`}`)
	}
	check(t, "two members", strings.Contains(string(r.call("GET", disksPath+"/zfs/tank", admin, "").Body), `"name":"mirror-0"`), true)
	rows, _ := r.call("GET", disksPath+"/list", admin, "").Data.([]any)
	var used []string
	for _, row := range rows {
		m, _ := row.(map[string]any)
		u, _ := m["used"].(string)
		used = append(used, u)
	}
	check(t, "used for", strings.Join(used, ","), "Device Mapper,mounted,LVM2_member")
	rows, _ = r.call("GET", disksPath+"/list?type=journal_disks", admin, "").Data.([]any)
	check(t, "for journals", len(rows), 0)
}

func TestContainerRestoreOntoNamedDisks(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.vm(205, 0, func(g *pvesim.Guest) { g.Kind, g.Disks = pvesim.LXC, []string{"local:1"} })
	tar := r.backup(205).VolID
	r.storage(pvesim.Storage{ID: "plain", Type: "dir", Path: "/plain", Content: []string{"iso"}})
	post := func(more string) *reply {
		return r.call("POST", "/nodes/pve1/lxc", admin, "vmid=207&restore=1&ostemplate="+tar+more)
	}
	check(t, "not for containers", post("&storage=plain").Errors["storage"], "storage 'plain' does not support container directories")
	upid, _ := post("&rootfs=2&storage=local-lvm&mp0=local:1&unique=1&start=1&hostname=copy").Data.(string)
	check(t, "exit", r.exit(upid), "OK")
	g, _ := r.sim.Guest(207)
	check(t, "rootfs", g.Config["rootfs"], "local-lvm:vm-207-disk-0,size=2G")
	check(t, "mp0", g.Config["mp0"], "local:207/vm-207-disk-0.raw,size=1G")
	check(t, "name", g.Name, "copy")
	check(t, "running", g.Running, true)
	rep := r.call("POST", "/nodes/pve1/lxc", admin, "vmid=208&restore=1&rootfs=local-lvm:vm-1-disk-0&ostemplate="+tar)
	upid, _ = rep.Data.(string)
	check(t, "an existing volume", r.exit(upid), "unable to restore CT 208 - unable to parse volume ID 'local-lvm:vm-1-disk-0'")
	check(t, "what was claimed is given back", r.state(208), "none")
}

func TestSmallerThingsOfBackups(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.vm(105, 1)
	for format, want := range map[string]string{"": ".vma", "gzip": ".vma.gz", "lzo": ".vma.lzo", "1": ".vma.lzo"} {
		body := "vmid=105"
		if format != "" {
			body += "&compress=" + format
		}
		check(t, format+": exit", r.exit(r.dumps(body)), "OK")
		vols := r.sim.Volumes()
		made := vols[len(vols)-1].VolID
		for _, v := range vols {
			if v.Content == "backup" {
				made = v.VolID
			}
		}
		check(t, format, made, "local:backup/vzdump-qemu-105-2026_11_23-06_40_00"+want)
		r.sim.DropVolume("pve1", made)
	}
	for volid, want := range map[string]string{
		"local:backup/vzdump-qemu-1-2020.vma": "volume 'local:backup/vzdump-qemu-1-2020.vma' does not exist",
		"local:iso/a.iso":                     "unable to use volume local:iso/a.iso - content type needs to be 'backup'",
		"nope:backup/a.vma":                   "storage 'nope' does not exist",
	} {
		check(t, volid, r.call("GET", "/nodes/pve1/vzdump/extractconfig?volume="+volid, admin, "").Reason, want)
	}
}

func TestLostReplyOfARestore(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.vm(105, 1)
	archive := r.backup(105).VolID
	r.inject(pvesim.Fault{Kind: pvesim.FaultActiveLock, Method: "POST", Path: "/nodes/*/qemu"})
	rep := r.call("POST", "/nodes/pve1/qemu", admin, restoreBody(pvesim.QEMU, "105", archive, ""))
	check(t, "status", rep.Status, 500)
	check(t, "overwritten all the same", r.count(pvesim.GuestOverwritten), 1)
	r.inject(pvesim.Fault{Kind: pvesim.FaultCut, Method: "DELETE", Path: "/nodes/*/storage/**", After: true})
	check(t, "cut", r.call("DELETE", content+"local/content/"+archive, admin, "").Cut, true)
	check(t, "deleted all the same", r.count(pvesim.BackupDeleted), 1)
	r.inject(pvesim.Fault{Kind: pvesim.FaultTaskKill, TaskType: "imgdel", VMID: 105, Stage: pvesim.StageLock})
	check(t, "a fault by the owner in the id", r.exit(r.upid("DELETE", content+"local-lvm/content/vm-105-disk-0", admin)), "unexpected status")
}
