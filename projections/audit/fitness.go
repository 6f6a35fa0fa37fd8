package audit

import (
	"strings"

	"writ/domain/op"
)

// unfit tells in what state of the target an op of its class is not launched:
// the host would refuse it or fail half-way, or would not ask at all. Like the
// expectations it is written anew, from what the documents say of each class,
// and not shared with the service.
func unfit(in op.Intent, seen op.Observed) []unmetExpectation {
	var f fitness
	switch in.Class {
	case op.GuestDestroy, op.RestoreOverwrite:
		f.need(!seen.Protection, "no protection", "the guest is protected")
		f.unlocked(seen)
		f.need(seen.Status == "stopped" || isSet(in.Params.Force), "a stopped guest", "it is "+seen.Status)
		f.unmanaged(seen)
		f.need(len(seen.Clones) == 0, "no linked clones", strings.Join(seen.Clones, ", "))
		if in.Class == op.GuestDestroy && !isSet(in.Params.Purge) {
			f.need(len(seen.Replication) == 0, "no replication job, or purge", strings.Join(seen.Replication, ", "))
		}
		if a := seen.Archive; a != nil {
			f.need(a.ID == in.Params.Archive, "archive "+in.Params.Archive, "archive "+a.ID)
		}
	case op.SnapshotRollback, op.SnapshotDelete, op.SnapshotCreate:
		f.unlocked(seen)
		f.noTemplate(seen)
		if in.Class == op.SnapshotRollback {
			f.unmanaged(seen)
		}
		f.snapshot(in, seen.Snapshot)
	case op.GuestStop, op.GuestShutdown, op.GuestReboot:
		f.unlocked(seen)
		f.unmanaged(seen)
		f.need(seen.Status == "running", "a running guest", "it is "+seen.Status)
	case op.GuestStart:
		f.unlocked(seen)
		f.unmanaged(seen)
		f.noTemplate(seen)
		f.need(seen.Status == "stopped", "a stopped guest", "it is "+seen.Status)
	case op.BackupCreate:
		f.unlocked(seen)
	case op.VolumeDelete, op.BackupDelete:
		f.volume(in.Class, seen.Volume)
	case op.StorageWipe:
		f.storage(in, seen)
	}
	return f.all
}

// fitness collects what an op's target must be beside what was expected.
type fitness struct{ all []unmetExpectation }

func (f *fitness) need(holds bool, expected, found string) {
	if !holds {
		f.all = append(f.all, unmetExpectation{expected, found})
	}
}

func (f *fitness) unlocked(seen op.Observed) {
	f.need(seen.Lock == "", "a guest without a lock", "lock "+seen.Lock)
}

func (f *fitness) unmanaged(seen op.Observed) {
	f.need(!seen.HAManaged, "a guest that HA does not manage", "HA manages it")
}

func (f *fitness) noTemplate(seen op.Observed) {
	f.need(!seen.Template, "a guest that is no template", "it is a template")
}

// snapshot: a new one has a name of its own, and any other is complete.
func (f *fitness) snapshot(in op.Intent, seen *op.SnapshotSeen) {
	if in.Class == op.SnapshotCreate {
		f.need(seen == nil, "no snapshot "+in.Params.Snapshot, "there is one")
		return
	}
	if seen != nil {
		f.need(seen.Name == in.Params.Snapshot, "snapshot "+in.Params.Snapshot, "snapshot "+seen.Name)
		f.need(seen.State == "", "a complete snapshot", "it is in state "+seen.State)
	}
}

// volume: the host removes it whoever uses it.
func (f *fitness) volume(c op.Class, seen *op.VolumeSeen) {
	if seen == nil {
		return // that it was not there is said elsewhere
	}
	f.need((seen.Content == "backup") == (c == op.BackupDelete), "a volume that class "+string(c)+" is for", "it holds "+seen.Content)
	f.need(len(seen.Users) == 0, "a volume that nobody uses", "used by "+strings.Join(seen.Users, ", "))
	f.need(!seen.Protected, "no protection", "the backup is protected")
}

func (f *fitness) storage(in op.Intent, seen op.Observed) {
	if p := seen.Pool; p != nil {
		f.need(len(p.Users) == 0, "a pool that nobody uses", "used by "+strings.Join(p.Users, ", "))
		f.need(len(p.Storages) == 0 || isSet(in.Params.CleanupConfig), "no storage defined on the pool", strings.Join(p.Storages, ", "))
	}
	if d := seen.Disk; d != nil {
		f.need(d.Used == "", "a disk that nothing uses", "used for "+d.Used)
	}
}

func isSet(b *bool) bool { return b != nil && *b }
