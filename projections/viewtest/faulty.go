package viewtest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"writ/projections"
)

// ErrInjected is inside of every error that a [Faulty] makes up.
var ErrInjected = errors.New("injected fault")

// A Fault is a way in which a write goes wrong. The zero value is none.
type Fault uint8

const (
	// Lost: the caller gets an error and nothing was written.
	Lost Fault = iota + 1
	// DoneButFailed: it was written, the caller gets an error.
	DoneButFailed
)

// Faulty stands before a view and fails as programmed. The hooks are set
// before first use and may be called concurrently.
type Faulty struct {
	// OnWrite decides about the n-th commit or clear, from 1; nil: all work.
	OnWrite func(n int) Fault
	// OnRead decides about the n-th read, from 1; nil: all work.
	OnRead func(n int) error

	view projections.ViewStore

	mu            sync.Mutex // guards everything below
	writes, reads int
}

// NewFaulty wraps a view. Without hooks it changes nothing.
func NewFaulty(view projections.ViewStore) *Faulty { return &Faulty{view: view} }

// Get implements [projections.ViewStore].
func (f *Faulty) Get(ctx context.Context, key string) ([]byte, bool, error) {
	if err := f.read(); err != nil {
		return nil, false, err
	}
	return f.view.Get(ctx, key)
}

// Scan implements [projections.ViewStore].
func (f *Faulty) Scan(ctx context.Context, prefix string) iter.Seq2[projections.Entry, error] {
	return f.ScanFrom(ctx, prefix, "")
}

// ScanFrom implements [projections.ViewStore].
func (f *Faulty) ScanFrom(ctx context.Context, prefix, from string) iter.Seq2[projections.Entry, error] {
	if err := f.read(); err != nil {
		return func(yield func(projections.Entry, error) bool) { yield(projections.Entry{}, err) }
	}
	return f.view.ScanFrom(ctx, prefix, from)
}

// Commit implements [projections.ViewStore].
func (f *Faulty) Commit(ctx context.Context, b projections.Batch) error {
	return f.write(func() error { return f.view.Commit(ctx, b) })
}

// Clear implements [projections.ViewStore].
func (f *Faulty) Clear(ctx context.Context) error {
	return f.write(func() error { return f.view.Clear(ctx) })
}

func (f *Faulty) read() error {
	f.mu.Lock()
	f.reads++
	n := f.reads
	f.mu.Unlock()
	if f.OnRead == nil {
		return nil
	}
	if err := f.OnRead(n); err != nil {
		return fmt.Errorf("%w: read %d: %w", ErrInjected, n, err)
	}
	return nil
}

func (f *Faulty) write(do func() error) error {
	f.mu.Lock()
	f.writes++
	n := f.writes
	f.mu.Unlock()
	var fault Fault
	if f.OnWrite != nil {
		fault = f.OnWrite(n)
	}
	if fault == Lost {
		return fmt.Errorf("%w: write %d lost", ErrInjected, n)
	}
	if err := do(); err != nil {
		return err
	}
	if fault == DoneButFailed {
		return fmt.Errorf("%w: write %d done, but reported as failed", ErrInjected, n)
	}
	return nil
}
