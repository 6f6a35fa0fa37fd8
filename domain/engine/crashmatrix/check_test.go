package crashmatrix_test

import (
	"context"
	"errors"
	"slices"

	"github.com/go-json-experiment/json"

	"writ/domain/eventstore"
)

// This file is the checker. It knows the bytes on record and what was done to
// the guest, and nothing of the engine or of how it folds a stream.

// A fact is an event as the checker reads it.
type fact struct {
	Type    string `json:"-"`
	OpID    string `json:"op_id"`
	Attempt int    `json:"attempt"`
	Effect  string `json:"effect"`
}

// facts gives what is on record. What was read once never changes.
func (l *life) facts() []fact {
	from := eventstore.Revision(len(l.onRecord))
	for e, err := range l.memory.ReadStream(context.Background(), eventstore.StreamID("op-"+string(l.nonce)), from) {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			return nil
		}
		f := fact{}
		if err == nil {
			err = json.Unmarshal(e.Data, &f)
		}
		if err != nil {
			panic("crashmatrix: an event that the engine has written: " + err.Error())
		}
		f.Type = e.Type
		l.onRecord = append(l.onRecord, f)
	}
	return l.onRecord
}

// ended tells whether no attempt is in flight.
func (l *life) ended() bool {
	facts := l.facts()
	return len(facts) == 0 || facts[len(facts)-1].Type == "OpSucceeded" || facts[len(facts)-1].Type == "OpFailed"
}

// check looks at record and host together, after every step.
func (l *life) check() {
	if why := l.amiss(l.facts()); why != "" && l.wrong == "" {
		l.wrong = why
	}
}

func (l *life) amiss(facts []fact) string {
	h := l.host
	if len(h.effects) > 1 {
		return "the nonce has had more than one effect"
	}
	on := func(typ, opID string) bool {
		return slices.ContainsFunc(facts, func(f fact) bool { return f.Type == typ && f.OpID == opID })
	}
	sent := make(map[string]bool)
	for _, r := range h.reqs {
		if !on("OpLaunching", r.l.OpID) {
			return "a request was sent, and its announcement is not on record"
		}
		sent[r.l.OpID] = true
	}
	for _, f := range facts {
		harmed := slices.Contains(h.effects, f.OpID)
		switch {
		case f.Type == "OpSucceeded" && (!harmed || h.guest != gone):
			return "on record as succeeded, and it is not done"
		case f.Type == "OpFailed" && f.Effect == "none" && harmed:
			return "on record as without effect, and its request has had one"
		case f.Type == "OpFailed" && f.Effect == "none" && sent[f.OpID] && l.mayAct(f.OpID):
			return "on record as without effect, and its request may still have one"
		}
	}
	return ""
}

// mayAct tells whether a request of an attempt can harm the guest, by whatever
// the host and people do next.
func (l *life) mayAct(opID string) bool {
	h := l.host
	return h.guest != gone && slices.ContainsFunc(h.reqs, func(r *request) bool {
		switch {
		case r.l.OpID != opID:
			return false
		case r.at == onItsWay:
			return h.shared || h.tokens[r.l.Attempt]
		}
		return (r.at == checked || r.at == running) && !h.protected
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

func (l *life) end() end {
	facts := l.facts()
	if len(facts) == 0 {
		return endNothing
	}
	switch last := facts[len(facts)-1]; {
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
// beginning, or, where attempts share a token, from being known.
func allowed(shared bool, x exit, e end) bool {
	switch {
	case e == endNone || e == endNothing:
		return true
	case e == endQueue && shared:
		return true
	}
	return e == map[exit]end{exitOK: endSucceeded, exitHalf: endPartial, exitKilled: endQueue}[x]
}
