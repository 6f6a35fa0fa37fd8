package proxmox

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"writ/domain/engine"
	"writ/domain/op"
)

// restoreConduct is that of restore-overwrite: a backup takes the place of the
// guest that has the VMID. The guest that was there is lost early, whether or
// not the restore succeeds.
func restoreConduct() *conduct {
	return &conduct{
		class:   op.RestoreOverwrite,
		observe: observeRestore,
		compose: func(in op.Intent, seen op.Observed) op.Request {
			g := *in.Target.Guest
			query := url.Values{"vmid": {vmidText(g.VMID)}, "force": {"1"}, "storage": {in.Params.Storage}}
			if g.Type == op.LXC {
				query.Set("ostemplate", in.Params.Archive)
				query.Set("restore", "1")
			} else {
				query.Set("archive", in.Params.Archive)
			}
			setBool(query, "unique", in.Params.Unique)
			return op.Request{Method: http.MethodPost, Path: guestsPath(seen.Node, g.Type), Query: query.Encode()}
		},
		form: func(s subject) form {
			f := form{
				method: http.MethodPost, path: guestsPath(s.node, s.guest.Type), may: params{"unique": bit},
				must: params{"vmid": literally(vmidText(s.guest.VMID)), "force": literally("1"), "storage": storageForm},
			}
			archive := "archive"
			if s.guest.Type == op.LXC {
				archive, f.must["restore"] = "ostemplate", literally("1")
			}
			f.must[archive] = literally(s.archive())
			return f
		},
		task:     guestTask("qmrestore", "vzrestore"),
		rights:   restoreRights,
		further:  archivedRights,
		refusals: beforeRestoreFork,
		guard:    restoreGuard,
		recheck: func(ctx context.Context, h *Host, t attempt) error {
			if err := sameConfig(ctx, h, t); err != nil {
				return err
			}
			now, _, err := h.readVolume(ctx, t.node, t.seen.Archive.ID)
			if err == nil && (now == nil || !sameAs(now, t.seen.Archive)) {
				err = fmt.Errorf("the archive %s is not the one that was announced any more", t.seen.Archive.ID)
			}
			return err
		},
		probe: probeRestore,
	}
}

// restoreGuard: the worker of a virtual machine's restore reads the protection once
// more after "lock: create" is in the configuration, which refuses every write of
// it (qemu-server API2/Qemu.pm#create_vm). Of a container it is read before that,
// and not again (pve-container API2/LXC.pm#create_vm): the wait for the lock lies in
// between, and so do looks at storages that may be slow.
func restoreGuard(typ op.GuestType) guard {
	if typ == op.LXC {
		return guardedEarly
	}
	return guarded
}

// guestsPath is where guests of a type are made on a node.
func guestsPath(node string, typ op.GuestType) string {
	return "/nodes/" + url.PathEscape(node) + "/" + string(typ)
}

// archive is the id of the backup that was observed.
func (s subject) archive() string {
	if s.seen.Archive == nil {
		return ""
	}
	return s.seen.Archive.ID
}

// restoreRights: a guest's own backup may be read by whoever may allocate the
// guest; another's by whoever may back that one up; one whose name does not say
// whose it is by nobody without the right over the whole storage (pve-storage
// Storage.pm#check_volume_access).
func restoreRights(t attempt) []right {
	rights := []right{
		{"/vms/" + vmidText(t.guest.VMID), "VM.Allocate"},
		{"/storage/" + t.query().Get("storage"), "Datastore.AllocateSpace"},
	}
	if a := t.seen.Archive; a != nil && a.VMID != t.guest.VMID {
		storage, _, _ := strings.Cut(a.ID, ":")
		more := []right{{"/storage/" + storage, "Datastore.AllocateSpace"}, {"/vms/" + vmidText(a.VMID), "VM.Backup"}}
		if a.VMID == 0 {
			more = []right{{"/storage/" + storage, "Datastore.Allocate"}}
		}
		for _, r := range more {
			if !slices.Contains(rights, r) {
				rights = append(rights, r)
			}
		}
	}
	return rights
}

// observeRestore looks at the guest that is to be lost and at the backup that is
// to take its place.
func observeRestore(ctx context.Context, h *Host, a engine.Attempt) (op.Observed, error) {
	seen, err := observeEnd(ctx, h, a)
	if err != nil || !seen.Found {
		return seen, err
	}
	storage, _, _ := strings.Cut(a.Intent.Params.Archive, ":")
	seen.Archive, _, err = h.readVolume(ctx, seen.Node, a.Intent.Params.Archive)
	if err != nil && !isNoStorage(err, storage) {
		return op.Observed{}, fmt.Errorf("read the archive: %w", err)
	}
	if seen.Archive != nil && seen.Archive.Content != "backup" {
		return op.Observed{}, fmt.Errorf("read the archive: %s holds %s, not a backup", seen.Archive.ID, clip(seen.Archive.Content))
	}
	return seen, nil
}

// observeEnd is observeGuest for classes that end a guest: of a template, which
// others may stand on, it also finds those.
func observeEnd(ctx context.Context, h *Host, a engine.Attempt) (op.Observed, error) {
	seen, err := h.ReadGuest(ctx, a.Intent.Target)
	if err != nil || !seen.Template {
		return seen, err
	}
	for _, volid := range seen.Volumes {
		storage, _, _ := strings.Cut(volid, ":")
		rows, err := h.content(ctx, seen.Node, storage)
		if err != nil {
			return op.Observed{}, fmt.Errorf("look for clones of %s: %w", volid, err)
		}
		seen.Clones = append(seen.Clones, standingOn(volid, rows)...)
	}
	slices.Sort(seen.Clones)
	seen.Clones = slices.Compact(seen.Clones)
	return seen, nil
}

// beforeRestoreFork are the texts that come before the fork, and before the
// guest is locked for it (qemu-server API2/Qemu.pm#create_vm, pve-container
// API2/LXC.pm#create_vm).
func beforeRestoreFork(t attempt) []*regexp.Regexp {
	id := vmidText(t.guest.VMID)
	return whole(
		`cluster not ready - no quorum\?`,
		`storage '[^'\n]+' does not exist`,
		`storage '[^'\n]+' is disabled`,
		`storage '[^'\n]+' is not available on node '[^'\n]+'`,
		`volume '[^'\n]+' does not exist`,
		`unable to use volume [^\n]+ - content type needs to be 'backup'`,
		`unable to restore (?:VM|CT) `+id+` - (?:VM|CT) `+id+` already exists on node '[A-Za-z0-9-]+'`,
		`unable to restore (?:VM|CT) `+id+` - (?:VM|CT) is locked \([a-z-]+\)`,
		`unable to restore (?:VM|CT) `+id+` - protection mode enabled`,
		`unable to restore (?:VM|CT) `+id+` - can't lock file '[^'\n]+' - got timeout`,
		// A guest of the other kind, or on another node, has the VMID.
		`unable to restore (?:VM|CT) `+id+` - close \(rename\) atomic file '/etc/pve/nodes/[A-Za-z0-9-]+/(?:qemu-server|lxc)/`+id+`\.conf' failed: File exists`,
		`CT `+id+` already exists on node '[A-Za-z0-9-]+'`,
		`VM `+id+` already exists on node '[A-Za-z0-9-]+'`,
		`can't overwrite running container`,
	)
}
