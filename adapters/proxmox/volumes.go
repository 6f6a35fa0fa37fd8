package proxmox

import (
	"context"
	"fmt"
	"net/url"
	"strings"
)

// A presence is what storages say about the volumes a guest had.
type presence struct {
	there   []string
	missing []string
	// unclear are those of which neither can be said, each with its reason in
	// reasons.
	unclear []string
	reasons []string
	// failed is the first question that did not reach whoever could answer it;
	// asking again may help.
	failed error
}

// findVolumes looks for volumes of a guest, storage by storage, as seen from a
// node. It gives no error: what can't be read is unclear.
func (h *Host) findVolumes(ctx context.Context, node string, vmid int, volids []string) presence {
	var p presence
	byStorage := make(map[string][]string)
	var order []string
	for _, volid := range volids {
		storage, _, _ := strings.Cut(volid, ":")
		if byStorage[storage] == nil {
			order = append(order, storage)
		}
		byStorage[storage] = append(byStorage[storage], volid)
	}
	for _, storage := range order {
		h.findOnStorage(ctx, node, vmid, storage, byStorage[storage], &p)
	}
	return p
}

func (h *Host) findOnStorage(ctx context.Context, node string, vmid int, storage string, volids []string, p *presence) {
	unclear := func(volids []string, why string) {
		p.unclear = append(p.unclear, volids...)
		p.reasons = append(p.reasons, fmt.Sprintf("%s on storage %s of node %s: %s", strings.Join(volids, ", "), storage, node, why))
	}
	listed, err := h.listVolumes(ctx, node, vmid, storage)
	if err != nil {
		if p.failed == nil && unreachable(err) {
			p.failed = err
		}
		unclear(volids, "the storage could not be listed: "+err.Error())
		return
	}
	var absent []string
	for _, volid := range volids {
		if listed[volid] {
			p.there = append(p.there, volid)
		} else {
			absent = append(absent, volid)
		}
	}
	if len(absent) == 0 {
		return
	}
	// The host leaves out of the list, silently, what the token may not see. A
	// volume that is not listed is gone only if it would have been.
	sees, err := h.seesVolumes(ctx, storage, vmid)
	switch {
	case err != nil:
		if p.failed == nil && unreachable(err) {
			p.failed = err
		}
		unclear(absent, "not listed, and the token's rights could not be read: "+err.Error())
	case !sees:
		unclear(absent, fmt.Sprintf("not listed, which says nothing: the token would need Datastore.Allocate on /storage/%s, "+
			"or Datastore.Audit there and VM.Config.Disk on /vms/%d", storage, vmid))
	default:
		p.missing = append(p.missing, absent...)
	}
}

func (h *Host) listVolumes(ctx context.Context, node string, vmid int, storage string) (map[string]bool, error) {
	path := fmt.Sprintf("/nodes/%s/storage/%s/content?vmid=%d", url.PathEscape(node), url.PathEscape(storage), vmid)
	r, err := h.get(ctx, h.at(node), path)
	if err != nil {
		return nil, err
	}
	var rows []struct {
		VolID string `json:"volid"`
	}
	if err := r.decode(&rows); err != nil {
		return nil, fmt.Errorf("GET %s: %w", path, err)
	}
	listed := make(map[string]bool, len(rows))
	for _, row := range rows {
		listed[row.VolID] = true
	}
	return listed, nil
}

// seesVolumes tells whether the token's listing of a storage would hold the
// disks of a guest (pve-storage Storage.pm#check_volume_access).
func (h *Host) seesVolumes(ctx context.Context, storage string, vmid int) (bool, error) {
	onStorage, err := h.rights(ctx, "/storage/"+storage)
	if err != nil || onStorage["Datastore.Allocate"] {
		return err == nil, err
	}
	if !onStorage["Datastore.Audit"] {
		return false, nil
	}
	onGuest, err := h.rights(ctx, "/vms/"+vmidText(vmid))
	return onGuest["VM.Config.Disk"], err
}

// rights are the token's own on one path. Anyone may ask for those.
func (h *Host) rights(ctx context.Context, object string) (map[string]bool, error) {
	path := "/access/permissions?path=" + url.QueryEscape(object)
	r, err := h.get(ctx, h.front, path)
	if err != nil {
		return nil, err
	}
	var byPath map[string]map[string]flag
	if err := r.decode(&byPath); err != nil {
		return nil, fmt.Errorf("GET %s: %w", path, err)
	}
	held := make(map[string]bool)
	for name := range byPath[object] {
		held[name] = true // the value says only whether it is passed on to paths below
	}
	return held, nil
}
