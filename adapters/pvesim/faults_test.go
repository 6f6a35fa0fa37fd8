package pvesim_test

import (
	"strings"
	"testing"
	"time"

	"writ/adapters/pvesim"
)

// Each fault on a DELETE, what the caller sees, and what happened.
func TestFaultsOnRequests(t *testing.T) {
	destroy := func(f pvesim.Fault) pvesim.Fault {
		f.Method, f.Path = "DELETE", "/nodes/*/qemu/105"
		return f
	}
	cases := map[string]struct {
		fault  pvesim.Fault
		status int // 0: connection cut
		reason string
		body   string
		gone   bool
		sent   bool // a daemon took it up
	}{
		"reply lost":            {pvesim.Fault{Kind: pvesim.FaultCut, After: true}, 0, "", "", true, true},
		"request lost":          {pvesim.Fault{Kind: pvesim.FaultCut}, 0, "", "", false, false},
		"595":                   {pvesim.Fault{Kind: pvesim.FaultAnswer, Status: 595}, 595, "No route to host", "", false, false},
		"596, not executed":     {pvesim.Fault{Kind: pvesim.FaultAnswer, Status: 596}, 596, "Connection timed out", "", false, false},
		"596, executed":         {pvesim.Fault{Kind: pvesim.FaultAnswer, Status: 596, After: true}, 596, "Connection timed out", "", true, true},
		"HTML of a balancer":    {pvesim.Fault{Kind: pvesim.FaultAnswer, Status: 502, After: true}, 502, "Bad Gateway", "<html>", true, true},
		"503 with data null":    {pvesim.Fault{Kind: pvesim.FaultAnswer, Status: 503}, 503, "Service Unavailable", `{"data":null}`, false, false},
		"empty 200":             {pvesim.Fault{Kind: pvesim.FaultAnswer, Status: 200, After: true}, 200, "OK", "", true, true},
		"401":                   {pvesim.Fault{Kind: pvesim.FaultAnswer, Status: 401}, 401, "Authentication failed!", "", false, false},
		"malformed UPID":        {pvesim.Fault{Kind: pvesim.FaultBadUPID, Text: "UPID:pve1:1:2:3:4:5"}, 200, "OK", `{"data":"UPID:pve1:1:2:3:4:5"}`, true, true},
		"not entered as active": {pvesim.Fault{Kind: pvesim.FaultActiveLock}, 500, "can't lock file '/var/log/pve/tasks/.active.lock' - got timeout", `{"data":null`, true, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, pvesim.Pace{})
			r.vm(105, 1)
			in := r.inject(destroy(c.fault))
			got := r.call("DELETE", del105, admin, "")
			check(t, "cut", got.Cut, c.status == 0)
			check(t, "status", got.Status, c.status)
			check(t, "reason", got.Reason, c.reason)
			if !strings.HasPrefix(string(got.Body), c.body) || c.body == "" && len(got.Body) > 0 {
				t.Errorf("body: got %q, want %q", got.Body, c.body)
			}
			_, there := r.sim.Guest(105)
			check(t, "guest there", there, !c.gone)
			check(t, "hits", in.Hits(), 1)
			reqs := r.sim.Requests()
			check(t, "requests", len(reqs), 1)
			check(t, "executed", reqs[0].Executed, c.sent)
			check(t, "spent fault strikes again", r.call("DELETE", del105, admin, "").Status, map[bool]int{true: 500, false: 200}[c.gone])
		})
	}
}

func TestHeldRequestOutlivesItsCaller(t *testing.T) {
	cases := map[string]struct {
		fault  pvesim.Fault
		status int
		before bool // the effect is there while the request is held
	}{
		"caller cut off":           {pvesim.Fault{Point: pvesim.PointQueue, ClientGone: true}, 0, false},
		"caller told 596":          {pvesim.Fault{Point: pvesim.PointFork, Status: 596}, 596, false},
		"reply held, caller gone":  {pvesim.Fault{Point: pvesim.PointReply, ClientGone: true}, 0, true},
		"held where it comes in":   {pvesim.Fault{Point: pvesim.PointArrival, ClientGone: true}, 0, false},
		"reply held, caller waits": {pvesim.Fault{Point: pvesim.PointReply}, 200, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, pvesim.Pace{})
			r.vm(105, 1)
			c.fault.Kind, c.fault.Method = pvesim.FaultHold, "DELETE"
			hold := r.inject(c.fault)
			got := r.send(request("DELETE", del105, admin, ""))
			<-hold.Reached()
			check(t, "destroyed while held", r.count(pvesim.GuestDestroyed) == 1, c.before)
			if waits := c.status == 200; waits {
				check(t, "answered while held", *got == nil, true)
			} else {
				check(t, "status", r.wait(got).Status, c.status)
			}
			hold.Release()
			check(t, "destroyed in the end", r.count(pvesim.GuestDestroyed), 1)
			check(t, "status in the end", r.wait(got).Status, c.status)
		})
	}
}

func TestHeldRequestDiesWithItsHost(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.vm(105, 1, func(g *pvesim.Guest) { g.Node = "pve2" })
	hold := r.inject(pvesim.Fault{Kind: pvesim.FaultHold, Point: pvesim.PointFork})
	got := r.send(request("DELETE", "/nodes/pve2/qemu/105", admin, ""))
	<-hold.Reached()
	r.node("pve2", pvesim.NodeControl{Up: new(false)})
	hold.Release()
	check(t, "status", r.wait(got).Status, 596)
	r.node("pve2", pvesim.NodeControl{Up: new(true)})
	check(t, "destroyed", r.count(pvesim.GuestDestroyed), 0)
}

// A fault that follows a hold in the list still acts once the hold is over.
func TestFaultsAddUp(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.vm(105, 1)
	hold := r.inject(pvesim.Fault{Kind: pvesim.FaultHold, Point: pvesim.PointFork})
	r.inject(pvesim.Fault{Kind: pvesim.FaultCut, After: true})
	got := r.send(request("DELETE", del105, admin, ""))
	<-hold.Reached()
	hold.Release()
	check(t, "cut", r.wait(got).Cut, true)
	check(t, "destroyed", r.count(pvesim.GuestDestroyed), 1)
}

func TestUnlistedTask(t *testing.T) {
	for _, unlisted := range []bool{true, false} {
		r := newRig(t, pvesim.Pace{Volume: time.Minute})
		r.vm(105, 1)
		r.inject(pvesim.Fault{Kind: pvesim.FaultActiveLock, Unlisted: unlisted})
		check(t, "status", r.call("DELETE", del105, admin, "").Status, 500)
		rows := func() int { return r.call("GET", "/nodes/pve1/tasks?source=all&vmid=105", admin, "").Total }
		check(t, "listed while it runs", rows(), 0)
		logged := string(r.call("GET", "/cluster/log?max=10", admin, "").Body)
		check(t, "in the cluster's log", strings.Contains(logged, "starting task UPID:pve1:"), true)
		r.clock.Advance(time.Hour)
		check(t, "destroyed", r.count(pvesim.GuestDestroyed), 1)
		check(t, "listed at the end", rows(), map[bool]int{true: 0, false: 1}[unlisted])
	}
}

func TestHangingDaemonExecutesLater(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.vm(105, 1, func(g *pvesim.Guest) { g.Node = "pve2" })
	r.node("pve2", pvesim.NodeControl{Daemon: pvesim.Hanging})
	began := r.clock.Now()
	got := r.call("DELETE", "/nodes/pve2/qemu/105", admin, "")
	check(t, "status", got.Status, 596)
	check(t, "delay", r.clock.Now().Sub(began), 30*time.Second)
	check(t, "destroyed meanwhile", r.count(pvesim.GuestDestroyed), 0)
	r.node("pve2", pvesim.NodeControl{Daemon: pvesim.Serving})
	check(t, "destroyed when it goes on", r.count(pvesim.GuestDestroyed), 1)

	r.vm(106, 1, func(g *pvesim.Guest) { g.Node = "pve2" })
	r.node("pve2", pvesim.NodeControl{Proxy: pvesim.Silent})
	silent := r.call("DELETE", "/nodes/pve2/qemu/106", admin, "")
	check(t, "dropped packets", silent.Status, 595)
	r.node("pve2", pvesim.NodeControl{Proxy: pvesim.Serving})
	check(t, "destroyed after 595", r.count(pvesim.GuestDestroyed), 1)
}

func TestForgottenAndSlowTasks(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.vm(105, 1)
	r.inject(pvesim.Fault{Kind: pvesim.FaultTaskForget})
	slow := r.inject(pvesim.Fault{Kind: pvesim.FaultTaskDelay, Stage: "free:0", Delay: 5 * time.Second})
	upid := r.upid("DELETE", del105, admin)
	<-slow.Reached()
	r.clock.Advance(4 * time.Second)
	check(t, "slow", r.exit(upid), "running")
	r.clock.Advance(time.Second)
	check(t, "forgotten", r.exit(upid), "no such task")
	check(t, "destroyed", r.count(pvesim.GuestDestroyed), 1)
}

func TestFaultsAreRefused(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	for name, f := range map[string]pvesim.Fault{
		"no kind":             {},
		"unknown kind":        {Kind: "meteor"},
		"answer without code": {Kind: pvesim.FaultAnswer},
		"hold nowhere":        {Kind: pvesim.FaultHold, Point: "moon"},
		"bad pattern":         {Kind: pvesim.FaultVolumeStuck, Volume: "["},
	} {
		if _, err := r.sim.Inject(f); err == nil {
			t.Errorf("%s: got no error, want one", name)
		}
	}
}
