package pvesim

// moveHA is migrate or relocate of a resource: the reply only says that the
// request was taken. A migration moves the guest as it is, a relocation shuts it
// down first and starts it where it went; both are tasks of root@pam.
func moveHA(relocate bool) func(*call) {
	return func(c *call) {
		id, vmid, ok := c.parseSID()
		if !ok {
			return
		}
		target := c.params["node"]
		if !c.s.configured(id, vmid) || !c.s.haManaged(vmid) {
			c.fail("resource '" + id + "' is not HA managed")
			return
		}
		c.ok(map[string]any{"sid": id, "requested-node": target})
		c.s.after(c.s.pace.HA, func() { c.s.carry(vmid, target, relocate) })
	}
}

// carry is what the nodes' resource managers do about it.
func (s *Sim) carry(vmid int, target string, relocate bool) {
	g, n := s.guests[vmid], s.nodes[target]
	if g == nil || n == nil || g.node == n || g.node.down || n.down {
		return
	}
	if !relocate || !g.running {
		s.spawn(g.node, g.kind.moveType(), itoa(vmid), rootUser, s.moveStages(g.kind, vmid, n)...)
		return
	}
	p := &powerJob{s: s, kind: g.kind, vmid: vmid, what: "shutdown", force: true}
	down := s.newTask(g.node, g.kind.prefix()+"shutdown", itoa(vmid), rootUser, p.stages())
	down.after = append(down.after, func() {
		if s.guests[vmid] != g || g.running {
			return // somebody was faster, or it would not go down
		}
		s.move(g, n)
		if s.pace.HA == 0 {
			s.followHA(vmid, 0) // a stack that takes its time has noticed by itself
		}
	})
	down.begin()
	down.pump()
}

// moveType is the type of a migration's task.
func (k Kind) moveType() string {
	if k == LXC {
		return "vzmigrate"
	}
	return "qmigrate"
}

// moveStages are a migration: under the migration lock the config is read, the
// volumes and the memory go over, and then the config.
func (s *Sim) moveStages(kind Kind, vmid int, to *node) []stage {
	lock := s.flockStage(StageMigration, migration, vmid, func(why string) string {
		return "can't lock file '" + migrationPath(vmid) + "' - " + why
	})
	return []stage{s.startStage(), lock, act(StageAct, s.pace.Power, func(t *task) string {
		g := s.at(t.node, kind, vmid)
		switch {
		case g == nil:
			return noConfig(kind, t.node.name, vmid)
		case g.conf.values["lock"] != "":
			return kind.word() + " is locked (" + g.conf.values["lock"] + ")"
		case !t.node.quorate:
			return noQuorum
		}
		s.move(g, to)
		return ""
	})}
}
