package op

import "slices"

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
