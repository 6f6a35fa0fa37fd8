package smallworlds_test

import (
	"fmt"
	"slices"

	"github.com/go-json-experiment/json"
)

// This file is the checker. It knows the bytes on record and what was done to
// the target, and nothing of the engine or of how it folds a stream.

// A fact is an event as the checker reads it.
type fact struct {
	Type    string `json:"-"`
	OpID    string `json:"op_id"`
	Attempt int    `json:"attempt"`
	Effect  string `json:"effect"`
	Epoch   uint8  `json:"epoch"`
	UPID    string `json:"upid"`
	Said    string `json:"exit_status"`
}

func read(typ string, data []byte) fact {
	f := fact{}
	if err := json.Unmarshal(data, &f); err != nil {
		panic("smallworlds: an event that the engine has written: " + err.Error())
	}
	f.Type = typ
	return f
}

// ends tells whether an event ends its attempt.
func (f fact) ends() bool { return f.Type == "OpSucceeded" || f.Type == "OpFailed" }

// check looks at a state as a whole. It gives what is wrong with it.
func (w *world) check(s *state) string {
	if len(s.host.effects) > 1 {
		return fmt.Sprintf("the nonce has had %d effects", len(s.host.effects))
	}
	claims := 0
	for _, r := range s.log {
		f := w.facts[r]
		switch {
		case f.Type == "OpStarted":
			claims++
			if f.Attempt != claims {
				return fmt.Sprintf("the claim of attempt %d stands where that of %d should", f.Attempt, claims)
			}
		case f.Type == "OpSucceeded" && !w.harmed(s, f.OpID) && !(s.host.byOthers && w.class.Excuses(f.Said)):
			return "on record as succeeded, and its request has had no effect"
		case f.Type == "OpSucceeded" && !s.host.wasDone:
			return "on record as succeeded, and it is not done"
		case f.Type == "OpFailed" && f.Effect == "none" && w.harmed(s, f.OpID):
			return "on record as without effect, and its request has had one"
		case f.Type == "OpFailed" && f.Effect == "none" && w.mayAct(s, f.OpID):
			return "on record as without effect, and its request may still have one"
		}
	}
	for _, e := range s.host.effects {
		if !slices.Contains(s.log, e) {
			return "an effect, and its request was never announced"
		}
	}
	return ""
}

func (w *world) harmed(s *state, opID string) bool {
	return slices.ContainsFunc(s.host.effects, func(l uint16) bool { return w.facts[l].OpID == opID })
}

// mayAct tells whether a request of an attempt can do anything, by whatever
// the host and people do next.
func (w *world) mayAct(s *state, opID string) bool {
	return slices.ContainsFunc(s.host.reqs, func(r request) bool {
		if w.facts[r.launching].OpID != opID || w.class.Over(s.host.state) {
			return false
		}
		switch r.at {
		case onItsWay:
			return w.bounds.Shared || s.host.tokens[w.facts[r.launching].Attempt] == tokenLive
		case checked, running:
			return !w.heldBack(s)
		case leftChild:
			return true
		case refused, ended, vanished, unlisted:
		}
		return false
	})
}

// checkSend looks at a request that is about to leave.
func (w *world) checkSend(s *state, launching uint16, opID string) string {
	switch {
	case !slices.Contains(s.log, launching):
		return "a request is sent, and its announcement is not on record"
	case slices.ContainsFunc(s.host.reqs, func(r request) bool { return w.facts[r.launching].OpID == opID }):
		return "a request is sent a second time"
	}
	return ""
}

// checkAcks looks at what the store has told those who appended.
func (w *world) checkAcks(s *state, appended uint16) string {
	if rev := w.records[appended].Revision; s.log[rev] != appended {
		return fmt.Sprintf("an append at revision %d was answered with success, and something else stands there", rev)
	}
	for i, a := range s.acks {
		for _, b := range s.acks[:i] {
			if a.revision == b.revision && a.seed != b.seed {
				return "two claimants were told that they have the op"
			}
		}
	}
	return ""
}

// checkAnswer looks at what a caller is told.
func (w *world) checkAnswer(s *state, outcome string, none bool) string {
	switch {
	case (outcome == "succeeded" || outcome == "already-applied") && !s.host.wasDone:
		return "a caller is told that it is done, and it is not"
	case outcome == "corrupt":
		return "a caller is told that the stream is corrupt"
	}
	return ""
}

// checkQuiet looks at a state in which nothing is under way.
func (w *world) checkQuiet(s *state) (end, wrong string) {
	end = "nothing on record"
	if len(s.log) > 0 {
		last := w.facts[s.log[len(s.log)-1]]
		end = fmt.Sprintf("attempt %d, %s", last.Attempt, last.Type)
		if last.Effect != "" {
			end += ", effect " + last.Effect
		}
		if !last.ends() {
			end += ", in the recovery queue"
			if !w.queued(s, int(s.leads[len(s.leads)-1])) {
				return end, "in flight, nothing is under way, and it is not in the recovery queue of whoever leads"
			}
		}
	}
	if s.alarm {
		end += ", and the alarm of a contested task"
	}
	return end, ""
}
