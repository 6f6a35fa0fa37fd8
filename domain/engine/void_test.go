package engine_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"writ/domain/engine"
	"writ/domain/eventstore/storetest"
	"writ/domain/gate"
	"writ/domain/op"
)

func TestVoid(t *testing.T) {
	ctx := context.Background()
	succeed := func(w *world, sub engine.Submission) { w.runToEnd(sub) }
	tests := map[string]struct {
		before func(w *world, sub engine.Submission)
		want   engine.Outcome
		events string
	}{
		"never seen": {func(*world, engine.Submission) {}, engine.Voided, "OpVoided"},
		"failed without effect": {func(w *world, sub engine.Submission) {
			w.host.onLaunch = func(*fakeHost, *op.Launching) (string, error) { return "", engine.Definite(errors.New("no")) }
			w.runToEnd(sub)
		}, engine.Voided, "OpStarted OpLaunching OpFailed OpVoided"},
		"voided before": {func(w *world, sub engine.Submission) {
			w.engine.Void(ctx, order(web3()).Nonce, "bob", "first")
		}, engine.Voided, "OpVoided"},
		"applied": {succeed, engine.Succeeded, "OpStarted OpLaunching OpTaskRunning OpSucceeded"},
		"in flight": {func(w *world, sub engine.Submission) {
			w.host.onLaunch = func(*fakeHost, *op.Launching) (string, error) { return "", errors.New("timeout") }
			w.runToEnd(sub)
		}, engine.InFlight, "OpStarted OpLaunching"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				d := order(web3())
				tt.before(w, signed(t, d))
				launched := w.host.launched()
				w.wantOutcome(w.engine.Void(ctx, d.Nonce, "alice", "ticket closed"), tt.want)
				w.wantTypes(d.Nonce, strings.Fields(tt.events)...)
				if tt.want != engine.Voided {
					return
				}
				got := w.runToEnd(signed(t, d))
				w.wantOutcome(got, engine.RefusedByGate)
				if got.Reason != gate.NonceSpent || w.host.launched() != launched {
					t.Errorf("delivered after it was voided: got %s, %d launches", got.Reason, w.host.launched()-launched)
				}
			})
		})
	}
}

// Of voiding a writ and running it, both at once, one wins and the other says
// so.
func TestVoidAgainstDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 50 {
			w := newWorld(t)
			d := order(web3())
			var wg sync.WaitGroup
			var ran, voided engine.Answer
			wg.Go(func() { ran = w.runToEnd(signed(t, d)) })
			wg.Go(func() { voided = w.engine.Void(context.Background(), d.Nonce, "alice", "changed my mind") })
			wg.Wait()
			effects := w.host.effects[d.Nonce]
			switch voided.Outcome { //nolint:exhaustive // voided or not
			case engine.Voided:
				if effects != 0 || ran.Outcome != engine.RefusedByGate {
					t.Fatalf("voided, yet it had %d effects and was answered %s", effects, ran.Outcome)
				}
			default:
				if effects != 1 || ran.Outcome != engine.Succeeded {
					t.Fatalf("not voided (%s), yet it had %d effects and was answered %s", voided.Outcome, effects, ran.Outcome)
				}
			}
			w.stop()
		}
	})
}

// An append of unknown outcome must not be told as voided, nor as not voided.
func TestVoidOfUnknownOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d := order(web3())
		failed := false
		w.store.OnAppend = func(c storetest.AppendCall) storetest.Fault {
			if failed || c.Events[0].Type != op.TypeVoided {
				return 0
			}
			failed = true
			return storetest.DoneButFailed
		}
		got := w.engine.Void(context.Background(), d.Nonce, "alice", "ticket closed")
		w.wantOutcome(got, engine.Unavailable)
		if strings.Contains(got.Detail, string(d.Nonce)) {
			t.Error("the answer shows the whole nonce")
		}
		w.wantOutcome(w.engine.Void(context.Background(), d.Nonce, "alice", "ticket closed"), engine.Voided)
		w.wantTypes(d.Nonce, op.TypeVoided)
	})
}
