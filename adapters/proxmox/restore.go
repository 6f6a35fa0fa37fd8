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
		task:      guestTask("qmrestore", "vzrestore"),
		rights:    restoreRights,
		refusals:  beforeRestoreFork,
		untouched: restoreTaskTexts,
		guarded:   true,
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
// guest (pve-storage Storage.pm#check_volume_access).
func restoreRights(t attempt) []right {
	rights := []right{
		{"/vms/" + vmidText(t.guest.VMID), "VM.Allocate"},
		{"/storage/" + t.query().Get("storage"), "Datastore.AllocateSpace"},
	}
	if a := t.seen.Archive; a != nil && a.VMID != t.guest.VMID {
		storage, _, _ := strings.Cut(a.ID, ":")
		for _, r := range []right{{"/storage/" + storage, "Datastore.AllocateSpace"}, {"/vms/" + vmidText(a.VMID), "VM.Backup"}} {
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
	if seen.Archive, _, err = h.readVolume(ctx, seen.Node, a.Intent.Params.Archive); err != nil {
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
		`volume '[^'\n]+' does not exist`,
		`unable to use volume [^\n]+ - content type needs to be 'backup'`,
		`unable to restore (?:VM|CT) `+id+` - (?:VM|CT) `+id+` already exists on node '[A-Za-z0-9-]+'`,
		`unable to restore (?:VM|CT) `+id+` - (?:VM|CT) is locked \([a-z-]+\)`,
		`unable to restore (?:VM|CT) `+id+` - protection mode enabled`,
		`unable to restore (?:VM|CT) `+id+` - can't lock file '[^'\n]+' - got timeout`,
		`CT `+id+` already exists on node '[A-Za-z0-9-]+'`,
		`VM `+id+` already exists on node '[A-Za-z0-9-]+'`,
		`can't overwrite running container`,
	)
}

// restoreTaskTexts come before a task has touched the guest.
var restoreTaskTexts = whole(
	`unable to restore (?:VM|CT) [0-9]+ - (?:- )?protection mode enabled`,
	`unable to restore VM [0-9]+ - vm is running`,
	`unable to restore (?:VM|CT) [0-9]+ - can't lock file '[^'\n]+' - got timeout`,
	`volume '[^'\n]+' does not exist`,
	`can't lock file '/var/lock/qemu-server/lock-[0-9]+\.conf' - got timeout`,
	`can't lock file '/run/lock/lxc/pve-config-[0-9]+\.lock' - got timeout`,
)

// probeRestore tells what a restore did. Before its task begins the host locks
// the guest (create). A machine's configuration is then replaced by a stub and
// its disks are freed; a container's new volumes are made first, and if the
// restore fails after that the container ceases to exist. In the end the
// configuration is that of the backup, with new volumes and, for a machine, a
// new generation id.
func probeRestore(ctx context.Context, p *probe) (engine.Finding, error) {
	s, err := p.lookAtGuest(ctx)
	if err != nil {
		return engine.Finding{}, err
	}
	now, before := s.now, p.before
	lost := fmt.Sprintf("the guest that was there is lost, and %s is not restored; the backup is untouched: restore it once more by hand", p.target.subject().archive())
	renewed := before.VMGenID != "" && now.VMGenID != "" && now.VMGenID != before.VMGenID
	sameVolumes := slices.Equal(now.Volumes, before.Volumes)
	stub := p.guest.Type == op.QEMU && len(now.Volumes) == 0 && now.SMBIOSUUID == "" && now.Name == "" && (before.SMBIOSUUID != "" || before.Name != "")
	switch {
	case s.gone != "" && p.saysDone():
		return s.vanished(), nil
	case s.gone != "" && s.began() && p.guest.Type == op.LXC:
		return s.unclear(op.EffectPartial, s.gone, s.said, lost), nil
	case s.gone != "":
		return s.unclear(op.EffectUnknown, s.gone), nil
	case p.saysDone() && now.Lock == "create":
		return s.unclear(op.EffectUnknown, "the guest is locked (create)", "yet "+s.said), nil
	case p.saysDone() && now.Digest == before.Digest:
		return s.unclear(op.EffectUnknown, "the guest is as it was, to the byte (digest "+now.Digest+")", "yet "+s.said), nil
	case p.saysDone():
		return finding(op.EffectDone, nil, s.said, "the guest's configuration is another one: digest "+now.Digest+", it was "+before.Digest), nil
	case stub:
		return s.unclear(op.EffectPartial, fmt.Sprintf("what is left of VM %d is a stub, without disks", p.guest.VMID), s.said, lost), nil
	case renewed || !sameVolumes:
		return s.unclear(op.EffectUnknown, "the guest has other volumes, or another generation id, than when the request was announced, but no task says that the restore was finished", s.said), nil
	}
	vols := p.host.findVolumes(ctx, now.Node, p.guest.VMID, before.Volumes)
	switch {
	case len(vols.missing) > 0:
		return s.unclear(op.EffectPartial, "its configuration refers to volumes that are gone: "+strings.Join(vols.missing, ", "), s.said, lost), nil
	case vols.failed != nil:
		return engine.Finding{}, vols.failed
	case now.Lock == "create":
		return s.unclear(op.EffectPartial, fmt.Sprintf("the guest is locked (create) and all its volumes are there: nothing is lost. Unlock it on node %s (qm unlock or pct unlock %d)",
			now.Node, p.guest.VMID), s.said), nil
	case len(vols.unclear) > 0 || now.Lock != "" || now.Digest != before.Digest:
		return s.unclear(op.EffectUnknown, append([]string{fmt.Sprintf("the guest has changed since: digest %s, it was %s; lock %q",
			now.Digest, before.Digest, clip(now.Lock))}, vols.reasons...)...), nil
	}
	return s.unchanged(fmt.Sprintf("the guest is as it was, to the byte (digest %s), and all %d volumes that it had are there", now.Digest, len(before.Volumes))), nil
}
