package engine_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"writ/domain/engine"
	"writ/domain/gate"
	"writ/domain/op"
	"writ/domain/signedop"
)

func TestSignedDestroyIsCarriedOutOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d := order(web3())
		got := w.runToEnd(signed(t, d))
		w.wantOutcome(got, engine.Succeeded)
		w.wantTypes(d.Nonce, op.TypeStarted, op.TypeLaunching, op.TypeTaskRunning, op.TypeSucceeded)

		o := w.op(d.Nonce)
		if !o.Applied() || o.Attempt != 1 || o.Started.Signers[0].Person != "alice" || o.Started.PolicySerial != 1 {
			t.Errorf("op: got %+v", o.Started)
		}
		if o.Launching.Request.Path != "/nodes/pve1/qemu/105" || o.Launching.Observed.SMBIOSUUID != web3().SMBIOSUUID {
			t.Errorf("announcement: got %+v", o.Launching)
		}

		again := w.runToEnd(signed(t, d))
		w.wantOutcome(again, engine.AlreadyApplied)
		if n := w.host.launched(); n != 1 {
			t.Errorf("launches: got %d, want 1", n)
		}
	})
}

// Where an attempt ends, for each thing that can go wrong on its way.
func TestAttemptEnds(t *testing.T) {
	type want struct {
		outcome engine.Outcome
		kind    op.FailureKind
		effect  op.Effect
		events  string
		detail  string
		effects int
	}
	refusedLate := want{engine.Failed, op.KindPrecondition, op.EffectNone, "OpStarted OpFailed", "", 0}
	with := func(w want, detail string) want { w.detail = detail; return w }
	guest := func(change func(*op.Observed)) func(*world) {
		return func(w *world) {
			g := web3()
			change(&g)
			w.host.add(g)
		}
	}
	tests := map[string]struct {
		prepare func(w *world)
		want    want
	}{
		"another guest has the VMID": {
			guest(func(g *op.Observed) { g.SMBIOSUUID = "ffffffff-7a3b-4d1c-9e2f-0a1b2c3d4e5f" }),
			with(refusedLate, "expect.smbios_uuid"),
		},
		"another disk is attached": {
			guest(func(g *op.Observed) { g.Volumes = append(g.Volumes, "local-lvm:vm-105-disk-1") }),
			with(refusedLate, "expect.volumes"),
		},
		"the guest is of another type": {guest(func(g *op.Observed) { g.Type = op.LXC }), with(refusedLate, "target")},
		"renamed":                      {guest(func(g *op.Observed) { g.Name = "db-1" }), with(refusedLate, "expect.name")},
		"restored or cloned":           {guest(func(g *op.Observed) { g.VMGenID = "" }), with(refusedLate, "expect.vmgenid")},
		"running":                      {guest(func(g *op.Observed) { g.Status = "running" }), with(refusedLate, "stop it first")},
		"protected":                    {guest(func(g *op.Observed) { g.Protection = true }), with(refusedLate, "protection")},
		"locked":                       {guest(func(g *op.Observed) { g.Lock = "backup" }), with(refusedLate, "backup")},
		"managed by HA":                {guest(func(g *op.Observed) { g.HAManaged = true }), with(refusedLate, "HA")},
		"no quorum":                    {guest(func(g *op.Observed) { g.Quorate = false }), with(refusedLate, "quorate")},
		"node offline":                 {guest(func(g *op.Observed) { g.NodeOnline = false }), with(refusedLate, "online")},
		"gone":                         {func(w *world) { delete(w.host.guests, 105) }, with(refusedLate, "there is no qemu guest 105")},
		"the host can't be looked at": {
			func(w *world) { w.host.failures["Observe"] = 99 }, with(refusedLate, "tried 4 times"),
		},
		"the host can be looked at again": {
			func(w *world) { w.host.failures["Observe"] = 3 },
			want{engine.Succeeded, "", "", "OpStarted OpLaunching OpTaskRunning OpSucceeded", "", 1},
		},
		"definite refusal": {
			func(w *world) {
				w.host.onLaunch = func(*fakeHost, *op.Launching) (string, error) {
					return "", engine.Definite(errors.New("can't remove VM 105 - protection mode enabled"))
				}
			},
			want{engine.Failed, op.KindRejected, op.EffectNone, "OpStarted OpLaunching OpFailed", "protection mode", 0},
		},
		"the host's words are endless and not UTF-8": {
			func(w *world) {
				w.host.onLaunch = func(*fakeHost, *op.Launching) (string, error) {
					return "", engine.Definite(errors.New("caf\xe9 " + strings.Repeat("no ", 1<<20)))
				}
			},
			want{engine.Failed, op.KindRejected, op.EffectNone, "OpStarted OpLaunching OpFailed", "caf\uFFFD", 0},
		},
		"ambiguous, nothing happened": {
			func(w *world) {
				w.host.onLaunch = func(*fakeHost, *op.Launching) (string, error) { return "", errors.New("unexpected EOF") }
			},
			want{engine.Indeterminate, "", "", "OpStarted OpLaunching", "unexpected EOF", 0},
		},
		"ambiguous, it happened": {
			func(w *world) {
				w.host.onLaunch = func(h *fakeHost, l *op.Launching) (string, error) {
					h.carryOut(l, "OK")
					return "", context.DeadlineExceeded
				}
			},
			want{engine.Indeterminate, "", "", "OpStarted OpLaunching", "deadline", 1},
		},
		"warnings": {
			func(w *world) {
				w.host.onLaunch = func(h *fakeHost, l *op.Launching) (string, error) { return h.carryOut(l, "WARNINGS: 1"), nil }
			},
			want{engine.Succeeded, "", "", "OpStarted OpLaunching OpTaskRunning OpSucceeded", "", 1},
		},
		"task fails before any effect": {
			task("VM is locked (backup)", false),
			want{engine.Failed, op.KindTaskFailed, op.EffectNone, "OpStarted OpLaunching OpTaskRunning OpFailed", "locked", 0},
		},
		"task fails with another text, target untouched": {
			task("unable to remove", false),
			want{engine.Failed, op.KindTaskFailed, op.EffectNone, "OpStarted OpLaunching OpTaskRunning OpFailed", "untouched", 0},
		},
		"task dies, target gone": {
			task("unexpected status", true),
			want{engine.Succeeded, "", "", "OpStarted OpLaunching OpTaskRunning OpSucceeded", "", 1},
		},
		"task dies, target untouched": {
			task("unexpected status", false),
			want{engine.Failed, op.KindTaskFailed, op.EffectNone, "OpStarted OpLaunching OpTaskRunning OpFailed", "untouched", 0},
		},
		"task claims success, target untouched": {
			task("OK", false),
			want{engine.Indeterminate, "", "", "OpStarted OpLaunching OpTaskRunning", "does not decide", 0},
		},
		"task leaves the target half done": {
			func(w *world) {
				task("unexpected status", false)(w)
				w.host.finding = &engine.Finding{Evidence: op.Evidence{Effect: op.EffectPartial, Reasons: []string{"lock: destroyed"}}}
			},
			want{engine.Failed, op.KindTaskFailed, op.EffectPartial, "OpStarted OpLaunching OpTaskRunning OpFailed", "lock: destroyed", 0},
		},
		"the state does not decide": {
			func(w *world) {
				task("unexpected status", false)(w)
				w.host.finding = &engine.Finding{Evidence: op.Evidence{Effect: op.EffectUnknown, Reasons: []string{"storage offline"}}}
			},
			want{engine.Indeterminate, "", "", "OpStarted OpLaunching OpTaskRunning", "storage offline", 0},
		},
		"task forgotten, target gone": {
			func(w *world) {
				w.host.onLaunch = func(h *fakeHost, l *op.Launching) (string, error) {
					h.carryOut(l, "OK")
					return "UPID:pve1:0000BEEF:00000007:00000008:qmdestroy:105:writ@pve!launch:", nil
				}
			},
			want{engine.Succeeded, "", "", "OpStarted OpLaunching OpTaskRunning OpSucceeded", "", 1},
		},
		"task forgotten, target untouched": {
			func(w *world) {
				w.host.onLaunch = func(*fakeHost, *op.Launching) (string, error) {
					return "UPID:pve1:0000BEEF:00000007:00000008:qmdestroy:105:writ@pve!launch:", nil
				}
			},
			want{engine.Indeterminate, "", "", "OpStarted OpLaunching OpTaskRunning", "no longer knows", 0},
		},
		"questions fail for a while": {
			func(w *world) { w.host.failures["Task"], w.host.failures["Probe"] = 30, 30 },
			want{engine.Succeeded, "", "", "OpStarted OpLaunching OpTaskRunning OpSucceeded", "", 1},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				d := order(web3())
				tt.prepare(w)
				got := w.runToEnd(signed(t, d))
				w.wantOutcome(got, tt.want.outcome)
				w.wantTypes(d.Nonce, strings.Fields(tt.want.events)...)
				if !strings.Contains(got.Detail, tt.want.detail) {
					t.Errorf("detail: got %q, want it to say %q", got.Detail, tt.want.detail)
				}
				if tt.want.outcome == engine.Failed {
					if got.Failure.Kind != tt.want.kind || got.Failure.Effect != tt.want.effect {
						t.Errorf("failure: got %s, effect %s; want %s, effect %s", got.Failure.Kind, got.Failure.Effect, tt.want.kind, tt.want.effect)
					}
				}
				if n := w.host.effects[d.Nonce]; n != tt.want.effects {
					t.Errorf("effects on the host: got %d, want %d", n, tt.want.effects)
				}
			})
		})
	}
}

// task lets the host start a task that ends with a text, with or without
// having done its work.
func task(exit string, effect bool) func(*world) {
	return func(w *world) {
		w.host.onLaunch = func(h *fakeHost, l *op.Launching) (string, error) {
			if effect {
				return h.carryOut(l, exit), nil
			}
			return h.start(l, engine.Task{Phase: engine.TaskEnded, ExitStatus: exit, Log: []string{"TASK ERROR: " + exit}}), nil
		}
	}
}

func TestDedupe(t *testing.T) {
	anotherDocument := func(t *testing.T) engine.Submission {
		t.Helper()
		return signed(t, order(web3(), func(d *signedop.Document) { d.Reason = "something else" }))
	}
	anotherIntent := func(t *testing.T) engine.Submission {
		t.Helper()
		sub := signed(t, order(web3()))
		sub.Intent.Target.Guest = &op.Guest{Type: op.QEMU, VMID: 106}
		return sub
	}
	anotherClass := func(t *testing.T) engine.Submission {
		t.Helper()
		sub := signed(t, order(web3()))
		sub.Intent.Class = op.SnapshotRollback
		return sub
	}
	tests := map[string]struct {
		later time.Duration
		sub   func(*testing.T) engine.Submission // nil: the very same
		want  engine.Outcome
		why   gate.Reason
	}{
		"applied":                             {0, nil, engine.AlreadyApplied, ""},
		"applied, and expired since":          {48 * time.Hour, nil, engine.AlreadyApplied, ""},
		"another document under the nonce":    {0, anotherDocument, engine.RefusedByGate, gate.NonceReused},
		"another intent under the same writ":  {0, anotherIntent, engine.RefusedByGate, gate.IntentMismatch},
		"another class under the same writ":   {0, anotherClass, engine.RefusedByGate, gate.IntentMismatch},
		"another intent, long after it ended": {48 * time.Hour, anotherIntent, engine.RefusedByGate, gate.IntentMismatch},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				same := signed(t, order(web3()))
				w.wantOutcome(w.runToEnd(same), engine.Succeeded)
				again := same
				if tt.sub != nil {
					again = tt.sub(t)
				}
				pass(tt.later)
				got := w.runToEnd(again)
				w.wantOutcome(got, tt.want)
				if got.Reason != tt.why {
					t.Errorf("reason: got %q, want %q", got.Reason, tt.why)
				}
				if n := w.host.launched(); n != 1 {
					t.Errorf("launches: got %d, want 1", n)
				}
			})
		})
	}
}

func TestSpentAfterAnyOtherEffectThanNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		task("unexpected status", false)(w)
		w.host.finding = &engine.Finding{Evidence: op.Evidence{Effect: op.EffectPartial, Reasons: []string{"lock: destroyed"}}}
		d := order(web3())
		w.wantOutcome(w.runToEnd(signed(t, d)), engine.Failed)
		got := w.runToEnd(signed(t, d))
		w.wantOutcome(got, engine.RefusedByGate)
		if got.Reason != gate.NonceSpent {
			t.Errorf("reason: got %s, want %s", got.Reason, gate.NonceSpent)
		}
		if n := w.host.launched(); n != 1 {
			t.Errorf("launches: got %d, want 1", n)
		}
	})
}

func TestAnotherAttemptAfterEffectNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		g := web3()
		g.Status = "running"
		w.host.add(g)
		d := order(web3())
		w.wantOutcome(w.runToEnd(signed(t, d)), engine.Failed)
		w.host.add(web3())
		got := w.runToEnd(signed(t, d))
		w.wantOutcome(got, engine.Succeeded)
		if got.Attempt != 2 {
			t.Errorf("attempt: got %d, want 2", got.Attempt)
		}
	})
}

func TestRefusalTouchesOnlyTheGatesStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d := order(web3())
		unsigned := signed(t, d)
		unsigned.Envelope = nil
		got := w.runToEnd(unsigned)
		w.wantOutcome(got, engine.RefusedByGate)
		if got.Reason != gate.Unsigned {
			t.Errorf("reason: got %s, want %s", got.Reason, gate.Unsigned)
		}
		late := order(web3(), func(d *signedop.Document) {
			d.NotBefore, d.ExpiresAt = d.NotBefore.Add(-2*time.Hour), d.NotBefore.Add(-time.Hour)
		})
		w.wantOutcome(w.runToEnd(signed(t, late)), engine.RefusedByGate)
		w.wantTypes(late.Nonce)
		if got := w.refusals(); len(got) != 2 || got[0] != string(gate.Unsigned) || got[1] != string(gate.Expired) {
			t.Errorf("refusals on record: got %v", got)
		}
	})
}

// A benign rule is the gate's to allow; to carry such an op out takes an
// executor as it does for any other.
func TestAnOpWithoutAWritNeedsARuleAndAnExecutor(t *testing.T) {
	for name, tt := range map[string]struct {
		caller string
		want   engine.Outcome
	}{
		"a rule names the caller": {"ci", engine.Failed},
		"no rule does":            {"mallory", engine.RefusedByGate},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				p := policy()
				p.Benign = []gate.BenignRule{{
					Callers: []string{"ci"}, Classes: []op.Class{op.GuestStart}, On: gate.On{VMIDs: []string{"105"}},
				}}
				if _, err := w.book.Enforce(context.Background(), p, op.Digest{}); err != nil {
					t.Fatalf("enforce: %v", err)
				}
				intent := op.Intent{Class: op.GuestStart, Target: order(web3()).Target}
				got := w.runToEnd(engine.Submission{Intent: intent, SubmittedBy: tt.caller})
				w.wantOutcome(got, tt.want)
				if tt.want == engine.Failed && (got.Failure.Kind != op.KindNoExecutor || got.Failure.Effect != op.EffectNone) {
					t.Errorf("failure: got %s, effect %s; want %s, effect %s", got.Failure.Kind, got.Failure.Effect, op.KindNoExecutor, op.EffectNone)
				}
				if tt.want == engine.RefusedByGate && got.Reason != gate.NotPermitted {
					t.Errorf("reason: got %s, want %s", got.Reason, gate.NotPermitted)
				}
				if w.host.launched() != 0 {
					t.Errorf("launches: got %d, want none", w.host.launched())
				}
			})
		})
	}
}

func TestHostDownAtTheGateRecordsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.failures["Facts"] = 1
		d := order(web3())
		w.wantOutcome(w.runToEnd(signed(t, d)), engine.Unavailable)
		w.wantTypes(d.Nonce)
		if got := w.refusals(); len(got) != 0 {
			t.Errorf("refusals on record: got %v, want none", got)
		}
	})
}

// What was true at the gate may be so no more when the op's turn comes.
func TestSecondLook(t *testing.T) {
	enforce := func(w *world, book *engine.PolicyBook, change func(*gate.PolicyDocument)) {
		w.t.Helper()
		p := policy()
		change(&p)
		if _, err := book.Enforce(context.Background(), p, op.Digest{}); err != nil {
			w.t.Fatalf("enforce: %v", err)
		}
	}
	tests := map[string]struct {
		change func(w *world)
		kind   op.FailureKind
		says   string
	}{
		"key revoked": {func(w *world) {
			enforce(w, w.book, func(p *gate.PolicyDocument) {
				p.People["alice"].Keys[0].RevokedAt = time.Now().UTC().Truncate(time.Second).Format(time.RFC3339)
			})
		}, op.KindRefused, "key-revoked"},
		"expired": {func(*world) { pass(2 * time.Hour) }, op.KindRefused, "expired"},
		"newer policy on record than this instance holds": {func(w *world) {
			enforce(w, engine.NewPolicyBook(w.memory, w.who, systemClock{}), func(p *gate.PolicyDocument) { p.ClockSkew = "10s" })
		}, op.KindRefused, "not the newest"},
		"VMID reused": {func(w *world) {
			g := web3()
			g.SMBIOSUUID = "ffffffff-7a3b-4d1c-9e2f-0a1b2c3d4e5f"
			w.host.add(g)
		}, op.KindPrecondition, "expect.smbios_uuid"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				// Another op holds the target while the world changes.
				hold := make(chan struct{})
				w.host.onLaunch = func(*fakeHost, *op.Launching) (string, error) {
					<-hold
					return "", engine.Definite(errors.New("no"))
				}
				ahead := order(web3(), func(d *signedop.Document) { d.Nonce = nonce("ahead") })
				w.wantOutcome(w.engine.RunSignedJob(context.Background(), signed(t, ahead)), engine.InFlight)
				d := order(web3())
				synctest.Wait()
				w.wantOutcome(w.engine.RunSignedJob(context.Background(), signed(t, d)), engine.InFlight)
				synctest.Wait()
				tt.change(w)
				close(hold)

				got := w.engine.Wait(context.Background(), d.Nonce)
				w.wantOutcome(got, engine.Failed)
				if got.Failure.Kind != tt.kind || got.Failure.Effect != op.EffectNone || !strings.Contains(got.Failure.Reason+got.Detail, tt.says) {
					t.Errorf("failure: got %s (%s), effect %s: %s", got.Failure.Kind, got.Failure.Reason, got.Failure.Effect, got.Detail)
				}
				w.wantTypes(d.Nonce, op.TypeStarted, op.TypeFailed)
				if w.host.launched() != 1 {
					t.Errorf("launches: got %d, want only the one ahead", w.host.launched())
				}
			})
		})
	}
}

// A look that is tried again starts again with the policy: what was revoked
// while the host did not answer must not be allowed once it does.
func TestSecondLookTriedAgainReadsThePolicyAgain(t *testing.T) {
	for _, silent := range []string{"Facts", "Observe"} {
		t.Run(silent, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				looks := 0
				w.host.onFacts = func() {
					if looks++; looks != 2 { // the first is the gate's
						return
					}
					w.host.mu.Lock()
					w.host.failures[silent] = 1
					w.host.mu.Unlock()
					p := policy()
					p.People["alice"].Keys[0].RevokedAt = time.Now().UTC().Truncate(time.Second).Format(time.RFC3339)
					if _, err := w.book.Enforce(context.Background(), p, op.Digest{}); err != nil {
						t.Errorf("enforce: %v", err)
					}
				}
				d := order(web3())
				got := w.runToEnd(signed(t, d))
				w.wantOutcome(got, engine.Failed)
				if got.Failure == nil || got.Failure.Reason != string(gate.KeyRevoked) || got.Failure.Effect != op.EffectNone {
					t.Errorf("failure: got %+v, want %s with effect none", got.Failure, gate.KeyRevoked)
				}
				w.wantTypes(d.Nonce, op.TypeStarted, op.TypeFailed)
				if w.host.launched() != 0 {
					t.Errorf("launches: got %d, want 0", w.host.launched())
				}
			})
		})
	}
}
