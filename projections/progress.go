package projections

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"writ/domain/eventstore"
)

// A Lag says how far a view is.
type Lag struct {
	// Applied is how far the ledger is in the view.
	Applied eventstore.Cursor
	// CaughtUp is true once the end of the ledger was reached, for as long as
	// following it works.
	CaughtUp bool
	// RecordedAt is when the newest event applied by this runner was put on
	// record, by the store's clock; zero if there was none.
	RecordedAt time.Time
	// Err is why following the ledger does not work at the moment, or has
	// ended; nil if it works.
	Err error
}

// A progress is a Lag that can be waited for.
type progress struct {
	mu      sync.Mutex // guards everything below
	lag     Lag
	ended   bool
	changed chan struct{} // closed and replaced by each change
}

// Lag gives how far the view is now.
func (r *Runner) Lag() Lag {
	r.progress.mu.Lock()
	defer r.progress.mu.Unlock()
	return r.progress.lag
}

// WaitFor waits until the view holds all up to a position, which must be that
// of an event that passes the projection's filter: how far the ledger was
// searched beyond the last of those is not always known. It gives an error if
// ctx ends before, or if Run has ended; not if Run has yet to begin.
func (r *Runner) WaitFor(ctx context.Context, p eventstore.Position) error {
	return r.wait(ctx, fmt.Sprintf("position %d", p), func(l Lag) bool {
		at, ok := l.Applied.Position()
		return ok && at >= p
	})
}

// WaitCaughtUp waits until the view holds all that was on record when it got
// there. It fails as WaitFor does.
func (r *Runner) WaitCaughtUp(ctx context.Context) error {
	return r.wait(ctx, "the end of the ledger", func(l Lag) bool { return l.CaughtUp })
}

func (r *Runner) wait(ctx context.Context, what string, reached func(Lag) bool) error {
	for {
		r.progress.mu.Lock()
		lag, ended, changed := r.progress.lag, r.progress.ended, r.progress.changed
		r.progress.mu.Unlock()
		switch {
		case reached(lag):
			return nil
		case ended:
			return fmt.Errorf("view %s: wait for %s: it is not kept up to date any more: %w", r.projection.Name(), what, lag.Err)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("view %s: wait for %s: %w", r.projection.Name(), what, errors.Join(ctx.Err(), lag.Err))
		}
	}
}

func (p *progress) change(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *progress) begin() { p.change(func() { p.ended, p.lag.Err = false, nil }) }

// opened tells what the view holds from before.
func (p *progress) opened(c checkpoint) {
	p.change(func() { p.lag.Applied, p.lag.CaughtUp = c.cursor(), false })
}

func (p *progress) committed(b batch, live bool) {
	p.change(func() {
		p.lag.Applied, p.lag.CaughtUp, p.lag.Err = b.checkpoint.cursor(), live, nil
		if !b.recorded.IsZero() {
			p.lag.RecordedAt = b.recorded
		}
	})
}

func (p *progress) failing(err error) {
	p.change(func() { p.lag.CaughtUp, p.lag.Err = false, err })
}

func (p *progress) end(err error) {
	p.change(func() { p.ended, p.lag.CaughtUp, p.lag.Err = true, false, err })
}
