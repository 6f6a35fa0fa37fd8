package engine_test

import (
	"context"
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

// A mistakenStore takes one append for a repetition of another one, and answers it
// with that one's revision: nothing of it is on record. (EventStoreDB does so by
// the ids of the events alone.)
type mistakenStore struct {
	eventstore.Store
	typ      string
	mistakes int // still to be made
}

func (s *mistakenStore) Append(ctx context.Context, stream eventstore.StreamID, expected eventstore.Expected, events ...eventstore.Proposed) (eventstore.Appended, error) {
	if events[0].Type == s.typ && s.mistakes > 0 {
		s.mistakes--
		return eventstore.Appended{Revision: expected.Next() + 3}, nil
	}
	return s.Store.Append(ctx, stream, expected, events...)
}

// Success is ours only if the revision is. A claim that is not on record is made
// again, and for an announcement that is not nothing is sent.
func TestSuccessAtAnotherRevisionIsNotOurs(t *testing.T) {
	for name, tt := range map[string]struct {
		typ      string
		outcome  engine.Outcome
		launches int
	}{
		"the claim":        {op.TypeStarted, engine.Succeeded, 1},
		"the announcement": {op.TypeLaunching, engine.Indeterminate, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, func(c *engine.Config) { c.Store = &mistakenStore{Store: c.Store, typ: tt.typ, mistakes: 1} })
				guardLaunch(w)
				d := order(web3())
				w.wantOutcome(w.runToEnd(signed(t, d)), tt.outcome)
				if n := w.host.launched(); n != tt.launches {
					t.Errorf("launches: got %d, want %d", n, tt.launches)
				}
			})
		})
	}
}

// An announcement may take so long to become durable that the writ expires
// meanwhile, though the look at the target is still fresh.
func TestWritThatExpiresWhileItIsAnnouncedIsNotLaunched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.store.Before = func(c storetest.AppendCall) {
			if c.Events[0].Type == op.TypeLaunching {
				pass(8 * time.Second)
			}
		}
		d := order(web3(), func(d *signedop.Document) { d.ExpiresAt = d.NotBefore.Add(5 * time.Second) })
		got := w.runToEnd(signed(t, d))
		w.wantOutcome(got, engine.Failed)
		if f := got.Failure; f.Kind != op.KindRefused || f.Reason != string(gate.Expired) || f.Effect != op.EffectNone {
			t.Errorf("failure: got %s, %s, effect %s; want it refused as expired, effect none", f.Kind, f.Reason, f.Effect)
		}
		w.wantTypes(d.Nonce, op.TypeStarted, op.TypeLaunching, op.TypeFailed)
		if n := w.host.launched(); n != 0 {
			t.Errorf("launches: got %d, want none", n)
		}
	})
}

// A task that ends with warnings says that it succeeded. If the target seems
// untouched all the same, the two disagree, and nobody may take that for an
// attempt without effect.
func TestWarningsOverAnUntouchedTargetAreNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.host.onLaunch = func(h *fakeHost, l *op.Launching) (string, error) {
			return h.start(l, engine.Task{Phase: engine.TaskEnded, ExitStatus: "WARNINGS: 2"}), nil
		}
		d := order(web3())
		w.wantOutcome(w.runToEnd(signed(t, d)), engine.Indeterminate)
		w.wantTypes(d.Nonce, op.TypeStarted, op.TypeLaunching, op.TypeTaskRunning)
	})
}
