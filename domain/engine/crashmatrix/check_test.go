package crashmatrix_test

import (
	"context"
	"errors"
	"slices"

	"github.com/go-json-experiment/json"

	"writ/domain/engine/enginetest"
	"writ/domain/eventstore"
	"writ/domain/op"
)

// This file is the checker. It knows the bytes on record and what was done to
// the guest, and nothing of the engine or of how it folds a stream.

// A fact is an event as the checker reads it.
type fact struct {
	Type    string   `json:"-"`
	Nonce   op.Nonce `json:"nonce"`
	OpID    string   `json:"op_id"`
	Attempt int      `json:"attempt"`
	Effect  string   `json:"effect"`
	UPID    string   `json:"upid"`
	Said    string   `json:"exit_status"`
}

// An onRecord is what is on record of one op, as far as the checker has read.
// What was read once never changes.
type onRecord struct {
	nonce op.Nonce
	facts []fact
}

// facts gives what is on record, op by op.
func (l *life) facts() []fact {
	if len(l.ops) == 1 {
		l.readOn(l.ops[0])
		return l.ops[0].facts
	}
	var all []fact
	for _, o := range l.ops {
		l.readOn(o)
		all = append(all, o.facts...)
	}
	return all
}

func (l *life) readOn(o *onRecord) {
	from := eventstore.Revision(len(o.facts))
	for e, err := range l.memory.ReadStream(context.Background(), eventstore.StreamID("op-"+string(o.nonce)), from) {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			return
		}
		if err != nil {
			panic("crashmatrix: " + err.Error())
		}
		f, known := l.read[string(e.Data)]
		if !known {
			if err := json.Unmarshal(e.Data, &f); err != nil {
				panic("crashmatrix: an event that the engine has written: " + err.Error())
			}
			f.Type = e.Type
			l.read[string(e.Data)] = f
		}
		o.facts = append(o.facts, f)
	}
}

// inFlight gives the first op with an attempt in flight; nil if there is none.
func (l *life) inFlight() *onRecord {
	for _, o := range l.ops {
		l.readOn(o)
		if n := len(o.facts); n > 0 && o.facts[n-1].Type != "OpSucceeded" && o.facts[n-1].Type != "OpFailed" {
			return o
		}
	}
	return nil
}

// check looks at record and host together, after every step.
func (l *life) check() {
	if why := l.amiss(l.facts()); why != "" && l.wrong == "" {
		l.wrong = why
	}
}

func (l *life) amiss(facts []fact) string {
	h := l.host
	for i, e := range h.effects {
		if slices.ContainsFunc(h.effects[:i], func(b effect) bool { return b.nonce == e.nonce }) {
			return "the nonce has had more than one effect"
		}
	}
	on := func(typ, opID string) bool {
		return slices.ContainsFunc(facts, func(f fact) bool { return f.Type == typ && f.OpID == opID })
	}
	for _, r := range h.reqs {
		if !on("OpLaunching", r.l.OpID) {
			return "a request was sent, and its announcement is not on record"
		}
	}
	for _, f := range facts {
		acted := slices.Contains(h.effects, effect{f.Nonce, f.OpID})
		switch {
		case f.Type == "OpSucceeded" && !h.wasDone:
			return "on record as succeeded, and it is not done"
		case f.Type == "OpSucceeded" && !acted && !(h.byOthers && l.class.Excuses(f.Said)):
			return "on record as succeeded, and its request has had no effect"
		case f.Type == "OpFailed" && f.Effect == "none" && acted:
			return "on record as without effect, and its request has had one"
		case f.Type == "OpFailed" && f.Effect == "none" && l.mayAct(f.OpID):
			return "on record as without effect, and its request may still have one"
		}
	}
	return ""
}

// mayAct tells whether a request of an attempt can do anything, by whatever the
// host and people do next.
func (l *life) mayAct(opID string) bool {
	h := l.host
	return !h.class.Over(h.state) && slices.ContainsFunc(h.reqs, func(r *request) bool {
		switch {
		case r.l.OpID != opID:
			return false
		case r.at == onItsWay:
			return h.shared || h.tokens[named(r.l)]
		}
		return (r.at == checked || r.at == running) && !h.heldBack()
	})
}

// An end is how an op stands when nothing changes any more.
type end string

const (
	endNothing   end = "–"
	endSucceeded end = "S"
	endNone      end = "N"
	endPartial   end = "P"
	endQueue     end = "Q"
	endOther     end = "?"
)

// end tells how an op of the order stands: the first of them, or the last.
func (l *life) end(last bool) end {
	if len(l.ops) == 0 {
		return endNothing
	}
	o := l.ops[0]
	if last {
		o = l.ops[len(l.ops)-1]
	}
	l.readOn(o)
	if len(o.facts) == 0 {
		return endNothing
	}
	switch last := o.facts[len(o.facts)-1]; {
	case last.Type == "OpSucceeded":
		return endSucceeded
	case last.Type == "OpFailed" && last.Effect == "none":
		return endNone
	case last.Type == "OpFailed" && last.Effect == "partial":
		return endPartial
	case last.Type == "OpStarted", last.Type == "OpLaunching", last.Type == "OpTaskRunning":
		return endQueue
	}
	return endOther
}

// allowed tells whether an op may end so, given how a task of it ends if one
// begins. That it began and what it did decides; a fault may keep it from
// beginning. It stays in the queue where what became of its request, or by whom its
// target is as it is, can't be known: with a token that attempts share, of a class
// without a fence, if the task is forgotten, or if others have been there.
func allowed(c enginetest.Class, h history, e end) bool {
	f := fault(0)
	if h.plan != nil {
		f = h.plan.fault
	}
	switch {
	case e == endNone || e == endNothing:
		return true
	case e == endQueue && (h.shared || !c.Guarded || f == forgotten || f == others || f == undone):
		return true
	case f == others && (e == endSucceeded || e == endPartial):
		return true // as the class says; whose doing it was is checked elsewhere
	}
	half := map[op.Effect]end{op.EffectPartial: endPartial, op.EffectDone: endSucceeded, op.EffectNone: endNone}[c.HalfEnds]
	return e == map[exit]end{exitOK: endSucceeded, exitHalf: half, exitKilled: endQueue}[h.exit]
}
