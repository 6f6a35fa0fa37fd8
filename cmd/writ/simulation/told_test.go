package simulation_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"writ/domain/engine/enginetest"
)

var update = flag.Bool("update", false, "rewrite the figures of the long runs in docs/robustness.md")

const (
	// longRuns is where the figures of the long runs are gathered: the file for -figures.
	longRuns   = "testdata/figures.json"
	robustness = "../../../docs/robustness.md"
)

// What docs/robustness.md tells of the long runs is what was gathered.
func TestFiguresAreTold(t *testing.T) {
	g := longRunFigures(t)
	page, err := os.ReadFile(robustness)
	if err != nil {
		t.Fatal(err)
	}
	want, err := enginetest.InSection(string(page), "figures", g.table())
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(robustness, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if line, is, was := enginetest.FirstDifference(string(page), want); line > 0 {
		t.Errorf("docs/robustness.md, line %d: got %q, want %q; go test ./cmd/writ/simulation -run TestFiguresAreTold -update", line, is, was)
	}
}

// Each history of the long runs in which something was wrong, played again, is
// right.
func TestWhatWasWrongIsRight(t *testing.T) {
	g := longRunFigures(t)
	if g.Wrong+g.Unequal > len(g.Which) {
		t.Errorf("%s names %d of the %d seeds that were wrong: the others can't be played again", longRuns, len(g.Which), g.Wrong+g.Unequal)
	}
	for _, seed := range g.Which {
		playAll(t, histories{playedKind, seed, 1})
		if seed < g.NextCarried { // which of the two it was is not kept
			playAll(t, histories{carriedKind, seed, 1})
		}
	}
}

func longRunFigures(t *testing.T) *gathered {
	t.Helper()
	g := &gathered{figures: newFigures()}
	g.load(t, longRuns)
	return g
}

// table is for people: what was gathered, and what must be nothing last.
func (g *gathered) table() string {
	var b strings.Builder
	row := func(what, n string) { fmt.Fprintf(&b, "| %s | %s |\n", what, n) }
	several := func(ns ...int) string {
		var texts []string
		for _, n := range ns {
			texts = append(texts, enginetest.Grouped(n))
		}
		return strings.Join(texts, ", ")
	}
	events := func(of ...string) string {
		var ns []int
		for _, name := range of {
			ns = append(ns, g.Events[name])
		}
		return several(ns...)
	}
	b.WriteString("| | |\n| --- | ---: |\n")
	row("seeds, each played twice: with the host played, carried by the real adapter", several(int(g.Next-g.First), int(g.NextCarried-g.First)))
	row("simulated hours", several(int(g.Hours)))
	row("steps of the schedule", several(g.Steps))
	row("ops", events("ops"))
	row("deliveries", events("deliveries"))
	row("requests launched", events("launches"))
	row("effects", events("effects"))
	row("ops succeeded", events("ops succeeded"))
	row("take-overs", events("take-overs"))
	row("processes killed, paused, stopped in order", events("crashes", "processes paused", "orderly stops"))
	row("partitions of store or host", events("partitions"))
	row("requests and replies lost, requests delayed, delivered twice", several(g.Faults["lost"], g.Faults["reply lost"], g.Events["requests delayed"], g.Events["requests delivered twice"]))
	row("tasks killed, adopted", events("tasks killed", "tasks adopted"))
	row("nodes at fault", events("faults of nodes"))
	row("clocks set", events("clocks set"))
	row("policies swapped", events("policies swapped"))
	row("ledgers copied and put back", events("ledgers copied"))
	row("acts of other people", events("acts of other people"))
	row("ops left to people", events("ops left to people"))
	row("**seeds in which anything was wrong**", several(g.Wrong))
	row("**two effects of one nonce**", several(g.Doubles))
	row("**lost ops**", several(g.Losses))
	row("**false ends**", several(g.False))
	row("seeds with two histories; with two at first and equal ones when played again", several(g.Unequal)+"; "+several(g.Disturbed))
	row("held up on the host until people, or another copy of the ledger, had put another guest in its place (no service can help it)", events("let in for one guest, hit the next"))
	return b.String()
}
