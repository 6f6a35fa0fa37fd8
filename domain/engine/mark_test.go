package engine_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"writ/domain/engine"
)

// The mark can't be read while the service starts over an old copy, and can be
// again at the very moment when it ends: what was never compared must not take the
// mark's place, or the next start would find nothing amiss.
func TestMarkThatCanBeReadOnlyAtTheEndIsNotReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newLedger(t)
		d := order(web3())
		before := count(t, w.memory)
		w.wantOutcome(w.runToEnd(signed(t, d)), engine.Succeeded)
		pass(time.Minute)
		w.stop()
		newest := f.now()
		old := copyOf(t, w.memory, before)
		w.host.add(web3())

		flaky := &seenFails{fakeWitness: f, err: errors.New("stale file handle")}
		w.over(t, old, func(c *engine.Config) { c.Guard.Witness = flaky })
		w.engine.Void(context.Background(), nonce("some other"), "alice", "changed my mind")
		pass(time.Minute)
		synctest.Wait() // the service waits for its next try
		flaky.fail(nil)
		w.stop()
		if got := f.now(); got != newest {
			t.Errorf("mark: got position %d, want it left at %d", got.Position, newest.Position)
		}

		w.start(witnessedBy(f))
		w.runToEnd(signed(t, d))
		if n := w.host.effects[d.Nonce]; n != 1 {
			t.Errorf("effects of one nonce: got %d, want 1", n)
		}
	})
}
