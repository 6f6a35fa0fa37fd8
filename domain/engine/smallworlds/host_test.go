package smallworlds_test

import (
	"slices"

	"writ/domain/engine/enginetest"
)

// A host has one target, tokens of attempts, requests, and tasks.
type host struct {
	state     enginetest.State
	wasDone   bool // at some time
	byOthers  bool // other people did what the op is to do, by a task of theirs
	protected bool
	tokens    [4]uint8 // by attempt
	reqs      []request
	effects   []uint16 // the announcements whose requests have done something, in order
}

// heldBack tells whether the guest's protection stops what is past the check.
func (w *world) heldBack(s *state) bool { return w.class.Guarded && s.host.protected }

// idle tells whether a task can do nothing to the target as it is.
func (w *world) idle(s *state) bool {
	return w.heldBack(s) || w.class.Meets(s.host.state) == enginetest.Refuses
}

const (
	tokenLive uint8 = iota + 1
	tokenVoid
)

// Where a request is.
type place uint8

const (
	onItsWay  place = iota + 1
	checked         // its token was good; no task is listed yet
	refused         // and never begins
	running         // as a task that is listed
	ended           // its task has
	leftChild       // its task was killed, and a child of it may still remove a volume
	vanished        // it never arrives
	unlisted        // its task has begun, and its node has died before the task was listed
)

// How a task has ended.
type exit uint8

const (
	exitOK     exit = iota + 1
	exitBefore      // with a text that comes before any effect
	exitKilled
)

// A request is what a launch has sent: one of them, or a second copy of it.
type request struct {
	launching uint16 // the announcement on record
	at        place
	exit      exit
	forgotten bool   // its task
	taken     uint16 // the announcement, plus one, whose op has put its task on record as adopted, where tokens are shared
}

// arrive checks a request as the guest's node does: token, guest, protection.
func (w *world) arrive(s *state, r *request) {
	if (w.bounds.Shared || s.host.tokens[w.facts[r.launching].Attempt] == tokenLive) && !w.class.Over(s.host.state) && !w.heldBack(s) {
		r.at = checked
		return
	}
	r.at = refused
}

// act lets a task do its work. Under the lock of what it is about it looks for that
// and for the guest's protection again, and for nothing else.
func (w *world) act(s *state, r *request, how exit, child bool) {
	if w.idle(s) {
		r.at, r.exit = ended, exitBefore
		return
	}
	r.at, r.exit = ended, how
	switch {
	case w.class.Meets(s.host.state) == enginetest.Idles:
	case how == exitOK:
		s.harm(r, enginetest.Done)
	case child:
		r.at = leftChild
	case how == exitKilled:
		s.harm(r, w.halfWay())
	}
}

// halfWay is how the target is once a task was killed on its way. A guest that was
// to be started comes up, by a process of its own.
func (w *world) halfWay() enginetest.State {
	if w.class.HalfWay == enginetest.Untouched {
		return enginetest.Done
	}
	return w.class.HalfWay
}

func (s *state) harm(r *request, to enginetest.State) {
	s.host.state = to
	s.host.wasDone = s.host.wasDone || to == enginetest.Done
	if !slices.Contains(s.host.effects, r.launching) {
		s.host.effects = append(s.host.effects, r.launching)
	}
}

// hostMoves are the steps that the host takes by itself.
func (w *world) hostMoves(s *state, add func(move, *state)) {
	for i, r := range s.host.reqs {
		on := func(what string, do func(n *state, r *request)) {
			n := s.clone()
			do(n, &n.host.reqs[i])
			add(move{what, -1, -1, uint8(i + 1)}, n)
		}
		switch r.at {
		case onItsWay:
			on("the host reads request", w.arrive)
		case checked:
			on("the host lists the task of request", func(_ *state, r *request) { r.at = running })
		case running:
			on("the task ends OK, of request", func(n *state, r *request) { w.act(n, r, exitOK, false) })
			if w.idle(s) {
				continue // they are all alike
			}
			on("the task fails before any effect, of request", func(n *state, r *request) { w.act(n, r, exitBefore, false) })
			on("the task is killed half-way, of request", func(n *state, r *request) { w.act(n, r, exitKilled, false) })
			on("the task is killed, a child lives, of request", func(n *state, r *request) { w.act(n, r, exitKilled, true) })
		case leftChild:
			on("the child ends, of request", func(_ *state, r *request) { r.at = ended })
			if s.host.state != enginetest.Done {
				on("the child goes on, of request", func(n *state, r *request) { r.at = ended; n.harm(r, w.halfWay()) })
			}
		case refused, ended, vanished, unlisted:
		}
	}
}

// hostHappens are the things that need not come.
func (w *world) hostHappens(s *state, add func(move, *state)) {
	for i, r := range s.host.reqs {
		if s.left.Forget == 0 {
			break
		}
		n := s.clone()
		n.left.Forget--
		switch {
		case (r.at == ended || r.at == leftChild) && !r.forgotten:
			n.host.reqs[i].forgotten = true
			add(move{"the host forgets the task of request", -1, -1, uint8(i + 1)}, n)
		case r.at == checked && !w.idle(s):
			n.harm(&n.host.reqs[i], w.halfWay())
			n.host.reqs[i].at = unlisted
			add(move{"the node dies when something is done, before it has listed the task of request", -1, -1, uint8(i + 1)}, n)
		}
	}
	if s.left.Others > 0 && s.host.state == enginetest.Untouched && !w.heldBack(s) {
		n := s.clone()
		n.left.Others--
		n.host.state, n.host.wasDone, n.host.byOthers = enginetest.Done, true, true
		add(move{"other people do it", -1, -1, 0}, n)
	}
	if s.left.Undo > 0 && s.host.state == enginetest.Done {
		n := s.clone()
		n.left.Undo--
		n.host.state = enginetest.Undone
		add(move{"other people undo it", -1, -1, 0}, n)
	}
	// A person lifts the protection once the op is settled and nothing of it is
	// at work, nor stalled between its check and its task, where nobody sees it.
	atWork := func(r request) bool {
		return r.at == running || r.at == leftChild || r.at == checked && w.err != liftsEarly
	}
	if s.left.Lift > 0 && s.host.protected && !w.inFlight(s) && !slices.ContainsFunc(s.host.reqs, atWork) {
		n := s.clone()
		n.left.Lift--
		n.host.protected = false
		add(move{"people take the protection away", -1, -1, 0}, n)
	}
}
