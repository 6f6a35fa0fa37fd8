package proxmox

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"writ/domain/op"
)

// volumeItself takes one volume or backup away.
func (x *planner) volumeItself() {
	v := x.seen.Volume
	item := op.PlanItem{Kind: op.PlanVolume, Name: v.ID, Size: &v.Size, Note: v.Content, Users: slices.Clone(v.Users)}
	if v.Content == "backup" {
		item.Kind, item.Time, item.Note = op.PlanBackup, v.CTime, "with its notes and log"
	}
	x.takes(item)
}

// poolItself takes a disk away with what was found on it, or a pool with all that
// the storages on it list: the backups and files among that are no obstacle, and as
// lost as the disks that are one.
func (x *planner) poolItself(ctx context.Context) {
	if d := x.seen.Disk; d != nil {
		x.takes(op.PlanItem{Kind: op.PlanDevice, Name: d.Path, Size: &d.Size, Note: "wiped whole"})
		for _, held := range d.Holds {
			x.takes(op.PlanItem{Kind: op.PlanContent, Name: held})
		}
		return
	}
	p := x.seen.Pool
	pool := op.PlanItem{Kind: op.PlanPool, Name: p.Pool.String(), Note: "on " + strings.Join(p.Members, ", "), Users: slices.Clone(p.Users)}
	if p.Size > 0 { // of a directory the host does not say it
		pool.Size = &p.Size
	}
	x.takes(pool)
	for _, storage := range p.Storages {
		x.contentOf(ctx, storage)
	}
	if isSet(x.in.Params.CleanupConfig) {
		x.definitions(ctx, p.Storages)
	}
	if isSet(x.in.Params.CleanupDisks) {
		for _, member := range p.Members {
			x.takes(op.PlanItem{Kind: op.PlanDevice, Name: member, Note: "wiped whole, as far as the pool has been on it"})
		}
	}
	if p.Kind == op.ZFS || p.Kind == op.Directory {
		x.gap("what lies on "+p.Pool.String()+" and is on no storage", "the host's API does not list it: look on the node ("+lookInto(p.Pool)+")", false)
	}
}

func lookInto(p op.Pool) string {
	if p.Kind == op.ZFS {
		return "zfs list -r " + p.Name
	}
	return "ls " + mountFolder + p.Name
}

// contentOf takes away all that a storage lists.
func (x *planner) contentOf(ctx context.Context, storage string) {
	what := "what is on storage " + storage
	held, err := x.host.rights(ctx, "/storage/"+storage)
	switch {
	case err != nil:
		x.lost(what, err)
		return
	case !held["Datastore.Allocate"]:
		// Disks and backups that it may not see are left out silently.
		x.gap(what, fmt.Sprintf("token %s does not see all of it, give it Datastore.Allocate on /storage/%s", x.host.token, storage), true)
	}
	rows, err := x.host.content(ctx, x.seen.Node, storage)
	if err != nil {
		x.lost(what, err)
		return
	}
	for _, row := range rows {
		i := contentItem(row)
		if i.Size == nil {
			x.lost("size of "+clip(row.VolID), fmt.Errorf("storage %s of node %s gives none", storage, x.seen.Node))
		}
		x.takes(i)
	}
}

func contentItem(row contentRow) op.PlanItem {
	i := op.PlanItem{Kind: op.PlanVolume, Name: row.VolID, Note: row.Content}
	if row.Size != nil && *row.Size >= 0 {
		n := int64(*row.Size)
		i.Size = &n
	}
	if row.Content == "backup" {
		i.Kind, i.Note = op.PlanBackup, ""
		if row.CTime != nil {
			i.Time = int64(*row.CTime)
		}
		if row.Protected {
			i.Note = "protected"
		}
	}
	return i
}

// definitions takes storages out of the configuration: those of this node alone;
// one of more nodes is only taken off this one (pve-storage
// API2/Disks/*.pm#delete, PVE/API2/Storage/Config.pm#cleanup_storages_for_node).
func (x *planner) definitions(ctx context.Context, storages []string) {
	rows, err := x.storages(ctx)
	if err != nil {
		x.lost("the storages on it", err)
		return
	}
	for _, s := range rows {
		if !slices.Contains(storages, s.Storage) {
			continue
		}
		i := op.PlanItem{Kind: op.PlanStorage, Name: s.Storage}
		if s.Nodes != x.seen.Node {
			i.Name, i.Note = s.Storage+" on node "+x.seen.Node, "is taken off this node, and stays defined if another has it"
		}
		x.takes(i)
	}
}

// storages lists all storages once.
func (x *planner) storages(ctx context.Context) ([]storageRow, error) {
	if x.rows != nil {
		return x.rows, nil
	}
	rows, err := x.host.storages(ctx)
	x.rows = rows
	return rows, err
}

// backups finds the backups of a guest on every storage that can hold some, and
// on every node that has one of its own under the storage's name; but for one that
// is taken away.
func (x *planner) backups(ctx context.Context, vmid int, taken string) {
	what := fmt.Sprintf("backups of guest %d", vmid)
	rows, err := x.storages(ctx)
	if err != nil {
		x.unread(what, err)
		return
	}
	state, err := x.host.clusterState(ctx, x.host.front)
	if err != nil {
		x.unread(what, err)
		return
	}
	for _, s := range rows {
		if !slices.Contains(strings.Split(s.Content, ","), "backup") {
			continue
		}
		on := what + " on storage " + s.Storage
		switch sees, err := x.host.seesBackups(ctx, s.Storage, vmid); {
		case bool(s.Disabled):
			x.gap(on, "the storage is disabled", false)
		case err != nil:
			x.unread(on, err)
		case !sees:
			x.gap(on, fmt.Sprintf("token %s does not see them, give it Datastore.AllocateSpace on /storage/%s and VM.Backup on /vms/%d", x.host.token, s.Storage, vmid), false)
		default:
			for _, node := range x.nodesOf(s, state) {
				x.backupsOn(ctx, s, node, state.online[node], vmid, taken)
			}
		}
	}
}

// nodesOf are the nodes to ask for all that is on a storage: one of those that
// share it, or each.
func (x *planner) nodesOf(s storageRow, state clusterState) []string {
	nodes := slices.Sorted(maps.Keys(state.online))
	if s.Nodes != "" {
		nodes = strings.Split(s.Nodes, ",")
	}
	if !s.Shared || len(nodes) == 0 {
		return nodes
	}
	if slices.Contains(nodes, x.seen.Node) {
		return []string{x.seen.Node}
	}
	i := slices.IndexFunc(nodes, func(node string) bool { return state.online[node] })
	return nodes[max(0, i):][:1]
}

func (x *planner) backupsOn(ctx context.Context, s storageRow, node string, online bool, vmid int, taken string) {
	what := fmt.Sprintf("backups of guest %d on storage %s of node %s", vmid, s.Storage, node)
	if !online {
		x.gap(what, "the node is not online", false)
		return
	}
	rows, err := x.host.content(ctx, node, s.Storage)
	if err != nil {
		x.unread(what, err)
		return
	}
	for _, row := range rows {
		if row.Content != "backup" || row.VMID == nil || int(*row.VMID) != vmid || row.VolID == taken && node == x.seen.Node {
			continue
		}
		i := contentItem(row)
		if !s.Shared {
			i.Note = strings.TrimPrefix(i.Note+"; on node "+node, "; ")
		}
		x.leaves(i)
	}
}
