package audit

import (
	"fmt"
	"net/url"
	"strconv"

	"writ/domain/op"
)

// rootUser is the one user who may wipe a disk (Proxmox VE's API: wipedisk).
const rootUser = "root@pam"

// unlike tells how an announced request is not the one for what was ordered, in
// the one form that its class has; empty if it is. So a benign op that was sent
// in a form that takes something away is found, too.
func unlike(s *op.Started, l *op.Launching) string {
	if l.Node != l.Observed.Node {
		return fmt.Sprintf("a request to node %s, the target was seen on %s", l.Node, l.Observed.Node)
	}
	// No token may wipe a disk, and root's login is for nothing else.
	if (s.Intent.Target.Disk != "") != (l.Credential == rootUser) {
		return fmt.Sprintf("a request sent as %s", l.Credential)
	}
	method, path := requestOf(s.Intent, l.Node)
	form := formOf(s.Intent).Encode()
	if l.Request.Method == method && l.Request.Path == path && sameForm(l.Request.Query, form) {
		return ""
	}
	want := op.Request{Method: method, Path: path, Query: form}
	return fmt.Sprintf("%s %s, where %s %s was ordered", l.Request.Method, requestWords(l.Request), method, requestWords(want))
}

// sameForm compares parameters without regard to their order.
func sameForm(sent, form string) bool {
	if sent == form {
		return true
	}
	values, err := url.ParseQuery(sent)
	return err == nil && values.Encode() == form
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

// formOf are the parameters that go with it: those that were ordered, and those
// that every request of the class has. It has no other.
func formOf(in op.Intent) url.Values {
	p, form := in.Params, make(url.Values)
	for name, value := range map[string]*bool{
		"purge": p.Purge, "force": p.Force, "unique": p.Unique, "cleanup-disks": p.CleanupDisks, "cleanup-config": p.CleanupConfig,
	} {
		if value != nil {
			form.Set(name, map[bool]string{false: "0", true: "1"}[*value])
		}
	}
	if p.Timeout != nil {
		form.Set("timeout", strconv.Itoa(*p.Timeout))
	}
	t := in.Target
	switch in.Class {
	case op.RestoreOverwrite:
		archive := "archive"
		if t.Guest != nil && t.Guest.Type == op.LXC {
			archive = "ostemplate"
			form.Set("restore", "1")
		}
		form.Set(archive, p.Archive)
		form.Set("force", "1")
		form.Set("storage", p.Storage)
		setVMID(form, t)
	case op.SnapshotCreate:
		form.Set("snapname", p.Snapshot)
	case op.BackupCreate:
		form.Set("mode", "snapshot")
		form.Set("remove", "0")
		form.Set("storage", p.Storage)
		setVMID(form, t)
	case op.StorageWipe:
		switch {
		case t.Disk != "":
			form.Set("disk", t.Disk)
		case t.Pool != nil && t.Pool.VolumeGroup != "":
			form.Set("volume-group", t.Pool.VolumeGroup)
		}
	case op.GuestDestroy, op.SnapshotRollback, op.SnapshotDelete, op.VolumeDelete, op.BackupDelete,
		op.GuestStop, op.GuestShutdown, op.GuestReboot, op.GuestStart:
	}
	return form
}

func setVMID(form url.Values, t op.Target) {
	if t.Guest != nil {
		form.Set("vmid", strconv.Itoa(t.Guest.VMID))
	}
}
