package engine_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"writ/domain/engine"
	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
	"writ/domain/gate"
	"writ/domain/op"
)

func TestTakeOver(t *testing.T) {
	ctx := context.Background()
	m := storetest.NewMemory(ledger)
	as := func(instance string) engine.Identity {
		return engine.Identity{Site: gate.Site{Agent: "lab", Ledger: string(ledger)}, Instance: instance}
	}
	first, err := engine.TakeOver(ctx, m, as("a"), systemClock{})
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Holds(ctx); err != nil || first.Epoch() != 1 {
		t.Fatalf("got epoch %d, %v; want 1 and held", first.Epoch(), err)
	}
	second, err := engine.TakeOver(ctx, m, as("b"), systemClock{})
	if err != nil {
		t.Fatal(err)
	}
	var superseded *engine.SupersededError
	if err := first.Holds(ctx); !errors.As(err, &superseded) || superseded.Instance != "b" || superseded.Epoch != 2 {
		t.Errorf("the first: got %v, want it superseded by b with epoch 2", err)
	}
	if err := second.Holds(ctx); err != nil {
		t.Errorf("the second: %v", err)
	}

	t.Log("a ledger that can't be asked lets nobody launch")
	broken := storetest.NewFaulty(m)
	third, err := engine.TakeOver(ctx, broken, as("c"), systemClock{})
	if err != nil {
		t.Fatal(err)
	}
	broken.Cut()
	if err := third.Holds(ctx); err == nil || errors.As(err, &superseded) && superseded.Epoch == 3 {
		t.Errorf("got %v, want an error that says it could not be found out", err)
	}
}

// heldUp is a store whose answers about a stream's head are long on their way.
type heldUp struct {
	eventstore.Store
	meanwhile func()
}

func (s *heldUp) Head(ctx context.Context, stream eventstore.StreamID) (eventstore.Recorded, error) {
	e, err := s.Store.Head(ctx, stream)
	if happens := s.meanwhile; happens != nil {
		s.meanwhile = nil
		happens()
	}
	return e, err
}

// Whoever has heard of a successor does not lead any more, whatever an older
// answer says that comes later.
func TestLateAnswerGivesNoLeadBack(t *testing.T) {
	ctx := context.Background()
	m := storetest.NewMemory(ledger)
	as := func(instance string) engine.Identity {
		return engine.Identity{Site: gate.Site{Agent: "lab", Ledger: string(ledger)}, Instance: instance}
	}
	slow := &heldUp{Store: m}
	first, err := engine.TakeOver(ctx, slow, as("a"), systemClock{})
	if err != nil {
		t.Fatal(err)
	}
	slow.meanwhile = func() {
		if _, err := engine.TakeOver(ctx, m, as("b"), systemClock{}); err != nil {
			t.Fatal(err)
		}
		if first.Holds(ctx) == nil {
			t.Fatal("the first still leads")
		}
	}
	var superseded *engine.SupersededError
	if err := first.Holds(ctx); !errors.As(err, &superseded) || superseded.Epoch != 2 {
		t.Errorf("by the answer of before: got %v, want it superseded with epoch 2", err)
	}
}

// Of many who take over at once, each gets an epoch of its own, and the last
// one holds.
func TestTakeOverAtOnce(t *testing.T) {
	ctx := context.Background()
	m := storetest.NewMemory(ledger)
	var mu sync.Mutex
	var leads []*engine.Lead
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			l, err := engine.TakeOver(ctx, m, engine.Identity{Site: gate.Site{Agent: "lab"}, Instance: "x"}, systemClock{})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			leads = append(leads, l)
		})
	}
	wg.Wait()
	epochs := make(map[uint64]bool)
	holding := 0
	for _, l := range leads {
		epochs[l.Epoch()] = true
		if l.Holds(ctx) == nil {
			holding++
		}
	}
	if len(epochs) != 20 || holding != 1 {
		t.Errorf("got %d epochs and %d that hold, want 20 and 1", len(epochs), holding)
	}
	if got := op.AgentStream("lab"); got != "agent-lab" {
		t.Errorf("stream: got %s", got)
	}
}
