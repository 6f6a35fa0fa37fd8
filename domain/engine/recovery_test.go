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
	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
	"writ/domain/op"
	"writ/domain/signedop"
)

// inFlight lists what is in flight, from the truth.
func inFlight(w *world) func(context.Context) ([]op.Nonce, error) {
	return func(ctx context.Context) ([]op.Nonce, error) {
		var nonces []op.Nonce
		seen := make(map[op.Nonce]bool)
		for e, err := range w.memory.ReadAll(ctx, eventstore.Cursor{}, eventstore.Filter{StreamPrefixes: []string{op.StreamPrefix}}) {
			if err != nil {
				return nil, err
			}
			n, ok := op.NonceOfStream(string(e.Stream))
			if !ok || seen[n] {
				continue
			}
			seen[n] = true
			if o, err := engine.LoadOp(ctx, w.memory, ledger, n); err == nil && o.State.InFlight() {
				nonces = append(nonces, n)
			}
		}
		return nonces, nil
	}
}

func recovering(w *world) option { return func(c *engine.Config) { c.Pending = inFlight(w) } }

// dieAt lets the process die before the append of a type, with the order
// delivered, and gives the order.
func dieAt(w *world, typ string) signedop.Document {
	w.t.Helper()
	w.store.Before = func(c storetest.AppendCall) {
		if c.Events[0].Type == typ {
			w.store.Cut()
		}
	}
	d := order(web3())
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	w.engine.RunSignedJob(ctx, signed(w.t, d))
	pass(20 * time.Second)
	w.stop()
	w.store = storetest.NewFaulty(w.memory)
	return d
}

func TestRecovery(t *testing.T) {
	lostBeforeEffect := func(w *world) {
		w.host.onLaunch = func(*fakeHost, *op.Launching) (string, error) { return "", errors.New("connection reset") }
	}
	lostAfterEffect := func(w *world) {
		w.host.onLaunch = func(h *fakeHost, l *op.Launching) (string, error) {
			h.carryOut(l, "OK")
			return "", errors.New("connection reset")
		}
	}
	none := engine.TaskSearch{Exact: true, Complete: true}
	tests := map[string]struct {
		prepare func(w *world) // before the op
		die     string         // the append that the process does not survive; empty: it lives
		meet    func(w *world) // before recovery
		state   op.State
		kind    op.FailureKind
		events  string
		says    string // of what is left, if it is indeterminate
		effects int
	}{
		"started": {
			nil, op.TypeLaunching, nil,
			op.StateFailedClean, op.KindInterrupted, "OpStarted OpFailed", "", 0,
		},
		"launching, the reply was lost": {
			lostAfterEffect, "", nil,
			op.StateSucceeded, "", "OpStarted OpLaunching OpTaskRunning OpSucceeded", "", 1,
		},
		"launching, the process died before the task was on record": {
			nil, op.TypeTaskRunning, nil,
			op.StateSucceeded, "", "OpStarted OpLaunching OpTaskRunning OpSucceeded", "", 1,
		},
		"launching, the request never arrived": {
			lostBeforeEffect, "", nil,
			op.StateFailedClean, op.KindNotExecuted, "OpStarted OpLaunching OpFailed", "", 0,
		},
		"launching, the guest is gone by other hands": {
			lostBeforeEffect, "",
			func(w *world) { delete(w.host.guests, 105) },
			op.StateLaunching, "", "OpStarted OpLaunching", "gone by other hands since it was fenced", 0,
		},
		"launching, two tasks could be ours": {
			lostBeforeEffect, "",
			func(w *world) {
				w.host.search = func(*fakeHost, *op.Launching) engine.TaskSearch {
					return engine.TaskSearch{UPIDs: []string{"UPID:a", "UPID:b"}, Complete: true}
				}
			},
			op.StateLaunching, "", "OpStarted OpLaunching", "2 tasks of the host", 0,
		},
		"launching, the fence can't be had": {
			lostBeforeEffect, "",
			func(w *world) {
				w.host.fence = func(*fakeHost, *op.Launching) engine.Fence {
					return engine.Fence{Reasons: []string{"node pve1 is cut off"}}
				}
			},
			op.StateLaunching, "", "OpStarted OpLaunching", "node pve1 is cut off", 0,
		},
		"launching, the history is too short": {
			lostBeforeEffect, "",
			func(w *world) {
				w.host.search = func(*fakeHost, *op.Launching) engine.TaskSearch {
					return engine.TaskSearch{Exact: true, Reasons: []string{"the oldest task of pve1 is newer"}}
				}
			},
			op.StateLaunching, "", "OpStarted OpLaunching", "the oldest task of pve1 is newer", 0,
		},
		"launching, fenced, but the target has changed": {
			lostBeforeEffect, "",
			func(w *world) {
				w.host.search = func(*fakeHost, *op.Launching) engine.TaskSearch { return none }
				w.host.finding = &engine.Finding{Evidence: op.Evidence{Effect: op.EffectPartial, Reasons: []string{"a disk is missing"}}}
			},
			op.StateLaunching, "", "OpStarted OpLaunching", "a disk is missing", 0,
		},
		"launching, the host is away for long": {
			lostBeforeEffect, "",
			func(w *world) {
				w.host.failures["FindTasks"], w.host.failures["Fence"], w.host.failures["Probe"] = 40, 5, 5
			},
			op.StateFailedClean, op.KindNotExecuted, "OpStarted OpLaunching OpFailed", "", 0,
		},
		"task-running": {
			nil, op.TypeSucceeded, nil,
			op.StateSucceeded, "", "OpStarted OpLaunching OpTaskRunning OpSucceeded", "", 1,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				if tt.prepare != nil {
					tt.prepare(w)
				}
				d := dieAt(w, tt.die)
				launched := w.host.launched()
				if tt.meet != nil {
					tt.meet(w)
				}
				w.start(recovering(w))
				<-w.engine.Surveyed()
				pass(30 * time.Minute)

				o := w.op(d.Nonce)
				if o.State != tt.state || o.Failed != nil && o.Failed.Kind != tt.kind {
					t.Errorf("state: got %s (%+v), want %s", o.State, o.Failed, tt.state)
				}
				w.wantTypes(d.Nonce, strings.Fields(tt.events)...)
				if w.host.launched() != launched {
					t.Errorf("recovery launched: got %d launches, want the %d before it", w.host.launched(), launched)
				}
				if w.host.effects[d.Nonce] != tt.effects {
					t.Errorf("effects: got %d, want %d", w.host.effects[d.Nonce], tt.effects)
				}
				left := w.engine.Left()
				switch {
				case tt.says == "" && len(left) != 0:
					t.Errorf("left in flight: got %+v, want nothing", left)
				case tt.says != "" && (len(left) != 1 || !strings.Contains(left[0].Detail, tt.says)):
					t.Errorf("left in flight: got %+v, want one that says %q", left, tt.says)
				}
			})
		})
	}
}

// What can't be settled now is tried again, and settled when it can be.
func TestRecoveryTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.onLaunch = func(*fakeHost, *op.Launching) (string, error) { return "", errors.New("timeout") }
		w.host.fence = func(*fakeHost, *op.Launching) engine.Fence { return engine.Fence{Reasons: []string{"no quorum"}} }
		w.stop()
		w.start(recovering(w))
		d := order(web3())
		w.engine.RunSignedJob(context.Background(), signed(t, d))
		pass(10 * time.Minute)
		if o := w.op(d.Nonce); o.State != op.StateLaunching {
			t.Fatalf("state: got %s, want launching", o.State)
		}
		w.host.mu.Lock()
		w.host.fence = nil
		w.host.mu.Unlock()
		pass(10 * time.Minute)
		if o := w.op(d.Nonce); o.State != op.StateFailedClean || o.Failed.Kind != op.KindNotExecuted {
			t.Errorf("state: got %s, want it settled", o.State)
		}

		t.Log("and the same writ may run again, as the next attempt of a known one")
		w.host.mu.Lock()
		w.host.onLaunch = nil
		w.host.mu.Unlock()
		got := w.runToEnd(signed(t, d))
		w.wantOutcome(got, engine.Succeeded)
		if last := w.host.attempts[len(w.host.attempts)-1]; last.Number != 2 || !slices.Equal(last.Earlier, []int{1}) || last.ExpiresAt.IsZero() {
			t.Errorf("attempt: got %+v, want number 2 after 1", last)
		}
	})
}

// An op that is live is left alone, however often recovery passes.
func TestRecoveryLeavesLiveOpsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.stop()
		w.start(recovering(w))
		hold := make(chan struct{})
		w.host.onLaunch = func(h *fakeHost, l *op.Launching) (string, error) {
			<-hold
			return h.carryOut(l, "OK"), nil
		}
		running := order(web3())
		waiting := order(web3(), func(d *signedop.Document) { d.Nonce = nonce("waiting") })
		for _, d := range []signedop.Document{running, waiting} {
			w.wantOutcome(w.engine.RunSignedJob(context.Background(), signed(t, d)), engine.InFlight)
			synctest.Wait()
		}
		pass(time.Hour - time.Minute)
		w.wantTypes(running.Nonce, op.TypeStarted, op.TypeLaunching)
		w.wantTypes(waiting.Nonce, op.TypeStarted)
		if w.host.fences != 0 {
			t.Errorf("fences: got %d, want none", w.host.fences)
		}
		close(hold)
		w.wantOutcome(w.engine.Wait(context.Background(), running.Nonce), engine.Succeeded)
	})
}

// While a request may still act, no other op gets the target: it could free
// the VMID, and the late request would hit whoever has it next.
func TestTargetOfAnIndeterminateOpIsBlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.onLaunch = func(*fakeHost, *op.Launching) (string, error) { return "", errors.New("timeout") }
		first := order(web3())
		w.wantOutcome(w.runToEnd(signed(t, first)), engine.Indeterminate)
		second := order(web3(), func(d *signedop.Document) { d.Nonce = nonce("second") })
		got := w.runToEnd(signed(t, second))
		w.wantOutcome(got, engine.Failed)
		if got.Failure.Effect != op.EffectNone || !strings.Contains(got.Detail, "indeterminate") || w.host.launched() != 1 {
			t.Errorf("got effect %s, %q, %d launches", got.Failure.Effect, got.Detail, w.host.launched())
		}

		t.Log("after a restart too, from the first moment on")
		w.stop()
		w.host.fence = func(*fakeHost, *op.Launching) engine.Fence { return engine.Fence{Reasons: []string{"no quorum"}} }
		w.start(recovering(w))
		w.wantOutcome(w.runToEnd(signed(t, second)), engine.Failed)
		if w.host.launched() != 1 {
			t.Errorf("launches: got %d, want 1", w.host.launched())
		}
	})
}

// With a shared credential, of two ops that could have started a task one
// gets it, for ever.
func TestOneTaskIsAdoptedByOneOp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var upid string
		w.host.onLaunch = func(h *fakeHost, l *op.Launching) (string, error) {
			if upid == "" {
				upid = h.carryOut(l, "OK")
			}
			return "", errors.New("timeout")
		}
		w.host.search = func(*fakeHost, *op.Launching) engine.TaskSearch {
			return engine.TaskSearch{UPIDs: []string{upid}, Complete: true}
		}
		docs := manyOrders(t, w, 2)
		for _, d := range docs {
			w.wantOutcome(w.runToEnd(signed(t, d)), engine.Indeterminate)
		}
		w.stop()
		w.start(recovering(w))
		<-w.engine.Surveyed()
		pass(10 * time.Minute)
		adopted := 0
		for _, d := range docs {
			if o := w.op(d.Nonce); o.Running != nil {
				adopted++
			}
		}
		if adopted != 1 {
			t.Errorf("ops that have the task: got %d, want 1", adopted)
		}
	})
}

// A task that turns up for an op which somebody else has ended must never
// happen. If it does, it is on record, and nobody can miss it.
func TestContestedTaskIsOnRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d := order(web3())
		w.host.onLaunch = func(h *fakeHost, l *op.Launching) (string, error) {
			o := w.op(d.Nonce)
			head := o.Started.Header
			head.At = o.Since
			appendEvent(w, &o, &op.Failed{Header: head, Kind: op.KindNotExecuted, Effect: op.EffectNone, Message: "wrongly taken for dead"})
			return h.carryOut(l, "OK"), nil
		}
		w.wantOutcome(w.engine.RunSignedJob(context.Background(), signed(t, d)), engine.InFlight)
		synctest.Wait()
		if got := w.types(op.GateStream("node-a")); !slices.Contains(got, op.TypeContested) {
			t.Errorf("gate's stream: got %v, want %s", got, op.TypeContested)
		}
		w.logMu.Lock()
		defer w.logMu.Unlock()
		if !strings.Contains(w.log.String(), "ALARM") {
			t.Error("no alarm in the log")
		}
	})
}

// Another copy of the ledger acts: nothing is launched any more, and the op
// whose launch found out stays in flight.
func TestAnotherCopyOfTheLedgerStopsLaunching(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		docs := manyOrders(t, w, 2)
		w.host.onLaunch = func(*fakeHost, *op.Launching) (string, error) {
			return "", &engine.OtherCopyError{Why: "the host remembers attempt 2, this ledger does not"}
		}
		w.wantOutcome(w.runToEnd(signed(t, docs[0])), engine.Indeterminate)
		if w.engine.Halted() == nil {
			t.Fatal("launching goes on")
		}
		got := w.runToEnd(signed(t, docs[1]))
		w.wantOutcome(got, engine.Unavailable)
		w.wantTypes(docs[1].Nonce)
		if !strings.Contains(got.Detail, "another copy") || w.host.launched() != 1 {
			t.Errorf("got %q, %d launches", got.Detail, w.host.launched())
		}
	})
}

// Nothing is launched before all that was in flight is taken up.
func TestNothingIsLaunchedBeforeTheSurvey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.stop()
		listed := make(chan struct{})
		w.start(func(c *engine.Config) {
			c.Pending = func(ctx context.Context) ([]op.Nonce, error) {
				select {
				case <-listed:
					return nil, nil
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}
		})
		d := order(web3())
		w.wantOutcome(w.engine.RunSignedJob(context.Background(), signed(t, d)), engine.InFlight)
		pass(time.Minute)
		w.wantTypes(d.Nonce, op.TypeStarted)
		close(listed)
		w.wantOutcome(w.engine.Wait(context.Background(), d.Nonce), engine.Succeeded)
	})
}

// Whoever looks at the queue learns what each recovery waits for.
func TestWaitingSaysWhatARecoveryWaitsFor(t *testing.T) {
	for question, want := range map[string]string{
		"FindTasks": "the host's tasks could not be looked through, asked ",
		"Fence":     "no task was found, and the fence could not be raised, asked ",
		"Probe":     "fenced and no task found, and the target could not be read, asked ",
	} {
		t.Run(question, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				d := leftLaunching(w)
				w.host.failures[question] = 1 << 30
				w.start(recovering(w))
				<-w.engine.Surveyed()
				pass(12 * time.Second)
				if got := w.engine.Waiting()[d.Nonce]; !strings.HasPrefix(got, want) {
					t.Errorf("got %q, want %q…", got, want)
				}
				w.host.mu.Lock()
				w.host.failures[question] = 0
				w.host.mu.Unlock()
				pass(10 * time.Minute)
				if got := w.engine.Waiting(); len(got) != 0 {
					t.Errorf("once it has ended: got %v, want nothing", got)
				}
			})
		})
	}
}

// A live op of a host that has gone silent says so long before it is let go of.
func TestWaitingSaysThatTheHostDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.failures["Task"] = 1 << 30
		d := order(web3())
		w.wantOutcome(w.engine.RunSignedJob(context.Background(), signed(t, d)), engine.InFlight)
		pass(10 * time.Second)
		if got := w.engine.Waiting()[d.Nonce]; !strings.HasPrefix(got, "the host could not be asked about the task, asked ") {
			t.Errorf("got %q", got)
		}
		w.host.mu.Lock()
		w.host.failures["Task"] = 0
		w.host.mu.Unlock()
		w.wantOutcome(w.engine.Wait(context.Background(), d.Nonce), engine.Succeeded)
		if got := w.engine.Waiting(); len(got) != 0 {
			t.Errorf("once it has ended: got %v, want nothing", got)
		}
	})
}

// A task that did not end well keeps its target from others until that could be
// read, also while nobody follows it.
func TestTargetOfAFailedTaskIsKeptUntilItIsRead(t *testing.T) {
	for exit, want := range map[string]int{"unexpected status": 1, "OK": 2} {
		t.Run(exit, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.stop()
				w.start(recovering(w))
				w.host.onLaunch = func(h *fakeHost, l *op.Launching) (string, error) {
					return h.start(l, engine.Task{Phase: engine.TaskEnded, ExitStatus: exit}), nil
				}
				w.host.failures["Probe"] = 1 << 30
				w.wantOutcome(w.runToEnd(signed(t, order(web3()))), engine.Indeterminate)
				got := w.runToEnd(signed(t, rival()))
				if w.host.launched() != want {
					t.Errorf("a rival: got %d launches, want %d; %s", w.host.launched(), want, got.Detail)
				}
			})
		})
	}
}

// What a killed worker began may go on: its target is kept from others, nobody
// can say that there was no effect, and once it is ruled out the op ends.
func TestWhatAKilledWorkerBeganKeepsItsTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.stop()
		w.start(recovering(w))
		w.host.onLaunch = func(h *fakeHost, l *op.Launching) (string, error) {
			return h.start(l, engine.Task{Phase: engine.TaskEnded, ExitStatus: "unexpected status"}), nil
		}
		w.host.finding = &engine.Finding{MayStillAct: true, Evidence: op.Evidence{Effect: op.EffectUnknown, Reasons: []string{"a child may be at work"}}}
		d := order(web3())
		w.wantOutcome(w.runToEnd(signed(t, d)), engine.Indeterminate)
		got := w.runToEnd(signed(t, rival()))
		w.wantOutcome(got, engine.Failed)
		if !strings.Contains(got.Detail, "may still act") || w.host.launched() != 1 {
			t.Errorf("a rival: got %q, %d launches; want it kept away", got.Detail, w.host.launched())
		}
		raw := settling(w, d.Nonce, as("failed", op.EffectNone), person("alice"))
		got = w.engine.Resolve(context.Background(), raw, "test")
		w.wantOutcome(got, engine.Conflict)
		if !strings.Contains(got.Detail, "a child may be at work") {
			t.Errorf("effect none: got %q", got.Detail)
		}
		w.host.mu.Lock()
		w.host.finding = &engine.Finding{Evidence: op.Evidence{Effect: op.EffectNone, Reasons: []string{"the node has restarted since"}}}
		w.host.mu.Unlock()
		pass(10 * time.Minute)
		if o := w.op(d.Nonce); o.State != op.StateFailedClean {
			t.Errorf("once it is ruled out: got %s, want failed without effect", o.State)
		}
	})
}
