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
	// Storages are those that hold the target's volumes, without repeats. Of a
	// pool they are its own name and the storages that are defined on it, of a
	// disk the last part of its device path.
	Storages []string `json:"storages,omitempty"`
}

// A Request is one mutating HTTP request to the host, exactly as announced.
type Request struct {
	Method string `json:"method"`
	Path   string `json:"path"`            // below the API root, such as /nodes/pve1/qemu/105
	Query  string `json:"query,omitempty"` // encoded, sorted by key
}
