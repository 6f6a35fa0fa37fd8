package pvesim_test

import (
	"fmt"
	"testing"
	"time"

	"writ/adapters/pvesim"
)

const (
	vm105 = "/nodes/pve1/qemu/105/status/"
	ct201 = "/nodes/pve1/lxc/201/status/"
)

func (r *rig) ct(vmid int, change ...func(*pvesim.Guest)) {
	r.t.Helper()
	g := pvesim.Guest{Kind: pvesim.LXC, VMID: vmid, Name: "ct", Disks: []string{"local-lvm:1"}}
	for _, f := range change {
		f(&g)
	}
	if _, err := r.sim.AddGuest(g); err != nil {
		r.t.Fatal(err)
	}
}

func running(g *pvesim.Guest)  { g.Running = true }
func deaf(g *pvesim.Guest)     { g.Running, g.Deaf = true, true }
func template(g *pvesim.Guest) { g.Template = true }

func locked(lock string) func(*pvesim.Guest) {
	return func(g *pvesim.Guest) { g.Lock = lock }
}

// TestPower goes through what fails in the reply and what fails in the task.
func TestPower(t *testing.T) {
	cases := []struct {
		name, path, body string
		change           []func(*pvesim.Guest)
		sync, exit       string
		started, stopped int
	}{
		{name: "start", path: vm105 + "start", exit: "OK", started: 1},
		{name: "start a running VM", path: vm105 + "start", change: []func(*pvesim.Guest){running}, exit: "VM 105 already running"},
		{name: "start a running VM under backup", path: vm105 + "start", change: []func(*pvesim.Guest){running, locked("backup")}, exit: "OK"},
		{name: "start a suspended VM", path: vm105 + "start", change: []func(*pvesim.Guest){locked("suspended")}, exit: "OK", started: 1},
		{name: "start a locked VM", path: vm105 + "start", change: []func(*pvesim.Guest){locked("rollback")}, exit: "VM is locked (rollback)"},
		{name: "start a template", path: vm105 + "start", change: []func(*pvesim.Guest){template}, exit: "you can't start a vm if it's a template"},
		{name: "start as on a migration", path: vm105 + "start", body: "migratedfrom=pve2", sync: "Parameter verification failed."},
		{name: "stop", path: vm105 + "stop", change: []func(*pvesim.Guest){deaf}, exit: "OK", stopped: 1},
		{name: "stop a stopped, locked VM", path: vm105 + "stop", change: []func(*pvesim.Guest){locked("backup")}, exit: "OK"},
		{name: "stop a locked VM", path: vm105 + "stop", change: []func(*pvesim.Guest){running, locked("backup")}, exit: "VM is locked (backup)"},
		{name: "stop with keepActive", path: vm105 + "stop", body: "keepActive=1", sync: "Parameter verification failed."},
		{name: "shutdown", path: vm105 + "shutdown", change: []func(*pvesim.Guest){running}, exit: "OK", stopped: 1},
		{name: "shutdown not obeyed", path: vm105 + "shutdown", body: "timeout=5", change: []func(*pvesim.Guest){deaf}, exit: "VM quit/powerdown failed - got timeout"},
		{name: "shutdown with force", path: vm105 + "shutdown", body: "timeout=5&forceStop=1", change: []func(*pvesim.Guest){deaf}, exit: "OK", stopped: 1},
		{name: "reboot", path: vm105 + "reboot", change: []func(*pvesim.Guest){running}, exit: "OK", stopped: 1, started: 1},
		{name: "reboot a stopped VM", path: vm105 + "reboot", sync: "VM 105 not running"},
		{name: "reboot not obeyed", path: vm105 + "reboot", change: []func(*pvesim.Guest){deaf}, exit: "VM quit/powerdown failed - got timeout"},
		{name: "reboot a missing VM", path: "/nodes/pve1/qemu/999/status/reboot", sync: "unable to find configuration file for VM 999 on node 'pve1'"},
		{name: "start a container", path: ct201 + "start", exit: "OK", started: 1},
		{name: "start a mounted container", path: ct201 + "start", change: []func(*pvesim.Guest){locked("mounted")}, exit: "OK", started: 1},
		{name: "start a container template", path: ct201 + "start", change: []func(*pvesim.Guest){template}, exit: "you can't start a CT if it's a template"},
		{name: "stop a locked container", path: ct201 + "stop", change: []func(*pvesim.Guest){running, locked("backup")}, exit: "CT is locked (backup)"},
		{name: "shutdown of a container not obeyed", path: ct201 + "shutdown", body: "timeout=3", change: []func(*pvesim.Guest){deaf}, exit: "container did not stop"},
		{name: "shutdown of a container with force", path: ct201 + "shutdown", body: "timeout=3&forceStop=1", change: []func(*pvesim.Guest){deaf}, exit: "OK", stopped: 1},
		{name: "shutdown of a container with a VM's parameter", path: ct201 + "shutdown", body: "keepActive=0", change: []func(*pvesim.Guest){running}, sync: "Parameter verification failed."},
		{name: "reboot a locked container", path: ct201 + "reboot", change: []func(*pvesim.Guest){deaf, locked("backup")}, exit: "OK", stopped: 1, started: 1},
		{name: "reboot a stopped container", path: ct201 + "reboot", sync: "VM 201 not running"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, pvesim.Pace{})
			r.vm(105, 1, c.change...)
			r.ct(201, c.change...)
			rep := r.call("POST", c.path, admin, c.body)
			if c.sync != "" {
				check(t, "reply", rep.Reason, c.sync)
				return
			}
			upid, _ := rep.Data.(string)
			check(t, "exit", r.end(upid), c.exit)
			check(t, "started", r.count(pvesim.GuestStarted), c.started)
			check(t, "stopped", r.count(pvesim.GuestStopped), c.stopped)
		})
	}
}

func TestStartWithoutItsDisk(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	g := r.vm(105, 1)
	r.sim.DropVolume("pve1", g.Disks[0])
	check(t, "start", r.run("POST", vm105+"start", ""), "volume '"+g.Disks[0]+"' does not exist")
	r.node("pve1", pvesim.NodeControl{Quorate: new(false)})
	check(t, "start without quorum", r.reason("POST", vm105+"start", ""), "cluster not ready - no quorum?")
	check(t, "stop without quorum", r.run("POST", vm105+"stop", ""), "OK")
}

// A stop may overrule the shutdown that holds the lock it needs.
func TestOverruleShutdown(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.vm(105, 1, deaf)
	first := r.upid("POST", vm105+"shutdown", admin)
	check(t, "plain stop", r.run("POST", vm105+"stop", ""), "can't lock file '/var/lock/qemu-server/lock-105.conf' - got timeout")
	check(t, "stop that overrules", r.run("POST", vm105+"stop", "overrule-shutdown=1"), "OK")
	check(t, "the shutdown", r.exit(first), "received interrupt")
	check(t, "stopped", r.guest(105).Running, false)
}

// The reboot of a VM ends when it is down; root@pam starts it again.
func TestRebootStartsInAnotherName(t *testing.T) {
	r := newRig(t, pvesim.Pace{Power: time.Second})
	r.vm(105, 1, running)
	upid := r.upid("POST", vm105+"reboot", admin)
	check(t, "reboot", r.end(upid), "OK")
	for r.clock.Step() {
	}
	check(t, "runs", r.guest(105).Running, true)
	last := r.sim.Effects()[len(r.sim.Effects())-1]
	check(t, "started by", last.Auth, "root@pam")
	check(t, "in another task", last.UPID != upid, true)
}

func TestPowerStages(t *testing.T) {
	for _, c := range []struct{ path, stage, typ string }{
		{vm105 + "stop", "act", "qmstop"},
		{vm105 + "shutdown", "act", "qmshutdown"},
		{vm105 + "reboot", "stop", "qmreboot"},
		{vm105 + "stop", "lock", "qmstop"},
	} {
		t.Run(c.typ+" before "+c.stage, func(t *testing.T) {
			r := newRig(t, pvesim.Pace{})
			r.vm(105, 1, running)
			r.inject(pvesim.Fault{Kind: pvesim.FaultTaskKill, TaskType: c.typ, Stage: c.stage, VMID: 105})
			check(t, "exit", r.run("POST", c.path, ""), "unexpected status")
			check(t, "effects", len(r.sim.Effects()), 0)
			check(t, "lock is free again", r.run("POST", vm105+"stop", ""), "OK")
		})
	}
}

// Under HA the caller's task only asks; what follows comes later and from
// root@pam.
func TestPowerUnderHA(t *testing.T) {
	r := newRig(t, pvesim.Pace{HA: 10 * time.Second})
	r.vm(105, 1, deaf, func(g *pvesim.Guest) { g.HA = "started" })
	upid := r.upid("POST", vm105+"stop", admin)
	check(t, "request", r.exit(upid), "OK")
	check(t, "still runs", r.guest(105).Running, true)
	m, _ := r.call("GET", "/cluster/ha/resources/vm:105", admin, "").Data.(map[string]any)
	check(t, "requested state", m["state"], any("stopped"))
	r.clock.Advance(10 * time.Second)
	check(t, "stopped", r.guest(105).Running, false)
	check(t, "stops", r.count(pvesim.GuestStopped), 1)
	check(t, "by", r.sim.Effects()[0].Auth, "root@pam")
	tasks, _ := r.call("GET", "/nodes/pve1/tasks?vmid=105", admin, "").Data.([]any)
	check(t, "tasks", fmt.Sprint(types(tasks)), "[qmstop hastop]")

	check(t, "start", r.run("POST", vm105+"start", ""), "OK")
	r.clock.Advance(10 * time.Second)
	check(t, "runs", r.guest(105).Running, true)

	// A shutdown ends in force when its time is over.
	check(t, "shutdown", r.run("POST", vm105+"shutdown", "timeout=30"), "OK")
	r.clock.Advance(39 * time.Second)
	check(t, "runs as long as it may", r.guest(105).Running, true)
	r.clock.Advance(time.Second)
	check(t, "and then not", r.guest(105).Running, false)

	rep := r.call("POST", vm105+"stop", admin, "overrule-shutdown=1")
	check(t, "overrule", rep.Errors["overrule-shutdown"], "Not applicable for HA resources.")
	// The request outlives the worker that wrote it.
	r.sim.SetHA(105, "ignored")
	check(t, "ignored is not managed", r.run("POST", vm105+"start", ""), "OK")
	check(t, "runs at once", r.guest(105).Running, true)
}

func types(rows []any) []string {
	var out []string
	for _, row := range rows {
		m, _ := row.(map[string]any)
		s, _ := m["type"].(string)
		out = append(out, s)
	}
	return out
}

func TestHAResources(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.vm(105, 1, running)
	r.ct(201)
	const all = "/cluster/ha/resources"
	check(t, "unknown guest", r.reason("POST", all, "sid=vm:999"), "resource 'vm:999' does not exist in cluster")
	check(t, "bare number of nobody", r.reason("POST", all, "sid=999"), "unable to detect SID from VMID - VM/CT 999 does not exist")
	check(t, "other kind", r.reason("POST", all, "sid=vm:201"), "resource 'vm:201' - guest with ID 201 is not a VM")
	check(t, "no sid", r.call("POST", all, admin, "sid=:").Errors["sid"], "invalid format - value does not look like a valid ha resource id\n")
	check(t, "add by number", r.call("POST", all, admin, "sid=201&state=stopped&comment=x").Status, 200)
	check(t, "add", r.call("POST", all, admin, "sid=vm:105&max_restart=2").Status, 200)
	check(t, "add again", r.reason("POST", all, "sid=vm:105"), "create resource failed: resource ID 'vm:105' already defined")
	rows, _ := r.call("GET", all+"?type=ct", admin, "").Data.([]any)
	check(t, "containers", len(rows), 1)
	m, _ := r.call("GET", all+"/vm:105", admin, "").Data.(map[string]any)
	check(t, "a number", m["max_restart"], any(2.0))
	digest, _ := m["digest"].(string)
	check(t, "stop by request", r.call("PUT", all+"/vm:105", admin, "state=stopped&digest="+digest).Status, 200)
	check(t, "is carried out", r.guest(105).Running, false)
	check(t, "stale digest", r.reason("PUT", all+"/vm:105", "state=started&digest="+digest),
		"update resources config failed: detected modified configuration - file changed by other user? Try again.")
	check(t, "destroy", r.reason("DELETE", "/nodes/pve1/qemu/105", ""), "unable to remove VM 105 - used in HA resources and purge parameter not set.")
	status, _ := r.call("GET", "/cluster/ha/status/current", admin, "").Data.([]any)
	check(t, "status rows", len(status), 3)
	check(t, "remove", r.call("DELETE", all+"/vm:105", admin, "").Status, 200)
	check(t, "remove again", r.reason("DELETE", all+"/vm:105", ""), "cannot delete service 'vm:105', not HA managed!")
	check(t, "rights", r.call("GET", all, "svc@pve!none", "").Status, 401)
	r.node("pve1", pvesim.NodeControl{Quorate: new(false)})
	check(t, "without quorum", r.reason("POST", all, "sid=vm:105"), "cluster not ready - no quorum?")
}

// A guest that should run does not stay down, whoever stopped it.
func TestHARestarts(t *testing.T) {
	r := newRig(t, pvesim.Pace{HA: 10 * time.Second})
	r.vm(105, 1, running, func(g *pvesim.Guest) { g.HA = "started" })
	r.sim.AddSnapshot(105, "s1", "")
	check(t, "rollback", r.run("POST", snap105+"/s1/rollback", ""), "OK")
	check(t, "stopped by it", r.guest(105).Running, false)
	r.clock.Advance(10 * time.Second)
	check(t, "and up again", r.guest(105).Running, true)
	r.sim.PowerGuest(105, false)
	r.clock.Advance(10 * time.Second)
	check(t, "up again after a crash", r.guest(105).Running, true)
	check(t, "starts on record", r.count(pvesim.GuestStarted), 2)
}

func TestHAMoves(t *testing.T) {
	r := newRig(t, pvesim.Pace{HA: 10 * time.Second})
	r.vm(105, 1, running, func(g *pvesim.Guest) { g.HA = "started" })
	const one = "/cluster/ha/resources/vm:105"
	check(t, "not managed", r.reason("POST", "/cluster/ha/resources/vm:106/migrate", "node=pve2"), "resource 'vm:106' is not HA managed")
	check(t, "migrate", r.call("POST", one+"/migrate", admin, "node=pve2").Status, 200)
	check(t, "not yet", r.guest(105).Node, "pve1")
	r.clock.Advance(10 * time.Second)
	check(t, "moved", r.guest(105).Node, "pve2")
	check(t, "running all the time", r.count(pvesim.GuestStopped), 0)
	check(t, "the old path", r.reason("DELETE", "/nodes/pve1/qemu/105", ""), "Configuration file 'nodes/pve1/qemu-server/105.conf' does not exist")
	check(t, "relocate", r.call("POST", one+"/relocate", admin, "node=pve1").Status, 200)
	r.clock.Advance(20 * time.Second)
	check(t, "moved back", r.guest(105).Node, "pve1")
	check(t, "stopped for it", r.count(pvesim.GuestStopped), 1)
	check(t, "and started", r.guest(105).Running, true)
}
