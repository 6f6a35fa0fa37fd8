package smallworlds_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// What came of enumerating a world.
type result struct {
	states, moves int
	quiet         int     // states in which nothing is under way
	histories     float64 // from the first state to one in which nothing can happen any more
	ends          map[string]int
	wrong         string // what the checker found
	history       []move // the shortest that leads there
}

// explore goes through every history, depth first. A state that is met again is
// not gone through again: what comes after it is the same.
func (w *world) explore(most int) result {
	e := &explorer{world: w, seen: make(map[[16]byte]float64), most: most, result: result{ends: make(map[string]int)}}
	e.histories = e.from(w.first())
	e.states = len(e.seen)
	if e.found {
		e.wrong, e.history = w.shortest()
	}
	return e.result
}

type explorer struct {
	*world
	result
	seen  map[[16]byte]float64 // histories from there on; -1 while it is gone through
	most  int
	found bool // by the checker
}

const open = -1

// from goes through what can come after a state, and gives how many histories
// that is.
func (e *explorer) from(s *state) float64 {
	if s.wrong != "" {
		// Asked first: what is wrong may be the step that led here, and the
		// state as it is known from elsewhere.
		e.found, e.wrong = true, s.wrong
		return 0
	}
	key := s.key()
	if n, ok := e.seen[key]; ok {
		if n == open {
			e.wrong = "a history that goes in a circle"
		}
		return n
	}
	if e.seen[key] = open; len(e.seen) > e.most {
		e.wrong = fmt.Sprintf("more than %d states", e.most)
	}
	branches, underWay := e.branches(s)
	if !underWay {
		e.quiet++
		end, wrong := e.checkQuiet(s)
		e.ends[end]++
		if wrong != "" {
			e.found, e.wrong = true, wrong
		}
	}
	e.moves += len(branches)
	histories := 0.0
	for _, b := range branches {
		if e.wrong != "" {
			break
		}
		histories += e.from(b.to)
	}
	if len(branches) == 0 {
		histories = 1
	}
	e.seen[key] = histories
	return histories
}

// shortest gives a shortest history that leads to something wrong.
func (w *world) shortest() (wrong string, history []move) {
	type visit struct {
		from int
		move move
		*state
	}
	all := []visit{{from: -1, state: w.first()}}
	seen := map[[16]byte]bool{all[0].key(): true}
	for i := 0; i < len(all); i++ {
		s := all[i].state
		branches, underWay := w.branches(s)
		if !underWay && s.wrong == "" {
			_, s.wrong = w.checkQuiet(s)
		}
		if s.wrong != "" {
			for at := i; all[at].from >= 0; at = all[at].from {
				history = append(history, all[at].move)
			}
			slices.Reverse(history)
			return s.wrong, history
		}
		for _, b := range branches {
			if key := b.to.key(); !seen[key] || b.to.wrong != "" {
				seen[key] = true
				all = append(all, visit{i, b.move, b.to})
			}
		}
		all[i].state = nil
	}
	return "a history that goes in a circle", nil
}

func (r result) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d states, %d moves, %.3g histories, %d states in which nothing is under way:", r.states, r.moves, r.histories, r.quiet)
	for _, end := range slices.Sorted(maps.Keys(r.ends)) {
		fmt.Fprintf(&b, "\n  %7d  %s", r.ends[end], end)
	}
	return b.String()
}

// tell shows a history to people.
func (r result) tell() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s. The shortest history:\n", r.wrong)
	for i, m := range r.history {
		fmt.Fprintf(&b, "%3d. %s\n", i+1, m)
	}
	return b.String()
}
