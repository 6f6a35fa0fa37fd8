package main

import (
	"testing"
	"testing/synctest"
	"time"

	"writ/adapters/proxmox"
	"writ/adapters/pvesim"
)

// sharedToken takes the service user away: every order is sent with the one token that
// also reads.
func sharedToken(c *proxmox.Config) { c.ServiceUser, c.ServicePassword = "", "" }

// What it costs to have one token for all: the same faults, less of which decides
// itself.
func TestFaultsWithASharedToken(t *testing.T) {
	lost := func(w *faultWorld) { w.onDelete(pvesim.Fault{Kind: pvesim.FaultCut, After: true}) }
	for _, way := range []faultWay{
		{
			name: "none", set: func(*faultWorld) {}, told: succeeded, events: wentWell, end: "done", because: "no node of the quorate cluster", volumes: 2, guests: 1, ours: 1,
		},
		{
			name: "reply lost after the effect", set: lost, told: toldAs(202, "indeterminate", "EOF"), queue: "EOF",
			events: wentWell, end: "done", because: "no node of the quorate cluster", volumes: 2, guests: 1, ours: 1,
		},
		{
			name: "reply lost before any effect", set: func(w *faultWorld) { w.onDelete(pvesim.Fault{Kind: pvesim.FaultCut}) },
			told: toldAs(202, "indeterminate", "EOF"), queue: "EOF",
			events: onItsWay, end: "open", because: "a token that others use too",
		},
		{
			name: "reply lost, and another order of the same token", set: lost,
			told: toldAs(202, "indeterminate", "EOF"), queue: "EOF",
			then: func(w *faultWorld) {
				w.sim.Do(w.t.Context(), pvesim.Request{
					Node: "pve1", Method: "DELETE", Path: "/api2/json/nodes/pve1/qemu/107",
					Header: map[string][]string{"Authorization": {"PVEAPIToken=" + readToken + "=" + readSecret}},
				})
			},
			events: onItsWay, end: "open", because: "2 tasks of the host can be this attempt's", sends: 2, volumes: 2, guests: 1, ours: 1,
		},
		{
			name: "clock set back an hour before the search", set: lost, told: toldAs(202, "indeterminate", "EOF"), queue: "EOF",
			then:   func(w *faultWorld) { w.node("pve1", pvesim.NodeControl{Skew: new(-time.Hour)}) },
			events: wentWell, end: "done", because: "no node of the quorate cluster", volumes: 2, guests: 1, ours: 1,
		},
		{
			name: "clock set forth an hour before the search", set: lost, told: toldAs(202, "indeterminate", "EOF"), queue: "EOF",
			then:   func(w *faultWorld) { w.node("pve1", pvesim.NodeControl{Skew: new(time.Hour)}) },
			events: onItsWay, end: "open", because: "a token that others use too", volumes: 2, guests: 1, ours: 1,
		},
	} {
		t.Run(way.name, func(t *testing.T) {
			way.conf = sharedToken
			synctest.Test(t, func(t *testing.T) { way.run(t) })
		})
	}
}
