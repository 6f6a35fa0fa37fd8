package gate

import (
	"fmt"
	"slices"
	"strings"

	"writ/domain/op"
)

// benignRule is one compiled rule of the section benign.
type benignRule struct {
	callers []string
	scope   scope
}

// names tells whether the rule is for this caller and class. No rule is for a
// caller without a token, whatever it was compiled from.
func (r benignRule) names(caller string, c op.Class) bool {
	return caller != "" && caller != Tokenless && slices.Contains(r.callers, caller) && slices.Contains(r.scope.classes, c)
}

// authenticateBenign takes the checks of a benign class that need nothing from
// the host.
func (p *Policy) authenticateBenign(s Submission) (*Authenticated, Decision) {
	if len(s.Envelope) > 0 {
		return nil, p.refuse(NotPermitted,
			fmt.Sprintf("intent.class: %s is benign and is not ordered by a writ: submit it without an envelope", s.Intent.Class))
	}
	if r, why := p.mayAsk(s.Caller, s.Intent); r != "" {
		return nil, p.refuse(r, why)
	}
	return &Authenticated{intent: s.Intent, caller: s.Caller}, Decision{}
}

// mayAsk tells why the host is not to be asked for the caller's sake; no reason
// if it is.
func (p *Policy) mayAsk(caller string, in op.Intent) (Reason, string) {
	if p == nil || !slices.ContainsFunc(p.benign, func(r benignRule) bool { return r.names(caller, in.Class) }) {
		return NotPermitted, fmt.Sprintf("caller: no rule of benign names both %s and %s: have one added to the policy", callerText(caller), in.Class)
	}
	// Nobody has signed this intent, so no parser of a document has looked at
	// it. Check lets a benign class have no parameter but harmless ones.
	if err := in.Check(); err != nil {
		return Malformed, "intent." + err.Error()
	}
	return "", ""
}

// permitBenign takes all checks of a benign class. The time has no part in it.
func (p *Policy) permitBenign(site Site, a *Authenticated, facts op.Facts) Decision {
	in := a.intent
	if r, why := p.mayAsk(a.caller, in); r != "" {
		return p.refuse(r, why)
	}
	granted, why := p.grantsBenign(a.caller, in, facts)
	if granted == "" {
		return p.refuse(NotPermitted, why)
	}
	if why := site.touchesSelf(in.Class, in.Target, facts); why != "" {
		return p.refuse(Self, why)
	}
	return Decision{Reason: Benign, Detail: granted, PolicySerial: p.Serial(), permitted: true}
}

// grantsBenign gives the rule, and what in it, that grants the caller the
// target; or an empty text, and why none does.
func (p *Policy) grantsBenign(caller string, in op.Intent, facts op.Facts) (granted, why string) {
	var missed []string
	for i, r := range p.benign {
		if !r.names(caller, in.Class) {
			continue
		}
		by, not := r.scope.grants(in.Class, in.Target, facts)
		if by != "" {
			return fmt.Sprintf("benign[%d] grants it by %s; unsigned, submitted by %s", i, by, caller), ""
		}
		missed = append(missed, fmt.Sprintf("benign[%d]: %s", i, not))
	}
	return "", fmt.Sprintf("target: %s is not in the scope of %s for %s: %s", in.Target, caller, in.Class, strings.Join(missed, "; "))
}

// callerText shows a caller's name.
func callerText(caller string) string {
	switch caller {
	case "", Tokenless:
		return "a caller without a token"
	}
	return quote(caller)
}
