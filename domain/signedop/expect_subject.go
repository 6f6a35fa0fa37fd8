package signedop

import (
	"writ/domain/op"
)

// checkSubject refuses expectations of what the op is not about, and misses
// those of what it is: the snapshot, archive, volume, pool or disk that a
// signature binds beside the guest, or instead of one.
func (e Expect) checkSubject(in op.Intent) error {
	for _, x := range []struct {
		field   string
		given   bool
		must    bool
		about   string
		checked func() error
	}{
		{
			"expect.snapshot", e.Snapshot != nil, in.Class == op.SnapshotRollback || in.Class == op.SnapshotDelete,
			"when the snapshot was made", func() error { return checkTime("expect.snapshot.time", e.Snapshot.Time) },
		},
		{
			"expect.archive", e.Archive != nil, in.Class == op.RestoreOverwrite,
			"the size of the archive, and its time where the storage has one", func() error { return e.Archive.check("expect.archive") },
		},
		{
			"expect.volume", e.Volume != nil, in.Class == op.VolumeDelete || in.Class == op.BackupDelete,
			"the size of the volume, and its time where the storage has one", func() error { return e.Volume.check("expect.volume") },
		},
		{
			"expect.pool", e.Pool != nil, in.Class == op.StorageWipe && in.Target.Pool != nil,
			"the size of the pool and its members", func() error { return e.Pool.check() },
		},
		{
			"expect.disk", e.Disk != nil, in.Class == op.StorageWipe && in.Target.Disk != "",
			"the size of the disk, and its serial number or WWN", func() error { return e.Disk.check() },
		},
	} {
		switch {
		case x.must && !x.given:
			return malformed(x.field, "missing: %s must expect %s", in.Class, x.about)
		case x.given && !x.must:
			return malformed(x.field, "%s on this target is not about one", in.Class)
		case !x.given:
			continue
		}
		if err := x.checked(); err != nil {
			return err
		}
	}
	return nil
}

func (v *VolumeExpect) check(field string) error {
	if err := checkSize(field+".size", v.Size); err != nil {
		return err
	}
	if v.CTime == nil {
		return nil
	}
	return checkTime(field+".ctime", *v.CTime)
}

func (v *VolumeExpect) clone() *VolumeExpect {
	v = op.CloneOf(v)
	if v != nil {
		v.CTime = op.CloneOf(v.CTime)
	}
	return v
}

func (p *PoolExpect) check() error {
	if err := checkSize("expect.pool.size", p.Size); err != nil {
		return err
	}
	if len(p.Members) == 0 {
		return malformed("expect.pool.members", "missing or empty: a pool lies on something")
	}
	if err := checkList("expect.pool.members", p.Members, checkHostText); err != nil {
		return err
	}
	return checkSorted("expect.pool.members", "device paths", p.Members)
}

func (d *DiskExpect) check() error {
	if err := checkSize("expect.disk.size", d.Size); err != nil {
		return err
	}
	if d.Serial == "" && d.WWN == "" {
		return malformed("expect.disk", "neither serial nor wwn: a device path is given to another disk at the next boot, so one of them is required")
	}
	for _, x := range []struct{ field, value string }{{"expect.disk.serial", d.Serial}, {"expect.disk.wwn", d.WWN}, {"expect.disk.model", d.Model}} {
		if x.value == "" {
			continue
		}
		if err := checkHostText(x.value); err != nil {
			return malformed(x.field, "%v", err)
		}
	}
	return nil
}

func checkSize(field string, n int64) error {
	if n < 0 || n > maxInteger {
		return malformed(field, "%d is not a size in bytes", n)
	}
	return nil
}

func checkTime(field string, n int64) error {
	if n < 1 || n > maxInteger {
		return malformed(field, "%d is not a time in UNIX seconds", n)
	}
	return nil
}
