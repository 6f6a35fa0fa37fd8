package op

// Facts are what the gate knows about a target when it decides, read from the
// host for this decision and recorded with it, so that an audit can decide
// again.
type Facts struct {
	// Found is false if no such target exists on the host.
	Found bool `json:"found"`
	// Node is where the target is now.
	Node string `json:"node,omitempty"`
	// Name is a guest's name or hostname. Names, tags and nodes can be
	// changed by lesser admins, so they only ever narrow what a rule grants.
	Name string `json:"name,omitempty"`
	// Pool is the resource pool the guest is in, empty if none.
	Pool string `json:"pool,omitempty"`
	// Tags are a guest's tags.
	Tags []string `json:"tags,omitempty"`
	// Storages are those that hold the target's volumes, without repeats.
	Storages []string `json:"storages,omitempty"`
}

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

	NodeOnline bool `json:"node_online"`
	Quorate    bool `json:"quorate"`
}

// A Request is one mutating HTTP request to the host, exactly as announced.
type Request struct {
	Method string `json:"method"`
	Path   string `json:"path"`            // below the API root, such as /nodes/pve1/qemu/105
	Query  string `json:"query,omitempty"` // encoded, sorted by key
}
