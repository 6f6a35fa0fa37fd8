package proxmox

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"writ/domain/engine"
	"writ/domain/op"
)

// wipeConduct is that of storage-wipe: it takes a pool down, with all that is on
// it.
func wipeConduct() *conduct {
	return &conduct{
		class:   op.StorageWipe,
		forDisk: diskConduct(),
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
	if t.Pool.Kind != op.LVM {
		return seen, nil
	}
	stray, err := h.strayVolumes(ctx, t.Node, t.Pool.Name, len(disksIn(seen.Pool.Users)))
	if err != nil {
		return op.Observed{}, fmt.Errorf("read what lies on %s: %w", t, err)
	}
	if stray > 0 {
		seen.Pool.Users = append(seen.Pool.Users, fmt.Sprintf("%d logical volumes of %s that are on no storage (lvs %s)", stray, t.Pool.Name, t.Pool.Name))
	}
	return seen, nil
}

// disksIn are the volumes of guests among what uses a pool.
func disksIn(users []string) []string {
	return slices.DeleteFunc(slices.Clone(users), func(user string) bool { return !strings.Contains(user, ":") })
}

// strayVolumes counts the logical volumes of a group that are neither a thin pool
// nor known to a storage: the node's own file systems and swap are such.
func (h *Host) strayVolumes(ctx context.Context, node, name string, known int) (int, error) {
	vg, err := h.volumeGroup(ctx, node, name)
	if err != nil || vg == nil {
		return 0, err
	}
	if vg.Volumes == nil {
		return 0, fmt.Errorf("the host does not say how many volumes volume group %s has", name)
	}
	rows, err := h.thinPools(ctx, node)
	if err != nil {
		return 0, err
	}
	for _, row := range rows {
		if row.VG == name {
			known++
		}
	}
	return max(0, int(*vg.Volumes)-known), nil
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
