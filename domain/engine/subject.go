package engine

import (
	"fmt"

	"writ/domain/op"
	"writ/domain/signedop"
)

// subjectMismatch compares what an op is about beside its guest, or instead of
// one: a snapshot, an archive, a volume, a pool, a disk. All of them have names
// that are given again.
func subjectMismatch(in op.Intent, x signedop.Expect, seen op.Observed) []string {
	var c comparison
	if x.Snapshot != nil {
		c.snapshot(in.Params.Snapshot, *x.Snapshot, seen.Snapshot)
	}
	if x.Archive != nil {
		c.volume("archive", in.Params.Archive, *x.Archive, seen.Archive)
	}
	if x.Volume != nil {
		c.volume("volume", in.Target.Volume, *x.Volume, seen.Volume)
	}
	if x.Pool != nil {
		c.pool(*x.Pool, *seen.Pool)
	}
	if x.Disk != nil {
		c.disk(*x.Disk, *seen.Disk)
	}
	return c.why
}

// A comparison collects what is not as it was signed.
type comparison struct{ why []string }

func (c *comparison) differs(field string, want, got any) {
	if want != got {
		c.why = append(c.why, fmt.Sprintf("expect.%s: signed for %v, the host has %v", field, want, got))
	}
}

func (c *comparison) snapshot(name string, x signedop.SnapshotExpect, seen *op.SnapshotSeen) {
	if seen == nil || seen.Name != name {
		c.why = append(c.why, fmt.Sprintf("params.snapshot: the guest has no snapshot %s", name))
		return
	}
	c.differs("snapshot.time", x.Time, seen.Time)
	if seen.State != "" {
		c.why = append(c.why, fmt.Sprintf("snapshot: %s is incomplete (%s): something was begun with it and not ended", name, seen.State))
	}
}

func (c *comparison) volume(what, id string, x signedop.VolumeExpect, seen *op.VolumeSeen) {
	if seen == nil || seen.ID != id {
		c.why = append(c.why, fmt.Sprintf("%s: the host has no %s", what, id))
		return
	}
	c.differs(what+".size", x.Size, seen.Size)
	// Required where the storage has one: an id is given again, and two volumes
	// of one size are common.
	var ctime int64
	if x.CTime != nil {
		ctime = *x.CTime
	}
	c.differs(what+".ctime", ctime, seen.CTime)
}

func (c *comparison) pool(x signedop.PoolExpect, seen op.PoolSeen) {
	c.differs("pool.size", x.Size, seen.Size)
	if !sameSet(x.Members, seen.Members) {
		c.differs("pool.members", list(x.Members), list(seen.Members))
	}
}

func (c *comparison) disk(x signedop.DiskExpect, seen op.DiskSeen) {
	c.differs("disk.size", x.Size, seen.Size)
	if x.Serial != "" {
		c.differs("disk.serial", x.Serial, seen.Serial)
	}
	if x.WWN != "" {
		c.differs("disk.wwn", x.WWN, seen.WWN)
	}
	if x.Model != "" {
		c.differs("disk.model", x.Model, seen.Model)
	}
}
