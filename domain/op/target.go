package op

import (
	"errors"
	"fmt"
	"strings"
)

// GuestType is what kind of guest a VMID belongs to.
type GuestType string

// The types of guest that Proxmox VE has.
const (
	QEMU GuestType = "qemu"
	LXC  GuestType = "lxc"
)

// Bounds of a VMID (Proxmox VE: pve-common JSONSchema.pm, format pve-vmid).
const (
	MinVMID = 100
	MaxVMID = 999_999_999
)

// Guest names a virtual machine or container. A VMID is reused within seconds
// after its guest is gone: it names a place, never an identity.
type Guest struct {
	Type GuestType `json:"type"`
	VMID int       `json:"vmid"`
}

// PoolKind is what kind of thing on a node's disks a pool is.
type PoolKind string

// The kinds of pool that Proxmox VE can take down (pve-storage
// API2/Disks/*.pm#delete).
const (
	ZFS       PoolKind = "zfs"
	LVM       PoolKind = "lvm"
	LVMThin   PoolKind = "lvmthin"
	Directory PoolKind = "directory"
)

// Pool names a pool on the disks of one node: a ZFS pool, a volume group with
// all its volumes, a thin pool in one, or a file system mounted as a directory.
type Pool struct {
	Kind PoolKind `json:"kind"`
	Name string   `json:"name"`
	// VolumeGroup is the one that a thin pool is in; empty for other kinds.
	VolumeGroup string `json:"volume_group,omitempty"`
}

func (p Pool) String() string {
	if p.VolumeGroup != "" {
		return fmt.Sprintf("%s pool %s/%s", p.Kind, p.VolumeGroup, p.Name)
	}
	return fmt.Sprintf("%s pool %s", p.Kind, p.Name)
}

// Target is what an op acts on: the node, and exactly one of the others. For
// guests the node is only a hint, as they migrate and an op follows them; for
// volumes, pools and disks it binds.
type Target struct {
	Node  string `json:"node"`
	Guest *Guest `json:"guest,omitempty"`
	// Volume is the id of a volume or backup: a storage, a colon, and the name
	// that the storage has for it.
	Volume string `json:"volume,omitempty"`
	Pool   *Pool  `json:"pool,omitempty"`
	// Disk is a whole disk by its device path, which moves between boots.
	Disk string `json:"disk,omitempty"`
}

// Equal compares what is named, not pointers.
func (t Target) Equal(o Target) bool {
	return t.Node == o.Node && t.Volume == o.Volume && t.Disk == o.Disk &&
		equalPointed(t.Guest, o.Guest) && equalPointed(t.Pool, o.Pool)
}

// Clone shares nothing that could be changed through it.
func (t Target) Clone() Target {
	t.Guest, t.Pool = CloneOf(t.Guest), CloneOf(t.Pool)
	return t
}

func equalPointed[T comparable](a, b *T) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// CloneOf gives a pointer to a copy of what p points to, nil for nil. The copy is
// shallow.
func CloneOf[T any](p *T) *T {
	if p == nil {
		return nil
	}
	return new(*p)
}

// Key names what ops on this target must not share at one time. The node is
// left out for guests, because a VMID is unique in its cluster, and for
// volumes, because a shared storage has them on every node. Pools and disks of
// one node lie on one another.
func (t Target) Key() string {
	switch {
	case t.Guest != nil:
		return fmt.Sprintf("guest/%d", t.Guest.VMID)
	case t.Volume != "":
		return "volume/" + t.Volume
	}
	return "node/" + t.Node
}

// String is for people.
func (t Target) String() string {
	switch {
	case t.Guest != nil:
		return fmt.Sprintf("%s %d (node %s)", t.Guest.Type, t.Guest.VMID, t.Node)
	case t.Volume != "":
		return fmt.Sprintf("volume %s (node %s)", t.Volume, t.Node)
	case t.Pool != nil:
		return fmt.Sprintf("%s (node %s)", *t.Pool, t.Node)
	case t.Disk != "":
		return fmt.Sprintf("disk %s (node %s)", t.Disk, t.Node)
	}
	return "node " + t.Node
}

// Storage is the storage that the target's volume is on, empty if it has none.
func (t Target) Storage() string {
	storage, _, _ := strings.Cut(t.Volume, ":")
	return storage
}

func (t Target) check() error {
	if err := CheckNodeName(t.Node); err != nil {
		return fmt.Errorf("target.node: %w", err)
	}
	if t.Guest != nil {
		if err := t.Guest.check(); err != nil {
			return fmt.Errorf("target.guest.%w", err)
		}
	}
	if t.Volume != "" {
		if err := CheckVolumeID(t.Volume); err != nil {
			return fmt.Errorf("target.volume: %w", err)
		}
	}
	if t.Pool != nil {
		if err := t.Pool.check(); err != nil {
			return fmt.Errorf("target.pool.%w", err)
		}
	}
	if t.Disk != "" {
		if err := checkDisk(t.Disk); err != nil {
			return fmt.Errorf("target.disk: %w", err)
		}
	}
	return nil
}

func (g Guest) check() error {
	switch g.Type {
	case QEMU, LXC:
	default:
		return fmt.Errorf("type: %q is neither qemu nor lxc", clip(string(g.Type)))
	}
	if g.VMID < MinVMID || g.VMID > MaxVMID {
		return fmt.Errorf("vmid: %d is not within %d to %d", g.VMID, MinVMID, MaxVMID)
	}
	return nil
}

func (p Pool) check() error {
	switch p.Kind {
	case ZFS, LVM, LVMThin, Directory:
	default:
		return fmt.Errorf("kind: %q is none of zfs, lvm, lvmthin and directory", clip(string(p.Kind)))
	}
	if err := CheckStorageName(p.Name); err != nil {
		return fmt.Errorf("name: %w", err)
	}
	if (p.Kind == LVMThin) != (p.VolumeGroup != "") {
		return errors.New("volume_group: a thin pool has one, and no other kind of pool")
	}
	if p.VolumeGroup == "" {
		return nil
	}
	if err := CheckStorageName(p.VolumeGroup); err != nil {
		return fmt.Errorf("volume_group: %w", err)
	}
	return nil
}
