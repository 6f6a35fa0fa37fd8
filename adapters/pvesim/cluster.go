package pvesim

import (
	"maps"
	"slices"
	"strings"
)

func showVersion(c *call) {
	c.ok(map[string]any{"version": "9.2.11", "release": "9.2", "repoid": "14a22df35955d97d"})
}

func rootIndex(c *call) {
	out := []map[string]any{}
	for _, d := range []string{"version", "cluster", "nodes", "storage", "access", "pools"} {
		out = append(out, map[string]any{"subdir": d})
	}
	c.ok(out)
}

// Figures of every node; nothing depends on them.
const (
	nodeMemory = 25276502016
	nodeDisk   = 270553174016
	diskUsed   = 20091551744
)

// reachable tells how other nodes see n: corosync notices a dead host soon, a
// dead daemon never.
func (s *Sim) reachable(from, n *node) bool {
	if n == from {
		return true
	}
	return !n.down && n.quorate == from.quorate
}

func (s *Sim) nodeRow(c *call, n *node) map[string]any {
	m := map[string]any{"id": "node/" + n.name, "node": n.name, "type": "node", "status": "unknown"}
	if !c.can("/nodes/"+n.name, "Sys.Audit") {
		return m
	}
	m["status"], m["level"] = "offline", ""
	if s.reachable(c.node, n) {
		m["status"] = "online"
		m["cpu"], m["maxcpu"], m["mem"], m["maxmem"] = 0.46, 2, 1879199744, nodeMemory
		m["disk"], m["maxdisk"], m["uptime"] = diskUsed, nodeDisk, int(s.now().Sub(n.boot).Seconds())
	}
	return m
}

func listNodes(c *call) {
	out := []map[string]any{}
	for _, n := range c.s.order {
		m := c.s.nodeRow(c, n)
		m["ssl_fingerprint"] = n.print
		out = append(out, m)
	}
	c.ok(out)
}

func clusterStatus(c *call) {
	out := []map[string]any{}
	if len(c.s.order) > 1 {
		out = append(out, map[string]any{
			"type": "cluster", "id": "cluster", "name": c.s.cluster, "nodes": len(c.s.order), "quorate": flag(c.node.quorate), "version": len(c.s.order),
		})
	}
	for _, n := range c.s.order {
		out = append(out, map[string]any{
			"type": "node", "id": "node/" + n.name, "name": n.name, "nodeid": n.id, "level": "", "ip": "10.99.0." + itoa(n.id),
			"local": flag(n == c.node), "online": flag(c.s.reachable(c.node, n)),
		})
	}
	c.ok(out)
}

func nextID(c *call) {
	if c.has("vmid") {
		if _, taken := c.node.exists(c.vmid()); taken {
			c.failParam("vmid", "VM "+itoa(c.vmid())+" already exists")
			return
		}
		c.ok(itoa(c.vmid()))
		return
	}
	id := c.s.nextID()
	if c.node.view != nil {
		for id = minVMID; ; id++ {
			if _, taken := c.node.exists(id); !taken {
				break
			}
		}
	}
	c.ok(itoa(id))
}

// clusterResources mixes what is current (VMID, node, lock, tags, pool) with
// what was broadcast up to ten seconds ago (name, status, sizes).
func clusterResources(c *call) {
	out := []map[string]any{}
	kind := c.params["type"]
	if kind == "" || kind == "vm" {
		for _, vmid := range slices.Sorted(maps.Keys(c.s.guests)) {
			g := c.s.guests[vmid]
			if _, visible := c.node.exists(vmid); visible && c.can("/vms/"+itoa(vmid), "VM.Audit") {
				out = append(out, c.resource(g))
			}
		}
	}
	if kind == "" || kind == "node" {
		for _, n := range c.s.order {
			m := c.s.nodeRow(c, n)
			if m["status"] == "online" {
				m["cgroup-mode"] = 2
			}
			out = append(out, m)
		}
	}
	if kind == "" || kind == "storage" {
		out = append(out, c.storageResources()...)
	}
	c.ok(out)
}

func (c *call) resource(g *guest) map[string]any {
	m := map[string]any{"id": string(g.kind) + "/" + itoa(g.vmid), "vmid": g.vmid, "type": string(g.kind), "node": g.node.name, "status": "unknown"}
	for _, k := range []string{"lock", "tags"} {
		if v := g.conf.values[k]; v != "" {
			m[k] = v
		}
	}
	if p := c.node.users().vmPool[g.vmid]; p != "" && c.can("/pool/"+p, "Pool.Audit") {
		m["pool"] = p
	}
	if c.s.haManaged(g.vmid) {
		m["hastate"] = c.s.ha[g.vmid]
	}
	st := c.s.shown(g)
	if st == nil {
		return m
	}
	m["name"], m["status"], m["template"], m["maxmem"], m["maxdisk"] = st.name, st.status, st.template, st.maxmem, st.maxdisk
	m["maxcpu"], m["uptime"] = 1, int64(0)
	if st.status == "running" {
		m["uptime"] = max(0, c.s.now().Unix()-st.since)
	}
	for _, k := range []string{"cpu", "mem", "disk", "netin", "netout", "diskread", "diskwrite"} {
		m[k] = 0
	}
	return m
}

func (c *call) storageResources() []map[string]any {
	out := []map[string]any{}
	for _, n := range c.s.order {
		for _, id := range slices.Sorted(maps.Keys(c.s.stores)) {
			st := c.s.stores[id]
			if st.Disabled || len(st.Nodes) > 0 && !slices.Contains(st.Nodes, n.name) || !c.seesStorage(id) {
				continue
			}
			out = append(out, map[string]any{
				"id": "storage/" + n.name + "/" + id, "type": "storage", "storage": id, "node": n.name, "status": "available",
				"plugintype": st.Type, "shared": flag(st.Shared), "content": strings.Join(st.Content, ","),
				"disk": diskUsed, "maxdisk": nodeDisk,
			})
		}
	}
	return out
}

func nodeTime(c *call) {
	now := c.node.now().Unix()
	c.ok(map[string]any{"timezone": "UTC", "time": now, "localtime": now})
}

func nodeStatus(c *call) {
	c.ok(map[string]any{
		"pveversion": "pve-manager/9.2.11/14a22df35955d97d", "uptime": int(c.s.now().Sub(c.node.boot).Seconds()),
		"loadavg": []string{"0.10", "0.08", "0.05"}, "cpu": 0.02, "wait": 0, "idle": 0, "kversion": "Linux 6.17.2-1-pve",
		"memory":  map[string]any{"total": nodeMemory, "used": 1879199744, "free": nodeMemory - 1879199744},
		"rootfs":  map[string]any{"total": nodeDisk, "used": diskUsed, "avail": nodeDisk - diskUsed, "free": nodeDisk - diskUsed},
		"swap":    map[string]any{"total": 0, "used": 0, "free": 0},
		"cpuinfo": map[string]any{"cpus": 2, "cores": 2, "sockets": 1, "model": "simulated"},
	})
}

// listPools lists pools, or one with its members.
func listPools(c *call) {
	a := c.node.users()
	want, out := c.params["poolid"], []map[string]any{}
	for _, id := range slices.Sorted(maps.Keys(a.pools)) {
		if want != "" && id != want || !c.can("/pool/"+id, "Pool.Audit") {
			continue
		}
		m := map[string]any{"poolid": id}
		if a.pools[id].comment != "" {
			m["comment"] = a.pools[id].comment
		}
		if want != "" {
			m["members"] = c.members(a.pools[id])
		}
		out = append(out, m)
	}
	if want != "" && len(out) == 0 {
		if a.pools[want] != nil {
			c.forbid("Permission check failed (/pool/" + want + ", Pool.Audit)")
			return
		}
		c.fail("pool '" + want + "' does not exist")
		return
	}
	c.ok(out)
}

func (c *call) members(p *pool) []map[string]any {
	out := []map[string]any{}
	for _, vmid := range slices.Sorted(maps.Keys(p.vms)) {
		if g := c.s.guests[vmid]; g != nil && (c.params["type"] == "" || c.params["type"] == string(g.kind)) {
			out = append(out, c.resource(g))
		}
	}
	if t := c.params["type"]; t == "" || t == "storage" {
		for _, m := range c.storageResources() {
			if id, _ := m["storage"].(string); p.storages[id] {
				out = append(out, m)
			}
		}
	}
	return out
}
