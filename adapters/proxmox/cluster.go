package proxmox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"writ/domain/op"
)

func vmidText(vmid int) string { return strconv.Itoa(vmid) }

// A clusterState is the cluster as one of its nodes sees it.
type clusterState struct {
	quorate bool
	online  map[string]bool
	local   string // the node that answered; empty if it does not say
}

// clusterState asks one node. Its answer is about the part of the cluster that
// it is in, whatever other parts may believe.
func (h *Host) clusterState(ctx context.Context, at endpoint) (clusterState, error) {
	const path = "/cluster/status"
	var rows []struct {
		Type    string `json:"type"`
		Name    string `json:"name"`
		Quorate *flag  `json:"quorate"`
		Online  *flag  `json:"online"`
		Local   *flag  `json:"local"`
	}
	r, err := h.get(ctx, at, path)
	if err == nil {
		if err = r.decode(&rows); err != nil {
			err = fmt.Errorf("GET %s: %w", path, err)
		}
	}
	if err != nil {
		return clusterState{}, err
	}
	s := clusterState{online: make(map[string]bool)}
	var clusters int
	for _, row := range rows {
		switch {
		case row.Type == "cluster" && row.Quorate != nil:
			clusters++
			s.quorate = bool(*row.Quorate)
		case row.Type == "node" && row.Online != nil:
			s.online[row.Name] = bool(*row.Online)
			if row.Local != nil && bool(*row.Local) {
				s.local = row.Name
			}
		default:
			return clusterState{}, fmt.Errorf("GET %s: a row of type %q lacks what such rows have", path, clip(row.Type))
		}
	}
	switch {
	case clusters == 1:
	case clusters == 0 && len(s.online) == 1:
		s.quorate = true // a single node without a cluster needs nobody's vote
	default:
		return clusterState{}, fmt.Errorf("GET %s: %d clusters and %d nodes listed", path, clusters, len(s.online))
	}
	return s, nil
}

// A place is where the cluster keeps a guest's configuration. It comes from the
// list of all configurations, which is as current as the node that answers;
// name and status in the same row are not, and are never read.
type place struct {
	guest op.Guest
	node  string
	pool  string // a hint: the pool lists decide
}

// whereIs looks a VMID up. False means that no such guest is listed for this
// token, which does not prove that there is none.
func (h *Host) whereIs(ctx context.Context, vmid int) (place, bool, error) {
	const path = "/cluster/resources?type=vm"
	r, err := h.get(ctx, h.front, path)
	if err != nil {
		return place{}, false, err
	}
	var rows []struct {
		Type op.GuestType `json:"type"`
		VMID number       `json:"vmid"`
		Node string       `json:"node"`
		Pool string       `json:"pool"`
	}
	if err := r.decode(&rows); err != nil {
		return place{}, false, fmt.Errorf("GET %s: %w", path, err)
	}
	for _, row := range rows {
		if int(row.VMID) != vmid {
			continue
		}
		if row.Type != op.QEMU && row.Type != op.LXC {
			return place{}, false, fmt.Errorf("GET %s: guest %d is of type %q, neither qemu nor lxc", path, vmid, clip(string(row.Type)))
		}
		if err := op.CheckNodeName(row.Node); err != nil {
			return place{}, false, fmt.Errorf("GET %s: guest %d: %w", path, vmid, err)
		}
		return place{guest: op.Guest{Type: row.Type, VMID: vmid}, node: row.Node, pool: row.Pool}, true, nil
	}
	return place{}, false, nil
}

// isFree tells whether no guest of the whole cluster has the VMID. It needs no
// right at all. A half-destroyed guest still has its VMID.
func (h *Host) isFree(ctx context.Context, at endpoint, vmid int) (bool, error) {
	path := "/cluster/nextid?vmid=" + vmidText(vmid)
	r, err := h.get(ctx, at, path)
	if e := asStatus(err); e != nil && e.Status == http.StatusBadRequest && e.about("vmid") == fmt.Sprintf("VM %d already exists", vmid) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var answer number
	if err := r.decode(&answer); err != nil {
		return false, fmt.Errorf("GET %s: %w", path, err)
	}
	if int(answer) != vmid {
		return false, fmt.Errorf("GET %s: the answer is %d", path, answer)
	}
	return true, nil
}

// A vacancy is the answer to whether a VMID is free.
type vacancy struct {
	free bool
	// quorate is true if the node that answered was part of the quorum before
	// and after. A node that is not answers from a copy that may be old, and
	// its absences prove nothing.
	quorate bool
}

// vacancy asks one node of the quorum, the front node if that is one. Where there
// is none to be asked the answer is that of another, and says so.
func (h *Host) vacancy(ctx context.Context, vmid int) (vacancy, error) {
	var old *vacancy
	var failed []error
	for _, at := range h.seats("") {
		v, err := h.vacancyAt(ctx, at, vmid)
		switch {
		case err != nil:
			failed = append(failed, err)
		case v.quorate:
			return v, nil
		case old == nil:
			old = &v
		}
	}
	if old != nil {
		return *old, nil
	}
	return vacancy{}, errors.Join(failed...)
}

// vacancyAt asks one node for all three answers, so that they come from one copy
// of the cluster's state.
func (h *Host) vacancyAt(ctx context.Context, at endpoint, vmid int) (vacancy, error) {
	before, err := h.clusterState(ctx, at)
	if err != nil {
		return vacancy{}, err
	}
	free, err := h.isFree(ctx, at, vmid)
	if err != nil {
		return vacancy{}, err
	}
	after, err := h.clusterState(ctx, at)
	if err != nil {
		return vacancy{}, err
	}
	return vacancy{free: free, quorate: before.quorate && after.quorate}, nil
}

// poolOf gives the resource pool a guest is in. The list of all guests says
// where to look; only the pool's own list of members counts. A token that may
// not see the pool learns of none, and a pool not known grants nothing.
func (h *Host) poolOf(ctx context.Context, g op.Guest) (string, error) {
	p, listed, err := h.whereIs(ctx, g.VMID)
	if err != nil || !listed || p.pool == "" {
		return "", err
	}
	path := "/pools?poolid=" + url.QueryEscape(p.pool)
	r, err := h.get(ctx, h.front, path)
	if err != nil {
		return "", err
	}
	var pools []struct {
		PoolID  string `json:"poolid"`
		Members []struct {
			Type string `json:"type"`
			VMID number `json:"vmid"`
		} `json:"members"`
	}
	if err := r.decode(&pools); err != nil {
		return "", fmt.Errorf("GET %s: %w", path, err)
	}
	for _, pool := range pools {
		for _, m := range pool.Members {
			if pool.PoolID == p.pool && m.Type == string(g.Type) && int(m.VMID) == g.VMID {
				return pool.PoolID, nil
			}
		}
	}
	return "", errors.New("read the pool of " + string(g.Type) + " " + vmidText(g.VMID) + ": it is being changed, ask again")
}
