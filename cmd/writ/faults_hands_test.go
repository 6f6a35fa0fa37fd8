package main

import (
	"time"

	"writ/adapters/pvesim"
)

// inject puts a fault in force.
func (w *faultWorld) inject(f pvesim.Fault) *pvesim.Injected {
	w.t.Helper()
	in, err := w.sim.Inject(f)
	w.must(err)
	return in
}

// check is must for hands, which act beside the test.
func (w *faultWorld) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Error(err)
	}
}

// when stops what a fault holds, once it is there, does something, and lets it go
// on.
func (w *faultWorld) when(f pvesim.Fault, do func()) {
	w.t.Helper()
	in := w.inject(f)
	done := w.t.Context().Done()
	go func() {
		select {
		case <-in.Reached():
			do()
			in.Release()
		case <-done:
		}
	}()
}

// atDelete does something when the order to destroy has come to a point on its way.
func (w *faultWorld) atDelete(point string, do func()) {
	w.t.Helper()
	w.when(pvesim.Fault{Kind: pvesim.FaultHold, Method: "DELETE", Path: deletePath, Point: point}, do)
}

// atStage does something when the task has come to a stage.
func (w *faultWorld) atStage(stage string, do func()) {
	w.t.Helper()
	w.when(pvesim.Fault{Kind: pvesim.FaultTaskHold, VMID: faultVMID, Stage: stage}, do)
}

const deletePath = "/nodes/*/*/107"

// onDelete puts a fault on the order to destroy.
func (w *faultWorld) onDelete(f pvesim.Fault) {
	w.t.Helper()
	f.Method, f.Path = "DELETE", deletePath
	w.inject(f)
}

func (w *faultWorld) node(name string, change pvesim.NodeControl) {
	w.check(w.sim.Node(name, change))
}

// holdConfig and holdUsers are somebody else's process that has a lock for a while.
func (w *faultWorld) holdConfig(d time.Duration) {
	release, ok := w.sim.HoldConfigLock("pve1", w.guest.Kind, faultVMID)
	w.letGo(release, ok, d)
}

func (w *faultWorld) holdUsers(d time.Duration) {
	release, ok := w.sim.HoldUserConfig()
	w.letGo(release, ok, d)
}

func (w *faultWorld) letGo(release func(), ok bool, d time.Duration) {
	if !ok {
		w.t.Error("the lock could not be had")
	}
	timer := time.AfterFunc(d, release)
	w.t.Cleanup(func() { timer.Stop() })
}

// successor gives the VMID to a new guest with a disk of the same name, as soon
// as it is free.
func (w *faultWorld) successor() {
	w.t.Helper()
	_, err := w.sim.AddGuest(pvesim.Guest{
		Kind: w.guest.Kind, VMID: faultVMID, Node: "pve1", Name: "payments-db", Disks: []string{"local-lvm:1", "local-lvm:1"}, MACs: []string{""},
	})
	w.check(err)
}
