package proxmox

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"time"

	"writ/domain/engine"
	"writ/domain/op"
)

// powerConducts are those of the classes that stop and start a guest. The host
// counts for how long a guest has been running, and begins anew with each start:
// by that, and not by its state alone, it can be told whether one was stopped.
func powerConducts() []*conduct {
	return []*conduct{
		powerConduct(op.GuestStop, "stop", false, probeStop),
		powerConduct(op.GuestShutdown, "shutdown", true, probeStop),
		powerConduct(op.GuestReboot, "reboot", true, probeReboot),
		powerConduct(op.GuestStart, "start", false, probeStart),
	}
}

var secondsForm = regexp.MustCompile(`^[1-9][0-9]{0,5}$`)

func powerConduct(class op.Class, call string, timed bool, decide func(*power) engine.Finding) *conduct {
	return &conduct{
		class:   class,
		observe: observeGuest,
		compose: func(in op.Intent, seen op.Observed) op.Request {
			query := make(url.Values)
			if in.Params.Timeout != nil {
				query.Set("timeout", strconv.Itoa(*in.Params.Timeout))
			}
			return op.Request{Method: http.MethodPost, Path: guestPath(seen.Node, *in.Target.Guest) + "/status/" + call, Query: query.Encode()}
		},
		form: func(s subject) form {
			f := form{method: http.MethodPost, path: guestPath(s.node, s.guest) + "/status/" + call}
			if timed {
				f.may = params{"timeout": secondsForm}
			}
			return f
		},
		task:      guestTask("qm"+call, "vz"+call),
		rights:    onGuest("VM.PowerMgmt"),
		refusals:  powerRefusals,
		untouched: powerTaskTexts,
		recheck:   sameConfig,
		probe: func(ctx context.Context, p *probe) (engine.Finding, error) {
			now, err := p.lookAtPower(ctx)
			if err != nil {
				return engine.Finding{}, err
			}
			return decide(now), nil
		},
	}
}

// powerRefusals are texts that come before the fork, for containers alone
// (pve-container API2/LXC/Status.pm); of a machine everything but a missing
// right is found out in the task.
func powerRefusals(t attempt) []*regexp.Regexp {
	if t.guest.Type != op.LXC {
		return nil
	}
	id := vmidText(t.guest.VMID)
	return whole(`CT `+id+` not running`, `CT `+id+` already running`, regexp.QuoteMeta(missingConfig(t.node, t.guest)))
}

// powerTaskTexts come before a task has touched the guest (qemu-server
// QemuServer.pm#vm_stop, #vm_start, pve-container LXC.pm).
var powerTaskTexts = whole(
	`unable to find configuration file for (?:VM|CT) [0-9]+ on node '[A-Za-z0-9-]+'`,
	`Configuration file 'nodes/[A-Za-z0-9-]+/(?:qemu-server|lxc)/[0-9]+\.conf' does not exist`,
	`(?:VM|CT) is locked \([a-z-]+\)`,
	`(?:VM|CT) [0-9]+ already running`,
	`can't lock file '/var/lock/qemu-server/lock-[0-9]+\.conf' - got timeout`,
	`can't lock file '/run/lock/lxc/pve-config-[0-9]+\.lock' - got timeout`,
)

// A power is what a probe of a power class found.
type power struct {
	p     *probe
	gone  string // why the guest is no more; empty if it is
	doubt string // why nothing can be told
	now   op.Observed
	// restarted: it is running, and for less time than has passed since the
	// announcement.
	restarted bool
	elapsed   time.Duration // since the announcement
}

// powerDoubt is how much the host's count of a guest's seconds may be off from
// this program's.
const powerDoubt = 5 * time.Second

func (p *probe) lookAtPower(ctx context.Context) (*power, error) {
	w := &power{p: p, elapsed: time.Since(p.announced.At)}
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
	up := time.Duration(w.now.Uptime) * time.Second
	w.restarted = w.now.Status == "running" && up+powerDoubt < w.elapsed
	return w, nil
}

// state tells for people how the guest is.
func (w *power) state() string {
	if w.now.Status == "running" {
		return fmt.Sprintf("the guest is running, for %d s; the request was announced %d s ago", w.now.Uptime, int64(w.elapsed.Seconds()))
	}
	return "the guest is " + w.now.Status
}

// began tells whether the attempt is known to have had a task.
func (w *power) began() bool { return w.p.ended != "" }

// vague decides where the guest itself can't tell.
func (w *power) vague() (engine.Finding, bool) {
	said := fmt.Sprintf("the task ended with %q", clip(w.p.ended))
	switch {
	case w.doubt != "" && w.p.saysDone():
		return finding(op.EffectDone, nil, said, "what became of the guest since can't be told: "+w.doubt), true
	case w.doubt != "":
		return finding(op.EffectUnknown, nil, w.doubt), true
	case w.gone != "" && w.p.saysDone():
		return finding(op.EffectDone, nil, said, w.gone), true
	case w.gone != "":
		return finding(op.EffectUnknown, nil, w.gone), true
	}
	return engine.Finding{}, false
}

// probeStop decides about a guest that was to be stopped, or to shut down.
func probeStop(w *power) engine.Finding {
	if f, decided := w.vague(); decided {
		return f
	}
	said := fmt.Sprintf("the task ended with %q", clip(w.p.ended))
	stopped := w.now.Status == "stopped"
	switch {
	case w.p.saysDone() && stopped:
		return finding(op.EffectDone, nil, w.state(), said)
	case w.p.saysDone() && w.restarted:
		return finding(op.EffectDone, nil, w.state(), said+"; somebody has started it again since")
	case w.p.saysDone():
		return finding(op.EffectUnknown, nil, w.state(), "yet "+said)
	case stopped && w.began():
		return finding(op.EffectDone, nil, w.state()+", as it was to be; it was running when the request was announced", said)
	case stopped || w.restarted:
		return finding(op.EffectUnknown, nil, w.state()+": it was stopped since, and it can't be told by whom")
	}
	return w.neverStopped()
}

// neverStopped decides about a guest that has been running all the time.
func (w *power) neverStopped() engine.Finding {
	if !w.began() {
		return finding(op.EffectNone, nil, w.state()+": it was not stopped since")
	}
	if w.p.target.conduct.class == op.GuestStop {
		if matchAny(killedTexts, w.p.ended) {
			f := finding(op.EffectUnknown, nil, w.state(), fmt.Sprintf("but the task's worker did not end by itself (%q)", clip(w.p.ended)))
			f.MayStillAct = true
			return f
		}
		return finding(op.EffectNone, nil, w.state()+": it was not stopped", fmt.Sprintf("the task ended with %q", clip(w.p.ended)))
	}
	// The wish has reached the guest, which may still follow it.
	return finding(op.EffectPartial, nil, w.state(), fmt.Sprintf(
		"it was asked to shut down and has not (%q); it may still do so. Look at it, and order a stop if that is meant", clip(w.p.ended)))
}

// probeReboot decides about a guest that was to shut down and start again.
func probeReboot(w *power) engine.Finding {
	if f, decided := w.vague(); decided {
		return f
	}
	said := fmt.Sprintf("the task ended with %q", clip(w.p.ended))
	switch {
	case w.restarted && w.began():
		return finding(op.EffectDone, nil, w.state(), said)
	case w.restarted:
		return finding(op.EffectUnknown, nil, w.state()+": it was restarted, and it can't be told by whom")
	case w.now.Status == "stopped" && w.began():
		return finding(op.EffectPartial, nil, w.state(), said, "it was shut down and not started again; start it")
	case w.now.Status == "stopped":
		return finding(op.EffectUnknown, nil, w.state()+": it was stopped since, and it can't be told by whom")
	case w.p.saysDone():
		return finding(op.EffectUnknown, nil, w.state(), "yet "+said)
	}
	return w.neverStopped()
}

// probeStart decides about a guest that was to be started.
func probeStart(w *power) engine.Finding {
	if f, decided := w.vague(); decided {
		return f
	}
	said := fmt.Sprintf("the task ended with %q", clip(w.p.ended))
	switch running := w.now.Status == "running"; {
	case w.p.saysDone() && running:
		return finding(op.EffectDone, nil, w.state(), said)
	case w.p.saysDone():
		return finding(op.EffectDone, nil, w.state(), said+"; it has stopped again since")
	case running && w.began():
		return finding(op.EffectDone, nil, w.state()+", as it was to be", said)
	case running:
		return finding(op.EffectUnknown, nil, w.state()+": it can't be told who started it")
	case w.began():
		return finding(op.EffectNone, nil, w.state()+", as it was before", said)
	}
	return finding(op.EffectNone, nil, w.state()+", as it was before")
}
