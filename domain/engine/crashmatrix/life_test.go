package crashmatrix_test

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"writ/domain/engine"
	"writ/domain/eventstore"
	"writ/domain/op"
)

// A plan is where which fault happens.
type plan struct {
	at     boundary
	fault  fault
	flavor int
}

// A boundary is a command of a run: the n-th of its name, from 1.
type boundary struct {
	name string
	n    int
}

func (b boundary) String() string {
	if b.n == 1 {
		return b.name
	}
	return fmt.Sprintf("%s, time %d", b.name, b.n)
}

// boundaryName is what a command is called in the grid. Pauses are none.
func boundaryName(cmd engine.Command) string {
	switch c := cmd.(type) {
	case engine.Pause:
		return ""
	case engine.Append:
		return "Append " + c.Record.Type
	}
	return fmt.Sprintf("%T", cmd)[len("engine."):]
}

// A follower is what comes late: it happens before the command of that number in
// what follows the fault.
type follower struct {
	happens func()
	moment  int
	since   int // the step at which the fault happened
	number  int // of all that is late
}

// manyTimes is more often than a recovery asks in a row.
const manyTimes = 10

// run carries a job's commands out until it is over or its process dies. It
// gives the boundaries that it came to.
func (l *life) run(j *engine.Job, cmd engine.Command, p *plan) (came []boundary, died bool) {
	count := make(map[string]int)
	unheard := 0 // questions of the faulty kind that are still to go unanswered
	for {
		if f, ok := cmd.(engine.Finish); ok {
			l.say("answers %s: %s", f.Answer.Outcome, f.Answer.Detail)
			l.checkAnswer(f.Answer.Outcome.String())
			return came, false
		}
		name := boundaryName(cmd)
		if name != "" { // nothing is told apart by coming before a pause or after it
			l.steps++
			l.followUp(false)
		}
		hit := fault(0)
		flavor := 0
		if name != "" {
			count[name]++
			b := boundary{name, count[name]}
			came = append(came, b)
			if p != nil && p.at == b {
				hit, flavor = p.fault, p.flavor
			}
			if hit == away {
				unheard = manyTimes
			}
			if unheard > 0 && p.at.name == name {
				hit, unheard = lost, unheard-1
			}
		}
		res, dies := l.carryOut(cmd, hit, flavor)
		if hit != 0 {
			l.say("%s: %s", name, hit)
		} else if name != "" {
			l.say("%s", name)
		}
		l.check()
		if dies {
			l.say("the process dies")
			return came, true
		}
		cmd = j.Step(now, res)
	}
}

func (l *life) say(format string, args ...any) {
	if l.telling {
		l.log = append(l.log, fmt.Sprintf(format, args...))
	}
}

// checkAnswer looks at what a caller is told.
func (l *life) checkAnswer(outcome string) {
	switch {
	case (outcome == "succeeded" || outcome == "already-applied") && !l.host.wasDone:
		l.wrong = "a caller is told that it is done, and it is not"
	case outcome == "corrupt":
		l.wrong = "a caller is told that the stream is corrupt"
	}
}

// carryOut does what a command wants, with a fault or without.
func (l *life) carryOut(cmd engine.Command, f fault, flavor int) (engine.Result, bool) {
	switch f { //nolint:exhaustive // in the others the command is carried out first
	case dieBefore:
		return nil, true
	case others:
		l.host.othersDo()
	case undone:
		l.host.othersUndo()
	}
	res, dies := l.do(cmd, f, flavor)
	return res, dies || f == dieAfter
}

func (l *life) do(cmd engine.Command, f fault, flavor int) (engine.Result, bool) {
	var unheard error
	if f == lost || f == done || f == stop {
		unheard = errUnheard
	}
	switch c := cmd.(type) {
	case engine.Pause:
		return engine.Paused{LetGo: l.letGo()}, false
	case engine.ReadOp:
		return engine.OpRead{Op: l.load(c.Nonce), Err: unheard}, false
	case engine.ReadPolicy:
		return engine.PolicyRead{Policy: l.policy, Err: unheard}, false
	case engine.ReadFacts:
		return engine.FactsRead{Facts: l.order.Facts(l.host.state), Err: unheard}, false
	case engine.Reserve:
		if f == refuse || f == stop {
			return engine.Reserved{Closed: "launching is stopped"}, false
		}
		return engine.Reserved{OK: true, Epoch: uint64(l.epoch)}, false
	case engine.AwaitTurn:
		if f == refuse && !c.Recovering {
			return engine.TurnCame{Blocked: "another op on it is indeterminate"}, false
		}
		return engine.TurnCame{Stopping: f == stop}, false
	case engine.Observe:
		seen := l.order.Seen(l.host.state)
		seen.Protection, seen.Digest = l.host.protected, l.host.digest()
		return engine.HostObserved{
			Seen: seen, Request: op.Request{Method: "POST", Path: "/the/request"}, Credential: fmt.Sprintf("writ@pve!w-%d", c.Attempt.Number), Err: unheard,
		}, false
	case engine.Append:
		return l.append(c, f, flavor)
	case engine.Launch:
		return l.launch(c, f, flavor)
	case engine.AskTask:
		if unheard != nil {
			return engine.TaskAsked{Err: l.stopping(f, unheard)}, false
		}
		if f == forgotten {
			l.host.forget(c.UPID)
		}
		t := l.host.task(c.UPID)
		return engine.TaskAsked{Task: t, PrecedesEffect: l.host.shared && t.ExitStatus == exitTexts[exitBefore]}, false
	case engine.ProbeHost:
		if unheard != nil {
			return engine.Probed{Err: l.stopping(f, unheard)}, false
		}
		return engine.Probed{Finding: l.host.probe(c)}, false
	case engine.FindTasks:
		if unheard != nil {
			return engine.TasksFound{Err: l.stopping(f, unheard)}, false
		}
		return engine.TasksFound{Search: l.host.search(c.Announced)}, false
	case engine.TakeTask:
		if f == refuse {
			return engine.TaskTaken{}, false
		}
		return engine.TaskTaken{Ours: !l.ofAnother(c), Err: l.stopping(f, unheard)}, false
	case engine.RaiseFence:
		return l.fence(c, f, flavor)
	case engine.RecordRefusal, engine.RecordContested:
		return engine.RefusalRecorded{}, false
	}
	panic(fmt.Sprintf("crashmatrix: the job wants %T", cmd))
}

// stopping notes that the service ends while the job waits to ask again.
func (l *life) stopping(f fault, err error) error {
	l.ending = l.ending || f == stop
	return err
}

func (l *life) letGo() string {
	if !l.ending {
		return ""
	}
	l.ending = false
	return "the service is stopping"
}

// ofAnother tells whether a task is on record as that of another attempt.
func (l *life) ofAnother(c engine.TakeTask) bool {
	return slices.ContainsFunc(l.facts(), func(f fact) bool { return f.UPID == c.UPID && f.OpID != c.OpID })
}

func (l *life) append(c engine.Append, f fault, flavor int) (engine.Result, bool) {
	l.noteOp(c.Nonce)
	rec := c.Record
	write := func() engine.AppendDone {
		return engine.AppendRecord(context.Background(), l.memory, c.Nonce.Stream(), rec)
	}
	unknown := engine.AppendDone{Outcome: engine.AppendUnknown, Err: errUnheard}
	switch f { //nolint:exhaustive // in the others it is carried out
	case lost:
		return unknown, false
	case stop:
		return unknown, true // its repetition is cut short
	case done:
		write()
		return unknown, false
	case refuse:
		return engine.AppendDone{Outcome: engine.AppendRefused, Err: &eventstore.InvalidError{}}, false
	case late:
		l.later(func() { write() })
		return unknown, flavor == 1
	case twice:
		l.later(func() { write() })
	}
	return write(), false
}

func (l *life) launch(c engine.Launch, f fault, flavor int) (engine.Result, bool) {
	if f == stop {
		return engine.LaunchDone{Withheld: "the service is stopping"}, false
	}
	if err := l.host.prepare(c.Attempt, c.Announced); err != nil {
		return engine.LaunchDone{Err: err}, false
	}
	unheard := engine.LaunchDone{Err: errUnheard}
	if f == lost {
		return unheard, false
	}
	if f == refuse {
		l.host.tokens[named(c.Announced)] = false // discarded with any definite error
		return engine.LaunchDone{Err: engine.Definite(errors.New("refused"))}, false
	}
	r := &request{l: c.Announced, at: onItsWay}
	l.host.reqs = append(l.host.reqs, r)
	number := len(l.host.reqs) - 1
	if f == late {
		if flavor >= 2 {
			l.host.read(r)
		}
		l.later(func() { l.host.begin(r) })
		return unheard, flavor%2 == 1
	}
	if f == twice {
		again := &request{l: c.Announced, at: onItsWay}
		l.host.reqs = append(l.host.reqs, again)
		defer l.host.begin(again)
	}
	l.host.begin(r)
	switch {
	case r.at == refused:
		l.host.tokens[named(c.Announced)] = false
		return engine.LaunchDone{Err: engine.Definite(errors.New("refused"))}, false
	case f == done:
		return unheard, false
	case f == dieAfter && flavor == 1:
		l.host.finish(r)
	}
	return engine.LaunchDone{UPID: upid(number)}, false
}

func (l *life) fence(c engine.RaiseFence, f fault, flavor int) (engine.Result, bool) {
	unheard := engine.Fenced{Err: errUnheard}
	switch f { //nolint:exhaustive // in the others it is carried out
	case lost, stop:
		unheard.Err = l.stopping(f, unheard.Err)
		return unheard, false
	case refuse:
		return engine.Fenced{Fence: engine.Fence{Reasons: []string{"no quorum"}}}, false
	case late:
		l.later(func() {
			l.host.fenceToken(c.Announced)
			l.host.fenceGuest()
		})
		return unheard, false
	case dieAfter:
		l.host.fenceToken(c.Announced)
		if flavor == 1 {
			return nil, true // between its two parts
		}
	}
	l.host.fenceToken(c.Announced)
	got := engine.Fenced{Fence: l.host.fenceGuest()}
	if f == done {
		return unheard, false
	}
	if f == twice {
		got = engine.Fenced{Fence: l.host.fenceGuest()}
	}
	return got, false
}

// noteOp notes an op of the order, when its claim is sent.
func (l *life) noteOp(n op.Nonce) {
	if !slices.ContainsFunc(l.ops, func(o *onRecord) bool { return o.nonce == n }) {
		l.ops = append(l.ops, &onRecord{nonce: n})
	}
}

// later puts off something to the moment that the history says.
func (l *life) later(happens func()) {
	f := &follower{happens: happens, since: l.steps, number: l.late}
	if l.late < len(l.moments) {
		f.moment = l.moments[l.late]
	}
	l.late++
	l.inTime = append(l.inTime, false)
	l.followers = append(l.followers, f)
}

// followUp lets what is late happen, if this is its moment, or if it is now or
// never.
func (l *life) followUp(atLast bool) {
	l.followers = slices.DeleteFunc(l.followers, func(f *follower) bool {
		if !atLast && l.steps-f.since <= f.moment {
			return false
		}
		l.inTime[f.number] = !atLast
		l.say("what is late happens")
		f.happens()
		l.check()
		return true
	})
}
