package engine_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"writ/domain/engine"
	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
	"writ/domain/op"
)

// A leader that was superseded and can't find that out leaves alone what its
// successor has claimed: to fence it would stop the successor's own launch.
func TestSupersededInstanceLeavesItsSuccessorsOpsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newWorld(t)
		a.stop() // it leads without a lease
		var partitioned atomic.Bool
		gone := errors.New("partitioned")
		a.store.OnRead = func(c storetest.ReadCall) (int, error) {
			if partitioned.Load() && c.Stream == eventstore.StreamID(op.AgentStream("lab")) {
				return 0, gone
			}
			return 1 << 30, nil
		}
		a.store.OnAppend = func(c storetest.AppendCall) storetest.Fault {
			if partitioned.Load() && c.Stream == eventstore.StreamID(op.AliveStream("lab")) {
				return storetest.Lost
			}
			return 0
		}
		a.start(sharing(a))
		pass(2 * lease)
		b := newWorldOver(a, "node-b", sharing(a))
		pass(time.Second)
		partitioned.Store(true)
		pass(3 * lease)
		if !b.engine.Standing().Leads {
			t.Fatalf("b: %+v", b.engine.Standing())
		}
		goOn := make(chan struct{})
		a.host.change(func(h *fakeHost) {
			h.onLaunch = func(h *fakeHost, l *op.Launching) (string, error) {
				<-goOn
				return h.carryOut(l, "OK"), nil
			}
		})
		d := order(web3())
		b.wantOutcome(b.engine.RunSignedJob(context.Background(), signed(t, d)), engine.InFlight)
		pass(time.Minute)
		if a.host.fences != 0 {
			t.Errorf("fences raised by the superseded instance: got %d, want none", a.host.fences)
		}
		close(goOn)
		pass(time.Minute)
		if o := b.op(d.Nonce); o.State != op.StateSucceeded {
			t.Errorf("the successor's op: got %s, want that it has succeeded", o.State)
		}
	})
}
