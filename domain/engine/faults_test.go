package engine_test

import (
	"context"
	"fmt"
	"math/rand/v2"
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

// guardLaunch checks, at the very moment of a launch, that the announcement of
// exactly this request is the newest event on record.
func guardLaunch(w *world) {
	next := w.host.onLaunch
	w.host.onLaunch = func(h *fakeHost, l *op.Launching) (string, error) {
		o := w.op(l.Nonce)
		if o.State != op.StateLaunching || o.Launching.Request != l.Request || o.OpID != l.OpID {
			w.t.Errorf("launch of %+v while the record says %s", l.Request, o.State)
		}
		if next != nil {
			return next(h, l)
		}
		return h.carryOut(l, "OK"), nil
	}
}

// Every append of an op, failing in every form, once and for a while: the op
// comes to its end all the same, on one launch.
func TestAppendFaults(t *testing.T) {
	for n, step := range []string{"claim", "announcement", "task", "end"} {
		for _, fault := range []storetest.Fault{storetest.Lost, storetest.DoneButFailed, storetest.Late} {
			for _, times := range []int{1, 5} {
				t.Run(fmt.Sprintf("%s/%s/%d times", step, faultName(fault), times), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						w := newWorld(t)
						guardLaunch(w)
						seen := 0
						w.store.OnAppend = func(c storetest.AppendCall) storetest.Fault {
							if !strings.HasPrefix(string(c.Stream), op.StreamPrefix) || typeOf(n) != c.Events[0].Type {
								return 0
							}
							if seen++; seen > times {
								return 0
							}
							return fault
						}
						w.store.Before = func(c storetest.AppendCall) {
							if seen == times { // late ones arrive just before the last repetition
								w.store.Deliver(context.Background())
							}
						}
						d := order(web3())
						w.wantOutcome(w.runToEnd(signed(t, d)), engine.Succeeded)
						w.wantTypes(d.Nonce, op.TypeStarted, op.TypeLaunching, op.TypeTaskRunning, op.TypeSucceeded)
						if w.host.launched() != 1 || w.host.effects[d.Nonce] != 1 {
							t.Errorf("got %d launches and %d effects, want one of each", w.host.launched(), w.host.effects[d.Nonce])
						}
					})
				})
			}
		}
	}
}

func typeOf(n int) string {
	return []string{op.TypeStarted, op.TypeLaunching, op.TypeTaskRunning, op.TypeSucceeded}[n]
}

func faultName(f storetest.Fault) string {
	return map[storetest.Fault]string{
		storetest.Lost: "lost", storetest.DoneButFailed: "done but failed", storetest.Late: "late",
	}[f]
}

// An announcement that takes long to become durable is not acted upon: the
// look at the host is out of date by then.
func TestStaleAnnouncementIsNotLaunched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.store.OnAppend = func(c storetest.AppendCall) storetest.Fault {
			if c.Events[0].Type == op.TypeLaunching && c.N < 12 {
				return storetest.Lost
			}
			return 0
		}
		d := order(web3())
		got := w.runToEnd(signed(t, d))
		w.wantOutcome(got, engine.Failed)
		if got.Failure.Effect != op.EffectNone || !strings.Contains(got.Detail, "nothing was sent") {
			t.Errorf("failure: got effect %s: %s", got.Failure.Effect, got.Detail)
		}
		w.wantTypes(d.Nonce, op.TypeStarted, op.TypeLaunching, op.TypeFailed)
		if w.host.launched() != 0 {
			t.Errorf("launches: got %d, want 0", w.host.launched())
		}
	})
}

// Somebody else writes into the op's stream while a job holds it: the job
// stops at once, and before the announcement is its own, nothing is sent.
func TestOvertakenJobStops(t *testing.T) {
	for n := 1; n < 4; n++ {
		t.Run(typeOf(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				d := order(web3())
				w.store.Before = func(c storetest.AppendCall) {
					if c.Events[0].Type != typeOf(n) {
						return
					}
					o := w.op(d.Nonce)
					h := o.Started.Header
					h.Instance = "somebody else"
					kind, effect := op.KindInterrupted, op.EffectNone
					if n > 1 {
						kind, effect = op.KindResolved, op.EffectUnknown
					}
					appendEvent(w, &o, &op.Failed{Header: h, Kind: kind, Effect: effect, Message: "taken over"})
				}
				if got := w.runToEnd(signed(t, d)); got.Outcome == engine.Succeeded {
					t.Errorf("outcome: got %s for an op that was taken over", got.Outcome)
				}
				if n == 1 && w.host.launched() != 0 {
					t.Errorf("launches: got %d, want 0", w.host.launched())
				}
				if o := w.op(d.Nonce); o.Failed == nil || o.Failed.Instance != "somebody else" {
					t.Errorf("the record changed after the take-over: %s", o.State)
				}
			})
		})
	}
}

func appendEvent(w *world, o *op.Op, e op.Event) {
	w.t.Helper()
	rec, _, err := o.Propose(e)
	if err != nil {
		w.t.Fatalf("propose: %v", err)
	}
	if done := engine.AppendRecord(context.Background(), w.memory, o.Nonce.Stream(), rec); done.Outcome != engine.AppendOK {
		w.t.Fatalf("append: %v", done.Err)
	}
}

// The process dies before or after each append; its successor is given the
// same writ. It never launches what may have been launched.
func TestDeathAtEachAppend(t *testing.T) {
	for n := range 4 {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/after=%t", typeOf(n), after), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t)
					guardLaunch(w)
					d := order(web3())
					die := func(c storetest.AppendCall) {
						if c.Events[0].Type == typeOf(n) {
							w.store.Cut()
						}
					}
					if after {
						w.store.After = func(c storetest.AppendCall, _ appended, _ error) { die(c) }
					} else {
						w.store.Before = die
					}
					ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
					defer cancel()
					w.engine.RunSignedJob(ctx, signed(t, d))
					synctest.Wait()
					pass(30 * time.Second)
					w.stop()

					w.store = storetest.NewFaulty(w.memory)
					w.start()
					again, cancel := context.WithTimeout(context.Background(), time.Minute)
					defer cancel()
					got := w.engine.RunSignedJob(again, signed(t, d))
					if got.Outcome == engine.InFlight {
						got = w.engine.Wait(again, d.Nonce)
					}
					reached := n
					if after {
						reached++
					}
					want := map[int]engine.Outcome{
						0: engine.Succeeded,      // nothing was on record: it runs now
						1: engine.InFlight,       // claimed, and nobody's: it waits for recovery
						2: engine.InFlight,       // announced: only recovery may judge it
						3: engine.InFlight,       // running at the host
						4: engine.AlreadyApplied, // ended
					}[reached]
					w.wantOutcome(got, want)
					if w.host.effects[d.Nonce] > 1 || w.host.launched() > 1 {
						t.Errorf("got %d launches, %d effects; want at most one", w.host.launched(), w.host.effects[d.Nonce])
					}
				})
			})
		}
	}
}

// Whatever the results, in whatever order: a job launches at most once, only
// after its announcement is on record, and calls nothing done without proof.
func TestJobUnderRandomResults(t *testing.T) {
	p, err := gate.Compile(policy(), 1)
	if err != nil {
		t.Fatalf("compile: %v", err)
	}
	who := engine.Identity{Site: gate.Site{Agent: "lab", Ledger: string(ledger)}, Instance: "x"}
	ends := make(map[engine.Outcome]int)
	runs := 1000
	if testing.Short() {
		runs = 300
	}
	for seed := range uint64(runs) {
		r := rand.New(rand.NewPCG(seed, 1))
		d := order(web3())
		sub := signed(t, d)
		now := time.Now()
		j := engine.NewJob(who, engine.DefaultPace(), func() op.Claim { return op.Claim{byte(seed), byte(seed >> 8), 1} }, sub)
		o := op.New(string(ledger), d.Nonce)
		var launches, steps int
		var announced, taken, proven bool
		for cmd := j.Begin(now); ; steps++ {
			if f, ok := cmd.(engine.Finish); ok {
				ends[f.Answer.Outcome]++
				break
			}
			if steps > 2000 {
				t.Fatalf("seed %d: no end after %d steps, at %T", seed, steps, cmd)
			}
			now = now.Add(time.Duration(r.IntN(500)) * time.Millisecond)
			if r.IntN(60) == 0 {
				now = now.Add(2 * time.Hour)
			}
			switch c := cmd.(type) {
			case engine.Launch:
				launches++
				if launches > 1 || !announced || o.State != op.StateLaunching {
					t.Fatalf("seed %d: launch %d while the record says %s", seed, launches, o.State)
				}
			case engine.Append:
				e, err := op.Decode(c.Record.Type, c.Record.Data)
				if err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				if f, ok := e.(*op.Failed); ok && f.Effect == op.EffectNone && taken && !proven {
					t.Fatalf("seed %d: effect none without proof: %s", seed, f.Message)
				}
				if _, ok := e.(*op.Succeeded); ok && !proven {
					t.Fatalf("seed %d: success without proof", seed)
				}
			}
			res := randomResult(r, cmd, p, &o)
			switch in := res.(type) {
			case engine.AppendDone:
				announced = announced || in.Outcome == engine.AppendOK && o.State == op.StateLaunching
			case engine.LaunchDone:
				taken = !engine.IsDefinite(in.Err)
			case engine.Probed:
				proven = in.Err == nil && slices.Contains([]op.Effect{op.EffectDone, op.EffectNone}, in.Finding.Evidence.Effect)
			case engine.TaskAsked:
				proven = proven || in.Err == nil && in.Task.Phase == engine.TaskEnded && in.PrecedesEffect
			}
			cmd = j.Step(now, res)
		}
	}
	for _, o := range []engine.Outcome{engine.Succeeded, engine.Failed, engine.Indeterminate, engine.RefusedByGate, engine.Unavailable} {
		if ends[o] == 0 {
			t.Errorf("no run of %d ended as %s: the test does not reach it (%v)", runs, o, ends)
		}
	}
}

// randomResult gives any result that a command may have, and keeps the record.
func randomResult(r *rand.Rand, cmd engine.Command, p *gate.Policy, o *op.Op) engine.Result {
	var err error
	if r.IntN(8) == 0 {
		err = fmt.Errorf("broken %d", r.IntN(9))
	}
	one := func(texts ...string) string { return texts[r.IntN(len(texts))] }
	switch c := cmd.(type) {
	case engine.ReadOp:
		return engine.OpRead{Op: *o, Err: err}
	case engine.ReadPolicy:
		return engine.PolicyRead{Policy: p, Err: err}
	case engine.ReadFacts:
		return engine.FactsRead{Facts: op.Facts{Found: r.IntN(8) > 0, Node: "pve1", Name: "web-3"}, Err: err}
	case engine.RecordRefusal:
		return engine.RefusalRecorded{Err: err}
	case engine.Reserve:
		return engine.Reserved{OK: r.IntN(9) > 0}
	case engine.Append:
		switch r.IntN(12) {
		case 0:
			return engine.AppendDone{Outcome: engine.AppendUnknown, Err: fmt.Errorf("timeout")}
		case 1:
			return engine.AppendDone{Outcome: engine.AppendLost, Err: fmt.Errorf("wrong revision")}
		}
		if err := o.Apply(c.Record); err != nil {
			panic(err)
		}
		return engine.AppendDone{Outcome: engine.AppendOK}
	case engine.AwaitTurn:
		return engine.TurnCame{Stopping: r.IntN(12) == 0}
	case engine.Observe:
		seen := web3()
		seen.Quorate = r.IntN(12) > 0
		return engine.HostObserved{Seen: seen, Request: op.Request{Method: "DELETE", Path: "/x"}, Credential: "t", NoExecutor: r.IntN(20) == 0, Err: err}
	case engine.Launch:
		if r.IntN(6) == 0 {
			return engine.LaunchDone{Err: engine.Definite(fmt.Errorf("refused"))}
		}
		return engine.LaunchDone{UPID: one("", "UPID:x", "UPID:y"), Err: err}
	case engine.AskTask:
		phase := []engine.TaskPhase{engine.TaskActive, engine.TaskEnded, engine.TaskEnded, engine.TaskForgotten}[r.IntN(4)]
		return engine.TaskAsked{
			Task:           engine.Task{Phase: phase, ExitStatus: one("OK", "WARNINGS: 1", "unexpected status", "VM is locked")},
			PrecedesEffect: r.IntN(2) == 0, Err: err,
		}
	case engine.ProbeHost:
		effect := []op.Effect{op.EffectDone, op.EffectNone, op.EffectPartial, op.EffectUnknown}[r.IntN(4)]
		return engine.Probed{Finding: engine.Finding{Evidence: op.Evidence{Effect: effect, Reasons: []string{"seen"}}}, Err: err}
	case engine.Pause:
		return engine.Paused{}
	}
	panic(fmt.Sprintf("%T", cmd))
}

// A claim never shares an event id with another one for the same op.
func TestTwoClaimantsNeverShareAnEventID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d := order(web3())
		ids := make(map[string]bool)
		w.store.OnAppend = func(c storetest.AppendCall) storetest.Fault {
			if c.Events[0].Type != op.TypeStarted {
				return 0
			}
			ids[fmt.Sprintf("%x", c.Events[0].ID)] = true
			return 0
		}
		first := make(chan struct{})
		var claims int
		w.store.Before = func(c storetest.AppendCall) {
			if c.Events[0].Type == op.TypeStarted {
				if claims++; claims == 1 {
					<-first // until the other claimant has won
				}
			}
		}
		lost := make(chan engine.Answer)
		go func() { lost <- w.engine.RunSignedJob(context.Background(), signed(t, d)) }()
		synctest.Wait()
		w.wantOutcome(w.runToEnd(signed(t, d)), engine.Succeeded)
		close(first)
		w.wantOutcome(<-lost, engine.AlreadyApplied)
		if len(ids) != 2 {
			t.Errorf("event ids of two claims: got %d, want 2", len(ids))
		}
		if w.host.launched() != 1 {
			t.Errorf("launches: got %d, want 1", w.host.launched())
		}
	})
}

func manyOrders(t *testing.T, w *world, n int) []signedop.Document {
	t.Helper()
	docs := make([]signedop.Document, n)
	for i := range docs {
		g := web3()
		g.VMID = 100 + i
		g.SMBIOSUUID = fmt.Sprintf("5c6f0f0e-7a3b-4d1c-9e2f-%012d", i)
		g.Volumes = []string{fmt.Sprintf("local-lvm:vm-%d-disk-0", g.VMID)}
		w.host.add(g)
		docs[i] = order(g)
	}
	return docs
}
