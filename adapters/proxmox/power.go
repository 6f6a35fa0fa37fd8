package proxmox

import (
	"context"
	"net/http"
	"net/url"
	"regexp"
	"strconv"

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

// secondsForm is a time to wait, of those that an intent may give.
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
		refusals:  powerRefusals(call),
		untouched: powerTaskTexts,
		recheck:   sameConfig,
		probe: func(ctx context.Context, p *probe) (engine.Finding, error) {
			now, err := p.lookAtPower(ctx)
			if class == op.GuestReboot && err == nil {
				now, err = p.awaitRestart(ctx, now)
			}
			if err != nil {
				return engine.Finding{}, err
			}
			return decide(now), nil
		},
	}
}

// powerRefusals are texts that come before the fork (qemu-server API2/Qemu.pm and
// pve-container API2/LXC/Status.pm, #vm_start and what follows it). Of a machine
// nearly everything is found out in the task; a reboot speaks of VMs, whatever the
// guest is.
func powerRefusals(call string) func(attempt) []*regexp.Regexp {
	return func(t attempt) []*regexp.Regexp {
		id := vmidText(t.guest.VMID)
		texts := []string{regexp.QuoteMeta(missingConfig(t.node, t.guest))}
		switch call {
		case "start":
			texts = append(texts, `cluster not ready - no quorum\?`)
		case "reboot":
			texts = append(texts, `VM `+id+` not running`, `unable to find configuration file for VM `+id+` on node '`+regexp.QuoteMeta(t.node)+`'`)
		}
		if t.guest.Type == op.LXC {
			texts = append(texts, `CT `+id+` not running`, `CT `+id+` already running`)
		}
		return whole(texts...)
	}
}

// powerTaskTexts come before a task has touched the guest (qemu-server
// QemuServer.pm#vm_stop, #vm_start, pve-container LXC.pm).
var powerTaskTexts = whole(
	`unable to find configuration file for (?:VM|CT) [0-9]+ on node '[A-Za-z0-9-]+'`,
	`Configuration file 'nodes/[A-Za-z0-9-]+/(?:qemu-server|lxc)/[0-9]+\.conf' does not exist`,
	`(?:VM|CT) is locked \([a-z-]+\)`,
	`(?:VM|CT) [0-9]+ already running`,
	`you can't start a (?:vm|CT) if it's a template`,
	`can't lock file '/var/lock/qemu-server/lock-[0-9]+\.conf' - got timeout`,
	`can't lock file '/run/lock/lxc/pve-config-[0-9]+\.lock' - got timeout`,
)
