package main

import (
	"time"

	"writ/adapters/pvesim"
)

func faultsOfTasks() []faultRow {
	gone := "no node of the quorate cluster"
	kill := func(stage string) func(*faultWorld) {
		return func(w *faultWorld) {
			w.inject(pvesim.Fault{Kind: pvesim.FaultTaskKill, VMID: faultVMID, Stage: stage})
		}
	}
	restart := func(stage string) func(*faultWorld) {
		return func(w *faultWorld) {
			w.atStage(stage, func() { w.node("pve1", pvesim.NodeControl{RestartDaemon: true}) })
		}
	}
	return []faultRow{
		{"worker killed by OOM or a restart of pvedaemon", []faultWay{
			{
				name: "killed between the volumes", set: kill(pvesim.StageFree + "1"), told: toldAs(202, "indeterminate", "refers to volumes that are gone"),
				queue: "a child", events: leftRunning, end: "open", because: "a child", volumes: 1,
			},
			{
				name: "killed after the config was emptied", set: kill(pvesim.StageAccess), told: toldAs(424, "task-failed", "half done"),
				events: taskEnded, end: "task-failed partial", because: "only root on the node", volumes: 2,
			},
			{
				name: "killed with nothing to be seen", set: kill(pvesim.StageFree + "0"), told: toldAs(202, "indeterminate", "a child"),
				queue: "a child", events: leftRunning, end: "open", because: "a child",
			},
			{
				name: "killed with nothing to be seen, and the node restarted since", set: kill(pvesim.StageFree + "0"),
				told: toldAs(202, "indeterminate", "a child"), queue: "a child",
				then: func(w *faultWorld) {
					off, on := false, true
					w.node("pve1", pvesim.NodeControl{Up: &off})
					w.node("pve1", pvesim.NodeControl{Up: &on})
				},
				events: taskEnded, end: "task-failed none", because: "has restarted since",
			},
			{
				name: "pvedaemon restarted before the volumes", set: restart(pvesim.StageCheck), told: toldAs(202, "indeterminate", "received interrupt"),
				queue: "received interrupt", events: leftRunning, end: "open", because: "a child",
			},
			{
				name: "pvedaemon restarted at a container's second volume", kind: pvesim.LXC, set: restart(pvesim.StageFree + "1"),
				told:  toldAs(202, "indeterminate", "received interrupt"),
				queue: "a child", events: leftRunning, end: "open", because: "a child", volumes: 1,
			},
			{
				name: "pvedaemon restarted at a machine's volume, which is left", set: restart(pvesim.StageFree + "1"), told: succeeded,
				events: wentWell, end: "done", because: "left: local-lvm:vm-107-disk-1", volumes: 1, guests: 1, ours: 1,
			},
		}},
		{"task log and index rotated", []faultWay{
			{
				name: "the task was on record", set: func(w *faultWorld) {
					w.inject(pvesim.Fault{Kind: pvesim.FaultTaskForget, VMID: faultVMID})
				},
				told: succeeded, events: wentWell, end: "done", because: gone, volumes: 2, guests: 1, ours: 1,
			},
			{
				name: "the task was on record, and the guest is whole", set: func(w *faultWorld) {
					w.inject(pvesim.Fault{Kind: pvesim.FaultTaskKill, VMID: faultVMID, Stage: pvesim.StageCheck})
					w.inject(pvesim.Fault{Kind: pvesim.FaultTaskForget, VMID: faultVMID})
				},
				told: toldAs(202, "indeterminate", "no longer knows the task"), queue: "no longer knows the task",
				events: leftRunning, end: "open", because: "no longer knows the task",
			},
			{
				name: "the reply was lost too", set: func(w *faultWorld) {
					w.sim.AddRole("Look", "Sys.Audit", "Pool.Audit", "Datastore.Audit")
					w.inject(pvesim.Fault{Kind: pvesim.FaultTaskForget, VMID: faultVMID})
					w.onDelete(pvesim.Fault{Kind: pvesim.FaultCut, After: true})
				},
				told: toldAs(202, "indeterminate", "EOF"), queue: "EOF",
				then:   func(w *faultWorld) { w.sim.RotateTasks("pve1") },
				events: onItsWay, end: "open", because: "there is no guest to protect", volumes: 2, guests: 1, ours: 1,
			},
		}},
		{"flock or cfs lock times out", []faultWay{
			{
				name: "the config's, before any effect", set: func(w *faultWorld) {
					w.atDelete(pvesim.PointFork, func() { w.holdConfig(time.Minute) })
				},
				told: toldAs(424, "task-failed", "got timeout"), events: taskEnded,
				end: "task-failed none", because: "before any effect",
			},
			{
				name: "that of user.cfg, late", set: func(w *faultWorld) {
					w.atStage(pvesim.StageZombie, func() { w.holdUsers(time.Minute) })
				},
				told: toldAs(424, "task-failed", "access permissions cleanup for VM 107 failed"), events: taskEnded,
				end: "task-failed partial", because: "only root on the node", volumes: 2,
			},
			{
				name: "that of user.cfg, while the token is made", set: func(w *faultWorld) {
					w.when(pvesim.Fault{Kind: pvesim.FaultHold, Method: "POST", Path: "/access/users/*/token/*", Point: pvesim.PointFork}, func() { w.holdUsers(12 * time.Second) })
				},
				told: toldAs(424, "rejected", "cfs-lock 'file-user_cfg' error: got lock request timeout"), events: hostRejected,
				end: "rejected none", because: "nobody can ever use it", unsent: true,
			},
		}},
	}
}

func faultsOfGuests() []faultRow {
	start := func(w *faultWorld) { w.sim.PowerGuest(faultVMID, true) }
	lock := func(w *faultWorld) { w.sim.EditGuest(faultVMID, map[string]string{"lock": "backup"}) }
	replace := func(w *faultWorld) {
		w.sim.DestroyGuest(faultVMID)
		w.successor()
	}
	arriving := func(do func(*faultWorld)) func(*faultWorld) {
		return func(w *faultWorld) { w.atDelete(pvesim.PointArrival, func() { do(w) }) }
	}
	return []faultRow{
		{"guest migrated between read and DELETE", []faultWay{
			{
				name: "to the other node", set: arriving(func(w *faultWorld) { w.check(w.sim.MoveGuest(faultVMID, "pve2")) }),
				told:   toldAs(424, "rejected", "Configuration file 'nodes/pve1/qemu-server/107.conf' does not exist"),
				events: hostRejected, end: "rejected none", because: "does not exist",
			},
		}},
		{"guest started again by HA, onboot or a user", []faultWay{
			{
				name: "before the fork", set: arriving(start), told: toldAs(424, "rejected", "VM 107 is running - destroy failed"),
				events: hostRejected, end: "rejected none", because: "is running",
			},
			{
				name: "after the fork", set: func(w *faultWorld) { w.atStage(pvesim.StageLock, func() { start(w) }) },
				told: toldAs(424, "task-failed", "VM 107 is running - destroy failed"), events: taskEnded, end: "task-failed none", because: "before any effect",
			},
			{
				name: "a container, after the fork", kind: pvesim.LXC, set: func(w *faultWorld) { w.atStage(pvesim.StageLock, func() { start(w) }) },
				told: toldAs(424, "task-failed", "container is running"), events: taskEnded, end: "task-failed none", because: "before any effect",
			},
			{
				name: "by HA, before the look", set: func(w *faultWorld) {
					w.sim.SetHA(faultVMID, "started")
					start(w)
				},
				told: toldAs(412, "precondition", "managed by HA"), events: neverSent, end: "precondition none", because: "managed by HA", unsent: true,
			},
			{
				name: "taken into HA after the look", set: arriving(func(w *faultWorld) { w.sim.SetHA(faultVMID, "started") }),
				told: toldAs(424, "rejected", "used in HA resources"), events: hostRejected, end: "rejected none", because: "used in HA resources",
			},
		}},
		{"VMID destroyed and made anew by somebody else", []faultWay{
			{
				name: "before the look", set: replace, told: toldAs(412, "precondition", "expect.smbios_uuid"),
				events: neverSent, end: "precondition none", because: "expect.smbios_uuid", volumes: 2, guests: 1, unsent: true,
			},
			{
				name: "while the token is made", set: func(w *faultWorld) {
					w.when(pvesim.Fault{Kind: pvesim.FaultHold, Method: "POST", Path: "/access/users/*/token/*", Point: pvesim.PointReply}, func() { replace(w) })
				},
				told: toldAs(424, "rejected", "has changed since it was announced"), events: hostRejected, end: "rejected none",
				because: "has changed since it was announced", volumes: 2, guests: 1, unsent: true,
			},
			{
				name: "with the order on its way", set: arriving(replace), told: toldAs(424, "rejected", "403"),
				events: hostRejected, end: "rejected none", because: "403", volumes: 2, guests: 1,
			},
		}},
		{"a backup or a replication holds a lock", []faultWay{
			{
				name: "before the look", set: lock, told: toldAs(412, "precondition", "locked (backup)"),
				events: neverSent, end: "precondition none", because: "locked (backup)", unsent: true,
			},
			{
				name: "a machine, after the look", set: arriving(lock), told: toldAs(424, "task-failed", "VM is locked (backup)"),
				events: taskEnded, end: "task-failed none", because: "before any effect",
			},
			{
				name: "a container, after the look", kind: pvesim.LXC, set: arriving(lock), told: toldAs(424, "rejected", "CT is locked (backup)"),
				events: hostRejected, end: "rejected none", because: "CT is locked (backup)",
			},
		}},
	}
}
