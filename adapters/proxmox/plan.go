package proxmox

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"writ/domain/engine"
	"writ/domain/op"
)

// Plan reads what an op of an intent would do to the cluster as things stand. It
// changes nothing, and promises nothing: between a plan and the op others may act,
// and only a plan's digest in a signed document keeps the op from running then. A
// guest may be named without a node. That there is no such target is no error but
// an obstacle.
//
// What the token may not see, and what does not answer, is in the plan as
// unknown, with the privilege that is missing as far as that can be told. An
// error means that not even the target could be looked at.
func (h *Host) Plan(ctx context.Context, in op.Intent) (op.Plan, error) {
	p := op.Plan{Class: in.Class, Target: in.Target.Clone()}
	if in.Target.Guest != nil && in.Target.Node == "" {
		found, ok, err := h.FindGuest(ctx, in.Target.Guest.VMID)
		if err != nil {
			return op.Plan{}, fmt.Errorf("plan: %w", err)
		}
		if !ok || found.Guest.Type != in.Target.Guest.Type {
			p.Obstacles = []string{fmt.Sprintf("target: no %s guest %d is listed, or token %s does not see it (VM.Audit on /vms/%d)",
				in.Target.Guest.Type, in.Target.Guest.VMID, h.token, in.Target.Guest.VMID)}
			p.Unknown = []op.PlanGap{nothingThere}
			return p, nil
		}
		in.Target.Node = found.Node
	}
	if err := in.Check(); err != nil {
		return op.Plan{}, fmt.Errorf("plan: %w", err)
	}
	c := conductOf(in.Class)
	if c == nil {
		return op.Plan{}, fmt.Errorf("plan: %w: class %s is not carried out here", engine.ErrNoExecutor, in.Class)
	}
	seen, err := (&executor{host: h, conduct: c}).Observe(ctx, engine.Attempt{Intent: in})
	if err != nil {
		return op.Plan{}, fmt.Errorf("plan: %w", err)
	}
	p.Target = in.Target.Clone()
	p.Obstacles = engine.Obstacles(in, seen)
	if in.Target.Disk != "" && h.root == nil {
		p.Obstacles = append(p.Obstacles, errNoRoot.Error())
	}
	if !seen.Found {
		p.Unknown = []op.PlanGap{nothingThere}
		return p, nil
	}
	p.Target.Node = seen.Node
	x := &planner{host: h, in: in, seen: seen, plan: &p}
	x.losses(ctx)
	x.stops()
	x.remains(ctx)
	if takesSnapshot(in.Class) && seen.Snapshot == nil {
		p.Unknown = append(p.Unknown, nothingThere)
	}
	p.Sort()
	return p, nil
}

// nothingThere keeps a plan of what is not there, or not seen, from having a
// digest: that nothing is listed as taken away does not say that nothing would be.
var nothingThere = op.PlanGap{What: "what would be taken away", Why: "there is nothing that the op could act on: see what keeps it from running", TakenAway: true}

func takesSnapshot(c op.Class) bool { return c == op.SnapshotRollback || c == op.SnapshotDelete }

// planDigest is the digest of what the op would take away from a target as it was
// just observed. What else a plan tells is not read for it.
func (h *Host) planDigest(ctx context.Context, in op.Intent, seen op.Observed) (string, error) {
	p := op.Plan{Class: in.Class, Target: in.Target.Clone()}
	x := &planner{host: h, in: in, seen: seen, plan: &p}
	x.losses(ctx)
	d, err := p.Digest()
	if err != nil {
		return "", fmt.Errorf("read what %s of %s would take away: %w", in.Class, in.Target, err)
	}
	return d.String(), nil
}

// A planner fills in a plan. Reads that fail leave a gap in it.
type planner struct {
	host *Host
	in   op.Intent
	seen op.Observed
	plan *op.Plan

	rows []storageRow // all storages, once they were read
	// disks are the volumes of the guest that are taken away, or whose content is.
	disks []string
	// others are volumes that the guest's configuration refers to and that are not
	// its own, with where it does.
	others map[string]string
}

func (x *planner) takes(i op.PlanItem)  { x.plan.TakesAway = append(x.plan.TakesAway, i) }
func (x *planner) leaves(i op.PlanItem) { x.plan.Remains = append(x.plan.Remains, i) }

// unread notes what could not be read; lost does so of what is taken away.
func (x *planner) unread(what string, err error) { x.gap(what, err.Error(), false) }
func (x *planner) lost(what string, err error)   { x.gap(what, err.Error(), true) }

func (x *planner) vmid() int         { return x.in.Target.Guest.VMID }
func (x *planner) guestName() string { return string(x.seen.Type) + "/" + vmidText(x.vmid()) }
func (x *planner) purges() bool      { return isSet(x.in.Params.Purge) }

// guestPath is the guest below the API's root, where it is now.
func (x *planner) guestPath() string { return guestPath(x.seen.Node, *x.in.Target.Guest) }

func isSet(b *bool) bool { return b != nil && *b }

func (x *planner) gap(what, why string, takenAway bool) {
	g := op.PlanGap{What: what, Why: clipTo(why, maxGap), TakenAway: takenAway}
	if !slices.Contains(x.plan.Unknown, g) {
		x.plan.Unknown = append(x.plan.Unknown, g)
	}
}

// maxGap bounds what is told of one thing that could not be read.
const maxGap = 500

// losses reads what is taken away: all that the digest is about, and no more.
func (x *planner) losses(ctx context.Context) {
	switch x.in.Class {
	case op.GuestDestroy:
		x.guestItself(ctx)
		x.access(ctx)
		if x.purges() {
			x.services(ctx, x.takes, x.lost)
		}
	case op.RestoreOverwrite:
		x.guestItself(ctx)
	case op.SnapshotRollback:
		x.rolledBack(ctx)
	case op.SnapshotDelete:
		x.snapshotItself(ctx)
	case op.VolumeDelete, op.BackupDelete:
		x.volumeItself()
	case op.StorageWipe:
		x.poolItself(ctx)
	case op.GuestStop, op.GuestShutdown, op.GuestReboot, op.GuestStart, op.SnapshotCreate, op.BackupCreate:
		// What is not on a disk yet is no thing that could be listed.
	}
}

// stops tells whether a guest that runs would not run on.
func (x *planner) stops() {
	if x.seen.Status != "running" {
		return
	}
	var note string
	switch x.in.Class {
	case op.GuestStop:
		note = "as by pulling the plug"
	case op.GuestShutdown:
		note = "is asked to shut down"
	case op.GuestReboot:
		note = "is asked to shut down, and started again"
	case op.SnapshotRollback:
		note = "as by pulling the plug; it is not started again"
	case op.GuestDestroy:
		if !isSet(x.in.Params.Force) {
			return
		}
		note = "as by pulling the plug (force)"
	case op.RestoreOverwrite, op.SnapshotDelete, op.VolumeDelete, op.BackupDelete, op.StorageWipe,
		op.GuestStart, op.SnapshotCreate, op.BackupCreate:
		return
	}
	x.plan.Stops = append(x.plan.Stops, op.PlanItem{Kind: op.PlanGuest, Name: x.guestName(), Note: note})
}

// remains reads what the op leaves. Nothing of it is in the digest.
func (x *planner) remains(ctx context.Context) {
	switch x.in.Class {
	case op.GuestDestroy:
		if !x.purges() {
			x.services(ctx, x.leavesService, x.unread)
		}
	case op.RestoreOverwrite:
		x.services(ctx, x.leaves, x.unread)
		x.memberships(ctx, x.leaves, x.unread)
	case op.VolumeDelete, op.BackupDelete:
		if v := x.seen.Volume; v.VMID != 0 {
			x.backups(ctx, v.VMID, v.ID)
		}
		return
	case op.StorageWipe:
		return
	case op.SnapshotRollback, op.SnapshotDelete, op.GuestStop, op.GuestShutdown, op.GuestReboot,
		op.GuestStart, op.SnapshotCreate, op.BackupCreate:
	}
	if x.in.Class != op.GuestDestroy && x.in.Class != op.RestoreOverwrite {
		x.otherSnapshots(ctx)
	}
	for volid, where := range x.others {
		x.leaves(op.PlanItem{Kind: op.PlanVolume, Name: volid, Note: where})
	}
	for _, volid := range x.seen.Clones {
		x.leaves(op.PlanItem{Kind: op.PlanClone, Name: volid, Note: "stands on a volume of the guest"})
	}
	x.sharers(ctx)
	x.backups(ctx, x.vmid(), "")
}

// sharers finds other guests that refer to the guest's volumes.
func (x *planner) sharers(ctx context.Context) {
	if len(x.disks) == 0 {
		return
	}
	others := func(volids ...string) []string {
		users, err := x.host.references(ctx, func(volid string) bool { return slices.Contains(volids, volid) })
		if err != nil {
			x.unread("other guests that refer to its disks", err)
		}
		return slices.DeleteFunc(users, func(u string) bool { return strings.HasPrefix(u, x.guestName()+" ") })
	}
	if len(others(x.disks...)) == 0 {
		return // as nearly always: one look at all guests has told
	}
	for i := range x.plan.TakesAway {
		if item := &x.plan.TakesAway[i]; item.Kind == op.PlanVolume || item.Kind == op.PlanContent {
			item.Users = others(item.Name)
		}
	}
}
