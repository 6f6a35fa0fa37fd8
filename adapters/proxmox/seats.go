package proxmox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"time"
)

// stateAt is clusterState, and remembers which node it is that answers there.
func (h *Host) stateAt(ctx context.Context, at endpoint) (clusterState, error) {
	state, err := h.clusterState(ctx, at)
	if err == nil && state.local != "" && h.at(state.local).base.Host == at.base.Host {
		h.mu.Lock()
		h.direct[state.local] = true
		h.mu.Unlock()
	}
	return state, err
}

// directly gives the endpoint at which the node itself answers for what is not
// about any node, such as tokens: asked elsewhere, the answer would come from
// another copy of the cluster's state.
func (h *Host) directly(ctx context.Context, node string) (endpoint, error) {
	at := h.at(node)
	h.mu.Lock()
	known := h.direct[node]
	h.mu.Unlock()
	if known {
		return at, nil
	}
	state, err := h.stateAt(ctx, at)
	switch {
	case err != nil:
		return endpoint{}, err
	case state.local != node:
		return endpoint{}, fmt.Errorf("node %s can't be asked itself: give its own URL in the configuration (at %s it is node %q that answers)",
			node, at.base.Host, state.local)
	}
	return at, nil
}

// quorateNode finds a node that can write to the cluster's files: the one to
// avoid only if there is no other, because it may hang, and would queue the
// write behind the very request that it is to stop. Other is false then.
func (h *Host) quorateNode(ctx context.Context, avoid string) (at endpoint, other bool, err error) {
	var failed []error
	for _, at := range h.seats(avoid) {
		state, err := h.stateAt(ctx, at)
		switch {
		case err != nil:
			failed = append(failed, err)
		case !state.quorate:
			failed = append(failed, fmt.Errorf("node %s is not part of a quorate cluster", state.local))
		default:
			return at, state.local != avoid, nil
		}
	}
	return endpoint{}, false, fmt.Errorf("no node of a quorate cluster can be asked: %w", errors.Join(failed...))
}

// seats are all endpoints, that of the node to avoid last.
func (h *Host) seats(avoid string) []endpoint {
	all := []endpoint{h.front}
	for _, name := range slices.Sorted(maps.Keys(h.nodes)) {
		if h.nodes[name].base.Host != h.front.base.Host {
			all = append(all, h.nodes[name])
		}
	}
	if avoid != "" {
		last := h.at(avoid).base.Host
		slices.SortStableFunc(all, func(a, b endpoint) int {
			return rank(a.base.Host == last) - rank(b.base.Host == last)
		})
	}
	return all
}

func rank(last bool) int {
	if last {
		return 1
	}
	return 0
}

// nodeTime reads a node's own clock, which counts in whole seconds.
func (h *Host) nodeTime(ctx context.Context, node string) (time.Time, error) {
	path := "/nodes/" + url.PathEscape(node) + "/time"
	r, err := h.get(ctx, h.at(node), path)
	if err != nil {
		return time.Time{}, err
	}
	var answer struct {
		Time number `json:"time"` // UNIX seconds; localtime beside it is not
	}
	if err := r.decode(&answer); err != nil {
		return time.Time{}, fmt.Errorf("GET %s: %w", path, err)
	}
	if answer.Time < 1e9 || answer.Time > 1e11 {
		return time.Time{}, fmt.Errorf("GET %s: %d is not the time of a working clock", path, answer.Time)
	}
	return time.Unix(int64(answer.Time), 0).UTC(), nil
}

// timeAt reads the clock of the node that answers at an endpoint.
func (h *Host) timeAt(ctx context.Context, at endpoint) (time.Time, error) {
	state, err := h.stateAt(ctx, at)
	switch {
	case err != nil:
		return time.Time{}, err
	case state.local == "":
		return time.Time{}, fmt.Errorf("the node at %s does not tell its name, so its clock can't be asked for", at.base.Host)
	}
	return h.nodeTime(ctx, state.local)
}
