package engine

import (
	"context"
	"errors"
	"fmt"
)

// withhold says why a request that is announced must not be sent after all.
//
// If another instance takes over right after this line, it finds the announced
// op and fences it: either the fence comes first, and the host refuses the
// request, or the request does, and the host has its task to be found.
func (e *Engine) withhold(epoch uint64) string {
	if e.stopping.Err() != nil {
		return "the service is stopping"
	}
	if err := e.Halted(); err != nil {
		return "launching is stopped: " + err.Error()
	}
	t := e.termOf(epoch)
	if t == nil {
		return "another instance launches"
	}
	err := t.lead.Holds(e.appends.begin())
	var superseded *SupersededError
	switch {
	case errors.As(err, &superseded):
		t.end() // keepLead finds out by itself, and now at once
		return "another instance launches: " + err.Error()
	case err != nil:
		return "it can't be found out whether this instance still leads: " + text(err.Error())
	}
	return ""
}

// metOtherCopy stops launching because the host remembers an attempt of ours
// that is not: it is of another copy of the ledger, or of an instance that has
// taken over from this one and has fenced it. Which of them the ledger tells: it
// is asked until it does, or the engine stops, and until then nothing is
// launched for that.
func (e *Engine) metOtherCopy(epoch uint64, why error) {
	for pause := e.cfg.Pace.AppendRetry; !e.judgeOtherCopy(epoch, why); pause = min(2*pause, e.cfg.Pace.AppendRetryMax) {
		if e.cfg.Clock.Wait(e.stopping, pause) != nil {
			return
		}
	}
}

// judgeOtherCopy tells whether it could be found out who has made the attempt,
// and stops launching unless that was a successor.
func (e *Engine) judgeOtherCopy(epoch uint64, why error) bool {
	over, err := e.superseded(epoch)
	switch {
	case over:
		e.lift(haltDisputed)
	case err == nil:
		// This one first: nothing may be launched between the two.
		e.halt(haltOtherCopy, why)
		e.lift(haltDisputed)
	default:
		e.halt(haltDisputed, fmt.Errorf("%w; unless it is an instance that has taken over, which can't be found out yet: %w", why, err))
		return false
	}
	return true
}

// superseded tells whether another instance has taken over; an error, that this
// can't be found out.
func (e *Engine) superseded(epoch uint64) (bool, error) {
	t := e.termOf(epoch)
	if t == nil {
		return true, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.running), e.cfg.AppendTimeout)
	defer cancel()
	holds := t.lead.Holds(ctx)
	var s *SupersededError
	if errors.As(holds, &s) {
		return true, nil
	}
	return false, holds
}
