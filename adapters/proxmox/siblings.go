package proxmox

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"writ/domain/engine"
	"writ/domain/op"
)

// early decides about a task whose exit status is a text that the host raises
// before any effect. That is proof for this task. It is proof for the attempt only
// if there is no other one: what lies between may have delivered the request twice,
// and of two tasks on one guest one finds it locked, or gone.
//
// Decided is false if the state of the host has to tell, because of a sibling that
// came further; its end is then what the probe goes by.
func (p *probe) early(ctx context.Context, texts []*regexp.Regexp) (f engine.Finding, decided bool, err error) {
	if !matchAny(texts, p.ended) {
		return engine.Finding{}, false, nil
	}
	raised := fmt.Sprintf("the host raises %q before any effect", clip(p.ended))
	if p.target.conduct.byRoot {
		f, err := p.onlyOfRoot(ctx, finding(op.EffectNone, nil, raised))
		return f, err == nil, err
	}
	if p.who.name == "" {
		// Tasks of other ops look like siblings.
		return finding(op.EffectNone, nil, raised), true, nil
	}
	all, running, err := p.siblings(ctx)
	switch {
	case err != nil:
		return engine.Finding{}, false, err
	case running != "":
		return anotherRuns(running, raised), true, nil
	}
	further := slices.DeleteFunc(all, func(t engine.Task) bool { return matchAny(texts, t.ExitStatus) })
	if len(further) == 0 {
		return finding(op.EffectNone, nil, raised, fmt.Sprintf("the attempt has no other task on node %s that came further", p.target.node)), true, nil
	}
	p.goBy(further)
	return engine.Finding{}, false, nil
}

// alone looks whether another task of the attempt can make untrue what was found
// untouched. Only once none is left at work does the target's state say what the
// attempt has done, and it must have been read after that.
func (p *probe) alone(ctx context.Context, untouched engine.Finding) (engine.Finding, error) {
	if p.target.conduct.byRoot && p.ended != "" {
		return p.onlyOfRoot(ctx, untouched)
	}
	if p.ended == "" || p.who.name == "" {
		// No task ever ran, or tasks of other ops look like siblings.
		return untouched, nil
	}
	all, running, err := p.siblings(ctx)
	switch {
	case err != nil:
		return engine.Finding{}, err
	case running != "":
		return anotherRuns(running, untouched.Evidence.Reasons...), nil
	case len(all) < 2:
		return untouched, nil
	}
	p.goBy(all)
	return p.target.conduct.probe(ctx, p)
}

// onlyOfRoot doubts what was found untouched where root has more than one task
// since the announcement that does the same: it is a person's, or the request was
// delivered twice, and one finds busy what the other writes to. Whose it is can't
// be told, so it is never gone by.
func (p *probe) onlyOfRoot(ctx context.Context, untouched engine.Finding) (engine.Finding, error) {
	tr, err := p.host.trailOf(ctx, p.target, p.announced, p.who)
	if err != nil {
		return engine.Finding{}, err
	}
	found, _, err := p.host.history(ctx, tr)
	if err != nil || len(found) < 2 {
		return untouched, err
	}
	return finding(op.EffectUnknown, nil, append(untouched.Evidence.Reasons,
		fmt.Sprintf("yet node %s has more than one such task of %s since: a person's, or the request was delivered more than once; look at the logs of %s",
			p.target.node, rootUser, strings.Join(found, ", ")))...), nil
}

// siblings are the tasks that the attempt's own credential has started on its
// node, and one of them that has not ended.
func (p *probe) siblings(ctx context.Context) (all []engine.Task, running string, err error) {
	tr, err := p.host.trailOf(ctx, p.target, p.announced, p.who)
	if err != nil {
		return nil, "", err
	}
	found, _, err := p.host.history(ctx, tr)
	if err != nil {
		return nil, "", err
	}
	for _, upid := range found {
		t, err := p.host.Task(ctx, upid)
		switch {
		case err != nil:
			return nil, "", err
		case t.Phase != engine.TaskEnded:
			return nil, upid, nil
		}
		all = append(all, t)
	}
	return all, "", nil
}

// anotherRuns is what is found while another task of the attempt is at work.
func anotherRuns(upid string, reasons ...string) engine.Finding {
	f := finding(op.EffectUnknown, nil, append(slices.Clone(reasons), "yet the request was delivered more than once, and another task of the attempt has not ended: "+upid)...)
	f.MayStillAct = true
	return f
}

// goBy takes, of several tasks, the one that says that it succeeded for the
// attempt's, or else any.
func (p *probe) goBy(tasks []engine.Task) {
	last := tasks[max(0, slices.IndexFunc(tasks, func(t engine.Task) bool { return saysDone(t.ExitStatus) }))]
	p.ended, p.log = last.ExitStatus, last.Log
}
