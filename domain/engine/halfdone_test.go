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

// A target is kept from others for as long as something of the attempt may be
// at work on it, half done or gone: another guest may have the same names by
// now. Then the op ends.
func TestHalfDoneWhileSomethingIsAtWork(t *testing.T) {
	o := endsOnceNothingIsAtWork(t, op.Evidence{Effect: op.EffectPartial, Reasons: []string{"a volume is gone"}}, engine.Failed)
	if o.Failure.Effect != op.EffectPartial {
		t.Errorf("once it is ruled out: got effect %s, want partial", o.Failure.Effect)
	}
}

func TestGoneWhileSomethingIsAtWork(t *testing.T) {
	endsOnceNothingIsAtWork(t, op.Evidence{Effect: op.EffectDone, Reasons: []string{"the VMID is another guest's"}}, engine.Succeeded)
}

func endsOnceNothingIsAtWork(t *testing.T, found op.Evidence, want engine.Outcome) (ended engine.Answer) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.stop()
		w.start(recovering(w))
		w.host.onLaunch = func(h *fakeHost, l *op.Launching) (string, error) {
			return h.start(l, engine.Task{Phase: engine.TaskEnded, ExitStatus: "unexpected status"}), nil
		}
		w.host.finding = &engine.Finding{MayStillAct: true, Evidence: found}
		d := order(web3())
		w.wantOutcome(w.runToEnd(signed(t, d)), engine.Indeterminate)
		got := w.runToEnd(signed(t, rival()))
		w.wantOutcome(got, engine.Failed)
		if !strings.Contains(got.Detail, "may still act") || w.host.launched() != 1 {
			t.Errorf("a rival: got %q, %d launches; want it kept away", got.Detail, w.host.launched())
		}
		w.host.change(func(h *fakeHost) { h.finding = &engine.Finding{Evidence: found} })
		pass(10 * time.Minute)
		ended = w.engine.Status(context.Background(), d.Nonce)
		w.wantOutcome(ended, want)
	})
	return ended
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
