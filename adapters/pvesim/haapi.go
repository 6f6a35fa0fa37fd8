package pvesim

import (
	"crypto/sha1" //nolint:gosec // the digest that Proxmox VE itself uses
	"encoding/hex"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// haMethods are the calls below /cluster/ha.
// (pve-ha-manager: PVE::API2::HA::Resources, PVE::API2::HA::Status)
func haMethods() []method {
	one := "/cluster/ha/resources/{sid}"
	options := func() map[string]param {
		return map[string]param{
			"state":   enum("started", "stopped", "enabled", "disabled", "ignored"),
			"comment": {kind: "string", maxLen: 4096}, "group": configID, "failback": boolean, "auto-rebalance": boolean,
			"max_relocate": natural, "max_restart": natural,
		}
	}
	add, change := options(), options()
	add["sid"], add["type"] = need(pathParams["sid"]), enum("ct", "vm")
	change["delete"], change["digest"] = strList, param{kind: "string", maxLen: 64}
	return []method{
		get("/cluster/ha/resources", method{perm: onRoot("Sys.Audit"), params: map[string]param{"type": enum("ct", "vm")}, handle: haResources}),
		post("/cluster/ha/resources", method{protected: true, perm: onRoot("Sys.Console"), params: add, handle: addHA}),
		get(one, method{perm: onRoot("Sys.Audit"), handle: haResource}),
		put(one, method{protected: true, perm: onRoot("Sys.Console"), params: change, handle: changeHA}),
		del(one, method{protected: true, perm: onRoot("Sys.Console"), params: map[string]param{"purge": boolean}, handle: removeHA}),
		post(one+"/migrate", method{protected: true, perm: onRoot("Sys.Console"), params: map[string]param{"node": need(pathParams["node"])}, handle: moveHA(false)}),
		post(one+"/relocate", method{protected: true, perm: onRoot("Sys.Console"), params: map[string]param{"node": need(pathParams["node"])}, handle: moveHA(true)}),
		get("/cluster/ha/status/current", method{perm: onRoot("Sys.Audit"), handle: haStatus}),
	}
}

var sidPattern = regexp.MustCompile(`^(?:[a-z]+:\S+|\d+)$`)

func checkSID(text string) string {
	if sidPattern.MatchString(text) {
		return ""
	}
	return "invalid format - value does not look like a valid ha resource id\n"
}

// parseSID gives the resource's id and its VMID, or answers and reports false. A
// bare number is that of a guest which exists.
func (c *call) parseSID() (id string, vmid int, ok bool) {
	id = c.params["sid"]
	if n, err := strconv.Atoi(id); err == nil {
		ref, there := c.node.exists(n)
		if !there {
			c.fail("unable to detect SID from VMID - VM/CT " + id + " does not exist")
			return "", 0, false
		}
		return sid(ref.kind, n), n, true
	}
	_, name, _ := strings.Cut(id, ":")
	return id, int(leadingInt(name)), true
}

// configured reports whether a resource of just this id is in the HA config.
func (s *Sim) configured(id string, vmid int) bool {
	_, there := s.ha[vmid]
	return there && s.sidOf(vmid) == id
}

func (s *Sim) sidOf(vmid int) string {
	if g := s.guests[vmid]; g != nil {
		return sid(g.kind, vmid)
	}
	return sid(QEMU, vmid)
}

func haResources(c *call) {
	out := []map[string]any{}
	for _, vmid := range slices.Sorted(maps.Keys(c.s.ha)) {
		row := c.s.haRow(vmid)
		if c.params["type"] == "" || c.params["type"] == row["type"] {
			out = append(out, row)
		}
	}
	c.ok(out)
}

func haResource(c *call) {
	id, vmid, ok := c.parseSID()
	if !ok {
		return
	}
	if !c.s.configured(id, vmid) {
		c.fail("no such resource '" + id + "'")
		return
	}
	c.ok(c.s.haRow(vmid))
}

func (s *Sim) haRow(vmid int) map[string]any {
	id := s.sidOf(vmid)
	kind, _, _ := strings.Cut(id, ":")
	m := map[string]any{"sid": id, "type": kind, "state": s.ha[vmid], "digest": s.haDigest()}
	for k, v := range s.haExtra[vmid] {
		if n, err := strconv.Atoi(v); err == nil && k != "comment" {
			m[k] = n
			continue
		}
		m[k] = v
	}
	return m
}

// haDigest is that of the one file that holds all resources.
func (s *Sim) haDigest() string {
	var b strings.Builder
	for _, vmid := range slices.Sorted(maps.Keys(s.ha)) {
		b.WriteString(s.sidOf(vmid) + " " + s.ha[vmid] + "\n")
		for _, k := range slices.Sorted(maps.Keys(s.haExtra[vmid])) {
			b.WriteString("\t" + k + " " + s.haExtra[vmid][k] + "\n")
		}
	}
	sum := sha1.Sum([]byte(b.String())) //nolint:gosec // as above
	return hex.EncodeToString(sum[:])
}

func addHA(c *call) {
	if !c.node.quorate {
		c.fail(noQuorum)
		return
	}
	id, vmid, ok := c.parseSID()
	if !ok {
		return
	}
	kind, _, _ := strings.Cut(id, ":")
	word := map[string]string{"vm": "VM", "ct": "CT"}[kind]
	ref, there := c.node.exists(vmid)
	switch {
	case c.has("type") && c.params["type"] != kind:
		c.fail("types does not match")
	case word == "":
		c.fail("unknown section type '" + kind + "'")
	case !there:
		c.fail("resource '" + id + "' does not exist in cluster")
	case ref.kind.word() != word:
		c.fail("resource '" + id + "' - guest with ID " + itoa(vmid) + " is not a " + word)
	case c.s.configured(id, vmid):
		c.fail("create resource failed: resource ID '" + id + "' already defined")
	default:
		c.s.ha[vmid] = "started"
		c.setHA(vmid)
	}
}

func changeHA(c *call) {
	id, vmid, ok := c.parseSID()
	if !ok {
		return
	}
	switch d := c.params["digest"]; {
	case !c.node.quorate:
		c.fail("update resources config failed: cfs-lock 'domain-ha' error: no quorum!")
	case d != "" && d != c.s.haDigest():
		c.fail("update resources config failed: detected modified configuration - file changed by other user? Try again.")
	case !c.s.configured(id, vmid):
		c.fail("update resources config failed: no such resource '" + id + "'")
	default:
		for _, k := range splitList(c.params["delete"]) {
			delete(c.s.haExtra[vmid], k)
		}
		c.setHA(vmid)
	}
}

// setHA stores the options of the request and lets the HA stack act on the
// state; a stop that was asked for in this way is a shutdown.
func (c *call) setHA(vmid int) {
	extra := maps.Clone(c.s.haExtra[vmid])
	if extra == nil {
		extra = map[string]string{}
	}
	for k, v := range c.params {
		switch k {
		case "sid", "type", "delete", "digest":
		case "state":
			if v == "enabled" {
				v = "started"
			}
			c.s.ha[vmid] = v
		default:
			extra[k] = v
		}
	}
	c.s.haExtra[vmid] = extra
	c.ok(nil)
	c.s.followHA(vmid, shutdownPatience)
}

func removeHA(c *call) {
	id, vmid, ok := c.parseSID()
	switch {
	case !ok:
	case !c.s.configured(id, vmid):
		c.fail("cannot delete service '" + id + "', not HA managed!")
	case !c.node.quorate:
		c.fail("cfs-lock 'domain-ha' error: no quorum!")
	default:
		c.s.dropHA(vmid)
		c.ok(nil)
	}
}

// haStatus shows the quorum, then one row for each resource that is managed.
func haStatus(c *call) {
	n := c.node
	quorum := map[string]any{"id": "quorum", "type": "quorum", "node": n.name, "status": "OK", "quorate": flag(n.quorate)}
	if !n.quorate {
		quorum["status"] = "No quorum on node '" + n.name + "'!"
	}
	out := []map[string]any{quorum}
	for _, vmid := range slices.Sorted(maps.Keys(c.s.ha)) {
		id, state := c.s.sidOf(vmid), c.s.ha[vmid]
		m := map[string]any{"id": "service:" + id, "type": "service", "sid": id, "state": state, "request_state": state}
		node := "---"
		if g := c.s.guests[vmid]; g != nil {
			node = g.node.name
			m["node"], m["crm_state"] = node, state
		}
		m["status"] = id + " (" + node + ", " + state + ")"
		out = append(out, m)
	}
	c.ok(out)
}
