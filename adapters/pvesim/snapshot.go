package pvesim

import (
	"maps"
	"slices"
	"strings"
)

// snapshot finds one by name. The pointer is good until the list changes.
func (c *config) snapshot(name string) *snapshot {
	for i := range c.snapshots {
		if c.snapshots[i].name == name {
			return &c.snapshots[i]
		}
	}
	return nil
}

// takeSnapshot adds a section with the present config, which becomes the
// parent of what is to come only when the snapshot is complete.
func (c *config) takeSnapshot(name, description, state string, now int64) *snapshot {
	c.snapshots = append(c.snapshots, snapshot{
		name: name, parent: c.values["parent"], description: description, time: now, state: state, values: c.lasting(),
	})
	return &c.snapshots[len(c.snapshots)-1]
}

// lasting is what a snapshot keeps of the config: all but its description, its
// lock, its unused disks and its place among the snapshots.
func (c *config) lasting() map[string]string {
	v := maps.Clone(c.values)
	for k := range v {
		if k == "parent" || k == "description" || k == "lock" || unusedKey.MatchString(k) {
			delete(v, k)
		}
	}
	return v
}

// dropSnapshot removes a section and hands its parent on to its children.
func (c *config) dropSnapshot(name string) {
	sn := c.snapshot(name)
	parent := sn.parent
	for i := range c.snapshots {
		if c.snapshots[i].parent == name {
			c.snapshots[i].parent = parent
		}
	}
	if c.values["parent"] == name {
		c.set("parent", parent)
	}
	c.snapshots = slices.DeleteFunc(c.snapshots, func(s snapshot) bool { return s.name == name })
}

// refers reports whether the config or one of its snapshots has the volume as a
// drive.
func (c *config) refers(volid string) bool {
	has := func(values map[string]string) bool {
		return slices.ContainsFunc(drives(values), func(d drive) bool { return d.volid == volid })
	}
	return has(c.values) || slices.ContainsFunc(c.snapshots, func(sn snapshot) bool { return has(sn.values) })
}

// addUnused keeps a volume in sight that no drive names any more, of the config
// or of a snapshot.
func (c *config) addUnused(volid string) {
	if c.refers(volid) {
		return
	}
	for i := 0; ; i++ {
		switch key := "unused" + itoa(i); c.values[key] {
		case volid:
			return
		case "":
			c.values[key] = volid
			return
		}
	}
}

// drive is one drive or mount point of a config.
type drive struct{ key, volid string }

// drives lists those that a snapshot covers, in the order in which Proxmox VE
// goes through them.
func drives(values map[string]string) []drive {
	var out []drive
	for _, k := range slices.SortedFunc(maps.Keys(values), naturally) {
		volid, rest, _ := strings.Cut(values[k], ",")
		if driveKey.MatchString(k) && strings.Contains(volid, ":") && option(rest, "media") != "cdrom" {
			out = append(out, drive{k, volid})
		}
	}
	return out
}

// AddSnapshot takes a snapshot of a guest at once, as another administrator's
// hand would, with those of its volumes. It reports whether there was such a
// guest without a snapshot of that name.
func (s *Sim) AddSnapshot(vmid int, name, description string) (done bool) {
	s.do(func() {
		g := s.guests[vmid]
		if g == nil || g.conf.snapshot(name) != nil {
			return
		}
		done = true
		s.addSnapshot(g, name, description)
		s.effect(nil, SnapshotCreated, g, "")
		s.nameSnapshot(name)
	})
	return done
}

func (s *Sim) addSnapshot(g *guest, name, description string) {
	sn := g.conf.takeSnapshot(name, description, "", g.node.now().Unix())
	for _, d := range drives(sn.values) {
		if _, v := s.volume(g.node, d.volid); v != nil {
			v.snaps = append(v.snaps, name)
		}
	}
	g.conf.values["parent"] = name
}

// DropSnapshot deletes a snapshot at once, as another administrator's hand
// would. It reports whether there was one.
func (s *Sim) DropSnapshot(vmid int, name string) (found bool) {
	s.do(func() {
		g := s.guests[vmid]
		if g == nil || g.conf.snapshot(name) == nil {
			return
		}
		found = true
		for _, d := range drives(g.conf.snapshot(name).values) {
			if _, v := s.volume(g.node, d.volid); v != nil {
				v.dropSnapshot(name)
			}
		}
		g.conf.dropSnapshot(name)
		s.effect(nil, SnapshotDeleted, g, "")
		s.nameSnapshot(name)
	})
	return found
}

// nameSnapshot adds a snapshot's name to the effect just put on record.
func (s *Sim) nameSnapshot(name string) { s.effects[len(s.effects)-1].Snapshot = name }
