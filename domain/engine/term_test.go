package engine_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"writ/domain/engine"
	"writ/domain/eventstore/storetest"
	"writ/domain/op"
	"writ/domain/signedop"
)

const lease = 30 * time.Second

func sharing(w *world) option {
	return func(c *engine.Config) {
		c.Lease, c.Pending = lease, inFlight(w)
		// Who leads is to be looked at for its own sake, not for the age of a look.
		c.Pace = engine.DefaultPace()
		c.Pace.StaleLook = 24 * time.Hour
	}
}

// pair are two instances over one ledger, the first of which leads.
func pair(t *testing.T) (a, b *world) {
	t.Helper()
	a = newWorld(t)
	a.stop() // it leads without a lease
	a.start(sharing(a))
	pass(2 * lease)
	b = newWorldOver(a, "node-b", sharing(a))
	pass(time.Second)
	if sa, sb := a.engine.Standing(), b.engine.Standing(); !sa.Leads || sb.Leads {
		t.Fatalf("got %+v and %+v, want the first to lead alone", sa, sb)
	}
	return a, b
}

func TestStandbyAnswersButTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pair(t)
		d := order(web3())
		got := b.runToEnd(signed(t, d))
		b.wantOutcome(got, engine.Unavailable)
		if !strings.Contains(got.Detail, "another instance leads") {
			t.Errorf("detail: got %q", got.Detail)
		}
		b.wantTypes(d.Nonce)
		a.wantOutcome(a.runToEnd(signed(t, d)), engine.Succeeded)
		b.wantOutcome(b.runToEnd(signed(t, d)), engine.AlreadyApplied)
		b.wantOutcome(b.engine.Wait(context.Background(), d.Nonce), engine.Succeeded)
		raw := settling(a, d.Nonce, as("failed", op.EffectUnknown), person("alice"))
		b.wantOutcome(b.engine.Resolve(context.Background(), raw, "test"), engine.Unavailable)
		if o := b.op(d.Nonce); o.Started.Epoch != a.engine.Standing().Epoch || o.Succeeded.Epoch != o.Started.Epoch {
			t.Errorf("epochs: got %d and %d, want %d", o.Started.Epoch, o.Succeeded.Epoch, a.engine.Standing().Epoch)
		}

		t.Log("a leader that lives is left in place, however long that is")
		pass(time.Hour)
		if !a.engine.Standing().Leads || b.engine.Standing().Leads {
			t.Errorf("got %+v and %+v, want the first to lead alone", a.engine.Standing(), b.engine.Standing())
		}
	})
}

func TestStandbyTakesOver(t *testing.T) {
	tests := map[string]struct {
		end    func(a *world)
		within time.Duration
	}{
		"from one that says that it leaves": {func(a *world) { a.stop() }, lease / 4},
		"from one that is not heard of":     {func(a *world) { a.store.Cut() }, 2 * lease},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := pair(t)
				before := a.engine.Standing().Epoch
				tt.end(a)
				pass(tt.within)
				if s := b.engine.Standing(); !s.Leads || s.Epoch != before+1 {
					t.Fatalf("the other: got %+v, want that it leads under epoch %d", s, before+1)
				}
				b.wantOutcome(b.runToEnd(signed(t, order(web3()))), engine.Succeeded)
			})
		})
	}
}

// A leader is held up between the announcement and the request, for longer than
// its lease. Whoever takes over fences the request before anything else; and
// when the leader goes on, it sends nothing.
func TestSuccessorFencesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pair(t)
		heldUp := make(chan struct{})
		a.store.After = func(c storetest.AppendCall, _ appended, _ error) {
			if c.Events[0].Type == op.TypeLaunching {
				a.store.Cut() // from then on it hears of nobody
				<-heldUp
				a.store.Heal()
			}
		}
		var order1 []string
		b.host.search = func(*fakeHost, *op.Launching) engine.TaskSearch {
			order1 = append(order1, "find")
			return engine.TaskSearch{Exact: true, Complete: true}
		}
		b.host.fence = func(*fakeHost, *op.Launching) engine.Fence {
			order1 = append(order1, "fence")
			return engine.Fence{Confirmed: true, Digest: "fenced"}
		}
		d := order(web3())
		go a.engine.RunSignedJob(context.Background(), signed(t, d))
		pass(3 * lease)
		if !b.engine.Standing().Leads {
			t.Fatal("the other has not taken over")
		}
		if len(order1) < 2 || order1[0] != "find" || order1[1] != "fence" {
			t.Errorf("what the successor asked: got %v, want one search, then the fence", order1)
		}
		if o := b.op(d.Nonce); o.State != op.StateFailedClean || o.Failed.Kind != op.KindNotExecuted {
			t.Errorf("the op: got %s, want failed, not executed", o.State)
		}
		close(heldUp)
		pass(3 * lease)
		if n := a.host.launched(); n != 0 {
			t.Errorf("requests sent: got %d, want none", n)
		}
		if a.engine.Standing().Leads || !b.engine.Standing().Leads {
			t.Errorf("got %+v and %+v, want the second to lead alone", a.engine.Standing(), b.engine.Standing())
		}
	})
}

// With both taking part, whoever leads and however often that changes, each
// order takes effect at most once, and in the end exactly once.
func TestOrdersRunOnceWhileTheLeadChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pair(t)
		docs := manyOrders(t, a, 40)
		var wg sync.WaitGroup
		for i, d := range docs {
			for _, w := range []*world{a, b} {
				wg.Go(func() {
					pass(time.Duration(i) * time.Second)
					for range 200 {
						ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
						got := w.engine.RunSignedJob(ctx, signed(t, d))
						cancel()
						if got.Outcome == engine.AlreadyApplied {
							return
						}
						pass(5 * time.Second)
					}
					t.Errorf("%s: not applied in time", d.Nonce.Short())
				})
			}
		}
		for range 5 {
			pass(20 * time.Second)
			for _, w := range []*world{a, b} {
				if w.engine.Standing().Leads {
					w.store.Cut()
					pass(2 * lease)
					w.store.Heal()
					break
				}
			}
		}
		wg.Wait()
		for _, d := range docs {
			if n := a.host.effects[d.Nonce]; n != 1 {
				t.Errorf("effects of %s: got %d, want 1", d.Nonce.Short(), n)
			}
		}
	})
}

// Two services use a store of which each was told that it has it alone: the
// first stops launching for good, and what it had taken is not sent.
func TestTwoServicesThatBothBelieveToBeAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		<-w.engine.Surveyed()
		other := newWorldOver(w, "node-b")
		docs := manyOrders(t, w, 40)
		var wg sync.WaitGroup
		for _, d := range docs {
			for _, x := range []*world{w, other} {
				wg.Go(func() { x.runToEnd(signed(t, d)) })
			}
		}
		wg.Wait()
		pass(time.Minute)
		if err := w.engine.Halted(); err == nil || !strings.Contains(err.Error(), "node-b") {
			t.Errorf("the first: got %v, want that it is halted by node-b", err)
		}
		w.wantOutcome(w.runToEnd(signed(t, order(web3()))), engine.Unavailable)
		for _, d := range docs {
			if got := other.runToEnd(signed(t, d)); got.Outcome != engine.AlreadyApplied && got.Outcome != engine.Succeeded {
				t.Errorf("%s: got %s (%s), want it applied", d.Nonce.Short(), got.Outcome, got.Detail)
			}
			if n := w.host.effects[d.Nonce]; n != 1 {
				t.Errorf("effects of %s: got %d, want 1", d.Nonce.Short(), n)
			}
		}
	})
}

// Before an instance is ready to lead it claims nothing.
func TestLeadWaitsForItsPreparation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.stop()
		calls := 0
		w.start(func(c *engine.Config) {
			c.OnLead = func(context.Context) error {
				if calls++; calls < 3 {
					return context.DeadlineExceeded
				}
				return nil
			}
		})
		d := order(web3(), func(d *signedop.Document) { d.Reason = "later" })
		w.wantOutcome(w.runToEnd(signed(t, d)), engine.Succeeded)
		if calls != 3 {
			t.Errorf("calls: got %d, want 3", calls)
		}
	})
}

// Of two that both believe to be alone, the one that is superseded while it makes
// ready does not take the lead back.
func TestNoFightOverAStoreThatIsNobodysAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.stop()
		w.start(func(c *engine.Config) {
			c.OnLead = func(context.Context) error { return context.DeadlineExceeded }
		})
		pass(time.Second)
		other := newWorldOver(w, "node-b")
		pass(time.Hour)
		if err := w.engine.Halted(); err == nil || !strings.Contains(err.Error(), "node-b") {
			t.Errorf("the first: got %v, want that it is halted by node-b", err)
		}
		if !other.engine.Standing().Leads {
			t.Errorf("the other: got %+v, want that it leads", other.engine.Standing())
		}
	})
}
