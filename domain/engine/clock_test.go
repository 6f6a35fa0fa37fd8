package engine_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"writ/domain/engine"
	"writ/domain/eventstore/storetest"
	"writ/domain/op"
	"writ/domain/signedop"
)

// A steppedClock is a system clock that somebody sets: its wall time moves by
// step, its monotonic reading, like that of the real one, does not.
type steppedClock struct {
	systemClock
	mu   sync.Mutex
	step time.Duration
}

func (c *steppedClock) set(step time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.step = step
}

func (c *steppedClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := time.Now().Add(c.step)
	// Add moves both readings; the monotonic one is taken back. There is no
	// other way to a Time as time.Now gives it after a step.
	(*struct {
		wall uint64
		ext  int64
		loc  *time.Location
	})(unsafe.Pointer(&t)).ext -= int64(c.step)
	return t
}

// Whatever is recorded must be readable again: a clock set back between two
// events of an op must not make the record say that time ran backwards.
func TestClockSetBackDuringAnOp(t *testing.T) {
	for n := range 3 {
		t.Run(typeOf(n), func(t *testing.T) {
			// Not in a bubble: time has no monotonic reading there.
			c := new(steppedClock)
			w := newWorld(t, func(cfg *engine.Config) { cfg.Clock = c })
			w.store.After = func(call storetest.AppendCall, _ appended, _ error) {
				if call.Events[0].Type == typeOf(n) {
					c.set(-time.Minute)
				}
			}
			d := order(web3(), func(d *signedop.Document) { d.NotBefore = d.NotBefore.Add(-time.Hour) })
			w.runToEnd(signed(t, d))
			if o := w.op(d.Nonce); o.State.InFlight() {
				t.Errorf("state: got %s, want an end", o.State)
			}
		})
	}
}

// A machine that sleeps has no monotonic time: the age of a look is what the
// wall says, if that is more.
func TestLookFromBeforeASleepIsStale(t *testing.T) {
	c := new(steppedClock)
	w := newWorld(t, func(cfg *engine.Config) { cfg.Clock = c })
	w.store.After = func(call storetest.AppendCall, _ appended, _ error) {
		if call.Events[0].Type == op.TypeLaunching {
			c.set(20 * time.Minute)
		}
	}
	w.wantOutcome(w.runToEnd(signed(t, order(web3()))), engine.Failed)
	if w.host.launched() != 0 {
		t.Errorf("launches: got %d, want 0", w.host.launched())
	}
}

// The age of a look counts from its beginning: identity is what it reads first.
func TestSlowLookIsStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.onObserve = func() { pass(30 * time.Second) }
		w.wantOutcome(w.runToEnd(signed(t, order(web3()))), engine.Failed)
		if w.host.launched() != 0 {
			t.Errorf("launches: got %d, want 0", w.host.launched())
		}
	})
}

// A clock set forth and back again does not make later refusals uncountable
// one by one.
func TestClockStepDoesNotSilenceRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := new(roundClock)
		w := newWorld(t, func(cfg *engine.Config) { cfg.Clock = c })
		knock := func() { w.engine.RunSignedJob(context.Background(), engine.Submission{Intent: order(web3()).Intent()}) }
		knock()
		c.set(time.Hour)
		knock()
		c.set(0)
		knock()
		pass(time.Minute)
		knock()
		if got := len(w.refusals()); got != 4 {
			t.Errorf("refusals recorded one by one: got %d, want 4", got)
		}
	})
}

// A roundClock has no monotonic reading.
type roundClock struct{ steppedClock }

func (c *roundClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.step).Round(0)
}
