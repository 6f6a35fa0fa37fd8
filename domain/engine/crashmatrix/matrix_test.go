package crashmatrix_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the grid in docs/robustness.md")

var exits = []exit{exitOK, exitBefore, exitHalf, exitKilled}

// A cell is what was seen of one fault at one boundary of one situation.
type cell map[exit]map[end]bool

// A matrix is all of it.
type matrix struct {
	*writ
	t         *testing.T
	rows      []row // in the order in which they came up
	cells     map[row]map[fault]cell
	histories int
	late      int // of them, those in which something was late
	effects   int
	ends      map[end]int // of the histories, once nothing changed any more
	last      map[end]int // after the writ was delivered again
	bad       int
}

type row struct {
	shared    bool
	situation string
	at        boundary
}

// Every fault at every boundary, in an ordinary run and in recovery: the
// invariants hold, and each ends as docs/robustness.md says.
func TestEveryFaultAtEveryBoundary(t *testing.T) {
	m := &matrix{writ: newWrit(t), t: t, cells: make(map[row]map[fault]cell), ends: make(map[end]int), last: make(map[end]int)}
	for _, shared := range []bool{false, true} {
		for _, s := range situations {
			if testing.Short() && (shared || s.plan != nil) {
				continue
			}
			for _, e := range exits {
				m.situation(history{situation: s, shared: shared, exit: e})
			}
		}
	}
	if m.bad > 0 {
		t.Fatalf("%d of %d histories went wrong", m.bad, m.histories)
	}
	if m.ends[endOther] > 0 {
		t.Errorf("%d histories ended in a way that has no letter", m.ends[endOther])
	}
	t.Logf("%d histories, %d cells, ends %v, after another delivery %v, effects %d", m.histories, m.count(), m.ends, m.last, m.effects)
	if !testing.Short() {
		compare(t, m.page())
	}
}

// The checker can fail: behind a fence that only says that it stands, a request
// that waits has its effect after it was ruled out.
func TestTheCheckerFindsAHollowFence(t *testing.T) {
	w := newWrit(t)
	w.hollow = true
	for _, s := range situations {
		if s.name != "request waits" {
			continue
		}
		out := w.play(history{situation: s, exit: exitOK, moments: []int{never}})
		if !strings.Contains(out.wrong, "may still have one") {
			t.Errorf("got %q, want a request that may still have an effect:\n\t%s", out.wrong, strings.Join(out.log, "\n\t"))
		}
		return
	}
	t.Fatal("there is no such situation")
}

// situation plays every history that begins alike.
func (m *matrix) situation(h history) {
	// The boundaries are those of a run without a fault. What waits may come at
	// any moment of it, and lead to others.
	var came []boundary
	m.moments(h, func(out outcome) {
		for _, b := range out.came {
			if !slices.Contains(came, b) {
				came = append(came, b)
			}
		}
	})
	for _, b := range came {
		for _, f := range faults {
			for flavor := range flavors(b.name, f, h.situation.plan == nil, h.shared) {
				h.plan = &plan{b, f, flavor}
				m.moments(h, func(out outcome) { m.enter(h, out) })
			}
		}
	}
}

// moments plays a history for every moment at which what is late may come. If
// two things are late, each comes at every moment, with the other one at its
// first moment and at its last.
func (m *matrix) moments(h history, each func(outcome)) {
	vary := func(number, other int) (two bool) {
		h.moments = []int{other, other}
		for h.moments[number] = 0; ; h.moments[number]++ {
			out := m.play(h)
			m.note(h, out)
			each(out)
			two = two || len(out.inTime) > 1
			if len(out.inTime) <= number || !out.inTime[number] {
				return two
			}
		}
	}
	if vary(0, 0) {
		vary(1, 0)
		vary(0, never)
		vary(1, never)
	}
}

// never is a moment after all others.
const never = 1 << 20

func (m *matrix) note(h history, out outcome) {
	m.histories++
	m.ends[out.end]++
	m.last[out.last]++
	m.effects += out.effects
	if len(out.inTime) > 0 {
		m.late++
	}
	if out.wrong == "" && !allowed(h.shared, h.exit, out.end) {
		out.wrong = fmt.Sprintf("it ends as %s", out.end)
	}
	if out.wrong == "" {
		return
	}
	if m.bad++; m.bad <= 5 {
		m.t.Errorf("%s:\n%s:\n\t%s", h, out.wrong, strings.Join(out.log, "\n\t"))
	}
}

func (m *matrix) enter(h history, out outcome) {
	r := row{h.shared, h.situation.name, h.plan.at}
	if m.cells[r] == nil {
		m.cells[r] = make(map[fault]cell)
		m.rows = append(m.rows, r)
	}
	c := m.cells[r][h.plan.fault]
	if c == nil {
		c = make(cell)
		m.cells[r][h.plan.fault] = c
	}
	if c[h.exit] == nil {
		c[h.exit] = make(map[end]bool)
	}
	c[h.exit][out.end] = true
}

func (m *matrix) count() (cells int) {
	for _, row := range m.cells {
		cells += len(row)
	}
	return cells
}

// page is the grid as it stands in the documentation.
func (m *matrix) page() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s histories in %s cells; in %s of them something was late.\nEnds, once nothing changed any more: %s.\n"+
		"After the writ was delivered once more: %s.\nEffects: %s, never two of one nonce.\n",
		grouped(m.histories), grouped(m.count()), grouped(m.late), tally(m.ends), tally(m.last), grouped(m.effects))
	for _, shared := range []bool{false, true} {
		b.WriteString(map[bool]string{false: "\n### With a token for each attempt\n\n", true: "\n### With one shared token\n\n"}[shared])
		b.WriteString("| situation | at | ")
		for _, f := range faults {
			b.WriteString(f.String() + " | ")
		}
		b.WriteString("\n| --- | --- |" + strings.Repeat(" --- |", len(faults)) + "\n")
		before := ""
		for _, s := range situations {
			for _, r := range m.rows {
				if r.shared != shared || r.situation != s.name {
					continue
				}
				name := s.name
				if name == before {
					name = ""
				}
				before = s.name
				fmt.Fprintf(&b, "| %s | %s |", name, r.at)
				for _, f := range faults {
					b.WriteString(" " + m.cells[r][f].String() + " |")
				}
				b.WriteString("\n")
			}
		}
	}
	return strings.ReplaceAll(b.String(), " | \n", " |\n")
}

// String gives the ends for each end of the task, in one order always; once, if
// that makes no difference.
func (c cell) String() string {
	var each []string
	for _, x := range exits {
		s := ""
		for _, e := range []end{endSucceeded, endNone, endPartial, endQueue, endNothing, endOther} {
			if c[x][e] {
				s += string(e)
			}
		}
		if s == "" {
			s = "·" // it does not come to this boundary
		}
		each = append(each, s)
	}
	if len(slices.Compact(slices.Clone(each))) == 1 {
		return each[0]
	}
	return strings.Join(each, " ")
}

func tally(ends map[end]int) string {
	parts := make([]string, 0, len(ends))
	for _, e := range slices.Sorted(maps.Keys(ends)) {
		parts = append(parts, fmt.Sprintf("%s %s", e, grouped(ends[e])))
	}
	return strings.Join(parts, ", ")
}

// grouped is a number with commas.
func grouped(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", grouped(n/1000), n%1000)
}

const (
	docs   = "../../../docs/robustness.md"
	begins = "<!-- crashmatrix:begin -->\n"
	closes = "<!-- crashmatrix:end -->\n"
)

// compare compares the grid with the documentation, or rewrites it there.
func compare(t *testing.T, grid string) {
	t.Helper()
	raw, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(raw), begins)
	have, after, closed := strings.Cut(rest, closes)
	if !found || !closed {
		t.Fatalf("%s has no place for the grid: %q and %q", docs, begins, closes)
	}
	if *update {
		if err := os.WriteFile(docs, []byte(before+begins+grid+closes+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, want := strings.Split(grid, "\n"), strings.Split(have, "\n")
	for i := range max(len(got), len(want)) {
		g, w := "(nothing)", "(nothing)"
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Errorf("the grid of %s is another (-update rewrites it; read the diff), from line %d on:\ngot  %s\nwant %s", docs, i+1, g, w)
			return
		}
	}
}
