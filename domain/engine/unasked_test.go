package engine_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"writ/domain/engine"
	"writ/domain/eventstore"
	"writ/domain/op"
)

// A ledger that was rolled back together with its mark may have ops as claimed
// that were launched since. As long as the host has not been asked what it
// remembers, nobody says that they had no effect.
func TestRecoveryWaitsUntilTheHostWasAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newLedger(t)
		d := order(web3())
		w.wantOutcome(w.runToEnd(signed(t, d)), engine.Succeeded)
		pass(time.Minute)
		w.stop()
		keep, n := 0, 0
		for rec, err := range w.memory.ReadAll(context.Background(), eventstore.Cursor{}, eventstore.Filter{}) {
			if err != nil {
				t.Fatal(err)
			}
			if n++; rec.Type == op.TypeStarted {
				keep, f.mark.Position, f.mark.Event = n, rec.Position, rec.ID
			}
		}
		away := make(chan struct{})
		foreign := func(context.Context) ([]string, error) {
			select {
			case <-away:
				return nil, nil
			default:
				return nil, errors.New("no route to host")
			}
		}
		w.over(t, copyOf(t, w.memory, keep), recovering(w), func(c *engine.Config) { c.Guard = engine.Guard{Witness: f, Foreign: foreign} })
		pass(time.Minute)
		if o := w.op(d.Nonce); o.State != op.StateStarted {
			t.Errorf("the host was not asked yet: got %s, want started", o.State)
		}
		close(away)
		pass(time.Minute)
		if o := w.op(d.Nonce); o.State != op.StateFailedClean {
			t.Errorf("the host remembers nothing more: got %s, want failed without effect", o.State)
		}
	})
}
