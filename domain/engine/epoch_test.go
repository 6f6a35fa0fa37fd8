package engine_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"

	"writ/domain/engine"
	"writ/domain/eventstore/storetest"
	"writ/domain/op"
)

// A leader is held up between the announcement and the request for so long that
// another one leads, ends the op as never executed and leaves again, and the first
// leads once more. When it goes on it leads indeed, but in another term: what it
// had announced in the one before is over, and is not sent.
func TestWhatWasAnnouncedInAnEarlierTermIsNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pair(t)
		var first sync.Once
		announced, goOn := make(chan struct{}), make(chan struct{})
		a.store.After = func(c storetest.AppendCall, _ appended, _ error) {
			if c.Events[0].Type == op.TypeLaunching {
				first.Do(func() {
					a.store.Cut()
					close(announced)
					<-goOn
				})
			}
		}
		d := order(web3())
		go a.engine.RunSignedJob(context.Background(), signed(t, d))
		<-announced
		before := a.engine.Standing().Epoch
		pass(3 * lease)
		if o := b.op(d.Nonce); !b.engine.Standing().Leads || o.State != op.StateFailedClean || o.Failed.Kind != op.KindNotExecuted {
			t.Fatalf("b: %+v, the op: %s; want that b leads and has ended it as not executed", b.engine.Standing(), o.State)
		}
		a.store.Heal()
		pass(lease)
		b.stop()
		pass(3 * lease)
		if s := a.engine.Standing(); !s.Leads || s.Epoch <= before {
			t.Fatalf("a: got %+v, want that it leads again, in a term after epoch %d", s, before)
		}
		close(goOn)
		pass(lease)
		if n := a.host.launched(); n != 0 {
			t.Errorf("requests sent for an op that has ended: got %d, want none", n)
		}
		if n := a.host.effects[d.Nonce]; n != 0 {
			t.Errorf("effects: got %d, want none", n)
		}

		t.Log("delivered again, it is another attempt, of this term")
		a.wantOutcome(a.runToEnd(signed(t, d)), engine.Succeeded)
		if o := a.op(d.Nonce); o.Attempt != 2 || a.host.effects[d.Nonce] != 1 {
			t.Errorf("got attempt %d and %d effects, want the second and one", o.Attempt, a.host.effects[d.Nonce])
		}
	})
}
