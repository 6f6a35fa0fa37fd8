package projections

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Run follows the ledger as [Runner.Run] does, and carries out rebuilds. What
// can't be written is tried again until it can, or ctx ends.
func (s *Shelf) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	start := func(v *shelved) *feed {
		f := &feed{ended: make(chan error, 1)}
		var feeding context.Context
		feeding, f.cancel = context.WithCancel(ctx)
		if v.runner != nil {
			running.Go(func() { f.ended <- v.runner.Run(feeding) })
		} else {
			running.Go(func() { <-feeding.Done(); f.ended <- feeding.Err() })
		}
		return f
	}
	s.mu.Lock()
	serving, next := s.serving, s.next
	s.mu.Unlock()
	current := start(serving)
	if next == nil {
		// A crash right after a change left the old view behind, or it is empty.
		if err := s.persist(ctx, "clear the old view", s.clearOther); err != nil {
			return err
		}
	}
	for {
		if next == nil {
			select {
			case err := <-current.ended:
				return err
			case <-s.asked:
			}
			s.mu.Lock()
			next = s.shelve(s.plan.other())
			s.next = next
			s.mu.Unlock()
		}
		if err := s.persist(ctx, "begin to build the view again", s.begin); err != nil {
			return err
		}
		coming := start(next)
		caught := make(chan error, 1)
		running.Go(func() { caught <- next.runner.WaitCaughtUp(ctx) })
		select {
		case err := <-current.ended:
			return err
		case err := <-caught:
			if err != nil {
				return errors.Join(err, ctx.Err())
			}
		}
		if err := s.persist(ctx, "change over to the new view", s.changeOver); err != nil {
			return err
		}
		// Nobody writes to the old view any more, and once its readers have
		// gone nobody reads it. If the service dies before it is cleared, the
		// next start clears it.
		current.cancel()
		_ = <-current.ended
		serving.readers.Wait()
		if err := s.persist(ctx, "clear the old view", s.clearOther); err != nil {
			return err
		}
		current, serving, next = coming, next, nil
		select {
		case <-s.asked: // while it was being done
		default:
		}
	}
}

// A feed is a runner under way.
type feed struct {
	cancel context.CancelFunc
	ended  chan error
}

// begin clears the slot beside the one that serves and puts down that it is
// being built; if that stands there already, the building goes on.
func (s *Shelf) begin(ctx context.Context) error {
	s.mu.Lock()
	p := s.plan
	s.mu.Unlock()
	if p.Building && !p.Wanted {
		return nil
	}
	if err := s.slots.view(p.other()).Clear(ctx); err != nil {
		return err
	}
	p.Building, p.Wanted = true, false
	// Lost by a crash: the slot is cleared again at the next start. Saved
	// without the clearing: can't be, it was committed before.
	if err := s.slots.save(ctx, p); err != nil {
		return err
	}
	s.mu.Lock()
	s.plan = p
	s.mu.Unlock()
	s.log.InfoContext(ctx, "view is built again, the one there goes on serving")
	return nil
}

// changeOver makes the new view the one that serves. Lost by a crash: the old
// one serves again, the new one is nearly complete and goes on.
func (s *Shelf) changeOver(ctx context.Context) error {
	s.mu.Lock()
	p := plan{Serving: s.plan.other()}
	s.mu.Unlock()
	if err := s.slots.save(ctx, p); err != nil {
		return err
	}
	s.mu.Lock()
	s.plan, s.serving, s.next = p, s.next, nil
	close(s.changed)
	s.changed = make(chan struct{})
	s.mu.Unlock()
	s.log.InfoContext(ctx, "view was built again and serves now")
	return nil
}

// clearOther empties the slot that neither serves nor is being built.
func (s *Shelf) clearOther(ctx context.Context) error {
	s.mu.Lock()
	view := s.slots.view(s.plan.other())
	s.mu.Unlock()
	for _, err := range view.Scan(ctx, "") {
		if err != nil {
			return err
		}
		return view.Clear(ctx)
	}
	return nil
}

// persist does something that must be done, as often as it takes.
func (s *Shelf) persist(ctx context.Context, what string, do func(context.Context) error) error {
	for pause := firstBackoff; ; pause = min(2*pause, maxBackoff) {
		err := do(ctx)
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		s.log.WarnContext(ctx, what+" failed, trying again", "err", err, "pause", pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
