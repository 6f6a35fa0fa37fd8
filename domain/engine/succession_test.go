package engine_test

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"writ/domain/engine"
	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
	"writ/domain/gate"
	"writ/domain/op"
	"writ/domain/signedop"
)

// overOld restarts w over another memory.
func (w *world) over(t *testing.T, m *storetest.Memory, opts ...option) {
	t.Helper()
	w.memory, w.store = m, storetest.NewFaulty(m)
	w.book = engine.NewPolicyBook(m, w.who, systemClock{})
	if _, err := w.book.Enforce(context.Background(), policy(), op.Digest{}); err != nil {
		t.Fatal(err)
	}
	w.start(opts...)
}

// A process that never compared the ledger with its mark replaces the mark.
func TestUnexaminedProcessReplacesTheMark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newLedger(t)
		d := order(web3())
		before := count(t, w.memory)
		w.wantOutcome(w.runToEnd(signed(t, d)), engine.Succeeded)
		pass(time.Minute)
		w.stop()
		old := copyOf(t, w.memory, before)
		w.host.add(web3())
		newest := f.now()

		t.Log("an old copy; the mark can't be read for a while (NFS away), a stranger knocks, the service is restarted")
		seenErr := errors.New("stale file handle")
		flaky := &seenFails{fakeWitness: f, err: seenErr}
		w.over(t, old, func(c *engine.Config) { c.Guard.Witness = flaky })
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		w.engine.RunSignedJob(ctx, engine.Submission{Intent: d.Intent(), SubmittedBy: "test"}) // refused, on record
		cancel()
		w.stop()
		if f.now() != newest {
			t.Errorf("mark: position %d now, was %d", f.now().Position, newest.Position)
		}
		flaky.fail(nil)
		w.start(witnessedBy(f))
		got := w.runToEnd(signed(t, d))
		t.Logf("redelivered: %s %q; halted: %v", got.Outcome, got.Detail, w.engine.Halted())
		if n := w.host.effects[d.Nonce]; n != 1 {
			t.Errorf("effects of one nonce: got %d, want 1", n)
		}
	})
}

// The same without any fault of the witness: it is stopped right after the start.
func TestUnexaminedStoreAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newLedger(t)
		d := order(web3())
		before := count(t, w.memory)
		w.wantOutcome(w.runToEnd(signed(t, d)), engine.Succeeded)
		pass(time.Minute)
		w.stop()
		old := copyOf(t, w.memory, before)
		w.host.add(web3())
		newest := f.now()
		w.over(t, old, witnessedBy(f))
		w.engine.Void(context.Background(), nonce("some other"), "alice", "changed my mind")
		w.stop()
		if f.now() != newest {
			t.Errorf("mark: position %d now, was %d", f.now().Position, newest.Position)
		}
		w.start(witnessedBy(f))
		w.runToEnd(signed(t, d))
		if n := w.host.effects[d.Nonce]; n != 1 {
			t.Errorf("effects of one nonce: got %d, want 1", n)
		}
	})
}

type seenFails struct {
	*fakeWitness
	mu  sync.Mutex
	err error // guarded by mu
}

// fail changes what questions end with from now on.
func (s *seenFails) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *seenFails) Seen(ctx context.Context) (engine.Mark, bool, error) {
	s.mu.Lock()
	err := s.err
	s.mu.Unlock()
	if err != nil {
		return engine.Mark{}, false, err
	}
	return s.fakeWitness.Seen(ctx)
}

// The machine is rolled back with its memory (or cloned while running): the witness is
// ahead of what this process has noted, and is overwritten.
func TestRunningMachineRolledBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newLedger(t)
		pass(time.Minute)
		f.mu.Lock()
		f.mark.Position += 1000000
		f.mark.Event[0] ^= 1
		ahead := f.mark
		f.mu.Unlock()
		got := w.runToEnd(signed(t, order(web3())))
		pass(2 * time.Minute)
		got2 := w.runToEnd(signed(t, rival()))
		if f.now().Position < ahead.Position {
			t.Errorf("mark went back from %d to %d; halted: %v; first %s, second %s", ahead.Position, f.now().Position, w.engine.Halted(), got.Outcome, got2.Outcome)
		}
	})
}

// While launching is stopped because the host remembers another copy's attempts, the mark
// moves on with this copy; then the remedy "put the newest copy back" is taken for the old one.
func TestNewestCopyPutBack(t *testing.T) {
	for name, guard := range map[string]func(context.Context) ([]string, error){
		"strangers": func(context.Context) ([]string, error) { return []string{"writ@pve!w-1"}, nil },
		"host away": func(context.Context) ([]string, error) { return nil, errors.New("no route to host") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, f := newLedger(t)
				pass(time.Minute)
				w.stop()
				old, m0 := copyOf(t, w.memory, 1000), f.now()
				w.start(witnessedBy(f))
				w.wantOutcome(w.runToEnd(signed(t, order(web3()))), engine.Succeeded)
				pass(time.Minute)
				w.stop()
				newest := w.memory

				f.mark = m0 // ledger and mark are rolled back together
				w.over(t, old, func(c *engine.Config) { c.Guard = engine.Guard{Witness: f, Foreign: guard} })
				pass(time.Minute)
				t.Logf("old copy: %v", w.engine.Halted())
				w.stop()

				w.over(t, newest, witnessedBy(f))
				pass(time.Second)
				if err := w.engine.Halted(); err != nil {
					t.Errorf("newest copy put back, as told: got %v, want it to launch", err)
				}
			})
		})
	}
}

// Recovery writes into an old copy that an op never had an effect.
func TestRecoveryOverAnOldCopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newLedger(t)
		d := order(web3())
		w.wantOutcome(w.runToEnd(signed(t, d)), engine.Succeeded)
		pass(time.Minute)
		w.stop()
		n := 0
		var keep int
		for rec, err := range w.memory.ReadAll(context.Background(), eventstore.Cursor{}, eventstore.Filter{}) {
			if err != nil {
				t.Fatal(err)
			}
			if n++; rec.Type == op.TypeStarted {
				keep = n
			}
		}
		old := copyOf(t, w.memory, keep)
		w.over(t, old, witnessedBy(f), recovering(w))
		pass(time.Minute)
		t.Logf("halted: %v", w.engine.Halted())
		if o := w.op(d.Nonce); o.State == op.StateFailedClean {
			t.Errorf("on record: %s, effect %s, %q; the host had its effect %d times", o.State, o.Failed.Effect, o.Failed.Message, w.host.effects[d.Nonce])
		}
	})
}

// An op that rests here is passed over by the survey of a later term.
func TestLaterTermPassesOverWhatRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pair(t)
		h := a.host
		d := order(web3(), func(d *signedop.Document) { d.ExpiresAt = d.NotBefore.Add(23 * time.Hour) })
		h.onLaunch = func(h *fakeHost, l *op.Launching) (string, error) {
			return h.start(l, engine.Task{Phase: engine.TaskEnded, ExitStatus: "unexpected status"}), nil
		}
		h.finding = &engine.Finding{Evidence: op.Evidence{Effect: op.EffectUnknown, Reasons: []string{"one volume can't be looked at"}}}
		a.wantOutcome(a.runToEnd(signed(t, d)), engine.Indeterminate)
		pass(20 * time.Minute) // it rests for five minutes by now
		a.store.Cut()
		pass(2 * lease)
		if !b.engine.Standing().Leads {
			t.Fatal("b does not lead")
		}
		a.store.Heal()
		pass(lease)
		if a.engine.Standing().Leads {
			t.Fatal("a still leads")
		}
		h.change(func(h *fakeHost) { h.finding = nil })
		b.wantOutcome(b.engine.Resolve(context.Background(), settling(b, d.Nonce, as("failed", op.EffectNone), person("alice")), "test"), engine.Failed)
		h.change(func(h *fakeHost) {
			h.onLaunch = func(*fakeHost, *op.Launching) (string, error) { return "", errors.New("connection reset") } // on its way
		})
		b.wantOutcome(b.runToEnd(signed(t, d)), engine.Indeterminate)
		b.store.Cut()
		a.store.Heal()
		launched, fences := h.launched(), 0
		h.change(func(h *fakeHost) { fences, h.onLaunch = h.fences, nil })
		for !a.engine.Standing().Leads {
			pass(100 * time.Millisecond)
		}
		<-a.engine.Surveyed()
		synctest.Wait() // by now it stands in line for its target; the fence is its next step, and no time passes before it
		o := a.op(d.Nonce)
		since := 0
		h.change(func(h *fakeHost) { since = h.fences - fences })
		if since == 0 && o.State == op.StateLaunching {
			t.Errorf("surveyed, but attempt %d of the predecessor is %s and was never fenced", o.Attempt, o.State)
		}
		got := a.runToEnd(signed(t, order(web3(), func(d *signedop.Document) { d.Nonce = nonce("another for the same guest") })))
		h.change(func(h *fakeHost) { since = h.fences - fences })
		if h.launched() > launched && since == 0 {
			t.Errorf("another op on the target was launched (%s) while that request may still act", got.Outcome)
		}
	})
}

// An instance whose ledger is an old one, or that never kept a mark, takes the lead and keeps it.
func TestHaltedInstanceLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newWorld(t)
		a.stop()
		a.start(sharing(a))
		pass(2 * lease)
		c := newWorldOver(a, "node-c", sharing(a), witnessedBy(new(fakeWitness)))
		a.stop()
		pass(10 * lease)
		s := c.engine.Standing()
		if s.Leads && s.Halted != nil {
			t.Errorf("the one that must not launch leads: %v", s.Halted)
		}
	})
}

// OnLead of an instance that has been superseded goes on and on, e.g. putting its policy in force.
func TestOnLeadAfterTheTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.stop()
		calls := 0
		w.start(sharing(w), func(c *engine.Config) {
			c.OnLead = func(context.Context) error { calls++; return errors.New("not yet") }
		})
		pass(lease)
		b := newWorldOver(w, "node-b", sharing(w))
		pass(3 * lease)
		if !b.engine.Standing().Leads {
			t.Fatalf("b: %+v", b.engine.Standing())
		}
		was := calls
		pass(time.Hour)
		if calls > was+1 {
			t.Errorf("the superseded one prepared itself %d times more while the other led", calls-was)
		}
	})
}

// A short lease.
func TestNoLeaseIsRefused(t *testing.T) {
	w := newWorld(t)
	cfg := engine.Config{Identity: engine.Identity{Site: gate.Site{Agent: "lab", Ledger: string(ledger)}, Instance: "x"}, Store: w.store, Policies: w.book, Host: w.host, Clock: systemClock{}, Draw: w.draw, Log: slog.New(slog.DiscardHandler), Lease: 1}
	e, err := engine.New(context.Background(), cfg)
	if err == nil {
		t.Error("a lease of 1 ns was taken")
		_ = e.Stop(context.Background())
	}
}

// The successor adopts the very task that the old leader started, and ends the op. When the
// old leader hears of the ledger again it raises the alarm, and blocks the target for good.
func TestAdoptedBySuccessorIsNotContested(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pair(t)
		a.host.onLaunch = func(h *fakeHost, l *op.Launching) (string, error) {
			upid := h.carryOut(l, "OK")
			a.store.Cut() // the answer comes, the ledger can't be reached any more
			return upid, nil
		}
		d := order(web3())
		a.engine.RunSignedJob(context.Background(), signed(t, d))
		pass(3 * lease)
		if o := b.op(d.Nonce); !b.engine.Standing().Leads || o.State != op.StateSucceeded {
			t.Fatalf("b: %+v, op %s", b.engine.Standing(), o.State)
		}
		a.store.Heal()
		pass(lease)
		if types := a.types(op.GateStream("node-a")); slices.Contains(types, op.TypeContested) {
			t.Errorf("contested, though the task on record is that one: %s", b.op(d.Nonce).Running.UPID)
		}
		b.stop()
		pass(3 * lease)
		a.host.onLaunch = nil
		a.host.add(web3())
		if got := a.runToEnd(signed(t, rival())); got.Outcome != engine.Succeeded {
			t.Errorf("a new op on the target: %s %s", got.Outcome, got.Detail)
		}
	})
}

// The successor's fence takes the name of the token that the old leader is about to make.
// The old leader takes that for another copy of the ledger, and is halted for good.
func TestSuccessorsTombstoneIsNoOtherCopy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pair(t)
		goOn := make(chan struct{})
		a.host.onLaunch = func(h *fakeHost, l *op.Launching) (string, error) {
			a.store.Cut()
			<-goOn // the machine is paused right after the last check
			return "", &engine.OtherCopyError{Why: "the host has a token of attempt 1 of this op already"}
		}
		go a.engine.RunSignedJob(context.Background(), signed(t, order(web3())))
		pass(3 * lease)
		if !b.engine.Standing().Leads || a.host.fences == 0 {
			t.Fatalf("b: %+v, %d fences", b.engine.Standing(), a.host.fences)
		}
		a.store.Heal()
		close(goOn)
		pass(lease)
		b.stop()
		pass(3 * lease)
		if s := a.engine.Standing(); s.Halted != nil {
			t.Errorf("leads: %t, halted: %v", s.Leads, s.Halted)
		}
	})
}

// The same, and the old leader hears of the token before it hears of the ledger again.
func TestTombstoneIsNotJudgedWithoutTheLedger(t *testing.T) {
	for name, taken := range map[string]bool{"a successor has made it": true, "nobody has taken over": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := pair(t)
				goOn := make(chan struct{})
				a.host.onLaunch = func(h *fakeHost, l *op.Launching) (string, error) {
					a.store.Cut()
					<-goOn
					return "", &engine.OtherCopyError{Why: "the host has a token of attempt 1 of this op already"}
				}
				d := order(web3())
				go a.engine.RunSignedJob(context.Background(), signed(t, d))
				if taken {
					pass(3 * lease)
				} else {
					pass(time.Second)
				}
				if b.engine.Standing().Leads != taken {
					t.Fatalf("b: %+v, %d fences", b.engine.Standing(), a.host.fences)
				}
				close(goOn)
				pass(time.Second)
				if a.engine.Halted() == nil {
					t.Error("nobody knows whose token it is, and launching goes on")
				}
				a.store.Heal()
				pass(lease)
				b.stop()
				pass(3 * lease)
				s := a.engine.Standing()
				switch {
				case taken && (s.Halted != nil || !s.Leads):
					t.Errorf("leads: %t, halted: %v", s.Leads, s.Halted)
				case !taken && (s.Halted == nil || strings.Contains(s.Halted.Error(), "can't be found out yet")):
					t.Errorf("another copy acts; halted: %v", s.Halted)
				}
			})
		})
	}
}

// What overtakes an op that waits for its turn is the same each time: the end of
// the service, though launching is stopped as well.
func TestEndOfTheServiceComesBeforeAHalt(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.stop()
			clock := new(shiftedClock)
			claiming, claimed := make(chan struct{}), make(chan struct{})
			w.start(func(c *engine.Config) {
				c.Clock = clock
				c.Guard = engine.Guard{HostTime: func(context.Context) (time.Time, error) { return time.Now(), nil }}
				c.Store = heldClaim{c.Store, claiming, claimed}
			})
			pass(5 * time.Second)
			d := order(web3())
			go w.engine.RunSignedJob(context.Background(), signed(t, d))
			<-claiming
			clock.set(-time.Hour)
			pass(2 * time.Minute)
			if w.engine.Halted() == nil {
				t.Fatal("launching goes on")
			}
			go w.stop()
			synctest.Wait()
			close(claimed)
			synctest.Wait()
			if o := w.op(d.Nonce); o.Failed == nil || o.Failed.Kind != op.KindInterrupted {
				t.Fatalf("got %s %+v, want it interrupted", o.State, o.Failed)
			}
		})
	}
}

// A heldClaim lets no claim be answered before its time.
type heldClaim struct {
	eventstore.Store

	claiming, claimed chan struct{}
}

func (h heldClaim) Append(ctx context.Context, stream eventstore.StreamID, expected eventstore.Expected, events ...eventstore.Proposed) (eventstore.Appended, error) {
	got, err := h.Store.Append(ctx, stream, expected, events...)
	if events[0].Type == op.TypeStarted {
		close(h.claiming)
		<-h.claimed
	}
	return got, err
}

// The clock is ahead when the machine starts, and is set right a moment later.
func TestClockAheadAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newLedger(t)
		w.stop()
		clock := new(shiftedClock)
		guarded := func(c *engine.Config) {
			c.Clock = clock
			c.Guard = engine.Guard{Witness: f, HostTime: func(context.Context) (time.Time, error) { return time.Now(), nil }}
		}
		clock.set(8 * time.Hour) // a hardware clock in local time
		w.start(guarded)
		pass(5 * time.Second)
		clock.set(0)
		pass(time.Minute)
		w.stop()
		w.start(guarded)
		pass(5 * time.Minute)
		if err := w.engine.Halted(); err != nil {
			t.Errorf("the clock is right again, the service was started again, and still: %v", err)
		}
	})
}

// The take-over of an instance that was told of no outcome is on record: it waits for itself.
func TestTakeOverOfUnknownOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.stop()
		m := newWorldFaulty(w, func(c storetest.AppendCall) storetest.Fault {
			if c.Events[0].Type == op.TypeTookOver && c.Expected.String() != "" {
				return storetest.DoneButFailed
			}
			return 0
		})
		began := time.Now()
		for !m.engine.Standing().Leads && time.Since(began) < time.Hour {
			pass(time.Second)
		}
		// The one before gave no sign of life: its lease is waited for.
		if took := time.Since(began); took > lease+5*time.Second {
			t.Errorf("it led after %s: it waited for the lease of its own take-over, too", took)
		}
	})
}

func newWorldFaulty(w *world, f func(storetest.AppendCall) storetest.Fault) *world {
	o := &world{t: w.t, memory: w.memory, store: storetest.NewFaulty(w.memory), host: w.host, log: w.log, who: w.who, drawn: 1 << 33, book: w.book}
	var once atomic.Bool
	o.store.OnAppend = func(c storetest.AppendCall) storetest.Fault {
		if once.Load() {
			return 0
		}
		g := f(c)
		if g != 0 {
			once.Store(true)
		}
		return g
	}
	o.start(sharing(o))
	return o
}

// With shared tokens there is no other memory: a standby that records a refusal and stops replaces a shared mark.
func TestStandbyReplacesTheMark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newLedger(t)
		w.stop()
		w.start(sharing(w), witnessedBy(f))
		pass(2 * lease)
		b := newWorldOver(w, "node-b", sharing(w), witnessedBy(f))
		b.engine.RunSignedJob(context.Background(), engine.Submission{Intent: order(web3()).Intent(), SubmittedBy: "test"})
		w.wantOutcome(w.runToEnd(signed(t, order(web3()))), engine.Succeeded)
		pass(time.Minute)
		was := f.now().Position
		b.stop()
		if f.now().Position < was {
			t.Errorf("mark: %d after the standby's stop, was %d", f.now().Position, was)
		}
	})
}

// A standby of long standing: what came since its mark can't be read within AppendTimeout, so it never takes over.
func TestStandbyOfLongStanding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newLedger(t)
		w.stop()
		own := &fakeWitness{mark: f.now(), kept: true}
		w.start(sharing(w), witnessedBy(f))
		pass(2 * lease)
		b := newWorldOver(w, "node-b", sharing(w), witnessedBy(own), func(c *engine.Config) { c.Store = slowReads{c.Store} })
		pass(6 * time.Hour) // a sign of life every six seconds
		w.store.Cut()
		pass(time.Hour)
		if !b.engine.Standing().Leads {
			t.Errorf("an hour after the leader was lost: %+v (ledger of %d events, 5 ms each)", b.engine.Standing(), count(t, w.memory))
		}
	})
}

type slowReads struct{ eventstore.Store }

func (s slowReads) ReadAll(ctx context.Context, after eventstore.Cursor, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for e, err := range s.Store.ReadAll(ctx, after, f) {
			if wait := (systemClock{}).Wait(ctx, 5*time.Millisecond); wait != nil {
				yield(eventstore.Recorded{}, wait)
				return
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// A rollback is accepted over a shared store while an instance runs: it goes on under the old audience.
func TestAcceptedWhileItRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newLedger(t)
		pass(time.Minute)
		d := order(web3())
		if err := engine.AcceptRollback(context.Background(), w.memory, f, "lab", op.RollbackAccepted{Audience: "00112233445566ff", By: "alice"}); err != nil {
			t.Fatal(err)
		}
		if got := w.runToEnd(signed(t, d)); got.Outcome == engine.Succeeded {
			t.Errorf("a writ for the audience that was given up: %s", got.Outcome)
		}
	})
}

// An instance over a store that its ledger has moved from still takes over and recovers (fences).
func TestClosedStoreIsRecovered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		d := leftLaunching(w)
		if err := engine.CloseStore(context.Background(), w.memory, op.StoreClosed{To: "esdb", At: time.Now()}); err != nil {
			t.Fatal(err)
		}
		w.start(recovering(w))
		pass(time.Minute)
		s := w.engine.Standing()
		if s.Leads || w.host.fences > 0 {
			t.Errorf("over the closed store: leads %t, %d fences, op is %s (halted: %v)", s.Leads, w.host.fences, w.op(d.Nonce).State, s.Halted)
		}
	})
}
