package pvesim

import "time"

// guestStat is what pvestatd broadcasts about a guest.
type guestStat struct {
	name     string
	status   string
	template int
	maxmem   int64
	maxdisk  int64
	since    int64
}

// statSlot is what the cluster knows of one VMID, late: the value as of the
// last broadcast. It belongs to the VMID and outlives the guest, so that a new
// guest is shown under the old one's name until the next broadcast.
type statSlot struct {
	shown   *guestStat
	shownAt time.Time
	current *guestStat // nil: no such guest
	since   time.Time  // of current
}

// settle moves current to shown if a broadcast has happened since it changed.
func (sl *statSlot) settle(last time.Time) {
	if sl.current != nil && last.After(sl.since) {
		sl.shown, sl.shownAt = sl.current, last
	}
}

// lastBroadcast is when the node's pvestatd ran last.
func (n *node) lastBroadcast() time.Time {
	now := n.s.now()
	if n.down && n.downSince.Before(now) {
		now = n.downSince
	}
	return now.Add(-(now.Sub(n.boot) % statsInterval))
}

// record notes the present state of a guest; call it after every change of its
// name, its power state or its existence.
func (s *Sim) record(g *guest) {
	sl := s.stats[g.vmid]
	if sl == nil {
		sl = &statSlot{}
		s.stats[g.vmid] = sl
	}
	sl.settle(g.node.lastBroadcast())
	sl.current, sl.since = g.stat(), s.now()
}

func (s *Sim) unrecord(vmid int) {
	if sl := s.stats[vmid]; sl != nil {
		sl.settle(s.order[0].lastBroadcast())
		sl.current = nil
	}
}

// shown is the stale picture of a guest, nil if there is none or it has expired.
func (s *Sim) shown(g *guest) *guestStat {
	sl := s.stats[g.vmid]
	if sl == nil {
		return nil
	}
	sl.settle(g.node.lastBroadcast())
	if sl.shown == nil || s.now().Sub(sl.shownAt) > statsLifetime {
		return nil
	}
	return sl.shown
}

func (g *guest) stat() *guestStat {
	st := &guestStat{name: g.title(), status: "stopped", maxmem: g.memory(), maxdisk: g.rootSize()}
	if g.running {
		st.status, st.since = "running", g.since
	}
	if g.conf.values["template"] == "1" {
		st.template = 1
	}
	return st
}

// memory is what the config allows, in bytes.
func (g *guest) memory() int64 {
	mib := int64(512)
	if n := leadingInt(g.conf.values["memory"]); n > 0 {
		mib = n
	}
	return mib << 20
}

// rootSize is the size of the first disk, in bytes.
func (g *guest) rootSize() int64 {
	for _, volid := range g.disks() {
		if _, v := g.node.s.volume(g.node, volid); v != nil {
			return v.Size
		}
	}
	return 0
}

func leadingInt(s string) int64 {
	var n int64
	for _, r := range s {
		if r < '0' || r > '9' {
			break
		}
		n = n*10 + int64(r-'0')
	}
	return n
}
