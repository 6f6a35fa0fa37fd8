package smallworlds_test

import (
	"fmt"

	"writ/domain/engine"
	"writ/domain/engine/enginetest"
	"writ/domain/op"
)

// This file is what the host says when it is asked.

func upid(req int) string {
	return fmt.Sprintf("UPID:pve1:%08X:00000007:00000008:task:105:writ@pve:", req+1)
}

var exits = map[exit]string{exitOK: enginetest.SaidOK, exitBefore: enginetest.SaidEarly, exitKilled: enginetest.SaidKilled}

func (w *world) task(s *state, id string) (engine.Task, string) {
	for i, r := range s.host.reqs {
		switch {
		case upid(i) != id:
		case r.forgotten:
			return engine.Task{Phase: engine.TaskForgotten}, "the task is forgotten"
		case r.at == running:
			return engine.Task{Phase: engine.TaskActive}, ""
		default:
			return engine.Task{Phase: engine.TaskEnded, ExitStatus: exits[r.exit]}, "the task has ended: " + exits[r.exit]
		}
	}
	return engine.Task{Phase: engine.TaskForgotten}, "there is no such task"
}

// search gives the tasks that are listed for an attempt's token: where it is
// shared, those of all attempts.
func (w *world) search(s *state, l *op.Launching) (engine.TasksFound, string) {
	f := engine.TaskSearch{Exact: !w.bounds.Shared, Complete: true}
	what := "looks for tasks and finds:"
	for i, r := range s.host.reqs {
		switch {
		case r.at != running && r.at != ended && r.at != leftChild, w.facts[r.launching].OpID != l.OpID && w.err != anyTask && !w.bounds.Shared:
		case r.forgotten:
			f.Complete = false
			what += " not all"
		default:
			f.UPIDs = append(f.UPIDs, upid(i))
			what += fmt.Sprint(" ", i)
		}
	}
	return engine.TasksFound{Search: f}, what
}

// probe compares the target with what was announced, and knows of more than one
// task of an attempt.
func (w *world) probe(s *state, c engine.ProbeHost) (engine.Finding, string) {
	says := func(e op.Effect, mayAct bool) (engine.Finding, string) {
		return engine.Finding{Evidence: op.Evidence{Effect: e, Reasons: []string{"looked at"}}, MayStillAct: mayAct}, fmt.Sprintf("finds the effect %s%s", e, map[bool]string{true: ", and that something may still act"}[mayAct])
	}
	said := c.ExitStatus
	if w.err == believesTask && said != "" {
		if said == exits[exitOK] {
			return says(op.EffectDone, false)
		}
		return says(op.EffectNone, false)
	}
	if said == exits[exitBefore] && w.bounds.Shared {
		return says(op.EffectNone, false) // tasks of other ops look like siblings
	}
	if said == exits[exitBefore] {
		further := false
		for _, r := range s.host.reqs {
			switch {
			case w.facts[r.launching].OpID != c.Announced.OpID || r.forgotten:
			case r.at == running:
				return says(op.EffectUnknown, false)
			case (r.at == ended || r.at == leftChild) && r.exit != exitBefore:
				further, said = true, exits[r.exit]
			}
		}
		if !further {
			return says(op.EffectNone, false)
		}
	}
	if w.err == takesOthers && s.host.state == enginetest.Done {
		return says(op.EffectDone, false)
	}
	sight := w.class.Look(enginetest.Look{
		State: s.host.state, Said: said, Others: s.host.byOthers, Changed: digest(s.host.protected) != c.Announced.Observed.Digest,
	})
	return says(sight.Effect, sight.MayStillAct)
}

// take puts a task on record as that of an attempt, where tokens are shared. It
// is not, if it is another one's, adopted or by its own launch.
func (w *world) take(s *state, c engine.TakeTask) (ours bool) {
	for _, r := range s.log {
		if f := w.facts[r]; f.Type == op.TypeTaskRunning && f.UPID == c.UPID && f.OpID != c.OpID {
			return false
		}
	}
	me := w.announcement(s, c.OpID) + 1
	for i := range s.host.reqs {
		if r := &s.host.reqs[i]; upid(i) == c.UPID && (r.taken == 0 || r.taken == me) {
			r.taken = me
			return true
		}
	}
	return false
}
