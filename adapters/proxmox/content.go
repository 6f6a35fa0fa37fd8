package proxmox

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"

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
// said only if the token would see it. A storage that the host does not know is
// an error (isNoStorage): what was on it may be there all the same.
func (h *Host) readVolume(ctx context.Context, node, volid string) (*op.VolumeSeen, []contentRow, error) {
	storage, name, _ := strings.Cut(volid, ":")
	rows, err := h.content(ctx, node, storage)
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
	sees, err := h.wouldSee(ctx, storage, name)
	switch {
	case err != nil:
		return nil, nil, err
	case !sees:
		return nil, nil, fmt.Errorf("storage %s of node %s does not list %s, which says nothing: token %s would need Datastore.Allocate on /storage/%s",
			storage, node, volid, h.token, storage)
	}
	return nil, rows, nil
}

// backupOwnerForm finds the VMID in a backup's name, on a storage of files and on
// a backup server.
var backupOwnerForm = regexp.MustCompile(`^backup/(?:vzdump-[a-z]+-([1-9]\d{2,8})-[^/]+|(?:vm|ct)/([1-9]\d{2,8})/[^/]+)$`)

// wouldSee tells whether the token's listing of a storage would hold a volume of
// that name (pve-storage Storage.pm#check_volume_access).
func (h *Host) wouldSee(ctx context.Context, storage, name string) (bool, error) {
	kind, _, inFolder := strings.Cut(name, "/")
	switch {
	case inFolder && kind == "backup":
		m := backupOwnerForm.FindStringSubmatch(name)
		if m == nil {
			return h.seesBackups(ctx, storage, 0)
		}
		vmid, err := strconv.Atoi(m[1] + m[2])
		if err != nil {
			return false, err
		}
		return h.seesBackups(ctx, storage, vmid)
	case inFolder && (kind == "iso" || kind == "vztmpl"):
		held, err := h.rights(ctx, "/storage/"+storage)
		return held["Datastore.Allocate"] || held["Datastore.AllocateSpace"] || held["Datastore.Audit"], err
	case volumeOwner(name) != 0:
		return h.seesVolumes(ctx, storage, volumeOwner(name))
	}
	held, err := h.rights(ctx, "/storage/"+storage)
	return held["Datastore.Allocate"], err
}

// seesBackups tells whether the token's listing of a storage would hold the
// backups of a guest; those of nobody if the VMID is 0.
func (h *Host) seesBackups(ctx context.Context, storage string, vmid int) (bool, error) {
	held, err := h.rights(ctx, "/storage/"+storage)
	if err != nil || held["Datastore.Allocate"] || vmid == 0 || !held["Datastore.AllocateSpace"] {
		return held["Datastore.Allocate"], err
	}
	onGuest, err := h.rights(ctx, "/vms/"+vmidText(vmid))
	return onGuest["VM.Backup"], err
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
