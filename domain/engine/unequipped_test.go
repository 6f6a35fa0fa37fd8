package engine_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"writ/domain/engine"
	"writ/domain/op"
)

// An unequippedHost can look at a target, and can't act on it.
type unequippedHost struct{ *stillHost }

func (unequippedHost) Request(engine.Attempt, op.Observed) (op.Request, string, error) {
	return op.Request{}, "", fmt.Errorf("%w: the key of the cellar is missing", engine.ErrNoExecutor)
}

// What the host lacks for a target is told to whoever ordered it, at once, and
// nothing was announced.
func TestWhatTheHostLacksIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := undertakingOf(op.GuestDestroy)
		h := unequippedHost{&stillHost{fakeHost: newFakeHost(), seen: u.seen}}
		w := newWorld(t, func(c *engine.Config) {
			c.Host, c.Executors = h, map[op.Class]engine.Executor{op.GuestDestroy: h}
		})
		got := w.runToEnd(signed(t, u.doc))
		w.wantOutcome(got, engine.Failed)
		w.wantTypes(u.doc.Nonce, op.TypeStarted, op.TypeFailed)
		f := got.Failure
		if f.Kind != op.KindNoExecutor || f.Effect != op.EffectNone || !strings.Contains(f.Message, "the key of the cellar is missing; nothing was sent") {
			t.Errorf("failure: got %+v, want %s, effect none, and what is missing", f, op.KindNoExecutor)
		}
		if h.launched() != 0 {
			t.Errorf("launches: got %d, want none", h.launched())
		}
	})
}
