package proxmox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"writ/domain/op"
)

// A section is one part of a guest's configuration, as a plan looks at it: as it
// is in force, as it will be after a restart, or of a snapshot.
type section struct {
	digest  string
	volumes []string            // its own, sorted
	others  []string            // what else it refers to on a storage
	memory  string              // of a snapshot: the volume with the guest's memory
	where   map[string][]string // volume -> keys
	sizes   map[string]int64    // of those whose size the configuration says
	discs   map[string]bool     // those that are in a CD drive
}

func (x *planner) section(ctx context.Context, query string) (section, error) {
	path := x.guestPath() + "/config" + query
	r, err := x.host.get(ctx, x.host.at(x.seen.Node), path)
	if err != nil {
		return section{}, err
	}
	s, err := parseSection(x.seen.Node, *x.in.Target.Guest, r)
	if err != nil {
		return section{}, fmt.Errorf("GET %s: %w", path, err)
	}
	return s, nil
}

func parseSection(node string, g op.Guest, r reply) (section, error) {
	c, err := parseConfig(node, g, r)
	if err != nil {
		return section{}, err
	}
	var raw map[string]jsontext.Value
	if err := r.decode(&raw); err != nil {
		return section{}, err
	}
	s := section{digest: c.seen.Digest, volumes: c.seen.Volumes, where: make(map[string][]string), sizes: make(map[string]int64), discs: make(map[string]bool)}
	for _, key := range slices.Sorted(maps.Keys(c.drives)) {
		volid := c.drives[key]
		s.where[volid] = append(s.where[volid], key)
		if key == "vmstate" {
			s.memory = volid
		}
		if !slices.Contains(s.volumes, volid) {
			s.others = append(s.others, volid)
		}
		value, err := scalar(raw[key])
		if err != nil {
			continue
		}
		if media, _ := property(value, "media"); media == "cdrom" {
			s.discs[volid] = true
		}
		text, given := property(value, "size")
		if n, ok := parseSize(text); given && ok {
			s.sizes[volid] = n
		}
	}
	return s, nil
}

// parseSize reads a size as the host writes it into a configuration, such as 32G
// or 528K (pve-common JSONSchema.pm#parse_size).
func parseSize(text string) (int64, bool) {
	shift := 0
	if i := strings.IndexAny(text, "KMGT"); i >= 0 && i == len(text)-1 {
		shift = 10 * (1 + strings.IndexByte("KMGT", text[i]))
		text = text[:i]
	}
	if whole, err := strconv.ParseInt(text, 10, 64); err == nil && whole >= 0 && whole <= math.MaxInt64>>shift {
		return whole << shift, true
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(f) || f < 0 || f >= float64(int64(math.MaxInt64)>>shift) {
		return 0, false
	}
	return int64(f * float64(int64(1)<<shift)), true
}

// errChanged: what was put together comes from two states of the guest.
var errChanged = errors.New("the guest's configuration was changed while it was being read, ask again")

// guestItself takes away configuration, volumes and snapshots of a guest: what a
// destroy frees (qemu-server QemuServer.pm#destroy_vm, pve-container
// LXC.pm#destroy_lxc_container) are the volumes of its own that its configuration
// refers to, as it is in force or will be, and those with the memory of snapshots.
func (x *planner) guestItself(ctx context.Context) {
	x.takes(op.PlanItem{Kind: op.PlanConfig, Name: x.guestName(), Note: "with notes, tags and firewall rules"})
	next, err := x.section(ctx, "")
	if err != nil {
		x.lost("the guest's volumes", err)
		return
	}
	owned := map[string]string{} // volume -> where
	sizes := map[string]int64{}
	add := func(s section, volids []string, what string) {
		for _, volid := range volids {
			where := strings.TrimSpace(what + " " + strings.Join(s.where[volid], ", "))
			if owned[volid] == "" {
				owned[volid] = where
			}
			if n, ok := s.sizes[volid]; ok {
				sizes[volid] = n
			}
		}
	}
	add(next, next.volumes, "")
	x.addSnapshots(ctx, func(name string, s section) {
		if s.memory != "" && slices.Contains(s.volumes, s.memory) {
			add(s, []string{s.memory}, "memory of snapshot "+clip(name))
		}
	})
	// Read last: its digest is that of all that was read before.
	now, err := x.section(ctx, "?current=1")
	switch {
	case err != nil:
		x.lost("the guest's volumes", err)
	case now.digest != x.seen.Digest || next.digest != x.seen.Digest:
		x.lost("the guest's volumes", errChanged)
	}
	add(now, now.volumes, "until a restart:")
	x.takeVolumes(ctx, owned, sizes)
	x.noteOthers(next, owned)
}

// addSnapshots takes the guest's snapshots away, and shows the configuration that
// each holds.
func (x *planner) addSnapshots(ctx context.Context, show func(name string, s section)) {
	rows, _, err := x.host.snapshots(ctx, x.seen.Node, *x.in.Target.Guest)
	if err != nil {
		x.lost("the guest's snapshots", err)
		return
	}
	for _, row := range rows {
		x.takes(snapshotItem(row))
		s, err := x.section(ctx, "?snapshot="+url.QueryEscape(row.Name))
		if err != nil {
			x.lost("volumes of snapshot "+clip(row.Name), err)
			continue
		}
		show(row.Name, s)
	}
}

func snapshotItem(row snapshotRow) op.PlanItem {
	i := op.PlanItem{Kind: op.PlanSnapshot, Name: row.Name}
	if row.Time != nil {
		i.Time = int64(*row.Time)
	}
	if row.State != "" {
		i.Note = "incomplete (" + clip(row.State) + ")"
	}
	return i
}

// takeVolumes takes volumes away. Their sizes are those of the configuration,
// which whoever may see the guest may read; and where it says none, as of unused
// volumes, those of their storage.
func (x *planner) takeVolumes(ctx context.Context, owned map[string]string, sizes map[string]int64) {
	for _, volid := range slices.Sorted(maps.Keys(owned)) {
		x.disks = append(x.disks, volid)
		item := op.PlanItem{Kind: op.PlanVolume, Name: volid, Note: owned[volid]}
		if x.in.Class == op.RestoreOverwrite && x.seen.Type == op.QEMU {
			item.Note += "; stays, unattached, if the backup has no such drive"
		}
		if n, ok := sizes[volid]; ok {
			item.Size = &n
		} else {
			x.sizeOnStorage(ctx, &item)
		}
		x.takes(item)
	}
}

// sizeOnStorage asks a volume's storage for its size.
func (x *planner) sizeOnStorage(ctx context.Context, item *op.PlanItem) {
	v, _, err := x.host.readVolume(ctx, x.seen.Node, item.Name)
	switch {
	case err != nil:
		x.lost("size of "+item.Name, err)
	case v == nil:
		item.Note += "; its storage does not list it"
	default:
		item.Size = &v.Size
	}
}

// noteOthers keeps what the guest refers to and does not own.
func (x *planner) noteOthers(s section, owned map[string]string) {
	x.others = make(map[string]string)
	for _, volid := range s.others {
		if owned[volid] != "" {
			continue
		}
		_, name, _ := strings.Cut(volid, ":")
		note := strings.Join(s.where[volid], ", ") + " of the guest, and nobody's own"
		if owner := volumeOwner(name); owner != 0 {
			note = fmt.Sprintf("%s of the guest, and owned by guest %d", strings.Join(s.where[volid], ", "), owner)
		}
		x.others[volid] = note
	}
}

// rolledBack takes away what has become of a guest since a snapshot: of the
// volumes that are in the snapshot their content, and the configuration. The host
// does not ask whose a volume is, and leaves out CD drives alone (qemu-server
// QemuConfig.pm#__snapshot_rollback_vol_rollback).
func (x *planner) rolledBack(ctx context.Context) {
	s := x.seen.Snapshot
	if s == nil {
		return // which is an obstacle
	}
	since := "everything since snapshot " + s.Name
	x.takes(op.PlanItem{Kind: op.PlanConfig, Name: x.guestName(), Time: s.Time, Note: since})
	then, err := x.section(ctx, "?snapshot="+url.QueryEscape(s.Name))
	if err != nil {
		x.lost("volumes of snapshot "+s.Name, err)
		return
	}
	now, err := x.section(ctx, "")
	switch {
	case err != nil:
		x.lost("the guest's volumes", err)
		return
	case now.digest != x.seen.Digest:
		x.lost("the guest's volumes", errChanged)
	}
	x.others = make(map[string]string)
	foreign := slices.DeleteFunc(slices.Clone(then.others), func(volid string) bool {
		return then.discs[volid] || strings.HasPrefix(volid, "/dev/")
	})
	for _, volid := range slices.Concat(then.volumes, foreign) {
		if volid == then.memory {
			continue
		}
		x.disks = append(x.disks, volid)
		item := op.PlanItem{Kind: op.PlanContent, Name: volid, Time: s.Time, Note: since}
		if slices.Contains(foreign, volid) {
			item.Note += "; not the guest's own, but in its snapshot"
		}
		if n, ok := now.sizes[volid]; ok {
			item.Size = &n
		} else if n, ok := then.sizes[volid]; ok {
			item.Size = &n
		} else {
			x.sizeOnStorage(ctx, &item)
		}
		x.takes(item)
	}
	for _, volid := range now.volumes {
		if !slices.Contains(then.volumes, volid) {
			x.others[volid] = "not in the snapshot: it stays, unattached"
		}
	}
}

// snapshotItself takes one snapshot away, with the memory that is in it.
func (x *planner) snapshotItself(ctx context.Context) {
	s := x.seen.Snapshot
	if s == nil {
		return // which is an obstacle
	}
	x.takes(op.PlanItem{Kind: op.PlanSnapshot, Name: s.Name, Time: s.Time})
	then, err := x.section(ctx, "?snapshot="+url.QueryEscape(s.Name))
	if err != nil {
		x.lost("volumes of snapshot "+s.Name, err)
		return
	}
	if then.memory != "" && slices.Contains(then.volumes, then.memory) {
		x.takeVolumes(ctx, map[string]string{then.memory: "memory of the snapshot"}, then.sizes)
		x.disks = nil // nobody else can refer to it
	}
}

// otherSnapshots are those that the op leaves.
func (x *planner) otherSnapshots(ctx context.Context) {
	rows, _, err := x.host.snapshots(ctx, x.seen.Node, *x.in.Target.Guest)
	if err != nil {
		x.unread("the guest's snapshots", err)
		return
	}
	for _, row := range rows {
		if x.in.Class != op.SnapshotDelete || row.Name != x.in.Params.Snapshot {
			x.leaves(snapshotItem(row))
		}
	}
}
