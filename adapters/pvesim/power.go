package pvesim

import "time"

// power is start, stop or shutdown: for VMs nearly everything fails in the
// task, for containers much fails in the reply.
func power(kind Kind, what string) func(*call) {
	return func(c *call) {
		s, vmid := c.s, c.vmid()
		if c.on("skiplock") && c.auth != rootUser {
			c.failParam("skiplock", "Only root may use this option.")
			return
		}
		g := s.at(c.node, kind, vmid)
		if kind == LXC {
			running := g != nil && g.running
			switch {
			case what == "start" && running:
				c.fail("CT " + itoa(vmid) + " already running")
				return
			case what != "start" && !running:
				c.fail("CT " + itoa(vmid) + " not running")
				return
			}
		}
		if what == "start" && !c.node.quorate {
			c.fail("cluster not ready - no quorum?")
			return
		}
		p := &powerJob{s: s, kind: kind, vmid: vmid, what: what, force: c.on("forceStop"), patience: time.Duration(c.int("timeout", 60)) * time.Second}
		if _, managed := s.ha[vmid]; managed && g != nil && what != "shutdown" {
			// The task only asks the HA stack, which acts later and in its own name.
			n := c.node
			c.fork("ha"+what, itoa(vmid), s.startStage(), act(StageAct, 0, func(t *task) string {
				t.print("Requesting HA " + what + " for " + c.sid(kind, vmid))
				s.ha[vmid] = map[string]string{"start": "started", "stop": "stopped"}[what]
				s.spawn(n, kind.prefix()+what, itoa(vmid), rootUser, p.stages()...)
				return ""
			}))
			return
		}
		c.fork(kind.prefix()+what, itoa(vmid), p.stages()...)
	}
}

func (c *call) sid(kind Kind, vmid int) string {
	if kind == LXC {
		return "ct:" + itoa(vmid)
	}
	return "vm:" + itoa(vmid)
}

type powerJob struct {
	s        *Sim
	kind     Kind
	vmid     int
	what     string
	force    bool
	patience time.Duration
}

func (p *powerJob) stages() []stage {
	st := []stage{p.s.startStage(), p.s.lockStage(p.kind, p.vmid)}
	if p.what == "shutdown" {
		return append(st, stage{name: StageAct, takes: p.s.pace.Power, wait: p.shutdown})
	}
	return append(st, act(StageAct, p.s.pace.Power, p.switchOver))
}

func (p *powerJob) missing(n *node) string {
	if p.kind == LXC || p.what == "start" {
		return noConfig(p.kind, n.name, p.vmid)
	}
	return "unable to find configuration file for VM " + itoa(p.vmid) + " on node '" + n.name + "'"
}

func (p *powerJob) switchOver(t *task) string {
	g := p.s.at(t.node, p.kind, p.vmid)
	if g == nil {
		return p.missing(t.node)
	}
	lock := g.conf.values["lock"]
	switch {
	case p.what == "stop" && !g.running:
		return ""
	case lock != "":
		return p.kind.word() + " is locked (" + lock + ")"
	case p.what == "stop":
		g.stop()
		p.s.effect(t, GuestStopped, g, "")
	case g.running:
		return p.kind.word() + " " + itoa(p.vmid) + " already running"
	case g.conf.values["template"] == "1":
		return "you can't start a vm if it's a template"
	default:
		g.start()
		p.s.effect(t, GuestStarted, g, "")
	}
	return ""
}

// shutdown asks the guest; a deaf one makes it fail when patience is over.
func (p *powerJob) shutdown(t *task, resume func(string)) {
	g := p.s.at(t.node, p.kind, p.vmid)
	switch {
	case g == nil:
		resume(p.missing(t.node))
		return
	case !g.running:
		resume("")
		return
	case g.conf.values["lock"] != "":
		resume(p.kind.word() + " is locked (" + g.conf.values["lock"] + ")")
		return
	}
	finish := func() {
		if t.alive && g.running {
			g.stop()
			p.s.effect(t, GuestStopped, g, "")
		}
		resume("")
	}
	if !g.deaf {
		finish()
		return
	}
	p.s.after(p.patience, func() {
		if p.force {
			finish()
			return
		}
		resume("VM quit/powerdown failed - got timeout")
	})
}
