package pvesim

import (
	"slices"
	"strings"
)

func disksIndex(c *call) {
	out := []map[string]any{}
	for _, name := range []string{"list", "initgpt", "smart", "lvm", "lvmthin", "directory", "wipedisk", "zfs"} {
		out = append(out, map[string]any{"name": name})
	}
	c.ok(out)
}

// listDisks is GET disks/list.
// (pve-storage: PVE::Diskmanage#get_disks)
func listDisks(c *call) {
	h := &c.node.hardware
	parts := c.on("include-partitions")
	out := []map[string]any{}
	for _, d := range h.disks {
		if !listedDisk.MatchString(d.DevPath) {
			continue
		}
		used := h.usage(d, parts)
		switch kind := c.params["type"]; {
		case kind == "unused" && used != "":
			continue
		case kind == "journal_disks" && used != "" && used != "LVM" && (used != "partitions" || !d.GPT):
			continue
		}
		out = append(out, d.row(used, c.on("skipsmart")))
		if parts {
			for i := range d.Partitions {
				out = append(out, h.partRow(d, &d.Partitions[i]))
			}
		}
	}
	c.ok(out)
}

// usage is what a disk is used for, by itself or by its partitions.
func (h *hardware) usage(d *Disk, withParts bool) string {
	if withParts && len(d.Partitions) > 0 {
		return "partitions"
	}
	used := h.use(d.DevPath, d.Used, d.Mounted)
	for i := range d.Partitions {
		p := &d.Partitions[i]
		if used == "" {
			used = h.use(p.DevPath, p.Used, p.Mounted)
		}
	}
	switch {
	case used == "" && len(d.Partitions) > 0:
		return "partitions"
	case used == "" && d.Held:
		return "Device Mapper"
	}
	return used
}

func (h *hardware) use(devpath, found string, mounted bool) string {
	switch p := h.member(devpath); {
	case p != nil && p.Kind == PoolZFS:
		return "ZFS"
	case p != nil && p.Kind == PoolLVM:
		return "LVM"
	case found == "" && mounted:
		return "mounted"
	}
	return found
}

func (d *Disk) row(used string, noSMART bool) map[string]any {
	known := func(text string) string {
		if text == "" {
			return "unknown"
		}
		return text
	}
	kind := d.Type
	if kind == "" {
		kind = "ssd"
	}
	m := map[string]any{
		"devpath": d.DevPath, "size": d.Size, "serial": known(d.Serial), "wwn": known(d.WWN), "model": known(d.Model),
		"vendor": known(d.Vendor), "gpt": flag(d.GPT), "rpm": 0, "type": kind, "health": "UNKNOWN", "wearout": "N/A",
		"osdid": -1, "osdid-list": nil,
	}
	if kind == "hdd" {
		m["rpm"] = 7200
	}
	if !noSMART {
		m["health"] = "PASSED"
		if kind == "ssd" || kind == "nvme" {
			m["wearout"] = 99 // a number where there is one, and a text where not
		}
	}
	if used != "" {
		m["used"] = used
	}
	if d.Mounted {
		m["mounted"] = 1
	}
	if d.ByIDLink != "" {
		m["by_id_link"] = d.ByIDLink
	}
	return m
}

func (h *hardware) partRow(d *Disk, p *Partition) map[string]any {
	m := map[string]any{
		"devpath": p.DevPath, "parent": d.DevPath, "size": p.Size, "gpt": flag(d.GPT), "type": "partition", "used": nil,
		"osdid": -1, "osdid-list": nil,
	}
	if used := h.use(p.DevPath, p.Used, p.Mounted); used != "" {
		m["used"] = used
	}
	if p.Mounted {
		m["mounted"] = 1
	}
	return m
}

// kindOf are the pools of one kind.
func (h *hardware) kindOf(kind string) []*DiskPool {
	return slices.DeleteFunc(slices.Clone(h.pools), func(p *DiskPool) bool { return p.Kind != kind })
}

func listZFS(c *call) {
	out := []map[string]any{}
	for _, p := range c.node.hardware.kindOf(PoolZFS) {
		out = append(out, map[string]any{
			"name": p.Name, "size": p.Size, "alloc": p.Used, "free": p.Size - p.Used, "frag": 0, "dedup": 1, "health": "ONLINE",
		})
	}
	c.ok(out)
}

// showZFS is GET of one pool: zpool status as a tree.
func showZFS(c *call) {
	name := c.params["name"]
	p := c.node.hardware.pool(PoolZFS, "", name)
	if p == nil {
		c.fail("command '/sbin/zpool status -P " + name + "' failed: exit code 1")
		return
	}
	vdev := func(name string) map[string]any {
		return map[string]any{"name": name, "state": "ONLINE", "read": 0, "write": 0, "cksum": 0, "msg": "", "leaf": 1}
	}
	var members []map[string]any
	for _, dev := range p.Members {
		members = append(members, vdev(dev))
	}
	if len(members) > 1 {
		mirror := vdev("mirror-0")
		mirror["leaf"], mirror["children"] = 0, members
		members = []map[string]any{mirror}
	}
	top := vdev(p.Name)
	if len(members) > 0 {
		top["leaf"], top["children"] = 0, members
	}
	c.ok(map[string]any{
		"name": p.Name, "state": "ONLINE", "errors": "No known data errors", "scan": "none requested", "leaf": 0, "children": []any{top},
	})
}

func listVGs(c *call) {
	h := &c.node.hardware
	groups := []map[string]any{}
	for _, p := range h.kindOf(PoolLVM) {
		pvs := []map[string]any{}
		for _, dev := range p.Members {
			size := p.Size / int64(len(p.Members))
			pvs = append(pvs, map[string]any{"name": dev, "size": size, "free": (p.Size - p.Used) / int64(len(p.Members)), "leaf": 1})
		}
		groups = append(groups, map[string]any{
			"name": p.Name, "size": p.Size, "free": p.Size - p.Used, "lvcount": c.node.logical(p), "leaf": 0, "children": pvs,
		})
	}
	c.ok(map[string]any{"leaf": 0, "children": groups})
}

func listThinPools(c *call) {
	out := []map[string]any{}
	for _, p := range c.node.hardware.kindOf(PoolLVMThin) {
		out = append(out, map[string]any{
			"lv": p.Name, "vg": p.VG, "lv_size": p.Size, "lv_state": "a", "lv_type": "t", "used": p.Used,
			"metadata_size": p.Size / 1024, "metadata_used": p.Used / 1024, "ctime": c.s.started.Unix(),
		})
	}
	c.ok(out)
}

func listDirectories(c *call) {
	out := []map[string]any{}
	for _, p := range c.node.hardware.kindOf(PoolDirectory) {
		m := map[string]any{
			"path": "/mnt/pve/" + p.Name, "unitfile": "/etc/systemd/system/" + mountUnit(p.Name), "type": "ext4", "options": "defaults", "device": nil,
		}
		if len(p.Members) > 0 {
			m["device"] = p.Members[0]
		}
		out = append(out, m)
	}
	c.ok(out)
}

func mountUnit(name string) string {
	return "mnt-pve-" + strings.ReplaceAll(name, "-", `\x2d`) + ".mount"
}
