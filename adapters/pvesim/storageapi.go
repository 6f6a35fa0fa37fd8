package pvesim

import (
	"maps"
	"slices"
	"strings"
)

func (c *call) seesStorage(id string) bool {
	return c.rights().any("/storage/"+id, "Datastore.Audit", "Datastore.AllocateSpace") == ""
}

func listStorages(c *call) {
	out := []map[string]any{}
	for _, id := range slices.Sorted(maps.Keys(c.s.stores)) {
		st := c.s.stores[id]
		if !c.seesStorage(id) || c.has("type") && c.params["type"] != st.Type {
			continue
		}
		m := map[string]any{"storage": id, "type": st.Type, "content": strings.Join(st.Content, ","), "digest": strings.Repeat("0", 40)}
		if st.Path != "" {
			m["path"] = st.Path
		}
		if st.Shared {
			m["shared"] = 1
		}
		if st.Disabled {
			m["disable"] = 1
		}
		if len(st.Nodes) > 0 {
			m["nodes"] = strings.Join(st.Nodes, ",")
		}
		out = append(out, m)
	}
	c.ok(out)
}

// figures are one storage's numbers; a disabled one has none.
func (st *storage) figures() map[string]any {
	m := map[string]any{
		"type": st.Type, "content": strings.Join(st.Content, ","), "shared": flag(st.Shared),
		"enabled": flag(!st.Disabled), "active": flag(!st.Disabled), "total": 0, "used": 0, "avail": 0,
	}
	if !st.Disabled {
		m["total"], m["used"], m["avail"], m["used_fraction"] = nodeDisk, diskUsed, nodeDisk-diskUsed, float64(diskUsed)/nodeDisk
	}
	return m
}

func nodeStorages(c *call) {
	out := []map[string]any{}
	for _, id := range slices.Sorted(maps.Keys(c.s.stores)) {
		st := c.s.stores[id]
		elsewhere := len(st.Nodes) > 0 && !slices.Contains(st.Nodes, c.node.name)
		if elsewhere || !c.seesStorage(id) || c.has("storage") && c.params["storage"] != id || c.on("enabled") && st.Disabled ||
			c.has("content") && !slices.ContainsFunc(splitList(c.params["content"]), func(w string) bool { return slices.Contains(st.Content, w) }) {
			continue
		}
		m := st.figures()
		m["storage"] = id
		out = append(out, m)
	}
	c.ok(out)
}

func storageStatus(c *call) {
	st := c.s.stores[c.params["storage"]]
	if st == nil {
		c.failParam("storage", "No such storage.")
		return
	}
	m := st.figures()
	delete(m, "used_fraction")
	c.ok(m)
}

func storageContent(c *call) {
	id := c.params["storage"]
	if text := c.s.usable(id, c.node); text != "" {
		c.fail(text)
		return
	}
	st := c.s.stores[id]
	from := st.vols
	if c.has("vmid") {
		from = st.owned[c.vmid()]
	}
	var vols []*volume
	for k, v := range from {
		if (st.Shared || k.node == c.node.name) && (!c.has("content") || v.Content == c.params["content"]) && c.seesVolume(id, v) {
			vols = append(vols, v)
		}
	}
	slices.SortFunc(vols, func(a, b *volume) int { return strings.Compare(a.VolID, b.VolID) })
	out := []map[string]any{}
	for _, v := range vols {
		out = append(out, st.contentRow(v))
	}
	c.ok(out)
}

// seesVolume is check_volume_access: guest images need rights on their owner.
func (c *call) seesVolume(store string, v *volume) bool {
	if c.can("/storage/"+store, "Datastore.Allocate") {
		return true
	}
	owner := "/vms/" + itoa(v.VMID)
	switch v.Content {
	case "images", "rootdir":
		return c.can("/storage/"+store, "Datastore.Audit") && c.can(owner, "VM.Config.Disk")
	case "backup":
		return c.can("/storage/"+store, "Datastore.AllocateSpace") && c.can(owner, "VM.Backup")
	default:
		return true
	}
}

func (st *storage) contentRow(v *volume) map[string]any {
	m := map[string]any{"volid": v.VolID, "format": v.Format, "size": v.Size, "content": v.Content}
	if v.VMID != 0 {
		m["vmid"] = v.VMID
	}
	if st.Type != "zfspool" && st.Type != "rbd" {
		m["ctime"] = v.ctime
	}
	if v.Content == "images" || v.Content == "rootdir" {
		m["used"] = 278528
		m["parent"] = nil
		if v.Parent != "" {
			_, name, _ := strings.Cut(v.Parent, ":")
			m["parent"] = "../" + name
		}
	}
	if v.Content == "backup" {
		m["subtype"] = "qemu"
		if strings.Contains(v.VolID, "vzdump-lxc-") {
			m["subtype"] = "lxc"
		}
		if v.Notes != "" {
			m["notes"] = v.Notes
		}
		if v.Protected {
			m["protected"] = 1
		}
	}
	return m
}
