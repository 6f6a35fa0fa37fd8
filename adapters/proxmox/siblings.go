package proxmox

import (
	"context"
	"fmt"
	"regexp"
	"slices"

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
	if p.who.name == "" {
		// Tasks of other ops look like siblings.
		return finding(op.EffectNone, nil, raised), true, nil
	}
	tr, err := p.host.trailOf(ctx, p.target, p.announced, p.who)
	if err != nil {
		return engine.Finding{}, false, err
	}
	found, _, err := p.host.history(ctx, tr)
	if err != nil {
		return engine.Finding{}, false, err
	}
	var further []engine.Task
	for _, upid := range found {
		t, err := p.host.Task(ctx, upid)
		switch {
		case err != nil:
			return engine.Finding{}, false, err
		case t.Phase != engine.TaskEnded:
			return finding(op.EffectUnknown, nil, raised,
				"yet the request was delivered more than once, and another task of the attempt has not ended: "+upid), true, nil
		case !matchAny(texts, t.ExitStatus):
			further = append(further, t)
		}
	}
	if len(further) == 0 {
		return finding(op.EffectNone, nil, raised, fmt.Sprintf("the attempt has no other task on node %s that came further", p.target.node)), true, nil
	}
	// Of several the one that says that it succeeded, or else any.
	last := further[max(0, slices.IndexFunc(further, func(t engine.Task) bool { return saysDone(t.ExitStatus) }))]
	p.ended, p.log = last.ExitStatus, last.Log
	return engine.Finding{}, false, nil
}
