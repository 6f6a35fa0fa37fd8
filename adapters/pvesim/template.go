package pvesim

import (
	"slices"
	"strings"
)

// isBase reports whether a volume is a base that linked clones can stand on.
func isBase(volid string) bool {
	name := volid[strings.LastIndexAny(volid, ":/")+1:]
	return strings.HasPrefix(name, "base-") || strings.HasPrefix(name, "basevol-")
}

// makeTemplate turns a guest into a template, its disks into bases. For a
// container the checks are synchronous, and the reply is null although there is
// a task.
// (qemu-server: PVE::API2::Qemu#template, pve-container: PVE::API2::LXC#template)
func makeTemplate(kind Kind) func(*call) {
	return func(c *call) {
		s, vmid := c.s, c.vmid()
		check := func(n *node) string { return templateRefusal(kind, n, vmid, s.at(n, kind, vmid), c.has("disk")) }
		if text := check(c.node); text != "" {
			c.fail(text)
			return
		}
		convert := func(t *task) string {
			if text := check(t.node); text != "" {
				return text
			}
			return s.templatePlan(t, s.at(t.node, kind, vmid), c.params["disk"])
		}
		stages := []stage{s.startStage(), s.lockStage(kind, vmid), act(StagePrepare, 0, convert)}
		if kind == LXC {
			s.spawn(c.node, "vztemplate", itoa(vmid), c.auth, stages...)
			c.ok(nil)
			return
		}
		c.fork("qmtemplate", itoa(vmid), stages...)
	}
}

func templateRefusal(kind Kind, n *node, vmid int, g *guest, oneDisk bool) string {
	if g == nil {
		return noConfig(kind, n.name, vmid)
	}
	word := kind.word()
	switch {
	case g.conf.values["lock"] != "":
		return word + " is locked (" + g.conf.values["lock"] + ")"
	case len(g.conf.snapshots) > 0:
		return "unable to create template, because " + word + " contains snapshots"
	case g.conf.values["template"] == "1" && !oneDisk:
		return "you can't convert a template to a template"
	case g.running && kind == LXC:
		return "you can't convert a CT to template if the CT is running"
	case g.running:
		return "you can't convert a VM to template if VM is running"
	}
	return ""
}

// templatePlan marks the config and renames the volumes one by one; only names a
// single drive to convert.
func (s *Sim) templatePlan(t *task, g *guest, only string) string {
	if text := unwritable(t.node, g.kind, g.vmid, t.pid); text != "" {
		return text
	}
	g.conf.values["template"] = "1"
	s.record(g)
	var plan []stage
	for i, d := range drives(g.conf.values) {
		if only != "" && d.key != only || isBase(d.volid) {
			continue
		}
		plan = append(plan, act(StageVolume+itoa(i), s.pace.Volume, func(t *task) string { return s.rebase(t, g, d) }))
	}
	t.prepend(plan...)
	return ""
}

// rebase gives one volume the name of a base, on the storage and then in the
// config.
func (s *Sim) rebase(t *task, g *guest, d drive) string {
	st, v := s.volume(t.node, d.volid)
	switch {
	case v == nil:
		return s.missingVolume(t.node, d.volid)
	case st.Type == "lvm":
		if g.kind == LXC {
			return "Template feature is not available for '" + d.volid + "'"
		}
		return ""
	}
	to := strings.NewReplacer("vm-"+itoa(g.vmid)+"-", "base-"+itoa(g.vmid)+"-", "subvol-"+itoa(g.vmid)+"-", "basevol-"+itoa(g.vmid)+"-").Replace(d.volid)
	moved := *v
	st.drop(v)
	moved.VolID = to
	s.putVolume(st, t.node, moved.Volume)
	if _, now := s.volume(t.node, to); now != nil {
		now.snaps = slices.Clone(moved.snaps)
	}
	g.conf.values[d.key] = strings.Replace(g.conf.values[d.key], d.volid, to, 1)
	return ""
}

// missingVolume is what is said of a volume that cannot be used on a node.
func (s *Sim) missingVolume(n *node, volid string) string {
	if text := s.usable(storageOf(volid), n); text != "" {
		return text
	}
	return s.stores[storageOf(volid)].noVolume(volid)
}
