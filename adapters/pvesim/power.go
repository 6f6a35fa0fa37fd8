package pvesim

import (
	"strings"
	"time"
)

// Parameters that Proxmox VE lets only root@pam use, with a ticket, and that do
// nothing here but be refused to everybody else.
var onlyRoot = map[string][]string{
	"start": {
		"stateuri", "skiplock", "migratedfrom", "migration_type", "migration_network", "targetstorage", "force-cpu",
		"with-conntrack-state", "nets-host-mtu",
	},
	"stop":     {"skiplock", "keepActive", "migratedfrom"},
	"shutdown": {"skiplock", "keepActive"},
}

// power is start, stop, shutdown or reboot: for VMs nearly everything fails in
// the task, for containers much fails in the reply.
// (qemu-server: PVE::API2::Qemu#vm_start and following, pve-container:
// PVE::API2::LXC::Status)
func power(kind Kind, what string) func(*call) {
	return func(c *call) {
		for _, name := range onlyRoot[what] {
			if v := c.params[name]; v != "" && v != "0" && c.auth != rootUser {
				c.failParam(name, "Only root may use this option.")
				return
			}
		}
		s, vmid := c.s, c.vmid()
		g := s.at(c.node, kind, vmid)
		if text := powerRefusal(kind, what, vmid, c.node, g); text != "" {
			c.fail(text)
			return
		}
		if what != "reboot" && s.haManaged(vmid) && !c.has("migratedfrom") {
			if c.on("overrule-shutdown") {
				c.failParam("overrule-shutdown", "Not applicable for HA resources.")
				return
			}
			c.requestHA(kind, what)
			return
		}
		p := &powerJob{
			s: s, kind: kind, vmid: vmid, what: what, force: c.on("forceStop"), skipLock: c.on("skiplock"),
			overrule: c.on("overrule-shutdown"), auth: c.auth, mayOverrule: c.can("/nodes/"+c.node.name, "Sys.Modify"),
		}
		if c.has("timeout") {
			p.patience = new(time.Duration(c.int("timeout", 0)) * time.Second)
		}
		c.fork(kind.prefix()+what, itoa(vmid), p.stages()...)
	}
}

// powerRefusal is what fails in the reply, without a task.
func powerRefusal(kind Kind, what string, vmid int, n *node, g *guest) string {
	running := g != nil && g.running
	switch {
	case kind == LXC && what == "start" && running:
		return "CT " + itoa(vmid) + " already running"
	case kind == LXC && what == "reboot" && !running:
		return "VM " + itoa(vmid) + " not running" // so it says of containers too
	case kind == LXC && what != "start" && !running:
		return "CT " + itoa(vmid) + " not running"
	case kind == QEMU && what == "reboot" && g == nil:
		return noVM(n, vmid)
	case kind == QEMU && what == "reboot" && !running:
		return "VM " + itoa(vmid) + " not running"
	case what == "start" && !n.quorate:
		return noQuorum
	}
	return ""
}

const noQuorum = "cluster not ready - no quorum?"

// noVM is how qemu-server words a missing config where it looks for a process.
func noVM(n *node, vmid int) string {
	return "unable to find configuration file for VM " + itoa(vmid) + " on node '" + n.name + "'"
}

// overruleStage aborts the shutdowns of the guest that run on the node, as far
// as the caller may: it happens before the worker waits for the config's lock,
// which they hold.
func (p *powerJob) overruleStage() stage {
	return act(StageOverrule, 0, func(t *task) string {
		var upids []string
		for _, other := range t.node.tasks.running() {
			if other.typ != p.kind.prefix()+"shutdown" || other.id != itoa(p.vmid) || !p.mayOverrule && !mayRead(p.auth, other) {
				continue
			}
			upids = append(upids, other.upid)
			other.interrupt()
		}
		if len(upids) > 0 {
			t.print("overruled " + p.kind.prefix() + "shutdown tasks: " + strings.Join(upids, ", "))
		}
		return ""
	})
}

// powerMethods are the power calls with the parameters that each kind takes.
func powerMethods(kind Kind) []method {
	params := map[string]map[string]param{
		"start":    {"skiplock": boolean, "debug": boolean},
		"stop":     {"skiplock": boolean, "overrule-shutdown": boolean},
		"shutdown": {"forceStop": boolean, "timeout": natural},
		"reboot":   {"timeout": natural},
	}
	if kind == QEMU {
		node := pathParams["node"]
		params["start"] = map[string]param{
			"skiplock": boolean, "timeout": natural, "machine": str, "force-cpu": str, "stateuri": {kind: "string", maxLen: 128},
			"migratedfrom": node, "migration_network": str, "migration_type": enum("secure", "insecure"), "nets-host-mtu": str,
			"targetstorage": str, "with-conntrack-state": boolean,
		}
		for _, name := range []string{"keepActive", "skiplock"} {
			params["stop"][name], params["shutdown"][name] = boolean, boolean
		}
		params["stop"]["timeout"], params["stop"]["migratedfrom"] = natural, node
	}
	var out []method
	for _, what := range []string{"start", "stop", "shutdown", "reboot"} {
		out = append(out, post("/nodes/{node}/"+string(kind)+"/{vmid}/status/"+what, method{
			protected: true, perm: onGuest("VM.PowerMgmt"), params: params[what], handle: power(kind, what),
		}))
	}
	return out
}
