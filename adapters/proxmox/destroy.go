package proxmox

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"

	"writ/domain/engine"
	"writ/domain/op"
)

// destroyConduct is that of guest-destroy: it removes a virtual machine or
// container with all volumes that are its own.
func destroyConduct() *conduct {
	return &conduct{
		class:   op.GuestDestroy,
		observe: observeDestroy,
		compose: func(in op.Intent, seen op.Observed) op.Request {
			query := make(url.Values)
			setBool(query, "purge", in.Params.Purge)
			setBool(query, "force", in.Params.Force)
			return op.Request{Method: http.MethodDelete, Path: guestPath(seen.Node, *in.Target.Guest), Query: query.Encode()}
		},
		form: func(s subject) form {
			may := params{"purge": bit}
			if s.guest.Type == op.LXC {
				may["force"] = bit
			}
			return form{method: http.MethodDelete, path: guestPath(s.node, s.guest), may: may}
		},
		task:      guestTask("qmdestroy", "vzdestroy"),
		rights:    onGuest("VM.Allocate"),
		refusals:  beforeDestroyFork,
		untouched: destroyTaskTexts,
		guard:     alwaysGuarded,
		recheck:   sameConfig,
		probe:     probeDestroy,
	}
}

// observeDestroy is observeEnd, with the replication jobs of the guest if they are
// not to go with it: then the host refuses to destroy it (qemu-server
// API2/Qemu.pm#destroy_vm, pve-container API2/LXC.pm#destroy_vm).
func observeDestroy(ctx context.Context, h *Host, a engine.Attempt) (op.Observed, error) {
	seen, err := observeEnd(ctx, h, a)
	if err != nil || !seen.Found || isSet(a.Intent.Params.Purge) {
		return seen, err
	}
	if seen.Replication, err = h.replication(ctx, seen.VMID); err != nil {
		return op.Observed{}, fmt.Errorf("look for replication jobs of %s: %w", a.Intent.Target, err)
	}
	return seen, nil
}

// replication gives the replication jobs of a guest. Whoever may see the guest
// sees them (pve-manager API2/ReplicationConfig.pm).
func (h *Host) replication(ctx context.Context, vmid int) ([]string, error) {
	var rows []struct {
		ID     string `json:"id"`
		Guest  number `json:"guest"`
		Target string `json:"target"`
	}
	if err := h.readList(ctx, "/cluster/replication", &rows); err != nil {
		return nil, err
	}
	var jobs []string
	for _, row := range rows {
		if int(row.Guest) == vmid {
			jobs = append(jobs, fmt.Sprintf("%s to %s", clip(row.ID), clip(row.Target)))
		}
	}
	slices.Sort(jobs)
	return jobs, nil
}

// guestTask is for classes whose tasks have the guest's VMID as their id.
func guestTask(qemu, lxc string) func(attempt) (typ, id string) {
	return func(t attempt) (typ, id string) {
		if t.guest.Type == op.LXC {
			return lxc, vmidText(t.guest.VMID)
		}
		return qemu, vmidText(t.guest.VMID)
	}
}

// sameConfig looks at the guest once more, after the token got its right. The
// host takes the right away with the guest (pve-access-control
// AccessControl.pm#remove_vm_access): so if the guest that is there now is
// the announced one, the token can act on that one and on none that gets its
// VMID later. (A restore over the guest keeps the right; nothing can be done
// about that but to be quick.)
func sameConfig(ctx context.Context, h *Host, t attempt) error {
	config, err := h.readConfig(ctx, t.node, t.guest)
	if err != nil {
		return err
	}
	if config.seen.Digest != t.seen.Digest {
		return fmt.Errorf("the configuration of %s %d has changed since it was announced: digest %s, it was %s",
			t.guest.Type, t.guest.VMID, config.seen.Digest, clip(t.seen.Digest))
	}
	return nil
}

// beforeDestroyFork are the texts with which a destroy of this very guest is
// refused before the fork (qemu-server API2/Qemu.pm#destroy_vm, pve-container
// API2/LXC.pm#destroy_vm). That the configuration does not exist says so of
// this node alone: the guest may live on another, untouched.
func beforeDestroyFork(a attempt) []*regexp.Regexp {
	id := vmidText(a.guest.VMID)
	texts := []string{
		regexp.QuoteMeta(missingConfig(a.node, a.guest)),
		`There is a replication job '[^'\n]*' for guest '` + id + `' - Please remove that first\.`,
	}
	switch a.guest.Type {
	case op.QEMU:
		texts = append(texts,
			`can't remove VM `+id+` - protection mode enabled`,
			`VM `+id+` is running - destroy failed`,
			`unable to remove VM `+id+` - used in HA resources and purge parameter not set\.`)
	case op.LXC:
		texts = append(texts,
			`can't remove CT `+id+` - protection mode enabled`,
			`unable to destroy CT `+id+` - container is running`,
			`unable to remove CT `+id+` - used in HA resources and purge parameter not set\.`,
			`CT is locked \([a-z-]+\)`)
	}
	return whole(texts...)
}

// destroyTaskTexts are the texts with which a task of either kind of destroy
// ends before it has changed anything: its own checks, repeated under the lock,
// and the lock itself. Note what is left out: the text of a container's volume
// with linked clones, which differs from a machine's in one letter, comes when
// that volume's turn has come and others are gone already.
var destroyTaskTexts = whole(
	`Configuration file 'nodes/[A-Za-z0-9-]+/(?:qemu-server|lxc)/[0-9]+\.conf' does not exist`,
	`can't remove (?:VM|CT) [0-9]+ - protection mode enabled`,
	`unable to remove (?:VM|CT) [0-9]+ - used in HA resources and purge parameter not set\.`,
	`There is a replication job '[^'\n]*' for guest '[0-9]+' - Please remove that first\.`,
	`VM [0-9]+ is running - destroy failed`,
	`unable to destroy CT [0-9]+ - container is running`,
	`(?:VM|CT) is locked \([a-z-]+\)`,
	`base volume '[^'\n]*' is still in use by linked cloned`,
	`can't lock file '/var/lock/qemu-server/lock-[0-9]+\.conf' - got timeout`,
	`can't lock file '/run/lock/lxc/pve-config-[0-9]+\.lock' - got timeout`,
)
