package proxmox

import (
	"context"
	"fmt"
	"time"

	"writ/domain/engine"
	"writ/domain/op"
)

// lookAtSnapshot is how the probes of the snapshot classes begin: with a look at the
// guest, and, if there is one, at the snapshot of a name, nil if it has none.
func (p *probe) lookAtSnapshot(ctx context.Context, atGuest func(context.Context) (*stillness, error), name string) (*stillness, *op.SnapshotSeen, error) {
	s, err := atGuest(ctx)
	if err != nil || s.gone != "" {
		return s, nil, err
	}
	snap, err := p.host.readSnapshot(ctx, s.now.Node, p.guest, name)
	return s, snap, err
}

// end is the finding where the look itself decides: there is no such guest any more,
// or the host could not be asked.
func (s *stillness) end(err error) (engine.Finding, error) {
	if err != nil {
		return engine.Finding{}, err
	}
	return s.vanished(), nil
}

// probeRollback tells what a rollback did. It stops a running guest, writes
// "lock: rollback", rolls the volumes back one by one, and replaces the
// configuration by that of the snapshot's time, with the snapshot as its
// parent; a machine gets a new generation id with that. A container's
// configuration can be the same to the byte afterwards.
func probeRollback(ctx context.Context, p *probe) (engine.Finding, error) {
	name := p.target.subject().snapshot()
	s, snap, err := p.lookAtSnapshot(ctx, p.lookAtGuest, name)
	if err != nil || s.gone != "" {
		return s.end(err)
	}
	if is := snap != nil && p.before.Snapshot != nil && snap.Time == p.before.Snapshot.Time; !is {
		// The guest may have got back the marks that it had at the snapshot's time,
		// and yet be the same: if it still has that snapshot.
		if s.gone = s.stranger(); s.gone != "" {
			return s.vanished(), nil
		}
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
	case s.now.Lock == "rollback" && s.began():
		return s.unclear(op.EffectPartial, fmt.Sprintf("the guest is locked (rollback): some of its volumes may be of the time of %s and some not. "+
			"Unlock it on node %s (qm unlock or pct unlock %d), and sign another rollback", name, s.now.Node, p.guest.VMID), s.said), nil
	case s.now.Lock == "rollback":
		return s.unclear(op.EffectUnknown, "the guest is locked (rollback), and it can't be told by whom: look for the task that has begun it"), nil
	case current && renewed && s.began():
		return s.reached(ctx, fmt.Sprintf("the guest's present state comes from snapshot %s, and its generation id is a new one", name), nil)
	}
	return s.notRolledBack(), nil
}

// notRolledBack decides about a guest of which neither its state nor a task says
// that it was rolled back, or that it is being.
func (s *stillness) notRolledBack() engine.Finding {
	now, before := s.now, s.p.before
	restarted, stayed := sameRun(before, now, time.Since(s.p.announced.At))
	same := "the guest is as it was, to the byte (digest " + now.Digest + ")"
	switch {
	case before.Status == "running" && now.Status == "stopped" && s.began():
		return s.unclear(op.EffectPartial, "the guest was running and is stopped, as a rollback does first", s.said+"; start it, or sign another rollback")
	case now.Digest != before.Digest || now.Lock != "" || before.Status != now.Status:
		return s.unclear(op.EffectUnknown, fmt.Sprintf("the guest has changed since: digest %s, it was %s; lock %q; %s, it was %s",
			now.Digest, before.Digest, clip(now.Lock), now.Status, before.Status))
	case restarted && s.began():
		return s.unclear(op.EffectPartial, same+", but was stopped since, as a rollback does first, and started again", s.said)
	case before.Status == "running" && !stayed:
		return s.unclear(op.EffectUnknown, same+", but whether it was stopped since, as a rollback does first, can't be told, or not by whom")
	case s.p.guest.Type == op.QEMU && before.VMGenID != "":
		return s.unchanged(same + ", with the same generation id, which a rollback makes anew")
	case !s.began():
		return s.unchanged(same + ", and no task of the attempt is known")
	case !s.killed:
		// An error after the lock was written leaves it behind; before that
		// nothing but a running guest is touched.
		return s.unchanged(same + " and not locked, as a rollback that fails half-way leaves it; " + s.said)
	}
	return s.unclear(op.EffectUnknown, same+", which it can be after a rollback too: only the task's end tells, and that is not known", s.said)
}

// probeSnapshotDelete tells what the deletion of a snapshot did: it locks the
// guest, marks the snapshot, deletes from the volumes one by one, and takes mark,
// entry and lock away last.
func probeSnapshotDelete(ctx context.Context, p *probe) (engine.Finding, error) {
	name := p.target.subject().snapshot()
	s, snap, err := p.lookAtSnapshot(ctx, p.lookAtSame, name)
	if err != nil || s.gone != "" {
		return s.end(err)
	}
	is := snap != nil && p.before.Snapshot != nil && snap.Time == p.before.Snapshot.Time
	gone := fmt.Sprintf("the guest has no such snapshot %s any more", name)
	switch {
	case p.saysDone() && is:
		return s.unclear(op.EffectUnknown, fmt.Sprintf("snapshot %s is still there", name), "yet "+s.said), nil
	case p.saysDone():
		return finding(op.EffectDone, nil, s.said, gone), nil
	case s.began() && (is && snap.State != "" || s.now.Lock == "snapshot-delete"):
		return s.unclear(op.EffectPartial, fmt.Sprintf("the deletion of snapshot %s was begun and not ended: some volumes may have lost it, and it can't be rolled back to. "+
			"Unlock the guest on node %s (qm unlock or pct unlock %d) and delete it there with force", name, s.now.Node, p.guest.VMID), s.said), nil
	case is && snap.State != "" || s.now.Lock == "snapshot-delete":
		return s.unclear(op.EffectUnknown, fmt.Sprintf("a snapshot of the guest is being deleted, or was and the deletion has not ended (lock %q, snapshot %s), and it can't be told by whom",
			clip(s.now.Lock), name)), nil
	case !is && s.began():
		return s.reached(ctx, gone, nil)
	case !is:
		return s.unclear(op.EffectUnknown, gone+", and it can't be told who deleted it"), nil
	}
	return s.unchanged(fmt.Sprintf("snapshot %s of the same time is there, and whole", name)), nil
}

// probeSnapshotCreate tells what the making of a snapshot did: it locks the
// guest, writes an entry with a mark, makes the snapshots of the volumes, and
// takes mark and lock away last. What fails on the way is undone by the task.
func probeSnapshotCreate(ctx context.Context, p *probe) (engine.Finding, error) {
	name := p.target.query().Get("snapname")
	s, snap, err := p.lookAtSnapshot(ctx, p.lookAtSame, name)
	if err != nil || s.gone != "" {
		return s.end(err)
	}
	switch {
	case p.saysDone() && snap != nil && snap.State == "":
		return finding(op.EffectDone, nil, s.said, fmt.Sprintf("the guest has snapshot %s", name)), nil
	case p.saysDone():
		return finding(op.EffectDone, nil, s.said, fmt.Sprintf("since then snapshot %s was deleted, or is being", name)), nil
	case s.began() && (snap != nil && snap.State != "" || s.now.Lock == "snapshot"):
		return s.unclear(op.EffectPartial, fmt.Sprintf("snapshot %s was begun and not ended; unlock the guest on node %s (qm unlock or pct unlock %d) and delete it",
			name, s.now.Node, p.guest.VMID), s.said), nil
	case snap != nil && snap.State != "" || s.now.Lock == "snapshot":
		return s.unclear(op.EffectUnknown, fmt.Sprintf("a snapshot of the guest is being made, or was begun and not ended (lock %q), and it can't be told by whom", clip(s.now.Lock))), nil
	case snap != nil && s.began():
		return s.reached(ctx, fmt.Sprintf("the guest has snapshot %s", name), snap)
	case snap != nil:
		return s.unclear(op.EffectUnknown, fmt.Sprintf("the guest has snapshot %s, and it can't be told who made it", name)), nil
	}
	reason := fmt.Sprintf("the guest has no snapshot %s", name)
	if s.began() {
		reason += "; " + s.said + ": what it had made it takes away again, and its log says what it could not"
	}
	return s.unchanged(reason), nil
}
