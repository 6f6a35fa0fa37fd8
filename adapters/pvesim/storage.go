package pvesim

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Storage describes one storage of the cluster.
type Storage struct {
	ID string `json:"id"`
	// Type is dir, nfs, lvmthin, lvm, zfspool, rbd, pbs or the like; it decides how
	// volumes are named and what deleting a missing one means.
	Type string `json:"type"`
	// Path is where file-based storages live.
	Path    string   `json:"path,omitempty"`
	Content []string `json:"content,omitempty"`
	// Nodes limits the storage to these; empty means all.
	Nodes    []string `json:"nodes,omitempty"`
	Shared   bool     `json:"shared,omitempty"`
	Disabled bool     `json:"disabled,omitempty"`
	// VG, ThinPool and Pool name what lvm, lvmthin and zfspool storages lie on. A
	// storage that names it needs that [DiskPool] on the node; one that does not
	// is always there.
	VG       string `json:"vg,omitempty"`
	ThinPool string `json:"thinpool,omitempty"`
	Pool     string `json:"pool,omitempty"`
	// SafeRemove makes an lvm storage zero what it frees, in a second task.
	SafeRemove bool `json:"saferemove,omitempty"`
	// PruneBackups are its retention options, as in "keep-last=3".
	PruneBackups string `json:"prune_backups,omitempty"`
}

// Volume describes one volume.
type Volume struct {
	VolID   string `json:"volid"`             // "storage:name"
	Node    string `json:"node"`              // which node's copy of a storage that is not shared
	VMID    int    `json:"vmid,omitempty"`    // owner; 0 for none
	Size    int64  `json:"size"`              // bytes
	Content string `json:"content,omitempty"` // images, rootdir, backup, iso, ...
	Format  string `json:"format,omitempty"`
	// CTime is the time of creation that lists show, in seconds; zero means now,
	// or for backups what their name says.
	CTime int64 `json:"ctime,omitempty"`
	// Parent is the base volume of a linked clone.
	Parent    string `json:"parent,omitempty"`
	Notes     string `json:"notes,omitempty"`
	Protected bool   `json:"protected,omitempty"`
	// Archive is what is in a backup; without one it cannot be read.
	Archive *Archive `json:"archive,omitempty"`
}

type storage struct {
	Storage
	vols  map[volKey]*volume
	owned map[int]map[volKey]*volume
}

// volKey has an empty node on shared storages.
type volKey struct{ node, volid string }

type volume struct {
	Volume
	clones int      // linked clones of it
	snaps  []string // names of its snapshots, oldest first
}

// AddStorage makes a storage, or replaces one's definition and keeps its volumes.
func (s *Sim) AddStorage(st Storage) { s.do(func() { s.addStorage(st) }) }

func (s *Sim) addStorage(st Storage) {
	if old := s.stores[st.ID]; old != nil {
		old.Storage = st
		return
	}
	s.stores[st.ID] = &storage{Storage: st, vols: map[volKey]*volume{}, owned: map[int]map[volKey]*volume{}}
}

// RemoveStorage drops a storage's definition; its volumes are out of reach.
func (s *Sim) RemoveStorage(id string) { s.do(func() { delete(s.stores, id) }) }

// Storages lists the storages by id.
func (s *Sim) Storages() []Storage {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Storage
	for _, id := range slices.Sorted(maps.Keys(s.stores)) {
		st := s.stores[id].Storage
		st.Content, st.Nodes = slices.Clone(st.Content), slices.Clone(st.Nodes)
		out = append(out, st)
	}
	return out
}

// AddVolume makes a volume, as an unreferenced disk, an image or a backup.
func (s *Sim) AddVolume(v Volume) error {
	var err error
	s.do(func() {
		store, _, _ := strings.Cut(v.VolID, ":")
		st, n := s.stores[store], s.nodes[v.Node]
		if st == nil || n == nil {
			err = fmt.Errorf("add volume %s on %s: no such storage or node", v.VolID, v.Node)
			return
		}
		s.putVolume(st, n, v)
	})
	return err
}

// DropVolume makes a volume vanish, as somebody's rm would, without an effect on
// record. It reports whether there was one.
func (s *Sim) DropVolume(node, volid string) (found bool) {
	s.do(func() {
		if st, v := s.volume(s.nodes[node], volid); v != nil {
			st.drop(v)
			found = true
		}
	})
	return found
}

// Volumes lists all volumes of all storages, sorted by node and volume id.
func (s *Sim) Volumes() []Volume {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Volume
	for _, st := range s.stores {
		for _, v := range st.vols {
			out = append(out, v.Volume)
		}
	}
	slices.SortFunc(out, func(a, b Volume) int { return strings.Compare(a.Node+" "+a.VolID, b.Node+" "+b.VolID) })
	return out
}

func (st *storage) key(node, volid string) volKey {
	if st.Shared {
		node = ""
	}
	return volKey{node, volid}
}

func (s *Sim) putVolume(st *storage, n *node, v Volume) {
	v.Node = n.name
	if v.Content == "" {
		v.Content = "images"
	}
	if v.Format == "" {
		v.Format = "raw"
	}
	if v.CTime == 0 {
		v.CTime = n.now().Unix()
		if at, named := archiveTime(v.VolID); named {
			v.CTime = at
		}
	}
	vol := &volume{Volume: v}
	k := st.key(n.name, v.VolID)
	st.vols[k] = vol
	if st.owned[v.VMID] == nil {
		st.owned[v.VMID] = map[volKey]*volume{}
	}
	st.owned[v.VMID][k] = vol
	if base := st.vols[st.key(n.name, v.Parent)]; base != nil {
		base.clones++
	}
}

func (st *storage) drop(v *volume) {
	k := st.key(v.Node, v.VolID)
	delete(st.vols, k)
	delete(st.owned[v.VMID], k)
	if len(st.owned[v.VMID]) == 0 {
		delete(st.owned, v.VMID)
	}
	if base := st.vols[st.key(v.Node, v.Parent)]; base != nil {
		base.clones--
	}
}

// volume finds a volume as node n sees it.
func (s *Sim) volume(n *node, volid string) (*storage, *volume) {
	name, _, _ := strings.Cut(volid, ":")
	st := s.stores[name]
	if st == nil || n == nil {
		return nil, nil
	}
	return st, st.vols[st.key(n.name, volid)]
}

// usable says why a storage cannot be used on a node, or "".
func (s *Sim) usable(name string, n *node) string {
	st := s.stores[name]
	switch {
	case st == nil:
		return "storage '" + name + "' does not exist"
	case st.Disabled:
		return "storage '" + name + "' is disabled"
	case len(st.Nodes) > 0 && !slices.Contains(st.Nodes, n.name):
		return "storage '" + name + "' is not available on node '" + n.name + "'"
	}
	return n.groundless(&st.Storage)
}

// allocate makes the next free disk of a guest and returns its volume id.
func (s *Sim) allocate(st *storage, n *node, kind Kind, vmid int, format string, size int64) string {
	content := "images"
	if kind == LXC {
		content = "rootdir"
	}
	if format == "" {
		format = "raw"
	}
	for i := 0; ; i++ {
		name := fmt.Sprintf("vm-%d-disk-%d", vmid, i)
		if st.Type == "zfspool" && kind == LXC {
			name, format = fmt.Sprintf("subvol-%d-disk-%d", vmid, i), "subvol"
		}
		volid := st.ID + ":" + name
		if st.fileBased() {
			volid = fmt.Sprintf("%s:%d/%s.%s", st.ID, vmid, name, format)
		}
		if st.vols[st.key(n.name, volid)] != nil {
			continue
		}
		s.putVolume(st, n, Volume{VolID: volid, VMID: vmid, Size: size, Content: content, Format: format})
		return volid
	}
}

// parseAllocation reads "storage:GiB", what a create asks for.
func parseAllocation(kind Kind, spec string) (store string, size int64, ok bool) {
	first, _, _ := strings.Cut(spec, ",")
	store, gib, found := strings.Cut(first, ":")
	n, err := strconv.ParseFloat(gib, 64)
	if !found || err != nil || n <= 0 {
		return "", 0, false
	}
	if kind == LXC {
		return store, int64(n*1024) << 20, true // cut to MiB
	}
	return store, int64(math.Ceil(n*1024*1024)) << 10, true // rounded up to KiB
}

// sizeText writes a size with the largest unit that divides it.
func sizeText(size int64) string {
	for _, u := range []struct {
		shift uint
		name  string
	}{{40, "T"}, {30, "G"}, {20, "M"}, {10, "K"}} {
		if size > 0 && size%(1<<u.shift) == 0 {
			return strconv.FormatInt(size>>u.shift, 10) + u.name
		}
	}
	return strconv.FormatInt(size, 10)
}

// disks lists the volumes that a config refers to and that carry the guest's
// VMID, in the order in which a destroy frees them.
func (g *guest) disks() []string {
	var out []string
	add := func(values map[string]string) {
		keys := slices.SortedFunc(maps.Keys(values), naturally)
		for _, k := range keys {
			if !driveKey.MatchString(k) && !unusedKey.MatchString(k) && k != "vmstate" {
				continue
			}
			volid, _, _ := strings.Cut(values[k], ",")
			if ownerOf(volid) == g.vmid && !slices.Contains(out, volid) {
				out = append(out, volid)
			}
		}
	}
	add(g.conf.values)
	for i := range g.conf.snapshots {
		if v := g.conf.snapshots[i].vmstate; v != "" {
			add(map[string]string{"vmstate": v})
		}
	}
	return out
}

// driveOrder is the order of buses in which Proxmox VE goes through drives.
var driveOrder = []string{"rootfs", "mp", "ide", "scsi", "virtio", "sata", "efidisk", "tpmstate", "unused"}

func rank(index int) int {
	if index < 0 {
		return len(driveOrder)
	}
	return index
}

// naturally sorts config keys as Proxmox VE goes through drives: by bus, and
// scsi2 before scsi10. What is no drive comes last.
func naturally(a, b string) int {
	abus, bbus := strings.TrimRight(a, "0123456789"), strings.TrimRight(b, "0123456789")
	if abus != bbus {
		i, j := slices.Index(driveOrder, abus), slices.Index(driveOrder, bbus)
		if i < 0 && j < 0 {
			return strings.Compare(a, b)
		}
		return rank(i) - rank(j)
	}
	i, _ := strconv.Atoi(a[len(abus):])
	j, _ := strconv.Atoi(b[len(bbus):])
	return i - j
}
