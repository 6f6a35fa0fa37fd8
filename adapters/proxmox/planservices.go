package proxmox

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"writ/domain/op"
)

// Where a guest is entered beside its own configuration. What a destroy removes
// of that is not told by the guest (pve-access-control
// AccessControl.pm#remove_vm_access, qemu-server API2/Qemu.pm#destroy_vm).

type (
	putItem func(op.PlanItem)
	putGap  func(what string, err error)
)

// access takes away what the host removes with every guest: its place in a
// resource pool, and the entries of the access control list on its own path.
func (x *planner) access(ctx context.Context) { x.memberships(ctx, x.takes, x.lost) }

func (x *planner) memberships(ctx context.Context, put putItem, failed putGap) {
	entries, err := x.acl(ctx)
	if err != nil {
		failed("entries of the access control list", err)
	}
	if pool, err := x.membership(ctx, entries); err != nil {
		failed("the guest's resource pool", err)
	} else if pool != "" {
		put(op.PlanItem{Kind: op.PlanMembership, Name: pool})
	}
	for _, e := range entries {
		_, token, _ := strings.Cut(e.Who, "!")
		if e.Path != "/vms/"+vmidText(x.vmid()) || e.Kind == "token" && attemptForm.MatchString(token) {
			continue
		}
		put(op.PlanItem{Kind: op.PlanACL, Name: fmt.Sprintf("%s %s: %s", e.Kind, e.Who, e.Role)})
	}
}

// membership gives the guest's pool. A token that may not see it would learn of
// none: so it must see all, those too on which something else is said than above.
func (x *planner) membership(ctx context.Context, entries []AccessEntry) (string, error) {
	held, err := x.host.permissions(ctx, false, "")
	if err != nil {
		return "", err
	}
	if passedOn, all := held["/pool"]["Pool.Audit"]; !all || !bool(passedOn) {
		return "", fmt.Errorf("token %s does not see all pools, give it Pool.Audit on /pool, with propagate", x.host.token)
	}
	for _, e := range entries {
		if _, sees := held[e.Path]["Pool.Audit"]; !sees && strings.HasPrefix(e.Path, "/pool/") {
			return "", fmt.Errorf("token %s does not see all pools, give it Pool.Audit on %s", x.host.token, e.Path)
		}
	}
	return x.host.poolOf(ctx, *x.in.Target.Guest)
}

// acl gives the whole access control list. Of the entries on a guest's path those
// of attempts' tokens are left out of plans: writ makes one for each attempt, and
// they say nothing of the guest. The host shows all entries only to who may look
// at the whole access control, and leaves the others out silently
// (pve-access-control API2/ACL.pm#read_acl).
func (x *planner) acl(ctx context.Context) ([]AccessEntry, error) {
	held, err := x.host.rights(ctx, "/access")
	switch {
	case err != nil:
		return nil, err
	case !held["Sys.Audit"]:
		return nil, fmt.Errorf("token %s does not see all of them, give it Sys.Audit on /access", x.host.token)
	}
	var a Access
	if err := x.host.readACL(ctx, &a); err != nil {
		return nil, err
	}
	return a.ACL, nil
}

// services are the guest's places in replication, backup jobs and HA, which a
// destroy takes away with purge alone.
func (x *planner) services(ctx context.Context, put putItem, failed putGap) {
	if err := x.replication(ctx, put); err != nil {
		failed("replication jobs", err)
	}
	if err := x.backupJobs(ctx, put); err != nil {
		failed("backup jobs", err)
	}
	if x.seen.HAManaged {
		sid := "vm:"
		if x.seen.Type == op.LXC {
			sid = "ct:"
		}
		put(op.PlanItem{Kind: op.PlanHA, Name: sid + vmidText(x.vmid())})
	}
}

// leavesService is leaves, for a destroy without purge: the host refuses one of a
// guest that is replicated.
func (x *planner) leavesService(i op.PlanItem) {
	switch i.Kind { //nolint:exhaustive // HA is an obstacle anyway
	case op.PlanReplication:
		i.Note = "the host refuses the destroy while there is one: sign with purge, or remove it first"
	case op.PlanBackupJob:
		i.Note = "goes on to name the guest that is gone"
	}
	x.leaves(i)
}

func (x *planner) replication(ctx context.Context, put putItem) error {
	jobs, err := x.host.replication(ctx, x.vmid())
	for _, job := range jobs {
		put(op.PlanItem{Kind: op.PlanReplication, Name: job})
	}
	return err
}

// backupJobs are the jobs that name the guest, be it as one that they leave out;
// those of all guests, or of a pool, name none (pve-guest-common
// VZDump/Plugin.pm#remove_vmid_from_job).
func (x *planner) backupJobs(ctx context.Context, put putItem) error {
	const path = "/cluster/backup"
	r, err := x.host.get(ctx, x.host.front, path)
	if err != nil {
		return err
	}
	var rows []struct {
		ID      string `json:"id"`
		VMIDs   string `json:"vmid"`
		Exclude string `json:"exclude"`
	}
	if err := r.decode(&rows); err != nil {
		return fmt.Errorf("GET %s: %w", path, err)
	}
	for _, row := range rows {
		named := splitNames(row.VMIDs)
		i := op.PlanItem{Kind: op.PlanBackupJob, Name: row.ID}
		switch {
		case slices.Contains(named, vmidText(x.vmid())):
			if x.purges() && len(slices.Compact(named)) == 1 {
				// That all of it goes is another loss than that of a place in it.
				i.Name, i.Note = row.ID+" as a whole", "the job itself, as it names no other guest"
			}
		case len(named) == 0 && slices.Contains(splitNames(row.Exclude), vmidText(x.vmid())):
			i.Name, i.Note = "left out of "+row.ID, "so that the job does not back up the next guest of this number either"
		default:
			continue
		}
		put(i)
	}
	return nil
}
