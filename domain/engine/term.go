package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// A term is a time during which this instance leads: it claims, launches and
// recovers. Every op that it claims carries the term's epoch, and is launched
// in this term or not at all.
type term struct {
	lead     *Lead
	ctx      context.Context //nolint:containedctx // the life of the term
	end      context.CancelFunc
	surveyed chan struct{} // closed when what was in flight at its beginning is taken up
	checked  chan struct{} // closed when the guard has looked for the first time
}

var errOldLedger = errors.New("over an old copy nobody leads")

const notLeading = "another instance leads: only that one claims and launches"

// leadOn takes over when nobody else leads, leads until somebody else does, and
// so on, until the engine stops.
func (e *Engine) leadOn() {
	for {
		seen, vacant := e.awaitVacancy()
		if !vacant {
			return
		}
		t := e.takeOver(seen)
		if t == nil {
			if e.stopping.Err() != nil || e.oldLedger() || e.cfg.Lease == 0 {
				return // until the service is started again
			}
			continue // somebody else was faster
		}
		e.serveTerm(t)
		if e.cfg.Lease == 0 {
			return // nobody else was to use the store
		}
	}
}

// takeOver begins a term, trying until it is certain. Nil: the engine stops, the
// ledger is an old copy, or another instance has taken over since the one last
// seen.
//
// An append of unknown outcome is no term. If it is on record all the same, the
// next try finds it, and takes over from there.
func (e *Engine) takeOver(seen uint64) *term {
	for pause := e.cfg.Pace.AppendRetry; ; pause = min(2*pause, e.cfg.Pace.AppendRetryMax) {
		lead, err := e.tryTakeOver(seen)
		var overtaken *SupersededError
		switch {
		case err == nil:
			return e.beginTerm(lead)
		case errors.Is(err, errOldLedger):
			return nil
		case errors.As(err, &overtaken):
			if overtaken.Instance != e.cfg.Identity.Instance {
				return nil
			}
			// An append of ours whose outcome was unknown is on record.
			seen = overtaken.Epoch
			continue
		}
		if e.stopping.Err() == nil {
			e.cfg.Log.Error("this instance could not take over, trying again; nothing is launched until it can", "err", err)
		}
		if e.cfg.Clock.Wait(e.stopping, pause) != nil {
			return nil
		}
	}
}

func (e *Engine) tryTakeOver(seen uint64) (*Lead, error) {
	// Before the first append of ours: what this instance adds must not hide
	// what is missing, nor be dated by a clock that is wrong.
	if err := e.examine(e.stopping); err != nil {
		return nil, err
	}
	if e.oldLedger() {
		return nil, errOldLedger
	}
	if err := e.clockIsRight(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(e.stopping, e.cfg.AppendTimeout)
	defer cancel()
	who := e.cfg.Identity
	if e.cfg.Lease == 0 {
		return TakeOver(ctx, e.cfg.Store, who, e.cfg.Clock)
	}
	return TakeOverFrom(ctx, e.cfg.Store, who, e.cfg.Clock, seen)
}

// oldLedger tells whether this instance must not lead, over an old copy or a
// store that was closed. Those who wait for it to lead are woken.
func (e *Engine) oldLedger() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	old := e.halts[haltOldLedger] != nil
	if old && !e.standing {
		e.standing = true
		close(e.led)
	}
	return old
}

// clockPatience is how long a take-over waits for the host's time: a host that is
// away must not hold up the answers to those who ask.
const clockPatience = 2 * time.Second

// clockIsRight asks the host for its time, if that can be had. A take-over that
// is dated ahead would stop launching for as long as it was ahead.
func (e *Engine) clockIsRight() error {
	ctx, cancel := context.WithTimeout(e.stopping, clockPatience)
	defer cancel()
	if err := e.lookAtClock(ctx); err != nil {
		return nil // it is asked again before anything is launched
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.halts[haltClockSkew]
}

// beginTerm makes ready to lead, for as long as that takes. Nil: another
// instance has taken over meanwhile, or the engine stops.
func (e *Engine) beginTerm(lead *Lead) *term {
	t := &term{lead: lead, checked: make(chan struct{})}
	t.ctx, t.end = context.WithCancel(e.stopping)
	for e.cfg.OnLead != nil {
		var superseded *SupersededError
		if errors.As(lead.Holds(t.ctx), &superseded) || t.ctx.Err() != nil {
			t.end()
			if superseded != nil && e.cfg.Lease == 0 {
				e.haltAlone(superseded)
			}
			return nil
		}
		err := e.cfg.OnLead(t.ctx)
		if err == nil {
			break
		}
		e.cfg.Log.Error("this instance leads, but is not ready to; nothing is launched until it is", "err", err)
		// No sign of life meanwhile: another one may be ready.
		_ = e.cfg.Clock.Wait(t.ctx, e.cfg.RecoverEvery)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	t.surveyed = e.surveyed
	e.term, e.standing = t, false
	close(e.led)
	e.cfg.Log.Info("this instance leads", "epoch", lead.Epoch())
	return t
}

// serveTerm leads until the term is over.
func (e *Engine) serveTerm(t *term) {
	var parts sync.WaitGroup
	parts.Go(func() { e.recoverAll(t) })
	parts.Go(func() { e.watch(t) })
	superseded := e.keepLead(t)
	t.end()
	if superseded != nil {
		e.mu.Lock()
		e.term, e.standing = nil, true
		e.surveyed, e.led = make(chan struct{}), make(chan struct{})
		e.mu.Unlock()
		if e.cfg.Lease == 0 {
			e.haltAlone(superseded)
		} else {
			e.cfg.Log.Warn("this instance has stepped down and stands by", "err", superseded)
		}
	}
	parts.Wait()
}

// haltAlone stops launching by an instance that was to have its store alone, and
// has not: to take it back would be a fight without an end.
func (e *Engine) haltAlone(by *SupersededError) {
	e.halt(haltSuperseded, fmt.Errorf("%w, though nobody else should be able to use this ledger; find out who does", by))
}

// keepLead gives signs of life, as long as this instance leads. It returns who
// has taken over, nil if the engine stops.
func (e *Engine) keepLead(t *term) *SupersededError {
	every := e.cfg.RecoverEvery
	if e.cfg.Lease > 0 {
		every = e.cfg.Lease / 5
	}
	for e.stopping.Err() == nil {
		err := t.lead.Holds(e.stopping)
		var superseded *SupersededError
		if errors.As(err, &superseded) {
			return superseded
		}
		if e.cfg.Lease > 0 && err == nil {
			if err := e.beat(e.stopping, t, false); err != nil && e.stopping.Err() == nil {
				e.cfg.Log.Warn("no sign of life could be given; another instance may take over", "err", err)
			}
		}
		if t.ctx.Err() != nil || e.cfg.Clock.Wait(t.ctx, every) != nil {
			// Whoever ended the term knows of a successor: the next look finds
			// it, or else the one after.
			_ = e.cfg.Clock.Wait(e.stopping, e.cfg.Pace.AppendRetry)
		}
	}
	return nil
}

// AwaitLead waits until this instance leads. The error says why it does not:
// another one does, launching is stopped, or ctx has ended.
func (e *Engine) AwaitLead(ctx context.Context) error {
	if _, why := e.leading(ctx); why != "" {
		return errors.New(why)
	}
	return nil
}

// leading gives the present term. While this instance is about to take over it
// waits for that; while another one leads it says so.
func (e *Engine) leading(ctx context.Context) (t *term, why string) {
	for {
		e.mu.Lock()
		t, led, standing, stirred := e.term, e.led, e.standing, e.stirred
		e.mu.Unlock()
		if t != nil {
			return t, ""
		}
		if err := e.Halted(); err != nil {
			return nil, "launching is stopped: " + err.Error()
		}
		if standing {
			return nil, notLeading
		}
		select {
		case <-led:
		case <-stirred:
		case <-ctx.Done():
			return nil, "this instance is still starting"
		}
	}
}

// termOf gives the term of an epoch if it is the present one.
func (e *Engine) termOf(epoch uint64) *term {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.term == nil || e.term.lead.Epoch() != epoch {
		return nil
	}
	return e.term
}

// surveyedTerm gives the present term once what was in flight at its beginning
// is taken up.
func (e *Engine) surveyedTerm() *term {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.term == nil {
		return nil
	}
	select {
	case <-e.term.surveyed:
		return e.term
	default:
		return nil
	}
}

// epoch is that of the present term, 0 without one.
func (e *Engine) epoch() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.term == nil {
		return 0
	}
	return e.term.lead.Epoch()
}

// identity is who writes events in a term.
func (e *Engine) identity(t *term) Identity {
	who := e.cfg.Identity
	who.Epoch = t.lead.Epoch()
	return who
}

// Standing tells what an instance is there for at the moment.
type Standing struct {
	// Leads: it claims, launches and recovers, under Epoch.
	Leads bool
	Epoch uint64
	// Halted says why nothing is launched; nil if it is.
	Halted error
}

// Standing gives what this instance is there for at the moment.
func (e *Engine) Standing() Standing {
	epoch := e.epoch()
	return Standing{Leads: epoch > 0, Epoch: epoch, Halted: e.Halted()}
}
