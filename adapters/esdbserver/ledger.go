package esdbserver

import (
	"context"
	"iter"
	"sync/atomic"
	"time"

	"writ/domain/eventstore"
)

// A ledger is the store as this protocol asks it: with an end that can be asked
// for, and backwards too. The port knows neither; both are made of forward
// reads.
type ledger struct {
	store eventstore.Store
	now   func() time.Time

	known atomic.Uint64 // a position of an event, or 0; the ledger's end is there or beyond
}

// end gives the position of the newest event, 0 if there is none. It sees
// every append that was acknowledged before the call.
//
// It looks for the place behind which there is nothing: forward from the last
// end it knew by steps that double, then by halving. Next to that end, where
// all calls but the first start, that is one look-up.
func (l *ledger) end(ctx context.Context) (eventstore.Position, error) {
	at := eventstore.Position(l.known.Load())
	// An event stands at `at`, unless it is 0; none stands beyond `none`.
	none := eventstore.Position(maxNumber)
	for step := eventstore.Position(1); ; step *= 2 {
		e, ok, err := l.next(ctx, at)
		if err != nil {
			return 0, err
		}
		if !ok {
			none = at
			break
		}
		at = e
		if step > maxNumber/4 || at > maxNumber-step {
			break
		}
		e, ok, err = l.next(ctx, at+step)
		if err != nil {
			return 0, err
		}
		if !ok {
			none = at + step
			break
		}
		at = e
	}
	for at < none {
		middle := at + (none-at)/2
		e, ok, err := l.next(ctx, middle)
		switch {
		case err != nil:
			return 0, err
		case ok:
			at = e
		default:
			none = middle
		}
	}
	l.learn(at)
	return at, nil
}

// learn remembers that there is an event at a position.
func (l *ledger) learn(at eventstore.Position) {
	for {
		known := l.known.Load()
		if uint64(at) <= known || l.known.CompareAndSwap(known, uint64(at)) {
			return
		}
	}
}

// next gives the position of the first event behind another position.
func (l *ledger) next(ctx context.Context, after eventstore.Position) (eventstore.Position, bool, error) {
	for e, err := range l.store.ReadAll(ctx, cursor(after), eventstore.Filter{}) {
		return e.Position, err == nil, err
	}
	return 0, false, nil
}

// cursor is the place behind a position, where 0 stands for the beginning.
func cursor(p eventstore.Position) eventstore.Cursor {
	if p == 0 {
		return eventstore.Cursor{}
	}
	return eventstore.After(p)
}

// Of a backward read so many events are held at once.
const backwardPage = 512

// before gives the events that stand before a position and pass the filter,
// the newest first. Windows of positions are read forwards, one behind the
// other; how wide they are follows from how many events the last one had.
func (l *ledger) before(ctx context.Context, before eventstore.Position, filter eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		width := eventstore.Position(64)
		for before > 1 {
			low := eventstore.Position(0) // the window is (low, before)
			if before > width {
				low = before - width
			}
			page, full, err := l.window(ctx, low, before, filter)
			if err != nil {
				yield(eventstore.Recorded{}, err)
				return
			}
			for i := len(page) - 1; i >= 0; i-- {
				if !yield(page[i], nil) {
					return
				}
			}
			switch {
			case full: // there are older ones in the window
				width = max(64, before-page[0].Position)
				before = page[0].Position
				continue
			case len(page) < backwardPage/4 && width < maxNumber/2:
				width *= 2
			}
			before = low + 1
		}
	}
}

// window gives the newest events of a window, at most a page, in order, and
// whether there are more.
func (l *ledger) window(ctx context.Context, low, before eventstore.Position, filter eventstore.Filter) (page []eventstore.Recorded, full bool, err error) {
	for e, err := range l.store.ReadAll(ctx, cursor(low), filter) {
		if err != nil {
			return nil, false, err
		}
		if e.Position >= before {
			break
		}
		if len(page) == 2*backwardPage {
			page, full = append(page[:0], page[backwardPage:]...), true
		}
		page = append(page, e)
	}
	if extra := len(page) - backwardPage; extra > 0 {
		page, full = page[extra:], true
	}
	return page, full, nil
}
