package proxmox

import (
	"context"
	"fmt"
	"time"

	"writ/domain/engine"
	"writ/domain/op"
)

// deafTexts are the ends of a task that has waited in vain for the guest to shut
// down.
var deafTexts = whole(
	`VM quit/powerdown failed - got timeout`,
	`VM quit/powerdown failed`,
	`container did not stop`,
)

// A power is what a probe of a power class found.
type power struct {
	p     *probe
	gone  string // why the guest is no more; empty if it is
	doubt string // why nothing can be told
	now   op.Observed
	// restarted: it was running when the request was announced and is, and was
	// stopped between. Stayed: it was not. Neither, if that can't be told.
	restarted, stayed bool
	// killed: the task's worker did not end by itself, and may have begun more
	// than it ended.
	killed bool
	// restful is why nothing can be at work though it was killed; empty if that
	// can't be told.
	restful string
	elapsed time.Duration // since the announcement
}

// powerDoubt is how much the host's count of a guest's seconds may be off from
// this program's.
const powerDoubt = 5 * time.Second

func (p *probe) lookAtPower(ctx context.Context) (*power, error) {
	w := &power{
		p: p, elapsed: time.Since(p.announced.At),
		killed: matchAny(killedTexts, p.ended) && !matchAny(deafTexts, p.ended),
	}
	at, err := p.host.locate(ctx, p.before.Node, p.guest)
	switch {
	case err != nil && isHidden(err):
		w.doubt = err.Error()
		return w, nil
	case err != nil:
		return nil, err
	case !at.found:
		w.gone = fmt.Sprintf("there is no %s guest with VMID %d any more", p.guest.Type, p.guest.VMID)
		return w, nil
	}
	w.now = at.config.seen
	alike := p.liken(w.now)
	switch alike.verdict(p.saysDone()) {
	case different:
		w.gone = fmt.Sprintf("VMID %d is now another guest: %s", p.guest.VMID, alike.String())
		return w, nil
	case undecided:
		if w.now.Digest != p.before.Digest {
			w.doubt = fmt.Sprintf("it can't be told whether VMID %d is the same guest: %s", p.guest.VMID, alike.String())
			return w, nil
		}
	case same:
	}
	if err := p.host.readStatus(ctx, p.guest, &w.now); err != nil {
		return nil, err
	}
	if w.now.HAManaged && !p.before.HAManaged && p.ended == "" {
		// The request then became one to the HA stack, which acts later and
		// under another name.
		w.doubt = "the guest has been put under HA since, which may yet act on the request: look at its HA state and its tasks"
	}
	w.restarted, w.stayed = sameRun(p.before, w.now, w.elapsed)
	if w.killed {
		_, w.restful, err = p.orphans(ctx)
	}
	return w, err
}

// awaitRestart gives the host its time for the second half of a machine's reboot:
// the task ends when the machine is down, and a daemon that has noticed starts it
// in a task of its own (qemu-server qmeventd, cleanup). It is given as long as a
// node that is behind the others.
func (p *probe) awaitRestart(ctx context.Context, w *power) (*power, error) {
	limit := time.Now().Add(p.host.fenceTimeout)
	var err error
	for pause := firstPause; err == nil && p.saysDone() && w.now.Status == "stopped" && time.Now().Before(limit); pause = min(2*pause, lastPause) {
		if err = wait(ctx, pause); err == nil {
			w, err = p.lookAtPower(ctx)
		}
	}
	return w, err
}

// sameRun tells by the count of a guest's seconds whether it was stopped since it
// was seen running, some time ago: restarted, or stayed, or neither if that can't be
// told. A machine that was migrated counts anew, a clock of ours that was set back
// gives no time to compare with, and a guest that had only just been started can
// have been restarted without a difference.
func sameRun(before, now op.Observed, elapsed time.Duration) (restarted, stayed bool) {
	if now.Status != "running" || before.Status != "running" || now.Node != before.Node || elapsed < 0 {
		return false, false
	}
	was, is := time.Duration(before.Uptime)*time.Second, time.Duration(now.Uptime)*time.Second
	restarted = is+powerDoubt < was+elapsed
	return restarted, !restarted && was > powerDoubt
}

// state tells for people how the guest is.
func (w *power) state() string {
	if w.now.Status != "running" {
		return "the guest is " + w.now.Status
	}
	text := fmt.Sprintf("the guest is running, for %d s", w.now.Uptime)
	if w.p.before.Status == "running" {
		text += fmt.Sprintf("; when the request was announced, %d s ago, it was for %d s", int64(w.elapsed.Seconds()), w.p.before.Uptime)
	}
	if w.now.Node != w.p.before.Node {
		text += ", and on node " + w.p.before.Node
	}
	return text
}

// said is the task's end, for people.
func (w *power) said() string { return fmt.Sprintf("the task ended with %q", clip(w.p.ended)) }

// began tells whether the attempt is known to have had a task.
func (w *power) began() bool { return w.p.ended != "" }

// unfinished is the finding where the task's worker was killed: what it began, a
// guest's start or its end, may still go on, and what the guest is now may be
// another's doing.
func (w *power) unfinished() engine.Finding {
	if w.restful != "" {
		return finding(op.EffectUnknown, nil, w.state(), w.restful, "whether the task had begun anything can't be told")
	}
	f := finding(op.EffectUnknown, nil, w.state(), fmt.Sprintf("but the task's worker did not end by itself (%q): what it had begun, such as the guest's own process "+
		"that starts or ends, may still go on, and whether it had begun anything can't be told. Look at the guest once more before it is settled", clip(w.p.ended)))
	f.MayStillAct = true
	return f
}

// vague decides where the guest itself can't tell.
func (w *power) vague() (engine.Finding, bool) {
	switch {
	case w.doubt != "" && w.p.saysDone():
		return w.p.doneBefore(w.doubt), true
	case w.doubt != "":
		return finding(op.EffectUnknown, nil, w.doubt), true
	case w.gone != "" && w.p.saysDone():
		return w.p.doneBefore(w.gone), true
	case w.gone != "":
		return finding(op.EffectUnknown, nil, w.gone), true
	case w.killed:
		return w.unfinished(), true
	}
	return engine.Finding{}, false
}

// probeStop decides about a guest that was to be stopped, or to shut down.
func probeStop(w *power) engine.Finding {
	if f, decided := w.vague(); decided {
		return f
	}
	stopped := w.now.Status == "stopped"
	switch {
	case w.p.saysDone() && stopped:
		return finding(op.EffectDone, nil, w.state(), w.said())
	case w.p.saysDone() && w.stayed:
		return finding(op.EffectUnknown, nil, w.state()+": it was not stopped", "yet "+w.said())
	case w.p.saysDone():
		return finding(op.EffectDone, nil, w.state(), w.said()+"; somebody has started it again since")
	case stopped || w.restarted:
		return w.byWhom(": it was stopped since, and it can't be told by whom")
	}
	return w.neverStopped()
}

// byWhom is the finding where the guest is, or was, as it was to be, and no task
// says that it made it so: guests stop by themselves, and by other hands.
func (w *power) byWhom(what string) engine.Finding {
	reasons := []string{w.state() + what}
	if w.began() {
		reasons = append(reasons, w.said())
	}
	return finding(op.EffectUnknown, nil, reasons...)
}

// neverStopped decides about a guest that is running, and as far as can be seen
// has been all the time.
func (w *power) neverStopped() engine.Finding {
	switch {
	case !w.stayed:
		return finding(op.EffectUnknown, nil, w.state()+": whether it was stopped between can't be told by that")
	case !w.began():
		return finding(op.EffectNone, nil, w.state()+": it was not stopped since")
	case w.p.target.conduct.class == op.GuestStop:
		// A process that hangs in the kernel dies of its signal when it can.
		return finding(op.EffectPartial, nil, w.state(), fmt.Sprintf(
			"it was told to stop and has not (%q); it may still do so. Look at its process on node %s", clip(w.p.ended), w.now.Node))
	}
	// The wish has reached the guest, which may still follow it.
	return finding(op.EffectPartial, nil, w.state(), fmt.Sprintf(
		"it was asked to shut down and has not (%q); it may still do so. Look at it, and order a stop if that is meant", clip(w.p.ended)))
}

// probeReboot decides about a guest that was to shut down and start again. A
// machine's task ends when it is down; it is started by another one.
func probeReboot(w *power) engine.Finding {
	if f, decided := w.vague(); decided {
		return f
	}
	stopped := w.now.Status == "stopped"
	switch {
	case w.p.saysDone() && w.stayed:
		return finding(op.EffectUnknown, nil, w.state()+": it was not restarted", "yet "+w.said())
	case w.p.saysDone() && !stopped:
		return finding(op.EffectDone, nil, w.state(), w.said())
	case stopped && w.began() && !matchAny(deafTexts, w.p.ended):
		return finding(op.EffectPartial, nil, w.state(), w.said(), "it was shut down and not started again; start it")
	case stopped || w.restarted:
		return w.byWhom(": it was stopped since, and it can't be told by whom")
	}
	return w.neverStopped()
}

// probeStart decides about a guest that was to be started.
func probeStart(w *power) engine.Finding {
	if f, decided := w.vague(); decided {
		return f
	}
	switch running := w.now.Status == "running"; {
	case w.p.saysDone() && running:
		return finding(op.EffectDone, nil, w.state(), w.said())
	case w.p.saysDone():
		return finding(op.EffectDone, nil, w.state(), w.said()+"; it has stopped again since")
	case running:
		return w.byWhom(": it can't be told who started it")
	case w.began():
		return finding(op.EffectNone, nil, w.state()+", as it was before", w.said())
	}
	return finding(op.EffectNone, nil, w.state()+", as it was before")
}
