package proxmox

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"writ/domain/op"
)

// deviceForm finds the devices in a value.
var deviceForm = regexp.MustCompile(`/dev/[^\s,;="'\\]+`)

// configsAtOnce bounds how many guests are read at a time.
const configsAtOnce = 8

// references gives the guests whose configuration refers to volumes, with where
// it does, such as "qemu/105 scsi1". The host asks nobody before it removes a
// volume, so every guest of the cluster is read, and the snapshots of those that
// the volumes are named for. The token must see them all.
func (h *Host) references(ctx context.Context, refers func(volid string) bool, owners ...int) ([]string, error) {
	if err := h.seesAllGuests(ctx); err != nil {
		return nil, err
	}
	guests, err := h.allGuests(ctx)
	if err != nil {
		return nil, err
	}
	if err := h.ownersListed(ctx, guests, owners); err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var found []string
	var failed error
	slots := make(chan struct{}, configsAtOnce)
	var readers sync.WaitGroup
	for _, g := range guests {
		slots <- struct{}{}
		readers.Go(func() {
			defer func() { <-slots }()
			users, err := h.refersTo(ctx, g, refers, slices.Contains(owners, g.guest.VMID))
			mu.Lock()
			defer mu.Unlock()
			if found = append(found, users...); failed == nil {
				failed = err
			}
		})
	}
	readers.Wait()
	slices.Sort(found)
	return slices.Compact(found), failed
}

// ownersListed fails if a guest that volumes are named for exists and is not in
// the list: a right that was taken away for it alone does not show otherwise.
func (h *Host) ownersListed(ctx context.Context, guests []place, owners []int) error {
	for _, vmid := range owners {
		if vmid == 0 || slices.ContainsFunc(guests, func(g place) bool { return g.guest.VMID == vmid }) {
			continue
		}
		free, err := h.isFree(ctx, h.front, vmid)
		switch {
		case err != nil:
			return err
		case !free:
			return fmt.Errorf("whether guest %d uses it can't be told: VMID %d is in use and token %s does not see by whom, give it VM.Audit on /vms/%d",
				vmid, vmid, h.token, vmid)
		}
	}
	return nil
}

// refersTo tells where one guest refers to volumes: in its configuration as it
// is in force, as it will be when changes that wait for a restart are, and in its
// snapshots.
func (h *Host) refersTo(ctx context.Context, g place, refers func(string) bool, snapshots bool) ([]string, error) {
	name := string(g.guest.Type) + "/" + vmidText(g.guest.VMID)
	base := guestPath(g.node, g.guest)
	var users []string
	for _, path := range []string{base + "/config?current=1", base + "/config"} {
		found, err := h.usersIn(ctx, g, path, name, refers)
		if isMissing(err, g.node, g.guest) {
			// It is gone, or has moved: where it is now nobody has looked.
			return nil, fmt.Errorf("%s guest %d is moving or being removed, ask again: %w", g.guest.Type, g.guest.VMID, err)
		}
		if err != nil {
			return nil, fmt.Errorf("whether %s guest %d uses it: %w", g.guest.Type, g.guest.VMID, err)
		}
		users = append(users, found...)
	}
	if !snapshots {
		return users, nil
	}
	rows, _, err := h.snapshots(ctx, g.node, g.guest)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		found, err := h.usersIn(ctx, g, base+"/config?snapshot="+url.QueryEscape(row.Name), name+" snapshot "+clip(row.Name), refers)
		if err != nil {
			return nil, err
		}
		users = append(users, found...)
	}
	return users, nil
}

// usersIn tells which keys of one configuration refer to volumes.
func (h *Host) usersIn(ctx context.Context, g place, path, name string, refers func(string) bool) ([]string, error) {
	r, err := h.get(ctx, h.at(g.node), path)
	if err != nil {
		return nil, err
	}
	c, err := parseConfig(g.node, g.guest, r)
	if err != nil {
		return nil, fmt.Errorf("GET %s: %w", path, err)
	}
	var users []string
	for key, volid := range c.drives {
		if refers(volid) {
			users = append(users, name+" "+key)
		}
	}
	var all map[string]jsontext.Value
	if err := r.decode(&all); err != nil {
		return nil, fmt.Errorf("GET %s: %w", path, err)
	}
	for key, value := range all {
		if key == "description" || c.drives[key] != "" {
			continue
		}
		// Devices are not only in drives: containers are given some, and what is
		// passed to QEMU and LXC as it is can hold any.
		if slices.ContainsFunc(deviceForm.FindAllString(string(value), -1), refers) {
			users = append(users, name+" "+key)
		}
	}
	// Scripts and settings that a machine can't start without.
	var raw struct {
		Script string `json:"hookscript"`
		Cloud  string `json:"cicustom"`
	}
	if err := r.decode(&raw); err != nil {
		return nil, fmt.Errorf("GET %s: %w", path, err)
	}
	if refers(raw.Script) {
		users = append(users, name+" hookscript")
	}
	for part := range strings.SplitSeq(raw.Cloud, ",") {
		if _, volid, ok := strings.Cut(part, "="); ok && refers(volid) {
			users = append(users, name+" cicustom")
		}
	}
	return users, nil
}

// seesAllGuests fails unless the host shows the token every guest: guests that
// it may not see are left out of lists, silently.
func (h *Host) seesAllGuests(ctx context.Context) error {
	path := "/access/permissions?path=" + url.QueryEscape("/vms")
	r, err := h.get(ctx, h.front, path)
	if err != nil {
		return err
	}
	var byPath map[string]map[string]flag
	if err := r.decode(&byPath); err != nil {
		return fmt.Errorf("GET %s: %w", path, err)
	}
	if passedOn, held := byPath["/vms"]["VM.Audit"]; !held || !bool(passedOn) {
		return fmt.Errorf("whether a guest uses it can't be told: token %s does not see all guests, give it VM.Audit on /vms, with propagate", h.token)
	}
	return nil
}

// allGuests lists every guest of the cluster that the token may see.
func (h *Host) allGuests(ctx context.Context) ([]place, error) {
	const path = "/cluster/resources?type=vm"
	r, err := h.get(ctx, h.front, path)
	if err != nil {
		return nil, err
	}
	var rows []struct {
		Type op.GuestType `json:"type"`
		VMID number       `json:"vmid"`
		Node string       `json:"node"`
	}
	if err := r.decode(&rows); err != nil {
		return nil, fmt.Errorf("GET %s: %w", path, err)
	}
	all := make([]place, 0, len(rows))
	for _, row := range rows {
		g := op.Guest{Type: row.Type, VMID: int(row.VMID)}
		if _, err := guestOf(op.Target{Node: row.Node, Guest: &g}); err != nil {
			return nil, fmt.Errorf("GET %s: %w", path, err)
		}
		all = append(all, place{guest: g, node: row.Node})
	}
	return all, nil
}
