package proxmox_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"writ/adapters/pvesim"
	"writ/domain/op"
)

func TestFindTasks(t *testing.T) {
	cases := map[string]struct {
		do       func(r *rig)
		found    bool
		complete bool
		reason   string
	}{
		"ended":          {func(*rig) {}, true, true, "was asked for all its tasks"},
		"still active":   {func(r *rig) { r.fault(pvesim.Fault{Kind: pvesim.FaultTaskHold, VMID: 107}) }, true, true, ""},
		"ended in error": {func(r *rig) { r.fault(pvesim.Fault{Kind: pvesim.FaultTaskKill, VMID: 107}) }, true, true, ""},
		"forgotten, but in the log": {func(r *rig) {
			r.seeLog()
			r.fault(pvesim.Fault{Kind: pvesim.FaultTaskForget, VMID: 107})
		}, true, true, ""},
		"never listed, but in the log": {func(r *rig) {
			r.seeLog()
			r.fault(pvesim.Fault{Kind: pvesim.FaultActiveLock, Method: "DELETE", Unlisted: true})
		}, true, true, ""},
		"never listed, and the log is hidden": {func(r *rig) {
			r.fault(pvesim.Fault{Kind: pvesim.FaultActiveLock, Method: "DELETE", Unlisted: true})
		}, false, true, "Sys.Syslog"},
		"never ran": {func(r *rig) { r.fault(pvesim.Fault{Kind: pvesim.FaultCut, Method: "DELETE"}) }, false, true, ""},
		"the log can't be read": {func(r *rig) {
			r.seeLog()
			r.fault(pvesim.Fault{Kind: pvesim.FaultAnswer, Path: "/cluster/log", Status: 596})
		}, true, true, "log could not be read"},
		"the other node can't be asked": {func(r *rig) {
			r.fault(pvesim.Fault{Kind: pvesim.FaultAnswer, Path: "/nodes/pve2/tasks", Status: 596})
		}, true, true, "which can't have run the request"},
		"the guest's clock is ahead":  {func(r *rig) { r.node("pve1", pvesim.NodeControl{Skew: new(50 * time.Minute)}) }, true, true, ""},
		"the guest's clock is behind": {func(r *rig) { r.node("pve1", pvesim.NodeControl{Skew: new(-50 * time.Minute)}) }, true, true, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newAttemptRig(t)
			r.guest(pvesim.QEMU)
			a, l := r.attempt(1)
			c.do(r)
			upid, _ := r.exec.Launch(t.Context(), a, l)
			s := r.tasks(l)
			if len(s.UPIDs) == 1 != c.found || c.found && upid != "" && s.UPIDs[0] != upid {
				t.Errorf("tasks: got %q, want found: %v, %s", s.UPIDs, c.found, upid)
			}
			if !s.Exact || s.Complete != c.complete || !strings.Contains(strings.Join(s.Reasons, "; "), c.reason) {
				t.Errorf("got %+v, want exact, complete: %v, and to be told %q", s, c.complete, c.reason)
			}
		})
	}
}

// seeLog lets the reading token see the whole log of the cluster.
func (r *rig) seeLog() {
	r.sim.AddRole("Cluster", "Sys.Audit", "Sys.Syslog", "Pool.Audit", "Datastore.Audit")
}

func TestFindTasksIsNotComplete(t *testing.T) {
	cases := map[string]struct {
		do     func(r *rig)
		reason string // empty: the host could not be asked
	}{
		"history cut off":              {func(r *rig) { r.sim.RotateTasks("pve1") }, "does not reach back"},
		"other tokens' tasks hidden":   {func(r *rig) { r.sim.Grant("/nodes", "svc@pve", "NoAccess", true) }, ""},
		"the node is down":             {func(r *rig) { r.node("pve1", pvesim.NodeControl{Up: new(false)}) }, ""},
		"the node does not answer":     {func(r *rig) { r.fault(pvesim.Fault{Kind: pvesim.FaultAnswer, Path: "/nodes/pve1/tasks", Status: 596}) }, ""},
		"the node's clock is not read": {func(r *rig) { r.fault(pvesim.Fault{Kind: pvesim.FaultAnswer, Path: "/nodes/pve1/time", Status: 596}) }, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newAttemptRig(t)
			r.guest(pvesim.QEMU)
			_, l := r.attempt(1)
			c.do(r)
			s, err := r.exec.FindTasks(t.Context(), l)
			if c.reason == "" {
				if err == nil {
					t.Errorf("got %+v, want an error", s)
				}
				return
			}
			if err != nil || s.Complete || len(s.UPIDs) != 0 || !strings.Contains(strings.Join(s.Reasons, "; "), c.reason) {
				t.Errorf("got %+v, %v, want nothing, not complete, and to be told %q", s, err, c.reason)
			}
		})
	}
}

// With a node's tasks out of reach one that the log shows is still found.
func TestFindTasksByTheLogAlone(t *testing.T) {
	r := newAttemptRig(t)
	r.seeLog()
	r.guest(pvesim.QEMU)
	a, l := r.attempt(1)
	upid, err := r.exec.Launch(t.Context(), a, l)
	if err != nil {
		t.Fatal(err)
	}
	r.fault(pvesim.Fault{Kind: pvesim.FaultAnswer, Path: "/nodes/pve1/tasks", Status: 596})
	s, err := r.exec.FindTasks(t.Context(), l)
	if err != nil || s.Complete || !slices.Equal(s.UPIDs, []string{upid}) {
		t.Errorf("got %+v, %v, want %s, not complete", s, err, upid)
	}
}

// Of a shared token's tasks only those that began after the announcement can be
// the attempt's; which of them is, is not known.
func TestFindTasksOfASharedToken(t *testing.T) {
	r := newRig(t)
	r.oldTask("pve1")
	destroy := func() string {
		r.guest(pvesim.QEMU)
		l := r.announce(op.QEMU, op.Params{})
		upid, err := launch(t.Context(), r.exec, l)
		if err != nil {
			t.Fatal(err)
		}
		return upid
	}
	r.node("pve1", pvesim.NodeControl{Skew: new(-10 * time.Minute)})
	destroy()
	r.node("pve1", pvesim.NodeControl{Skew: new(time.Duration(0))})
	r.guest(pvesim.QEMU)
	l := r.announce(op.QEMU, op.Params{})
	l.At = time.Now()
	if s := r.tasks(l); len(s.UPIDs) != 0 || s.Exact || !s.Complete {
		t.Errorf("before: got %+v, want none, complete and not exact", s)
	}
	r.sim.DestroyGuest(107)
	want := []string{destroy(), destroy()}
	slices.Sort(want)
	s := r.tasks(l)
	if slices.Sort(s.UPIDs); !slices.Equal(s.UPIDs, want) {
		t.Errorf("after: got %q, want %q", s.UPIDs, want)
	}
}

// A long history is read page by page until it reaches back far enough. The order
// of the archive is that of the ends: an old task that ran for long is at its top.
func TestTaskHistoryIsReadByPages(t *testing.T) {
	const from = 2_000_000_000
	cred := token
	l := launching(vm105, "")
	l.Credential, l.At = cred, time.Now()
	rowAt := func(start, end int64) string {
		return fmt.Sprintf(`{"upid":"UPID:pve1:0000ABCD:00ABCDEF:%08X:vncproxy:105:root@pam:","starttime":%d,"endtime":%d,"status":"OK"}`, start, start, end)
	}
	mine := fmt.Sprintf(`{"upid":"UPID:pve1:0000ABCD:00ABCDEF:%08X:qmdestroy:105:%s:","endtime":%d,"status":"OK"}`, from+5, cred, from+9)
	page := func(n int, rows ...string) string {
		for len(rows) < n {
			rows = append(rows, rowAt(from+100, from+100))
		}
		return "[" + strings.Join(rows, ",") + "]"
	}
	const list = "GET /nodes/pve1/tasks?limit=500&source=all&start="
	cases := map[string]struct {
		pages    []string
		found    int
		complete bool
	}{
		"the second page reaches back":         {[]string{page(500), page(3, mine, rowAt(from-500, from-400))}, 1, true},
		"it ends without":                      {[]string{page(500), page(3, mine)}, 1, false},
		"long tasks that began before":         {[]string{page(2, rowAt(from-9000, from+50))}, 0, false},
		"what is behind is not asked for":      {[]string{page(500, mine, rowAt(from-500, from-400))}, 1, true},
		"an exact number of pages":             {[]string{page(500), page(500), "[]"}, 0, false},
		"the same row twice while pages shift": {[]string{page(500, mine), page(2, mine, rowAt(from-500, from-400))}, 1, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			ahead := int64(from) - time.Now().Unix()
			r := newRawHost(t).on("GET /nodes/pve1/time", data(fmt.Sprintf(`{"time":%d}`, time.Now().Unix()+ahead+15))).
				on("GET /cluster/log?max=5000", data("[]"))
			for i, p := range c.pages {
				r.on(fmt.Sprint(list, 500*i), data(p))
			}
			s, err := r.host().Executors()[op.GuestDestroy].FindTasks(t.Context(), l)
			if err != nil || len(s.UPIDs) != c.found || s.Complete != c.complete {
				t.Errorf("got %+v, %v, want %d tasks, complete: %v", s, err, c.found, c.complete)
			}
		})
	}
}

// A node's clock is set between the launch and the search, and its other tasks,
// dated by both, stand before the attempt's: they don't make a search complete
// that has not got there.
func TestFindTasksAfterAStepOfTheClock(t *testing.T) {
	for name, step := range map[string]time.Duration{"forth": 40 * time.Minute, "back": -40 * time.Minute, "not at all": 0} {
		for ran, fault := range map[string]pvesim.Fault{
			"ran":       {Kind: pvesim.FaultCut, Method: "DELETE", After: true},
			"never ran": {Kind: pvesim.FaultCut, Method: "DELETE"},
		} {
			t.Run(name+", "+ran, func(t *testing.T) {
				t.Parallel()
				r := newAttemptRig(t)
				r.guest(pvesim.QEMU)
				a, l := r.attempt(1)
				r.fault(fault)
				r.fault(pvesim.Fault{Kind: pvesim.FaultTaskFail, VMID: 107, Stage: pvesim.StageCheck, Text: "VM is locked (backup)"})
				_, err := r.exec.Launch(t.Context(), a, l)
				wantKind(t, err, "ambiguous")
				for range 3 {
					r.someTask("pve1")
				}
				r.node("pve1", pvesim.NodeControl{Skew: &step})
				r.someTask("pve1")
				s := r.tasks(l)
				if !s.Exact || !s.Complete || (len(s.UPIDs) == 1) != (ran == "ran") {
					t.Errorf("got %+v, want exact, complete and found: %v", s, ran == "ran")
				}
			})
		}
	}
}

// someTask is somebody else's on a node.
func (r *rig) someTask(node string) {
	r.t.Helper()
	got := r.sim.Do(r.t.Context(), pvesim.Request{
		Node: node, Method: "POST", Path: "/api2/json/nodes/" + node + "/qemu/900/status/stop",
		Header: map[string][]string{"Authorization": {"PVEAPIToken=root@pam!old=" + secret}},
	})
	if got.Status != 200 {
		r.t.Fatalf("make a task: got %d %s", got.Status, got.Reason)
	}
}

// How the clock stood at the launch is told by the attempt's token. Without that
// nothing found proves nothing.
func TestFindTasksWithoutTheTokensWord(t *testing.T) {
	for name, do := range map[string]func(r *rig, credential string){
		"not readable": func(r *rig, _ string) {
			r.fault(pvesim.Fault{Kind: pvesim.FaultAnswer, Method: "GET", Path: tokenPath, Status: 596, Times: -1})
		},
		"not there": func(r *rig, credential string) {
			r.sim.Do(r.t.Context(), pvesim.Request{
				Method: "DELETE", Path: "/api2/json/access/users/" + serviceUser + "/token/" + strings.TrimPrefix(credential, serviceUser+"!"),
				Header: map[string][]string{"Authorization": {"PVEAPIToken=root@pam!old=" + secret}},
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newAttemptRig(t)
			r.guest(pvesim.QEMU)
			a, l := r.attempt(1)
			r.fault(pvesim.Fault{Kind: pvesim.FaultCut, Method: "DELETE"})
			_, err := r.exec.Launch(t.Context(), a, l)
			wantKind(t, err, "ambiguous")
			do(r, l.Credential)
			s := r.tasks(l)
			if s.Complete || len(s.UPIDs) != 0 || !strings.Contains(strings.Join(s.Reasons, "; "), "at the launch can't be told") {
				t.Errorf("got %+v, want nothing, not complete, and to be told why", s)
			}
		})
	}
}
