package op

import (
	"errors"
	"fmt"
	"slices"
)

// A Class says what kind of thing an op does. Each is signed or benign.
type Class string

// The classes.
const (
	GuestDestroy     Class = "guest-destroy"
	RestoreOverwrite Class = "restore-overwrite"
	SnapshotRollback Class = "snapshot-rollback"
	SnapshotDelete   Class = "snapshot-delete"
	VolumeDelete     Class = "volume-delete"
	BackupDelete     Class = "backup-delete"
	StorageWipe      Class = "storage-wipe"
	GuestStop        Class = "guest-stop"
	GuestShutdown    Class = "guest-shutdown"
	GuestReboot      Class = "guest-reboot"
	GuestStart       Class = "guest-start"
	SnapshotCreate   Class = "snapshot-create"
	BackupCreate     Class = "backup-create"
)

// Classes gives every class, in the order of the documentation.
func Classes() []Class {
	return []Class{
		GuestDestroy, RestoreOverwrite, SnapshotRollback, SnapshotDelete, VolumeDelete, BackupDelete,
		StorageWipe, GuestStop, GuestShutdown, GuestReboot, GuestStart, SnapshotCreate, BackupCreate,
	}
}

// Known tells whether the class exists.
func (c Class) Known() bool { return slices.Contains(Classes(), c) }

// Benign tells whether ops of the class take nothing away and so may run
// without a signature where a policy rule allows it.
func (c Class) Benign() bool {
	return c == GuestStart || c == SnapshotCreate || c == BackupCreate
}

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

// Target is what an op acts on. For guests the node is only a hint: they
// migrate, and an op follows them.
type Target struct {
	Node  string `json:"node"`
	Guest *Guest `json:"guest,omitempty"`
}

// Equal compares what is named, not pointers.
func (t Target) Equal(o Target) bool {
	if t.Node != o.Node || (t.Guest == nil) != (o.Guest == nil) {
		return false
	}
	return t.Guest == nil || *t.Guest == *o.Guest
}

// Key names what ops on this target must not share at one time. The node is
// left out for guests, because a VMID is unique in its cluster.
func (t Target) Key() string {
	if t.Guest != nil {
		return fmt.Sprintf("guest/%d", t.Guest.VMID)
	}
	return "node/" + t.Node
}

// String is for people.
func (t Target) String() string {
	if t.Guest != nil {
		return fmt.Sprintf("%s %d (node %s)", t.Guest.Type, t.Guest.VMID, t.Node)
	}
	return "node " + t.Node
}

// Params are the arguments of an op. Which of them a class has is checked by
// Intent.Check; one that is not given is not sent.
type Params struct {
	// Purge also removes the guest from backup and replication jobs and from
	// HA (Proxmox VE: parameter purge of the destroy calls).
	Purge *bool `json:"purge,omitempty"`
	// Force stops a running container first; only of guest-destroy on lxc.
	Force *bool `json:"force,omitempty"`
}

// Equal compares values; a parameter that is absent equals only an absent one.
func (p Params) Equal(o Params) bool {
	return equalBool(p.Purge, o.Purge) && equalBool(p.Force, o.Force)
}

func equalBool(a, b *bool) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// An Intent is what a caller asks for. It is not trusted: for a signed class
// it must say exactly what the signed document says.
type Intent struct {
	Class  Class  `json:"class"`
	Target Target `json:"target"`
	Params Params `json:"params"`
}

// Check tells what is wrong with the form of an intent, naming the field.
func (i Intent) Check() error {
	if !i.Class.Known() {
		return fmt.Errorf("class: %q is none of %v", clip(string(i.Class)), Classes())
	}
	if err := i.Target.check(); err != nil {
		return err
	}
	if i.Target.Guest == nil && i.Class.ActsOnGuest() {
		return fmt.Errorf("target.guest: missing, class %s acts on a guest", i.Class)
	}
	if i.Target.Guest != nil && !i.Class.ActsOnGuest() {
		return fmt.Errorf("target.guest: class %s does not act on a guest, leave it out", i.Class)
	}
	if i.Params.Purge != nil && i.Class != GuestDestroy {
		return fmt.Errorf("params.purge: class %s has no such parameter", i.Class)
	}
	if i.Params.Force != nil && (i.Class != GuestDestroy || i.Target.Guest.Type != LXC) {
		return errors.New("params.force: only guest-destroy of a container (lxc) has this parameter")
	}
	return nil
}

// ActsOnGuest tells whether what ops of the class act on belongs to the guest
// that their target names. Those of other classes name none: a VMID would say
// nothing about what they take away.
func (c Class) ActsOnGuest() bool {
	switch c {
	case VolumeDelete, BackupDelete, StorageWipe:
		return false
	case GuestDestroy, RestoreOverwrite, SnapshotRollback, SnapshotDelete, GuestStop, GuestShutdown, GuestReboot,
		GuestStart, SnapshotCreate, BackupCreate:
		return true
	}
	return false
}

func (t Target) check() error {
	if err := CheckNodeName(t.Node); err != nil {
		return fmt.Errorf("target.node: %w", err)
	}
	if t.Guest == nil {
		return nil
	}
	switch t.Guest.Type {
	case QEMU, LXC:
	default:
		return fmt.Errorf("target.guest.type: %q is neither qemu nor lxc", clip(string(t.Guest.Type)))
	}
	if t.Guest.VMID < MinVMID || t.Guest.VMID > MaxVMID {
		return fmt.Errorf("target.guest.vmid: %d is not within %d to %d", t.Guest.VMID, MinVMID, MaxVMID)
	}
	return nil
}

// CheckNodeName refuses what can't be the name of a Proxmox VE node. Nothing
// else may ever be put into the path of a request.
func CheckNodeName(s string) error {
	if s == "" || len(s) > 63 {
		return fmt.Errorf("%q is not a node name: 1 to 63 characters are required", clip(s))
	}
	for i := range len(s) {
		c := s[i]
		alnum := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !alnum && (c != '-' || i == 0 || i == len(s)-1) {
			return fmt.Errorf("%q is not a node name: letters, digits and inner hyphens only", clip(s))
		}
	}
	return nil
}

// clip keeps foreign text in an error short.
func clip(s string) string {
	if len(s) <= 64 {
		return s
	}
	return s[:64] + "…"
}
