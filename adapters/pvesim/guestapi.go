package pvesim

import (
	"maps"
	"slices"
	"strings"
)

// theGuest finds the guest of the path on the executing node, or answers with
// the usual 500 and returns nil.
func (c *call) theGuest(kind Kind) *guest {
	g := c.s.at(c.node, kind, c.vmid())
	if g == nil {
		c.fail(noConfig(kind, c.node.name, c.vmid()))
	}
	return g
}

func listGuests(kind Kind) func(*call) {
	return func(c *call) {
		out := []map[string]any{}
		for _, vmid := range slices.Sorted(maps.Keys(c.s.guests)) {
			g := c.s.guests[vmid]
			if g.kind == kind && g.node == c.node && c.can("/vms/"+itoa(vmid), "VM.Audit") {
				row := g.row(c.s)
				if kind == QEMU && c.on("full") {
					row["qmpstatus"] = row["status"]
				}
				out = append(out, row)
			}
		}
		c.ok(out)
	}
}

// row is what the guest lists and status/current share.
func (g *guest) row(s *Sim) map[string]any {
	m := map[string]any{
		"vmid": g.vmid, "name": g.title(), "status": "stopped", "cpu": 0, "cpus": max(1, leadingInt(g.conf.values["cores"])),
		"mem": 0, "maxmem": g.memory(), "disk": 0, "maxdisk": g.rootSize(), "netin": 0, "netout": 0, "uptime": 0,
	}
	if g.running {
		m["status"], m["pid"], m["uptime"] = "running", g.pid, s.now().Unix()-g.since
	}
	pressure := any(nil) // cgroup v1 has none for containers
	if g.kind == LXC {
		m["type"], m["diskread"], m["diskwrite"] = "lxc", 0, 0
		m["swap"], m["maxswap"] = 0, leadingInt(g.conf.values["swap"])<<20
	} else {
		m["memhost"] = 0
		pressure = 0
	}
	if g.running {
		for _, k := range []string{"cpusome", "cpufull", "iosome", "iofull", "memorysome", "memoryfull"} {
			m["pressure"+k] = pressure
		}
	}
	for _, k := range []string{"lock", "tags"} {
		if v := g.conf.values[k]; v != "" {
			m[k] = v
		}
	}
	if g.conf.values["template"] == "1" {
		m["template"] = 1
	}
	return m
}

func guestCurrent(kind Kind) func(*call) {
	return func(c *call) {
		g := c.theGuest(kind)
		if g == nil {
			return
		}
		m := g.row(c.s)
		if kind == QEMU {
			m["qmpstatus"] = m["status"]
		}
		ha := map[string]any{"managed": 0}
		if c.s.haManaged(g.vmid) {
			ha["managed"], ha["state"] = 1, c.s.ha[g.vmid]
		}
		m["ha"] = ha
		c.ok(m)
	}
}

func guestConfig(kind Kind) func(*call) {
	return func(c *call) {
		g := c.theGuest(kind)
		if g == nil {
			return
		}
		if name := c.params["snapshot"]; name != "" {
			if _, sn := c.theSnapshot(kind, name); sn != nil {
				m := typed(kind, sn.keys())
				m["digest"] = g.conf.digest()
				c.ok(m)
			}
			return
		}
		c.ok(g.show())
	}
}

// setConfig is PUT config: synchronous, under the config's lock, compared with
// the digest if one is given.
func setConfig(kind Kind) func(*call) {
	return func(c *call) {
		if !c.mayConfigure() {
			return
		}
		if c.s.at(c.node, kind, c.vmid()) == nil {
			c.fail(noConfig(kind, c.node.name, c.vmid()))
			return
		}
		c.underConfigLock(kind, func() string { return c.applyConfig(kind) })
	}
}

// underConfigLock runs a synchronous write under the lock of the guest's config
// and answers null, or 500 with the text that it returns.
func (c *call) underConfigLock(kind Kind, write func() string) {
	l := c.s.flock(c.node, kind, c.vmid())
	c.s.acquire(l, lockTimeout, func(got bool) {
		if !got {
			c.fail("can't lock file '" + flockPath(kind, c.vmid()) + "' - got timeout")
			return
		}
		text := write()
		c.s.release(l)
		if text != "" {
			c.fail(text)
			return
		}
		c.ok(nil)
	})
}

// daemonPID is the process that writes files on behalf of a synchronous call.
func (c *call) daemonPID() int { return 900 + c.node.id }

// changes are the config keys that the request sets, and those it deletes.
func (c *call) changes() (set map[string]string, del []string) {
	set = map[string]string{}
	for k, v := range c.params {
		switch k {
		case "node", "vmid", "digest", "delete", "skiplock", "force", "revert", "background_delay":
		default:
			set[k] = v
		}
	}
	return set, splitList(c.params["delete"])
}

// mayConfigure checks the privilege of each key, and answers if one is missing.
func (c *call) mayConfigure() bool {
	if c.on("skiplock") && c.auth != rootUser {
		c.failParam("skiplock", "Only root may use this option.")
		return false
	}
	set, del := c.changes()
	for _, k := range append(slices.Sorted(maps.Keys(set)), del...) {
		if (k == "lock" || k == "args") && c.auth != rootUser && strings.Contains(c.path, "/qemu/") {
			c.fail("only root can set '" + k + "' config")
			return false
		}
		if text := c.rights().all("/vms/"+itoa(c.vmid()), privFor(k)); text != "" {
			c.forbid(text)
			return false
		}
	}
	return true
}

// failTyped answers 403 for a refusal of permission and 500 for anything else.
func (c *call) failTyped(text string) {
	if strings.HasPrefix(text, "Permission check failed") {
		c.forbid(text)
		return
	}
	c.fail(text)
}

func (c *call) applyConfig(kind Kind) string {
	g := c.s.at(c.node, kind, c.vmid())
	if g == nil {
		// The guest was destroyed while this call waited for the lock.
		return noConfig(kind, c.node.name, c.vmid())
	}
	set, del := c.changes()
	if d := c.params["digest"]; d != "" && d != g.conf.digest() {
		return digestMismatch(kind)
	}
	if lock := g.conf.values["lock"]; lock != "" && !c.on("skiplock") {
		return kind.word() + " is locked (" + lock + ")"
	}
	if text := unwritable(c.node, kind, g.vmid, c.daemonPID()); text != "" {
		return text
	}
	for _, k := range del {
		if text := c.deleteKey(g, k); text != "" {
			return text
		}
	}
	for _, k := range slices.Sorted(maps.Keys(set)) {
		v := set[k]
		if kind == LXC && driveKey.MatchString(k) && g.conf.values["protection"] == "1" {
			return "can't update CT " + itoa(g.vmid) + " drive '" + k + "' - protection mode enabled"
		}
		switch {
		case k == "tags":
			v = strings.Join(splitList(v), ";")
		case k == "vmgenid" && v == "1":
			v = c.s.uuid() // 1 asks for a new one, 0 for none
		}
		g.conf.values[k] = v
		if k == "description" && v == "" {
			delete(g.conf.values, k)
		}
	}
	c.s.record(g)
	return ""
}

func digestMismatch(kind Kind) string {
	if kind == LXC {
		return "detected modified configuration - file changed by other user? Try again."
	}
	return "checksum mismatch (file change by other user?)"
}

// deleteKey removes a key. A drive is only detached, and becomes unused0 or the
// next one free; deleting that, or forcing it, frees its volume, at once and
// without a task.
func (c *call) deleteKey(g *guest, key string) string {
	v := g.conf.values[key]
	volid, _, _ := strings.Cut(v, ",")
	disk := v != "" && ownerOf(volid) == g.vmid
	if g.kind == LXC && (key == "memory" || key == "rootfs" || key == "ostype") {
		return "unable to delete required option '" + key + "'"
	}
	if disk && g.conf.values["protection"] == "1" {
		whose := "drive"
		if g.kind == LXC {
			whose = "CT " + itoa(g.vmid) + " drive"
		}
		return "can't remove " + whose + " '" + key + "' - protection mode enabled"
	}
	delete(g.conf.values, key)
	switch {
	case !disk:
	case unusedKey.MatchString(key) || g.kind == QEMU && c.on("force"):
		if g.conf.refers(volid) {
			g.conf.values[key] = v
			return "unable to delete '" + volid + "' - volume is still in use (snapshot?)"
		}
		if st, vol := c.s.volume(g.node, volid); vol != nil {
			st.drop(vol)
			c.s.effectBy(c.auth, VolumeFreed, g, volid)
		}
	default:
		g.conf.addUnused(volid)
	}
	return ""
}

// unlinkDisks is PUT unlink: a config write that only deletes.
func unlinkDisks(c *call) {
	c.params["delete"] = c.params["idlist"]
	delete(c.params, "idlist")
	setConfig(QEMU)(c)
}

// queueConfig is POST config: the same in a task.
func queueConfig(c *call) {
	if !c.mayConfigure() {
		return
	}
	if c.theGuest(QEMU) == nil {
		return
	}
	set, _ := c.changes()
	c.fork("qmconfig", itoa(c.vmid()), c.s.startStage(), c.s.lockStage(QEMU, c.vmid()), act(StageAct, 0, func(t *task) string {
		line := "update VM " + itoa(c.vmid()) + ":"
		for _, k := range slices.Sorted(maps.Keys(set)) {
			line += " -" + k + " " + set[k]
		}
		t.print(line)
		return c.applyConfig(QEMU)
	}))
}
