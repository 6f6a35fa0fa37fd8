package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"writ/adapters/pvesim"
	"writ/domain/op"
)

// Several faults at once, drawn by a seed: whatever they are, the record and the
// truth agree once all is well again, and nothing was done twice.
func TestRandomFaults(t *testing.T) {
	seeds := uint64(60)
	if testing.Short() {
		seeds = 15
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { runRandom(t, seed) })
		})
	}
}

func runRandom(t *testing.T, seed uint64) {
	t.Helper()
	c := &chaos{rng: rand.New(rand.NewPCG(seed, 1))}
	kind := pvesim.QEMU
	if c.rng.IntN(3) == 0 {
		kind = pvesim.LXC
	}
	c.w = newFaultWorld(t, kind, nil)
	for range 1 + c.rng.IntN(3) {
		c.add()
	}
	told := c.w.submit()
	for told.status == 503 && c.rng.IntN(2) == 0 {
		letPass(time.Minute)
		told = c.w.submit()
	}
	letPass(time.Duration(c.rng.IntN(300)) * time.Second)
	c.heal()
	c.w.settle(45 * time.Minute)
	letPass(20 * time.Minute) // for whatever is late
	c.check(told)
	if t.Failed() {
		t.Logf("faults: %s", strings.Join(c.story, "; "))
	}
}

// chaos draws faults and, in the end, undoes them.
type chaos struct {
	w     *faultWorld
	rng   *rand.Rand
	story []string
	held  []*pvesim.Injected
}

func (c *chaos) say(format string, args ...any) {
	c.story = append(c.story, fmt.Sprintf(format, args...))
}

func draw[T any](c *chaos, of ...T) T { return of[c.rng.IntN(len(of))] }

// add puts one fault in force, or arranges for somebody to do something in the
// next minute.
func (c *chaos) add() {
	switch c.rng.IntN(4) {
	case 0:
		c.onRequest()
	case 1:
		c.onTask()
	default:
		c.later()
	}
}

// onRequest is a fault on the order to destroy, or on what is written before it.
func (c *chaos) onRequest() {
	what := draw(c,
		[2]string{"DELETE", deletePath}, [2]string{"DELETE", deletePath}, [2]string{"POST", "/access/users/*/token/*"},
		[2]string{"PUT", "/access/users/*/token/*"}, [2]string{"PUT", "/access/acl"}, [2]string{"PUT", "/nodes/*/*/107/config"})
	f := draw(c,
		pvesim.Fault{Kind: pvesim.FaultCut}, pvesim.Fault{Kind: pvesim.FaultCut, After: true},
		pvesim.Fault{Kind: pvesim.FaultAnswer, Status: 504, After: true}, pvesim.Fault{Kind: pvesim.FaultAnswer, Status: 595},
		pvesim.Fault{Kind: pvesim.FaultAnswer, Status: 596}, pvesim.Fault{Kind: pvesim.FaultActiveLock},
		pvesim.Fault{Kind: pvesim.FaultActiveLock, Unlisted: true}, pvesim.Fault{Kind: pvesim.FaultRepeat, Delay: 30 * time.Second},
		pvesim.Fault{Kind: pvesim.FaultHold, Point: pvesim.PointQueue, ClientGone: true},
		pvesim.Fault{Kind: pvesim.FaultHold, Point: pvesim.PointFork, ClientGone: true},
		pvesim.Fault{Kind: pvesim.FaultHold, Point: pvesim.PointArrival}, pvesim.Fault{Kind: pvesim.FaultHold, Point: pvesim.PointReply})
	f.Method, f.Path = what[0], what[1]
	c.inject(f)
}

// onTask is a fault on the task, at any of its stages.
func (c *chaos) onTask() {
	f := pvesim.Fault{Kind: draw(c, pvesim.FaultTaskKill, pvesim.FaultTaskHold, pvesim.FaultTaskDelay, pvesim.FaultTaskForget, pvesim.FaultVolumeStuck)}
	switch f.Kind { //nolint:exhaustive // those above
	case pvesim.FaultVolumeStuck:
		f.Volume = "*disk-1*"
	case pvesim.FaultTaskForget:
		f.VMID = faultVMID
	default:
		f.VMID, f.Delay = faultVMID, time.Duration(c.rng.IntN(200))*time.Second
		f.Stage = draw(c, pvesim.StageStart, pvesim.StageLock, pvesim.StageCheck, pvesim.StageFree+"0", pvesim.StageFree+"1",
			pvesim.StageZombie, pvesim.StageAccess, pvesim.StageUnlink)
	}
	c.inject(f)
}

// inject puts a fault in force. What it holds is let go some time later.
func (c *chaos) inject(f pvesim.Fault) {
	in := c.w.inject(f)
	c.say("%s %s %s after=%v at %s%s", f.Kind, f.Method, f.Path, f.After, f.Point, f.Stage)
	c.held = append(c.held, in)
	c.in(time.Duration(1+c.rng.IntN(150))*time.Second, in.Release)
}

// later is somebody's hand, or the world's.
func (c *chaos) later() {
	w, node := c.w, draw(c, "pve1", "pve1", "pve2")
	on, off := true, false
	set := func(name string, ch, back pvesim.NodeControl) {
		c.say("%s of %s", name, node)
		c.soon(func() { w.node(node, ch) })
		c.in(time.Duration(20+c.rng.IntN(300))*time.Second, func() { w.node(node, back) })
	}
	switch c.rng.IntN(13) {
	case 0:
		set("power", pvesim.NodeControl{Up: &off}, pvesim.NodeControl{Up: &on})
	case 1:
		set("quorum", pvesim.NodeControl{Quorate: &off}, pvesim.NodeControl{Quorate: &on})
	case 2:
		set("pmxcfs behind", pvesim.NodeControl{Behind: &on}, pvesim.NodeControl{Behind: &off})
	case 3:
		set("daemon hangs", pvesim.NodeControl{Daemon: pvesim.Hanging}, pvesim.NodeControl{Daemon: pvesim.Serving})
	case 4:
		set("daemon down", pvesim.NodeControl{Daemon: pvesim.Refusing}, pvesim.NodeControl{Daemon: pvesim.Serving})
	case 5:
		set("clock", pvesim.NodeControl{Skew: new(draw(c, -time.Hour, time.Hour))}, pvesim.NodeControl{Skew: new(time.Duration(0))})
	case 6:
		set("proxy killed", pvesim.NodeControl{KillProxy: true}, pvesim.NodeControl{ReloadProxy: true})
	case 7:
		set("daemon restarts", pvesim.NodeControl{RestartDaemon: true}, pvesim.NodeControl{})
	case 8:
		c.say("writ crashes")
		c.soon(func() {
			w.check(w.engine.Stop(canceled()))
			w.startEngine()
		})
	case 9:
		c.say("history rotated")
		c.soon(func() { w.sim.RotateTasks("pve1") })
	case 10:
		c.say("destroyed by hand")
		c.soon(func() { w.sim.DestroyGuest(faultVMID) })
	case 11:
		c.say("moved")
		c.soon(func() { _ = w.sim.MoveGuest(faultVMID, "pve2") })
	default:
		c.say("locked or started")
		lock := c.rng.IntN(2) == 0
		c.soon(func() {
			if lock {
				w.sim.EditGuest(faultVMID, map[string]string{"lock": "backup"})
			} else {
				w.sim.PowerGuest(faultVMID, true)
			}
		})
	}
}

// soon is while the op runs, mostly.
func (c *chaos) soon(do func()) {
	c.in(time.Duration(c.rng.IntN(draw(c, 250, 250, 60_000)))*time.Millisecond, do)
}

func (c *chaos) in(d time.Duration, do func()) {
	timer := time.AfterFunc(d, do)
	c.w.t.Cleanup(func() { timer.Stop() })
}

// heal makes the cluster whole.
func (c *chaos) heal() {
	on, off := true, false
	for _, in := range c.held {
		in.Release()
	}
	for _, node := range []string{"pve1", "pve2"} {
		c.w.node(node, pvesim.NodeControl{
			Up: &on, Quorate: &on, Behind: &off, Proxy: pvesim.Serving, Daemon: pvesim.Serving, Skew: new(time.Duration(0)),
		})
	}
	letPass(10 * time.Minute)
}

// check holds record and truth against each other.
func (c *chaos) check(told tale) {
	w := c.w
	w.t.Helper()
	acted := w.upids()
	if len(acted) > 1 {
		w.t.Errorf("the op acted by %d tasks: %q", len(acted), acted)
	}
	if w.eventTypes() == "" {
		if w.sent() > 0 || told.status < 400 {
			w.t.Errorf("nothing is on record, %d orders were sent, and told was %+v", w.sent(), told)
		}
		return
	}
	o := w.onRecord()
	_, there := w.sim.Guest(faultVMID)
	switch {
	case o.Launching == nil && (w.sent() > 0 || len(acted) > 0):
		w.t.Errorf("%d orders were sent without an announcement, and %q acted", w.sent(), acted)
	case o.Succeeded != nil && there:
		w.t.Errorf("succeeded on record, and the guest is there: %+v", o.Succeeded.Evidence)
	case o.Failed != nil && o.Failed.Effect == op.EffectNone && len(acted) > 0:
		w.t.Errorf("without effect on record (%s: %s), and %q acted", o.Failed.Kind, o.Failed.Message, acted)
	case o.Failed != nil && o.Failed.Effect == op.EffectPartial && len(acted) == 0:
		w.t.Errorf("partial on record (%s), and no task of the op did anything", o.Failed.Message)
	case o.State.InFlight():
		if item := w.recovery(); item == nil || !item.Indeterminate || item.Detail == "" {
			w.t.Errorf("in flight, and the recovery queue says %+v", item)
		}
	}
	switch {
	case told.word == "succeeded" && o.Succeeded == nil:
		w.t.Errorf("told %+v, and on record is %s", told, o.State)
	case told.effect == "none" && told.status == 424 && len(acted) > 0:
		w.t.Errorf("told %+v, and %q acted", told, acted)
	}
}
