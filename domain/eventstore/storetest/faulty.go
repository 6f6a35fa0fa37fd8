package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"writ/domain/eventstore"
)

// ErrInjected is inside of every error that a [Faulty] makes up. It is not
// definite: it says nothing about what is on record.
var ErrInjected = errors.New("injected fault")

// A Fault is a way in which an append goes wrong. The zero value is none.
type Fault uint8

const (
	// Lost: the caller gets an error and nothing was written.
	Lost Fault = iota + 1
	// DoneButFailed: the append was carried out, the caller gets an error.
	DoneButFailed
	// Late: the caller gets an error, and the append is carried out by the
	// next call of [Faulty.Deliver], unless it is overtaken.
	Late
)

// An AppendCall is an append as the hooks of a [Faulty] see it.
type AppendCall struct {
	N        int // of the appends made through this Faulty, from 1
	Stream   eventstore.StreamID
	Expected eventstore.Expected
	Events   []eventstore.Proposed // not to be changed
}

// A ReadCall is a read as [Faulty.OnRead] sees it.
type ReadCall struct {
	N      int                 // of the reads made through this Faulty, from 1
	Method string              // ReadStream, Head, ReadAll or Subscribe
	Stream eventstore.StreamID // of ReadStream and Head
}

// Faulty stands between a store and one process that uses it, and fails as
// programmed. A test that lets the process die calls [Faulty.Cut] and gives
// its successor a Faulty of its own over the same store.
//
// The hooks are set before first use; they may be called concurrently, run
// outside of all locks, and may call the store themselves or not come back
// (runtime.Goexit, panic).
type Faulty struct {
	// OnAppend decides what goes wrong with an append; nil: nothing does.
	OnAppend func(AppendCall) Fault
	// Before runs before an append gets to the store. If it does not come
	// back, nothing was written.
	Before func(AppendCall)
	// After runs when the store has answered, before the caller hears of it.
	// If it does not come back, the append is on record as err says.
	After func(call AppendCall, done eventstore.Appended, err error)
	// OnRead decides about a read: with an error, the caller gets so many
	// elements (or all, if there are fewer) and then an error that wraps this
	// one and ErrInjected.
	OnRead func(ReadCall) (elements int, err error)

	store eventstore.Store

	mu      sync.Mutex // guards everything below
	appends int
	reads   int
	cut     bool
	late    []AppendCall
	end     map[int]context.CancelCauseFunc // of the reads under way
}

// NewFaulty wraps a store. Without hooks it changes nothing.
func NewFaulty(store eventstore.Store) *Faulty {
	return &Faulty{store: store, end: make(map[int]context.CancelCauseFunc)}
}

// FailNth is an OnAppend that lets only the n-th append fail.
func FailNth(n int, fault Fault) func(AppendCall) Fault {
	return func(c AppendCall) Fault {
		if c.N != n {
			return 0
		}
		return fault
	}
}

// Cut severs the process from the store, as its death does: reads under way
// end with an error, and no later call gets through. What had reached the
// store stays there; appends that are late are still delivered by Deliver.
func (f *Faulty) Cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut = true
	for _, end := range f.end {
		end(errCut)
	}
}

var errCut = fmt.Errorf("%w: cut off from the store", ErrInjected)

// Heal lets the store be reached again after [Faulty.Cut]. Subscriptions that
// were cut off stay ended.
func (f *Faulty) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut = false
}

// Deliver carries out the appends that are late, in their order, and gives
// the store's answer to each.
func (f *Faulty) Deliver(ctx context.Context) []error {
	f.mu.Lock()
	late := f.late
	f.late = nil
	f.mu.Unlock()
	answers := make([]error, len(late))
	for i, c := range late {
		_, answers[i] = f.store.Append(ctx, c.Stream, c.Expected, c.Events...)
	}
	return answers
}

// LedgerID implements [eventstore.Store].
func (f *Faulty) LedgerID() eventstore.LedgerID { return f.store.LedgerID() }

// Append implements [eventstore.Appender].
func (f *Faulty) Append(ctx context.Context, stream eventstore.StreamID, expected eventstore.Expected, events ...eventstore.Proposed) (eventstore.Appended, error) {
	f.mu.Lock()
	f.appends++
	call := AppendCall{N: f.appends, Stream: stream, Expected: expected, Events: events}
	f.mu.Unlock()
	if f.Before != nil {
		f.Before(call)
	}
	var fault Fault
	if f.OnAppend != nil {
		fault = f.OnAppend(call)
	}
	done, err := f.append(ctx, call, fault)
	if f.After != nil {
		f.After(call, done, err)
	}
	if fault == DoneButFailed && err == nil {
		return eventstore.Appended{}, fmt.Errorf("append %s at %s: %w: done, but reported as failed", stream, expected, ErrInjected)
	}
	return done, err
}

// append carries a call out as far as the fault lets it.
func (f *Faulty) append(ctx context.Context, call AppendCall, fault Fault) (eventstore.Appended, error) {
	f.mu.Lock()
	cut := f.cut // looked at after Before, so that the hook can cut
	if fault == Late && !cut {
		f.late = append(f.late, call)
	}
	f.mu.Unlock()
	fail := func(why error) (eventstore.Appended, error) {
		return eventstore.Appended{}, fmt.Errorf("append %s at %s: %w", call.Stream, call.Expected, why)
	}
	switch {
	case cut:
		return fail(errCut)
	case fault == Lost:
		return fail(fmt.Errorf("%w: lost", ErrInjected))
	case fault == Late:
		return fail(fmt.Errorf("%w: late", ErrInjected))
	}
	return f.store.Append(ctx, call.Stream, call.Expected, call.Events...)
}
