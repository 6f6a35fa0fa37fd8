package crashmatrix_test

import (
	"flag"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"writ/domain/engine/enginetest"
)

var (
	whole  = flag.Bool("whole", false, "play every history of every class")
	update = flag.Bool("update", false, "with -whole: rewrite the grids in docs/robustness.md and testdata")
)

var exits = []exit{exitOK, exitBefore, exitHalf, exitKilled}

// A cell is what was seen of one fault at one boundary of one situation.
type cell map[exit]map[end]bool

// A matrix is all of it, of one class.
type matrix struct {
	*writ
	t         *testing.T
	rows      []row // in the order in which they came up
	cells     map[row]map[fault]cell
	histories int
	late      int // of them, those in which something was late
	effects   int
	ends      map[end]int // of the histories, once nothing changed any more
	last      map[end]int // after the order was delivered again
	bad       int
}

type row struct {
	shared    bool
	situation string
	at        boundary
}

// Every fault at every boundary, in an ordinary run and in recovery, for every
// class: the invariants hold, and each ends as docs/robustness.md says.
func TestEveryFaultAtEveryBoundary(t *testing.T) {
	// What is folded and read is kept, and most of the rest is garbage at once.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	var all []*matrix
	for i, c := range enginetest.Classes() {
		t.Run(string(c.Class), func(t *testing.T) {
			m := &matrix{
				writ: newWrit(t, c), t: t, cells: make(map[row]map[fault]cell), ends: make(map[end]int), last: make(map[end]int),
			}
			m.playAll(i > 0 && !*whole)
			all = append(all, m)
		})
	}
	switch {
	case t.Failed() || testing.Short() && !*whole:
	case *whole:
		compare(t, all)
	default:
		compareFirst(t, all[0])
	}
}

// playAll plays every history of the class; if it is to be brief, those in which the
// host does all in time, with a token for each attempt.
func (m *matrix) playAll(brief bool) {
	for _, shared := range []bool{false, true} {
		for _, s := range situations {
			if brief && (shared || s.plan != nil && s.plan.fault == late) || testing.Short() && !*whole && (shared || s.plan != nil) {
				continue
			}
			for _, e := range exits {
				m.situation(history{situation: s, shared: shared, exit: e})
			}
		}
	}
	if m.bad > 0 {
		m.t.Fatalf("%d of %d histories went wrong", m.bad, m.histories)
	}
	if m.ends[endOther] > 0 {
		m.t.Errorf("%d histories ended in a way that has no letter", m.ends[endOther])
	}
	m.t.Logf("%d histories, %d cells, ends %v, after another delivery %v, effects %d", m.histories, m.count(), m.ends, m.last, m.effects)
}

// The checker can fail: behind a fence that only says that it stands, a request
// that waits has its effect after it was ruled out. So it is with a fence of a class
// that has none, and is called confirmed.
func TestTheCheckerFindsAHollowFence(t *testing.T) {
	for _, c := range enginetest.Classes() {
		t.Run(string(c.Class), func(t *testing.T) {
			w := newWrit(t, c)
			w.hollow = true
			s := situations[slices.IndexFunc(situations, func(s situation) bool { return s.name == "request waits" })]
			h := history{situation: s, exit: exitOK, moments: []int{never}}
			if out := w.play(h); !strings.Contains(out.wrong, "may still have one") {
				t.Errorf("got %q, want a request that may still have an effect:\n\t%s", out.wrong, w.tell(h))
			}
		})
	}
}

// Nor is what others did while a worker was killed on record as the attempt's doing,
// but of the classes of which the state, or the state and a task, is proof.
func TestTheCheckerFindsWhatOthersDid(t *testing.T) {
	for _, c := range enginetest.Classes() {
		t.Run(string(c.Class), func(t *testing.T) {
			w := newWrit(t, c)
			w.credulous = true
			h := history{situation: situations[0], exit: exitKilled, plan: &plan{at("ProbeHost"), others, 0}}
			want := "its request has had no effect"
			if c.Excuses(enginetest.SaidKilled) {
				want = ""
			}
			if out := w.play(h); out.wrong != want && (want == "" || !strings.Contains(out.wrong, want)) {
				t.Errorf("got %q, want %q:\n\t%s", out.wrong, want, w.tell(h))
			}
		})
	}
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
			for flavor := range flavors(m.class, b.name, f, h.situation.plan == nil, h.shared) {
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
	if out.wrong == "" && !allowed(m.class, h, out.end) {
		out.wrong = fmt.Sprintf("it ends as %s", out.end)
	}
	if out.wrong == "" {
		return
	}
	if m.bad++; m.bad <= 5 {
		m.t.Errorf("%s:\n%s:\n\t%s", h, out.wrong, m.tell(h))
	}
}

// tell plays a history once more and tells what happens.
func (w *writ) tell(h history) string {
	w.telling = true
	defer func() { w.telling = false }()
	return strings.Join(w.play(h).log, "\n\t")
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
	c.note(h.exit, out.end)
}
