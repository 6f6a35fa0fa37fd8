package proxmox

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"

	"writ/domain/op"
)

// A contentRow is a volume as a storage lists it.
type contentRow struct {
	VolID     string  `json:"volid"`
	Content   string  `json:"content"`
	Size      *number `json:"size"`
	CTime     *number `json:"ctime"`
	VMID      *number `json:"vmid"`
	Parent    *string `json:"parent"`
	Protected flag    `json:"protected"`
}

func contentPath(node, storage string) string {
	return "/nodes/" + url.PathEscape(node) + "/storage/" + url.PathEscape(storage) + "/content"
}

// volumePath is a volume below the API's root. Its id comes checked, and holds
// nothing that means something else in a path.
func volumePath(node, volid string) string {
	storage, _, _ := strings.Cut(volid, ":")
	return contentPath(node, storage) + "/" + volid
}

// content lists a storage as a node sees it. What the token may not see is left
// out by the host, silently.
func (h *Host) content(ctx context.Context, node, storage string) ([]contentRow, error) {
	path := contentPath(node, storage)
	r, err := h.get(ctx, h.at(node), path)
	if err != nil {
		return nil, err
	}
	var rows []contentRow
	if err := r.decode(&rows); err != nil {
		return nil, fmt.Errorf("GET %s: %w", path, err)
	}
	return rows, nil
}

// readVolume looks for a volume on its storage; nil if there is none, which is
// said only if the token would see it.
func (h *Host) readVolume(ctx context.Context, node, volid string) (*op.VolumeSeen, []contentRow, error) {
	storage, name, _ := strings.Cut(volid, ":")
	rows, err := h.content(ctx, node, storage)
	if isNoStorage(err, storage) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	for _, row := range rows {
		if row.VolID != volid {
			continue
		}
		if row.Size == nil || *row.Size < 0 {
			return nil, nil, fmt.Errorf("storage %s of node %s gives no size for %s", storage, node, volid)
		}
		v := &op.VolumeSeen{ID: volid, Size: int64(*row.Size), Content: row.Content, Protected: bool(row.Protected)}
		if row.CTime != nil {
			v.CTime = max(0, int64(*row.CTime))
		}
		if row.VMID != nil {
			v.VMID = int(*row.VMID)
		}
		return v, rows, nil
	}
	held, err := h.rights(ctx, "/storage/"+storage)
	switch {
	case err != nil:
		return nil, nil, err
	case held["Datastore.Allocate"]:
		return nil, rows, nil
	}
	if vmid := volumeOwner(name); vmid != 0 {
		if sees, err := h.seesVolumes(ctx, storage, vmid); sees || err != nil {
			return nil, rows, err
		}
	}
	return nil, nil, fmt.Errorf("storage %s of node %s does not list %s, which says nothing: token %s would need Datastore.Allocate on /storage/%s",
		storage, node, volid, h.token, storage)
}

// standingOn gives the volumes of a storage that were cloned from one and are
// nothing without it.
func standingOn(volid string, rows []contentRow) []string {
	_, name, _ := strings.Cut(volid, ":")
	base := name[strings.LastIndexByte(name, '/')+1:]
	var users []string
	for _, row := range rows {
		if row.Parent == nil || row.VolID == volid {
			continue
		}
		parent := (*row.Parent)[strings.LastIndexByte(*row.Parent, '/')+1:]
		// ZFS and LVM-thin name the snapshot of the base that clones stand on.
		parent, _, _ = strings.Cut(parent, "@")
		if parent == base {
			users = append(users, row.VolID)
		}
	}
	return users
}

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
	return found, failed
}

// refersTo tells where one guest refers to volumes.
func (h *Host) refersTo(ctx context.Context, g place, refers func(string) bool, snapshots bool) ([]string, error) {
	config, err := h.readConfig(ctx, g.node, g.guest)
	if isMissing(err, g.node, g.guest) {
		// It is gone, or has moved: where it is now nobody has looked.
		return nil, fmt.Errorf("%s guest %d is moving or being removed, ask again: %w", g.guest.Type, g.guest.VMID, err)
	}
	if err != nil {
		return nil, fmt.Errorf("whether %s guest %d uses it: %w", g.guest.Type, g.guest.VMID, err)
	}
	name := string(g.guest.Type) + "/" + vmidText(g.guest.VMID)
	users := usersIn(name, config.drives, refers)
	if !snapshots {
		return users, nil
	}
	rows, _, err := h.snapshots(ctx, g.node, g.guest)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		old, err := h.readSnapshotConfig(ctx, g.node, g.guest, row.Name)
		if err != nil {
			return nil, err
		}
		users = append(users, usersIn(name+" snapshot "+clip(row.Name), old.drives, refers)...)
	}
	return users, nil
}

func usersIn(name string, drives map[string]string, refers func(string) bool) []string {
	var users []string
	for key, volid := range drives {
		if refers(volid) {
			users = append(users, name+" "+key)
		}
	}
	slices.Sort(users)
	return users
}

// readSnapshotConfig reads a guest's configuration as a snapshot keeps it.
func (h *Host) readSnapshotConfig(ctx context.Context, node string, g op.Guest, name string) (guestConfig, error) {
	path := snapshotPath(node, g, name) + "/config"
	r, err := h.get(ctx, h.at(node), path)
	if err != nil {
		return guestConfig{}, err
	}
	c, err := parseConfig(node, g, r)
	if err != nil {
		return guestConfig{}, fmt.Errorf("GET %s: %w", path, err)
	}
	return c, nil
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
