package pvesim

import (
	"fmt"
	"maps"
	"slices"
)

// Guest looks a guest up.
func (s *Sim) Guest(vmid int) (Guest, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.guests[vmid]; g != nil {
		return g.describe(), true
	}
	return Guest{}, false
}

// Guests lists all guests by VMID.
func (s *Sim) Guests() []Guest {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Guest, 0, len(s.guests))
	for _, vmid := range slices.Sorted(maps.Keys(s.guests)) {
		out = append(out, s.guests[vmid].describe())
	}
	return out
}

// DestroyGuest is another administrator's destroy: all at once, without a task,
// effects on record without a UPID. It reports whether there was a guest.
func (s *Sim) DestroyGuest(vmid int) (found bool) {
	s.do(func() {
		g := s.guests[vmid]
		if g == nil {
			return
		}
		found = true
		g.stop()
		for _, volid := range g.disks() {
			if st, v := s.volume(g.node, volid); v != nil {
				st.drop(v)
				s.effect(nil, VolumeFreed, g, volid)
			}
		}
		s.access.dropGuest(vmid)
		s.dropHA(vmid)
		s.dropReplication(vmid)
		s.remove(g)
		s.effect(nil, GuestDestroyed, g, "")
	})
	return found
}

// EditGuest changes config keys of a guest at once, without any check: an empty
// value removes the key. It reports whether there is such a guest.
func (s *Sim) EditGuest(vmid int, values map[string]string) (found bool) {
	s.do(func() {
		g := s.guests[vmid]
		if g == nil {
			return
		}
		found = true
		for k, v := range values {
			g.conf.set(k, v)
		}
		s.record(g)
	})
	return found
}

func (c *config) set(key, text string) {
	if text == "" {
		delete(c.values, key)
		return
	}
	c.values[key] = text
}

// PowerGuest starts or stops a guest at once, as from inside or by another hand.
func (s *Sim) PowerGuest(vmid int, running bool) (found bool) {
	s.do(func() {
		g := s.guests[vmid]
		if g == nil {
			return
		}
		found = true
		if running && !g.running {
			g.start()
		} else if !running {
			g.stop()
			s.noticeHA(vmid)
		}
	})
	return found
}

// MoveGuest migrates a guest to another node at once, volumes included.
func (s *Sim) MoveGuest(vmid int, node string) error {
	var err error
	s.do(func() {
		g, n := s.guests[vmid], s.nodes[node]
		if g == nil || n == nil {
			err = fmt.Errorf("move guest %d to %s: no such guest or node", vmid, node)
			return
		}
		s.move(g, n)
	})
	return err
}

// move takes a guest to another node. Its local volumes are made anew there,
// with their snapshots.
func (s *Sim) move(g *guest, n *node) {
	for _, volid := range g.disks() {
		if st, v := s.volume(g.node, volid); v != nil && !st.Shared {
			moved := *v
			moved.CTime = 0
			st.drop(v)
			s.putVolume(st, n, moved.Volume)
			_, there := s.volume(n, volid)
			there.snaps = moved.snaps
		}
	}
	g.node = n
	s.record(g)
}
