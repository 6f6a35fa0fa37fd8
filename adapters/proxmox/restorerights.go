package proxmox

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var (
	archivedLine = regexp.MustCompile(`^(net|hostpci|usb)[0-9]+: (.+)$`)
	nameForm     = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]*$`)
)

// archivedRights are what a restore needs beside, by the configuration in the
// backup: the use of the bridges that its interfaces are on, and of mapped
// devices. The host checks that in the task, before any effect (qemu-server
// QemuServer.pm#restore_vma_archive, pve-guest-common
// GuestHelpers.pm#check_vnet_access).
//
// It knows the nodes' own bridges. A backup with an interface on a virtual network
// of another zone, or with a list of VLANs, is refused in the task, and a person
// has to restore it.
func archivedRights(ctx context.Context, h *Host, t attempt) ([]right, error) {
	path := "/nodes/" + url.PathEscape(t.node) + "/vzdump/extractconfig?volume=" + url.QueryEscape(t.subject().archive())
	r, err := h.get(ctx, h.at(t.node), path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration in the backup: %w", err)
	}
	var text string
	if err := r.decode(&text); err != nil {
		return nil, fmt.Errorf("GET %s: %w", path, err)
	}
	var rights []right
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if strings.HasPrefix(line, "[") {
			break // from here on it is that of snapshots, which no backup keeps
		}
		m := archivedLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		more, err := rightFor(m[1], m[2])
		if err != nil {
			return nil, err
		}
		if more.object != "" && !slices.Contains(rights, more) {
			rights = append(rights, more)
		}
	}
	return rights, nil
}

// rightFor is what one device of a configuration needs; nothing if it needs
// nothing.
func rightFor(kind, value string) (right, error) {
	if kind != "net" {
		mapping, ok := property(value, "mapping")
		if !ok || !nameForm.MatchString(mapping) {
			return right{}, nil
		}
		return right{"/mapping/" + strings.TrimPrefix(kind, "host") + "/" + mapping, "Mapping.Use"}, nil
	}
	bridge, ok := property(value, "bridge")
	if !ok || !nameForm.MatchString(bridge) {
		return right{}, nil
	}
	object := "/sdn/zones/localnetwork/" + bridge
	if tag, tagged := property(value, "tag"); tagged {
		if _, err := strconv.ParseUint(tag, 10, 16); err != nil {
			return right{}, fmt.Errorf("the backup's configuration has an interface on VLAN %q, which is none", clip(tag))
		}
		object += "/" + tag
	} else if _, list := property(value, "trunks"); list {
		return right{}, nil
	}
	return right{object, "SDN.Use"}, nil
}
