package proxmox

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"writ/domain/op"
)

// A deviceRow is a part of a pool in the host's tree of it: a mirror, a volume
// group, or a device.
type deviceRow struct {
	Name     string      `json:"name"`
	Size     *number     `json:"size"`
	Leaf     *flag       `json:"leaf"`
	Volumes  *number     `json:"lvcount"` // of a volume group: its logical volumes
	Children []deviceRow `json:"children"`
}

// leaves are the devices below, sorted.
func (d deviceRow) leaves() []string {
	var names []string
	for _, c := range d.Children {
		if len(c.Children) == 0 && (c.Leaf == nil || bool(*c.Leaf)) {
			names = append(names, c.Name)
		}
		names = append(names, c.leaves()...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// readPool looks for a pool on a node; nil if there is none of that kind and
// name. It needs Sys.Audit there, without which there is an error and no answer.
func (h *Host) readPool(ctx context.Context, node string, p op.Pool) (*op.PoolSeen, error) {
	switch p.Kind {
	case op.ZFS:
		return h.readZPool(ctx, node, p)
	case op.LVM:
		return h.readVolumeGroup(ctx, node, p, p.Name)
	case op.LVMThin:
		return h.readThinPool(ctx, node, p)
	case op.Directory:
		return h.readDirectory(ctx, node, p)
	}
	return nil, fmt.Errorf("%q is no kind of pool", clip(string(p.Kind)))
}

func disksPath(node string, kind op.PoolKind) string {
	return "/nodes/" + url.PathEscape(node) + "/disks/" + string(kind)
}

func (h *Host) readInto(ctx context.Context, node, path string, into any) error {
	r, err := h.get(ctx, h.at(node), path)
	if err != nil {
		return err
	}
	if err := r.decode(into); err != nil {
		return fmt.Errorf("GET %s: %w", path, err)
	}
	return nil
}

func poolSeen(p op.Pool, size *number, members []string) (*op.PoolSeen, error) {
	if size == nil || *size < 0 {
		return nil, fmt.Errorf("the host gives no size of %s", p)
	}
	if len(members) == 0 {
		return nil, fmt.Errorf("the host does not say what %s lies on", p)
	}
	return &op.PoolSeen{Pool: p, Size: int64(*size), Members: members}, nil
}

func (h *Host) readZPool(ctx context.Context, node string, p op.Pool) (*op.PoolSeen, error) {
	var rows []deviceRow
	if err := h.readInto(ctx, node, disksPath(node, op.ZFS), &rows); err != nil {
		return nil, err
	}
	i := slices.IndexFunc(rows, func(r deviceRow) bool { return r.Name == p.Name })
	if i < 0 {
		return nil, nil //nolint:nilnil // no such pool is an answer
	}
	var detail deviceRow
	if err := h.readInto(ctx, node, disksPath(node, op.ZFS)+"/"+url.PathEscape(p.Name), &detail); err != nil {
		return nil, err
	}
	return poolSeen(p, rows[i].Size, detail.leaves())
}

// volumeGroup looks for a volume group; nil if there is none.
func (h *Host) volumeGroup(ctx context.Context, node, name string) (*deviceRow, error) {
	var tree deviceRow
	if err := h.readInto(ctx, node, disksPath(node, op.LVM), &tree); err != nil {
		return nil, err
	}
	for _, vg := range tree.Children {
		if vg.Name == name {
			return &vg, nil
		}
	}
	return nil, nil //nolint:nilnil // no such group is an answer
}

// readVolumeGroup gives a pool of the size of a volume group, on its devices.
func (h *Host) readVolumeGroup(ctx context.Context, node string, p op.Pool, name string) (*op.PoolSeen, error) {
	vg, err := h.volumeGroup(ctx, node, name)
	if err != nil || vg == nil {
		return nil, err
	}
	return poolSeen(p, vg.Size, vg.leaves())
}

// A thinRow is a thin pool as the host lists it.
type thinRow struct {
	LV   string  `json:"lv"`
	VG   string  `json:"vg"`
	Size *number `json:"lv_size"`
}

func (h *Host) thinPools(ctx context.Context, node string) (rows []thinRow, err error) {
	err = h.readInto(ctx, node, disksPath(node, op.LVMThin), &rows)
	return rows, err
}

func (h *Host) readThinPool(ctx context.Context, node string, p op.Pool) (*op.PoolSeen, error) {
	rows, err := h.thinPools(ctx, node)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		if row.LV != p.Name || row.VG != p.VolumeGroup {
			continue
		}
		group, err := h.readVolumeGroup(ctx, node, p, p.VolumeGroup)
		if err != nil {
			return nil, err
		}
		if group == nil {
			return nil, fmt.Errorf("%s is listed and its volume group is not, ask again", p)
		}
		return poolSeen(p, row.Size, group.Members)
	}
	return nil, nil //nolint:nilnil // no such thin pool is an answer
}

// mountFolder is where the host mounts a directory that was made of a disk.
const mountFolder = "/mnt/pve/"

func (h *Host) readDirectory(ctx context.Context, node string, p op.Pool) (*op.PoolSeen, error) {
	var rows []struct {
		Path   string `json:"path"`
		Device string `json:"device"`
	}
	if err := h.readInto(ctx, node, disksPath(node, op.Directory), &rows); err != nil {
		return nil, err
	}
	for _, row := range rows {
		if row.Path != mountFolder+p.Name {
			continue
		}
		var members []string
		if row.Device != "" {
			members = []string{row.Device}
		}
		var none number // the host does not tell
		return poolSeen(p, &none, members)
	}
	return nil, nil //nolint:nilnil // no such directory is an answer
}

// notGuestFacts are the gate's facts about a target that is no guest: where it
// is, and by which names of storages it can be granted. They come from the
// target's own name and the cluster's configuration, nothing that a guest's
// administrator could change.
func (h *Host) notGuestFacts(ctx context.Context, t op.Target) (op.Facts, error) {
	state, err := h.clusterState(ctx, h.front)
	if err != nil {
		return op.Facts{}, err
	}
	if _, listed := state.online[t.Node]; !listed {
		return op.Facts{}, nil
	}
	f := op.Facts{Found: true, Node: t.Node}
	switch {
	case t.Volume != "":
		f.Storages = []string{t.Storage()}
	case t.Pool != nil:
		if f.Storages, err = h.storagesOn(ctx, t.Node, *t.Pool); err != nil {
			return op.Facts{}, err
		}
		if !slices.Contains(f.Storages, t.Pool.Name) {
			f.Storages = append(f.Storages, t.Pool.Name)
		}
	case t.Disk != "":
		f.Storages = []string{t.Disk[strings.LastIndexByte(t.Disk, '/')+1:]}
	}
	return f, nil
}
