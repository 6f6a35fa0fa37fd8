package engine_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"writ/domain/engine"
	"writ/domain/eventstore/storetest"
	"writ/domain/gate"
	"writ/domain/op"
	"writ/domain/signedop"
)

// settling is a resolution of the op as it stands, changed, and signed by
// alice unless it is to be unsigned.
func settling(w *world, n op.Nonce, change func(*signedop.Resolution), signers ...signedop.Signer) []byte {
	w.t.Helper()
	o := w.op(n)
	now := time.Now().UTC().Truncate(time.Second)
	r := signedop.Resolution{
		Version: 1, Nonce: n, Audience: audience, Attempt: o.Attempt, Revision: o.Tail.Next - 1,
		Verdict: signedop.VerdictFailed, Effect: op.EffectUnknown,
		Role: "resolver", RequestedBy: "alice", NotBefore: now, ExpiresAt: now.Add(time.Hour), Reason: "node pve1 burned down",
	}
	change(&r)
	raw, err := signedop.SealResolution(r, signers...)
	if err != nil {
		w.t.Fatalf("seal: %v", err)
	}
	return raw
}

func as(verdict signedop.Verdict, effect op.Effect) func(*signedop.Resolution) {
	return func(r *signedop.Resolution) { r.Verdict, r.Effect = verdict, effect }
}

func TestResolve(t *testing.T) {
	alice := person("alice")
	cutOff := func(w *world) {
		w.host.onLaunch = func(*fakeHost, *op.Launching) (string, error) { return "", errors.New("timeout") }
		w.host.fence = func(*fakeHost, *op.Launching) engine.Fence {
			return engine.Fence{Reasons: []string{"node pve1 does not answer"}}
		}
	}
	reachable := func(w *world) {
		w.host.onLaunch = func(*fakeHost, *op.Launching) (string, error) { return "", errors.New("timeout") }
	}
	forgotten := func(w *world) {
		w.host.onLaunch = func(*fakeHost, *op.Launching) (string, error) { return "UPID:gone:", nil }
	}
	tests := map[string]struct {
		host    func(w *world)
		change  func(*signedop.Resolution)
		signers []signedop.Signer
		want    engine.Outcome
		reason  gate.Reason
		says    string
		events  string
	}{
		"launching, failed, effect unknown": {
			cutOff, as("failed", op.EffectUnknown), []signedop.Signer{alice}, engine.Failed, "", "", "OpStarted OpLaunching OpFailed",
		},
		"launching, succeeded": {
			cutOff, as("succeeded", op.EffectDone),
			[]signedop.Signer{alice},
			engine.Succeeded, "", "",
			"OpStarted OpLaunching OpTaskRunning OpSucceeded",
		},
		"launching, effect none, and nothing can act any more": {
			reachable, as("failed", op.EffectNone), []signedop.Signer{alice}, engine.Failed, "", "", "OpStarted OpLaunching OpFailed",
		},
		"launching, effect none, but the request may still act": {
			cutOff, as("failed", op.EffectNone), []signedop.Signer{alice}, engine.Conflict, "", "pve1 does not answer", "OpStarted OpLaunching",
		},
		"running, partial": {
			forgotten, as("failed", op.EffectPartial), []signedop.Signer{alice}, engine.Failed, "", "", "OpStarted OpLaunching OpTaskRunning OpFailed",
		},
		"running, effect none, but the task may run": {
			forgotten, as("failed", op.EffectNone),
			[]signedop.Signer{alice},
			engine.Conflict, "", "has not ended",
			"OpStarted OpLaunching OpTaskRunning",
		},
		"unsigned": {
			cutOff, as("failed", op.EffectUnknown), nil, engine.RefusedByGate, gate.Unsigned, "", "OpStarted OpLaunching",
		},
		"signed by a stranger": {
			cutOff, as("failed", op.EffectUnknown), []signedop.Signer{person("mallory")}, engine.RefusedByGate, gate.UnknownKey, "", "OpStarted OpLaunching",
		},
		"in a role that may not resolve": {
			cutOff, func(r *signedop.Resolution) { r.Role = "operator" },
			[]signedop.Signer{alice},
			engine.RefusedByGate, gate.RoleNotPermitted, "", "OpStarted OpLaunching",
		},
		"for another attempt": {
			cutOff, func(r *signedop.Resolution) { r.Attempt = 2 }, []signedop.Signer{alice}, engine.Conflict, "", "attempt 2", "OpStarted OpLaunching",
		},
		"signed over an older state": {
			forgotten, func(r *signedop.Resolution) { r.Revision = 1 },
			[]signedop.Signer{alice},
			engine.Conflict, "", "sign anew",
			"OpStarted OpLaunching OpTaskRunning",
		},
		"expired": {
			cutOff, func(r *signedop.Resolution) {
				r.NotBefore, r.ExpiresAt = r.NotBefore.Add(-2*time.Hour), r.NotBefore.Add(-90*time.Minute)
			}, []signedop.Signer{alice}, engine.RefusedByGate, gate.Expired, "", "OpStarted OpLaunching",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				tt.host(w)
				d := order(web3())
				w.wantOutcome(w.runToEnd(signed(t, d)), engine.Indeterminate)
				raw := settling(w, d.Nonce, tt.change, tt.signers...)
				got := w.engine.Resolve(context.Background(), raw, "test")
				w.wantOutcome(got, tt.want)
				if got.Reason != tt.reason || !strings.Contains(got.Detail, tt.says) {
					t.Errorf("got %q: %q, want %q and that it says %q", got.Reason, got.Detail, tt.reason, tt.says)
				}
				w.wantTypes(d.Nonce, strings.Fields(tt.events)...)
				o := w.op(d.Nonce)
				var kept *op.Resolved
				if o.Failed != nil {
					kept = o.Failed.Resolution
				} else if o.Succeeded != nil {
					kept = o.Succeeded.Resolution
				}
				if settled := tt.want == engine.Failed || tt.want == engine.Succeeded; settled != (kept != nil && slices.Equal(kept.Envelope, raw)) {
					t.Errorf("resolution on record: got %+v", kept)
				}
				if tt.want == engine.RefusedByGate && !slices.Contains(w.refusals(), string(tt.reason)) {
					t.Errorf("refusals on record: got %v", w.refusals())
				}
				if left := len(w.engine.Left()); (left == 0) != (kept != nil) {
					t.Errorf("left in flight: got %d", left)
				}
			})
		})
	}
}

// What was settled is over: the same resolution again, or another one, changes
// nothing; and only effect none lets the writ run again.
func TestResolvedIsOver(t *testing.T) {
	for effect, want := range map[op.Effect]engine.Outcome{op.EffectUnknown: engine.RefusedByGate, op.EffectNone: engine.Succeeded} {
		t.Run(string(effect), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.host.onLaunch = func(*fakeHost, *op.Launching) (string, error) { return "", errors.New("timeout") }
				d := order(web3())
				w.wantOutcome(w.runToEnd(signed(t, d)), engine.Indeterminate)
				raw := settling(w, d.Nonce, as("failed", effect), person("bob"))
				w.wantOutcome(w.engine.Resolve(context.Background(), raw, "test"), engine.Failed)
				w.wantOutcome(w.engine.Resolve(context.Background(), raw, "test"), engine.Conflict)
				w.host.onLaunch = nil
				w.wantOutcome(w.runToEnd(signed(t, d)), want)
			})
		})
	}
}

// A resolution and recovery both want to end an op: one of them does.
func TestResolveLosesToWhoeverMovedTheOpOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.onLaunch = func(*fakeHost, *op.Launching) (string, error) { return "", errors.New("timeout") }
		d := order(web3())
		w.wantOutcome(w.runToEnd(signed(t, d)), engine.Indeterminate)
		raw := settling(w, d.Nonce, as("failed", op.EffectUnknown), person("alice"))
		w.store.Before = func(c storetest.AppendCall) {
			w.store.Before = nil
			o := w.op(d.Nonce)
			h := o.Started.Header
			h.At = o.Since
			appendEvent(w, &o, &op.TaskRunning{Header: h, UPID: "UPID:x", Adopted: true})
		}
		w.wantOutcome(w.engine.Resolve(context.Background(), raw, "test"), engine.Conflict)
		w.wantTypes(d.Nonce, op.TypeStarted, op.TypeLaunching, op.TypeTaskRunning)
	})
}

// Where the host's history is too short to say that no task ran, not even an
// untouched target says that nothing of one is at work: a worker that was killed
// can leave a child behind.
func TestNoResolutionWithoutEffectWhereTheHistoryIsShort(t *testing.T) {
	for _, effect := range []op.Effect{op.EffectNone, op.EffectPartial, op.EffectDone, op.EffectUnknown} {
		t.Run(string(effect), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.host.onLaunch = timeout
				w.host.search = func(*fakeHost, *op.Launching) engine.TaskSearch {
					return engine.TaskSearch{Exact: true, Reasons: []string{"the list begins later"}}
				}
				d := order(web3())
				w.wantOutcome(w.runToEnd(signed(t, d)), engine.Indeterminate)
				w.host.finding = &engine.Finding{Evidence: op.Evidence{Effect: effect, Reasons: []string{"as it is now"}}}
				got := w.engine.Resolve(context.Background(), settling(w, d.Nonce, as("failed", op.EffectNone), person("alice")), "test")
				w.wantOutcome(got, engine.Conflict)
				if !strings.Contains(got.Detail, "the list begins later") {
					t.Errorf("detail: got %q, want the reason of the search in it", got.Detail)
				}
				w.wantOutcome(w.engine.Resolve(context.Background(), settling(w, d.Nonce, as("failed", op.EffectUnknown), person("alice")), "test"), engine.Failed)
			})
		})
	}
}

// Whether a child of a killed worker may be at work is judged by the end that
// the host told, also if it has forgotten the task right after.
func TestNoResolutionOfATaskThatIsForgottenMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.onLaunch = func(h *fakeHost, l *op.Launching) (string, error) {
			return h.start(l, engine.Task{Phase: engine.TaskEnded, ExitStatus: "unexpected status"}), nil
		}
		w.host.onProbe = func(exit string) {
			w.host.finding = &engine.Finding{
				MayStillAct: exit == "unexpected status",
				Evidence:    op.Evidence{Effect: op.EffectUnknown, Reasons: []string{"a child may be at work"}},
			}
		}
		d := order(web3())
		w.wantOutcome(w.runToEnd(signed(t, d)), engine.Indeterminate)
		w.host.mu.Lock()
		w.host.forgets = true
		w.host.mu.Unlock()
		got := w.engine.Resolve(context.Background(), settling(w, d.Nonce, as("failed", op.EffectNone), person("alice")), "test")
		w.wantOutcome(got, engine.Conflict)
		if !strings.Contains(got.Detail, "a child may be at work") {
			t.Errorf("detail: got %q", got.Detail)
		}
	})
}

// The fence goes with the guest that it stands on.
func TestNoResolutionWithoutEffectOnceTheFencedTargetIsGone(t *testing.T) {
	for effect, want := range map[op.Effect]engine.Outcome{
		op.EffectNone: engine.Failed, op.EffectDone: engine.Conflict, op.EffectPartial: engine.Failed, op.EffectUnknown: engine.Failed,
	} {
		t.Run("found "+string(effect), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.host.onLaunch = timeout
				d := order(web3())
				w.wantOutcome(w.runToEnd(signed(t, d)), engine.Indeterminate)
				w.host.finding = &engine.Finding{Evidence: op.Evidence{Effect: effect, Reasons: []string{"as it is now"}}}
				got := w.engine.Resolve(context.Background(), settling(w, d.Nonce, as("failed", op.EffectNone), person("alice")), "test")
				w.wantOutcome(got, want)
				if want == engine.Conflict && !strings.Contains(got.Detail, "gone by other hands since it was fenced: as it is now") {
					t.Errorf("detail: got %q", got.Detail)
				}
			})
		})
	}
}

// While the host's task runs, nobody settles the op, whatever they say of it.
func TestNoResolutionWhileTheTaskRuns(t *testing.T) {
	for _, effect := range []op.Effect{op.EffectNone, op.EffectPartial, op.EffectUnknown} {
		t.Run(string(effect), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.host.onLaunch = func(h *fakeHost, l *op.Launching) (string, error) {
					h.start(l, engine.Task{Phase: engine.TaskActive})
					return "", errors.New("timeout")
				}
				d := order(web3())
				w.wantOutcome(w.runToEnd(signed(t, d)), engine.Indeterminate)
				raw := settling(w, d.Nonce, as("failed", effect), person("alice"))
				got := w.engine.Resolve(context.Background(), raw, "test")
				w.wantOutcome(got, engine.Conflict)
				if !strings.Contains(got.Detail, "its task is running") {
					t.Errorf("detail: got %q", got.Detail)
				}
				w.wantTypes(d.Nonce, op.TypeStarted, op.TypeLaunching)
			})
		})
	}
}
