package proxmox_test

import (
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"writ/adapters/pvesim"
	"writ/domain/engine"
	"writ/domain/op"
)

// A request that was delivered twice has started two tasks. That the one which is
// known ended before any effect says nothing of the other.
func TestProbeOfAnAttemptWithTwoTasks(t *testing.T) {
	const missing = "Configuration file 'nodes/pve1/qemu-server/107.conf' does not exist"
	cases := map[string]struct {
		other  func(*rig) // what becomes of the other task
		waits  bool       // the known one goes on only when the other has ended
		known  string     // how the known one ends
		want   op.Effect
		reason string
	}{
		"the other destroyed the guest": {func(*rig) {}, true, missing, op.EffectDone, "no node of the quorate cluster"},
		"the other was killed half-way": {kill(pvesim.StageAccess), true, "VM is locked (destroyed)", op.EffectPartial, "only root"},
		"the other left a volume":       {stick, true, missing, op.EffectDone, "left behind"},
		"the other was refused, too": {func(r *rig) {
			r.fault(pvesim.Fault{Kind: pvesim.FaultTaskFail, VMID: 107, Stage: pvesim.StageCheck, Text: "VM is locked (backup)"})
		}, false, "VM is locked (backup)", op.EffectNone, "no other task"},
		"the other was killed early": {kill(pvesim.StageFree + "0"), false, "VM is locked (backup)", op.EffectUnknown, "a child of it"},
		"the other runs":             {hang, false, "can't lock file '/var/lock/qemu-server/lock-107.conf' - got timeout", op.EffectUnknown, "has not ended"},
		"the other runs, and how the known one ended proves nothing by itself": {hang, false, "no such volume group", op.EffectUnknown, "has not ended"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newAttemptRig(t)
			r.guest(pvesim.QEMU)
			a, l := r.attempt(1)
			// The first task waits; the second one, of the repeated request, goes ahead.
			first := r.fault(pvesim.Fault{Kind: pvesim.FaultTaskHold, VMID: 107, Stage: pvesim.StageStart})
			second := r.fault(pvesim.Fault{Kind: pvesim.FaultRepeat, Method: "DELETE", Delay: time.Nanosecond})
			c.other(r)
			upid, err := r.exec.Launch(t.Context(), a, l)
			if err != nil {
				t.Fatal(err)
			}
			<-second.Reached()
			for len(r.tasks(l).UPIDs) < 2 {
				if t.Context().Err() != nil {
					t.Fatal("the second task never began")
				}
			}
			task := engine.Task{Phase: engine.TaskEnded, ExitStatus: c.known}
			if c.waits {
				first.Release()
				if task = r.task(upid); task.ExitStatus != c.known {
					t.Errorf("the known task: got %q, want %q", task.ExitStatus, c.known)
				}
			} else {
				// As it would have been, had it gone on in time.
				r.sim.KillTask(upid)
				r.answerStatus(upid, c.known)
			}
			f := r.probe(l, task)
			if f.Evidence.Effect != c.want || !strings.Contains(strings.Join(f.Evidence.Reasons, "; "), c.reason) {
				t.Errorf("got %s, because %q; want %s, because …%s…", f.Evidence.Effect, f.Evidence.Reasons, c.want, c.reason)
			}
			if c.reason == "has not ended" && !f.MayStillAct {
				t.Error("another task is at work, and nothing may still act")
			}
			if r.exec.PrecedesEffect(c.known) {
				t.Error("the text alone was taken for proof")
			}
		})
	}
}

// answerStatus makes a task's end read as if it had been another.
func (r *rig) answerStatus(upid, exit string) {
	body, err := json.Marshal(map[string]any{"data": map[string]any{"upid": upid, "status": "stopped", "exitstatus": exit}})
	if err != nil {
		r.t.Fatal(err)
	}
	r.fault(pvesim.Fault{
		Kind: pvesim.FaultAnswer, Method: "GET", Path: "/nodes/pve1/tasks/" + upid + "/status", Status: 200, Body: string(body), Times: -1,
	})
}

// hang keeps the next task before it checks anything.
func hang(r *rig) {
	r.fault(pvesim.Fault{Kind: pvesim.FaultTaskHold, VMID: 107, Stage: pvesim.StageCheck})
}
