package proxmox

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"writ/domain/op"
)

// A diskRow is a disk as its node lists it, or one of its partitions.
type diskRow struct {
	Path     string   `json:"devpath"`
	Parent   string   `json:"parent"` // of a partition: its disk
	Size     *number  `json:"size"`
	Serial   string   `json:"serial"`
	WWN      string   `json:"wwn"`
	Model    string   `json:"model"`
	ByID     string   `json:"by_id_link"`
	Used     string   `json:"used"`
	Mounted  *flag    `json:"mounted"`
	GPT      *flag    `json:"gpt"`
	OSD      *number  `json:"osdid"`
	OSDs     []number `json:"osdid-list"`
	Journals *number  `json:"journals"`
	DBs      *number  `json:"db"`
	WALs     *number  `json:"wal"`
}

// unnamed is what the host shows where a disk does not tell its serial number,
// WWN or model (pve-storage Diskmanage.pm#get_udev_info).
const unnamed = "unknown"

func named(s string) string {
	if s == unnamed {
		return ""
	}
	return s
}

// inUse are the uses that keep a disk from being wiped, though nothing may be
// mounted: the host itself refuses only what is mounted or has a holder, and a
// node can stop starting for want of what is neither. A bare file system that
// nobody has mounted is no use: it is what a wipe is for.
var inUse = map[string]string{
	"ZFS":            "ZFS (a pool, or the label of one: zpool labelclear)",
	"ZFS reserved":   "ZFS (a pool, or the label of one: zpool labelclear)",
	"zfs_member":     "ZFS (a pool, or the label of one: zpool labelclear)",
	"BIOS boot":      "boot partition",
	"EFI":            "boot partition",
	"Device Mapper":  "device mapper",
	"mounted":        "mounted",
	"swap":           "swap",
	"ceph_bluestore": "Ceph OSD",
}

// uses are why the row is in use; groups are the devices of volume groups.
func (d diskRow) uses(groups map[string]string) []string {
	var why []string
	if text := inUse[d.Used]; text != "" {
		why = append(why, text)
	}
	// A label that no volume group knows was left behind, if all that the groups
	// lie on is known by the name that it has here.
	if vg := groups[d.Path]; vg != "" {
		why = append(why, "volume group "+clip(vg))
	}
	if d.Mounted != nil && bool(*d.Mounted) && d.Used != "mounted" {
		why = append(why, "mounted")
	}
	switch {
	case len(d.OSDs) > 0:
		why = append(why, fmt.Sprintf("Ceph OSD %v", d.OSDs))
	case d.OSD != nil && *d.OSD >= 0:
		why = append(why, fmt.Sprintf("Ceph OSD %d", *d.OSD))
	}
	for what, n := range map[string]*number{"journal": d.Journals, "DB": d.DBs, "WAL": d.WALs} {
		if n != nil && *n > 0 {
			why = append(why, "Ceph "+what)
		}
	}
	for i := range why {
		why[i] += " (" + d.Path + ")"
	}
	return why
}

// holds is what was found on the row, for the record, and for the probe to tell
// whether it is still there; empty if nothing.
func (d diskRow) holds() string {
	switch {
	case d.Parent != "":
		return strings.TrimSpace(d.Path + " " + d.Used)
	case d.Used != "" && d.Used != "partitions":
		return d.Path + " " + d.Used
	case d.GPT != nil && bool(*d.GPT):
		return d.Path + " GPT"
	}
	return ""
}

// disks lists the disks of a node with their partitions. It needs Sys.Audit
// there, without which there is an error and no answer.
func (h *Host) disks(ctx context.Context, node string) (rows []diskRow, err error) {
	path := "/nodes/" + url.PathEscape(node) + "/disks/list?include-partitions=1&skipsmart=1"
	err = h.readInto(ctx, node, path, &rows)
	return rows, err
}

// A diskState is what is known of one disk.
type diskState struct {
	seen op.DiskSeen
	byID string // a link to it, empty if the host gives none
}

// readDisk looks for a whole disk by its path; nil if the node lists none there.
// Who uses it is told as far as the node itself knows.
func (h *Host) readDisk(ctx context.Context, node, path string) (*diskState, error) {
	rows, err := h.disks(ctx, node)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(rows, func(r diskRow) bool { return r.Path == path && r.Parent == "" })
	if i < 0 {
		return nil, nil //nolint:nilnil // no such disk is an answer
	}
	disk := rows[i]
	if disk.Size == nil || *disk.Size <= 0 {
		return nil, fmt.Errorf("the host gives no size of disk %s", path)
	}
	s := &diskState{byID: disk.ByID, seen: op.DiskSeen{
		Path: path, Serial: named(disk.Serial), WWN: named(disk.WWN), Model: named(disk.Model), Size: int64(*disk.Size),
	}}
	own := slices.DeleteFunc(slices.Clone(rows), func(r diskRow) bool { return r.Path != path && r.Parent != path })
	groups, err := h.groupsOn(ctx, node, rows, own)
	if err != nil {
		return nil, err
	}
	var uses []string
	for _, row := range own {
		uses = append(uses, row.uses(groups)...)
		if text := row.holds(); text != "" {
			s.seen.Holds = append(s.seen.Holds, clip(text))
		}
	}
	for _, row := range rows {
		if disk.isLike(row) {
			uses = append(uses, row.Path+" has the same size and serial number or WWN: what is signed tells neither from the other")
		}
	}
	slices.Sort(s.seen.Holds)
	slices.Sort(uses)
	s.seen.Used = strings.Join(slices.Compact(uses), ", ")
	return s, nil
}

// isLike tells whether the node has another disk that what signers bind may not
// tell from this one: disks in one make of enclosure and namespaces of one
// controller can share a number, and two ways to one disk share all. Mounts and
// whatever else uses the disk show under one of its names only, and names are
// given anew at the next boot.
func (d diskRow) isLike(other diskRow) bool {
	if other.Parent != "" || other.Path == d.Path || other.Size != nil && *other.Size != *d.Size {
		return false
	}
	alike := func(a, b string) bool { return named(a) != "" && a == b }
	return alike(d.Serial, other.Serial) || alike(d.WWN, other.WWN)
}

// hasLVM tells whether there is a label of LVM on it: one that LVM itself shows,
// or that is found where LVM does not.
func (d diskRow) hasLVM() bool { return d.Used == "LVM" || d.Used == "LVM2_member" }

// groupsOn gives the volume groups that lie on a disk, by device. It asks only if
// there may be a label of LVM on it; that of a whole disk does not show beside
// partitions. Groups name their devices as LVM does, which need
// not be as the node lists them: with one that can't be told whose it is, every
// label counts as in use.
func (h *Host) groupsOn(ctx context.Context, node string, all, own []diskRow) (map[string]string, error) {
	if !slices.ContainsFunc(own, func(r diskRow) bool { return r.hasLVM() || r.Used == "partitions" }) {
		return nil, nil
	}
	var tree deviceRow
	if err := h.readInto(ctx, node, disksPath(node, op.LVM), &tree); err != nil {
		return nil, err
	}
	on := make(map[string]string)
	for _, vg := range tree.Children {
		for _, device := range vg.leaves() {
			if slices.ContainsFunc(all, func(r diskRow) bool { return r.Path == device }) {
				on[device] = vg.Name
				continue
			}
			for _, row := range own {
				if row.hasLVM() && on[row.Path] == "" {
					on[row.Path] = fmt.Sprintf("%s may be: it lies on %s, which the node does not list", vg.Name, clip(device))
				}
			}
		}
	}
	return on, nil
}
