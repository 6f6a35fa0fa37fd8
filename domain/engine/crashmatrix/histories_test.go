package crashmatrix_test

import (
	"fmt"
	"slices"

	"writ/domain/engine"
	"writ/domain/engine/enginetest"
)

// A fault is what happens at a boundary.
type fault int

const (
	dieBefore fault = iota + 1
	dieAfter
	lost
	done
	refuse
	late
	twice
	away
	stop
	forgotten
	others
	undone
)

var faults = []fault{dieBefore, dieAfter, lost, done, refuse, late, twice, away, stop, forgotten, others, undone}

// String is the head of a column of the grid.
func (f fault) String() string {
	return [...]string{
		"", "process dies before", "process dies after, unheard", "lost", "done, reported as failed", "refused, definitely", "late", "delivered twice",
		"no answer for long", "service stops", "task forgotten", "others do it first", "others undo it first",
	}[f]
}

// flavors is in how many ways a fault can happen at a boundary; 0: it can't.
//
// A question changes nothing: that it is refused, late or asked twice says
// nothing that its going unanswered does not.
func flavors(c enginetest.Class, name string, f fault, ordinary, shared bool) int {
	kinds := map[fault]int{dieBefore: 1, dieAfter: 1}
	can := func(more ...fault) {
		for _, f := range more {
			kinds[f] = 1
		}
	}
	switch name {
	case "AskTask", "ProbeHost":
		can(lost, done, away, stop, others)
		if name == "AskTask" {
			can(forgotten)
		}
		if c.CanBeUndone() {
			can(undone)
		}
	case "ReadOp", "ReadPolicy", "ReadFacts":
		can(lost, done, away, stop)
	case "Observe", "FindTasks":
		can(lost, done, away, stop, others)
	case "Reserve":
		can(refuse, stop)
	case "AwaitTurn":
		can(stop)
		if ordinary {
			can(refuse)
		}
	case "TakeTask":
		can(lost, done, refuse, away)
	case "Launch":
		can(lost, done, refuse, stop, others)
		kinds[late] = 4     // it waits, or is past its check; the process lives on, or dies
		kinds[dieAfter] = 2 // the task runs, or is over
		// That a request is delivered once is not this program's doing. Of two
		// tasks one that fails and leaves no trace may end the op beside the other.
		if !shared && c.HalfWay != enginetest.Untouched {
			can(twice)
		}
	case "RaiseFence":
		can(lost, done, refuse, late, twice, away, stop, others)
		kinds[dieAfter] = 2 // after both of its parts, or between them
	default: // an append
		can(lost, done, refuse, twice, away, stop)
		kinds[late] = 2 // the process lives on, or dies
	}
	return kinds[f]
}

// A situation is what a recovery finds.
type situation struct {
	name string
	plan *plan // of the ordinary run before; nil: that run is what the history is about
	end  bool  // what the host is at work on ends before recovery
	same bool  // it is recovered by the process that has launched it
}

func at(name string) boundary { return boundary{name, 1} }

var situations = []situation{
	{name: "ordinary run"},
	{name: "claimed", plan: &plan{at("Append OpStarted"), dieAfter, 0}},
	{name: "announced, nothing sent", plan: &plan{at("Launch"), dieBefore, 0}},
	{name: "request lost", plan: &plan{at("Launch"), lost, 0}, same: true},
	{name: "request waits", plan: &plan{at("Launch"), late, 0}, same: true},
	{name: "request waits, process died", plan: &plan{at("Launch"), late, 1}},
	{name: "request past its check", plan: &plan{at("Launch"), late, 3}},
	{name: "task runs, not on record", plan: &plan{at("Launch"), dieAfter, 0}},
	{name: "task over, not on record", plan: &plan{at("Launch"), dieAfter, 0}, end: true},
	{name: "task runs", plan: &plan{at("Append OpTaskRunning"), dieAfter, 0}},
	{name: "task over", plan: &plan{at("Append OpTaskRunning"), dieAfter, 0}, end: true},
}

// A history is one fault in one situation, with one end of the task, and what is
// late at one moment.
type history struct {
	situation situation
	shared    bool
	exit      exit
	plan      *plan // nil: no fault
	moments   []int // of what is late
}

func (h history) String() string {
	s := fmt.Sprintf("%s, shared token %t, the task %s", h.situation.name, h.shared, exitNames[h.exit])
	if h.plan != nil {
		s += fmt.Sprintf(", at %s: %s (%d), moments %v", h.plan.at, h.plan.fault, h.plan.flavor, h.moments)
	}
	return s
}

// An outcome is what came of a history.
type outcome struct {
	end     end        // how the op stood when nothing changed any more
	last    end        // the same after the writ was delivered again
	came    []boundary // of the run that the history is about
	inTime  []bool     // of what was late: it came before all was over
	wrong   string
	log     []string
	effects int
}

// play plays a history to its end, and on.
func (w *writ) play(h history) outcome {
	l := newLife(w, h.exit, h.shared)
	l.moments = h.moments
	var out outcome
	subject := h.plan
	if before := h.situation.plan; before != nil {
		if _, died := l.deliver(before); died && !h.situation.same {
			l.epoch++
		}
		if h.situation.end {
			l.host.comeToEnd()
		}
		out.came = l.recover(subject)
	} else {
		var died bool
		if out.came, died = l.deliver(subject); died {
			l.epoch++
		}
	}
	l.settle()
	out.end = l.end(false)
	l.again()
	l.followUp(true)
	l.settle()
	out.last, out.inTime = l.end(true), l.inTime
	out.wrong, out.log, out.effects = l.wrong, l.log, len(l.host.effects)
	return out
}

// deliver runs the writ. All jobs are copies of one that has begun, so that the
// writ is parsed, and its signature verified, once.
func (l *life) deliver(p *plan) ([]boundary, bool) {
	j := l.begun
	l.drawing = l
	return l.run(&j, l.first, p)
}

// recover settles the op if it is in flight.
func (l *life) recover(p *plan) []boundary {
	o := l.inFlight()
	if o == nil {
		return nil
	}
	j := engine.NewRecovery(identity(l.epoch), pace, l.load(o.nonce))
	came, died := l.run(j, j.Begin(now), p)
	if died {
		l.epoch++
	}
	return came
}

// settle recovers until nothing changes any more, lets the host's tasks end, and
// does so once more.
func (l *life) settle() {
	for range 2 {
		for before := -1; before != len(l.facts()); {
			before = len(l.facts())
			l.recover(nil)
		}
		for _, r := range l.host.reqs {
			l.host.finish(r)
		}
		l.check()
	}
}

// again lets people take the protection away, if the op has ended and nothing of
// it is at work, and delivers the order once more: a writ is known again, and what
// nobody has signed is another op.
func (l *life) again() {
	if l.inFlight() != nil {
		return
	}
	if !slices.ContainsFunc(l.host.reqs, func(r *request) bool { return r.at == checked || r.at == running }) {
		l.host.protected = false
	}
	if _, died := l.deliver(nil); died {
		panic("crashmatrix: a process died without a fault")
	}
	l.settle()
}
