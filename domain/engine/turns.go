package engine

import (
	"context"
	"sync"
)

// turns lets ops on one target run one after another, in the order in which
// they came, and bounds how many run at all.
type turns struct {
	slots chan struct{} // one for each op that may act at a time

	mu   sync.Mutex // guards line
	line map[string][]chan struct{}
}

func newTurns(parallel int) *turns {
	return &turns{slots: make(chan struct{}, parallel), line: make(map[string][]chan struct{})}
}

// take waits for the target and a slot; false if ctx ended first, and then
// nothing is held. Otherwise give must be called once.
func (t *turns) take(ctx context.Context, key string) bool {
	if ctx.Err() != nil { // asked first: select is fair
		return false
	}
	t.mu.Lock()
	mine := make(chan struct{})
	if len(t.line[key]) == 0 {
		close(mine)
	}
	t.line[key] = append(t.line[key], mine)
	t.mu.Unlock()

	select {
	case <-mine:
	case <-ctx.Done():
		t.leave(key, mine)
		return false
	}
	select {
	case t.slots <- struct{}{}:
		if ctx.Err() != nil {
			t.give(key)
			return false
		}
		return true
	case <-ctx.Done():
		t.leave(key, mine)
		return false
	}
}

// give ends a turn.
func (t *turns) give(key string) {
	<-t.slots
	t.mu.Lock()
	mine := t.line[key][0]
	t.mu.Unlock()
	t.leave(key, mine)
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
