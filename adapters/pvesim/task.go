package pvesim

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// task is one worker process and what is left of it.
type task struct {
	s     *Sim
	node  *node
	upid  string
	pid   int
	start int64 // node clock
	ticks int   // process start since boot, in 1/100 s
	typ   string
	id    string
	user  string // authentication id, token included
	tag   string // of the request that started it

	lines    []string
	warnings int
	alive    bool
	exit     string
	end      int64
	listed   bool // the parent got it into the list of active tasks
	reaped   bool // the parent enters it in the archive when it ends

	stages      []stage
	gated       bool // the faults of the coming stage have been looked at
	rested      bool // its time has passed
	blocked     bool
	pumping     bool
	epoch       int // grows when the task is woken: a stale timer or gate then does nothing
	interrupted bool
	slow        time.Duration // added to the coming stage by a fault
	abandon     func()        // gives up the lock being waited for
	// waiting words the failure to get that lock; nil when none is waited for.
	waiting func(why string) string
	release []func() // what the process holds: the kernel frees it when it ends
	after   []func() // what others do once it has ended, however it ended
	// unwind is what the worker still does when it dies of an error, whatever
	// stage it is at; it words the error. A killed worker does nothing.
	unwind func(text string) string
}

// stage is one named step of a worker.
type stage struct {
	name  string
	takes time.Duration
	// swallows says that an interrupt does not end the task here: the code
	// turns it into a warning for the volume at hand.
	swallows bool
	// cleanup is what the worker still does when this stage fails or is
	// interrupted; not when it is killed.
	cleanup func(t *task)
	// Exactly one of these: act runs and is over; wait calls resume when it is.
	act  func(t *task) string
	wait func(t *task, resume func(failure string))
}

// fork starts a worker and answers the call with its UPID, in the order of
// PVE::RESTEnvironment::fork_worker: start time, fork, log file, release of the
// worker, cluster log, list of active tasks, reply.
func (c *call) fork(typ, id string, stages ...stage) {
	c.letIn()
	t := c.s.newTask(c.node, typ, id, c.auth, stages)
	t.tag = c.req.Tag
	if len(t.upid) > 255 {
		// The log file is named after the UPID.
		c.fail("starting worker failed: unable to create file '" + t.logPath() + "' - File name too long")
		return
	}
	t.begin()
	lock := c.armed(FaultActiveLock)
	if lock != nil {
		t.listed = false
		t.reaped = !lock.fault.Unlisted
	}
	// What is true if the next line never happens: the worker runs and the
	// caller does not know its UPID.
	t.pump()
	if lock != nil {
		text := lock.fault.Text
		if text == "" {
			text = "can't lock file '/var/log/pve/tasks/.active.lock' - got timeout"
		}
		c.fail(text)
		return
	}
	c.ok(t.upid)
}

// spawn starts a worker that no request waits for.
func (s *Sim) spawn(n *node, typ, id, user string, stages ...stage) {
	t := s.newTask(n, typ, id, user, stages)
	t.begin()
	t.pump()
}

func (s *Sim) newTask(n *node, typ, id, user string, stages []stage) *task {
	n.lastPID += 1 + s.rng.IntN(20)
	if n.lastPID > 4000000 {
		n.lastPID = 1000
	}
	t := &task{
		s: s, node: n, typ: typ, id: id, user: user, stages: stages, pid: n.lastPID, alive: true,
		listed: true, reaped: true,
		start: n.now().Unix(), ticks: int(s.now().Sub(n.boot).Milliseconds() / 10),
	}
	t.upid = fmt.Sprintf("UPID:%s:%08X:%08X:%08X:%s:%s:%s:", n.name, t.pid, t.ticks, t.start, typ, id, user)
	return t
}

func (t *task) logPath() string {
	return fmt.Sprintf("/var/log/pve/tasks/%X/%s", t.start&0xf, t.upid)
}

func (t *task) begin() {
	t.node.tasks.begin(t)
	t.s.log.add(t.node, t.user, "starting task "+t.upid)
}

func (t *task) print(line string) { t.lines = append(t.lines, line) }

func (t *task) warn(text string) {
	t.warnings++
	t.print("WARN: " + text)
}

// prepend puts stages in front of those still to come.
func (t *task) prepend(stages ...stage) { t.stages = append(stages, t.stages...) }

// pump runs stages until the task has to wait or is over.
func (t *task) pump() {
	if t.pumping {
		return // a stage resumed at once: the loop below goes on
	}
	t.pumping = true
	defer func() { t.pumping = false }()
	for t.alive && !t.blocked {
		if len(t.stages) == 0 {
			t.succeed()
			return
		}
		st := t.stages[0]
		switch {
		case !t.gated:
			t.gated = true
			t.gate(st)
		case !t.rested:
			t.rested = true
			takes := st.takes + t.slow
			t.slow = 0
			if takes > 0 {
				t.s.after(takes, t.block())
			}
		default:
			t.stages = t.stages[1:]
			t.gated, t.rested = false, false
			t.run(st)
		}
	}
}

// block stops the pump and returns what starts it again, once.
func (t *task) block() (wake func()) {
	t.blocked = true
	t.epoch++
	epoch := t.epoch
	return func() {
		if t.epoch == epoch {
			t.wake()
		}
	}
}

func (t *task) wake() {
	t.epoch++
	t.blocked = false
	t.pump()
}

func (t *task) gate(st stage) {
	in := t.s.onTask(t, st.name, FaultTaskHold, FaultTaskDelay, FaultTaskFail, FaultTaskKill)
	if in == nil {
		return
	}
	switch in.fault.Kind { //nolint:exhaustive // the four that were asked for
	case FaultTaskHold:
		in.hold(t.block())
	case FaultTaskDelay:
		t.slow = in.fault.Delay
	case FaultTaskFail:
		t.failAt(st, in.fault.Text)
	default:
		t.die()
	}
}

func (t *task) run(st stage) {
	if st.act != nil {
		if failure := st.act(t); failure != "" {
			t.failAt(st, failure)
		}
		return
	}
	wake := t.block()
	st.wait(t, func(failure string) {
		if !t.alive {
			return
		}
		if failure != "" {
			t.failAt(st, failure)
			return
		}
		wake()
	})
}

func (t *task) succeed() {
	if t.warnings > 0 {
		verdict := "WARNINGS: " + itoa(t.warnings)
		t.print("TASK " + verdict)
		t.finish(verdict)
		return
	}
	t.print("TASK OK")
	t.finish("OK")
}

// failAt ends the task with an error of one stage, which may clean up first.
func (t *task) failAt(st stage, text string) {
	if st.cleanup != nil {
		st.cleanup(t)
	}
	t.fail(text)
}

// fail ends the task with an error; its line ends are folded to blanks.
func (t *task) fail(text string) {
	if t.unwind != nil {
		clean := t.unwind
		t.unwind = nil
		text = clean(text)
	}
	text = strings.TrimSpace(strings.ReplaceAll(text, "\n", " "))
	t.print("TASK ERROR: " + text)
	t.finish(text)
}

// die is SIGKILL, or the end of the host: no verdict is written.
func (t *task) die() { t.finish("unexpected status") }

func (t *task) finish(exit string) {
	if !t.alive {
		return
	}
	t.alive, t.exit, t.end = false, exit, t.node.now().Unix()
	t.epoch++
	if t.abandon != nil {
		t.abandon()
		t.abandon = nil
	}
	if !t.node.down {
		// The parent writes this: on a dead host nobody does.
		t.s.log.add(t.node, t.user, "end task "+t.upid+" "+exit)
	}
	t.node.tasks.finish(t)
	if t.s.onTask(t, "", FaultTaskForget) != nil {
		t.node.tasks.forget(t.upid)
	}
	held := slices.Concat(t.release, t.after)
	t.release, t.after = nil, nil
	for _, f := range held {
		f()
	}
}

// interrupt is SIGTERM from "stop task".
func (t *task) interrupt() {
	switch {
	case !t.alive:
	case t.waiting != nil:
		t.fail(t.waiting("received interrupt"))
	case len(t.stages) > 0 && t.stages[0].swallows:
		t.interrupted = true
		t.rested = true
		t.wake()
	case len(t.stages) > 0 && t.gated:
		t.failAt(t.stages[0], "received interrupt")
	default:
		t.fail("received interrupt")
	}
}

// lockStage takes the flock of a guest's config, waiting ten seconds at most,
// and keeps it until the worker ends.
func (s *Sim) lockStage(kind Kind, vmid int) stage {
	return s.flockStage(StageLock, kind, vmid, func(why string) string {
		return "can't lock file '" + flockPath(kind, vmid) + "' - " + why
	})
}

// flockStage takes a lock file; failed words what the worker says if it does
// not get it.
func (s *Sim) flockStage(name string, kind Kind, vmid int, failed func(why string) string) stage {
	return stage{name: name, wait: func(t *task, resume func(string)) {
		l := s.flock(t.node, kind, vmid)
		waited := l.held
		if waited {
			t.print("trying to acquire lock...")
			t.waiting = failed
		}
		t.abandon = s.acquire(l, lockTimeout, func(got bool) {
			t.waiting, t.abandon = nil, nil
			if !got {
				resume(failed("got timeout"))
				return
			}
			t.release = append(t.release, func() { s.release(l) })
			if waited {
				t.print(" OK")
			}
			resume("")
		})
		if t.waiting == nil {
			t.abandon = nil
		}
	}}
}

// locked puts stages under the flock of a guest's config, which is given up
// after the last of them, as lock_config does around a function.
func (s *Sim) locked(lockName string, kind Kind, vmid int, stages ...stage) []stage {
	lock := s.lockStage(kind, vmid)
	lock.name = lockName
	last := &stages[len(stages)-1]
	do := last.act
	last.act = func(t *task) string {
		defer t.unlock()
		return do(t)
	}
	return append([]stage{lock}, stages...)
}

// unlock gives up the lock that was taken last.
func (t *task) unlock() {
	if n := len(t.release); n > 0 {
		free := t.release[n-1]
		t.release = t.release[:n-1]
		free()
	}
}

func act(name string, takes time.Duration, f func(t *task) string) stage {
	return stage{name: name, takes: takes, act: f}
}

func (s *Sim) startStage() stage {
	return act(StageStart, s.pace.Start, func(*task) string { return "" })
}
