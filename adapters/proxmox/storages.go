package proxmox

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"writ/domain/op"
)

// A storageRow is a storage as the cluster's configuration defines it.
type storageRow struct {
	Storage  string `json:"storage"`
	Type     string `json:"type"`
	Nodes    string `json:"nodes"`
	Pool     string `json:"pool"`
	VGName   string `json:"vgname"`
	ThinPool string `json:"thinpool"`
	Path     string `json:"path"`
	Server   string `json:"server"`
	Export   string `json:"export"`
	Share    string `json:"share"`
	Monitors string `json:"monhost"`
	Content  string `json:"content"`
	Disabled flag   `json:"disable"`
	Shared   flag   `json:"shared"`
}

// ground is what a storage lies on, empty if that is not known: storages on the
// same have the same volumes.
func (s storageRow) ground() string {
	switch {
	case s.VGName != "":
		return "vg " + s.VGName
	case s.Export != "" || s.Share != "":
		return "server " + s.Server + " " + s.Export + s.Share
	case s.Pool != "":
		return s.Type + " " + s.Pool + " " + s.Monitors
	case s.Path != "":
		return "path " + strings.TrimRight(s.Path, "/")
	}
	return ""
}

// storages lists all storages of the cluster. The host leaves out, silently, what
// the token may not see, so that it must see all of them.
func (h *Host) storages(ctx context.Context) ([]storageRow, error) {
	held, err := h.rights(ctx, "/storage")
	if err != nil {
		return nil, err
	}
	if !held["Datastore.Audit"] && !held["Datastore.Allocate"] {
		return nil, fmt.Errorf("token %s does not see all storages, give it Datastore.Audit on /storage, with propagate", h.token)
	}
	r, err := h.get(ctx, h.front, "/storage")
	if err != nil {
		return nil, err
	}
	var rows []storageRow
	if err := r.decode(&rows); err != nil {
		return nil, fmt.Errorf("GET /storage: %w", err)
	}
	return rows, nil
}

// sameGround gives the storages that have the same volumes as one, and itself.
func (h *Host) sameGround(ctx context.Context, storage string) ([]string, error) {
	rows, err := h.storages(ctx)
	if err != nil {
		return nil, err
	}
	same, ground := []string{storage}, ""
	for _, s := range rows {
		if s.Storage == storage {
			ground = s.ground()
		}
	}
	for _, s := range rows {
		if ground != "" && s.Storage != storage && s.ground() == ground {
			same = append(same, s.Storage)
		}
	}
	return same, nil
}

// storagesOn gives the storages that are defined on a pool of a node, sorted.
func (h *Host) storagesOn(ctx context.Context, node string, p op.Pool) ([]string, error) {
	rows, err := h.storages(ctx)
	if err != nil {
		return nil, err
	}
	var on []string
	for _, s := range rows {
		if s.Nodes != "" && !slices.Contains(strings.Split(s.Nodes, ","), node) {
			continue
		}
		var lies bool
		switch p.Kind {
		case op.ZFS:
			lies = s.Type == "zfspool" && under(s.Pool, p.Name) || under(s.Path, "/"+p.Name)
		case op.LVM:
			lies = s.VGName == p.Name // thin pools in it, too
		case op.LVMThin:
			lies = s.VGName == p.VolumeGroup && s.ThinPool == p.Name
		case op.Directory:
			lies = under(s.Path, mountFolder+p.Name)
		}
		if lies {
			on = append(on, s.Storage)
		}
	}
	slices.Sort(on)
	return on, nil
}

func under(path, folder string) bool { return path == folder || strings.HasPrefix(path, folder+"/") }

// isNoStorage tells whether the host knows no storage of the name.
func isNoStorage(err error, storage string) bool {
	e := asStatus(err)
	return e != nil && e.Status == http.StatusInternalServerError && e.Text() == "storage '"+storage+"' does not exist"
}
