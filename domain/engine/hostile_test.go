package engine_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"writ/domain/engine"
	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
	"writ/domain/op"
	"writ/domain/signedop"
)

// What was known of an attempt that was left in flight says nothing about a
// later one of the same op.
func TestWaitTellsAnotherInstancesAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.onLaunch = func(*fakeHost, *op.Launching) (string, error) { return "", errors.New("connection reset") }
		d := order(web3())
		w.wantOutcome(w.runToEnd(signed(t, d)), engine.Indeterminate)
		o := w.op(d.Nonce)
		h := o.Launching.Header
		appendEvent(w, &o, &op.Failed{Header: h, Kind: op.KindNotExecuted, Effect: op.EffectNone, Message: "fenced"})
		w.host.mu.Lock()
		hold := make(chan struct{})
		w.host.onLaunch = func(h *fakeHost, l *op.Launching) (string, error) {
			<-hold
			return h.carryOut(l, "OK"), nil
		}
		w.host.mu.Unlock()
		other := newWorldOver(w, "node-b")
		w.wantOutcome(other.engine.RunSignedJob(context.Background(), signed(t, d)), engine.InFlight)
		answer := make(chan engine.Answer)
		go func() { answer <- w.engine.Wait(context.Background(), d.Nonce) }()
		synctest.Wait()
		close(hold)
		w.wantOutcome(<-answer, engine.Succeeded)
	})
}

// Whoever waits for an op that somebody else has ended is told the end.
func TestWaitTellsTheEndByOtherHands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d := order(web3())
		w.store.Before = func(c storetest.AppendCall) {
			if c.Events[0].Type != op.TypeSucceeded {
				return
			}
			o := w.op(d.Nonce)
			appendEvent(w, &o, &op.Succeeded{Header: o.Started.Header, ExitStatus: "OK", Evidence: op.Evidence{Effect: op.EffectDone, Reasons: []string{"gone"}}})
		}
		w.wantOutcome(w.runToEnd(signed(t, d)), engine.Succeeded)
	})
}

// However much the host has to say, and in which bytes: the op comes to its
// end on record.
func TestWordyHost(t *testing.T) {
	long := strings.Repeat("\x01\"\xff", 4<<10)
	many := make([]string, 500)
	for i := range many {
		many[i] = long
	}
	for name, f := range map[string]engine.Finding{
		"done":    {Evidence: op.Evidence{Effect: op.EffectDone, Reasons: many}, Residue: many},
		"partial": {Evidence: op.Evidence{Effect: op.EffectPartial, Reasons: many}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.host.finding = &f
				w.host.onLaunch = func(h *fakeHost, l *op.Launching) (string, error) {
					return h.start(l, engine.Task{Phase: engine.TaskEnded, ExitStatus: long, Log: many}), nil
				}
				d := order(web3())
				w.runToEnd(signed(t, d))
				if o := w.op(d.Nonce); !o.State.Final() {
					t.Errorf("state: got %s, want an end", o.State)
				}
			})
		})
	}
}

// A look that can't be announced, for its size, ends the attempt: nothing was sent.
func TestLookThatCannotBeRecordedEndsTheAttempt(t *testing.T) {
	for name, guest := range map[string]func(*op.Observed){
		"too large":   func(g *op.Observed) { g.Name = strings.Repeat("x", 1<<20) },
		"not unicode": func(g *op.Observed) { g.Name = "\xff" },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				d := order(web3(), func(d *signedop.Document) { d.Expect.Name = "" })
				w.host.onObserve = func() {
					g := web3()
					guest(&g)
					w.host.add(g)
				}
				got := w.runToEnd(signed(t, d))
				w.wantOutcome(got, engine.Failed)
				if got.Failure.Effect != op.EffectNone || w.host.launched() != 0 {
					t.Errorf("got effect %s and %d launches, want none and 0", got.Failure.Effect, w.host.launched())
				}
			})
		})
	}
}

// A task state that is none is no answer.
func TestTaskWithoutAPhaseIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.onLaunch = func(h *fakeHost, l *op.Launching) (string, error) { return h.start(l, engine.Task{}), nil }
		d := order(web3())
		w.wantOutcome(w.engine.RunSignedJob(context.Background(), signed(t, d)), engine.InFlight)
		pass(time.Minute)
		if o := w.op(d.Nonce); o.State != op.StateTaskRunning {
			t.Errorf("state: got %s, want %s", o.State, op.StateTaskRunning)
		}
		w.host.mu.Lock()
		w.host.tasks[w.op(d.Nonce).Running.UPID] = engine.Task{Phase: engine.TaskEnded, ExitStatus: "boom"}
		w.host.mu.Unlock()
		w.wantOutcome(w.engine.Wait(context.Background(), d.Nonce), engine.Failed)
	})
}

// A caller that uses its buffers again changes nothing about what it submitted.
func TestSubmissionIsTheJobsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d := order(web3())
		sub := signed(t, d)
		guest := *sub.Intent.Target.Guest
		sub.Intent.Target.Guest = &guest
		want := string(sub.Envelope)
		w.host.onFacts = sync.OnceFunc(func() {
			clear(sub.Envelope)
			guest.VMID = 106
		})
		w.wantOutcome(w.runToEnd(sub), engine.Succeeded)
		if o := w.op(d.Nonce); string(o.Started.Envelope) != want || o.Launching.Target.Guest.VMID != 105 {
			t.Errorf("on record: envelope of %d bytes for guest %d, want what was submitted", len(o.Started.Envelope), o.Launching.Target.Guest.VMID)
		}
	})
}

// Policies enforced at the same time: the newest on record is in force.
func TestPoliciesEnforcedAtOnce(t *testing.T) {
	for range 300 {
		b := engine.NewPolicyBook(storetest.NewMemory(ledger), engine.Identity{Instance: "x"}, systemClock{})
		var wg sync.WaitGroup
		for _, skew := range []string{"10s", "20s", "30s", "40s"} {
			wg.Go(func() {
				p := policy()
				p.ClockSkew = skew
				if _, err := b.Enforce(context.Background(), p, op.Digest{}); err != nil {
					t.Errorf("enforce: %v", err)
				}
			})
		}
		wg.Wait()
		if _, err := b.Current(context.Background()); err != nil {
			t.Fatalf("current: %v", err)
		}
	}
}

// A stream that ends as if it had never been, midway, is not an op without record.
func TestStreamThatVanishesWhileReadIsNotAbsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d := order(web3())
		w.wantOutcome(w.runToEnd(signed(t, d)), engine.Succeeded)
		w.store.OnRead = func(c storetest.ReadCall) (int, error) {
			if c.Method == "ReadStream" {
				return 2, eventstore.ErrStreamNotFound
			}
			return 0, nil
		}
		if a := w.engine.Status(context.Background(), d.Nonce); a.Outcome == engine.Unknown {
			t.Errorf("outcome: got %s for an op with events on record", a.Outcome)
		}
	})
}

// No answer and no log shows a nonce whole, whatever the store's errors say.
func TestStoreErrorsDoNotShowTheNonce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d := order(web3())
		w.store.Before = func(c storetest.AppendCall) {
			if c.Events[0].Type != op.TypeTaskRunning {
				return
			}
			o := w.op(d.Nonce)
			appendEvent(w, &o, &op.Failed{Header: o.Started.Header, Kind: op.KindResolved, Effect: op.EffectUnknown, Message: "x"})
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		answers := []engine.Answer{w.engine.RunSignedJob(ctx, signed(t, d)), w.engine.Wait(ctx, d.Nonce)}
		w.store.OnRead = func(c storetest.ReadCall) (int, error) {
			return 0, errors.New("read " + string(c.Stream) + ": disk gone")
		}
		answers = append(answers, w.engine.RunSignedJob(ctx, signed(t, d)), w.engine.Status(ctx, d.Nonce))
		w.stop()
		for _, a := range answers {
			if strings.Contains(a.Detail, string(d.Nonce)) {
				t.Errorf("an answer shows the nonce whole: %s", a.Detail)
			}
		}
		w.logMu.Lock()
		defer w.logMu.Unlock()
		if strings.Contains(w.log.String(), string(d.Nonce)) {
			t.Errorf("the log shows the nonce whole: %s", w.log)
		}
	})
}

// A refusal is on record whatever stands in the intent, and takes no more
// room than any other.
func TestRefusalOfAMonstrousIntentIsRecorded(t *testing.T) {
	for name, change := range map[string]func(*engine.Submission){
		"class too long":    func(s *engine.Submission) { s.Intent.Class = op.Class(strings.Repeat("x", 1<<20)) },
		"node too long":     func(s *engine.Submission) { s.Intent.Target.Node = strings.Repeat("x", 1<<20) },
		"type too long":     func(s *engine.Submission) { s.Intent.Target.Guest.Type = op.GuestType(strings.Repeat("x", 1<<20)) },
		"class not unicode": func(s *engine.Submission) { s.Intent.Class = "\xff" },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				sub := signed(t, order(web3()))
				change(&sub)
				w.wantOutcome(w.runToEnd(sub), engine.RefusedByGate)
				if got := len(w.refusals()); got != 1 {
					t.Fatalf("refusals on record: got %d, want 1", got)
				}
				head, err := w.memory.Head(context.Background(), eventstore.StreamID(op.GateStream("node-a")))
				if err != nil || len(head.Data) > 16<<10 {
					t.Errorf("the record: got %d bytes, %v; want few", len(head.Data), err)
				}
			})
		})
	}
}

// An announcement that took several tries may have been seen by somebody else
// meanwhile, and the op been ended as never sent. Then it must never be.
func TestNoLaunchAfterTheAnnouncementWasEndedByOtherHands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d := order(web3())
		var announced int
		w.store.OnAppend = func(c storetest.AppendCall) storetest.Fault {
			if c.Events[0].Type == op.TypeLaunching && announced == 1 {
				return storetest.DoneButFailed
			}
			return 0
		}
		w.store.Before = func(c storetest.AppendCall) {
			if c.Events[0].Type != op.TypeLaunching {
				return
			}
			if announced++; announced == 2 {
				o := w.op(d.Nonce)
				appendEvent(w, &o, &op.Failed{Header: o.Started.Header, Kind: op.KindNotExecuted, Effect: op.EffectNone, Message: "fenced"})
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		w.engine.RunSignedJob(ctx, signed(t, d))
		w.wantOutcome(w.engine.Wait(ctx, d.Nonce), engine.Failed)
		if w.host.launched() != 0 {
			t.Errorf("launches: got %d, want 0", w.host.launched())
		}
	})
}
