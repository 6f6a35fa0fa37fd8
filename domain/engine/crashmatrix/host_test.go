package crashmatrix_test

import (
	"errors"
	"fmt"
	"slices"

	"writ/domain/engine"
	"writ/domain/engine/enginetest"
	"writ/domain/op"
)

var errUnheard = errors.New("connection reset")

// How the host's task ends.
type exit int

const (
	exitOK     exit = iota + 1
	exitBefore      // with a text that comes before any effect
	exitHalf        // half-way
	exitKilled      // killed before it began to change anything, as far as can be told
	exitIdle        // OK, and it has done nothing: there was nothing to do
)

var exitNames = map[exit]string{exitOK: "ends OK", exitBefore: "fails before any effect", exitHalf: "fails half-way", exitKilled: "is killed early"}

var exitTexts = map[exit]string{
	exitOK: enginetest.SaidOK, exitIdle: enginetest.SaidOK, exitBefore: enginetest.SaidEarly, exitHalf: enginetest.SaidError, exitKilled: enginetest.SaidKilled,
}

// Where a request is.
type place int

const (
	onItsWay place = iota + 1
	checked        // past the check of its token, its task not begun
	refused        // and never begins
	running
	ended
)

type request struct {
	l         *op.Launching
	at        place
	exit      exit
	forgotten bool // its task
}

// An attempt's token is named by nonce and attempt.
type tokenName struct {
	nonce   op.Nonce
	attempt int
}

// An effect is what an attempt did.
type effect struct {
	nonce op.Nonce
	opID  string
}

// A host has one target, requests and tasks, and a token for each attempt, or a
// shared one.
type host struct {
	class     enginetest.Class
	state     enginetest.State
	wasDone   bool // at some time
	byOthers  bool // other people did what the op is to do, by a task of theirs
	protected bool
	shared    bool
	hollow    bool // wrong on purpose: the fence does nothing
	credulous bool // wrong on purpose: the probe takes what others did for the attempt\'s doing
	end       exit // of every task
	tokens    map[tokenName]bool
	reqs      []*request
	effects   []effect // of the attempts that have done something, each once
}

func (h *host) digest() string {
	if h.protected {
		return "protected"
	}
	return "plain"
}

// heldBack tells whether the guest's protection stops what is past the check.
func (h *host) heldBack() bool { return h.class.Guarded && h.protected }

// read checks a request as the guest's node does.
func (h *host) read(r *request) {
	if r.at != onItsWay {
		return
	}
	r.at = refused
	if (h.shared || h.tokens[named(r.l)]) && !h.class.Over(h.state) && !h.heldBack() {
		r.at = checked
	}
}

func named(l *op.Launching) tokenName { return tokenName{l.Nonce, l.Attempt} }

// begin makes a task of a request that has passed its check.
func (h *host) begin(r *request) {
	if h.read(r); r.at == checked {
		r.at = running
	}
}

// finish lets a task come to its end. Under the lock of what it is about it looks
// for that, and for the guest's protection, again.
func (h *host) finish(r *request) {
	if r.at != running {
		return
	}
	r.at, r.exit = ended, h.end
	switch meets := h.class.Meets(h.state); {
	case meets == enginetest.Refuses, h.heldBack():
		r.exit = exitBefore
	case meets == enginetest.Idles && r.exit != exitBefore:
		r.exit = exitIdle
	}
	switch r.exit {
	case exitOK:
		h.harm(r, enginetest.Done)
	case exitHalf:
		if h.class.HalfWay != enginetest.Untouched {
			h.harm(r, h.class.HalfWay)
		}
	case exitBefore, exitKilled, exitIdle:
	}
}

func (h *host) harm(r *request, to enginetest.State) {
	h.state = to
	h.wasDone = h.wasDone || to == enginetest.Done
	if e := (effect{r.l.Nonce, r.l.OpID}); !slices.Contains(h.effects, e) {
		h.effects = append(h.effects, e)
	}
}

// othersDo lets other people do what the op is to do.
func (h *host) othersDo() {
	if h.state == enginetest.Untouched && !h.heldBack() {
		h.state, h.wasDone, h.byOthers = enginetest.Done, true, true
	}
}

// othersUndo lets other people take back what was done.
func (h *host) othersUndo() {
	if h.state == enginetest.Done {
		h.state = enginetest.Undone
	}
}

// comeToEnd lets everything that is under way come to its end.
func (h *host) comeToEnd() {
	for _, r := range h.reqs {
		h.begin(r)
		h.finish(r)
	}
}

// prepare makes the token of an attempt. It gives the error that the launch then
// ends with.
func (h *host) prepare(a engine.Attempt, l *op.Launching) error {
	if h.shared {
		return nil
	}
	for n := range h.tokens {
		if n.nonce == a.Nonce && !slices.Contains(a.Earlier, n.attempt) {
			return &engine.OtherCopyError{Why: fmt.Sprintf("a token of attempt %d", n.attempt)}
		}
	}
	for _, n := range a.Earlier {
		h.tokens[tokenName{a.Nonce, n}] = h.tokens[tokenName{a.Nonce, n}] || false
	}
	h.tokens[named(l)] = true
	if h.class.Shows(h.state) || h.digest() != l.Observed.Digest {
		h.tokens[named(l)] = false
		return engine.Definite(errors.New("the target has changed"))
	}
	return nil
}

func upid(i int) string {
	return fmt.Sprintf("UPID:pve1:%08X:00000007:00000008:task:105:writ@pve:", i+1)
}

// task gives a task. One that is running ends after it was asked for.
func (h *host) task(id string) engine.Task {
	for i, r := range h.reqs {
		switch {
		case upid(i) != id:
		case r.forgotten:
			return engine.Task{Phase: engine.TaskForgotten}
		case r.at == running:
			h.finish(r)
			return engine.Task{Phase: engine.TaskActive}
		default:
			return engine.Task{Phase: engine.TaskEnded, ExitStatus: exitTexts[r.exit]}
		}
	}
	return engine.Task{Phase: engine.TaskForgotten}
}

// forget lets a task end, and the host forget it.
func (h *host) forget(id string) {
	for i, r := range h.reqs {
		if upid(i) == id {
			h.finish(r)
			r.forgotten = true
		}
	}
}

func (h *host) search(l *op.Launching) engine.TaskSearch {
	s := engine.TaskSearch{Exact: !h.shared, Complete: true}
	for i, r := range h.reqs {
		switch {
		case r.at != running && r.at != ended, !h.shared && r.l.OpID != l.OpID:
		case r.forgotten:
			s.Complete = false
		default:
			s.UPIDs = append(s.UPIDs, upid(i))
		}
	}
	return s
}

func (h *host) fenceToken(l *op.Launching) {
	if !h.shared && !h.hollow {
		h.tokens[named(l)] = false
	}
}

// fenceGuest protects the guest that was announced, where that holds a request
// back.
func (h *host) fenceGuest() engine.Fence {
	switch {
	case h.class.Over(h.state):
		return engine.Fence{Gone: true, Reasons: []string{"there is no guest to protect"}}
	case !h.class.Guarded:
		return engine.Fence{Confirmed: h.hollow, Reasons: []string{"nothing at the host holds back a request that had passed its check"}}
	case h.class.Class == op.RestoreOverwrite && h.state != enginetest.Untouched:
		return engine.Fence{Gone: true, Reasons: []string{"the guest is another one"}}
	}
	h.protected = !h.hollow
	return engine.Fence{Confirmed: !h.shared, Digest: h.digest(), Reasons: []string{"protected"}}
}

// probe compares the target with what was announced, and knows of more than one
// task of an attempt.
func (h *host) probe(c engine.ProbeHost) engine.Finding {
	said := c.ExitStatus
	if h.credulous && h.state == enginetest.Done {
		return finding(enginetest.Sight{Effect: op.EffectDone})
	}
	if said == enginetest.SaidEarly && !h.shared {
		for _, r := range h.reqs {
			switch {
			case r.l.OpID != c.Announced.OpID || r.forgotten:
			case r.at == running:
				h.finish(r)
				return finding(enginetest.Sight{Effect: op.EffectUnknown})
			case r.at == ended && r.exit != exitBefore:
				said = exitTexts[r.exit]
			}
		}
	}
	return finding(h.class.Look(enginetest.Look{
		State: h.state, Said: said, Others: h.byOthers, Changed: h.digest() != c.Announced.Observed.Digest,
	}))
}

func finding(s enginetest.Sight) engine.Finding {
	return engine.Finding{Evidence: op.Evidence{Effect: s.Effect, Reasons: []string{"looked at"}}, MayStillAct: s.MayStillAct}
}
