package op

import (
	"errors"
	"fmt"
)

// Params are the arguments of an op. Which of them a class has, and must have,
// is checked by Intent.Check; one that is not given is not sent, and the host's
// own default is then in force.
type Params struct {
	// Purge also removes the guest from backup and replication jobs and from
	// HA (Proxmox VE: parameter purge of the destroy calls).
	Purge *bool `json:"purge,omitempty"`
	// Force stops a running container first; only of guest-destroy on lxc.
	Force *bool `json:"force,omitempty"`
	// Snapshot is the name of the snapshot that is rolled back to, deleted or
	// made.
	Snapshot string `json:"snapshot,omitempty"`
	// Archive is the volume id of the backup that is restored over the guest.
	Archive string `json:"archive,omitempty"`
	// Storage is where a restore puts the guest's volumes, or a backup goes.
	Storage string `json:"storage,omitempty"`
	// Unique gives the restored guest an identity and MAC addresses of its own.
	Unique *bool `json:"unique,omitempty"`
	// Timeout is how many seconds a guest is given to shut down.
	Timeout *int `json:"timeout,omitempty"`
	// CleanupDisks also wipes the disks that a pool was on.
	CleanupDisks *bool `json:"cleanup_disks,omitempty"`
	// CleanupConfig also removes the storages that are defined on a pool.
	CleanupConfig *bool `json:"cleanup_config,omitempty"`
}

// Equal compares values; a parameter that is absent equals only an absent one.
func (p Params) Equal(o Params) bool { return p.Differs(o) == "" }

// Differs names the first parameter that differs, empty if none does.
func (p Params) Differs(o Params) string {
	for _, x := range []struct {
		name  string
		equal bool
	}{
		{"purge", equalPointed(p.Purge, o.Purge)},
		{"force", equalPointed(p.Force, o.Force)},
		{"snapshot", p.Snapshot == o.Snapshot},
		{"archive", p.Archive == o.Archive},
		{"storage", p.Storage == o.Storage},
		{"unique", equalPointed(p.Unique, o.Unique)},
		{"timeout", equalPointed(p.Timeout, o.Timeout)},
		{"cleanup_disks", equalPointed(p.CleanupDisks, o.CleanupDisks)},
		{"cleanup_config", equalPointed(p.CleanupConfig, o.CleanupConfig)},
	} {
		if !x.equal {
			return x.name
		}
	}
	return ""
}

// Clone shares nothing that could be changed through it.
func (p Params) Clone() Params {
	p.Purge, p.Force, p.Unique = CloneOf(p.Purge), CloneOf(p.Force), CloneOf(p.Unique)
	p.Timeout = CloneOf(p.Timeout)
	p.CleanupDisks, p.CleanupConfig = CloneOf(p.CleanupDisks), CloneOf(p.CleanupConfig)
	return p
}

// maxTimeout bounds Timeout: a task of a day holds its target for a day.
const maxTimeout = 24 * 60 * 60

// check tells which parameter a class has not, must have, or has in another
// form.
func (p Params) check(c Class, t Target) error {
	for _, x := range []struct {
		name  string
		given bool
		of    bool // the class has it
		must  bool
	}{
		{"purge", p.Purge != nil, c == GuestDestroy, false},
		{"snapshot", p.Snapshot != "", c.onSnapshot(), true},
		{"archive", p.Archive != "", c == RestoreOverwrite, true},
		// Where a restore puts volumes is for the signers to say: a container's
		// would else go to the storage called local, wherever they were
		// (pve-container API2/LXC.pm#create_vm).
		{"storage", p.Storage != "", c == RestoreOverwrite || c == BackupCreate, true},
		{"unique", p.Unique != nil, c == RestoreOverwrite, false},
		{"timeout", p.Timeout != nil, c == GuestShutdown || c == GuestReboot, false},
		{"cleanup_disks", p.CleanupDisks != nil, c == StorageWipe && t.Disk == "", false},
		{"cleanup_config", p.CleanupConfig != nil, c == StorageWipe && t.Disk == "", false},
	} {
		switch {
		case x.given && !x.of:
			return fmt.Errorf("params.%s: class %s has no such parameter on this target", x.name, c)
		case x.of && x.must && !x.given:
			return fmt.Errorf("params.%s: missing, class %s requires it on this target", x.name, c)
		}
	}
	if p.Force != nil && (c != GuestDestroy || t.Guest == nil || t.Guest.Type != LXC) {
		return errors.New("params.force: only guest-destroy of a container (lxc) has this parameter")
	}
	if p.Timeout != nil && (*p.Timeout < 1 || *p.Timeout > maxTimeout) {
		return fmt.Errorf("params.timeout: %d is not within 1 to %d seconds", *p.Timeout, maxTimeout)
	}
	for _, x := range []struct {
		name, value string
		check       func(string) error
	}{
		{"snapshot", p.Snapshot, CheckSnapshotName},
		{"archive", p.Archive, CheckVolumeID},
		{"storage", p.Storage, CheckStorageName},
	} {
		if x.value == "" {
			continue
		}
		if err := x.check(x.value); err != nil {
			return fmt.Errorf("params.%s: %w", x.name, err)
		}
	}
	return nil
}

// onSnapshot tells whether ops of the class are about one snapshot.
func (c Class) onSnapshot() bool {
	return c == SnapshotRollback || c == SnapshotDelete || c == SnapshotCreate
}
