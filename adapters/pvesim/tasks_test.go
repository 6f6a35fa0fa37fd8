package pvesim_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"writ/adapters/pvesim"
)

// TestTaskListFilters has one running task, one that was right, one with a
// warning, one error and one killed.
func TestTaskListFilters(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.sim.Grant("/vms", "svc@pve", "PVEVMAdmin", true)
	r.token("svc@pve!t1", pvesim.Token{})
	r.inject(pvesim.Fault{Kind: pvesim.FaultVolumeStuck, Volume: "*vm-102-*"})
	r.inject(pvesim.Fault{Kind: pvesim.FaultTaskKill, VMID: 104, Stage: "start"})
	r.inject(pvesim.Fault{Kind: pvesim.FaultTaskHold, VMID: 105, Stage: "start"})
	for vmid := 101; vmid <= 105; vmid++ {
		lock := ""
		if vmid == 103 {
			lock = "backup"
		}
		r.vm(vmid, 1, func(g *pvesim.Guest) { g.Lock = lock })
		r.upid("DELETE", fmt.Sprintf("/nodes/pve1/qemu/%d", vmid), "svc@pve!t1")
		r.clock.Advance(10 * time.Second)
	}
	start := int64(1795416000)
	cases := []struct{ query, ids string }{
		{"", "104 103 102 101"},
		{"source=active", "105"},
		{"source=all", "105 104 103 102 101"},
		{"source=all&errors=1", "105 104 103 102"},
		{"source=all&statusfilter=ok,error,warning", "103 102 101"},
		{"source=all&statusfilter=unknown", "105 104"},
		{"source=all&statusfilter=ok&errors=1", "105 104 103 102"},
		{"userfilter=SVC", "104 103 102 101"},
		{"userfilter=svc@pve!t1", ""},
		{"source=active&userfilter=svc@pve!t1", "105"},
		{"typefilter=qmdestroy&vmid=103", "103"},
		{"typefilter=qm", ""},
		{fmt.Sprintf("since=%d", start+20), "104 103"},
		{fmt.Sprintf("since=%d&until=%d", start+10, start+20), "103 102"},
		{"limit=0", ""},
		{"limit=2&start=1", "103 102"},
	}
	for _, c := range cases {
		got := r.call("GET", "/nodes/pve1/tasks?"+c.query, admin, "")
		rows, _ := got.Data.([]any)
		var ids []string
		for _, row := range rows {
			m, _ := row.(map[string]any)
			ids = append(ids, fmt.Sprint(m["id"]))
		}
		check(t, c.query, strings.Join(ids, " "), c.ids)
	}
	check(t, "total without limit", r.call("GET", "/nodes/pve1/tasks?limit=0", admin, "").Total, 4)
}

func TestWhoSeesTasks(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.sim.Grant("/vms", "svc@pve", "PVEVMAdmin", true)
	r.token("svc@pve!one", pvesim.Token{})
	r.token("svc@pve!two", pvesim.Token{})
	r.vm(101, 1)
	r.vm(102, 1)
	done := r.upid("DELETE", "/nodes/pve1/qemu/101", "svc@pve!one")
	r.inject(pvesim.Fault{Kind: pvesim.FaultTaskHold, Stage: "start"})
	running := r.upid("DELETE", "/nodes/pve1/qemu/102", "svc@pve!one")
	list := func(got *reply) int { rows, _ := got.Data.([]any); return len(rows) }
	path := "/nodes/pve1/tasks?source="
	check(t, "same token, archive", list(r.call("GET", path+"archive", "svc@pve!one", "")), 1)
	check(t, "same token, active", list(r.call("GET", path+"active", "svc@pve!one", "")), 1)
	check(t, "other token", list(r.call("GET", path+"all", "svc@pve!two", "")), 0)
	check(t, "the user, archive", list(r.asService("GET", path+"archive", "")), 1)
	check(t, "the user, active", list(r.asService("GET", path+"active", "")), 0)
	check(t, "the user, by UPID", r.asService("GET", "/nodes/pve1/tasks/"+running+"/status", "").Status, 200)
	check(t, "other token, by UPID", r.call("GET", "/nodes/pve1/tasks/"+done+"/status", "svc@pve!two", "").Reason,
		"Permission check failed (/nodes/pve1, Sys.Audit)")
	check(t, "cluster view, own token", list(r.call("GET", "/cluster/tasks", "svc@pve!one", "")), 0)
	check(t, "cluster view, the user", list(r.asService("GET", "/cluster/tasks", "")), 2)
	check(t, "wrong node", r.call("GET", "/nodes/pve2/tasks/"+done+"/status", admin, "").Errors["upid"], "no such task")
}

func TestTaskHistoryIsShort(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	var first, middle string
	const n = 3000
	for i := range n {
		upid := r.upid("POST", "/nodes/pve1/qemu/4242/status/stop", admin)
		switch i {
		case 0:
			first = upid
		case n - 100:
			middle = upid
		}
	}
	total := r.call("GET", "/nodes/pve1/tasks?source=all&limit=5000", admin, "").Total
	if total < 400 || total > 1400 {
		t.Errorf("tasks listed after %d: got %d, want what two files of 50000 bytes hold", n, total)
	}
	gone := "unable to find configuration file for VM 4242 on node 'pve1'"
	check(t, "one that is no longer listed", r.exit(first), gone)
	check(t, "one that is", r.exit(middle), gone)
	r.sim.RotateTasks("pve1")
	check(t, "listed after rotation", r.call("GET", "/nodes/pve1/tasks?source=all", admin, "").Total, 0)
	check(t, "by UPID after rotation", r.exit(first), gone)
	r.sim.ForgetTask(first)
	check(t, "by UPID after the clean-up", r.exit(first), "no such task")
	log := r.call("GET", "/nodes/pve1/tasks/"+first+"/log", admin, "")
	check(t, "its log", string(log.Body), `{"data":[{"n":1,"t":"unable to open file - No such file or directory"}],"total":1}`)
}

func TestUPIDNamesTheNodesClock(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.node("pve2", pvesim.NodeControl{Skew: new(time.Hour)})
	upid := r.upid("POST", "/nodes/pve2/qemu/4242/status/stop", admin)
	parts := strings.Split(upid, ":")
	check(t, "fields", len(parts), 9)
	check(t, "node", parts[1], "pve2")
	check(t, "start time", parts[4], fmt.Sprintf("%08X", 1795416000+3600))
	m, _ := r.call("GET", "/nodes/pve2/time", admin, "").Data.(map[string]any)
	check(t, "node's time", m["time"], any(float64(1795416000+3600)))
}
