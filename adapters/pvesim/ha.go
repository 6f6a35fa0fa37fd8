package pvesim

import "time"

// haManaged reports whether power calls for a VMID go to the HA stack. A
// resource in state "ignored" is configured, which a destroy minds, but not
// managed.
func (s *Sim) haManaged(vmid int) bool {
	state, there := s.ha[vmid]
	return there && state != "ignored"
}

// requestHA is a power call for a guest under HA: its task only writes the
// request down and ends; the node that has the guest acts on it later, in a task
// of root@pam's own.
func (c *call) requestHA(kind Kind, what string) {
	s, vmid := c.s, c.vmid()
	word := what
	if what == "shutdown" {
		word = "stop"
	}
	timeout := 0
	if what == "shutdown" {
		timeout = c.int("timeout", 60)
	}
	c.fork("ha"+word, itoa(vmid), s.haStages(kind, vmid, word, timeout)...)
}

// haStages are the worker of such a task.
func (s *Sim) haStages(kind Kind, vmid int, word string, timeout int) []stage {
	command := "ha-manager crm-command stop " + sid(kind, vmid) + " " + itoa(timeout)
	state := "stopped"
	if word == "start" {
		command, state = "ha-manager set "+sid(kind, vmid)+" --state started", "started"
	}
	return []stage{s.startStage(), act(StageAct, 0, func(t *task) string {
		t.print("Requesting HA " + word + " for " + kind.word() + " " + itoa(vmid))
		if !t.node.quorate {
			return "command '" + command + "' failed: exit code 255"
		}
		// What is true if the worker is killed from here on: the request stands
		// and will be carried out.
		if _, there := s.ha[vmid]; there {
			s.ha[vmid] = state
		}
		t.after = append(t.after, func() { s.followHA(vmid, time.Duration(timeout)*time.Second) })
		return ""
	})}
}

func sid(kind Kind, vmid int) string {
	if kind == LXC {
		return "ct:" + itoa(vmid)
	}
	return "vm:" + itoa(vmid)
}

// followHA has the local resource manager of the guest's node bring the guest
// to the state that is requested by then. A stop with patience is a shutdown
// that ends in force.
func (s *Sim) followHA(vmid int, patience time.Duration) {
	s.after(s.pace.HA, func() {
		g := s.guests[vmid]
		if g == nil || !s.haManaged(vmid) || g.node.down || !g.node.quorate {
			return
		}
		p := &powerJob{s: s, kind: g.kind, vmid: vmid, what: "start"}
		switch wanted := s.ha[vmid]; {
		case wanted == "started" && g.running, wanted != "started" && !g.running:
			return
		case wanted == "started":
		case patience > 0:
			p.what, p.force, p.patience = "shutdown", true, &patience
		default:
			p.what = "stop"
		}
		s.spawn(g.node, g.kind.prefix()+p.what, itoa(vmid), rootUser, p.stages()...)
	})
}

// noticeHA has the HA stack see that a guest is down: one that should run is
// started again, once. A stack that takes no time only acts on requests.
func (s *Sim) noticeHA(vmid int) {
	if s.pace.HA > 0 && s.haManaged(vmid) && s.ha[vmid] == "started" {
		s.followHA(vmid, 0)
	}
}

// SetHA puts a guest under HA with the requested state, or takes it out with
// "". The HA stack acts on neither: that takes a request to it.
func (s *Sim) SetHA(vmid int, state string) {
	s.do(func() {
		if state == "" {
			s.dropHA(vmid)
			return
		}
		s.ha[vmid] = state
	})
}

func (s *Sim) dropHA(vmid int) {
	delete(s.ha, vmid)
	delete(s.haExtra, vmid)
}
