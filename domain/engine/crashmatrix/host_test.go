package crashmatrix_test

import (
	"errors"
	"fmt"
	"slices"

	"writ/domain/engine"
	"writ/domain/op"
)

var errUnheard = errors.New("connection reset")

type guest int

const (
	whole guest = iota + 1
	half
	gone
)

// How the host's task ends.
type exit int

const (
	exitOK     exit = iota + 1
	exitBefore      // with a text that comes before any effect
	exitHalf        // killed half-way
	exitKilled      // killed before it began to remove anything, as far as can be told
)

var exitNames = map[exit]string{exitOK: "ends OK", exitBefore: "fails before any effect", exitHalf: "is killed half-way", exitKilled: "is killed early"}

var exitTexts = map[exit]string{exitOK: "OK", exitBefore: "VM is locked (backup)", exitHalf: "unexpected status", exitKilled: "unexpected status"}

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
	l    *op.Launching
	at   place
	exit exit
}

// A host has one guest, requests and tasks, and a token for each attempt, or a
// shared one.
type host struct {
	guest     guest
	protected bool
	shared    bool
	hollow    bool // wrong on purpose: the fence does nothing
	end       exit // of every task
	tokens    map[int]bool
	reqs      []*request
	effects   []string // op ids of the attempts that have harmed the guest, each once
}

func (h *host) digest() string {
	if h.protected {
		return "protected"
	}
	return "plain"
}

// read checks a request as the guest's node does.
func (h *host) read(r *request) {
	if r.at != onItsWay {
		return
	}
	r.at = refused
	if (h.shared || h.tokens[r.l.Attempt]) && h.guest != gone && !h.protected {
		r.at = checked
	}
}

// begin makes a task of a request that has passed its check.
func (h *host) begin(r *request) {
	if h.read(r); r.at == checked {
		r.at = running
	}
}

// finish lets a task come to its end. Under the guest's lock it looks for the
// guest and its protection again.
func (h *host) finish(r *request) {
	if r.at != running {
		return
	}
	r.at, r.exit = ended, h.end
	if h.guest == gone || h.protected {
		r.exit = exitBefore
	}
	switch r.exit {
	case exitOK:
		h.harm(r, gone)
	case exitHalf:
		h.harm(r, half)
	case exitBefore, exitKilled:
	}
}

func (h *host) harm(r *request, to guest) {
	h.guest = to
	if !slices.Contains(h.effects, r.l.OpID) {
		h.effects = append(h.effects, r.l.OpID)
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
		if !slices.Contains(a.Earlier, n) {
			return &engine.OtherCopyError{Why: fmt.Sprintf("a token of attempt %d", n)}
		}
	}
	for _, n := range a.Earlier {
		h.tokens[n] = h.tokens[n] || false
	}
	h.tokens[a.Number] = true
	if h.guest == gone || h.digest() != l.Observed.Digest {
		h.tokens[a.Number] = false
		return engine.Definite(errors.New("the configuration has changed"))
	}
	return nil
}

func upid(i int) string {
	return fmt.Sprintf("UPID:pve1:%08X:00000007:00000008:qmdestroy:105:writ@pve:", i+1)
}

// task gives a task. One that is running ends after it was asked for.
func (h *host) task(id string) engine.Task {
	for i, r := range h.reqs {
		switch {
		case upid(i) != id:
		case r.at == running:
			h.finish(r)
			return engine.Task{Phase: engine.TaskActive}
		default:
			return engine.Task{Phase: engine.TaskEnded, ExitStatus: exitTexts[r.exit]}
		}
	}
	return engine.Task{Phase: engine.TaskForgotten}
}

func (h *host) search(l *op.Launching) engine.TaskSearch {
	s := engine.TaskSearch{Exact: !h.shared, Complete: true}
	for i, r := range h.reqs {
		if (r.at == running || r.at == ended) && (h.shared || r.l.OpID == l.OpID) {
			s.UPIDs = append(s.UPIDs, upid(i))
		}
	}
	return s
}

func (h *host) fenceToken(l *op.Launching) {
	if !h.shared && !h.hollow {
		h.tokens[l.Attempt] = false
	}
}

func (h *host) fenceGuest() engine.Fence {
	if h.guest == gone {
		return engine.Fence{Gone: true, Reasons: []string{"there is no guest to protect"}}
	}
	h.protected = !h.hollow
	return engine.Fence{Confirmed: !h.shared, Digest: h.digest(), Reasons: []string{"protected"}}
}

// probe compares the guest with what was announced, and knows of more than one
// task of an attempt.
func (h *host) probe(c engine.ProbeHost) engine.Finding {
	says := func(e op.Effect, mayAct bool) engine.Finding {
		return engine.Finding{Evidence: op.Evidence{Effect: e, Reasons: []string{"looked at"}}, MayStillAct: mayAct}
	}
	said := c.ExitStatus
	if said == exitTexts[exitBefore] {
		further := false
		for _, r := range h.reqs {
			switch {
			case r.l.OpID != c.Announced.OpID:
			case r.at == running:
				h.finish(r)
				return says(op.EffectUnknown, false)
			case r.at == ended && r.exit != exitBefore:
				further, said = true, exitTexts[r.exit]
			}
		}
		if !further {
			return says(op.EffectNone, false)
		}
	}
	switch {
	case h.guest == gone:
		return says(op.EffectDone, false)
	case h.guest == half:
		return says(op.EffectPartial, false)
	case said == exitTexts[exitOK], h.digest() != c.Announced.Observed.Digest:
		return says(op.EffectUnknown, false)
	case said == exitTexts[exitKilled]:
		return says(op.EffectUnknown, true)
	}
	return says(op.EffectNone, false)
}
