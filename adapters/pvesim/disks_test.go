package pvesim_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"writ/adapters/pvesim"
)

const disksPath = "/nodes/pve1/disks"

// disk plugs a disk into pve1.
func (r *rig) disk(devpath string, change ...func(*pvesim.Disk)) {
	r.t.Helper()
	d := pvesim.Disk{Node: "pve1", DevPath: devpath, Size: 1 << 30, Serial: "S-" + devpath[5:], WWN: "0x5000" + devpath[5:], Model: "M1", Vendor: "V1"}
	for _, f := range change {
		f(&d)
	}
	if err := r.sim.AddDisk(d); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) diskPool(p pvesim.DiskPool) {
	r.t.Helper()
	p.Node = "pve1"
	if err := r.sim.AddDiskPool(p); err != nil {
		r.t.Fatal(err)
	}
}

// asRoot sends a request with a ticket of root@pam.
func (r *rig) asRoot(method, path, body string) *reply {
	r.t.Helper()
	ticket, csrf := r.sim.Ticket("root@pam")
	req := request(method, path, "", body)
	req.Header = http.Header{"Cookie": {"PVEAuthCookie=" + ticket}, "Csrfpreventiontoken": {csrf}}
	return r.wait(r.send(req))
}

func TestDisksList(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.disk("/dev/sda", func(d *pvesim.Disk) {
		d.Type, d.GPT, d.ByIDLink = "hdd", true, "/dev/disk/by-id/ata-M1_S"
		d.Partitions = []pvesim.Partition{{DevPath: "/dev/sda1", Size: 1 << 20, Used: "EFI", Mounted: true}, {DevPath: "/dev/sda2", Size: 1 << 29}}
	})
	r.disk("/dev/nvme0n1", func(d *pvesim.Disk) { d.Type, d.Serial = "nvme", "" })
	r.disk("/dev/loop0")
	r.diskPool(pvesim.DiskPool{Kind: pvesim.PoolLVM, Name: "vg1", Size: 1 << 29, Members: []string{"/dev/sda2"}})
	r.diskPool(pvesim.DiskPool{Kind: pvesim.PoolZFS, Name: "tank", Size: 1 << 30, Members: []string{"/dev/nvme0n1"}})
	cases := []struct{ path, want string }{
		{
			"/list?skipsmart=1", `[{"devpath":"/dev/nvme0n1","gpt":0,"health":"UNKNOWN","model":"M1","osdid":-1,"osdid-list":null,"rpm":0,"serial":"unknown",` +
				`"size":1073741824,"type":"nvme","used":"ZFS","vendor":"V1","wearout":"N/A","wwn":"0x5000nvme0n1"},` +
				`{"by_id_link":"/dev/disk/by-id/ata-M1_S","devpath":"/dev/sda","gpt":1,"health":"UNKNOWN","model":"M1","osdid":-1,"osdid-list":null,"rpm":7200,"serial":"S-sda",` +
				`"size":1073741824,"type":"hdd","used":"EFI","vendor":"V1","wearout":"N/A","wwn":"0x5000sda"}]`,
		},
		{"/list?type=unused", `[]`},
		{"/lvmthin", `[]`},
		{"/directory", `[]`},
		{
			"/lvm", `{"children":[{"children":[{"free":536870912,"leaf":1,"name":"/dev/sda2","size":536870912}],"free":536870912,"leaf":0,"lvcount":0,` +
				`"name":"vg1","size":536870912}],"leaf":0}`,
		},
		{"/zfs", `[{"alloc":0,"dedup":1,"frag":0,"free":1073741824,"health":"ONLINE","name":"tank","size":1073741824}]`},
		{
			"/zfs/tank", `{"children":[{"children":[{"cksum":0,"leaf":1,"msg":"","name":"/dev/nvme0n1","read":0,"state":"ONLINE","write":0}],"cksum":0,"leaf":0,` +
				`"msg":"","name":"tank","read":0,"state":"ONLINE","write":0}],"errors":"No known data errors","leaf":0,"name":"tank","scan":"none requested","state":"ONLINE"}`,
		},
	}
	for _, c := range cases {
		check(t, c.path, string(r.call("GET", disksPath+c.path, admin, "").Body), `{"data":`+c.want+`}`)
	}
	rows, _ := r.call("GET", disksPath+"/list?include-partitions=1", admin, "").Data.([]any)
	used := map[string]any{}
	for _, row := range rows {
		m, _ := row.(map[string]any)
		dev, _ := m["devpath"].(string)
		used[dev] = m["used"]
	}
	for dev, want := range map[string]any{"/dev/sda": "partitions", "/dev/sda1": "EFI", "/dev/sda2": "LVM", "/dev/nvme0n1": "ZFS"} {
		check(t, dev, used[dev], want)
	}
	check(t, "rights", r.call("GET", disksPath+"/list", "root@pam!t2", "").Status, 401)
	check(t, "unknown pool", r.call("GET", disksPath+"/zfs/nope", admin, "").Status, 500)
}

func TestWipeDisk(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.disk("/dev/sdb", func(d *pvesim.Disk) {
		d.Partitions = []pvesim.Partition{{DevPath: "/dev/sdb1", Size: 1 << 20, Used: "ext4", Mounted: true}, {DevPath: "/dev/sdb2", Size: 1 << 20, Held: true}}
	})
	wipe := func(dev string) *reply { return r.asRoot("PUT", disksPath+"/wipedisk", "disk="+dev) }
	check(t, "a token", r.call("PUT", disksPath+"/wipedisk", admin, "disk=/dev/sdb").Reason, "Permission check failed (user != root@pam)")
	check(t, "a mounted partition", wipe("/dev/sdb").Reason, "disk/partition '/dev/sdb1' is mounted")
	check(t, "a partition with a holder", wipe("/dev/sdb2").Reason, "disk/partition '/dev/sdb2' has a holder")
	check(t, "no such disk", wipe("/dev/sdz").Reason, "not a valid block device")
	r.disk("/dev/sdb", func(d *pvesim.Disk) {
		d.Partitions = []pvesim.Partition{{DevPath: "/dev/sdb1", Size: 1 << 20, Used: "ext4"}}
	})
	hold := r.inject(pvesim.Fault{Kind: pvesim.FaultTaskHold, TaskType: "wipedisk", Stage: pvesim.StageWipe})
	r.inject(pvesim.Fault{Kind: pvesim.FaultTaskKill, TaskType: "wipedisk", Stage: pvesim.StageZero})
	upid, _ := wipe("/dev/sdb").Data.(string)
	check(t, "before", r.count(pvesim.DiskWiped), 0)
	hold.Release()
	check(t, "exit", r.exit(upid), "unexpected status")
	check(t, "worker's id", strings.Split(upid, ":")[6], "sdb")
	e := r.sim.Effects()
	check(t, "effects", len(e), 1)
	check(t, "device", e[0].Device, "/dev/sdb")
	check(t, "serial", e[0].Name, "S-sdb")
	check(t, "partitions left", len(r.sim.Disks()[0].Partitions), 0)
	r.diskPool(pvesim.DiskPool{Kind: pvesim.PoolZFS, Name: "tank", Members: []string{"/dev/sdb"}})
	upid, _ = wipe("/dev/sdb").Data.(string)
	check(t, "member of a pool", r.exit(upid), "error wiping '/dev/sdb': wipefs: error: /dev/sdb: probing initialization failed: Device or resource busy")
	check(t, "effects in the end", r.count(pvesim.DiskWiped), 1)
}

func TestPoolRemovalStageByStage(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.disk("/dev/sdb")
	r.disk("/dev/sdc")
	r.diskPool(pvesim.DiskPool{Kind: pvesim.PoolZFS, Name: "tank", Size: 1 << 30, Members: []string{"/dev/sdb", "/dev/sdc"}})
	r.storage(pvesim.Storage{ID: "tank", Type: "zfspool", Pool: "tank/data", Content: []string{"images"}, Nodes: []string{"pve1"}})
	r.storage(pvesim.Storage{ID: "both", Type: "zfspool", Pool: "tank", Content: []string{"images"}})
	r.vm(105, 0, func(g *pvesim.Guest) { g.Disks = []string{"tank:1"} })
	stops := []struct {
		stage                 string
		pools, volumes, wiped int
		storage               bool
	}{
		{"lock", 1, 1, 0, true},
		{"destroy", 1, 1, 0, true},
		{"config", 0, 0, 0, true},
		{"wipe:0", 0, 0, 0, false},
		{"wipe:1", 0, 0, 1, false},
		{"end", 0, 0, 2, false},
	}
	var holds []*pvesim.Injected
	for _, st := range stops {
		holds = append(holds, r.inject(pvesim.Fault{Kind: pvesim.FaultTaskHold, TaskType: "zfsremove", Stage: st.stage}))
	}
	upid := r.upid("DELETE", disksPath+"/zfs/tank?cleanup-config=1&cleanup-disks=1", admin)
	for i, st := range stops {
		<-holds[i].Reached()
		check(t, st.stage+": pools", len(r.sim.DiskPools()), st.pools)
		check(t, st.stage+": destroyed", r.count(pvesim.PoolDestroyed), 1-st.pools)
		check(t, st.stage+": volumes", r.disks(), st.volumes)
		check(t, st.stage+": wiped", r.count(pvesim.DiskWiped), st.wiped)
		check(t, st.stage+": storage", r.call("GET", "/storage/tank", admin, "").Status == 200, st.storage)
		holds[i].Release()
	}
	check(t, "exit", r.exit(upid), "OK")
	m, _ := r.call("GET", "/storage/both", admin, "").Data.(map[string]any)
	check(t, "a storage of other nodes too", m["nodes"], any("pve2"))
	check(t, "removed", r.count(pvesim.StorageRemoved), 1)
	if _, there := r.sim.Guest(105); !there {
		t.Error("guest on the pool: got none, want its config as it was")
	}
}

func TestPoolRemovalErrors(t *testing.T) {
	cases := []struct {
		name, path, exit string
		prepare          func(r *rig)
		destroyed        int
	}{
		{"no ZFS pool", "/zfs/nope", "command 'zpool destroy nope' failed: exit code 1", nil, 0},
		{"no directory", "/directory/nope", "OK", nil, 0},
		{
			"config cannot be written after the destruction", "/lvm/vg1?cleanup-config=1", "config cleanup failed - cfs-lock 'file-storage_cfg' error: no quorum!",
			func(r *rig) { r.node("pve1", pvesim.NodeControl{Quorate: new(false)}) }, 1,
		},
		{
			"a member is gone after the destruction", "/lvm/vg1?cleanup-disks=1", "cleanup failed - Couldn't get the size of the device sdb",
			func(r *rig) { r.sim.RemoveDisk("pve1", "/dev/sdb") }, 1,
		},
		{"thin pool beside others", "/lvmthin/data?volume-group=vg1&cleanup-disks=1", "volume group 'vg1' still in use", nil, 1},
		{"thin pool", "/lvmthin/data?volume-group=vg1", "OK", nil, 1},
		{"thin pool of another group", "/lvmthin/data?volume-group=vg2", "no such thin pool vg2/data", nil, 0},
		{"volume group with everything", "/lvm/vg1?cleanup-disks=1", "OK", nil, 1},
		{"directory", "/directory/d1?cleanup-disks=1&cleanup-config=1", "OK", nil, 1},
		{"lock", "/lvm/vg1", "can't lock file '/run/lock/pve-diskmanage.lck' - got timeout", func(r *rig) {
			r.inject(pvesim.Fault{Kind: pvesim.FaultTaskHold, TaskType: "dirremove", Stage: pvesim.StageDestroy})
			r.upid("DELETE", disksPath+"/directory/d1", admin)
		}, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, pvesim.Pace{})
			r.disk("/dev/sdb")
			r.disk("/dev/sdc", func(d *pvesim.Disk) {
				d.Partitions = []pvesim.Partition{{DevPath: "/dev/sdc1", Size: 1 << 20, Used: "ext4", Mounted: true}}
			})
			r.diskPool(pvesim.DiskPool{Kind: pvesim.PoolLVM, Name: "vg1", Size: 1 << 30, Members: []string{"/dev/sdb"}, Volumes: 1})
			r.diskPool(pvesim.DiskPool{Kind: pvesim.PoolLVMThin, Name: "data", VG: "vg1", Size: 1 << 29})
			r.diskPool(pvesim.DiskPool{Kind: pvesim.PoolDirectory, Name: "d1", Size: 1 << 29, Members: []string{"/dev/sdc1"}})
			if c.prepare != nil {
				c.prepare(r)
			}
			upid := r.upid("DELETE", disksPath+c.path, admin)
			r.clock.Advance(time.Minute)
			check(t, "exit", r.exit(upid), c.exit)
			check(t, "destroyed", r.count(pvesim.PoolDestroyed), c.destroyed)
		})
	}
}

func TestPoolRemovalRights(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.token("svc@pve!t", pvesim.Token{})
	check(t, "nothing", r.call("DELETE", disksPath+"/zfs/tank", "svc@pve!t", "").Reason, "Permission check failed (/, Sys.Modify)")
	r.sim.AddRole("Modify", "Sys.Modify")
	r.sim.Grant("/", "svc@pve", "Modify", false)
	check(t, "with the config", r.call("DELETE", disksPath+"/zfs/tank?cleanup-config=1", "svc@pve!t", "").Reason, "Permission check failed (/storage, Datastore.Allocate)")
	check(t, "alone", r.call("DELETE", disksPath+"/zfs/tank", "svc@pve!t", "").Status, 200)
	check(t, "lists", r.call("GET", disksPath+"/zfs", "svc@pve!t", "").Reason, "Permission check failed (/, Sys.Audit)")
	check(t, "disks", r.call("GET", disksPath+"/list", "svc@pve!t", "").Reason, "Permission check failed")
}

func TestStorageWithoutItsPool(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.storage(pvesim.Storage{ID: "tank", Type: "zfspool", Pool: "tank", Content: []string{"images"}})
	r.storage(pvesim.Storage{ID: "thick", Type: "lvm", VG: "vg1", Content: []string{"images"}})
	r.storage(pvesim.Storage{ID: "thin", Type: "lvmthin", VG: "vg1", ThinPool: "data", Content: []string{"images"}})
	for store, want := range map[string]string{
		"tank":  "could not activate storage 'tank', zfs error: cannot import 'tank': no such pool available",
		"thick": "no such volume group 'vg1'",
		"thin":  "no such logical volume vg1/data",
	} {
		check(t, store, r.call("GET", content+store+"/content", admin, "").Reason, want)
		check(t, store+": delete", r.exit(r.upid("DELETE", content+store+"/content/vm-105-disk-0", admin)), want)
	}
}

func TestHardwareThatCannotBe(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	for name, err := range map[string]error{
		"no node":      r.sim.AddDisk(pvesim.Disk{Node: "pve9", DevPath: "/dev/sda", Size: 1}),
		"no path":      r.sim.AddDisk(pvesim.Disk{Node: "pve1", DevPath: "sda", Size: 1}),
		"no kind":      r.sim.AddDiskPool(pvesim.DiskPool{Node: "pve1", Name: "a"}),
		"no pool node": r.sim.AddDiskPool(pvesim.DiskPool{Node: "pve9", Kind: pvesim.PoolZFS, Name: "a"}),
	} {
		if err == nil {
			t.Errorf("%s: got no error, want one", name)
		}
	}
	r.diskPool(pvesim.DiskPool{Kind: pvesim.PoolZFS, Name: "a"})
	if r.sim.AddDiskPool(pvesim.DiskPool{Node: "pve1", Kind: pvesim.PoolZFS, Name: "a"}) == nil {
		t.Error("a second pool of one name: got no error, want one")
	}
	if r.sim.RemoveDisk("pve1", "/dev/sda") {
		t.Error("remove no disk: got true, want false")
	}
}
