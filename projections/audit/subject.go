package audit

import (
	"fmt"
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
		}
	}
	return all
}

// unlike tells how an announced request is not for the target that was signed;
// empty if it is.
func unlike(s *op.Started, l *op.Launching) string {
	if l.Node != l.Observed.Node {
		return fmt.Sprintf("a request to node %s, the target was seen on %s", l.Node, l.Observed.Node)
	}
	method, path := requestOf(s.Intent, l.Node)
	if l.Request.Method != method || l.Request.Path != path {
		return fmt.Sprintf("%s %s, where %s %s was signed", l.Request.Method, l.Request.Path, method, path)
	}
	return ""
}

// requestOf is what an intent asks of a node (Proxmox VE's API). It is written
// anew, and not shared with the service.
func requestOf(in op.Intent, node string) (method, path string) {
	at := "/nodes/" + node
	if t := in.Target; t.Guest != nil {
		guest := fmt.Sprintf("%s/%s/%d", at, t.Guest.Type, t.Guest.VMID)
		switch in.Class {
		case op.GuestDestroy:
			return "DELETE", guest
		case op.GuestStop:
			return "POST", guest + "/status/stop"
		case op.GuestShutdown:
			return "POST", guest + "/status/shutdown"
		case op.GuestReboot:
			return "POST", guest + "/status/reboot"
		case op.GuestStart:
			return "POST", guest + "/status/start"
		case op.SnapshotRollback:
			return "POST", guest + "/snapshot/" + in.Params.Snapshot + "/rollback"
		case op.SnapshotDelete:
			return "DELETE", guest + "/snapshot/" + in.Params.Snapshot
		case op.SnapshotCreate:
			return "POST", guest + "/snapshot"
		case op.RestoreOverwrite:
			return "POST", fmt.Sprintf("%s/%s", at, t.Guest.Type)
		case op.BackupCreate:
			return "POST", at + "/vzdump"
		case op.VolumeDelete, op.BackupDelete, op.StorageWipe:
		}
		return "", ""
	}
	switch t := in.Target; {
	case t.Volume != "":
		return "DELETE", at + "/storage/" + t.Storage() + "/content/" + t.Volume
	case t.Pool != nil:
		return "DELETE", fmt.Sprintf("%s/disks/%s/%s", at, t.Pool.Kind, t.Pool.Name)
	case t.Disk != "":
		return "PUT", at + "/disks/wipedisk"
	}
	return "", ""
}
