package engine

import (
	"fmt"

	"writ/domain/op"
)

// obstacles are the states in which the host refuses an op, fails half-way, or
// does not refuse it though it should. Knowing them beforehand costs the caller
// nothing: effect none, and what to do.
func obstacles(in op.Intent, seen op.Observed) []string {
	switch in.Class {
	case op.GuestDestroy, op.RestoreOverwrite:
		return endOfGuest(in, seen)
	case op.SnapshotRollback, op.SnapshotDelete, op.SnapshotCreate:
		return snapshotObstacles(in, seen)
	case op.GuestStop, op.GuestShutdown, op.GuestReboot, op.GuestStart:
		return powerObstacles(in, seen)
	case op.BackupCreate:
		return locked(seen)
	case op.VolumeDelete, op.BackupDelete:
		return volumeObstacles(in, *seen.Volume)
	case op.StorageWipe:
		return wipeObstacles(in, seen)
	}
	return nil
}

func locked(seen op.Observed) []string {
	if seen.Lock == "" {
		return nil
	}
	return []string{fmt.Sprintf("lock: the guest is locked (%s); wait until what holds the lock has ended", seen.Lock)}
}

func highlyAvailable(seen op.Observed) []string {
	if !seen.HAManaged {
		return nil
	}
	return []string{"ha: the guest is managed by HA; take it out of HA first"}
}

// endOfGuest is for classes after which the guest that was there is no more.
func endOfGuest(in op.Intent, seen op.Observed) []string {
	var why []string
	if seen.Protection {
		why = append(why, "protection: the guest is protected; take the protection away first")
	}
	why = append(why, locked(seen)...)
	force := in.Params.Force != nil && *in.Params.Force
	if seen.Status != "stopped" && !force {
		why = append(why, fmt.Sprintf("status: the guest is %s; stop it first", seen.Status))
	}
	why = append(why, highlyAvailable(seen)...)
	if len(seen.Clones) > 0 {
		// A container is destroyed up to the volume that others stand on.
		why = append(why, fmt.Sprintf("clones: other guests have disks that stand on its own (%s); delete those guests, or move their disks, first", list(seen.Clones)))
	}
	purge := in.Params.Purge != nil && *in.Params.Purge
	if in.Class == op.GuestDestroy && !purge && len(seen.Replication) > 0 {
		why = append(why, fmt.Sprintf("replication: the guest is replicated (%s); remove that first, or sign with purge", list(seen.Replication)))
	}
	return why
}

func snapshotObstacles(in op.Intent, seen op.Observed) []string {
	why := locked(seen)
	if seen.Template {
		why = append(why, "template: the guest is a template; its snapshots can't be changed")
	}
	switch in.Class { //nolint:exhaustive // the others have none of their own
	case op.SnapshotCreate:
		if seen.Snapshot != nil {
			why = append(why, fmt.Sprintf("params.snapshot: the guest has a snapshot %s already; choose another name", seen.Snapshot.Name))
		}
	case op.SnapshotRollback:
		// It stops a running guest, which HA would start again in the middle.
		why = append(why, highlyAvailable(seen)...)
	}
	return why
}

// powerObstacles: of a guest under HA the host only notes the wish, and ends
// the task before anything has happened.
func powerObstacles(in op.Intent, seen op.Observed) []string {
	why := append(locked(seen), highlyAvailable(seen)...)
	want := "running"
	if in.Class == op.GuestStart {
		want = "stopped"
		if seen.Template {
			why = append(why, "template: the guest is a template; it can't be started")
		}
	}
	if seen.Status != want {
		why = append(why, fmt.Sprintf("status: the guest is %s, there is nothing to do", seen.Status))
	}
	return why
}

// volumeObstacles: the host asks nobody before it removes a volume. It deletes
// the disk of a running, protected guest without a word.
func volumeObstacles(in op.Intent, seen op.VolumeSeen) []string {
	var why []string
	if backup := seen.Content == "backup"; backup != (in.Class == op.BackupDelete) {
		why = append(why, fmt.Sprintf("target.volume: it holds %s, which class %s is not for", seen.Content, in.Class))
	}
	if len(seen.Users) > 0 {
		why = append(why, fmt.Sprintf("target.volume: it is in use by %s; take it away there first", list(seen.Users)))
	}
	if seen.Protected {
		why = append(why, "protection: the backup is protected; take the protection away first")
	}
	return why
}

func wipeObstacles(in op.Intent, seen op.Observed) []string {
	var why []string
	if p := seen.Pool; p != nil {
		if len(p.Users) > 0 {
			why = append(why, fmt.Sprintf("target.pool: it is in use by %s; take that away first", list(p.Users)))
		}
		if config := in.Params.CleanupConfig != nil && *in.Params.CleanupConfig; len(p.Storages) > 0 && !config {
			why = append(why, fmt.Sprintf("target.pool: storages are defined on it (%s); remove them first, or sign with cleanup_config", list(p.Storages)))
		}
	}
	if d := seen.Disk; d != nil && d.Used != "" {
		why = append(why, fmt.Sprintf("target.disk: it is in use (%s); take that away first", d.Used))
	}
	return why
}
