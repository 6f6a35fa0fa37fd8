package proxmox

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"writ/domain/engine"
	"writ/domain/op"
)

// zpoolFailed is the end of a task whose zpool destroy did nothing. Before it the
// host has disabled the pool's import at the node's start (pve-storage
// API2/Disks/ZFS.pm#delete).
var zpoolFailed = whole(`command 'zpool (?:destroy|list) [^\n]*failed: [^\n]+`)

// probeWipe tells whether a pool is gone. The host takes it down first; storages
// and disks are cleaned up after that, and what fails there is an error of a
// task that has destroyed everything.
func probeWipe(ctx context.Context, p *probe) (engine.Finding, error) {
	pool := *p.target.target.Pool
	now, err := p.host.readPool(ctx, p.target.node, pool)
	if err != nil {
		return engine.Finding{}, err
	}
	said := fmt.Sprintf("the task ended with %q", clip(p.ended))
	same := now != nil && now.Size == p.before.Pool.Size && slices.Equal(now.Members, p.before.Pool.Members)
	switch {
	case now == nil:
		return poolGone(ctx, p, said), nil
	case !same && p.saysDone():
		return finding(op.EffectDone, nil, said, fmt.Sprintf("another %s was made since", pool)), nil
	case !same:
		return finding(op.EffectUnknown, nil, fmt.Sprintf("%s is not as it was announced: %d bytes on %v, it was %d on %v", pool,
			now.Size, now.Members, p.before.Pool.Size, p.before.Pool.Members), said), nil
	case p.saysDone():
		return finding(op.EffectUnknown, nil, fmt.Sprintf("%s is there, with the same members", pool), "yet "+said), nil
	}
	return poolThere(ctx, p, said)
}

// poolGone decides about a pool that the node does not list any more.
func poolGone(ctx context.Context, p *probe, said string) engine.Finding {
	pool := *p.target.target.Pool
	gone := fmt.Sprintf("node %s has no %s any more", p.target.node, pool)
	config, disks := p.target.query().Get("cleanup-config") == "1", p.target.query().Get("cleanup-disks") == "1"
	switch {
	case p.saysDone():
		return finding(op.EffectDone, nil, gone, said)
	case p.ended == "":
		return finding(op.EffectUnknown, nil, gone+", and it can't be told who took it down")
	case pool.Kind == op.ZFS && matchAny(zpoolFailed, p.ended):
		return finding(op.EffectNone, nil, said+": the request itself took nothing down", gone+": somebody else has")
	case !config && !disks:
		return finding(op.EffectDone, nil, gone+", and no more than that was asked for", said)
	}
	reasons := []string{gone + ": what was on it is gone", said}
	if config {
		left, err := p.host.storagesOn(ctx, p.target.node, pool)
		switch {
		case err != nil:
			reasons = append(reasons, "whether storages are still defined on it could not be read: "+err.Error())
		case len(left) > 0:
			reasons = append(reasons, "storages are still defined on it, remove them: "+strings.Join(left, ", "))
		default:
			reasons = append(reasons, "no storage is defined on it any more")
		}
	}
	if disks {
		reasons = append(reasons, fmt.Sprintf("it is not known whether its disks were wiped (%s): look at them on node %s (wipefs -n), and wipe what is not blank",
			strings.Join(p.before.Pool.Members, ", "), p.target.node))
	}
	return finding(op.EffectPartial, nil, reasons...)
}

// poolThere decides about a pool that is listed as it was, and of whose task it is
// not known that it ended well.
func poolThere(ctx context.Context, p *probe, said string) (engine.Finding, error) {
	pool := *p.target.target.Pool
	still := fmt.Sprintf("%s is there, with the same size and members", pool)
	doubt, proof, err := p.orphans(ctx)
	switch {
	case err != nil:
		return engine.Finding{}, err
	case p.ended == "":
		return finding(op.EffectNone, nil, still, "no task of the attempt is known to have begun"), nil
	case pool.Kind == op.ZFS && matchAny(zpoolFailed, p.ended):
		return finding(op.EffectPartial, nil, still+": nothing that was on it is lost", said,
			fmt.Sprintf("its import at the start of node %s may be disabled: systemctl enable zfs-import@%s.service", p.target.node, pool.Name)), nil
	}
	reasons := []string{still, said}
	for _, more := range []string{doubt, proof} {
		if more != "" {
			reasons = append(reasons, more)
		}
	}
	f := finding(op.EffectUnknown, nil, append(reasons, p.lookAtPool(ctx))...)
	f.MayStillAct = doubt != ""
	return f, nil
}

// lookAtPool says what a person must look at where a pool's removal has begun and
// the pool is listed yet.
func (p *probe) lookAtPool(ctx context.Context) string {
	pool, node := *p.target.target.Pool, p.target.node
	switch pool.Kind {
	case op.ZFS:
		return fmt.Sprintf("a pool is destroyed whole or not at all, but its import at the node's start is disabled before: zpool status %s, systemctl enable zfs-import@%s.service on node %s",
			pool.Name, pool.Name, node)
	case op.Directory:
		return fmt.Sprintf("what is on its disk is there, but it may be unmounted, and not mounted at the start of node %s: look at %s%s and its mount unit", node, mountFolder, pool.Name)
	case op.LVM, op.LVMThin:
	}
	group := pool.VolumeGroup
	if pool.Kind == op.LVM {
		group = pool.Name
	}
	has := "how many it has now could not be read"
	if vg, err := p.host.volumeGroup(ctx, node, group); err == nil && vg != nil && vg.Volumes != nil {
		has = fmt.Sprintf("the group has %d now", *vg.Volumes)
	}
	return fmt.Sprintf("its volumes are removed one by one, and some may be gone: %s; lvs %s on node %s tells which", has, group, node)
}
