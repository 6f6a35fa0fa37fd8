package proxmox

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"writ/domain/engine"
	"writ/domain/op"
)

// wipeConduct is that of storage-wipe: it takes a pool down, with all that is on
// it. A single disk can be wiped by root@pam with a ticket alone (pve-storage
// API2/Disks.pm: wipedisk has no permissions), which no token is.
func wipeConduct() *conduct {
	return &conduct{
		class:   op.StorageWipe,
		observe: observePool,
		compose: func(in op.Intent, seen op.Observed) op.Request {
			query := make(url.Values)
			if vg := in.Target.Pool.VolumeGroup; vg != "" {
				query.Set("volume-group", vg)
			}
			setBool(query, "cleanup-config", in.Params.CleanupConfig)
			setBool(query, "cleanup-disks", in.Params.CleanupDisks)
			return op.Request{Method: http.MethodDelete, Path: poolPath(seen.Node, *in.Target.Pool), Query: query.Encode()}
		},
		form: func(s subject) form {
			if s.target.Pool == nil {
				return form{}
			}
			f := form{
				method: http.MethodDelete, path: poolPath(s.node, *s.target.Pool),
				must: params{}, may: params{"cleanup-config": bit, "cleanup-disks": bit},
			}
			if vg := s.target.Pool.VolumeGroup; vg != "" {
				f.must["volume-group"] = literally(vg)
			}
			return f
		},
		task: func(t attempt) (typ, id string) {
			p := *t.target.Pool
			switch p.Kind {
			case op.ZFS:
				return "zfsremove", p.Name
			case op.LVM:
				return "lvmremove", p.Name
			case op.LVMThin:
				return "lvmthinremove", p.VolumeGroup + "-" + p.Name
			case op.Directory:
			}
			return "dirremove", p.Name
		},
		rights: func(t attempt) []right {
			rights := []right{{"/", "Sys.Modify"}}
			if t.query().Get("cleanup-config") == "1" {
				rights = append(rights, right{"/storage", "Datastore.Allocate"})
			}
			return rights
		},
		untouched: whole(
			`no such volume group '[^'\n]+'`,
			`no such thin pool [^\n]+`,
			`can't lock file '/run/lock/pve-diskmanage\.lck' - got timeout`,
		),
		recheck: samePool,
		probe:   probeWipe,
	}
}

// poolPath is a pool below the API's root. Names come checked.
func poolPath(node string, p op.Pool) string {
	return "/nodes/" + url.PathEscape(node) + "/disks/" + string(p.Kind) + "/" + url.PathEscape(p.Name)
}

// observePool looks at a pool, at the storages defined on it, and at what lies on
// those.
func observePool(ctx context.Context, h *Host, a engine.Attempt) (op.Observed, error) {
	t := a.Intent.Target
	if t.Pool == nil {
		return op.Observed{}, fmt.Errorf("%w for %s: only root@pam with a ticket can wipe a disk, and writ has none", engine.ErrNoExecutor, t)
	}
	state, err := h.clusterState(ctx, h.at(t.Node))
	if err != nil {
		return op.Observed{}, fmt.Errorf("read %s: %w", t, err)
	}
	seen := op.Observed{Node: t.Node, NodeOnline: state.online[t.Node], Quorate: state.quorate}
	if seen.Pool, err = h.readPool(ctx, t.Node, *t.Pool); err != nil {
		return op.Observed{}, fmt.Errorf("read %s: %w", t, err)
	}
	if seen.Pool == nil {
		return seen, nil
	}
	seen.Found = true
	if seen.Pool.Storages, err = h.storagesOn(ctx, t.Node, *t.Pool); err != nil {
		return op.Observed{}, fmt.Errorf("read the storages on %s: %w", t, err)
	}
	if seen.Pool.Users, err = h.poolUsers(ctx, t.Node, seen.Pool.Storages); err != nil {
		return op.Observed{}, fmt.Errorf("read what lies on %s: %w", t, err)
	}
	return seen, nil
}

// poolUsers are the disks of guests that lie on storages, whether or not a guest
// refers to them, and the guests that refer to anything there.
func (h *Host) poolUsers(ctx context.Context, node string, storages []string) ([]string, error) {
	if len(storages) == 0 {
		return nil, nil
	}
	users, err := h.references(ctx, func(volid string) bool {
		return slices.ContainsFunc(storages, func(s string) bool { return len(volid) > len(s) && volid[:len(s)+1] == s+":" })
	})
	if err != nil {
		return nil, err
	}
	for _, storage := range storages {
		rows, err := h.content(ctx, node, storage)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			if row.Content == "images" || row.Content == "rootdir" {
				users = append(users, row.VolID)
			}
		}
	}
	slices.Sort(users)
	return slices.Compact(users), nil
}

// samePool looks at the pool once more, after the token got its right.
func samePool(ctx context.Context, h *Host, t attempt) error {
	now, err := h.readPool(ctx, t.node, *t.target.Pool)
	switch {
	case err != nil:
		return err
	case now == nil:
		return fmt.Errorf("there is no %s any more", t.target)
	case now.Size != t.seen.Pool.Size || !slices.Equal(now.Members, t.seen.Pool.Members):
		return fmt.Errorf("%s is not as it was announced: %d bytes on %v, it was %d on %v", t.target, now.Size, now.Members, t.seen.Pool.Size, t.seen.Pool.Members)
	}
	return nil
}

// probeWipe tells whether a pool is gone. The host takes it down first; storages
// and disks are cleaned up after that, and what fails there is an error of a
// task that has destroyed everything.
func probeWipe(ctx context.Context, p *probe) (engine.Finding, error) {
	t := p.target.target
	now, err := p.host.readPool(ctx, p.target.node, *t.Pool)
	if err != nil {
		return engine.Finding{}, err
	}
	said := fmt.Sprintf("the task ended with %q", clip(p.ended))
	began := p.ended != ""
	same := now != nil && now.Size == p.before.Pool.Size && slices.Equal(now.Members, p.before.Pool.Members)
	switch {
	case now == nil && p.saysDone():
		return finding(op.EffectDone, nil, fmt.Sprintf("node %s has no %s any more", p.target.node, *t.Pool), said), nil
	case now == nil && began:
		return finding(op.EffectPartial, nil, fmt.Sprintf("node %s has no %s any more: what was on it is gone", p.target.node, *t.Pool),
			said, "what was to be cleaned up after it, storages in the configuration or the disks, may not have been: look at them"), nil
	case now == nil:
		return finding(op.EffectUnknown, nil, fmt.Sprintf("node %s has no %s any more, and it can't be told who took it down", p.target.node, *t.Pool)), nil
	case !same && p.saysDone():
		return finding(op.EffectDone, nil, said, "another pool of the name was made since"), nil
	case !same:
		return finding(op.EffectUnknown, nil, "the pool is not as it was announced: it has other members, or another size"), nil
	case p.saysDone():
		return finding(op.EffectUnknown, nil, "the pool is there, with the same members", "yet "+said), nil
	}
	still := "the pool is there, with the same size and members"
	doubt, proof, err := p.orphans(ctx)
	switch {
	case err != nil:
		return engine.Finding{}, err
	case doubt != "":
		f := finding(op.EffectUnknown, nil, still, doubt)
		f.MayStillAct = true
		return f, nil
	case began:
		// A volume group is taken down volume by volume, and an error in the
		// middle leaves it with some of them gone.
		return finding(op.EffectUnknown, nil, still, said+"; whether all that was on it is there, only a look at it can tell"), nil
	}
	reasons := []string{still, "no task of the attempt has begun"}
	if proof != "" {
		reasons = append(reasons, proof)
	}
	return finding(op.EffectNone, nil, reasons...), nil
}
