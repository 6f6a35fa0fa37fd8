package engine

import (
	"context"
	"maps"
	"slices"
	"sync"

	"writ/domain/op"
)

// turns lets ops on one target run one after another, in the order in which
// they came, and bounds how many run at all.
type turns struct {
	slots chan struct{} // one for each op that may act at a time

	mu      sync.Mutex // guards what follows
	line    map[string][]chan struct{}
	blocked map[string]map[op.Nonce]string // targets that no op may have: by which ops, and why
}

func newTurns(parallel int) *turns {
	return &turns{slots: make(chan struct{}, parallel), line: make(map[string][]chan struct{}), blocked: make(map[string]map[op.Nonce]string)}
}

// A turn is a target that is held.
type turn struct {
	key  string
	mine chan struct{}
	slot bool
}

// take waits for the target and a slot; queued is called once it stands in
// line. It gives nil if ctx ended first or the target is blocked, and then
// nothing is held. Otherwise give must be called once.
func (t *turns) take(ctx context.Context, key string, queued func()) (*turn, string) {
	held := t.hold(ctx, key, queued)
	if held == nil {
		return nil, ""
	}
	if why := t.whyBlocked(key); why != "" {
		t.give(held)
		return nil, why
	}
	select {
	case t.slots <- struct{}{}:
		held.slot = true
	case <-ctx.Done():
		t.give(held)
		return nil, ""
	}
	// Asked once more, as both select and the wait are fair: what stops or
	// blocks must not lose to chance.
	if ctx.Err() != nil {
		t.give(held)
		return nil, ""
	}
	if why := t.whyBlocked(key); why != "" {
		t.give(held)
		return nil, why
	}
	return held, ""
}

// hold waits for the target alone, blocked or not: for whoever is to settle
// what blocks it.
func (t *turns) hold(ctx context.Context, key string, queued func()) *turn {
	if ctx.Err() != nil { // asked first: select is fair
		return nil
	}
	t.mu.Lock()
	mine := make(chan struct{})
	if len(t.line[key]) == 0 {
		close(mine)
	}
	t.line[key] = append(t.line[key], mine)
	t.mu.Unlock()
	queued()
	select {
	case <-mine:
	case <-ctx.Done():
	}
	if ctx.Err() != nil { // and asked last
		t.leave(key, mine)
		return nil
	}
	return &turn{key: key, mine: mine}
}

// give ends a turn.
func (t *turns) give(held *turn) {
	if held.slot {
		<-t.slots
	}
	t.leave(held.key, held.mine)
}

// block keeps a target from all who would act on it, for the sake of one op.
func (t *turns) block(key string, n op.Nonce, why string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.blocked[key] == nil {
		t.blocked[key] = make(map[op.Nonce]string)
	}
	t.blocked[key][n] = why
}

// unblock takes back what was blocked for the sake of one op.
func (t *turns) unblock(key string, n op.Nonce) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if delete(t.blocked[key], n); len(t.blocked[key]) == 0 {
		delete(t.blocked, key)
	}
}

func (t *turns) whyBlocked(key string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	// Of several the first by its nonce: the reason is put on record, and is the
	// same whenever the same has happened.
	for _, n := range slices.Sorted(maps.Keys(t.blocked[key])) {
		return t.blocked[key][n]
	}
	return ""
}

// leave takes a waiter, or whoever is at the front, out of the line and wakes
// the next.
func (t *turns) leave(key string, mine chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	line := t.line[key]
	for i, c := range line {
		if c != mine {
			continue
		}
		line = append(line[:i:i], line[i+1:]...)
		if i == 0 && len(line) > 0 {
			close(line[0])
		}
		break
	}
	if len(line) == 0 {
		delete(t.line, key)
		return
	}
	t.line[key] = line
}
