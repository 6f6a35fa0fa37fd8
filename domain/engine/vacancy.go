package engine

import (
	"context"
	"fmt"
	"time"

	"writ/domain/op"
)

// awaitVacancy waits until nobody leads, and gives the epoch of who did last.
// It is false once the engine stops, or the ledger is found to be an old copy.
//
// Nobody is silent because this instance can't hear: a ledger that can't be
// read lets no time pass. And taking over too early harms nobody: whoever led
// before loses its appends, and its requests are fenced.
func (e *Engine) awaitVacancy() (seen uint64, vacant bool) {
	if e.cfg.Lease == 0 {
		return 0, true
	}
	var heard pulse
	var examined time.Time
	since := e.cfg.Clock.Now()
	for first := true; ; first = false {
		// Now and then, so that a take-over has little left to read.
		if now := e.cfg.Clock.Now(); !now.Before(examined.Add(e.cfg.Guard.Every)) {
			examined = now
			if err := e.examine(e.stopping); err != nil && e.stopping.Err() == nil {
				e.cfg.Log.Warn("the ledger could not be compared with its high-water mark, trying again", "err", err)
			}
			if e.oldLedger() {
				return 0, false
			}
			e.keepMark()
		}
		now, err := e.feelPulse()
		switch {
		case err != nil:
			e.cfg.Log.Warn("it can't be found out whether another instance leads; this one stands by", "err", err)
			since = e.cfg.Clock.Now()
		case now.epoch == 0 || now.left:
			return now.epoch, true
		case first || now != heard:
			heard, since = now, e.cfg.Clock.Now()
		case e.cfg.Clock.Now().Sub(since) >= e.cfg.Lease:
			e.cfg.Log.Warn("the instance that leads was not heard of for the whole lease; taking over", "epoch", now.epoch, "lease", e.cfg.Lease)
			return now.epoch, true
		}
		if e.cfg.Clock.Wait(e.stopping, e.cfg.Lease/5) != nil {
			return 0, false
		}
	}
}

// A pulse is what there is to be heard of who leads.
type pulse struct {
	epoch uint64 // 0 if nobody ever led
	beat  uint64 // revisions in the stream of signs of life
	left  bool   // it has said that it leaves
}

func (e *Engine) feelPulse() (pulse, error) {
	ctx, cancel := context.WithTimeout(e.stopping, e.cfg.AppendTimeout)
	defer cancel()
	agent := e.cfg.Identity.Site.Agent
	took, ok, err := newJournal(e.cfg.Store, op.AgentStream(agent)).head(ctx)
	if err != nil || !ok {
		return pulse{}, err
	}
	p := pulse{epoch: took.Revision + 1}
	beat, ok, err := newJournal(e.cfg.Store, op.AliveStream(agent)).head(ctx)
	if err != nil || !ok {
		return p, err
	}
	var alive op.Alive
	if err := op.Unmarshal(beat.Data, &alive); err != nil {
		return p, fmt.Errorf("stream %s: %w", op.AliveStream(agent), err)
	}
	p.beat, p.left = beat.Revision+1, alive.Leaving && alive.Epoch == p.epoch
	return p, nil
}

func (e *Engine) beat(ctx context.Context, t *term, leaving bool) error {
	// One that hangs must not keep the next from being given within the lease.
	ctx, cancel := context.WithTimeout(ctx, min(e.cfg.AppendTimeout, e.cfg.Lease/5))
	defer cancel()
	agent := e.cfg.Identity.Site.Agent
	_, err := newJournal(e.cfg.Store, op.AliveStream(agent)).append(ctx, agent, op.TypeAlive, func(uint64) ([]byte, error) {
		return op.Marshal(op.Alive{
			Agent: agent, Instance: e.cfg.Identity.Instance, Epoch: t.lead.Epoch(), At: e.now().UTC(), Leaving: leaving,
		})
	})
	return err
}

// bow tells those who stand by that they need not wait for the lease to end.
// Nothing is lost if that can't be said.
func (e *Engine) bow(ctx context.Context) {
	e.mu.Lock()
	t := e.term
	e.mu.Unlock()
	if t != nil && e.cfg.Lease > 0 {
		if err := e.beat(ctx, t, true); err != nil {
			e.cfg.Log.Warn("those who stand by could not be told; they take over when the lease ends", "err", err)
		}
	}
}
