package viewtest

import (
	"bytes"
	"context"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"writ/projections"
)

// Memory is a view that lives as long as the process. It starts no goroutine
// and can be used inside of a testing/synctest bubble.
type Memory struct {
	mu      sync.Mutex // guards everything below
	entries map[string][]byte
	commits int
}

// NewMemory makes an empty view.
func NewMemory() *Memory { return &Memory{entries: make(map[string][]byte)} }

// Commits is the number of commits and clears made so far.
func (m *Memory) Commits() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.commits
}

// Get implements [projections.ViewStore].
func (m *Memory) Get(ctx context.Context, key string) ([]byte, bool, error) {
	if err := ctx.Err(); err != nil {
		return nil, false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.entries[key]
	return bytes.Clone(v), ok, nil
}

// Scan implements [projections.ViewStore].
func (m *Memory) Scan(ctx context.Context, prefix string) iter.Seq2[projections.Entry, error] {
	return m.ScanFrom(ctx, prefix, "")
}

// ScanFrom implements [projections.ViewStore].
func (m *Memory) ScanFrom(ctx context.Context, prefix, from string) iter.Seq2[projections.Entry, error] {
	return func(yield func(projections.Entry, error) bool) {
		m.mu.Lock()
		all := maps.Clone(m.entries)
		m.mu.Unlock()
		for _, key := range slices.Sorted(maps.Keys(all)) {
			if err := ctx.Err(); err != nil {
				yield(projections.Entry{}, err)
				return
			}
			if strings.HasPrefix(key, prefix) && key >= from && !yield(projections.Entry{Key: key, Value: bytes.Clone(all[key])}, nil) {
				return
			}
		}
	}
}

// Commit implements [projections.ViewStore].
func (m *Memory) Commit(ctx context.Context, b projections.Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range b.Set {
		m.entries[e.Key] = append([]byte{}, e.Value...)
	}
	for _, key := range b.Delete {
		delete(m.entries, key)
	}
	m.commits++
	return nil
}

// Clear implements [projections.ViewStore].
func (m *Memory) Clear(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.entries)
	m.commits++
	return nil
}
