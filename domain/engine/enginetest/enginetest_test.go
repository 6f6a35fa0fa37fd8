package enginetest_test

import (
	"testing"
	"time"

	"writ/domain/engine"
	"writ/domain/engine/enginetest"
	"writ/domain/op"
	"writ/domain/signedop"
)

var now = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

// An order fits its target as long as nobody has touched it. What is half done, or
// was done and taken back, is another target, but for what runs again as well.
func TestOrdersFitTheirTargets(t *testing.T) {
	for _, c := range enginetest.Classes() {
		t.Run(string(c.Class), func(t *testing.T) {
			o := enginetest.NewOrder(t, c, now)
			var expect signedop.Expect
			if !c.Benign() {
				u, err := signedop.Parse(o.Envelope)
				if err != nil {
					t.Fatal(err)
				}
				expect = u.UnverifiedDocument().Expect
			}
			if why := engine.Unmet(o.Intent, expect, o.Seen(enginetest.Untouched)); len(why) > 0 {
				t.Errorf("untouched: got %q, want nothing that is not met", why)
			}
			again := c.Class == op.BackupCreate || c.Class == op.GuestReboot
			if why := engine.Unmet(o.Intent, expect, o.Seen(enginetest.Done)); (len(why) == 0) != again {
				t.Errorf("done: got %q, want it to be met: %t", why, again)
			}
		})
	}
}

// Whatever a class can show: a subject that nobody has touched, and no task, is no
// effect; and nothing is done that is not there.
func TestLooks(t *testing.T) {
	for _, c := range enginetest.Classes() {
		if got := c.Look(enginetest.Look{State: enginetest.Untouched}); got.Effect != op.EffectNone || got.MayStillAct {
			t.Errorf("%s, untouched and no task: got %+v, want no effect", c.Class, got)
		}
		for _, said := range []string{"", enginetest.SaidEarly, enginetest.SaidError, enginetest.SaidKilled} {
			if got := c.Look(enginetest.Look{State: enginetest.Untouched, Said: said}); got.Effect == op.EffectDone {
				t.Errorf("%s, untouched, the task said %q: got done", c.Class, said)
			}
		}
		if got := c.Look(enginetest.Look{State: enginetest.Done}); (got.Effect == op.EffectDone) != c.ByState {
			t.Errorf("%s, done and no task known: got %s, want done: %t", c.Class, got.Effect, c.ByState)
		}
	}
}

func TestInSection(t *testing.T) {
	const page = "head\n<!-- grid:begin -->\nold\n<!-- grid:end -->\ntail\n"
	got, err := enginetest.InSection(page, "grid", "new\n")
	if want := "head\n<!-- grid:begin -->\nnew\n<!-- grid:end -->\ntail\n"; err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if _, err := enginetest.InSection(page, "table", ""); err == nil {
		t.Error("got no error of a page without such a section, want one")
	}
}

func TestFirstDifference(t *testing.T) {
	if line, is, was := enginetest.FirstDifference("a\nb\nc", "a\nx"); line != 2 || is != "b" || was != "x" {
		t.Errorf("got line %d, %q and %q, want line 2, b and x", line, is, was)
	}
	if line, _, _ := enginetest.FirstDifference("a\n", "a\n"); line != 0 {
		t.Errorf("got line %d of equal texts, want 0", line)
	}
}

func TestGrouped(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234067: "1,234,067"} {
		if got := enginetest.Grouped(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}
