package pvesim

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

var devicePattern = regexp.MustCompile(`^/dev/[a-zA-Z0-9/]+$`)

func checkDevice(text string) string {
	if !devicePattern.MatchString(text) {
		return "value does not match the regex pattern"
	}
	return ""
}

// rootByTicket admits root@pam by ticket: no token, not even one of root@pam, is
// that user.
func rootByTicket(g *grant) string {
	if g.auth != rootUser {
		return "Permission check failed (user != root@pam)"
	}
	return ""
}

// wipeDisk is PUT disks/wipedisk.
func wipeDisk(c *call) {
	dev := c.params["disk"]
	if text := c.node.busy(dev); text != "" {
		c.fail(text)
		return
	}
	c.fork("wipedisk", path.Base(dev), c.s.startStage(), c.s.wipeStage(StageWipe, dev), act(StageZero, c.s.pace.Volume, func(t *task) string {
		t.zeroed(dev)
		return ""
	}), endStage())
}

// busy says why a disk must not be wiped, or "": mounts and holders count, of
// partitions too. The members of a ZFS pool show neither.
func (n *node) busy(dev string) string {
	h := &n.hardware
	d, part := h.find(dev)
	if d == nil {
		return "not a valid block device"
	}
	check := func(dev string, mounted, held bool) string {
		p := h.member(dev)
		switch {
		case mounted || p != nil && p.Kind == PoolDirectory:
			return "disk/partition '" + dev + "' is mounted"
		case held || p != nil && p.Kind == PoolLVM && n.logical(p) > 0:
			return "disk/partition '" + dev + "' has a holder"
		}
		return ""
	}
	if part != nil {
		return check(part.DevPath, part.Mounted, part.Held)
	}
	if text := check(d.DevPath, d.Mounted, d.Held); text != "" {
		return text
	}
	for i := range d.Partitions {
		p := &d.Partitions[i]
		if text := check(p.DevPath, p.Mounted, p.Held); text != "" {
			return text
		}
	}
	return ""
}

// wipeStage removes every signature from a device: what was on it is out of
// reach from here on.
// (pve-storage: PVE::Diskmanage#wipe_blockdev)
func (s *Sim) wipeStage(name, dev string) stage {
	return act(name, s.pace.Volume, func(t *task) string {
		h := &t.node.hardware
		d, part := h.find(dev)
		if d == nil {
			return "Couldn't get the size of the device " + path.Base(dev)
		}
		var parts []string
		if part == nil {
			for i := range d.Partitions {
				parts = append(parts, d.Partitions[i].DevPath)
			}
		}
		if len(parts) > 0 {
			t.print("found child partitions to wipe: " + strings.Join(parts, ", "))
		}
		t.print("wiping block device " + dev)
		for _, at := range append(parts, dev) {
			if p := h.member(at); p != nil && p.Kind == PoolZFS {
				return "error wiping '" + dev + "': wipefs: error: " + at + ": probing initialization failed: Device or resource busy"
			}
		}
		signature := d.Used
		if part != nil {
			signature, part.Used = part.Used, ""
		} else {
			d.Used, d.GPT, d.Partitions = "", false, nil
		}
		if signature != "" {
			t.print(erased(dev, signature))
		}
		// A volume group goes with the labels of its members.
		h.pools = slices.DeleteFunc(h.pools, func(p *DiskPool) bool { return p.Kind == PoolLVM && slices.Contains(p.Members, dev) })
		s.effectOf(t, Effect{Kind: DiskWiped, Device: dev, Name: d.Serial})
		return ""
	})
}

// erased is what wipefs says of one signature.
func erased(dev, signature string) string {
	switch signature {
	case "ext4":
		return dev + ": 2 bytes were erased at offset 0x00000438 (ext4): 53 ef"
	case "LVM2_member":
		return dev + ": 8 bytes were erased at offset 0x00000218 (LVM2_member): 4c 56 4d 32 20 30 30 31"
	}
	return dev + ": 4 bytes were erased at offset 0x00000000 (" + signature + "): 00 00 00 00"
}

// zeroed is what dd says after the first 200 MiB at most.
func (t *task) zeroed(dev string) {
	d, part := t.node.hardware.find(dev)
	if d == nil {
		return
	}
	size := d.Size
	if part != nil {
		size = part.Size
	}
	mib := min(size>>20, 200)
	t.print(fmt.Sprintf("%d+0 records in", mib))
	t.print(fmt.Sprintf("%d+0 records out", mib))
	t.print(fmt.Sprintf("%d bytes (%d MB, %d MiB) copied, 0.1 s, %d MB/s", mib<<20, (mib<<20)/1000000, mib, mib*10))
}
