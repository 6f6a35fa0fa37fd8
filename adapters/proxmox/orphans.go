package proxmox

import (
	"context"
	"fmt"
	"net/url"
)

// ticksPerSecond is the unit of a UPID's process start (Linux: USER_HZ).
const ticksPerSecond = 100

// killedTexts are the ends of a task whose worker did not end by itself: it was
// killed, its node died (pve-common Tools.pm#upid_read_status, by version), it
// was told to stop, or it gave up on a child.
var killedTexts = whole(
	`unexpected status`,
	`unable to (?:read tail|open file -|extract last line|get last line)[^\n]*`,
	`[^\n]*interrupt[^\n]*`,
	`[^\n]*got timeout`,
)

// orphans tells whether a child of the task's worker may still act. A worker
// removes volumes by programs of their own, such as lvremove, zfs or rbd: one
// that was running when the worker was killed runs on, and the volume that is
// listed now is gone a little later.
//
// The host has no list of processes to ask for. That none is alive follows only
// from a restart of the node: it was up for longer when the task began than it
// is now. Both are counted by the kernel from its start, so that no clock that
// was set wrong or is set right meanwhile can make it seem so.
//
// The doubt is empty if there can be none, and the proof then says why.
func (p *probe) orphans(ctx context.Context) (doubt, proof string, err error) {
	if !matchAny(killedTexts, p.ended) {
		return "", "", nil
	}
	node := p.target.node
	child, look := "lvremove, zfs or rbd, may still be removing a volume", "volumes"
	if p.target.target.Disk != "" {
		child, look = "wipefs or dd, may still be writing to the disk", "disk"
	}
	what := fmt.Sprintf("the task's worker did not end by itself (%q), and a child of it, such as %s", clip(p.ended), child)
	tr, err := p.host.trailOf(ctx, p.target, p.announced, p.who)
	if err != nil {
		return "", "", err
	}
	found, _, err := p.host.history(ctx, tr)
	if err != nil {
		return "", "", err
	}
	up, err := p.host.uptime(ctx, node)
	if err != nil {
		return "", "", err
	}
	if len(found) == 0 {
		return what + fmt.Sprintf("; node %s lists no such task any more, so whether it has restarted since can't be told", node), "", nil
	}
	for _, upid := range found {
		u, err := ParseUPID(upid)
		if err != nil {
			return "", "", err
		}
		// Equal is not enough: what is shown of the uptime is rounded.
		if began := u.PStart / ticksPerSecond; u.Node != node || up >= began {
			return what + fmt.Sprintf("; node %s may not have restarted since (it is up for %d s, and was for %d s when the task began): "+
				"restart it, or see that no such process of task %s is left, and look again at the %s", node, up, began, upid, look), "", nil
		}
	}
	return "", fmt.Sprintf("the task's worker did not end by itself (%q), but node %s has restarted since, and no child of it is left", clip(p.ended), node), nil
}

// uptime is for how many seconds a node has been running.
func (h *Host) uptime(ctx context.Context, node string) (uint64, error) {
	path := "/nodes/" + url.PathEscape(node) + "/status"
	r, err := h.get(ctx, h.at(node), path)
	if err != nil {
		return 0, err
	}
	var answer struct {
		Uptime *number `json:"uptime"`
	}
	if err := r.decode(&answer); err != nil {
		return 0, fmt.Errorf("GET %s: %w", path, err)
	}
	if answer.Uptime == nil || *answer.Uptime < 0 {
		return 0, fmt.Errorf("GET %s: the answer holds no uptime", path)
	}
	return uint64(*answer.Uptime), nil
}
