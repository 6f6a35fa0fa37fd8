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
		if state, managed := c.s.ha[g.vmid]; managed {
			ha["managed"], ha["state"] = 1, state
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
			i := slices.IndexFunc(g.conf.snapshots, func(sn snapshot) bool { return sn.name == name })
			if i < 0 {
				c.fail("snapshot '" + name + "' does not exist")
				return
			}
			of := guest{kind: kind, conf: config{values: g.conf.snapshots[i].values}}
			m := of.show()
			m["digest"], m["snaptime"] = g.conf.digest(), g.conf.snapshots[i].time
			c.ok(m)
			return
		}
		c.ok(g.show())
	}
}

func guestSnapshots(kind Kind) func(*call) {
	return func(c *call) {
		g := c.theGuest(kind)
		if g == nil {
			return
		}
		out := []map[string]any{}
		for i := range g.conf.snapshots {
			sn := &g.conf.snapshots[i]
			m := map[string]any{"name": sn.name, "snaptime": sn.time, "description": sn.description}
			if kind == QEMU {
				m["vmstate"] = flag(sn.vmstate != "")
			}
			if sn.parent != "" {
				m["parent"] = sn.parent
			}
			out = append(out, m)
		}
		now := map[string]any{"name": "current", "description": "You are here!", "digest": g.conf.digest(), "running": flag(g.running)}
		if p := g.conf.values["parent"]; p != "" {
			now["parent"] = p
		}
		c.ok(append(out, now))
	}
}

// setConfig is PUT config: synchronous, under the config's lock, compared with
// the digest if one is given.
func setConfig(kind Kind) func(*call) {
	return func(c *call) {
		if text := c.mayConfigure(); text != "" {
			c.failTyped(text)
			return
		}
		if c.s.at(c.node, kind, c.vmid()) == nil {
			c.fail(noConfig(kind, c.node.name, c.vmid()))
			return
		}
		l := c.s.flock(c.node, kind, c.vmid())
		c.s.acquire(l, lockTimeout, func(got bool) {
			if !got {
				c.fail("can't lock file '" + flockPath(kind, c.vmid()) + "' - got timeout")
				return
			}
			text := c.applyConfig(kind)
			c.s.release(l)
			if text != "" {
				c.fail(text)
				return
			}
			c.ok(nil)
		})
	}
}

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

// mayConfigure checks the privilege of each key.
func (c *call) mayConfigure() string {
	set, del := c.changes()
	for _, k := range append(slices.Sorted(maps.Keys(set)), del...) {
		if (k == "lock" || k == "args") && c.auth != rootUser && strings.Contains(c.path, "/qemu/") {
			return "only root can set '" + k + "' config"
		}
		if text := c.rights().all("/vms/"+itoa(c.vmid()), privFor(k)); text != "" {
			return text
		}
	}
	return ""
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
		if kind == LXC {
			return "detected modified configuration - file changed by other user? Try again."
		}
		return "checksum mismatch (file change by other user?)"
	}
	if lock := g.conf.values["lock"]; lock != "" {
		return kind.word() + " is locked (" + lock + ")"
	}
	if !c.node.quorate {
		return "unable to open file '/etc/pve/" + kind.file(c.node.name, g.vmid) + ".tmp." + itoa(900+c.node.id) + "' - Permission denied"
	}
	for _, k := range del {
		if text := c.deleteKey(g, k); text != "" {
			return text
		}
	}
	for _, k := range slices.Sorted(maps.Keys(set)) {
		v := set[k]
		if k == "tags" {
			v = strings.Join(splitList(v), ";")
		}
		g.conf.values[k] = v
		if k == "description" && v == "" {
			delete(g.conf.values, k)
		}
	}
	c.s.record(g)
	return ""
}

// deleteKey removes a key. A drive is only detached, and becomes unused0 or the
// next one free; deleting that frees its volume, at once and without a task.
func (c *call) deleteKey(g *guest, key string) string {
	v := g.conf.values[key]
	volid, _, _ := strings.Cut(v, ",")
	disk := v != "" && ownerOf(volid) == g.vmid
	if disk && g.conf.values["protection"] == "1" {
		return "can't remove drive '" + key + "' - protection mode enabled"
	}
	delete(g.conf.values, key)
	switch {
	case !disk:
	case unusedKey.MatchString(key):
		if st, vol := c.s.volume(g.node, volid); vol != nil {
			st.drop(vol)
			c.s.effectBy("", c.auth, VolumeFreed, g, volid)
		}
	default:
		for i := 0; ; i++ {
			if k := "unused" + itoa(i); g.conf.values[k] == "" {
				g.conf.values[k] = volid
				break
			}
		}
	}
	return ""
}

// queueConfig is POST config: the same in a task.
func queueConfig(c *call) {
	if text := c.mayConfigure(); text != "" {
		c.failTyped(text)
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
