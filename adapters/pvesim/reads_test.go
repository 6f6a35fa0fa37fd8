package pvesim_test

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"writ/adapters/pvesim"
)

// The replies of the reading calls, whole: keys are sorted, so they compare as text.
func TestReads(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.sim.AddPool("p1", "first", "local")
	r.vm(105, 1, func(g *pvesim.Guest) { g.Pool, g.HA = "p1", "started" })
	r.sim.AddSnapshot(105, "s1", "before the\nupgrade")
	r.sim.AddSnapshot(105, "s2", "")
	r.token("svc@pve!w-1", pvesim.Token{Comment: "op-1", Expire: 1, Privsep: true})
	if err := r.sim.AddVolume(pvesim.Volume{
		VolID: "local:backup/vzdump-qemu-105-2026_01_02-03_04_06.vma.zst", Node: "pve1", VMID: 105, Size: 7, Content: "backup", Format: "vma.zst", Protected: true,
	}); err != nil {
		t.Fatal(err)
	}
	g, _ := r.sim.Guest(105)
	cases := []struct{ path, want string }{
		{"/pools", `[{"comment":"first","poolid":"p1"}]`},
		{
			"/pools?poolid=p1&type=qemu",
			`[{"comment":"first","members":[{"hastate":"started","id":"qemu/105","node":"pve1","pool":"p1","status":"unknown","type":"qemu","vmid":105}],"poolid":"p1"}]`,
		},
		{
			"/nodes/pve1/qemu/105/snapshot", `[{"description":"before the\nupgrade","name":"s1","snaptime":1795416000,"vmstate":0},` +
				`{"description":"","name":"s2","parent":"s1","snaptime":1795416000,"vmstate":0},` +
				`{"description":"You are here!","digest":"` + g.Digest + `","name":"current","parent":"s2","running":0}]`,
		},
		{"/cluster/ha/resources/vm:105", `{"digest":"0561679b29143c08786e9cb0143315067250039f","sid":"vm:105","state":"started","type":"vm"}`},
		{"/cluster/replication", `[]`},
		{"/access/users/svc@pve/token", `[{"comment":"op-1","expire":1,"privsep":1,"tokenid":"w-1"}]`},
		{
			"/nodes/pve1/storage/local/content?content=backup",
			`[{"content":"backup","ctime":1767323046,"format":"vma.zst","protected":1,"size":7,"subtype":"qemu","vmid":105,"volid":"local:backup/vzdump-qemu-105-2026_01_02-03_04_06.vma.zst"}]`,
		},
		{
			"/storage?type=lvmthin", `[{"content":"images,rootdir","digest":"949e11a69bc3d17d15b18fba8ed59dc858e08b23","storage":"local-lvm","type":"lvmthin"}]`,
		},
	}
	for _, c := range cases {
		got := r.call("GET", c.path, admin, "")
		check(t, c.path, string(got.Body), `{"data":`+c.want+`}`)
	}
	check(t, "HA resource", r.call("GET", "/cluster/ha/resources/vm:106", admin, "").Reason, "no such resource 'vm:106'")
	check(t, "unknown pool", r.call("GET", "/pools?poolid=p2", admin, "").Reason, "pool 'p2' does not exist")
	check(t, "node status", r.call("GET", "/nodes/pve2/status", admin, "").Status, 200)
	check(t, "unknown snapshot", r.call("GET", del105+"/config?snapshot=s9", admin, "").Reason, "snapshot 's9' does not exist")
	snap, _ := r.call("GET", del105+"/config?snapshot=s1", admin, "").Data.(map[string]any)
	check(t, "snapshot's name", snap["name"], any("web"))
}

func TestStorageContentIsFiltered(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.vm(105, 1)
	r.vm(106, 1)
	r.token("svc@pve!t1", pvesim.Token{})
	r.sim.Grant("/storage/local-lvm", "svc@pve", "PVEDatastoreUser", true)
	r.sim.Grant("/vms/106", "svc@pve", "PVEVMAdmin", true)
	rows := func(auth string) int {
		list, _ := r.call("GET", "/nodes/pve1/storage/local-lvm/content", auth, "").Data.([]any)
		return len(list)
	}
	check(t, "all", rows(admin), 2)
	check(t, "those of a guest whose disks one may configure", rows("svc@pve!t1"), 1)
}

func TestLogin(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	began := r.clock.Now()
	wrong := r.call("POST", "/access/ticket", "", "username=svc@pve&password=nope")
	check(t, "wrong password", wrong.Reason, "authentication failure")
	check(t, "delay", r.clock.Now().Sub(began), 3*time.Second)
	login := func(password string) map[string]any {
		m, _ := r.call("POST", "/access/ticket", "", "username=svc@pve&password="+url.QueryEscape(password)).Data.(map[string]any)
		return m
	}
	m := login("secret12")
	ticket, _ := m["ticket"].(string)
	check(t, "ticket", strings.HasPrefix(ticket, "PVE:svc@pve:"), true)
	r.clock.Advance(90 * time.Minute)
	renewed, _ := login(ticket)["ticket"].(string)
	check(t, "renewed by the ticket", renewed != "" && renewed != ticket, true)
	use := func(ticket string) int {
		req := request("GET", "/version", "", "")
		req.Header.Set("Cookie", "PVEAuthCookie="+url.QueryEscape(ticket))
		return r.wait(r.send(req)).Status
	}
	r.clock.Advance(31 * time.Minute)
	check(t, "after two hours", use(ticket), 401)
	check(t, "the renewed one", use(renewed), 200)
	check(t, "another user's ticket", use(strings.Replace(renewed, "svc@", "root@", 1)), 401)
	r.sim.DisableUser("svc@pve", true)
	check(t, "disabled user", use(renewed), 401)
}

func TestCreateOverHTTP(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.sim.AddPool("p1", "")
	id, _ := r.call("GET", "/cluster/nextid", admin, "").Data.(string)
	made := r.call("POST", "/nodes/pve1/qemu", admin, "vmid="+id+"&name=web&memory=1024&scsi0=local-lvm:8&net0=virtio,bridge=vmbr0&tags=a,b&pool=p1&start=1")
	upid, _ := made.Data.(string)
	check(t, "exit", r.exit(upid), "OK")
	g, ok := r.sim.Guest(100)
	check(t, "there", ok, true)
	check(t, "running", g.Running, true)
	check(t, "pool", g.Pool, "p1")
	check(t, "disk", strings.Join(g.Disks, " "), "local-lvm:vm-100-disk-0")
	check(t, "tags", g.Config["tags"], "a;b")
	check(t, "MACs", len(g.MACs), 1)
	check(t, "drive", g.Config["scsi0"], "local-lvm:vm-100-disk-0,size=8G")
	check(t, "config's cores", r.call("PUT", "/nodes/pve1/qemu/100/config", admin, "cores=0").Errors["cores"], "value must have a minimum value of 1")
	check(t, "detached", r.call("PUT", "/nodes/pve1/qemu/100/config", admin, "delete=scsi0").Status, 200)
	check(t, "volumes", r.disks(), 1)
	check(t, "freed", r.call("PUT", "/nodes/pve1/qemu/100/config", admin, "delete=unused0").Status, 200)
	check(t, "volumes", r.disks(), 0)
	e := r.sim.Effects()
	check(t, "who freed it", e[len(e)-1].Auth, admin)
}

func TestShutdown(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.vm(105, 0, func(g *pvesim.Guest) { g.Running = true })
	r.vm(106, 0, func(g *pvesim.Guest) { g.Running, g.Deaf = true, true })
	check(t, "obeyed", r.exit(r.upid("POST", "/nodes/pve1/qemu/105/status/shutdown", admin)), "OK")
	deaf := r.upid("POST", "/nodes/pve1/qemu/106/status/shutdown?timeout=20", admin)
	r.clock.Advance(19 * time.Second)
	check(t, "patient", r.exit(deaf), "running")
	r.clock.Advance(time.Second)
	check(t, "not obeyed", r.exit(deaf), "VM quit/powerdown failed - got timeout")
	forced := r.upid("POST", "/nodes/pve1/qemu/106/status/shutdown?timeout=1&forceStop=1", admin)
	r.clock.Advance(time.Second)
	check(t, "forced", r.exit(forced), "OK")
	check(t, "stopped", r.count(pvesim.GuestStopped), 2)
}

// The log file is named after the UPID, and file names have an end.
func TestTokenNameTooLongForATask(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.vm(105, 1)
	long := "root@pam!" + strings.Repeat("x", 200)
	r.token(long, pvesim.Token{})
	got := r.call("DELETE", del105, long, "")
	check(t, "status", got.Status, 500)
	check(t, "reason", strings.HasPrefix(got.Reason, "starting worker failed: unable to create file '/var/log/pve/tasks/0/UPID:"), true)
	check(t, "effects", len(r.sim.Effects()), 0)
}

func TestRegeneratedSecret(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	first, _ := r.asService("POST", tokenPath, "").Data.(map[string]any)
	old, _ := first["value"].(string)
	next, _ := r.asService("PUT", tokenPath, "regenerate=1").Data.(map[string]any)
	fresh, _ := next["value"].(string)
	check(t, "old secret", r.wait(r.send(withSecret("GET", "/version", attempt, old))).Status, 401)
	check(t, "new secret", r.wait(r.send(withSecret("GET", "/version", attempt, fresh))).Status, 200)
	var missing map[string]any
	b := r.asService("PUT", tokenPath, "expire=0&comment=x").Body
	if err := json.Unmarshal(b, &missing); err != nil {
		t.Fatal(err)
	}
	check(t, "echo", string(b), `{"data":{"comment":"x","expire":"0","privsep":1}}`)
}
