package smallworlds_test

import "slices"

// A guest is the one guest that there is.
type guest uint8

const (
	whole guest = iota + 1
	half        // some of its volumes are gone
	gone
)

// A host has one guest, tokens of attempts, requests, and tasks.
type host struct {
	guest     guest
	protected bool
	tokens    [4]uint8 // by attempt
	reqs      []request
	effects   []uint16 // the announcements whose requests have harmed the guest, in order
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
	if (w.bounds.Shared || s.host.tokens[w.facts[r.launching].Attempt] == tokenLive) && s.host.guest != gone && !s.host.protected {
		r.at = checked
		return
	}
	r.at = refused
}

// act lets a task do its work. Under the guest's lock it looks for the guest and
// its protection again, and for nothing else.
func (w *world) act(s *state, r *request, how exit, child bool) {
	if s.host.guest == gone || s.host.protected {
		r.at, r.exit = ended, exitBefore
		return
	}
	r.at, r.exit = ended, how
	switch {
	case how == exitOK:
		s.harm(r, gone)
	case child:
		r.at = leftChild
	case how == exitKilled:
		s.harm(r, half)
	}
}

func (s *state) harm(r *request, to guest) {
	s.host.guest = to
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
			if s.host.guest == gone || s.host.protected {
				continue // they are all alike
			}
			on("the task fails before any effect, of request", func(n *state, r *request) { w.act(n, r, exitBefore, false) })
			on("the task is killed half-way, of request", func(n *state, r *request) { w.act(n, r, exitKilled, false) })
			on("the task is killed, a child lives, of request", func(n *state, r *request) { w.act(n, r, exitKilled, true) })
		case leftChild:
			on("the child ends, of request", func(_ *state, r *request) { r.at = ended })
			if s.host.guest != gone {
				on("the child removes a volume, of request", func(n *state, r *request) { r.at = ended; n.harm(r, half) })
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
		case r.at == checked && s.host.guest != gone && !s.host.protected:
			n.harm(&n.host.reqs[i], half)
			n.host.reqs[i].at = unlisted
			add(move{"the node dies when a volume is gone, before it has listed the task of request", -1, -1, uint8(i + 1)}, n)
		}
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
