package pvesim

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Disk is one block device of a node.
type Disk struct {
	Node    string `json:"node"`
	DevPath string `json:"devpath"` // "/dev/sdb"
	Size    int64  `json:"size"`    // bytes
	// Serial, WWN, Model, Vendor and ByIDLink are shown as "unknown" if empty; a
	// missing link is left out.
	Serial   string `json:"serial,omitempty"`
	WWN      string `json:"wwn,omitempty"`
	Model    string `json:"model,omitempty"`
	Vendor   string `json:"vendor,omitempty"`
	ByIDLink string `json:"by_id_link,omitempty"`
	Type     string `json:"type,omitempty"` // hdd, ssd (the default), nvme or usb
	GPT      bool   `json:"gpt,omitempty"`
	// Used is the file system found on it, if any; pools are found by themselves.
	Used    string `json:"used,omitempty"`
	Mounted bool   `json:"mounted,omitempty"`
	// Held says that the kernel has something on top of it.
	Held       bool        `json:"held,omitempty"`
	Partitions []Partition `json:"partitions,omitempty"`
}

// Partition is one partition of a disk.
type Partition struct {
	DevPath string `json:"devpath"`
	Size    int64  `json:"size"`
	Used    string `json:"used,omitempty"`
	Mounted bool   `json:"mounted,omitempty"`
	Held    bool   `json:"held,omitempty"`
}

// The kinds of pools.
const (
	PoolZFS       = "zfs"
	PoolLVM       = "lvm" // a volume group
	PoolLVMThin   = "lvmthin"
	PoolDirectory = "directory" // a disk mounted below /mnt/pve
)

// DiskPool is what disks of a node were made into.
type DiskPool struct {
	Node string `json:"node"`
	Kind string `json:"kind"`
	Name string `json:"name"`
	VG   string `json:"vg,omitempty"` // of a thin pool
	Size int64  `json:"size"`
	Used int64  `json:"used,omitempty"`
	// Members are the disks or partitions it lies on; a thin pool has those of its
	// volume group, which is a pool of its own.
	Members []string `json:"members,omitempty"`
	// Volumes counts the logical volumes of a volume group that are neither a
	// thin pool nor listed on a storage.
	Volumes int `json:"volumes,omitempty"`
}

// hardware is what a node has of both.
type hardware struct {
	disks []*Disk
	pools []*DiskPool
}

// AddDisk plugs a disk in, or replaces the one at that path.
func (s *Sim) AddDisk(d Disk) error {
	return s.onHardware("add disk "+d.DevPath, d.Node, func(h *hardware) error {
		if !strings.HasPrefix(d.DevPath, "/dev/") || d.Size <= 0 {
			return fmt.Errorf("add disk %q: a path below /dev and a size are needed", d.DevPath)
		}
		d.Partitions = slices.Clone(d.Partitions)
		h.unplug(d.DevPath)
		h.disks = append(h.disks, &d)
		slices.SortFunc(h.disks, func(a, b *Disk) int { return strings.Compare(a.DevPath, b.DevPath) })
		return nil
	})
}

// RemoveDisk unplugs a disk. It reports whether there was one.
func (s *Sim) RemoveDisk(node, devpath string) (found bool) {
	err := s.onHardware("remove disk "+devpath, node, func(h *hardware) error {
		found = h.unplug(devpath)
		return nil
	})
	return found && err == nil
}

// AddDiskPool makes a pool. Its members need not be disks that AddDisk made.
func (s *Sim) AddDiskPool(p DiskPool) error {
	return s.onHardware("add pool "+p.Name, p.Node, func(h *hardware) error {
		if !slices.Contains([]string{PoolZFS, PoolLVM, PoolLVMThin, PoolDirectory}, p.Kind) || p.Name == "" {
			return fmt.Errorf("add pool %q: kind %q is not zfs, lvm, lvmthin or directory, or there is no name", p.Name, p.Kind)
		}
		if h.pool(p.Kind, p.VG, p.Name) != nil {
			return fmt.Errorf("add pool %q: node %s has one of that name", p.Name, p.Node)
		}
		p.Members = slices.Clone(p.Members)
		h.pools = append(h.pools, &p)
		slices.SortFunc(h.pools, func(a, b *DiskPool) int { return strings.Compare(a.VG+a.Name, b.VG+b.Name) })
		return nil
	})
}

func (s *Sim) onHardware(what, node string, f func(h *hardware) error) error {
	var err error
	s.do(func() {
		n := s.nodes[node]
		if n == nil {
			err = fmt.Errorf("%s: no node %q", what, node)
			return
		}
		err = f(&n.hardware)
	})
	return err
}

// Disks lists the disks of all nodes.
func (s *Sim) Disks() []Disk {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Disk
	for _, n := range s.order {
		for _, d := range n.hardware.disks {
			shown := *d
			shown.Partitions = slices.Clone(d.Partitions)
			out = append(out, shown)
		}
	}
	return out
}

// DiskPools lists the pools of all nodes.
func (s *Sim) DiskPools() []DiskPool {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []DiskPool
	for _, n := range s.order {
		for _, p := range n.hardware.pools {
			shown := *p
			shown.Members = slices.Clone(p.Members)
			out = append(out, shown)
		}
	}
	return out
}

func (h *hardware) unplug(devpath string) (found bool) {
	h.disks = slices.DeleteFunc(h.disks, func(d *Disk) bool {
		found = found || d.DevPath == devpath
		return d.DevPath == devpath
	})
	return found
}

// pool finds a pool; vg is for thin pools only.
func (h *hardware) pool(kind, vg, name string) *DiskPool {
	for _, p := range h.pools {
		if p.Kind == kind && p.Name == name && (kind != PoolLVMThin || p.VG == vg) {
			return p
		}
	}
	return nil
}

// find looks a disk or a partition up by its path.
func (h *hardware) find(devpath string) (*Disk, *Partition) {
	for _, d := range h.disks {
		if d.DevPath == devpath {
			return d, nil
		}
		for i := range d.Partitions {
			if d.Partitions[i].DevPath == devpath {
				return d, &d.Partitions[i]
			}
		}
	}
	return nil, nil
}

// member is the pool that a disk or partition belongs to.
func (h *hardware) member(devpath string) *DiskPool {
	for _, p := range h.pools {
		if p.Kind != PoolLVMThin && slices.Contains(p.Members, devpath) {
			return p
		}
	}
	return nil
}

// logical counts the logical volumes of a volume group.
func (n *node) logical(vg *DiskPool) int {
	count := vg.Volumes
	for _, p := range n.hardware.pools {
		if p.Kind == PoolLVMThin && p.VG == vg.Name {
			count++
		}
	}
	for _, st := range n.s.stores {
		if st.VG == vg.Name && (st.Type == "lvm" || st.Type == "lvmthin") {
			count += len(st.seen(n, 0))
		}
	}
	return count
}

// groundless says that what a storage lies on is not there, or "".
func (n *node) groundless(st *Storage) string {
	h := &n.hardware
	switch {
	case st.Type == "zfspool" && st.Pool != "" && h.pool(PoolZFS, "", topOf(st.Pool)) == nil:
		return "could not activate storage '" + st.ID + "', zfs error: cannot import '" + topOf(st.Pool) + "': no such pool available"
	case st.Type == "lvm" && st.VG != "" && h.pool(PoolLVM, "", st.VG) == nil:
		return "no such volume group '" + st.VG + "'"
	case st.Type == "lvmthin" && st.ThinPool != "" && h.pool(PoolLVMThin, st.VG, st.ThinPool) == nil:
		return "no such logical volume " + st.VG + "/" + st.ThinPool
	}
	return ""
}

// topOf is the pool that a dataset lies in.
func topOf(dataset string) string {
	name, _, _ := strings.Cut(dataset, "/")
	return name
}

// listedDisk are the devices that disks/list shows.
var listedDisk = regexp.MustCompile(`^/dev/(?:(?:h|s|x?v)d[a-z]+|nvme\d+n\d+)$`)
