package smallworlds_test

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"writ/domain/engine"
	"writ/domain/engine/enginetest"
	"writ/domain/eventstore"
	"writ/domain/op"
)

var errUnheard = errors.New("connection reset")

// give gives a job a result, and carries out what it then wants and what
// nobody else can see or disturb.
func (w *world) give(s *state, p, j int, what string, result func() engine.Result) *state {
	n := s.clone()
	n.procs[p].parts[j] = part{id: w.step(s.procs[p].parts[j].id, what, result)}
	w.settle(n, p, j)
	return n
}

// settle carries out commands whose place among the steps of others does not
// matter: they read what never changes, or what the process itself knows.
func (w *world) settle(s *state, p, j int) {
	for {
		q := &s.procs[p]
		at := &q.parts[j]
		step := func(what string, result engine.Result) {
			at.id = w.step(at.id, what, func() engine.Result { return result })
		}
		switch c := w.parts[at.id].cmd.(type) {
		case engine.Pause:
			step("paused", engine.Paused{})
		case engine.ReadPolicy:
			if q.epoch == 0 {
				step("not leading", engine.PolicyRead{Err: errors.New("another instance leads")})
				continue
			}
			step("policy", engine.PolicyRead{Policy: w.policy})
		case engine.ReadFacts:
			step("facts", engine.FactsRead{Facts: w.order.Facts(enginetest.Untouched)})
		case engine.Reserve:
			if q.epoch == 0 {
				step("closed", engine.Reserved{Closed: "another instance leads"})
				continue
			}
			step(fmt.Sprint("reserved ", q.epoch), engine.Reserved{OK: true, Epoch: uint64(q.epoch)})
		case engine.Observe:
			seen := w.order.Seen(s.host.state)
			seen.Protection, seen.Digest = s.host.protected, digest(s.host.protected)
			step(fmt.Sprint("observed ", s.host.state, s.host.protected), engine.HostObserved{
				Seen: seen, Request: op.Request{Method: "POST", Path: "/the/request"}, Credential: fmt.Sprintf("writ@pve!w-%d", c.Attempt.Number),
			})
		case engine.AwaitTurn:
			if !c.Recovering {
				return
			}
			step("turn", engine.TurnCame{})
		case engine.RecordRefusal:
			step("recorded", engine.RefusalRecorded{})
		case engine.RecordContested:
			s.alarm = true
			step("recorded", engine.RefusalRecorded{})
		case engine.Finish:
			s.wrong = or(s.wrong, w.checkAnswer(s, c.Answer.Outcome.String(), c.Answer.Failure != nil && c.Answer.Failure.Effect == op.EffectNone))
			if c.Answer.Outcome == engine.Indeterminate && j == recovery {
				q.queue = uint8(len(s.log))
			}
			*at = part{}
			return
		default:
			return
		}
	}
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func digest(protected bool) string {
	if protected {
		return "protected"
	}
	return "plain"
}

// play gives every way in which the present command of a job can go on.
func (w *world) play(s *state, p, j int, add func(move, *state)) {
	say := func(what string, n *state) { add(move{what, int8(p), int8(j), 0}, n) }
	give := func(what string, r engine.Result) {
		say(what, w.give(s, p, j, what, func() engine.Result { return r }))
	}
	// ask is for a question: it may go unanswered.
	ask := func(unheard engine.Result) {
		if s.left.Ask > 0 {
			n := w.give(s, p, j, "unheard", func() engine.Result { return unheard })
			n.left.Ask--
			say("gets no answer", n)
		}
	}
	at := s.procs[p].parts[j]
	switch c := w.parts[at.id].cmd.(type) {
	case engine.ReadOp:
		say("reads the stream", w.give(s, p, j, "read "+keyOf(s.log), func() engine.Result { return engine.OpRead{Op: w.fold(s.log)} }))
		ask(engine.OpRead{Err: errUnheard})
	case engine.Append:
		rec, _ := w.appending(s, p, j)
		w.playAppend(s, p, j, rec, say)
	case engine.AwaitTurn:
		q := s.procs[p]
		switch {
		case uint64(q.epoch) != c.Epoch:
			give("leads no more", engine.TurnCame{Blocked: "another instance leads"})
		case q.surveyed:
			give("gets its turn and looks at the target", engine.TurnCame{})
		}
	case engine.Launch:
		w.playLaunch(s, p, j, c, say)
	case engine.AskTask:
		if t, known := w.task(s, c.UPID); t.Phase != engine.TaskActive {
			give(known, engine.TaskAsked{Task: t, PrecedesEffect: w.bounds.Shared && t.ExitStatus == exits[exitBefore]})
			ask(engine.TaskAsked{Err: errUnheard})
		}
	case engine.ProbeHost:
		f, what := w.probe(s, c)
		give(what, engine.Probed{Finding: f})
		ask(engine.Probed{Err: errUnheard})
	case engine.FindTasks:
		r, what := w.search(s, c.Announced)
		give(what, r)
		ask(engine.TasksFound{Err: errUnheard})
	case engine.TakeTask:
		n := s.clone()
		what, r := "has the task, on record", engine.TaskTaken{Ours: true}
		if !w.take(n, c) {
			what, r = "finds that the task is another's", engine.TaskTaken{}
		}
		say(what, w.give(n, p, j, what, func() engine.Result { return r }))
		ask(engine.TaskTaken{Err: errUnheard})
		if s.left.Ask > 0 && r.Ours {
			n = w.give(n, p, j, "unheard", func() engine.Result { return engine.TaskTaken{Err: errUnheard} })
			n.left.Ask--
			say("has the task, unheard", n)
		}
	case engine.RaiseFence:
		w.playFence(s, p, j, c, say)
	default:
		panic(fmt.Sprintf("smallworlds: the job wants %T", c))
	}
}

// appending gives the record that a job is about to append.
func (w *world) appending(s *state, p, j int) (uint16, bool) {
	id := s.procs[p].parts[j].id
	if rec, ok := w.cast.append[id]; ok {
		return rec, true
	}
	c, ok := w.parts[id].cmd.(engine.Append)
	if !ok {
		return 0, false
	}
	w.cast.append[id] = w.record(c.Record)
	return w.cast.append[id], true
}

// oneAnswer is a store that gives the answer that the model has worked out. What
// the engine makes of it is the engine's.
type oneAnswer struct {
	eventstore.Store

	err      error
	revision eventstore.Revision
}

func (a oneAnswer) Append(context.Context, eventstore.StreamID, eventstore.Expected, ...eventstore.Proposed) (eventstore.Appended, error) {
	return eventstore.Appended{Revision: a.revision}, a.err
}

func (w *world) playAppend(s *state, p, j int, rec uint16, say func(string, *state)) {
	r := w.records[rec]
	answered := func(before *state, what string, err error) *state {
		return w.give(before, p, j, what, func() engine.Result {
			return engine.AppendRecord(context.Background(), oneAnswer{err: err, revision: eventstore.Revision(r.Revision)}, w.nonce.Stream(), r)
		})
	}
	name := " " + r.Type
	done := s.clone()
	if w.append(done, rec) {
		if r.Type == op.TypeStarted {
			done.acks = append(done.acks, ack{uint8(r.Revision), w.parts[s.procs[p].parts[j].id].seed})
		}
		n := answered(done, "appended", nil)
		n.wrong = or(n.wrong, w.checkAcks(n, rec))
		say("appends"+name, n)
	} else {
		say("loses its append of"+name, answered(done, "wrong revision", &eventstore.WrongRevisionError{}))
	}
	if w.err == loseAfterAnswer && r.Type == op.TypeLaunching && int(r.Revision) == len(s.log) {
		say("appends, and the store forgets,"+name, answered(s, "appended", nil))
	}
	if s.left.Store == 0 {
		return
	}
	fault := func(what string, n *state, result string, err error) {
		n.left.Store--
		say(what+name, answered(n, result, err))
	}
	fault("its append is lost:", s.clone(), "unknown", errUnheard)
	unheard := s.clone()
	w.append(unheard, rec)
	fault("its append is done, unheard:", unheard, "unknown", errUnheard)
	late := s.clone()
	late.wire(rec)
	fault("its append is late:", late, "unknown", errUnheard)
	if twice := s.clone(); int(r.Revision) == len(s.log) {
		w.append(twice, rec)
		twice.wire(rec)
		fault("its append is delivered twice, the first unheard:", twice, "unknown", errUnheard)
	}
}

// The stages of a launch: whether this launcher still leads, the attempt's
// token, the request, the answer.
const (
	launchHold uint8 = iota
	launchToken
	launchSend
	launchAnswer
)

func (w *world) playLaunch(s *state, p, j int, c engine.Launch, say func(string, *state)) {
	at := s.procs[p].parts[j]
	give := func(before *state, what string, r engine.LaunchDone) *state {
		return w.give(before, p, j, what, func() engine.Result { return r })
	}
	onward := func(before *state, stage uint8) *state {
		n := before.clone()
		n.procs[p].parts[j].stage = stage
		return n
	}
	launching := w.announcement(s, c.Announced.OpID)
	attempt := c.Attempt.Number
	switch at.stage {
	case launchHold:
		if !s.holds(p) || uint64(s.procs[p].epoch) != c.Epoch {
			say("does not launch: another one leads", give(s, "withheld", engine.LaunchDone{Withheld: "another instance launches"}))
			return
		}
		if w.bounds.Shared {
			say("makes sure that it leads", onward(s, launchSend))
			return
		}
		say("makes sure that it leads", onward(s, launchToken))
	case launchToken:
		n := s.clone()
		if why := n.host.makeToken(attempt, c.Attempt.Earlier); why != "" {
			n = give(n, "other copy", engine.LaunchDone{Err: &engine.OtherCopyError{Why: why}})
			if s.holds(p) && uint64(s.procs[p].epoch) == c.Epoch {
				n.wrong = or(n.wrong, "another copy of the ledger is suspected, and there is none: "+why)
			}
			say("finds the attempt's token taken", n)
			return
		}
		if w.class.Shows(s.host.state) || digest(s.host.protected) != c.Announced.Observed.Digest {
			n.host.tokens[attempt] = tokenVoid
			say("does not launch: the target has changed", give(n, "changed", engine.LaunchDone{Err: engine.Definite(errors.New("the target has changed"))}))
			return
		}
		say("makes the attempt's token", onward(n, launchSend))
	case launchSend:
		n := onward(s, launchAnswer)
		n.wrong = w.checkSend(s, launching, c.Announced.OpID)
		n.host.reqs = append(n.host.reqs, request{launching: launching, at: onItsWay})
		n.procs[p].parts[j].req = uint8(len(n.host.reqs) - 1)
		say("sends the request", n)
		if s.left.Twice > 0 {
			twice := n.clone()
			twice.left.Twice--
			twice.host.reqs = append(twice.host.reqs, request{launching: launching, at: onItsWay})
			say("sends the request, which is delivered twice", twice)
		}
	case launchAnswer:
		r := s.host.reqs[at.req]
		switch r.at {
		case running, ended, leftChild:
			say("is answered: the host has started a task", give(s, fmt.Sprint("task ", at.req), engine.LaunchDone{UPID: upid(int(at.req))}))
		case refused:
			n := s.clone()
			n.host.tokens[attempt] = tokenVoid // discarded with any definite error
			say("is answered: refused", give(n, "refused", engine.LaunchDone{Err: engine.Definite(errors.New("refused"))}))
		case unlisted:
			say("gets no answer, as the node has died", give(s, "unheard", engine.LaunchDone{Err: errUnheard}))
			return
		case onItsWay, checked, vanished:
		}
		if s.left.Net == 0 {
			return
		}
		unheard := engine.LaunchDone{Err: errUnheard}
		if w.err == timeoutIsProof {
			unheard.Err = engine.Definite(errUnheard)
		}
		n := give(s, "unheard", unheard)
		n.left.Net--
		say("gets no answer to its request", n)
		if r.at == onItsWay {
			lost := n.clone()
			lost.host.reqs[at.req].at = vanished
			say("gets no answer, as its request is lost", lost)
		}
	}
}

// announcement gives the record of an announcement.
func (w *world) announcement(s *state, opID string) uint16 {
	for i, f := range w.facts {
		if f.Type == op.TypeLaunching && f.OpID == opID && (slices.Contains(s.log, uint16(i)) || w.err == loseAfterAnswer) {
			return uint16(i)
		}
	}
	panic("smallworlds: a launch without an announcement on record")
}

// makeToken makes an attempt's token, if the host remembers of this nonce
// exactly the attempts that were announced before. What is missing of those is
// made good.
func (h *host) makeToken(attempt int, earlier []int) (why string) {
	for n, t := range h.tokens {
		if t != 0 && !slices.Contains(earlier, n) {
			return fmt.Sprintf("a token of attempt %d", n)
		}
	}
	for _, n := range earlier {
		if h.tokens[n] == 0 {
			h.tokens[n] = tokenVoid
		}
	}
	h.tokens[attempt] = tokenLive
	return ""
}

// playFence puts up the two parts of a fence, one after the other.
func (w *world) playFence(s *state, p, j int, c engine.RaiseFence, say func(string, *state)) {
	at := s.procs[p].parts[j]
	if s.left.Ask > 0 {
		n := w.give(s, p, j, "unfenced", func() engine.Result { return engine.Fenced{Fence: engine.Fence{Reasons: []string{"no quorum"}}} })
		n.left.Ask--
		say("can't fence", n)
		n = w.give(s, p, j, "unheard", func() engine.Result { return engine.Fenced{Err: errUnheard} })
		n.left.Ask--
		say("gets no answer", n)
	}
	n := s.clone()
	if at.stage == 0 && !w.bounds.Shared {
		n.procs[p].parts[j].stage = 1
		token := &n.host.tokens[c.Announced.Attempt]
		if w.err != noFence && w.err != fenceNoToken && (w.err != fenceNoTombstone || *token != 0) {
			*token = tokenVoid
		}
		say("fences: the token is void", n)
		return
	}
	if !w.class.Guarded && w.err != noFence {
		say("fences: nothing holds back what is past its check", w.give(n, p, j, "unguarded", func() engine.Result {
			return engine.Fenced{Fence: engine.Fence{Reasons: []string{"nothing at the host holds back a request that had passed its check"}}}
		}))
		return
	}
	if w.class.Over(n.host.state) || w.class.Class == op.RestoreOverwrite && n.host.state != enginetest.Untouched {
		say("fences: there is no guest to protect", w.give(n, p, j, "fence gone", func() engine.Result {
			return engine.Fenced{Fence: engine.Fence{Gone: true, Reasons: []string{"there is no guest to protect"}}}
		}))
		return
	}
	if w.class.Guarded && w.err != noFence && w.err != fenceNoProtect {
		n.host.protected = true
	}
	d := digest(n.host.protected)
	say("fences: the guest is protected", w.give(n, p, j, "fenced "+d, func() engine.Result {
		return engine.Fenced{Fence: engine.Fence{Confirmed: !w.bounds.Shared || w.err == noFence, Digest: d, Reasons: []string{"protected"}}}
	}))
}
