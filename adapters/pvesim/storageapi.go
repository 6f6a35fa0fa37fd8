package pvesim

import (
	"cmp"
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
		out = append(out, c.s.definition(st))
	}
	c.ok(out)
}

// figures are one storage's numbers as a node sees them; one that cannot be
// used there has none.
func (st *storage) figures(n *node) map[string]any {
	active := !st.Disabled && n.groundless(&st.Storage) == ""
	m := map[string]any{
		"type": st.Type, "content": strings.Join(st.Content, ","), "shared": flag(st.Shared),
		"enabled": flag(!st.Disabled), "active": flag(active), "total": 0, "used": 0, "avail": 0,
	}
	if active {
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
		m := st.figures(c.node)
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
	m := st.figures(c.node)
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
	out := []map[string]any{}
	for _, v := range st.seen(c.node, c.vmid()) {
		row := c.s.contentRow(st, v)
		if c.has("content") && row["content"] != c.params["content"] || !c.seesVolume(id, v) {
			continue
		}
		out = append(out, row)
	}
	c.ok(out)
}

// seen are the volumes of a storage on a node, of one guest if vmid is not 0,
// in the order of lists.
func (st *storage) seen(n *node, vmid int) []*volume {
	from := st.vols
	if vmid != 0 {
		from = st.owned[vmid]
	}
	var vols []*volume
	for k, v := range from {
		if st.Shared || k.node == n.name {
			vols = append(vols, v)
		}
	}
	slices.SortFunc(vols, func(a, b *volume) int {
		return cmp.Or(strings.Compare(strings.ToLower(a.VolID), strings.ToLower(b.VolID)), strings.Compare(a.VolID, b.VolID))
	})
	return vols
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

// contentRow is a volume as lists show it. Whether a disk is a VM's or a
// container's is not in its name: the guest that has the VMID now decides.
func (s *Sim) contentRow(st *storage, v *volume) map[string]any {
	m := map[string]any{"volid": v.VolID, "format": v.Format, "size": v.Size, "content": v.Content}
	if v.VMID != 0 {
		m["vmid"] = v.VMID
	}
	if st.Type != "zfspool" && st.Type != "rbd" {
		m["ctime"] = v.CTime
	}
	if v.Content == "images" || v.Content == "rootdir" {
		m["content"] = "images"
		if g := s.guests[v.VMID]; g != nil && g.kind == LXC {
			m["content"] = "rootdir"
		}
		if st.fileBased() {
			m["used"], m["parent"] = allocated(v), nil
		}
		if v.Parent != "" && st.Type != "lvmthin" {
			_, name, _ := strings.Cut(v.Parent, ":")
			m["parent"] = "../" + name
		}
	}
	if v.Content == "backup" {
		m["subtype"] = subtype(v.VolID)
		if v.Notes != "" {
			m["notes"], _, _ = strings.Cut(v.Notes, "\n")
		}
		if v.Protected {
			m["protected"] = 1
		}
	}
	return m
}

// subtype is the kind of guest that a backup is of.
func subtype(volid string) string {
	if strings.Contains(volid, "vzdump-lxc-") || strings.Contains(volid, ":backup/ct/") {
		return "lxc"
	}
	return "qemu"
}
