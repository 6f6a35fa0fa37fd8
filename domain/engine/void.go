package engine

import (
	"context"
	"errors"
	"fmt"

	"writ/domain/op"
)

// Void takes a writ back before it runs: its nonce can never run from then on.
// It needs no document, so a nonce can be voided that was never seen. An op
// that is in flight or has ended is left as it is, and the answer says so. A
// nonce that is voided already answers Voided again.
func (e *Engine) Void(ctx context.Context, n op.Nonce, by, reason string) Answer {
	if !e.begin() {
		return Answer{Outcome: Unavailable, Nonce: n, Detail: "the service is stopping; the writ may still run"}
	}
	defer e.jobs.Done()
	ctx, cancel := e.whileRunning(ctx)
	defer cancel()
	for {
		o, err := LoadOp(ctx, e.cfg.Store, e.cfg.Store.LedgerID(), n)
		var corrupt *op.CorruptStreamError
		switch {
		case errors.As(err, &corrupt):
			return Answer{Outcome: Corrupt, Nonce: n, Detail: shown(n, err)}
		case err != nil:
			return Answer{Outcome: Unavailable, Nonce: n, Detail: "the ledger could not be read: " + shown(n, err) + "; the writ may still run"}
		case o.State != op.Absent && o.State != op.StateFailedClean:
			return AnswerFor(&o)
		}
		rec, after, err := o.Propose(&op.Voided{Header: e.voidHeader(o), Reason: text(reason), VoidedBy: brief(by)})
		if err != nil {
			return Answer{Outcome: Corrupt, Nonce: n, Detail: shown(n, err)}
		}
		switch done := AppendRecord(ctx, e.cfg.Store, n.Stream(), rec); done.Outcome {
		case AppendOK:
			e.cfg.Log.Info("writ voided", "nonce", n.Short(), "by", brief(by))
			return AnswerFor(&after)
		case AppendLost:
			// Somebody moved the op on, perhaps by running it: look again.
			if ctx.Err() == nil {
				continue
			}
			fallthrough
		case AppendRefused, AppendUnknown:
			return Answer{
				Outcome: Unavailable, Nonce: n, State: o.State,
				Detail: fmt.Sprintf("it is not certain that the writ is voided: %s; try again", shown(n, done.Err)),
			}
		}
	}
}

// voidHeader is what OpVoided says: of a nonce that was never seen, no class
// and no target are known.
func (e *Engine) voidHeader(o op.Op) op.Header {
	h := op.Header{
		Nonce: o.Nonce, Attempt: o.Attempt, OpID: o.OpID,
		Agent: e.cfg.Identity.Site.Agent, Instance: e.cfg.Identity.Instance, Epoch: e.epoch(),
		At: e.now().UTC(),
	}
	if o.Started != nil {
		h.Class, h.Target = o.Started.Class, o.Started.Target
	}
	if h.At.Before(o.Since) {
		h.At = o.Since
	}
	return h
}
