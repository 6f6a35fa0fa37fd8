package pvesim

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
)

// guest is one machine. A VMID made anew is another guest, with another
// instance number.
type guest struct {
	instance int
	kind     Kind
	vmid     int
	node     *node
	conf     config
	running  bool
	pid      int
	since    int64     // of running
	deaf     bool      // ignores shutdown requests
	former   [2]string // UUID and name before the config was emptied
}

// Guest describes a guest to make, and one that is there.
type Guest struct {
	// Instance identifies the machine itself: it is never used again. Given by
	// the Sim.
	Instance int    `json:"instance"`
	Kind     Kind   `json:"kind"`
	VMID     int    `json:"vmid"`
	Node     string `json:"node"`
	// Name is the name of a VM or the hostname of a container.
	Name string `json:"name,omitempty"`
	// Disks are allocations "storage:GiB[,format=…]" or volume ids that exist already, for
	// scsi0, scsi1, ... or rootfs, mp0, ... Shown are volume ids.
	Disks []string `json:"disks,omitempty"`
	// MACs of net0, net1, ...; an empty one is made up.
	MACs []string `json:"macs,omitempty"`
	// UUID and GenID (smbios1, vmgenid; VMs only) are made up if empty.
	UUID  string `json:"uuid,omitempty"`
	GenID string `json:"vmgenid,omitempty"`
	// Created is meta's ctime; zero means now.
	Created     int64    `json:"created,omitempty"`
	Tags        []string `json:"tags,omitempty"`
	Description string   `json:"description,omitempty"`
	Pool        string   `json:"pool,omitempty"`
	Lock        string   `json:"lock,omitempty"`
	Protection  bool     `json:"protection,omitempty"`
	Template    bool     `json:"template,omitempty"`
	Running     bool     `json:"running,omitempty"`
	// Deaf guests ignore shutdown requests.
	Deaf bool `json:"deaf,omitempty"`
	// HA puts the guest under HA with this requested state.
	HA     string `json:"ha,omitempty"`
	Digest string `json:"digest,omitempty"`
	// Snapshots are the names of its snapshots, each the parent of the next when
	// they are made with the guest; shown are the incomplete ones too.
	Snapshots []string `json:"snapshots,omitempty"`
	// Config overrides single keys of the config file.
	Config map[string]string `json:"config,omitempty"`
}

// AddGuest makes a guest at once, as somebody else's request would.
func (s *Sim) AddGuest(d Guest) (Guest, error) {
	var out Guest
	var err error
	s.do(func() {
		g, e := s.addGuest(d)
		if e != nil {
			err = e
			return
		}
		out = g.describe()
	})
	return out, err
}

func (s *Sim) addGuest(d Guest) (*guest, error) {
	n := s.order[0]
	if d.Node != "" {
		n = s.nodes[d.Node]
	}
	if d.Kind == "" {
		d.Kind = QEMU
	}
	if d.VMID == 0 {
		d.VMID = s.nextID()
	}
	switch {
	case n == nil:
		return nil, fmt.Errorf("add guest %d: no node %q", d.VMID, d.Node)
	case d.Kind != QEMU && d.Kind != LXC:
		return nil, fmt.Errorf("add guest %d: kind %q is neither qemu nor lxc", d.VMID, d.Kind)
	case d.VMID < minVMID || d.VMID > maxVMID:
		return nil, fmt.Errorf("add guest %d: VMIDs go from %d to %d", d.VMID, minVMID, maxVMID)
	case s.guests[d.VMID] != nil:
		return nil, fmt.Errorf("add guest %d: VMID is in use on node %s", d.VMID, s.guests[d.VMID].node.name)
	}
	values, err := s.initialConfig(n, &d)
	if err != nil {
		return nil, err
	}
	g := s.insert(n, d.Kind, d.VMID, values)
	g.deaf = d.Deaf
	if d.Running {
		g.start()
	}
	if d.Pool != "" {
		s.access.setPool(d.VMID, d.Pool)
	}
	if d.HA != "" {
		s.ha[d.VMID] = d.HA
	}
	for _, name := range d.Snapshots {
		s.addSnapshot(g, name, "")
	}
	return g, nil
}

func (s *Sim) initialConfig(n *node, d *Guest) (map[string]string, error) {
	v := map[string]string{}
	set := func(key, text string) {
		if text != "" {
			v[key] = text
		}
	}
	if d.Kind == QEMU {
		s.qemuDefaults(n, d, v)
		set("name", d.Name)
	} else {
		v["arch"], v["ostype"], v["memory"], v["swap"] = "amd64", "debian", "512", "512"
		set("hostname", d.Name)
	}
	for i, spec := range d.Disks {
		key := "scsi" + itoa(i)
		if d.Kind == LXC {
			key = "mp" + itoa(i-1)
			if i == 0 {
				key = "rootfs"
			}
		}
		drive, err := s.drive(n, d, spec)
		if err != nil {
			return nil, err
		}
		v[key] = drive
	}
	for i, mac := range d.MACs {
		if mac == "" {
			mac = s.mac()
		}
		v["net"+itoa(i)] = netConfig(d.Kind, i, mac)
	}
	set("description", d.Description)
	set("tags", strings.Join(d.Tags, ";"))
	set("lock", d.Lock)
	if d.Protection {
		v["protection"] = "1"
	}
	if d.Template {
		v["template"] = "1"
	}
	maps.Copy(v, d.Config)
	return v, nil
}

func (s *Sim) qemuDefaults(n *node, d *Guest, v map[string]string) {
	if d.UUID == "" {
		d.UUID = s.uuid()
	}
	if d.GenID == "" {
		d.GenID = s.uuid()
	}
	if d.Created == 0 {
		d.Created = n.now().Unix()
	}
	v["smbios1"], v["vmgenid"] = "uuid="+d.UUID, d.GenID
	v["meta"] = "creation-qemu=10.1.2,ctime=" + strconv.FormatInt(d.Created, 10)
	v["memory"] = "512"
}

func netConfig(kind Kind, i int, mac string) string {
	if kind == LXC {
		return fmt.Sprintf("name=eth%d,bridge=vmbr0,hwaddr=%s,type=veth", i, mac)
	}
	return "virtio=" + mac + ",bridge=vmbr0"
}

// drive turns an allocation, or the id of a volume, into a drive's config text.
func (s *Sim) drive(n *node, d *Guest, spec string) (string, error) {
	if store, size, ok := parseAllocation(d.Kind, spec); ok {
		if text := s.usable(store, n); text != "" {
			return "", fmt.Errorf("add guest %d: disk %q: %s", d.VMID, spec, text)
		}
		return s.allocate(s.stores[store], n, d.Kind, d.VMID, option(spec, "format"), size) + ",size=" + sizeText(size), nil
	}
	_, v := s.volume(n, spec)
	if v == nil {
		return "", fmt.Errorf("add guest %d: disk %q is neither storage:GiB nor a volume on node %s", d.VMID, spec, n.name)
	}
	return spec + ",size=" + sizeText(v.Size), nil
}

// insert puts a config file in place.
func (s *Sim) insert(n *node, kind Kind, vmid int, values map[string]string) *guest {
	s.lastInst++
	g := &guest{instance: s.lastInst, kind: kind, vmid: vmid, node: n, conf: config{values: values}}
	s.guests[vmid] = g
	n.ownWrite()
	s.record(g)
	return g
}

// remove unlinks a config file: the VMID is free from here on.
func (s *Sim) remove(g *guest) {
	delete(s.guests, g.vmid)
	g.node.ownWrite()
	s.freeHint = min(s.freeHint, g.vmid)
	s.unrecord(g.vmid)
}

// nextID is the lowest free VMID.
func (s *Sim) nextID() int {
	for s.guests[s.freeHint] != nil {
		s.freeHint++
	}
	return s.freeHint
}

func (g *guest) start() {
	g.running = true
	g.since = g.node.s.now().Unix()
	g.node.lastPID++
	g.pid = g.node.lastPID
	g.node.s.record(g)
}

func (g *guest) stop() {
	g.running, g.pid = false, 0
	g.node.s.record(g)
}

// title is what lists show as the name.
func (g *guest) title() string {
	key := "name"
	if g.kind == LXC {
		key = "hostname"
	}
	if n := g.conf.values[key]; n != "" {
		return n
	}
	return g.kind.word() + " " + itoa(g.vmid)
}

func (g *guest) uuid() string {
	for part := range strings.SplitSeq(g.conf.values["smbios1"], ",") {
		if u, ok := strings.CutPrefix(part, "uuid="); ok {
			return u
		}
	}
	return ""
}

// remember keeps what effects say of the guest once its config is emptied.
func (g *guest) remember() { g.former = [2]string{g.uuid(), g.title()} }

func (g *guest) identity() (uuid, name string) {
	if g.former[1] != "" {
		return g.former[0], g.former[1]
	}
	return g.uuid(), g.title()
}

func (g *guest) describe() Guest {
	v := g.conf.values
	d := Guest{
		Instance: g.instance, Kind: g.kind, VMID: g.vmid, Node: g.node.name, Name: v["name"] + v["hostname"], Disks: g.disks(),
		UUID: g.uuid(), GenID: v["vmgenid"], Description: v["description"], Pool: g.node.s.access.vmPool[g.vmid], Lock: v["lock"],
		Protection: v["protection"] == "1", Template: v["template"] == "1", Running: g.running, Deaf: g.deaf,
		HA: g.node.s.ha[g.vmid], Digest: g.conf.digest(), Config: maps.Clone(v),
	}
	if v["tags"] != "" {
		d.Tags = splitList(v["tags"])
	}
	if _, at, ok := strings.Cut(v["meta"], "ctime="); ok {
		d.Created, _ = strconv.ParseInt(at, 10, 64)
	}
	for i := range g.conf.snapshots {
		d.Snapshots = append(d.Snapshots, g.conf.snapshots[i].name)
	}
	for i := 0; v["net"+itoa(i)] != ""; i++ {
		if m := macPattern.FindString(v["net"+itoa(i)]); m != "" {
			d.MACs = append(d.MACs, m)
		}
	}
	return d
}
