package storetest

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"writ/domain/eventstore"
)

// Head implements [eventstore.Reader].
func (f *Faulty) Head(ctx context.Context, stream eventstore.StreamID) (eventstore.Recorded, error) {
	ctx, read := f.begin(ctx, "Head", stream)
	defer read.done()
	if read.err != nil {
		return eventstore.Recorded{}, read.err
	}
	e, err := f.store.Head(ctx, stream)
	return e, read.say(ctx, err)
}

// ReadStream implements [eventstore.Reader].
func (f *Faulty) ReadStream(ctx context.Context, stream eventstore.StreamID, from eventstore.Revision) iter.Seq2[eventstore.Recorded, error] {
	return through(ctx, f, "ReadStream", stream, func(ctx context.Context) iter.Seq2[eventstore.Recorded, error] {
		return f.store.ReadStream(ctx, stream, from)
	})
}

// ReadAll implements [eventstore.Reader].
func (f *Faulty) ReadAll(ctx context.Context, after eventstore.Cursor, filter eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	// Called here and not when it is ranged over: the call fixes the end.
	all := f.store.ReadAll(ctx, after, filter)
	return through(ctx, f, "ReadAll", "", func(context.Context) iter.Seq2[eventstore.Recorded, error] { return all })
}

// Subscribe implements [eventstore.Subscriber].
func (f *Faulty) Subscribe(ctx context.Context, after eventstore.Cursor, filter eventstore.Filter) iter.Seq2[eventstore.Notice, error] {
	return through(ctx, f, "Subscribe", "", func(ctx context.Context) iter.Seq2[eventstore.Notice, error] {
		return f.store.Subscribe(ctx, after, filter)
	})
}

// reading is a read under way.
type reading struct {
	left int   // elements before the fault
	err  error // the fault; nil for none
	done func()
}

func (f *Faulty) begin(ctx context.Context, method string, stream eventstore.StreamID) (context.Context, *reading) {
	f.mu.Lock()
	f.reads++
	n, cut := f.reads, f.cut
	ctx, cancel := context.WithCancelCause(ctx)
	f.end[n] = cancel
	f.mu.Unlock()
	r := &reading{done: func() {
		cancel(nil)
		f.mu.Lock()
		delete(f.end, n)
		f.mu.Unlock()
	}}
	if cut {
		r.err = fmt.Errorf("%s %s: %w", method, stream, errCut)
		return ctx, r
	}
	if f.OnRead != nil {
		left, err := f.OnRead(ReadCall{N: n, Method: method, Stream: stream})
		if err != nil {
			r.left, r.err = left, fmt.Errorf("%s %s: %w: %w", method, stream, ErrInjected, err)
		}
	}
	return ctx, r
}

// say turns the error of a read that Cut ended into the one to be shown.
func (r *reading) say(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errCut) {
		return errCut
	}
	return err
}

// through passes a sequence on until its fault, the cut, or its end.
func through[E any](ctx context.Context, f *Faulty, method string, stream eventstore.StreamID, open func(context.Context) iter.Seq2[E, error]) iter.Seq2[E, error] {
	return func(yield func(E, error) bool) {
		ctx, read := f.begin(ctx, method, stream)
		defer read.done()
		var none E
		if read.err == nil || read.left > 0 {
			for e, err := range open(ctx) {
				if err == nil {
					err = context.Cause(ctx) // ended by Cut, or by the caller
				}
				if err != nil {
					yield(none, read.say(ctx, err))
					return
				}
				if !yield(e, nil) {
					return
				}
				if read.left--; read.left == 0 && read.err != nil {
					break
				}
			}
		}
		if read.err != nil {
			yield(none, read.err)
		}
	}
}
