package engine_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"writ/domain/engine"
	"writ/domain/op"
)

var (
	planSigned = strings.Repeat("0a", 32)
	planOther  = strings.Repeat("0b", 32)
)

// An op that expects a plan runs if what it would take away is still what was
// signed for, and what was seen goes on record.
func TestExpectedPlanThatHoldsRuns(t *testing.T) {
	for _, c := range op.Classes() {
		if c.Benign() {
			continue
		}
		t.Run(string(c), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := undertakingOf(c)
				u.doc.Expect.Plan, u.seen.Plan = planSigned, planSigned
				got, h := u.run(t)
				if got.Outcome != engine.Succeeded || h.launched() != 1 {
					t.Fatalf("got %s (%s: %s) after %d requests, want succeeded after one", got.Outcome, got.Reason, got.Detail, h.launched())
				}
				if l := h.launches[0]; l.Observed.Plan != planSigned || !h.attempts[0].Planned {
					t.Errorf("announced: plan %q, planned %t, want %s and true", l.Observed.Plan, h.attempts[0].Planned, planSigned)
				}
			})
		})
	}
}

// More, less or something else would be lost: refused at the last look, with both
// digests and what to do.
func TestExpectedPlanThatDoesNotHold(t *testing.T) {
	for name, seen := range map[string]string{"another plan": planOther, "no plan": ""} {
		for _, c := range op.Classes() {
			if c.Benign() {
				continue
			}
			t.Run(name+" of "+string(c), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					u := undertakingOf(c)
					u.doc.Expect.Plan, u.seen.Plan = planSigned, seen
					got, h := u.run(t)
					if got.Outcome != engine.Failed || got.Failure.Kind != op.KindPrecondition || got.Failure.Effect != op.EffectNone || h.launched() != 0 {
						t.Fatalf("got %s (%s: %s) after %d requests, want a precondition that is not met, effect none, after none", got.Outcome, got.Reason, got.Detail, h.launched())
					}
					for _, want := range []string{"expect.plan: signed for plan " + planSigned, seen, "plan again"} {
						if !strings.Contains(got.Failure.Message, want) {
							t.Errorf("got %q, want it to say %q", got.Failure.Message, want)
						}
					}
				})
			})
		}
	}
}

// Whoever expects no plan does not have it read.
func TestNoPlanIsReadUnlessExpected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := undertakingOf(op.GuestDestroy)
		u.seen.Plan = planOther
		got, h := u.run(t)
		if got.Outcome != engine.Succeeded || h.launched() != 1 || h.attempts[0].Planned || h.launches[0].Observed.Plan != "" {
			t.Errorf("got %s, attempts %+v, want one that is not planned", got.Outcome, h.attempts)
		}
	})
}

// Obstacles are those of the last look, whatever signers expect.
func TestObstaclesAreThoseOfTheLastLook(t *testing.T) {
	for _, c := range op.Classes() {
		t.Run(string(c), func(t *testing.T) {
			u := undertakingOf(c)
			in := u.doc.Intent()
			if got := engine.Obstacles(in, u.seen); len(got) > 0 {
				t.Errorf("obstacles: got %q, want none", got)
			}
			for name, change := range map[string]func(*op.Observed){
				"offline":     func(o *op.Observed) { o.NodeOnline = false },
				"no quorum":   func(o *op.Observed) { o.Quorate = false },
				"locked":      func(o *op.Observed) { o.Lock = "backup" },
				"not there":   func(o *op.Observed) { o.Found = false },
				"no snapshot": func(o *op.Observed) { o.Snapshot = nil },
				"half one": func(o *op.Observed) {
					if o.Snapshot != nil {
						o.Snapshot = &op.SnapshotSeen{Name: o.Snapshot.Name, Time: o.Snapshot.Time, State: "delete"}
					}
				},
				"no archive": func(o *op.Observed) { o.Archive = nil },
				"running":    func(o *op.Observed) { o.Status = "running" },
				"HA":         func(o *op.Observed) { o.HAManaged = true },
				"renamed":    func(o *op.Observed) { o.Name, o.Digest, o.VMGenID = "other", "x", "y" },
			} {
				seen := u.seen
				change(&seen)
				// What signers expect is met by what is seen, or is missing from it.
				x := u.doc.Expect
				x.VMGenID, x.Name, x.Digest = seen.VMGenID, "", ""
				if got, want := engine.Obstacles(in, seen), engine.Unmet(in, x, seen); !slices.Equal(got, want) {
					t.Errorf("%s: got %q, want %q", name, got, want)
				}
			}
		})
	}
}
