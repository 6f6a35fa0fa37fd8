package proxmox

import (
	"context"
	"fmt"

	"writ/domain/engine"
	"writ/domain/op"
)

// A stillness is what a probe found of a guest that its op was to leave alive.
type stillness struct {
	p    *probe
	now  op.Observed
	gone string // why there is no such guest any more; empty if there is
	said string // the task's end, for people
	// again is why a worker that was killed may have left something at work.
	again string
}

// lookAtGuest looks at a guest that the op was to leave alive. Identity is not
// compared: a rollback brings back that of the snapshot's time.
func (p *probe) lookAtGuest(ctx context.Context) (*stillness, error) {
	s := &stillness{p: p, said: fmt.Sprintf("the task ended with %q", clip(p.ended))}
	at, err := p.host.locate(ctx, p.before.Node, p.guest)
	switch {
	case err != nil && isHidden(err):
		s.gone = err.Error()
		return s, nil
	case err != nil:
		return nil, err
	case !at.found:
		s.gone = fmt.Sprintf("there is no %s guest with VMID %d any more", p.guest.Type, p.guest.VMID)
		return s, nil
	}
	s.now = at.config.seen
	if err := p.host.readStatus(ctx, p.guest, &s.now); err != nil {
		return nil, err
	}
	s.again, _, err = p.orphans(ctx)
	return s, err
}

func (s *stillness) began() bool { return s.p.ended != "" }

// unclear is a finding that decides nothing, or not all.
func (s *stillness) unclear(effect op.Effect, reasons ...string) engine.Finding {
	if s.again != "" {
		reasons = append(reasons, s.again)
	}
	f := finding(effect, nil, reasons...)
	f.MayStillAct = s.again != ""
	return f
}

// vanished decides about a guest that is no more.
func (s *stillness) vanished() engine.Finding {
	if s.p.saysDone() {
		return finding(op.EffectDone, nil, s.said, "and since: "+s.gone)
	}
	return s.unclear(op.EffectUnknown, s.gone)
}

// unchanged decides about a guest that shows no trace of the op.
func (s *stillness) unchanged(reason string) engine.Finding {
	if s.again != "" {
		return s.unclear(op.EffectUnknown, reason)
	}
	return finding(op.EffectNone, nil, reason)
}

// probeRollback tells what a rollback did. It stops a running guest, writes
// "lock: rollback", rolls the volumes back one by one, and replaces the
// configuration by that of the snapshot's time, with the snapshot as its
// parent; a machine gets a new generation id with that. A container's
// configuration can be the same to the byte afterwards.
func probeRollback(ctx context.Context, p *probe) (engine.Finding, error) {
	s, err := p.lookAtGuest(ctx)
	if err != nil {
		return engine.Finding{}, err
	}
	if s.gone != "" {
		return s.vanished(), nil
	}
	name := p.target.subject().snapshot()
	snap, err := p.host.readSnapshot(ctx, s.now.Node, p.guest, name)
	if err != nil {
		return engine.Finding{}, err
	}
	current := snap != nil && snap.Current && p.before.Snapshot != nil && snap.Time == p.before.Snapshot.Time
	renewed := p.before.VMGenID != "" && s.now.VMGenID != "" && s.now.VMGenID != p.before.VMGenID
	switch {
	case p.saysDone() && current:
		return finding(op.EffectDone, nil, s.said, fmt.Sprintf("the guest's present state comes from snapshot %s", name)), nil
	case p.saysDone():
		// Others may have gone on from there since; that the task succeeded is
		// the one proof that a container has.
		return finding(op.EffectDone, nil, s.said, fmt.Sprintf("by now the guest's present state no longer comes from snapshot %s", name)), nil
	case s.now.Lock == "rollback":
		return s.unclear(op.EffectPartial, fmt.Sprintf("the guest is locked (rollback): some of its volumes may be of the time of %s and some not. "+
			"Unlock it on node %s (qm unlock or pct unlock %d), and sign another rollback", name, s.now.Node, p.guest.VMID)), nil
	case current && renewed && s.began():
		return finding(op.EffectDone, nil, fmt.Sprintf("the guest's present state comes from snapshot %s, and its generation id is a new one", name), s.said), nil
	case p.before.Status == "running" && s.now.Status == "stopped" && s.began():
		return s.unclear(op.EffectPartial, "the guest was running and is stopped, as a rollback does first", s.said+"; start it, or sign another rollback"), nil
	case s.now.Digest != p.before.Digest || s.now.Lock != "" || p.before.Status != s.now.Status:
		return s.unclear(op.EffectUnknown, fmt.Sprintf("the guest has changed since: digest %s, it was %s; lock %q; %s, it was %s",
			s.now.Digest, p.before.Digest, clip(s.now.Lock), s.now.Status, p.before.Status)), nil
	case p.guest.Type == op.QEMU && p.before.VMGenID != "":
		return s.unchanged("the guest is as it was, to the byte (digest " + s.now.Digest + "), with the same generation id, which a rollback makes anew"), nil
	case !s.began():
		return s.unchanged("the guest is as it was, to the byte (digest " + s.now.Digest + "), and no task of the attempt has begun"), nil
	}
	return s.unclear(op.EffectUnknown, "the guest's configuration is as it was, which it can be after a rollback too: only the task's end tells, and that is not known to be one", s.said), nil
}

// probeSnapshotDelete tells what the deletion of a snapshot did: it locks the
// guest, marks the snapshot, deletes from the volumes one by one, and takes mark,
// entry and lock away last.
func probeSnapshotDelete(ctx context.Context, p *probe) (engine.Finding, error) {
	s, err := p.lookAtGuest(ctx)
	if err != nil {
		return engine.Finding{}, err
	}
	if s.gone != "" {
		return s.vanished(), nil
	}
	name := p.target.subject().snapshot()
	snap, err := p.host.readSnapshot(ctx, s.now.Node, p.guest, name)
	if err != nil {
		return engine.Finding{}, err
	}
	is := snap != nil && p.before.Snapshot != nil && snap.Time == p.before.Snapshot.Time
	switch {
	case p.saysDone() && is:
		return s.unclear(op.EffectUnknown, fmt.Sprintf("snapshot %s is still there", name), "yet "+s.said), nil
	case p.saysDone():
		return finding(op.EffectDone, nil, s.said, fmt.Sprintf("the guest has no such snapshot %s any more", name)), nil
	case is && snap.State != "" || s.now.Lock == "snapshot-delete":
		return s.unclear(op.EffectPartial, fmt.Sprintf("the deletion of snapshot %s was begun and not ended: some volumes may have lost it, and it can't be rolled back to. "+
			"Unlock the guest on node %s (qm unlock or pct unlock %d) and delete it there with force", name, s.now.Node, p.guest.VMID)), nil
	case !is && s.began():
		return finding(op.EffectDone, nil, fmt.Sprintf("the guest has no such snapshot %s any more", name), s.said), nil
	case !is:
		return s.unclear(op.EffectUnknown, fmt.Sprintf("the guest has no such snapshot %s any more, and it can't be told who deleted it", name)), nil
	}
	return s.unchanged(fmt.Sprintf("snapshot %s of the same time is there, and whole", name)), nil
}

// probeSnapshotCreate tells what the making of a snapshot did: it locks the
// guest, writes an entry with a mark, makes the snapshots of the volumes, and
// takes mark and lock away last. What fails on the way is undone by the task.
func probeSnapshotCreate(ctx context.Context, p *probe) (engine.Finding, error) {
	s, err := p.lookAtGuest(ctx)
	if err != nil {
		return engine.Finding{}, err
	}
	if s.gone != "" {
		return s.vanished(), nil
	}
	name := p.target.query().Get("snapname")
	snap, err := p.host.readSnapshot(ctx, s.now.Node, p.guest, name)
	if err != nil {
		return engine.Finding{}, err
	}
	switch {
	case p.saysDone() && snap != nil && snap.State == "":
		return finding(op.EffectDone, nil, s.said, fmt.Sprintf("the guest has snapshot %s", name)), nil
	case p.saysDone():
		return finding(op.EffectDone, nil, s.said, fmt.Sprintf("since then snapshot %s was deleted, or is being", name)), nil
	case snap != nil && snap.State != "" || s.now.Lock == "snapshot":
		return s.unclear(op.EffectPartial, fmt.Sprintf("snapshot %s was begun and not ended; unlock the guest on node %s (qm unlock or pct unlock %d) and delete it",
			name, s.now.Node, p.guest.VMID)), nil
	case snap != nil && s.began():
		return finding(op.EffectDone, nil, fmt.Sprintf("the guest has snapshot %s", name), s.said), nil
	case snap != nil:
		return s.unclear(op.EffectUnknown, fmt.Sprintf("the guest has snapshot %s, and it can't be told who made it", name)), nil
	}
	return s.unchanged(fmt.Sprintf("the guest has no snapshot %s", name)), nil
}
