package engine_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"writ/domain/engine"
	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
	"writ/domain/op"
	"writ/domain/signedop"
)

func timeout(*fakeHost, *op.Launching) (string, error) { return "", errors.New("timeout") }

func noQuorum(*fakeHost, *op.Launching) engine.Fence {
	return engine.Fence{Reasons: []string{"no quorum"}}
}

// rival is another order for the same guest.
func rival() signedop.Document {
	return order(web3(), func(d *signedop.Document) { d.Nonce = nonce("rival") })
}

// leftLaunching leaves an op behind that is launching, with the engine
// stopped.
func leftLaunching(w *world) signedop.Document {
	w.t.Helper()
	w.host.onLaunch = timeout
	d := order(web3())
	w.wantOutcome(w.runToEnd(signed(w.t, d)), engine.Indeterminate)
	w.stop()
	return d
}

// A node that never answers again must not keep the people from settling its
// ops, nor the rest of the queue from an answer.
func TestOpOfAHostThatNeverAnswersCanBeSettled(t *testing.T) {
	away := 1 << 30
	tests := map[string]struct {
		die  string // the append that the first process does not survive
		meet func(w *world, c *engine.Config)
	}{
		"launching":              {"", func(w *world, _ *engine.Config) { w.host.failures["FindTasks"] = away }},
		"launching, to fence":    {"", func(w *world, _ *engine.Config) { w.host.failures["Fence"] = away }},
		"launching, to probe":    {"", func(w *world, _ *engine.Config) { w.host.failures["Probe"] = away }},
		"task-running":           {op.TypeSucceeded, func(w *world, _ *engine.Config) { w.host.failures["Task"] = away }},
		"task-running, to probe": {op.TypeSucceeded, func(w *world, _ *engine.Config) { w.host.failures["Probe"] = away }},
		"launching, no executor": {"", func(_ *world, c *engine.Config) { c.Executors = nil }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				if tt.die == "" {
					w.host.onLaunch = timeout
				}
				d := dieAt(w, tt.die)
				w.start(recovering(w), func(c *engine.Config) { tt.meet(w, c) })
				<-w.engine.Surveyed()
				pass(time.Minute)
				if left := w.engine.Left(); len(left) != 1 || left[0].Nonce != d.Nonce {
					t.Errorf("left in flight: got %+v, want the op", left)
				}
				w.wantOutcome(w.runToEnd(signed(t, rival())), engine.Failed)
				raw := settling(w, d.Nonce, as("failed", op.EffectUnknown), person("alice"))
				w.wantOutcome(w.engine.Resolve(context.Background(), raw, "test"), engine.Failed)
			})
		})
	}
}

// A live job lets go of its op, too, if the host is away for long. When the
// host is back, the op ends by itself.
func TestALiveOpOfAHostThatIsAwayIsLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.stop()
		w.start(recovering(w))
		w.host.failures["Task"] = 1 << 30
		d := order(web3())
		w.wantOutcome(w.runToEnd(signed(t, d)), engine.Indeterminate)
		w.host.mu.Lock()
		w.host.failures["Task"] = 0
		w.host.mu.Unlock()
		pass(10 * time.Minute)
		if o := w.op(d.Nonce); o.State != op.StateSucceeded {
			t.Errorf("state: got %s, want succeeded", o.State)
		}
	})
}

// An op in flight that can't be read at the start keeps its target: until it
// was read, nothing is launched.
func TestSurveyWaitsUntilEachOpIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d := leftLaunching(w)
		w.host.fence = noQuorum
		w.store = storetest.NewFaulty(w.memory)
		var reads atomic.Int32
		w.store.OnRead = func(c storetest.ReadCall) (int, error) {
			if string(c.Stream) == d.Nonce.Stream() && reads.Add(1) <= 3 {
				return 0, errors.New("disk is slow")
			}
			return 0, nil
		}
		w.start(recovering(w))
		w.wantOutcome(w.runToEnd(signed(t, rival())), engine.Failed)
		if w.host.launched() != 1 {
			t.Errorf("launches: got %d, want the 1 of the op in flight", w.host.launched())
		}
	})
}

// A resolution that comes while the ops in flight are taken up must not make
// its op be passed over, and its target be had by another.
func TestResolveDuringTheSurvey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d := leftLaunching(w)
		raw := settling(w, d.Nonce, as("failed", op.EffectNone), person("alice"))
		open := make(chan struct{})
		var fencing atomic.Bool
		w.host.fence = func(h *fakeHost, l *op.Launching) engine.Fence {
			if fencing.CompareAndSwap(false, true) {
				h.mu.Unlock()
				defer h.mu.Lock()
				pass(time.Second) // other ops are submitted meanwhile
			}
			return noQuorum(h, l)
		}
		w.start(func(c *engine.Config) {
			c.Pending = func(ctx context.Context) ([]op.Nonce, error) {
				<-open
				return inFlight(w)(ctx)
			}
		})
		var wg sync.WaitGroup
		wg.Go(func() { w.engine.Resolve(context.Background(), raw, "test") })
		synctest.Wait()
		wg.Go(func() { w.runToEnd(signed(t, rival())) })
		synctest.Wait()
		close(open)
		wg.Wait()
		if w.host.launched() != 1 {
			t.Errorf("launches: got %d, want the 1 of the op in flight", w.host.launched())
		}
	})
}

// A list that is out of date must not bring recovery upon an op that was taken
// up by a job meanwhile.
func TestRecoveryByAStaleListLeavesALiveOpAlone(t *testing.T) {
	for name, until := range map[string]string{"claimed": op.TypeStarted, "launching": op.TypeLaunching} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.stop()
				w.store = storetest.NewFaulty(w.memory)
				d := order(web3())
				reading, read, hold := make(chan struct{}), make(chan struct{}), make(chan struct{})
				var first, stale atomic.Bool
				w.store.OnRead = func(c storetest.ReadCall) (int, error) {
					if string(c.Stream) == d.Nonce.Stream() && first.CompareAndSwap(false, true) {
						close(reading)
						<-read
					}
					return 0, nil
				}
				wait := func() { <-hold }
				switch until {
				case op.TypeStarted:
					var looks atomic.Int32
					w.host.onFacts = func() {
						if looks.Add(1) == 2 {
							wait()
						}
					}
				case op.TypeLaunching:
					w.host.onLaunch = func(h *fakeHost, l *op.Launching) (string, error) {
						wait()
						return h.carryOut(l, "OK"), nil
					}
				}
				w.start(func(c *engine.Config) {
					c.Pending = func(context.Context) ([]op.Nonce, error) {
						if stale.Load() {
							return []op.Nonce{d.Nonce}, nil
						}
						return nil, nil
					}
				})
				<-w.engine.Surveyed()
				stale.Store(true)
				<-reading
				w.wantOutcome(w.engine.RunSignedJob(context.Background(), signed(t, d)), engine.InFlight)
				synctest.Wait() // it is where it is held
				close(read)
				synctest.Wait()
				close(hold)
				w.wantOutcome(w.engine.Wait(context.Background(), d.Nonce), engine.Succeeded)
				pass(time.Minute)
				if types := w.types(op.GateStream("node-a")); len(types) != 0 {
					t.Errorf("gate's stream: got %v, want nothing", types)
				}
			})
		})
	}
}

// Once the request was accepted, whatever the host calls its task, the target
// is nobody else's until the op is settled.
func TestTaskThatCantBeOnRecordBlocksItsTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.onLaunch = func(*fakeHost, *op.Launching) (string, error) { return "UPID:caf\xe9:", nil }
		w.wantOutcome(w.runToEnd(signed(t, order(web3()))), engine.Indeterminate)
		w.wantOutcome(w.runToEnd(signed(t, rival())), engine.Failed)
		if w.host.launched() != 1 {
			t.Errorf("launches: got %d, want 1", w.host.launched())
		}
	})
}

// A task that may still be at work keeps others from its target, as a request
// does that may still become one.
func TestTaskThatMayRunBlocksItsTarget(t *testing.T) {
	for name, launch := range map[string]func(w *world) func(*fakeHost, *op.Launching) (string, error){
		"forgotten": func(*world) func(*fakeHost, *op.Launching) (string, error) {
			return func(*fakeHost, *op.Launching) (string, error) { return "UPID:gone:", nil }
		},
		"followed by another writer": func(w *world) func(*fakeHost, *op.Launching) (string, error) {
			return func(h *fakeHost, l *op.Launching) (string, error) {
				upid := h.start(l, engine.Task{Phase: engine.TaskActive})
				o := w.op(l.Nonce)
				head := o.Started.Header
				head.At = o.Since
				appendEvent(w, &o, &op.TaskRunning{Header: head, UPID: upid, Adopted: true})
				return upid, nil
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.host.onLaunch = launch(w)
				w.wantOutcome(w.runToEnd(signed(t, order(web3()))), engine.Indeterminate)
				got := w.runToEnd(signed(t, rival()))
				w.wantOutcome(got, engine.Failed)
				if w.host.launched() != 1 || !strings.Contains(got.Detail, "indeterminate") {
					t.Errorf("got %d launches and %q, want 1 and that it is blocked", w.host.launched(), got.Detail)
				}
			})
		})
	}
}

// With a shared credential, a task that an op got by its own launch is as much
// its own as one that was adopted: also if the op is an earlier attempt of the
// very same writ.
func TestTaskOfAnOrdinaryLaunchIsNotAdopted(t *testing.T) {
	for name, next := range map[string]signedop.Document{"another op": rival(), "the next attempt": order(web3())} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				next.NotBefore, next.ExpiresAt = order(web3()).NotBefore, order(web3()).ExpiresAt
				var upid string
				w.host.onLaunch = func(h *fakeHost, l *op.Launching) (string, error) {
					upid = h.start(l, engine.Task{Phase: engine.TaskEnded, ExitStatus: "VM is locked (backup)"})
					return upid, nil
				}
				w.wantOutcome(w.runToEnd(signed(t, order(web3()))), engine.Failed)
				w.host.onLaunch = timeout
				w.wantOutcome(w.runToEnd(signed(t, next)), engine.Indeterminate)
				w.stop()
				w.host.search = func(*fakeHost, *op.Launching) engine.TaskSearch {
					return engine.TaskSearch{UPIDs: []string{upid}, Complete: true}
				}
				w.start(recovering(w))
				pass(10 * time.Minute)
				if o := w.op(next.Nonce); o.State != op.StateLaunching {
					t.Errorf("state: got %s (%+v), want launching: its own request may still act", o.State, o.Failed)
				}
			})
		})
	}
}

// A host that hangs must not hold up the end of the service, whoever asked.
func TestStopDoesNotWaitForAResolution(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d := leftLaunching(w)
		raw := settling(w, d.Nonce, as("failed", op.EffectNone), person("alice"))
		w.start(func(c *engine.Config) {
			c.Executors = map[op.Class]engine.Executor{op.GuestDestroy: hangingFence{w.host}}
		})
		go w.engine.Resolve(context.Background(), raw, "test")
		synctest.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		began := time.Now()
		_ = w.engine.Stop(ctx)
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("stop took %s, it was given 1s", took)
		}
	})
}

// A hangingFence does not come back before it has to.
type hangingFence struct{ engine.Executor }

func (hangingFence) Fence(ctx context.Context, _ *op.Launching) (engine.Fence, error) {
	select {
	case <-ctx.Done():
		return engine.Fence{}, ctx.Err()
	case <-time.After(time.Hour):
		return engine.Fence{}, errors.New("timeout")
	}
}

// That a task is contested is put on record however often that fails, and
// nobody gets the target of a task that nobody follows.
func TestContestedIsRecordedInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var fails atomic.Int32
		w.store.OnAppend = func(c storetest.AppendCall) storetest.Fault {
			if c.Events[0].Type == op.TypeContested && fails.Add(1) <= 3 {
				return storetest.Lost
			}
			return 0
		}
		d := order(web3())
		w.host.onLaunch = func(h *fakeHost, l *op.Launching) (string, error) {
			o := w.op(d.Nonce)
			head := o.Started.Header
			head.At = o.Since
			appendEvent(w, &o, &op.Failed{Header: head, Kind: op.KindNotExecuted, Effect: op.EffectNone, Message: "wrongly taken for dead"})
			return h.start(l, engine.Task{Phase: engine.TaskActive}), nil
		}
		w.wantOutcome(w.engine.RunSignedJob(context.Background(), signed(t, d)), engine.InFlight)
		pass(time.Minute)
		if got := w.types(op.GateStream("node-a")); len(got) != 1 || got[0] != op.TypeContested {
			t.Errorf("gate's stream: got %v, want one %s", got, op.TypeContested)
		}
		w.wantOutcome(w.runToEnd(signed(t, rival())), engine.Failed)
		if w.host.launched() != 1 {
			t.Errorf("launches: got %d, want 1: the task of the first may be at work", w.host.launched())
		}
	})
}

// A task whose op's stream can't be read any more is left for a person, and
// not asked for in a circle.
func TestContestedOnACorruptStreamEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d := order(web3())
		w.host.onLaunch = func(h *fakeHost, l *op.Launching) (string, error) {
			junk := eventstore.Proposed{ID: eventstore.EventID{1}, Type: op.TypeFailed, Data: []byte("{}"), Metadata: []byte("{}")}
			if _, err := w.memory.Append(context.Background(), eventstore.StreamID(d.Nonce.Stream()), eventstore.At(1), junk); err != nil {
				t.Error(err)
			}
			return h.carryOut(l, "OK"), nil
		}
		w.wantOutcome(w.engine.RunSignedJob(context.Background(), signed(t, d)), engine.InFlight)
		pass(10 * time.Minute)
		if left := w.engine.Left(); len(left) != 1 || !strings.Contains(left[0].Detail, "UPID") {
			t.Errorf("left: got %+v, want the op with its task", left)
		}
	})
}
