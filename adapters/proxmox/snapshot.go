package proxmox

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"

	"writ/domain/engine"
	"writ/domain/op"
)

// snapshotConducts are those of the classes about one snapshot of a guest. The
// host checks next to nothing before it forks: nearly every refusal is the end
// of a task.
func snapshotConducts() []*conduct {
	base := func(class op.Class, qemu, lxc, privilege string, untouched []*regexp.Regexp) *conduct {
		return &conduct{
			class: class, observe: observeSnapshot, task: guestTask(qemu, lxc), rights: onGuest(privilege),
			untouched: untouched, recheck: sameConfig,
		}
	}
	rollback := base(op.SnapshotRollback, "qmrollback", "vzrollback", "VM.Snapshot.Rollback", rollbackTexts)
	rollback.compose = func(in op.Intent, seen op.Observed) op.Request {
		return op.Request{Method: http.MethodPost, Path: snapshotPath(seen.Node, *in.Target.Guest, in.Params.Snapshot) + "/rollback"}
	}
	rollback.form = func(s subject) form {
		return form{method: http.MethodPost, path: snapshotPath(s.node, s.guest, s.snapshot()) + "/rollback"}
	}
	rollback.probe = probeRollback

	remove := base(op.SnapshotDelete, "qmdelsnapshot", "vzdelsnapshot", "VM.Snapshot", snapshotDeleteTexts)
	remove.compose = func(in op.Intent, seen op.Observed) op.Request {
		return op.Request{Method: http.MethodDelete, Path: snapshotPath(seen.Node, *in.Target.Guest, in.Params.Snapshot)}
	}
	remove.form = func(s subject) form {
		return form{method: http.MethodDelete, path: snapshotPath(s.node, s.guest, s.snapshot())}
	}
	remove.probe = probeSnapshotDelete

	create := base(op.SnapshotCreate, "qmsnapshot", "vzsnapshot", "VM.Snapshot", snapshotCreateTexts)
	create.compose = func(in op.Intent, seen op.Observed) op.Request {
		query := url.Values{"snapname": {in.Params.Snapshot}}
		return op.Request{Method: http.MethodPost, Path: guestPath(seen.Node, *in.Target.Guest) + "/snapshot", Query: query.Encode()}
	}
	create.form = func(s subject) form {
		return form{method: http.MethodPost, path: guestPath(s.node, s.guest) + "/snapshot", must: params{"snapname": snapshotForm}}
	}
	create.refusals = func(t attempt) []*regexp.Regexp {
		return whole(regexp.QuoteMeta(missingConfig(t.node, t.guest)), `unable to use snapshot name '[^'\n]+' \(reserved name\)`)
	}
	create.probe = probeSnapshotCreate
	return []*conduct{rollback, remove, create}
}

var snapshotForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{1,39}$`)

// snapshot is the name of the snapshot that was observed.
func (s subject) snapshot() string {
	if s.seen.Snapshot == nil {
		return ""
	}
	return s.seen.Snapshot.Name
}

// snapshotPath is a snapshot below the API's root. The name comes checked.
func snapshotPath(node string, g op.Guest, name string) string {
	return guestPath(node, g) + "/snapshot/" + url.PathEscape(name)
}

// What the tasks say before they have changed anything (pve-guest-common
// AbstractConfig.pm#snapshot_rollback, #snapshot_delete, #snapshot_create): all
// that they check before they write their lock into the configuration. Not here is
// the timeout of the configuration's lock file, which each of them takes more than
// once, the last time when all volumes are done; nor that a template's snapshots
// can't be deleted, which is found out with the lock already written.
var (
	anySnapshotTexts = []string{
		`Configuration file 'nodes/[A-Za-z0-9-]+/(?:qemu-server|lxc)/[0-9]+\.conf' does not exist`,
		`(?:VM|CT) is locked \([a-z-]+\)`,
	}
	rollbackTexts = whole(append([]string{
		`snapshot '[^'\n]+' does not exist`,
		`you can't rollback if vm is a template`,
		`unable to rollback to incomplete snapshot \(snapstate = [a-z]+\)`,
		`can't rollback, '[^'\n]+' is not most recent snapshot on '[^'\n]+'`,
		`can't rollback, snapshot '[^'\n]+' does not exist on '[^'\n]+'`,
		`can't rollback, more recent snapshots exist[^\n]*`,
		`can't lock file '/var/lock/pve-manager/pve-migrate-[0-9]+' - got timeout`,
	}, anySnapshotTexts...)...)
	snapshotDeleteTexts = whole(append([]string{
		`snapshot '[^'\n]+' does not exist`,
		`Failed to obtain guest migration lock - replication running\?`,
		`snapshot '[^'\n]+' needed by replication job '[^'\n]+' - run replication first`,
	}, anySnapshotTexts...)...)
	snapshotCreateTexts = whole(append([]string{
		`snapshot name '[^'\n]+' already used`,
		`snapshot feature is not available`,
		`you can't take a snapshot if it's a template`,
	}, anySnapshotTexts...)...)
)

// A snapshotRow is a snapshot as the host lists it.
type snapshotRow struct {
	Name   string  `json:"name"`
	Time   *number `json:"snaptime"`
	Parent string  `json:"parent"`
	State  string  `json:"snapstate"`
	Digest string  `json:"digest"` // of the pseudo entry alone
}

// currentEntry is the pseudo entry that stands for the guest as it is.
const currentEntry = "current"

// snapshots lists a guest's snapshots, without the pseudo entry, and gives the
// name of the one that its present state comes from.
func (h *Host) snapshots(ctx context.Context, node string, g op.Guest) (rows []snapshotRow, parent string, err error) {
	path := guestPath(node, g) + "/snapshot"
	r, err := h.get(ctx, h.at(node), path)
	if err != nil {
		return nil, "", err
	}
	var all []snapshotRow
	if err := r.decode(&all); err != nil {
		return nil, "", fmt.Errorf("GET %s: %w", path, err)
	}
	var current bool
	for _, row := range all {
		switch {
		case row.Name == currentEntry:
			current, parent = true, row.Parent
		case row.Name == "":
			return nil, "", fmt.Errorf("GET %s: a row names no snapshot", path)
		default:
			rows = append(rows, row)
		}
	}
	if !current {
		return nil, "", fmt.Errorf("GET %s: the answer does not hold the guest's present state, so it may lack more", path)
	}
	return rows, parent, nil
}

// observeSnapshot looks at the guest and at the snapshot that the intent names.
func observeSnapshot(ctx context.Context, h *Host, a engine.Attempt) (op.Observed, error) {
	seen, err := h.ReadGuest(ctx, a.Intent.Target)
	if err != nil || !seen.Found {
		return seen, err
	}
	seen.Snapshot, err = h.readSnapshot(ctx, seen.Node, *a.Intent.Target.Guest, a.Intent.Params.Snapshot)
	if err != nil {
		return op.Observed{}, fmt.Errorf("read the snapshots of %s: %w", a.Intent.Target, err)
	}
	return seen, nil
}

// readSnapshot looks for a snapshot by its name; nil if there is none.
func (h *Host) readSnapshot(ctx context.Context, node string, g op.Guest, name string) (*op.SnapshotSeen, error) {
	rows, parent, err := h.snapshots(ctx, node, g)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		if row.Name != name {
			continue
		}
		s := &op.SnapshotSeen{Name: name, State: row.State, Current: parent == name}
		if row.Time != nil {
			s.Time = int64(*row.Time)
		}
		return s, nil
	}
	return nil, nil //nolint:nilnil // no such snapshot is an answer
}
