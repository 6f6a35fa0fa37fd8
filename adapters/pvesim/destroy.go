package pvesim

import (
	"maps"
	"slices"
	"strings"
)

// destroyGuest is DELETE of a guest: the checks that fail in the reply, then a
// task that repeats them under the config's lock.
// (qemu-server: PVE::API2::Qemu#destroy_vm, pve-container: PVE::API2::LXC#destroy_vm)
func destroyGuest(kind Kind) func(*call) {
	return func(c *call) {
		s, vmid := c.s, c.vmid()
		if kind == QEMU && c.on("skiplock") && c.auth != rootUser {
			c.failParam("skiplock", "Only root may use this option.")
			return
		}
		d := &destroy{s: s, kind: kind, vmid: vmid, purge: c.on("purge"), unreferenced: c.on("destroy-unreferenced-disks"), skipLock: c.on("skiplock")}
		g := s.at(c.node, kind, vmid)
		if text := d.refuse(c.node, g, c.on("force")); text != "" {
			c.fail(text)
			return
		}
		stages := []stage{s.startStage()}
		if kind == LXC && c.on("force") && g.running {
			stages = append(stages, act("stop", s.pace.Power, d.forceStop))
		}
		stages = append(stages, s.lockStage(kind, vmid), act(StageCheck, 0, d.check))
		c.fork(kind.prefix()+"destroy", itoa(vmid), stages...)
	}
}

// at finds the guest whose config file is on n.
func (s *Sim) at(n *node, kind Kind, vmid int) *guest {
	if g := s.guests[vmid]; g != nil && g.kind == kind && g.node == n {
		return g
	}
	return nil
}

// destroy is one worker's errand. It holds a VMID, not a guest: whoever has the
// VMID when the lock is had is destroyed.
type destroy struct {
	s            *Sim
	kind         Kind
	vmid         int
	purge        bool
	unreferenced bool
	skipLock     bool

	g *guest // from check on
}

// refuse gives the reason that shows in the reply, without a task.
func (d *destroy) refuse(n *node, g *guest, force bool) string {
	if g == nil {
		return noConfig(d.kind, n.name, d.vmid)
	}
	if text := d.protected(g); text != "" {
		return text
	}
	if lock := g.conf.values["lock"]; d.kind == LXC && lock != "" {
		return "CT is locked (" + lock + ")"
	}
	if id := d.s.replicated(d.vmid); id != "" && !d.purge {
		return "There is a replication job '" + id + "' for guest '" + itoa(d.vmid) + "' - Please remove that first."
	}
	if _, managed := d.s.ha[d.vmid]; managed && !d.purge {
		return "unable to remove " + d.kind.word() + " " + itoa(d.vmid) + " - used in HA resources and purge parameter not set."
	}
	if g.running && !force {
		return d.isRunning()
	}
	return ""
}

func (d *destroy) protected(g *guest) string {
	if g.conf.values["protection"] == "1" {
		return "can't remove " + d.kind.word() + " " + itoa(d.vmid) + " - protection mode enabled"
	}
	return ""
}

func (d *destroy) isRunning() string {
	if d.kind == LXC {
		return "unable to destroy CT " + itoa(d.vmid) + " - container is running"
	}
	return "VM " + itoa(d.vmid) + " is running - destroy failed"
}

func (d *destroy) forceStop(t *task) string {
	if g := d.s.at(t.node, LXC, d.vmid); g != nil && g.running {
		t.print("forced to stop CT " + itoa(d.vmid) + " before destroying!")
		g.stop()
		d.s.effect(t, GuestStopped, g, "")
	}
	return ""
}

// check runs under the lock, and plans the rest.
func (d *destroy) check(t *task) string {
	g := d.s.at(t.node, d.kind, d.vmid)
	if text := d.refuse(t.node, g, false); text != "" {
		return text
	}
	if lock := g.conf.values["lock"]; lock != "" && lock != "suspended" && !d.skipLock {
		return d.kind.word() + " is locked (" + lock + ")"
	}
	d.g = g
	if d.kind == QEMU && g.conf.values["template"] == "1" {
		for _, volid := range g.disks() {
			if _, v := d.s.volume(t.node, volid); v != nil && v.clones > 0 {
				return "base volume '" + volid + "' is still in use by linked cloned"
			}
		}
	}
	var plan []stage
	for i, volid := range d.volumes(t.node) {
		plan = append(plan, stage{
			name: StageFree + itoa(i), takes: d.s.pace.Volume, swallows: d.kind == QEMU,
			act: func(t *task) string { return d.free(t, volid) },
		})
	}
	pause := d.s.pace.Cleanup
	plan = append(plan, act(StageZombie, pause, d.empty), stage{name: StageAccess, takes: pause, wait: d.dropAccess})
	if d.purge {
		plan = append(plan, act(StagePurge, pause, d.purgeRefs))
	}
	t.prepend(append(plan, act(StageUnlink, pause, d.unlink))...)
	return ""
}

// volumes are those of the config and, if asked for, all that carry the VMID.
func (d *destroy) volumes(n *node) []string {
	vols := d.g.disks()
	if !d.unreferenced {
		return vols
	}
	for _, id := range slices.Sorted(maps.Keys(d.s.stores)) {
		st := d.s.stores[id]
		if d.s.usable(id, n) != "" {
			continue
		}
		var extra []string
		for k, v := range st.owned[d.vmid] {
			disk := v.Content == "images" || v.Content == "rootdir"
			if disk && (st.Shared || k.node == n.name) && !slices.Contains(vols, v.VolID) {
				extra = append(extra, v.VolID)
			}
		}
		slices.Sort(extra)
		vols = append(vols, extra...)
	}
	return vols
}

// free removes one volume. The config is still whole and unlocked: if the task
// ends here, nothing but the missing volumes shows it. A failure is a warning
// for VMs and the end for containers.
func (d *destroy) free(t *task, volid string) string {
	failure := ""
	store, _, _ := strings.Cut(volid, ":")
	st, v := d.s.volume(t.node, volid)
	switch unusable := d.s.usable(store, t.node); {
	case t.interrupted:
		t.interrupted = false
		failure = "received interrupt"
	case st == nil && d.kind == QEMU:
		t.warn("failed to get path and owner of volume '" + volid + "': " + unusable)
		return ""
	case unusable != "":
		failure = unusable
	case v == nil:
		t.print("disk image '" + st.filePath(volid) + "' does not exist")
	case v.clones > 0:
		failure = "base volume '" + volid + "' is still in use by linked clones"
	default:
		if failure = d.s.stuck(volid); failure == "" {
			st.drop(v)
			d.s.effect(t, VolumeFreed, d.g, volid)
		}
	}
	if failure == "" || d.kind == LXC {
		return failure
	}
	t.warn("Could not remove disk '" + volid + "', check manually: " + failure)
	return ""
}

// empty replaces the config by its lock. Without quorum /etc/pve refuses the
// write: by then the volumes are gone and the config says nothing of it.
func (d *destroy) empty(t *task) string {
	if !t.node.quorate {
		return "unable to open file '/etc/pve/" + d.kind.file(t.node.name, d.vmid) + ".tmp." + itoa(t.pid) + "' - Permission denied"
	}
	d.g.remember()
	d.g.conf = config{values: map[string]string{"lock": "destroyed"}}
	d.s.record(d.g)
	d.s.effect(t, ConfigEmptied, d.g, "")
	return ""
}

// dropAccess takes the cluster-wide lock of user.cfg. If it is not had in time,
// the guest stays behind as "lock: destroyed", which only root can clear.
func (d *destroy) dropAccess(t *task, resume func(string)) {
	d.s.withUserConfig(t.node, func() {
		if t.alive {
			d.s.access.dropGuest(d.vmid)
		}
	}, func(lockErr string) {
		if lockErr != "" {
			lockErr = "access permissions cleanup for VM " + itoa(d.vmid) + " failed: " + lockErr
		}
		resume(lockErr)
	})
}

func (d *destroy) purgeRefs(t *task) string {
	t.print("purging " + d.kind.word() + " " + itoa(d.vmid) + " from related configurations..")
	d.s.dropReplication(d.vmid)
	d.s.dropFromBackupJobs(d.vmid)
	if _, managed := d.s.ha[d.vmid]; managed {
		d.s.dropHA(d.vmid)
		t.print("NOTE: removed " + d.kind.word() + " " + itoa(d.vmid) + " from HA resource configuration.")
	}
	return ""
}

func (d *destroy) unlink(t *task) string {
	if !t.node.quorate {
		return "unable to delete '/etc/pve/" + d.kind.file(t.node.name, d.vmid) + "' - Permission denied"
	}
	if d.s.guests[d.vmid] != d.g {
		return "" // somebody else's hand was faster
	}
	d.s.remove(d.g)
	d.s.effect(t, GuestDestroyed, d.g, "")
	return ""
}
