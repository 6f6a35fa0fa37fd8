package proxmox_test

import (
	"testing"
	"time"

	"writ/adapters/pvesim"
	"writ/domain/engine"
	"writ/domain/op"
)

var kinds = []pvesim.Kind{pvesim.QEMU, pvesim.LXC}

func guestIntent(class op.Class, kind pvesim.Kind) op.Intent {
	return op.Intent{Class: class, Target: target(op.GuestType(kind), 107)}
}

func running(g *pvesim.Guest) { g.Running = true }

// powered is how a guest is to be before an op of a power class.
func powered(class op.Class) func(*pvesim.Guest) {
	return func(g *pvesim.Guest) { g.Running = class != op.GuestStart }
}

// The host says no, in its answer or as the end of a task, before the guest is
// touched: the launch is proven to have done nothing, and so ends the op.
func TestPowerRefusals(t *testing.T) {
	off := false
	locked := func(r *classRig) { r.sim.EditGuest(107, map[string]string{"lock": "backup"}) }
	power := func(on bool) func(*classRig) { return func(r *classRig) { r.sim.PowerGuest(107, on) } }
	moved := func(r *classRig) { _ = r.sim.MoveGuest(107, "pve2") }
	template := func(r *classRig) { r.sim.EditGuest(107, map[string]string{"template": "1"}) }
	noQuorum := func(r *classRig) { r.node("pve1", pvesim.NodeControl{Quorate: &off}) }
	busy := func(path string) func(*classRig) {
		return func(r *classRig) {
			r.fault(pvesim.Fault{Kind: pvesim.FaultTaskFail, Stage: pvesim.StageLock, Text: "can't lock file '" + path + "' - got timeout"})
		}
	}
	const sync, task = "definite", "none"
	cases := []struct {
		name   string
		kind   pvesim.Kind
		class  op.Class
		before func(*classRig)
		where  string
		text   string
	}{
		{"machine locked", pvesim.QEMU, op.GuestStop, locked, task, "VM is locked (backup)"},
		{"machine locked", pvesim.QEMU, op.GuestShutdown, locked, task, "VM is locked (backup)"},
		{"machine locked", pvesim.QEMU, op.GuestReboot, locked, task, "VM is locked (backup)"},
		{"machine locked", pvesim.QEMU, op.GuestStart, locked, task, "VM is locked (backup)"},
		{"container locked", pvesim.LXC, op.GuestStop, locked, task, "CT is locked (backup)"},
		{"container locked", pvesim.LXC, op.GuestStart, locked, task, "CT is locked (backup)"},
		{"machine started by another hand", pvesim.QEMU, op.GuestStart, power(true), task, "VM 107 already running"},
		{"container started by another hand", pvesim.LXC, op.GuestStart, power(true), sync, "CT 107 already running"},
		{"machine stopped by another hand", pvesim.QEMU, op.GuestReboot, power(false), sync, "VM 107 not running"},
		{"container stopped by another hand", pvesim.LXC, op.GuestStop, power(false), sync, "CT 107 not running"},
		{"container stopped by another hand", pvesim.LXC, op.GuestShutdown, power(false), sync, "CT 107 not running"},
		{"container stopped by another hand", pvesim.LXC, op.GuestReboot, power(false), sync, "VM 107 not running"},
		{"machine migrated", pvesim.QEMU, op.GuestStop, moved, task, "unable to find configuration file for VM 107 on node 'pve1'"},
		{"machine migrated", pvesim.QEMU, op.GuestReboot, moved, sync, "unable to find configuration file for VM 107 on node 'pve1'"},
		{"machine migrated", pvesim.QEMU, op.GuestStart, moved, task, "Configuration file 'nodes/pve1/qemu-server/107.conf' does not exist"},
		{"container migrated", pvesim.LXC, op.GuestStop, moved, sync, "CT 107 not running"},
		{"container migrated", pvesim.LXC, op.GuestStart, moved, task, "Configuration file 'nodes/pve1/lxc/107.conf' does not exist"},
		{"machine made a template", pvesim.QEMU, op.GuestStart, template, task, "you can't start a vm if it's a template"},
		{"container made a template", pvesim.LXC, op.GuestStart, template, task, "you can't start a CT if it's a template"},
		{"machine's node without quorum", pvesim.QEMU, op.GuestStart, noQuorum, sync, "cluster not ready - no quorum?"},
		{"container's node without quorum", pvesim.LXC, op.GuestStart, noQuorum, sync, "cluster not ready - no quorum?"},
		{"machine's lock file held", pvesim.QEMU, op.GuestStop, busy("/var/lock/qemu-server/lock-107.conf"), task, "got timeout"},
		{"container's lock file held", pvesim.LXC, op.GuestStart, busy("/run/lock/lxc/pve-config-107.lock"), task, "got timeout"},
	}
	for _, c := range cases {
		t.Run(string(c.class)+" of a "+c.name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, r *classRig) {
				r.guest(c.kind, powered(c.class))
				o := r.order(guestIntent(c.class, c.kind))
				e := o.playAfter(func() { c.before(r) })
				e.want(t, c.where, op.EffectNone, c.text)
				if len(o.kinds()) != 0 {
					t.Errorf("effects: got %v, want none", o.kinds())
				}
			})
		})
	}
}

// What the guest is afterwards, and whether that is the op's doing.
func TestPowerFindings(t *testing.T) {
	fails := func(stage, text string) func(*classRig) {
		return func(r *classRig) {
			r.fault(pvesim.Fault{Kind: pvesim.FaultTaskFail, VMID: 107, Stage: stage, Text: text})
		}
	}
	nothing := func(*classRig) {}
	lost := func(r *classRig) {
		r.fault(pvesim.Fault{Kind: pvesim.FaultCut, Method: "POST", Path: "/nodes/*/*/107/**"})
	}
	forget := func(r *classRig) { r.fault(pvesim.Fault{Kind: pvesim.FaultTaskForget, VMID: 107}) }
	stop := func(r *classRig) { r.sim.PowerGuest(107, false) }
	start := func(r *classRig) { r.sim.PowerGuest(107, true) }
	restart := func(r *classRig) { stop(r); start(r) }
	migrate := func(r *classRig) { _ = r.sim.MoveGuest(107, "pve2"); restart(r) } // a migrated machine counts anew
	both := func(f ...func(*classRig)) func(*classRig) {
		return func(r *classRig) {
			for _, do := range f {
				do(r)
			}
		}
	}
	const deaf, stubborn = "VM quit/powerdown failed - got timeout", "container did not stop"
	cases := []struct {
		name   string
		kind   pvesim.Kind
		class  op.Class
		before func(*classRig) // what is to go wrong
		after  func(*classRig) // between the task's end and the look
		want   op.Effect
		says   string
	}{
		{"stopped", pvesim.QEMU, op.GuestStop, nothing, nothing, op.EffectDone, "the guest is stopped"},
		{"stopped, and started by another hand since", pvesim.QEMU, op.GuestStop, nothing, start, op.EffectDone, "somebody has started it again since"},
		{"said to be stopped, but is the same run", pvesim.QEMU, op.GuestStop, fails(pvesim.StageAct, "OK"), nothing, op.EffectUnknown, "it was not stopped"},
		{"refuses to die", pvesim.QEMU, op.GuestStop, fails(pvesim.StageAct, "VM still running - failed to terminate process"), nothing, op.EffectPartial, "it may still do so"},
		{"refuses to die, then stopped by another hand", pvesim.QEMU, op.GuestStop, lost, stop, op.EffectUnknown, "can't be told by whom"},
		{"request lost, restarted by another hand", pvesim.QEMU, op.GuestStop, lost, restart, op.EffectUnknown, "can't be told by whom"},
		{"request lost, migrated", pvesim.QEMU, op.GuestStop, lost, migrate, op.EffectUnknown, "can't be told by that"},
		{"task forgotten", pvesim.QEMU, op.GuestStop, forget, nothing, op.EffectUnknown, "can't be told by whom"},
		{"task forgotten", pvesim.LXC, op.GuestStart, forget, nothing, op.EffectUnknown, "can't be told who started it"},
		{"deaf", pvesim.QEMU, op.GuestShutdown, fails(pvesim.StageAct, deaf), nothing, op.EffectPartial, "it may still do so"},
		{"deaf at first", pvesim.QEMU, op.GuestShutdown, fails(pvesim.StageAct, deaf), stop, op.EffectUnknown, "can't be told by whom"},
		{"deaf", pvesim.LXC, op.GuestShutdown, fails(pvesim.StageAct, stubborn), nothing, op.EffectPartial, "it may still do so"},
		{"deaf", pvesim.QEMU, op.GuestReboot, fails(pvesim.StageStop, deaf), nothing, op.EffectPartial, "it may still do so"},
		{"deaf at first, migrated meanwhile", pvesim.QEMU, op.GuestReboot, fails(pvesim.StageStop, deaf), migrate, op.EffectUnknown, "can't be told by that"},
		{"down, and does not come up again", pvesim.LXC, op.GuestReboot, fails(pvesim.StageUp, "startup for container '107' failed"), nothing, op.EffectPartial, "start it"},
		{"down, and its start fails", pvesim.QEMU, op.GuestReboot, func(r *classRig) {
			r.fault(pvesim.Fault{Kind: pvesim.FaultTaskFail, TaskType: "qmstart", Stage: pvesim.StageAct, Text: "start failed: QEMU exited with code 1"})
		}, nothing, op.EffectPartial, "start it"},
		{"restarted by another hand, request lost", pvesim.LXC, op.GuestReboot, lost, restart, op.EffectUnknown, "can't be told by whom"},
		{"does not start", pvesim.QEMU, op.GuestStart, fails(pvesim.StageAct, "start failed: QEMU exited with code 1"), nothing, op.EffectNone, "as it was before"},
		{"started, and gone down again", pvesim.LXC, op.GuestStart, nothing, stop, op.EffectDone, "stopped again since"},
		{"started by another hand, request lost", pvesim.QEMU, op.GuestStart, lost, start, op.EffectUnknown, "can't be told who started it"},
		{"request lost", pvesim.QEMU, op.GuestStart, lost, nothing, op.EffectUnknown, "as it was before"},
		{"started, with warnings", pvesim.QEMU, op.GuestStart, fails(pvesim.StageEnd, "WARNINGS: 1"), nothing, op.EffectDone, "running"},
		{"said to have failed, but runs", pvesim.QEMU, op.GuestStart, fails(pvesim.StageEnd, "start failed: QEMU exited with code 1"), nothing, op.EffectUnknown, "can't be told who started it"},
		{"request lost, put under HA", pvesim.QEMU, op.GuestStop, both(lost, func(r *classRig) { r.sim.SetHA(107, "started") }), nothing, op.EffectUnknown, "under HA"},
		{"passed on to HA", pvesim.QEMU, op.GuestStop, func(r *classRig) { r.sim.SetHA(107, "started") }, nothing, op.EffectUnknown, "under HA"},
	}
	for _, c := range cases {
		t.Run(string(c.class)+" of a guest that is "+c.name+" ("+string(c.kind)+")", func(t *testing.T) {
			inBothModes(t, func(t *testing.T, r *classRig) {
				r.host.HurryFence(50_000_000)
				r.guest(c.kind, powered(c.class))
				o := r.order(guestIntent(c.class, c.kind))
				c.before(r)
				upid, err := o.x.Launch(t.Context(), o.a, o.l)
				c.after(r)
				e := o.settle(upid, err)
				e.want(t, launchKind(err), c.want, c.says)
			})
		})
	}
}

// launchKind is for tests that are about what comes after.
func launchKind(err error) string {
	switch {
	case err == nil:
		return "none"
	case engine.IsDefinite(err):
		return "definite"
	}
	return "ambiguous"
}

// The count of a guest's seconds can't tell everything: not of one that had only
// just been started, nor if our own clock was set back since.
func TestPowerDoubtfulUptime(t *testing.T) {
	for name, change := range map[string]func(r *classRig, o *order){
		"just started": func(r *classRig, o *order) {
			r.sim.PowerGuest(107, false)
			r.sim.PowerGuest(107, true)
			seen, err := o.x.Observe(r.t.Context(), o.a)
			r.add(err)
			o.announce(seen)
		},
		"clock set back": func(_ *classRig, o *order) { o.l.At = o.l.At.Add(time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newClassRig(t, false)
			r.guest(pvesim.QEMU, running)
			o := r.order(guestIntent(op.GuestStop, pvesim.QEMU))
			change(r, o)
			f, err := o.x.Probe(t.Context(), o.l, "", nil)
			if err != nil {
				t.Fatal(err)
			}
			wantEffect(t, f, op.EffectUnknown, 0)
		})
	}
}

// A machine's reboot has ended when it is down: it is started again by another task,
// a little later, for which the look waits.
func TestRebootThatIsStartedALittleLater(t *testing.T) {
	inBothModes(t, func(t *testing.T, r *classRig) {
		r.guest(pvesim.QEMU, running)
		o := r.order(guestIntent(op.GuestReboot, pvesim.QEMU))
		start := r.fault(pvesim.Fault{Kind: pvesim.FaultTaskHold, TaskType: "qmstart", Stage: pvesim.StageStart})
		upid, err := o.x.Launch(t.Context(), o.a, o.l)
		if err != nil {
			t.Fatal(err)
		}
		task := r.task(upid)
		look := r.hold("GET", "/nodes/pve1/qemu/107/status/current", "", pvesim.PointReply)
		type answer struct {
			finding engine.Finding
			err     error
		}
		answered := make(chan answer, 1)
		go func() {
			f, err := o.x.Probe(t.Context(), o.l, task.ExitStatus, task.Log)
			answered <- answer{f, err}
		}()
		select {
		case <-look.Reached(): // and it was down
		case a := <-answered:
			t.Fatalf("the guest was not looked at: %+v", a)
		}
		start.Release()
		look.Release()
		a := <-answered
		if a.err != nil {
			t.Fatal(a.err)
		}
		wantEffect(t, a.finding, op.EffectDone, 0)
	})
}
