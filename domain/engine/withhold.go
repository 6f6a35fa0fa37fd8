package engine

import (
	"context"
	"errors"
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

// superseded tells whether another instance has certainly taken over.
func (e *Engine) superseded(epoch uint64) bool {
	t := e.termOf(epoch)
	if t == nil {
		return true
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.running), e.cfg.AppendTimeout)
	defer cancel()
	var s *SupersededError
	return errors.As(t.lead.Holds(ctx), &s)
}
