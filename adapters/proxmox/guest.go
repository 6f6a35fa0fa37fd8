package proxmox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"writ/domain/op"
)

// FindGuest tells what kind of guest has a VMID, and on which node, as far as
// the token may see. It is for people who name a guest by its number alone;
// what is signed comes from ReadGuest.
func (h *Host) FindGuest(ctx context.Context, vmid int) (op.Target, bool, error) {
	p, found, err := h.whereIs(ctx, vmid)
	if err != nil || !found {
		return op.Target{}, false, err
	}
	return op.Target{Node: p.node, Guest: &p.guest}, true, nil
}

// ReadGuest reads a guest afresh, wherever it is now: its identity from one
// single read of its configuration, then its status, then the state of its
// node and of the cluster as that node sees it. No such guest is no error, but
// Found is false only if a quorate cluster says so.
func (h *Host) ReadGuest(ctx context.Context, target op.Target) (op.Observed, error) {
	g, err := guestOf(target)
	if err != nil {
		return op.Observed{}, err
	}
	at, err := h.locate(ctx, target.Node, g)
	if err != nil {
		return op.Observed{}, fmt.Errorf("read %s: %w", target, err)
	}
	if !at.found {
		return h.noGuest(ctx)
	}
	seen := at.config.seen
	if err := h.readStatus(ctx, g, &seen); err != nil {
		return op.Observed{}, fmt.Errorf("read %s: %w", target, err)
	}
	// The node's own view where it can be asked itself: it is the one that
	// must be quorate to carry the request out.
	state, err := h.clusterState(ctx, h.at(seen.Node))
	if err != nil {
		return op.Observed{}, fmt.Errorf("read %s: %w", target, err)
	}
	seen.Quorate, seen.NodeOnline = state.quorate, state.online[seen.Node]
	return seen, nil
}

// noGuest is what is observed of a guest that does not exist.
func (h *Host) noGuest(ctx context.Context) (op.Observed, error) {
	state, err := h.clusterState(ctx, h.front)
	if err != nil {
		return op.Observed{}, err
	}
	return op.Observed{Quorate: state.quorate}, nil
}

// Facts implements engine.Host.
func (h *Host) Facts(ctx context.Context, target op.Target) (op.Facts, error) {
	if target.Guest == nil {
		f, err := h.notGuestFacts(ctx, target)
		if err != nil {
			return op.Facts{}, fmt.Errorf("read %s: %w", target, err)
		}
		return f, nil
	}
	g, err := guestOf(target)
	if err != nil {
		return op.Facts{}, err
	}
	at, err := h.locate(ctx, target.Node, g)
	if err != nil {
		return op.Facts{}, fmt.Errorf("read %s: %w", target, err)
	}
	if !at.found {
		return op.Facts{}, nil
	}
	pool, err := h.poolOf(ctx, g)
	if err != nil {
		return op.Facts{}, fmt.Errorf("read %s: %w", target, err)
	}
	c := at.config
	return op.Facts{Found: true, Node: c.seen.Node, Name: c.seen.Name, Pool: pool, Tags: c.tags, Storages: c.storages}, nil
}

func guestOf(target op.Target) (op.Guest, error) {
	if target.Guest == nil {
		return op.Guest{}, fmt.Errorf("read %s: not a guest", target)
	}
	i := op.Intent{Class: op.GuestDestroy, Target: op.Target{Node: target.Node, Guest: target.Guest}} // for the check of the target alone
	if err := i.Check(); err != nil {
		return op.Guest{}, err
	}
	return *target.Guest, nil
}

// A location is a guest's configuration and where it was read.
type location struct {
	found  bool
	config guestConfig
	// other is what kind of guest has the VMID instead, if not found.
	other op.GuestType
}

// locate reads a guest's configuration from the node it is on. It begins with
// the hint, because guests seldom move, and follows the cluster's own list if
// the hint was wrong or can't answer.
func (h *Host) locate(ctx context.Context, hint string, g op.Guest) (location, error) {
	config, firstErr := h.readConfig(ctx, hint, g)
	if firstErr == nil {
		return location{found: true, config: config}, nil
	}
	if !isMissing(firstErr, hint, g) && !unreachable(firstErr) && !isUnknownNode(firstErr) {
		return location{}, firstErr // such as 403: nothing about where it is
	}
	p, listed, err := h.whereIs(ctx, g.VMID)
	switch {
	case err != nil:
		return location{}, errors.Join(firstErr, err)
	case !listed:
		return h.confirmAbsence(ctx, g, firstErr)
	case p.guest.Type != g.Type:
		// One VMID is never two guests: a container has it, so no machine does.
		return h.confirmOther(ctx, p)
	case p.node == hint:
		if isMissing(firstErr, hint, g) {
			return location{}, fmt.Errorf("it is moving or being removed, ask again: %w", firstErr)
		}
		return location{}, firstErr
	}
	if config, err = h.readConfig(ctx, p.node, g); err != nil {
		return location{}, err
	}
	return location{found: true, config: config}, nil
}

// A hiddenError says that a guest exists which the token may not see.
type hiddenError struct {
	vmid  int
	cause error
}

func (e *hiddenError) Error() string {
	return fmt.Sprintf("VMID %d is in use, but the token may not see by whom, give it VM.Audit on /vms/%d: %v", e.vmid, e.vmid, e.cause)
}

// isHidden tells whether a guest could not be read for want of rights alone.
func isHidden(err error) bool {
	if e := asStatus(err); e != nil && e.Status == http.StatusForbidden {
		return true
	}
	_, hidden := errors.AsType[*hiddenError](err)
	return hidden
}

// confirmAbsence decides about a guest that is neither where it was said to be
// nor in the cluster's list.
func (h *Host) confirmAbsence(ctx context.Context, g op.Guest, cause error) (location, error) {
	v, err := h.vacancy(ctx, g.VMID)
	switch {
	case err != nil:
		return location{}, errors.Join(cause, err)
	case !v.free:
		return location{}, &hiddenError{vmid: g.VMID, cause: cause}
	case !v.quorate:
		return location{}, fmt.Errorf("VMID %d seems free, but the node that says so is not quorate: %w", g.VMID, cause)
	}
	return location{}, nil
}

// confirmOther decides about a guest whose VMID belongs to one of another type.
func (h *Host) confirmOther(ctx context.Context, p place) (location, error) {
	v, err := h.vacancy(ctx, p.guest.VMID)
	switch {
	case err != nil:
		return location{}, err
	case v.free || !v.quorate:
		return location{}, fmt.Errorf("VMID %d changes hands, or the cluster is not quorate, ask again", p.guest.VMID)
	}
	return location{other: p.guest.Type}, nil
}

// readConfig reads a guest's configuration at one node.
func (h *Host) readConfig(ctx context.Context, node string, g op.Guest) (guestConfig, error) {
	path := guestPath(node, g) + "/config"
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

// readStatus adds what the configuration does not say.
func (h *Host) readStatus(ctx context.Context, g op.Guest, seen *op.Observed) error {
	path := guestPath(seen.Node, g) + "/status/current"
	r, err := h.get(ctx, h.at(seen.Node), path)
	if err != nil {
		return err
	}
	var status struct {
		Status string `json:"status"`
		Uptime number `json:"uptime"`
		HA     struct {
			Managed *flag `json:"managed"`
		} `json:"ha"`
	}
	if err := r.decode(&status); err != nil {
		return fmt.Errorf("GET %s: %w", path, err)
	}
	if status.Status != "running" && status.Status != "stopped" {
		return fmt.Errorf("GET %s: status is %q, neither running nor stopped", path, clip(status.Status))
	}
	if status.HA.Managed == nil {
		return fmt.Errorf("GET %s: it is not said whether HA manages the guest", path)
	}
	seen.Status, seen.HAManaged = status.Status, bool(*status.HA.Managed)
	if seen.Status == "running" {
		seen.Uptime = max(0, int64(status.Uptime))
	}
	return nil
}

// guestPath is a guest below the API's root. Node and type come checked.
func guestPath(node string, g op.Guest) string {
	return "/nodes/" + url.PathEscape(node) + "/" + string(g.Type) + "/" + vmidText(g.VMID)
}

// missingConfig is the host's text for a guest that is not on a node.
func missingConfig(node string, g op.Guest) string {
	folder := "qemu-server"
	if g.Type == op.LXC {
		folder = "lxc"
	}
	return fmt.Sprintf("Configuration file 'nodes/%s/%s/%d.conf' does not exist", node, folder, g.VMID)
}

// isMissing tells whether the node itself said that it has no such guest.
func isMissing(err error, node string, g op.Guest) bool {
	e := asStatus(err)
	return e != nil && e.Status == http.StatusInternalServerError && e.Text() == missingConfig(node, g)
}

// isUnknownNode tells whether the cluster has no node of the name any more.
func isUnknownNode(err error) bool {
	e := asStatus(err)
	return e != nil && e.Status == http.StatusInternalServerError && matchAny(unknownNode, e.Text())
}

var unknownNode = whole(`hostname lookup '[^'\n]*' failed - [^\n]*`)
