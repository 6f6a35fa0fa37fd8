package pvesim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// createGuest is POST of a guest: enough to make one, or a restore.
func createGuest(kind Kind) func(*call) {
	return func(c *call) {
		s, vmid := c.s, c.vmid()
		switch {
		case kind == QEMU && c.has("archive"):
			restoreVM(c)
			return
		case kind == LXC && c.on("restore"):
			restoreCT(c)
			return
		}
		if kind == QEMU && c.has("args") && c.auth != rootUser {
			c.fail("only root can set 'args' config")
			return
		}
		if !c.node.quorate {
			c.fail("cluster not ready - no quorum?")
			return
		}
		if kind == QEMU {
			if text := c.mayCreate(false); text != "" {
				c.forbid(text)
				return
			}
		}
		if ref, taken := c.node.exists(vmid); taken {
			text := ref.kind.word() + " " + itoa(vmid) + " already exists on node '" + ref.node + "'"
			if kind == QEMU {
				text = "unable to create VM " + itoa(vmid) + " - " + text
			}
			c.fail(text)
			return
		}
		if kind == LXC {
			if text := c.mayCreate(false); text != "" {
				c.forbid(text)
				return
			}
			if _, name, bad := s.named(c.params["ostemplate"]); bad == "" && name.content != "vztmpl" {
				c.fail("unable to use volume " + c.params["ostemplate"] + " - content type needs to be 'vztmpl'")
				return
			}
		}
		set, _ := c.changes()
		for _, k := range slices.Sorted(maps.Keys(set)) {
			v := set[k]
			if store, _, ok := parseAllocation(kind, v); ok && driveKey.MatchString(k) {
				if text := s.usable(store, c.node); text != "" {
					c.fail(text)
					return
				}
			}
		}
		c.letIn()
		// The VMID is taken from here on, before the worker runs.
		g := s.insert(c.node, kind, vmid, map[string]string{"lock": "create"})
		if p := set["pool"]; p != "" {
			s.access.setPool(vmid, p)
		}
		for _, k := range restoreOptions {
			delete(set, k)
		}
		startIt := c.on("start")
		c.fork(kind.prefix()+"create", itoa(vmid), s.startStage(), act(StageAct, s.pace.Volume, func(t *task) string {
			return s.build(t, g, set, startIt)
		}))
	}
}

// build is the worker's part: volumes, then the config.
func (s *Sim) build(t *task, g *guest, set map[string]string, startIt bool) string {
	if s.guests[g.vmid] != g {
		return noConfig(g.kind, t.node.name, g.vmid)
	}
	values := map[string]string{}
	d := Guest{Kind: g.kind, VMID: g.vmid}
	if g.kind == QEMU {
		s.qemuDefaults(t.node, &d, values)
	} else {
		values["arch"], values["ostype"], values["memory"], values["swap"] = "amd64", "debian", "512", "512"
	}
	boot := ""
	for _, k := range slices.SortedFunc(maps.Keys(set), naturally) {
		v := set[k]
		store, size, ok := parseAllocation(g.kind, v)
		switch {
		case ok && driveKey.MatchString(k):
			st := s.stores[store]
			format := option(v, "format")
			volid := s.allocate(st, t.node, g.kind, g.vmid, format, size)
			v = volid + ",size=" + sizeText(size)
			if st.fileBased() {
				t.print(formatting(st.filePath(volid), format, size))
			}
			t.print(k + ": successfully created disk '" + v + "'")
			if boot == "" {
				boot = "order=" + k
			}
		case strings.HasPrefix(k, "net"):
			v = s.withMAC(g.kind, v)
		case k == "unprivileged" && v == "0":
			continue
		case k == "tags":
			v = strings.Join(splitList(v), ";")
		}
		values[k] = v
	}
	if g.kind == QEMU {
		if values["boot"] == "" {
			values["boot"] = boot
		}
		if values["boot"] == "" {
			values["boot"] = " "
		}
	}
	g.conf = config{values: values}
	s.record(g)
	if startIt {
		g.start()
	}
	return ""
}

// option reads one key=value of a drive's text.
func option(drive, key string) string {
	for part := range strings.SplitSeq(drive, ",") {
		if v, ok := strings.CutPrefix(part, key+"="); ok {
			return v
		}
	}
	return ""
}

// withMAC gives a network card an address if it has none.
func (s *Sim) withMAC(kind Kind, v string) string {
	if macPattern.MatchString(v) {
		return v
	}
	if kind == LXC {
		return v + ",hwaddr=" + s.mac() + ",type=veth"
	}
	model, rest, more := strings.Cut(v, ",")
	if more {
		rest = "," + rest
	}
	return model + "=" + s.mac() + rest
}

// formatting is what qemu-img says of a new image.
func formatting(path, format string, size int64) string {
	if format == "qcow2" {
		return fmt.Sprintf("Formatting '%s', fmt=qcow2 cluster_size=65536 extended_l2=off preallocation=metadata compression_type=zlib size=%d lazy_refcounts=off refcount_bits=16", path, size)
	}
	return fmt.Sprintf("Formatting '%s', fmt=raw size=%d preallocation=off", path, size)
}
