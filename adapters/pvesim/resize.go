package pvesim

import (
	"regexp"
	"strconv"
	"strings"
)

var resizePattern = regexp.MustCompile(`^(\+?)(\d+(?:\.\d+)?)([KMGT]?)$`)

// resizeMethod is PUT resize: a task in which all of it happens and fails. It
// changes the size in the config, and so the digest.
// (qemu-server: PVE::API2::Qemu#resize_vm, pve-container: PVE::API2::LXC#resize_vm)
func resizeMethod(kind Kind) method {
	params := map[string]param{
		"disk": need(str), "digest": {kind: "string", maxLen: 40},
		"size": need(param{kind: "string", check: pattern(resizePattern, `(?^:\+?\d+(\.\d+)?[KMGT]?)`)}),
	}
	if kind == QEMU {
		params["skiplock"] = boolean
	}
	return put("/nodes/{node}/"+string(kind)+"/{vmid}/resize", method{
		protected: true, perm: onGuest("VM.Config.Disk"), params: params, handle: func(c *call) {
			if c.on("skiplock") && c.auth != rootUser {
				c.failParam("skiplock", "Only root may use this option.")
				return
			}
			c.fork("resize", itoa(c.vmid()), c.s.startStage(), c.s.lockStage(kind, c.vmid()), act(StageAct, c.s.pace.Volume, func(t *task) string {
				return c.resize(t, kind)
			}))
		},
	})
}

func (c *call) resize(t *task, kind Kind) string {
	g := c.s.at(t.node, kind, c.vmid())
	if g == nil {
		return noConfig(kind, t.node.name, c.vmid())
	}
	if d := c.params["digest"]; d != "" && d != g.conf.digest() {
		return digestMismatch(kind)
	}
	if lock := g.conf.values["lock"]; lock != "" && !c.on("skiplock") {
		return kind.word() + " is locked (" + lock + ")"
	}
	disk := c.params["disk"]
	drive := g.conf.values[disk]
	if drive == "" {
		return "disk '" + disk + "' does not exist"
	}
	volid, _, _ := strings.Cut(drive, ",")
	if text := c.rights().all("/storage/"+storageOf(volid), "Datastore.AllocateSpace"); text != "" {
		return text
	}
	st, v := c.s.volume(t.node, volid)
	if v == nil {
		return c.s.missingVolume(t.node, volid)
	}
	size := resized(c.params["size"], v.Size)
	switch {
	case size < v.Size && kind == LXC:
		return "unable to shrink disk size"
	case size < v.Size:
		return "shrinking disks is not supported"
	case size == v.Size:
		return ""
	}
	if st.fileBased() {
		t.print("Image resized.")
	}
	// The volume grows before the config says so.
	v.Size = size
	if text := unwritable(t.node, kind, g.vmid, t.pid); text != "" {
		return text
	}
	g.conf.values[disk] = strings.Replace(drive, "size="+option(drive, "size"), "size="+sizeText(size), 1)
	c.s.record(g)
	return ""
}

// resized reads a size, or what is to be added to the present one.
func resized(text string, now int64) int64 {
	m := resizePattern.FindStringSubmatch(text)
	n, err := strconv.ParseFloat(m[2], 64)
	if err != nil {
		return now
	}
	size := int64(n * float64(int64(1)<<map[string]uint{"": 0, "K": 10, "M": 20, "G": 30, "T": 40}[m[3]]))
	if m[1] == "+" {
		size += now
	}
	return size
}
