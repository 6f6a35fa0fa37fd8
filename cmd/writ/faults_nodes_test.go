package main

import (
	"context"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"writ/adapters/proxmox"
	"writ/adapters/pvesim"
)

// faultsListed are the faults that a real cluster shows, each by what a person
// would call it.
var faultsListed = []string{
	"target node down or firewalled",
	"pvedaemon down on the target",
	"pvedaemon busy for more than 30 s",
	"node dies after the fork",
	"front pveproxy killed or restarted hard",
	"front pveproxy reloads, or has served its thousandth request",
	"reply lost after the effect",
	"active lock contended, or var log full",
	"worker killed by OOM or a restart of pvedaemon",
	"task log and index rotated",
	"clock skew, or a step of a node's clock",
	"quorum lost before the call",
	"quorum lost on the answering node only",
	"flock or cfs lock times out",
	"guest migrated between read and DELETE",
	"guest started again by HA, onboot or a user",
	"VMID destroyed and made anew by somebody else",
	"a backup or a replication holds a lock",
	"duplicate request",
	"token revoked or expired in between",
	"rights removed with the guest",
}

const (
	wentWell     = "Started Launching TaskRunning Succeeded"
	hostRejected = "Started Launching Failed"
	taskEnded    = "Started Launching TaskRunning Failed"
	neverSent    = "Started Failed"
	onItsWay     = "Started Launching"
	leftRunning  = "Started Launching TaskRunning"
)

var succeeded = toldAs(200, "succeeded", "")

// throughFront takes the guest's node out of those that are asked themselves.
func throughFront(c *proxmox.Config) {
	c.Nodes = map[string]string{"pve2": c.Nodes["pve2"]}
}

func faultsOfNodes() []faultRow {
	proxy := func(h pvesim.Health) func(*faultWorld) {
		return func(w *faultWorld) {
			w.atDelete(pvesim.PointArrival, func() { w.node("pve1", pvesim.NodeControl{Proxy: h}) })
		}
	}
	daemon := func(h pvesim.Health) func(*faultWorld) {
		return func(w *faultWorld) {
			w.atDelete(pvesim.PointArrival, func() { w.node("pve1", pvesim.NodeControl{Daemon: h}) })
		}
	}
	off, on := false, true
	wall := new(firewall)
	return []faultRow{
		{"target node down or firewalled", []faultWay{
			{
				name: "no route, through another node", conf: throughFront, set: proxy(pvesim.NoRoute),
				told: toldAs(424, "rejected", "595 No route to host"), events: hostRejected, end: "rejected none", because: "595 No route to host",
			},
			{
				name: "refused, through another node", conf: throughFront, set: proxy(pvesim.Refusing),
				told: toldAs(424, "rejected", "595 Connection refused"), events: hostRejected, end: "rejected none", because: "595 Connection refused",
			},
			{
				name: "packets dropped, through another node", conf: throughFront, set: proxy(pvesim.Silent),
				told: toldAs(424, "rejected", "595 Connection timed out"), events: hostRejected, end: "rejected none", because: "595 Connection timed out",
			},
			{
				name: "packets dropped, asked itself", conf: wall.around, set: func(w *faultWorld) {
					w.when(pvesim.Fault{Kind: pvesim.FaultHold, Method: "PUT", Path: "/access/acl", Point: pvesim.PointReply}, wall.up)
				},
				told: toldAs(424, "rejected", "i/o timeout"), events: hostRejected, end: "rejected none", because: "launch as", unsent: true,
			},
			{
				name: "down while the launch is prepared", set: func(w *faultWorld) {
					w.when(pvesim.Fault{Kind: pvesim.FaultHold, Method: "PUT", Path: "/access/acl", Point: pvesim.PointReply}, func() { w.node("pve1", pvesim.NodeControl{Up: &off}) })
				},
				told: toldAs(424, "rejected", "prepare the launch"), events: hostRejected, end: "rejected none", because: "prepare the launch", unsent: true,
			},
			{
				name: "down before the look", set: func(w *faultWorld) { w.node("pve1", pvesim.NodeControl{Up: &off}) },
				told: toldAs(503, "unavailable", "connection refused; nothing was done, deliver the same writ again"), unsent: true,
			},
		}},
		{"pvedaemon down on the target", []faultWay{
			{
				name: "asked itself", set: daemon(pvesim.Refusing),
				told: toldAs(424, "rejected", "595 Connection refused"), events: hostRejected, end: "rejected none", because: "595 Connection refused",
			},
			{
				name: "through another node", conf: throughFront, set: daemon(pvesim.Refusing),
				told: toldAs(424, "rejected", "595 Connection refused"), events: hostRejected, end: "rejected none", because: "595 Connection refused",
			},
		}},
		{"pvedaemon busy for more than 30 s", []faultWay{
			{
				name: "it goes on before the fence", set: daemon(pvesim.Hanging),
				told: toldAs(202, "indeterminate", "596 Connection timed out"), queue: "596 Connection timed out",
				then:   func(w *faultWorld) { w.node("pve1", pvesim.NodeControl{Daemon: pvesim.Serving}) },
				events: wentWell, end: "done", because: "no node of the quorate cluster", volumes: 2, guests: 1, ours: 1,
			},
			{
				name: "it goes on after the fence", set: daemon(pvesim.Hanging),
				told: toldAs(202, "indeterminate", "596 Connection timed out"), queue: "596 Connection timed out",
				then: func(w *faultWorld) {
					letPass(10 * time.Minute)
					w.node("pve1", pvesim.NodeControl{Daemon: pvesim.Serving})
				},
				events: hostRejected, end: "not-executed none", because: "fenced, no task, target untouched",
			},
			{
				name: "it never does", set: daemon(pvesim.Hanging),
				told: toldAs(202, "indeterminate", "596 Connection timed out"), queue: "596 Connection timed out",
				events: onItsWay, end: "open", because: "whether node pve1 is part of the quorum could not be asked, so the guest was not protected",
			},
		}},
		{"node dies after the fork", []faultWay{
			{
				name: "between the volumes", set: dies(pvesim.StageFree + "1"),
				told: toldAs(202, "in-flight", "task-running"), queue: "connection refused",
				then:   func(w *faultWorld) { w.node("pve1", pvesim.NodeControl{Up: &on}) },
				events: taskEnded, end: "task-failed partial", because: "refers to volumes that are gone", volumes: 1,
			},
			{
				name: "after the config was emptied", set: dies(pvesim.StageAccess),
				told: toldAs(202, "in-flight", "task-running"), queue: "connection refused",
				then:   func(w *faultWorld) { w.node("pve1", pvesim.NodeControl{Up: &on}) },
				events: taskEnded, end: "task-failed partial", because: "only root on the node can remove what is left", volumes: 2,
			},
			{
				name: "before it did anything", set: dies(pvesim.StageLock),
				told: toldAs(202, "in-flight", "task-running"), queue: "connection refused",
				then:   func(w *faultWorld) { w.node("pve1", pvesim.NodeControl{Up: &on}) },
				events: taskEnded, end: "task-failed none", because: "has restarted since",
			},
			{
				name: "with the reply on its way", set: func(w *faultWorld) {
					reply := w.inject(pvesim.Fault{Kind: pvesim.FaultHold, Method: "DELETE", Path: deletePath, Point: pvesim.PointReply})
					w.atStage(pvesim.StageZombie, func() {
						w.node("pve1", pvesim.NodeControl{Up: &off})
						reply.Release()
					})
				},
				told: toldAs(202, "indeterminate", "outcome is unknown"), queue: "EOF",
				then:   func(w *faultWorld) { w.node("pve1", pvesim.NodeControl{Up: &on}) },
				events: taskEnded, end: "task-failed partial", because: "refers to volumes that are gone", volumes: 2,
			},
			{
				name: "for good", set: dies(pvesim.StageZombie),
				told: toldAs(202, "in-flight", "task-running"), queue: "connection refused",
				events: leftRunning, end: "open", because: "could not be asked about the task", volumes: 2,
			},
		}},
		{"quorum lost before the call", []faultWay{
			{
				name: "before the look", set: func(w *faultWorld) { w.node("pve1", pvesim.NodeControl{Quorate: &off}) },
				told: toldAs(412, "precondition", "the cluster is not quorate"), events: neverSent, end: "precondition none", unsent: true,
			},
			{
				name: "when the order is on its way", set: func(w *faultWorld) {
					w.atDelete(pvesim.PointArrival, func() { w.node("pve1", pvesim.NodeControl{Quorate: &off}) })
				},
				told: toldAs(424, "task-failed", "half done"), events: taskEnded,
				end: "task-failed partial", because: "refers to volumes that are gone", volumes: 2,
			},
		}},
		{"quorum lost on the answering node only", []faultWay{
			{
				name: "before the look", set: func(w *faultWorld) { w.node("pve2", pvesim.NodeControl{Quorate: &off}) },
				told: succeeded, events: wentWell, end: "done", because: "no node of the quorate cluster", volumes: 2, guests: 1, ours: 1,
			},
			{
				name: "when the guest is gone", set: func(w *faultWorld) {
					w.atStage(pvesim.StageUnlink, func() { w.node("pve2", pvesim.NodeControl{Quorate: &off}) })
				},
				told: succeeded, events: wentWell, end: "done", because: "no node of the quorate cluster", volumes: 2, guests: 1, ours: 1,
			},
		}},
		{"clock skew, or a step of a node's clock", []faultWay{
			{
				name: "behind, reply lost", set: skewed(-10 * time.Minute), told: toldAs(202, "indeterminate", ""), queue: "EOF",
				events: wentWell, end: "done", because: "no node of the quorate cluster", volumes: 2, guests: 1, ours: 1,
			},
			{
				name: "ahead, reply lost", set: skewed(10 * time.Minute), told: toldAs(202, "indeterminate", ""), queue: "EOF",
				events: wentWell, end: "done", because: "no node of the quorate cluster", volumes: 2, guests: 1, ours: 1,
			},
			{
				name: "the whole cluster's is off by more than clocks may be", set: func(w *faultWorld) {
					for _, node := range []string{"pve1", "pve2"} {
						w.node(node, pvesim.NodeControl{Skew: new(10 * time.Minute)})
					}
					letPass(2 * time.Minute)
				},
				told: toldAs(503, "unavailable", "set both by the same time server; nothing was done"), unsent: true,
			},
			{
				name: "set back an hour before the search", set: func(w *faultWorld) {
					w.onDelete(pvesim.Fault{Kind: pvesim.FaultCut, After: true})
				},
				told: toldAs(202, "indeterminate", ""), queue: "EOF",
				then:   func(w *faultWorld) { w.node("pve1", pvesim.NodeControl{Skew: new(-time.Hour)}) },
				events: wentWell, end: "done", because: "no node of the quorate cluster", volumes: 2, guests: 1, ours: 1,
			},
			{
				name: "set forth an hour before the search", set: func(w *faultWorld) {
					w.onDelete(pvesim.Fault{Kind: pvesim.FaultCut, After: true})
				},
				told: toldAs(202, "indeterminate", ""), queue: "EOF",
				then:   func(w *faultWorld) { w.node("pve1", pvesim.NodeControl{Skew: new(time.Hour)}) },
				events: wentWell, end: "done", because: "no node of the quorate cluster", volumes: 2, guests: 1, ours: 1,
			},
		}},
	}
}

// A firewall drops what opens a connection to the guest's node, once it is up;
// connections there are stay.
type firewall struct{ closed atomic.Bool }

func (f *firewall) up() { f.closed.Store(true) }

func (f *firewall) around(c *proxmox.Config) {
	node, dial := strings.TrimPrefix(c.Nodes["pve1"], "http://"), c.Dial
	c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if address == node && f.closed.Load() {
			<-ctx.Done()
			return nil, &net.OpError{Op: "dial", Net: network, Err: os.ErrDeadlineExceeded}
		}
		return dial(ctx, network, address)
	}
}

// dies ends the guest's node when its task is at a stage.
func dies(stage string) func(*faultWorld) {
	return func(w *faultWorld) {
		off := false
		w.atStage(stage, func() { w.node("pve1", pvesim.NodeControl{Up: &off}) })
	}
}

func skewed(d time.Duration) func(*faultWorld) {
	return func(w *faultWorld) {
		w.node("pve1", pvesim.NodeControl{Skew: &d})
		w.onDelete(pvesim.Fault{Kind: pvesim.FaultCut, After: true})
	}
}
