package op

// Observed is a target as one fresh read of its configuration showed it,
// together with the state of the host that would carry out the request.
type Observed struct {
	// Found is false if the host has no such target.
	Found bool `json:"found"`
	// Node is where the target was found: the request goes there.
	Node string    `json:"node,omitempty"`
	Type GuestType `json:"type,omitempty"`
	VMID int       `json:"vmid,omitzero"`

	Name       string   `json:"name,omitempty"`        // name (qemu) or hostname (lxc)
	SMBIOSUUID string   `json:"smbios_uuid,omitempty"` // qemu; lower case
	VMGenID    string   `json:"vmgenid,omitempty"`     // qemu; lower case
	CTime      int64    `json:"ctime,omitzero"`        // qemu: creation time of the config, UNIX seconds; clones copy it
	MACs       []string `json:"macs,omitempty"`        // upper case, in the order of the interfaces
	Volumes    []string `json:"volumes,omitempty"`     // volumes in the config that belong to the guest, sorted: what a destroy takes away
	Digest     string   `json:"digest,omitempty"`      // SHA-1 of the whole config file, by the host
	WritID     string   `json:"writ_id,omitempty"`     // marker in the description
	Lock       string   `json:"lock,omitempty"`        // config lock
	Status     string   `json:"status,omitempty"`      // running or stopped
	Protection bool     `json:"protection,omitzero"`
	Template   bool     `json:"template,omitzero"`
	HAManaged  bool     `json:"ha_managed,omitzero"`
	// Uptime is for how many seconds a running guest has been running.
	Uptime int64 `json:"uptime,omitzero"`
	// Clones are volumes of other guests that stand on the guest's own.
	Clones []string `json:"clones,omitempty"`
	// Replication are the guest's replication jobs, of a destroy without purge,
	// which the host refuses while there is one.
	Replication []string `json:"replication,omitempty"`

	// What else an op of some classes is about; nil if that was not found.
	Snapshot *SnapshotSeen `json:"snapshot,omitempty"`
	Archive  *VolumeSeen   `json:"archive,omitempty"` // the backup that is restored
	Volume   *VolumeSeen   `json:"volume,omitempty"`
	Pool     *PoolSeen     `json:"pool,omitempty"`
	Disk     *DiskSeen     `json:"disk,omitempty"`

	// Plan is the digest of what the op would take away, lower-case hex; empty if
	// the document expects no plan, as then it is not read.
	Plan string `json:"plan,omitempty"`

	NodeOnline bool `json:"node_online"`
	Quorate    bool `json:"quorate"`
}

// SnapshotSeen is a snapshot of a guest as it was observed.
type SnapshotSeen struct {
	Name string `json:"name"`
	Time int64  `json:"time"` // UNIX seconds, by the host's clock
	// State is what the host was doing with it and did not finish, empty if
	// nothing (Proxmox VE: snapstate).
	State string `json:"state,omitempty"`
	// Current: the guest's present state comes from it, and no other snapshot
	// was made since.
	Current bool `json:"current,omitzero"`
}

// VolumeSeen is a volume or backup as it was observed.
type VolumeSeen struct {
	ID    string `json:"id"`
	Size  int64  `json:"size"`           // bytes
	CTime int64  `json:"ctime,omitzero"` // UNIX seconds; 0 where the storage has none (ZFS, RBD)
	// Content is what the storage says it is: images, rootdir, backup, iso, …
	Content   string `json:"content,omitempty"`
	VMID      int    `json:"vmid,omitzero"` // whose it is by its name; 0 if nobody's
	Protected bool   `json:"protected,omitzero"`
	// Users are the guests whose configuration refers to it, such as
	// "qemu/105 scsi0", and the volumes that stand on it.
	Users []string `json:"users,omitempty"`
}

// PoolSeen is a pool as it was observed.
type PoolSeen struct {
	Pool

	Size    int64    `json:"size"`              // bytes
	Members []string `json:"members,omitempty"` // device paths, sorted
	// Storages are those defined on it, in the cluster's configuration.
	Storages []string `json:"storages,omitempty"`
	// Users are the guests with volumes on those storages, and whatever else
	// lies on the pool that is no part of it.
	Users []string `json:"users,omitempty"`
}

// DiskSeen is a whole disk as it was observed.
type DiskSeen struct {
	Path   string `json:"path"`
	Serial string `json:"serial,omitempty"`
	WWN    string `json:"wwn,omitempty"`
	Model  string `json:"model,omitempty"`
	Size   int64  `json:"size"` // bytes
	// Used is what it, or a partition of it, is in use for, empty if for nothing:
	// then it must not be wiped.
	Used string `json:"used,omitempty"`
	// Holds is what was found on it and on its partitions, whether or not
	// anything uses it, such as "/dev/sdb1 ext4"; sorted.
	Holds []string `json:"holds,omitempty"`
}
