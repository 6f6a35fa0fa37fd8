package engine_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"writ/domain/engine"
	"writ/domain/op"
)

// A target that is half done is kept from others for as long as something of
// the attempt may be at work on it, and then the op ends.
func TestHalfDoneWhileSomethingIsAtWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.stop()
		w.start(recovering(w))
		w.host.onLaunch = func(h *fakeHost, l *op.Launching) (string, error) {
			return h.start(l, engine.Task{Phase: engine.TaskEnded, ExitStatus: "unexpected status"}), nil
		}
		half := op.Evidence{Effect: op.EffectPartial, Reasons: []string{"a volume is gone"}}
		w.host.finding = &engine.Finding{MayStillAct: true, Evidence: half}
		d := order(web3())
		w.wantOutcome(w.runToEnd(signed(t, d)), engine.Indeterminate)
		got := w.runToEnd(signed(t, rival()))
		w.wantOutcome(got, engine.Failed)
		if !strings.Contains(got.Detail, "may still act") || w.host.launched() != 1 {
			t.Errorf("a rival: got %q, %d launches; want it kept away", got.Detail, w.host.launched())
		}
		w.host.change(func(h *fakeHost) { h.finding = &engine.Finding{Evidence: half} })
		pass(10 * time.Minute)
		got = w.engine.Status(context.Background(), d.Nonce)
		w.wantOutcome(got, engine.Failed)
		if got.Failure.Effect != op.EffectPartial {
			t.Errorf("once it is ruled out: got effect %s, want partial", got.Failure.Effect)
		}
	})
}

// Nor is a target let go whose guest is gone, and another one there, while
// something of the attempt may be at work on what has the same names.
func TestGoneWhileSomethingIsAtWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.stop()
		w.start(recovering(w))
		w.host.onLaunch = func(h *fakeHost, l *op.Launching) (string, error) {
			return h.start(l, engine.Task{Phase: engine.TaskEnded, ExitStatus: "unexpected status"}), nil
		}
		gone := op.Evidence{Effect: op.EffectDone, Reasons: []string{"the VMID is another guest's"}}
		w.host.finding = &engine.Finding{MayStillAct: true, Evidence: gone}
		d := order(web3())
		w.wantOutcome(w.runToEnd(signed(t, d)), engine.Indeterminate)
		got := w.runToEnd(signed(t, rival()))
		w.wantOutcome(got, engine.Failed)
		if !strings.Contains(got.Detail, "may still act") || w.host.launched() != 1 {
			t.Errorf("a rival: got %q, %d launches; want it kept away", got.Detail, w.host.launched())
		}
		w.host.change(func(h *fakeHost) { h.finding = &engine.Finding{Evidence: gone} })
		pass(10 * time.Minute)
		w.wantOutcome(w.engine.Status(context.Background(), d.Nonce), engine.Succeeded)
	})
}

// Nor does it end as half done by a task that the host no longer knows: that
// might not be over.
func TestHalfDoneByAForgottenTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.onLaunch = func(h *fakeHost, l *op.Launching) (string, error) {
			return h.start(l, engine.Task{Phase: engine.TaskForgotten}), nil
		}
		w.host.finding = &engine.Finding{Evidence: op.Evidence{Effect: op.EffectPartial, Reasons: []string{"a volume is gone"}}}
		w.wantOutcome(w.runToEnd(signed(t, order(web3()))), engine.Indeterminate)
		w.wantOutcome(w.runToEnd(signed(t, rival())), engine.Failed)
		if w.host.launched() != 1 {
			t.Errorf("launches: got %d, want the rival kept away", w.host.launched())
		}
	})
}
