package pvesim_test

import (
	"testing"
	"time"

	"writ/adapters/pvesim"
)

func (r *rig) resource(vmid int) map[string]any {
	r.t.Helper()
	rows, _ := r.call("GET", "/cluster/resources?type=vm", admin, "").Data.([]any)
	for _, row := range rows {
		if m, ok := row.(map[string]any); ok && m["vmid"] == any(float64(vmid)) {
			return m
		}
	}
	return nil
}

// A reused VMID is shown under the old guest's name until the next broadcast.
func TestResourcesAreStale(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.vm(105, 1, func(g *pvesim.Guest) { g.Name, g.Tags = "old", []string{"a"} })
	check(t, "new guest's status", r.resource(105)["status"], any("unknown"))
	r.clock.Advance(10 * time.Second)
	check(t, "after a broadcast", r.resource(105)["name"], any("old"))
	r.upid("DELETE", del105, admin)
	if m := r.resource(105); m != nil {
		t.Errorf("destroyed guest: got %v, want no row", m)
	}
	r.vm(105, 1, func(g *pvesim.Guest) { g.Name, g.Tags = "new", []string{"b"} })
	m := r.resource(105)
	check(t, "name right after", m["name"], any("old"))
	check(t, "tags right after", m["tags"], any("b"))
	cur, _ := r.call("GET", del105+"/status/current", admin, "").Data.(map[string]any)
	check(t, "its own status", cur["name"], any("new"))
	r.clock.Advance(10 * time.Second)
	check(t, "name after a broadcast", r.resource(105)["name"], any("new"))

	req := request("GET", "/cluster/resources?type=vm", admin, "")
	req.Node = "pve2"
	r.node("pve1", pvesim.NodeControl{Up: new(false)})
	r.clock.Advance(299 * time.Second)
	check(t, "guest of a dead node", statusOf(r.wait(r.send(req))), "stopped")
	r.clock.Advance(12 * time.Second)
	check(t, "after five minutes", statusOf(r.wait(r.send(req))), "unknown")
}

func statusOf(rep *reply) string {
	rows, _ := rep.Data.([]any)
	if len(rows) == 0 {
		return "no row"
	}
	m, _ := rows[0].(map[string]any)
	s, _ := m["status"].(string)
	return s
}

func TestCutOffNode(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.node("pve2", pvesim.NodeControl{Quorate: new(false)})
	r.vm(105, 1)
	at := func(node, method, path string) *reply {
		req := request(method, path, admin, "")
		req.Node = node
		return r.wait(r.send(req))
	}
	check(t, "probe at the majority", at("pve1", "GET", "/cluster/nextid?vmid=105").Errors["vmid"], "VM 105 already exists")
	check(t, "probe at the cut-off node", at("pve2", "GET", "/cluster/nextid?vmid=105").Data, any("105"))
	check(t, "across the cut", at("pve1", "GET", "/nodes/pve2/tasks").Reason, "No route to host")
	check(t, "create there", r.wait(r.send(pvesim.Request{
		Node: "pve2", Method: "POST", Path: "/api2/json/nodes/pve2/qemu", Body: []byte("vmid=106"),
		Header: request("GET", "/", admin, "").Header,
	})).Reason, "cluster not ready - no quorum?")
	r.node("pve2", pvesim.NodeControl{Quorate: new(true)})
	check(t, "probe when healed", at("pve2", "GET", "/cluster/nextid?vmid=105").Status, 400)
}

func TestDigestIsThatOfTheRealFile(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	cases := map[string]struct {
		config map[string]string
		want   string
	}{
		"protected VM": {map[string]string{
			"kvm": "0", "name": "vm112", "meta": "creation-qemu=7.2.22,ctime=1795416540", "memory": "64", "boot": "order=scsi0", "protection": "1",
			"smbios1": "uuid=d2a10d31-0d14-4932-807d-ed8e3f7daf6e", "scsi0": "lab:112/vm-112-disk-0.qcow2,size=10486K",
			"vmgenid": "6b0c57cd-9720-42fc-8cb5-ee9b604692c0",
		}, "d9bdf60f10934a0c9ff5256cfb362016ee347bca"},
		"what an interrupted destroy leaves": {map[string]string{
			"lock": "destroyed", "memory": "", "meta": "", "smbios1": "", "vmgenid": "",
		}, "d627f86544c394fbe8e306d89561ab1a6a4bd687"},
	}
	for name, c := range cases {
		g, err := r.sim.AddGuest(pvesim.Guest{})
		if err != nil {
			t.Fatal(err)
		}
		r.sim.EditGuest(g.VMID, c.config)
		got, _ := r.sim.Guest(g.VMID)
		check(t, name, got.Digest, c.want)
	}
}

func TestConfigWriteComparesTheDigest(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	g := r.vm(105, 1)
	put := func(body string) *reply { return r.call("PUT", del105+"/config", admin, body) }
	check(t, "digest just read", put("protection=1&digest="+g.Digest).Status, 200)
	check(t, "the same one again", put("protection=0&digest="+g.Digest).Reason, "checksum mismatch (file change by other user?)")
	check(t, "destroy", r.call("DELETE", del105, admin, "").Reason, "can't remove VM 105 - protection mode enabled")
	check(t, "lock by a token", put("lock=backup").Reason, "only root can set 'lock' config")
	now, _ := r.sim.Guest(105)
	check(t, "still protected", now.Protection, true)
}

func TestHAManagedStop(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.vm(105, 1, func(g *pvesim.Guest) { g.Running, g.HA = true, "started" })
	upid := r.upid("POST", del105+"/status/stop", admin)
	check(t, "task type", upid[len(upid)-len("hastop:105:root@pam!t1:"):], "hastop:105:root@pam!t1:")
	e := r.sim.Effects()
	if len(e) != 1 || e[0].Kind != pvesim.GuestStopped || e[0].Auth != "root@pam" {
		t.Errorf("effects: got %+v, want one stop by root@pam", e)
	}
}
