package projections

import (
	"context"
	"fmt"

	"writ/domain/op"
)

// Slots are where a [Shelf] keeps its view: A and B hold one each, Plan says
// which of them serves. A crash may lose the newest commits, but only from the
// end and across all three together: a later one never survives an earlier one.
type Slots struct {
	A, B, Plan ViewStore
}

const planKey = "plan"

// A plan says which slot serves, and what is to be done. It is the only thing
// that a restart goes by.
type plan struct {
	Serving  string `json:"serving"`            // "a" or "b"
	Building bool   `json:"building,omitempty"` // the other slot was cleared, and is being built
	Wanted   bool   `json:"wanted,omitempty"`   // the view is to be built again, and nothing was done yet
}

func (p plan) other() string {
	if p.Serving == "a" {
		return "b"
	}
	return "a"
}

func (s Slots) load(ctx context.Context) (plan, error) {
	data, found, err := s.Plan.Get(ctx, planKey)
	if err != nil {
		return plan{}, fmt.Errorf("read which view serves: %w", err)
	}
	if !found {
		return plan{Serving: "a"}, nil
	}
	var p plan
	if err := op.Unmarshal(data, &p); err != nil || p.Serving != "a" && p.Serving != "b" {
		return plan{}, fmt.Errorf("which view serves can't be read (%q, %w): clear the views to build them again", data, err)
	}
	return p, nil
}

func (s Slots) save(ctx context.Context, p plan) error {
	data, err := op.Marshal(p)
	if err != nil {
		return fmt.Errorf("write which view serves: %w", err)
	}
	return s.Plan.Commit(ctx, Batch{Set: []Entry{{Key: planKey, Value: data}}})
}

func (s Slots) view(name string) ViewStore {
	if name == "a" {
		return s.A
	}
	return s.B
}

// AskRebuild puts down that the view is to be built again by the next [Shelf]
// that opens the slots. None may have them open now. After an error it is put
// down or not.
func AskRebuild(ctx context.Context, s Slots) error {
	p, err := s.load(ctx)
	if err != nil {
		return err
	}
	p.Wanted = true
	return s.save(ctx, p)
}
