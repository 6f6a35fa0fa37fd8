package pvesim

import (
	"slices"
	"strings"
)

// replicationJob copies a guest's ZFS volumes to another node now and then. It
// needs its last snapshot on every volume to go on from.
type replicationJob struct {
	id     string
	vmid   int
	target string
}

func (r *replicationJob) owns(snapshot string) bool {
	return strings.HasPrefix(snapshot, "__replicate_"+r.id+"_")
}

func isReplication(snapshot string) bool { return strings.HasPrefix(snapshot, "__replicate_") }

// AddReplication makes a replication job for a guest and returns its id, which
// is "" if there is no such guest or node.
func (s *Sim) AddReplication(vmid int, target string) (id string) {
	s.do(func() {
		if s.guests[vmid] == nil || s.nodes[target] == nil {
			return
		}
		n := 0
		for _, r := range s.jobs {
			if r.vmid == vmid {
				n++
			}
		}
		id = itoa(vmid) + "-" + itoa(n)
		s.jobs = append(s.jobs, &replicationJob{id: id, vmid: vmid, target: target})
	})
	return id
}

// RunReplication runs a guest's replication jobs at once: the snapshot that each
// left on the guest's ZFS volumes makes room for a new one. It reports whether
// there was a job.
func (s *Sim) RunReplication(vmid int) (found bool) {
	s.do(func() {
		g := s.guests[vmid]
		for _, r := range s.jobs {
			if g == nil || r.vmid != vmid {
				continue
			}
			found = true
			for _, v := range s.replicable(g, drives(g.conf.values)) {
				v.snaps = slices.DeleteFunc(v.snaps, r.owns)
				v.snaps = append(v.snaps, "__replicate_"+r.id+"_"+itoa(int(g.node.now().Unix()))+"__")
			}
		}
	})
	return found
}

// RemoveReplication drops a guest's replication jobs; their snapshots stay.
func (s *Sim) RemoveReplication(vmid int) { s.do(func() { s.dropReplication(vmid) }) }

func (s *Sim) dropReplication(vmid int) {
	s.jobs = slices.DeleteFunc(s.jobs, func(r *replicationJob) bool { return r.vmid == vmid })
}

// replicated is the id of a job of the guest, or "".
func (s *Sim) replicated(vmid int) string {
	for _, r := range s.jobs {
		if r.vmid == vmid {
			return r.id
		}
	}
	return ""
}

// replicable are those of the drives' volumes that replication covers.
func (s *Sim) replicable(g *guest, of []drive) []*volume {
	var out []*volume
	for _, d := range of {
		if st, v := s.volume(g.node, d.volid); v != nil && st.Type == "zfspool" {
			out = append(out, v)
		}
	}
	return out
}

// neededByReplication says why a snapshot must not go yet: as long as a job has
// no snapshot of its own on a volume, it may have to start from this one.
func (s *Sim) neededByReplication(g *guest, sn *snapshot) string {
	current := drives(g.conf.values)
	for _, v := range s.replicable(g, drives(sn.values)) {
		if !slices.ContainsFunc(current, func(d drive) bool { return d.volid == v.VolID }) {
			continue
		}
		for _, r := range s.jobs {
			if r.vmid == g.vmid && !slices.ContainsFunc(v.snaps, r.owns) {
				return "snapshot '" + sn.name + "' needed by replication job '" + r.id + "' - run replication first"
			}
		}
	}
	return ""
}

// clearReplication removes the replication snapshots that are in the way of a
// rollback, unless others are too.
func (s *Sim) clearReplication(t *task, g *guest, sn *snapshot) string {
	if s.replicated(g.vmid) == "" {
		return ""
	}
	removed := false
	vols := s.replicable(g, drives(sn.values))
	for _, v := range vols {
		if !slices.Contains(v.snaps, sn.name) {
			continue
		}
		for _, b := range v.blockers(sn.name) {
			if !isReplication(b) {
				return "can't rollback, '" + sn.name + "' is not most recent snapshot on '" + v.VolID + "'"
			}
		}
	}
	for _, v := range vols {
		if !slices.Contains(v.snaps, sn.name) {
			continue
		}
		for _, b := range v.blockers(sn.name) {
			t.print("WARN: removing replication snapshot '" + v.VolID + "@" + b + "'")
			v.dropSnapshot(b)
			removed = true
			s.effect(t, VolumeSnapshotDeleted, g, v.VolID)
			s.nameSnapshot(b)
		}
	}
	if removed {
		t.print("WARN: you shouldn't remove '" + sn.name + "' before running the next replication!")
	}
	return ""
}

// listReplication shows the jobs of guests that the caller may audit.
func listReplication(c *call) {
	out := []map[string]any{}
	for _, r := range c.s.jobs {
		g := c.s.guests[r.vmid]
		if g == nil || !c.can("/vms/"+itoa(r.vmid), "VM.Audit") {
			continue
		}
		_, num, _ := strings.Cut(r.id, "-")
		out = append(out, map[string]any{
			"id": r.id, "type": "local", "guest": r.vmid, "jobnum": int(leadingInt(num)), "source": g.node.name, "target": r.target,
		})
	}
	c.ok(out)
}
