package audit

import (
	"strconv"

	"writ/domain/op"
	"writ/domain/signedop"
)

// unmetSubject compares what the signers expected of what the op is about
// beside a guest, or instead of one.
func unmetSubject(x signedop.Expect, t op.Target, seen op.Observed) []unmetExpectation {
	var all []unmetExpectation
	differ := func(field, expected, found string) {
		if expected != found {
			all = append(all, unmetExpectation{field + " " + expected, field + " " + found})
		}
	}
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	volume := func(field string, want *signedop.VolumeExpect, got *op.VolumeSeen) {
		if want == nil {
			return
		}
		if got == nil {
			differ(field, "there", "not there")
			return
		}
		differ(field+" size", number(want.Size), number(got.Size))
		var ctime int64
		if want.CTime != nil {
			ctime = *want.CTime
		}
		differ(field+" time", number(ctime), number(got.CTime))
	}
	if x.Snapshot != nil {
		found := "not there"
		if seen.Snapshot != nil {
			found = "of " + number(seen.Snapshot.Time)
		}
		differ("snapshot", "of "+number(x.Snapshot.Time), found)
	}
	volume("archive", x.Archive, seen.Archive)
	volume("volume", x.Volume, seen.Volume)
	if t.Volume != "" && seen.Volume != nil {
		differ("volume", t.Volume, seen.Volume.ID)
	}
	if x.Pool != nil {
		if seen.Pool == nil || t.Pool == nil || seen.Pool.Pool != *t.Pool {
			differ("pool", "there", "not there")
		} else {
			differ("pool size", number(x.Pool.Size), number(seen.Pool.Size))
			differ("pool members", inOrder(x.Pool.Members), inOrder(seen.Pool.Members))
		}
	}
	if x.Disk != nil {
		if seen.Disk == nil || seen.Disk.Path != t.Disk {
			differ("disk", "there", "not there")
		} else {
			differ("disk size", number(x.Disk.Size), number(seen.Disk.Size))
			if x.Disk.Serial != "" {
				differ("disk serial", x.Disk.Serial, seen.Disk.Serial)
			}
			if x.Disk.WWN != "" {
				differ("disk wwn", x.Disk.WWN, seen.Disk.WWN)
			}
			if x.Disk.Model != "" {
				differ("disk model", x.Disk.Model, seen.Disk.Model)
			}
		}
	}
	return all
}
