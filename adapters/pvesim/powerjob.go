package pvesim

import (
	"strings"
	"time"
)

// powerJob is the worker of one power call. It holds a VMID, not a guest:
// whoever has the VMID when the lock is had is started or stopped.
type powerJob struct {
	s        *Sim
	kind     Kind
	vmid     int
	what     string
	force    bool
	skipLock bool
	patience *time.Duration // nil: not given
	// overrule, with auth and mayOverrule, is stop's overrule-shutdown.
	overrule, mayOverrule bool
	auth                  string
}

func (p *powerJob) stages() []stage {
	st := []stage{p.s.startStage()}
	if p.overrule {
		st = append(st, p.overruleStage())
	}
	st = append(st, p.s.lockStage(p.kind, p.vmid))
	takes := p.s.pace.Power
	switch {
	case p.what == "shutdown":
		st = append(st, stage{name: StageAct, takes: takes, wait: p.shutdown})
	case p.what == "reboot" && p.kind == LXC:
		p.force = true
		st = append(st, stage{name: StageStop, takes: takes, wait: p.shutdown}, act(StageUp, takes, p.comeBack))
	case p.what == "reboot":
		st = append(st, stage{name: StageStop, takes: takes, wait: p.shutdown})
	default:
		st = append(st, act(StageAct, takes, p.switchOver))
	}
	return append(st, endStage())
}

func (p *powerJob) missing(n *node) string {
	if p.kind == LXC || p.what == "start" {
		return noConfig(p.kind, n.name, p.vmid)
	}
	return noVM(n, p.vmid)
}

func (p *powerJob) switchOver(t *task) string {
	g := p.s.at(t.node, p.kind, p.vmid)
	if g == nil {
		return p.missing(t.node)
	}
	if p.what == "start" {
		return p.start(t, g)
	}
	if !g.running {
		return ""
	}
	if text := p.refusedByLock(g); text != "" {
		return text
	}
	p.s.halt(t, g)
	return ""
}

// refusedByLock is the config's own lock, which a crashed task leaves behind.
func (p *powerJob) refusedByLock(g *guest) string {
	lock := g.conf.values["lock"]
	switch {
	case lock == "" || p.skipLock,
		p.kind == LXC && lock == "mounted",
		p.kind == QEMU && p.what == "start" && lock == "suspended":
		return ""
	}
	return p.kind.word() + " is locked (" + lock + ")"
}

func (p *powerJob) start(t *task, g *guest) string {
	if g.conf.values["template"] == "1" {
		if p.kind == LXC {
			return "you can't start a CT if it's a template"
		}
		return "you can't start a vm if it's a template"
	}
	if p.kind == QEMU && g.running && g.conf.values["lock"] == "backup" {
		return "" // a VM that its backup holds is resumed, which changes nothing here
	}
	if text := p.refusedByLock(g); text != "" {
		return text
	}
	if g.running {
		return p.kind.word() + " " + itoa(p.vmid) + " already running"
	}
	for _, d := range drives(g.conf.values) {
		if text := p.s.usable(storageOf(d.volid), t.node); text != "" {
			return text
		}
		if _, v := p.s.volume(t.node, d.volid); v == nil {
			return "volume '" + d.volid + "' does not exist"
		}
	}
	if p.kind == QEMU && g.conf.values["lock"] == "suspended" {
		delete(g.conf.values, "lock") // resumed from disk
	}
	if text := p.s.diskless(g); text != "" {
		return text
	}
	p.s.boot(t, g)
	return ""
}

// boot starts a guest and halt stops it, with the effect on record.
func (s *Sim) boot(t *task, g *guest) {
	g.start()
	s.effect(t, GuestStarted, g, "")
}

func (s *Sim) halt(t *task, g *guest) {
	g.stop()
	s.effect(t, GuestStopped, g, "")
	s.noticeHA(g.vmid)
}

// shutdown asks the guest; what a deaf one comes to is decided when patience is
// over.
func (p *powerJob) shutdown(t *task, resume func(string)) {
	g := p.s.at(t.node, p.kind, p.vmid)
	switch {
	case g == nil:
		resume(p.missing(t.node))
		return
	case !g.running:
		resume("")
		return
	}
	// A container's reboot asks for no lock.
	if text := p.refusedByLock(g); text != "" && (p.kind == QEMU || p.what != "reboot") {
		resume(text)
		return
	}
	if !g.deaf {
		p.gone(t, g)
		resume("")
		return
	}
	patience := p.limit(g)
	if p.force {
		p.s.after(patience, func() {
			if t.alive && p.kind == QEMU {
				t.print("VM still running - terminating now with SIGTERM")
			}
			p.gone(t, g)
			resume("")
		})
		return
	}
	if p.kind == QEMU {
		p.s.after(patience, func() { resume("VM quit/powerdown failed - got timeout") })
		return
	}
	// lxc-stop gives up first; then the worker watches the monitor as long again
	// and five seconds more.
	p.s.after(2*patience+5*time.Second, func() {
		if t.alive {
			t.print("command 'lxc-stop -n " + itoa(p.vmid) + " --nokill --timeout " + itoa(int(patience/time.Second)) + "' failed: exit code 1")
		}
		resume("container did not stop")
	})
}

// limit is how long the guest is waited for: the parameter, the "down" of the
// config's startup, or a minute.
func (p *powerJob) limit(g *guest) time.Duration {
	if p.patience != nil {
		return *p.patience
	}
	for part := range strings.SplitSeq(g.conf.values["startup"], ",") {
		if text, ok := strings.CutPrefix(part, "down="); ok && p.kind == QEMU && leadingInt(text) > 0 {
			return time.Duration(leadingInt(text)) * time.Second
		}
	}
	return shutdownPatience
}

// shutdownPatience is how long a guest is waited for if nobody says otherwise.
const shutdownPatience = time.Minute

// gone is the end of the guest's process. After a VM's reboot request, qmeventd
// starts it again when it notices that, in a task of root@pam's own, which waits
// for the lock that this one holds.
func (p *powerJob) gone(t *task, g *guest) {
	if !t.alive || !g.running {
		return
	}
	p.s.halt(t, g)
	if p.what == "reboot" && p.kind == QEMU {
		again := &powerJob{s: p.s, kind: QEMU, vmid: p.vmid, what: "start"}
		p.s.spawn(t.node, "qmstart", itoa(p.vmid), rootUser, again.stages()...)
	}
}

// comeBack is the second half of a container's reboot.
func (p *powerJob) comeBack(t *task) string {
	if g := p.s.at(t.node, LXC, p.vmid); g != nil && !g.running {
		p.s.boot(t, g)
	}
	return ""
}
