package main

import (
	"time"

	"writ/adapters/pvesim"
)

func faultsOfReplies() []faultRow {
	gone := "no node of the quorate cluster"
	return []faultRow{
		{"front pveproxy killed or restarted hard", []faultWay{
			{
				name: "before it passed the order on", set: func(w *faultWorld) { w.onDelete(pvesim.Fault{Kind: pvesim.FaultCut}) },
				told: toldAs(202, "indeterminate", "EOF"), queue: "EOF",
				events: hostRejected, end: "not-executed none", because: "fenced, no task, target untouched",
			},
			{
				name: "after it passed the order on", set: func(w *faultWorld) {
					w.atDelete(pvesim.PointQueue, func() { w.node("pve1", pvesim.NodeControl{KillProxy: true}) })
				},
				told: toldAs(202, "indeterminate", "EOF"), queue: "EOF",
				events: wentWell, end: "done", because: gone, volumes: 2, guests: 1, ours: 1,
			},
		}},
		{"front pveproxy reloads, or has served its thousandth request", []faultWay{
			{
				name: "between the last look and the order", set: func(w *faultWorld) {
					w.when(pvesim.Fault{Kind: pvesim.FaultHold, Method: "PUT", Path: "/access/acl", Point: pvesim.PointReply}, func() {
						w.node("pve1", pvesim.NodeControl{ReloadProxy: true})
						w.node("pve2", pvesim.NodeControl{ReloadProxy: true})
					})
				},
				told: succeeded, events: wentWell, end: "done", because: gone, volumes: 2, guests: 1, ours: 1,
			},
			{
				name: "while it carries the order", set: func(w *faultWorld) {
					w.atDelete(pvesim.PointQueue, func() { w.node("pve1", pvesim.NodeControl{ReloadProxy: true}) })
				},
				told: succeeded, events: wentWell, end: "done", because: gone, volumes: 2, guests: 1, ours: 1,
			},
		}},
		{"reply lost after the effect", []faultWay{
			{
				name: "connection cut", set: func(w *faultWorld) { w.onDelete(pvesim.Fault{Kind: pvesim.FaultCut, After: true}) },
				told: toldAs(202, "indeterminate", "EOF"), queue: "EOF",
				events: wentWell, end: "done", because: gone, volumes: 2, guests: 1, ours: 1,
			},
			{
				name: "a balancer gave up", set: func(w *faultWorld) { w.onDelete(pvesim.Fault{Kind: pvesim.FaultAnswer, Status: 504, After: true}) },
				told: toldAs(202, "indeterminate", "504"), queue: "504",
				events: wentWell, end: "done", because: gone, volumes: 2, guests: 1, ours: 1,
			},
			{
				name: "writ crashed", set: func(w *faultWorld) {
					held := w.inject(pvesim.Fault{Kind: pvesim.FaultHold, Method: "DELETE", Path: deletePath, Point: pvesim.PointReply})
					go func() {
						select {
						case <-held.Reached():
							w.check(w.engine.Stop(canceled()))
							held.Release()
						case <-w.t.Context().Done():
						}
					}()
				},
				told: toldAs(202, "indeterminate", ""), queue: "outcome is unknown",
				then:   func(w *faultWorld) { w.startEngine() },
				events: wentWell, end: "done", because: gone, volumes: 2, guests: 1, ours: 1,
			},
		}},
		{"active lock contended, or var log full", []faultWay{
			{
				name: "listed once it has ended", set: func(w *faultWorld) { w.onDelete(pvesim.Fault{Kind: pvesim.FaultActiveLock}) },
				told: toldAs(202, "indeterminate", ".active.lock' - got timeout"), queue: ".active.lock' - got timeout",
				events: wentWell, end: "done", because: gone, volumes: 2, guests: 1, ours: 1,
			},
			{
				name: "no space left", set: func(w *faultWorld) {
					w.onDelete(pvesim.Fault{Kind: pvesim.FaultActiveLock, Text: "unable to open file '/var/log/pve/tasks/active.tmp.4711' - No space left on device"})
				},
				told: toldAs(202, "indeterminate", "No space left on device"), queue: "No space left on device",
				events: wentWell, end: "done", because: gone, volumes: 2, guests: 1, ours: 1,
			},
			{
				name: "never listed, and in the cluster's log", set: func(w *faultWorld) {
					w.onDelete(pvesim.Fault{Kind: pvesim.FaultActiveLock, Unlisted: true})
				},
				told: toldAs(202, "indeterminate", ".active.lock' - got timeout"), queue: ".active.lock' - got timeout",
				events: wentWell, end: "done", because: gone, volumes: 2, guests: 1, ours: 1,
			},
			{
				name: "never listed, and the cluster's log is hidden", set: func(w *faultWorld) {
					w.sim.AddRole("Look", "Sys.Audit", "Pool.Audit", "Datastore.Audit")
					w.onDelete(pvesim.Fault{Kind: pvesim.FaultActiveLock, Unlisted: true})
				},
				told: toldAs(202, "indeterminate", ".active.lock' - got timeout"), queue: ".active.lock' - got timeout",
				events: onItsWay, end: "open", because: "there is no guest to protect", volumes: 2, guests: 1, ours: 1,
			},
		}},
		{"duplicate request", []faultWay{
			{
				name: "delivered to writ again and again", set: func(w *faultWorld) {
					for range 20 {
						go w.submit()
					}
				},
				told: succeeded, events: wentWell, end: "done", because: gone, volumes: 2, guests: 1, ours: 1,
			},
			{
				name: "sent to the host again while the first runs", set: func(w *faultWorld) {
					w.inject(pvesim.Fault{Kind: pvesim.FaultTaskDelay, VMID: faultVMID, Stage: pvesim.StageZombie, Delay: 2 * time.Second})
					w.onDelete(pvesim.Fault{Kind: pvesim.FaultRepeat, Delay: 10 * time.Millisecond})
				},
				told: succeeded, events: wentWell, end: "done", because: gone, volumes: 2, guests: 1, ours: 1, sends: 2,
			},
			{
				name: "sent to the host again, and the second goes ahead", set: func(w *faultWorld) {
					first := w.inject(pvesim.Fault{Kind: pvesim.FaultTaskHold, VMID: faultVMID, Stage: pvesim.StageLock})
					w.onDelete(pvesim.Fault{Kind: pvesim.FaultRepeat, Delay: 10 * time.Millisecond})
					w.letGo(first.Release, true, 5*time.Second)
				},
				told: succeeded, events: wentWell, end: "done", because: gone, volumes: 2, guests: 1, ours: 1, sends: 2,
			},
			{
				name: "sent to the host again when the VMID is somebody else's", set: func(w *faultWorld) {
					w.onDelete(pvesim.Fault{Kind: pvesim.FaultRepeat, Delay: time.Minute})
				},
				told: succeeded, then: func(w *faultWorld) {
					w.successor()
					letPass(2 * time.Minute)
				},
				events: wentWell, end: "done", because: gone, volumes: 2, guests: 1, ours: 1, sends: 2,
			},
			{
				name: "sent to the host again, and the reply lost", set: func(w *faultWorld) {
					w.onDelete(pvesim.Fault{Kind: pvesim.FaultCut, After: true})
					w.inject(pvesim.Fault{Kind: pvesim.FaultTaskDelay, VMID: faultVMID, Stage: pvesim.StageZombie, Delay: 2 * time.Second})
					w.onDelete(pvesim.Fault{Kind: pvesim.FaultRepeat, Delay: 10 * time.Millisecond})
				},
				told: toldAs(202, "indeterminate", "EOF"), queue: "EOF",
				events: onItsWay, end: "open", because: "2 tasks of the host can be this attempt's", volumes: 2, guests: 1, ours: 1, sends: 2,
			},
		}},
		{"token revoked or expired in between", []faultWay{
			{
				name: "that which asks for the task", set: func(w *faultWorld) {
					w.atStage(pvesim.StageZombie, func() { w.sim.ExpireToken(readToken, 1) })
				},
				told: toldAs(202, "in-flight", "task-running"), queue: "401 Authentication failed",
				then:   func(w *faultWorld) { w.sim.ExpireToken(readToken, 0) },
				events: wentWell, end: "done", because: gone, volumes: 2, guests: 1, ours: 1,
			},
			{
				name: "that of the attempt", set: func(w *faultWorld) {
					w.inject(pvesim.Fault{Kind: pvesim.FaultTaskDelay, VMID: faultVMID, Stage: pvesim.StageZombie, Delay: 4 * time.Minute})
				},
				told: succeeded, events: wentWell, end: "done", because: gone, volumes: 2, guests: 1, ours: 1,
			},
		}},
		{"rights removed with the guest", []faultWay{
			{
				name: "those of a pool", set: func(w *faultWorld) {
					w.sim.SetPool(faultVMID, "team")
					w.sim.Revoke("/vms", "look@pve")
					w.sim.Grant("/pool/team", "look@pve", "LookAtGuests", true)
				},
				told: succeeded, events: wentWell, end: "done", because: gone, volumes: 2, guests: 1, ours: 1,
			},
			{
				name: "those on the guest, and somebody has the VMID by then", set: func(w *faultWorld) {
					w.sim.Revoke("/vms", "look@pve")
					w.sim.Grant("/vms/107", "look@pve", "LookAtGuests", false)
					w.sim.Grant("/vms/107", launcher, "WritService", false)
					w.when(pvesim.Fault{Kind: pvesim.FaultHold, Method: "GET", Path: "/nodes/*/tasks/*/log", Point: pvesim.PointReply}, w.successor)
				},
				told: toldAs(202, "indeterminate", "may not see by whom"), queue: "may not see by whom",
				events: leftRunning, end: "open", because: "may not see by whom", volumes: 2, guests: 1, ours: 1,
			},
		}},
	}
}
