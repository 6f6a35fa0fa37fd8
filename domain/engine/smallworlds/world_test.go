package smallworlds_test

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"slices"

	"writ/domain/engine/enginetest"
	"writ/domain/op"
)

// bounds say how large a world is: how often may happen what need not.
type bounds struct {
	Deliver [2]uint8 // deliveries of the writ to each launcher
	Crash   uint8    // crashes of a launcher; it starts again and takes over
	Over    uint8    // take-overs from one who lives
	Store   uint8    // appends that are lost, done but reported as failed, late, or delivered twice
	Net     uint8    // requests to the host that are lost, or whose answer is
	Twice   uint8    // requests that are delivered twice
	Ask     uint8    // questions that the host or the store does not answer, fences that can't be had
	Forget  uint8    // tasks that the host forgets, or never lists
	Lift    uint8    // people who take the protection away, once the op is settled
	Shared  bool     // all attempts share one token
	Others  uint8    // other people who do what the op is to do
	Undo    uint8    // and who take back what was done
	Passes  uint8    // further passes of recovery in a term, over what is in the queue
}

// wrong is what a world does wrong on purpose, to show that the checker sees it.
type wrong uint8

const (
	sameClaims       wrong = iota + 1 // claimants draw the same claim
	loseAfterAnswer                   // the store answers to an announcement, and forgets it
	timeoutIsProof                    // a lost answer to a launch is passed off as proof that nothing started
	noFence                           // the fence is confirmed, and nothing was done
	fenceNoToken                      // the fence protects the guest, and leaves the token alone
	fenceNoProtect                    // the fence makes the token void, and leaves the guest alone
	fenceNoTombstone                  // the fence makes a token void, and takes no name that is free
	anyTask                           // a search gives the tasks of any attempt
	believesTask                      // the probe goes by the task's word
	takesOthers                       // the probe takes what others did for the attempt's doing
	recoversLater                     // an instance that was superseded recovers what was claimed after it
	liftsEarly                        // people take the protection away while a request is past its check
)

// A state is a world at one moment. It is a value: clone before changing it.
type state struct {
	log   []uint16 // the op's stream
	wires []uint16 // appends on their way to the store, whose sender has given them up
	leads []uint8  // the agent's stream: who took over
	procs [2]proc
	host  host
	acks  []ack // to whom the store has said that its claim is on record
	alarm bool  // a task was contested
	left  bounds
	wrong string // what the checker found; such a state is not gone on from
}

type ack struct{ revision, seed uint8 }

// A proc is a launcher: one process of the service.
type proc struct {
	epoch     uint8 // that it leads under, for all it knows; 0: it does not
	surveyed  bool  // what was in flight at the beginning of its term is taken up
	queue     uint8 // how long the op's stream was when it was put into the recovery queue
	delivered uint8
	passes    uint8
	parts     [3]part // two deliveries, and the recovery
}

const recovery = 2

// A part is a job at work, and how far its present command is carried out.
type part struct {
	id    uint32 // 0: none
	stage uint8
	req   uint8 // the request that it has sent
}

func (s *state) clone() *state {
	n := *s
	n.log, n.wires, n.leads = slices.Clone(s.log), slices.Clone(s.wires), slices.Clone(s.leads)
	n.acks = slices.Clone(s.acks)
	n.host.reqs, n.host.effects = slices.Clone(s.host.reqs), slices.Clone(s.host.effects)
	return &n
}

// key tells equal states from others. Two that differ have the same key with a
// probability of 2^-128 for each pair.
func (s *state) key() [16]byte {
	h := fnv.New128a()
	b := make([]byte, 0, 256)
	for _, list := range [][]uint16{s.log, s.wires, s.host.effects} {
		b = append(b, byte(len(list)))
		for _, r := range list {
			b = binary.LittleEndian.AppendUint16(b, r)
		}
	}
	b = append(b, byte(len(s.leads)))
	b = append(b, s.leads...)
	for _, p := range s.procs {
		b = append(b, p.epoch, bit(p.surveyed), p.queue, p.delivered, p.passes)
		for _, j := range p.parts {
			b = binary.LittleEndian.AppendUint32(b, j.id)
			b = append(b, j.stage, j.req)
		}
	}
	b = append(b, byte(s.host.state), bit(s.host.wasDone), bit(s.host.byOthers), bit(s.host.protected), bit(s.alarm), byte(len(s.host.reqs)), byte(len(s.acks)))
	b = append(b, s.host.tokens[:]...)
	for _, r := range s.host.reqs {
		b = binary.LittleEndian.AppendUint16(b, r.launching)
		b = append(b, byte(r.at), byte(r.exit), bit(r.forgotten))
		b = binary.LittleEndian.AppendUint16(b, r.taken)
	}
	for _, a := range s.acks {
		b = append(b, a.revision, a.seed)
	}
	l := s.left
	b = append(b, l.Crash, l.Over, l.Store, l.Net, l.Twice, l.Ask, l.Forget, l.Lift, l.Others, l.Undo)
	_, _ = h.Write(b)
	return [16]byte(h.Sum(nil))
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// A move is one step of a history.
type move struct {
	what string
	who  int8 // launcher; -1: nobody's
	part int8
	n    uint8
}

func (m move) String() string {
	switch {
	case m.who < 0:
		return fmt.Sprintf("%s %d", m.what, m.n)
	case m.part < 0:
		return fmt.Sprintf("node-%c: %s", 'a'+rune(m.who), m.what)
	}
	return fmt.Sprintf("node-%c, %s: %s", 'a'+rune(m.who), []string{"delivery 1", "delivery 2", "recovery"}[m.part], m.what)
}

// A branch is a move and where it leads.
type branch struct {
	move move
	to   *state
}

// A world gives the moves that there are in a state.
type world struct {
	*cast
	bounds bounds
	err    wrong
}

// newWorld gives a world. What a cast has learnt is of worlds of one kind: those of
// another class, with a shared token, and those that are wrong, take one of their own.
func newWorld(c *cast, b bounds, err wrong) *world {
	c.same = err == sameClaims
	return &world{cast: c, bounds: b, err: err}
}

// first is the state in which every history begins: one launcher leads.
func (w *world) first() *state {
	s := &state{leads: []uint8{0}, left: w.bounds, host: host{state: enginetest.Untouched}}
	s.procs[0] = proc{epoch: 1, surveyed: true, passes: w.bounds.Passes}
	return s
}

// branches gives every move. Those that must come sooner or later are under
// way; in a state without such a one nothing is.
func (w *world) branches(s *state) (all []branch, underWay bool) {
	if s.wrong != "" {
		return nil, false
	}
	add := func(m move, to *state) {
		if to.wrong == "" {
			to.wrong = w.check(to)
		}
		all = append(all, branch{m, to})
	}
	for p := range s.procs {
		for j := range s.procs[p].parts {
			if s.procs[p].parts[j].id != 0 {
				w.play(s, p, j, add)
			}
		}
		w.survey(s, p, add)
	}
	w.deliverWires(s, add)
	w.hostMoves(s, add)
	w.replace(s, add)
	underWay = len(all) > 0
	for p := range s.procs {
		w.happen(s, p, add)
	}
	w.hostHappens(s, add)
	return all, underWay
}

// --- The store.

// append does what EventStoreDB does: the events go in at the expected place, or
// the ids that stand there already are the same, which is success, or the
// revision is wrong. It compares no bytes.
func (w *world) append(s *state, rec uint16) (ok bool) {
	r := w.records[rec]
	switch have := uint64(len(s.log)); {
	case r.Revision == have:
		s.log = append(s.log, rec)
		return true
	case r.Revision < have:
		return w.records[s.log[r.Revision]].ID == r.ID
	}
	return false
}

func (w *world) deliverWires(s *state, add func(move, *state)) {
	for i, rec := range s.wires {
		n := s.clone()
		n.wires = slices.Delete(n.wires, i, i+1)
		w.append(n, rec)
		add(move{"a late append arrives:", -1, -1, uint8(w.records[rec].Revision)}, n)
	}
}

func (s *state) wire(rec uint16) {
	s.wires = append(s.wires, rec)
	slices.Sort(s.wires)
}

// --- Who leads, and what is recovered.

func (s *state) holds(p int) bool {
	return s.procs[p].epoch != 0 && int(s.procs[p].epoch) == len(s.leads)
}

func (w *world) inFlight(s *state) bool {
	return len(s.log) > 0 && !w.facts[s.log[len(s.log)-1]].ends()
}

// claim gives the newest claim on record.
func (w *world) claim(s *state) fact {
	for _, r := range slices.Backward(s.log) {
		if w.facts[r].Type == op.TypeStarted {
			return w.facts[r]
		}
	}
	return fact{}
}

// replace makes somebody lead if nobody does.
func (w *world) replace(s *state, add func(move, *state)) {
	if s.holds(0) || s.holds(1) {
		return
	}
	for p := range s.procs {
		n := s.clone()
		w.takeOver(n, p)
		add(move{"takes over, as nobody leads", int8(p), -1, 0}, n)
	}
}

func (w *world) takeOver(s *state, p int) {
	s.leads = append(s.leads, uint8(p))
	s.procs[p].epoch, s.procs[p].surveyed, s.procs[p].queue = uint8(len(s.leads)), false, 0
	s.procs[p].passes = w.bounds.Passes
}

// survey takes up what is in flight, when a term begins.
func (w *world) survey(s *state, p int, add func(move, *state)) {
	q := s.procs[p]
	switch {
	case q.epoch == 0:
	case !q.surveyed:
		n := s.clone()
		n.procs[p].surveyed = true
		w.recoverNow(n, p)
		add(move{"takes up what is in flight", int8(p), -1, 0}, n)
	case s.holds(p) && !w.queued(s, p):
		if n := s.clone(); w.recoverNow(n, p) {
			add(move{"recovers what is in flight", int8(p), -1, 0}, n)
		}
	}
}

// queued tells whether a launcher has the op, as it stands, in its queue.
func (w *world) queued(s *state, p int) bool { return int(s.procs[p].queue) == len(s.log) }

// recoverNow begins a recovery, if there is something to recover that no job of
// the process holds.
func (w *world) recoverNow(s *state, p int) bool {
	q := &s.procs[p]
	if !w.inFlight(s) || q.parts[recovery].id != 0 {
		return false
	}
	if w.claim(s).Epoch > q.epoch && w.err != recoversLater {
		return false // it is its successor's, and this one has been superseded
	}
	for _, j := range q.parts[:recovery] {
		if j.id != 0 && w.parts[j.id].job.Committed() {
			return false
		}
	}
	q.queue = 0
	q.parts[recovery] = part{id: w.recover(p, q.epoch, s.log)}
	w.settle(s, p, recovery)
	return true
}

// happen are the things that need not come.
func (w *world) happen(s *state, p int, add func(move, *state)) {
	q := s.procs[p]
	who := int8(p)
	if q.epoch != 0 && !s.holds(p) {
		n := s.clone()
		n.procs[p].epoch = 0
		add(move{"learns that it leads no more", who, -1, 0}, n)
	}
	if !s.holds(p) && (s.holds(0) || s.holds(1)) && s.left.Over > 0 {
		n := s.clone()
		n.left.Over--
		w.takeOver(n, p)
		add(move{"takes over", who, -1, 0}, n)
	}
	if q.epoch != 0 && q.surveyed && q.passes > 0 && (w.queued(s, p) || !s.holds(p)) {
		n := s.clone()
		n.procs[p].passes--
		if w.recoverNow(n, p) {
			add(move{"recovers again", who, -1, 0}, n)
		}
	}
	if q.epoch != 0 && q.delivered < w.bounds.Deliver[p] {
		for j := range recovery {
			if q.parts[j].id != 0 {
				continue
			}
			n := s.clone()
			n.procs[p].delivered++
			n.procs[p].parts[j] = part{id: w.deliver(p, uint8(firstSeed+10*p)+q.delivered)}
			w.settle(n, p, j)
			add(move{"is given the writ", who, int8(j), 0}, n)
			break
		}
	}
	if s.left.Crash > 0 && (q.epoch != 0 || q.busy()) {
		w.crash(s, p, add)
	}
}

func (q proc) busy() bool {
	return slices.ContainsFunc(q.parts[:], func(j part) bool { return j.id != 0 })
}

// crash ends a process. What it was about to send is sent, or on its way, or not.
func (w *world) crash(s *state, p int, add func(move, *state)) {
	die := func(before *state, what string) {
		n := before.clone()
		n.left.Crash--
		n.procs[p] = proc{delivered: n.procs[p].delivered}
		add(move{what, int8(p), -1, 0}, n)
	}
	die(s, "crashes")
	for j := range s.procs[p].parts {
		rec, ok := w.appending(s, p, j)
		if !ok {
			continue
		}
		done := s.clone()
		w.append(done, rec)
		die(done, "crashes after its append, unheard")
		late := s.clone()
		late.wire(rec)
		die(late, "crashes, its append is on its way")
	}
}
