package projections_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
	"writ/projections"
	"writ/projections/viewtest"
)

// A hesitant projection fails at some events, at each of them once, wherever in a
// batch they stand.
type hesitant struct {
	*tally
	every eventstore.Position
	tried map[eventstore.Position]bool
}

func (p *hesitant) Apply(ctx context.Context, view *projections.Changes, e eventstore.Recorded) error {
	if e.Position%p.every == 0 && !p.tried[e.Position] {
		p.tried[e.Position] = true
		return errors.New("not this time")
	}
	return p.tally.Apply(ctx, view, e)
}

// An event that could not be applied is applied later, before all that come behind
// it: what is committed after the failure goes no further than the event before.
func TestAnEventThatFailsIsNotPassedOver(t *testing.T) {
	for _, every := range []eventstore.Position{2, 10, 70} {
		synctest.Test(t, func(t *testing.T) {
			store, view := storetest.NewMemory(ledger), viewtest.NewMemory()
			p := &hesitant{tally: newTally(), every: every, tried: make(map[eventstore.Position]bool)}
			last := grow(t, store, 0, 100)
			r := projections.New(store, "memory", view, p, quiet())
			stop := start(t, r)
			if err := r.WaitFor(t.Context(), last); err != nil {
				t.Fatal(err)
			}
			_ = stop()
			holds(t, view, all(100))
			if len(p.tried) == 0 {
				t.Errorf("every %d: no event failed, so that nothing is shown", every)
			}
		})
	}
}
