package simulation_test

import (
	"fmt"
	"slices"
	"strings"

	"writ/adapters/pvesim"
	"writ/domain/op"
)

// lift takes a guest's protection away. Whoever does waits until no request that
// the host has let in is held up any more; and, where nothing else stops one that
// is on its way, for those, too.
func (w *world) lift(vmid int) {
	g, ok := w.pve.Guest(vmid)
	if !ok || !g.Protection || len(w.running(vmid)) > 0 {
		return
	}
	for _, f := range w.faults {
		if f.holds() && (f.point == pvesim.PointFork || w.shared) {
			return
		}
	}
	if w.shared && w.late > 0 {
		return
	}
	w.pve.EditGuest(vmid, map[string]string{"protection": ""})
	w.sim.tell("guest", g.Name, "is not protected any more")
}

// meddle lets other people do something past the service.
func (w *world) meddle(vmid int) {
	s := w.sim
	r := &s.rng
	g, ok := w.pve.Guest(vmid)
	if !ok {
		w.create(vmid)
		return
	}
	if len(w.running(vmid)) > 0 {
		return // its configuration is locked
	}
	what := ""
	switch r.upTo(9) {
	case 0, 1:
		what = "is destroyed and made anew"
		w.pve.DestroyGuest(vmid)
		w.create(vmid)
	case 2:
		what = "is destroyed"
		w.pve.DestroyGuest(vmid)
	case 3:
		what = "is protected"
		w.pve.EditGuest(vmid, map[string]string{"protection": "1"})
	case 4:
		what = "is locked"
		w.pve.EditGuest(vmid, map[string]string{"lock": "backup"})
	case 5:
		if g.Lock == "" {
			what = "migrates"
			if err := w.pve.MoveGuest(vmid, w.names[r.upTo(3)]); err != nil {
				panic(err)
			}
		}
	case 6:
		what = "is started or stopped"
		w.power(vmid, r.per1000(500))
	case 7:
		what = "has a snapshot made or deleted"
		path := fmt.Sprintf("/api2/json/nodes/%s/%s/%d/snapshot", g.Node, g.Kind, vmid)
		if name := fmt.Sprintf("s%d", r.upTo(3)); slices.Contains(g.Snapshots, name) {
			w.byRoot(g.Node, "DELETE", path+"/"+name, "")
		} else {
			w.byRoot(g.Node, "POST", path, "snapname="+name)
		}
	case 8:
		what = "loses a backup"
		for _, v := range w.pve.Volumes() {
			if v.VMID == vmid && (v.Content == "backup" || strings.HasSuffix(v.VolID, "-disk-9")) {
				w.pve.DropVolume(v.Node, v.VolID)
				w.gone[w.named("volume "+v.VolID)] = true
				w.swapped["volume "+v.VolID] = s.step
				break
			}
		}
	}
	s.tell("guest", g.Name, what, "by other people")
	s.figures.Events["acts of other people"]++
	w.look()
}

// power starts or stops a guest, as other people do.
func (w *world) power(vmid int, on bool) {
	g, ok := w.pve.Guest(vmid)
	if ok && !on {
		w.stopped[guestThing(g.Instance)] = w.sim.step
	}
	w.pve.PowerGuest(vmid, on)
}

// swap lets other people put another volume in the place of one.
func (w *world) swap(t op.Target) {
	if !strings.HasSuffix(t.Volume, "-disk-9") || !w.pve.DropVolume(t.Node, t.Volume) {
		return
	}
	name := "volume " + t.Volume
	w.gone[w.named(name)] = true
	w.swapped[name] = w.sim.step
	w.made++
	if err := w.pve.AddVolume(pvesim.Volume{VolID: t.Volume, Node: t.Node, Size: int64(w.made) << 20, Content: "images", Format: "raw"}); err != nil {
		panic(err)
	}
	w.births[name]++
	w.sim.tell(name, "is made anew by other people")
}

// open tells whether an op on a guest has not ended.
func (w *world) open(vmid int) bool {
	for _, c := range w.sim.copies {
		for _, n := range c.inFlight() {
			if o := w.sim.orders[n]; o != nil && o.vmid == vmid {
				return true
			}
		}
	}
	return false
}

// byRoot sends another administrator's request, which leaves a task.
func (w *world) byRoot(node, method, path, query string) {
	w.pve.Serve(pvesim.Request{
		Node: node, Method: method, Path: path, Query: query,
		Header: map[string][]string{"Authorization": {"PVEAPIToken=" + rootToken + "=" + worldSecret}},
	}, func(pvesim.Response) {})
}
