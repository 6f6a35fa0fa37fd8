package pvesim

import "strings"

// snapshotMethods are the calls below /snapshot of a guest.
func snapshotMethods(kind Kind) []method {
	all := "/nodes/{node}/" + string(kind) + "/{vmid}/snapshot"
	one := all + "/{snapname}"
	anyOf := func(privs ...string) func(*grant) string {
		return func(g *grant) string { return g.any("/vms/"+g.vars["vmid"], privs...) }
	}
	take := map[string]param{"snapname": need(configID), "description": str}
	if kind == QEMU {
		take["vmstate"] = boolean
	}
	feature := map[string]param{"feature": need(enum("snapshot", "clone", "copy")), "snapname": configID}
	return []method{
		get("/nodes/{node}/"+string(kind)+"/{vmid}/feature", method{
			protected: true, perm: onGuest("VM.Audit"), params: feature, handle: guestFeature(kind),
		}),
		get(all, method{protected: true, perm: onGuest("VM.Audit"), handle: guestSnapshots(kind)}),
		post(all, method{protected: true, perm: onGuest("VM.Snapshot"), params: take, handle: createSnapshot(kind)}),
		get(one, method{handle: snapshotIndex}),
		del(one, method{protected: true, perm: onGuest("VM.Snapshot"), params: map[string]param{"force": boolean}, handle: deleteSnapshot(kind)}),
		get(one+"/config", method{perm: anyOf("VM.Snapshot", "VM.Snapshot.Rollback", "VM.Audit"), handle: snapshotConfig(kind)}),
		put(one+"/config", method{
			protected: true, perm: onGuest("VM.Snapshot"), params: map[string]param{"description": str}, handle: describeSnapshot(kind),
		}),
		post(one+"/rollback", method{
			protected: true, perm: anyOf("VM.Snapshot", "VM.Snapshot.Rollback"), params: map[string]param{"start": boolean}, handle: rollback(kind),
		}),
	}
}

func guestSnapshots(kind Kind) func(*call) {
	return func(c *call) {
		g := c.theGuest(kind)
		if g == nil {
			return
		}
		out := []map[string]any{}
		for i := range g.conf.snapshots {
			sn := &g.conf.snapshots[i]
			m := map[string]any{"name": sn.name, "snaptime": sn.time, "description": described(kind, sn.description)}
			if kind == QEMU {
				m["vmstate"] = flag(sn.vmstate != "")
			}
			if sn.parent != "" {
				m["parent"] = sn.parent
			}
			if sn.state != "" {
				m["snapstate"] = sn.state
			}
			out = append(out, m)
		}
		now := map[string]any{"name": "current", "description": "You are here!", "digest": g.conf.digest(), "running": flag(g.running)}
		if p := g.conf.values["parent"]; p != "" {
			now["parent"] = p
		}
		c.ok(append(out, now))
	}
}

// snapshotIndex asks for no right and for no snapshot either.
func snapshotIndex(c *call) {
	c.ok([]map[string]any{{"cmd": "rollback"}, {"cmd": "config"}})
}

// theSnapshot finds the snapshot of the path, or answers and returns nil.
func (c *call) theSnapshot(kind Kind, name string) (*guest, *snapshot) {
	g := c.theGuest(kind)
	if g == nil {
		return nil, nil
	}
	sn := g.conf.snapshot(name)
	if sn == nil {
		c.fail(noSnapshot(name))
	}
	return g, sn
}

func noSnapshot(name string) string { return "snapshot '" + name + "' does not exist" }

func snapshotConfig(kind Kind) func(*call) {
	return func(c *call) {
		if _, sn := c.theSnapshot(kind, c.params["snapname"]); sn != nil {
			c.ok(typed(kind, sn.keys()))
		}
	}
}

// describeSnapshot is synchronous, under the config's lock.
func describeSnapshot(kind Kind) func(*call) {
	return func(c *call) {
		c.underConfigLock(kind, func() string {
			g := c.s.at(c.node, kind, c.vmid())
			if g == nil {
				return noConfig(kind, c.node.name, c.vmid())
			}
			if lock := g.conf.values["lock"]; lock != "" {
				return kind.word() + " is locked (" + lock + ")"
			}
			sn := g.conf.snapshot(c.params["snapname"])
			if sn == nil {
				return noSnapshot(c.params["snapname"])
			}
			if text := unwritable(c.node, kind, g.vmid, c.daemonPID()); text != "" {
				return text
			}
			if c.has("description") {
				sn.description = c.params["description"]
			}
			return ""
		})
	}
}

// createSnapshot checks little before the fork: for a VM the name and the
// config, for a container only the name.
func createSnapshot(kind Kind) func(*call) {
	reserved := map[Kind][]string{QEMU: {"current", "pending"}, LXC: {"current", "vzdump"}}[kind]
	return func(c *call) {
		name := c.params["snapname"]
		for _, r := range reserved {
			if name == r || r == "pending" && strings.EqualFold(name, r) {
				c.fail("unable to use snapshot name '" + r + "' (reserved name)")
				return
			}
		}
		if kind == QEMU && c.theGuest(kind) == nil {
			return
		}
		j := c.snapshotJob(kind)
		j.comment, j.memory = c.params["description"], c.on("vmstate")
		c.fork(kind.prefix()+"snapshot", itoa(j.vmid), j.create()...)
	}
}

// deleteSnapshot and rollback check nothing before the fork.
func deleteSnapshot(kind Kind) func(*call) {
	return func(c *call) {
		j := c.snapshotJob(kind)
		j.force = c.on("force")
		c.fork(kind.prefix()+"delsnapshot", itoa(j.vmid), j.delete()...)
	}
}

func rollback(kind Kind) func(*call) {
	return func(c *call) {
		j := c.snapshotJob(kind)
		if j.start = c.on("start"); j.start {
			if text := c.rights().all("/vms/"+itoa(j.vmid), "VM.PowerMgmt"); text != "" {
				c.forbid(text)
				return
			}
		}
		c.fork(kind.prefix()+"rollback", itoa(j.vmid), j.rollback()...)
	}
}

func (c *call) snapshotJob(kind Kind) *snapshotJob {
	return &snapshotJob{s: c.s, kind: kind, vmid: c.vmid(), name: c.params["snapname"]}
}

// guestFeature tells whether the storages of all drives allow an operation.
func guestFeature(kind Kind) func(*call) {
	return func(c *call) {
		g := c.theGuest(kind)
		if g == nil {
			return
		}
		values := g.conf.values
		if name := c.params["snapname"]; name != "" {
			sn := g.conf.snapshot(name)
			if sn == nil {
				c.fail(noSnapshot(name))
				return
			}
			values = sn.values
		}
		able := true
		for _, d := range drives(values) {
			able = able && c.s.able(g.node, d.volid, c.params["feature"])
		}
		m := map[string]any{"hasFeature": flag(able)}
		if kind == QEMU {
			m["nodes"] = []string{c.node.name}
		}
		c.ok(m)
	}
}

// able reports whether a volume is there and its storage can do the operation.
func (s *Sim) able(n *node, volid, feature string) bool {
	st, v := s.volume(n, volid)
	switch {
	case v == nil:
		return false
	case feature == "snapshot":
		return st.snapshots(v)
	case feature == "clone":
		return isBase(volid)
	}
	return true
}
