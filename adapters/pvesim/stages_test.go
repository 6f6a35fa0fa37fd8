package pvesim_test

import (
	"fmt"
	"testing"

	"writ/adapters/pvesim"
)

// TestKillAtEveryStage kills the worker of each kind of task before each of its
// stages. Whatever it has done by then, its lock files are free again, the
// effect that ends it is on record only if it came so far, and the same call
// made once more is either refused by the lock that was left or has the one
// effect that the first had not.
func TestKillAtEveryStage(t *testing.T) {
	tasks := []struct {
		method, path, body, typ string
		stages                  []string // in order; lock more than once
		end                     pvesim.EffectKind
		// left is the config's lock after a kill before the stage of that name
		// and all that follow up to the next one named.
		left map[string]string
	}{
		{"POST", vm105 + "stop", "", "qmstop", []string{"start", "lock", "act"}, pvesim.GuestStopped, nil},
		{"POST", vm105 + "shutdown", "", "qmshutdown", []string{"start", "lock", "act"}, pvesim.GuestStopped, nil},
		{"POST", vm105 + "reboot", "", "qmreboot", []string{"start", "lock", "stop"}, pvesim.GuestStarted, nil},
		{
			"POST", snap105, "snapname=s3", "qmsnapshot",
			[]string{"start", "lock", "prepare", "volume:0", "volume:1", "lock", "finish"},
			pvesim.SnapshotCreated,
			map[string]string{"volume:0": "snapshot"},
		},
		{
			"DELETE", snap105 + "/s2", "", "qmdelsnapshot",
			[]string{
				"start", "migration-lock", "lock", "check", "lock", "mark", "lock", "prepare",
				"volume:0", "lock", "record:0", "volume:1", "lock", "record:1", "lock", "finish",
			},
			pvesim.SnapshotDeleted,
			map[string]string{"prepare": "snapshot-delete"},
		},
		{
			"POST", snap105 + "/s2/rollback", "", "qmrollback",
			[]string{"start", "migration-lock", "lock", "check", "stop", "mark", "volume:0", "volume:1", "lock", "finish"},
			pvesim.GuestRolledBack,
			map[string]string{"volume:0": "rollback"},
		},
	}
	for _, c := range tasks {
		lock, seen := "", map[string]int{}
		for i, stage := range c.stages {
			if l, ok := c.left[stage]; ok {
				lock = l
			}
			skip := seen[stage]
			seen[stage]++
			want := lock
			if stage == "lock" && i+1 < len(c.stages) && c.left[c.stages[i+1]] != "" {
				want = c.left[c.stages[i+1]]
			}
			t.Run(fmt.Sprintf("%s before %s, stage %d", c.typ, stage, i), func(t *testing.T) {
				r := snapshotRig(t, pvesim.Pace{}, running)
				ended := r.count(c.end)
				if skip > 0 {
					r.inject(pvesim.Fault{Kind: pvesim.FaultTaskDelay, TaskType: c.typ, Stage: stage, Times: skip})
				}
				killed := r.inject(pvesim.Fault{Kind: pvesim.FaultTaskKill, TaskType: c.typ, Stage: stage})
				check(t, "exit", r.run(c.method, c.path, c.body), "unexpected status")
				check(t, "kills", killed.Hits(), 1)
				check(t, "lock", r.guest(105).Lock, want)
				check(t, "effects of the end", r.count(c.end), ended)
				for _, hold := range []func() (func(), bool){
					func() (func(), bool) { return r.sim.HoldConfigLock("pve1", pvesim.QEMU, 105) },
					func() (func(), bool) { return r.sim.HoldMigrationLock("pve1", 105) },
				} {
					release, free := hold()
					check(t, "lock file free", free, true)
					release()
				}
				again := r.run(c.method, c.path, c.body)
				if want != "" {
					check(t, "again", again, "VM is locked ("+want+")")
					check(t, "effects of the end after that", r.count(c.end), ended)
					return
				}
				check(t, "again", again, "OK")
				check(t, "effects of the end after that", r.count(c.end), ended+1)
			})
		}
	}
}

// Killed at its very end, a task has no verdict although all of it was done.
func TestKillAfterTheEffect(t *testing.T) {
	for _, c := range []struct {
		method, path, body string
		end                pvesim.EffectKind
	}{
		{"POST", vm105 + "stop", "", pvesim.GuestStopped},
		{"POST", snap105, "snapname=s3", pvesim.SnapshotCreated},
		{"DELETE", snap105 + "/s2", "", pvesim.SnapshotDeleted},
		{"POST", snap105 + "/s2/rollback", "", pvesim.GuestRolledBack},
	} {
		t.Run(string(c.end), func(t *testing.T) {
			r := snapshotRig(t, pvesim.Pace{}, running)
			before := r.count(c.end)
			r.inject(pvesim.Fault{Kind: pvesim.FaultTaskKill, Stage: pvesim.StageEnd})
			check(t, "exit", r.run(c.method, c.path, c.body), "unexpected status")
			check(t, "effects", r.count(c.end), before+1)
			check(t, "lock", r.guest(105).Lock, "")
		})
	}
}
