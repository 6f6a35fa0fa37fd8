package audit

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"writ/domain/eventstore"
	"writ/domain/gate"
	"writ/domain/op"
)

// A world is what was on record at one place of the ledger. It never changes.
type world struct {
	audience string           // the ledger's part of what writs must name
	policy   *policyOnRecord  // the newest; nil before the first
	leads    map[string]*lead // of each agent, the newest; nil before the first take-over
}

// A policyOnRecord is one version of the policy, linked to the one before.
type policyOnRecord struct {
	serial   uint64
	at       time.Time
	policy   *gate.Policy // nil if it can't be compiled, its record is damaged, or it is of long ago
	before   *policyOnRecord
	replaced time.Time // when the next came; set before that is handed to anyone
}

// serial finds a policy by its serial; nil if it was not on record.
func (w *world) serial(n uint64) *policyOnRecord {
	for p := w.policy; p != nil && p.serial >= n; p = p.before {
		if p.serial == n {
			return p
		}
	}
	return nil
}

// A lead is a take-over, linked to the one before.
type lead struct {
	epoch    uint64
	instance string
	at       time.Time
	before   *lead
}

// of finds the lead with an epoch, and the one that came after it.
func (l *lead) of(epoch uint64) (found, next *lead) {
	for ; l != nil && l.epoch >= epoch; l, next = l.before, l {
		if l.epoch == epoch {
			return l, next
		}
	}
	return nil, next
}

// An adoption is a task that an attempt has taken by an event of its own.
type adoption struct {
	event     eventstore.Recorded // without its bytes
	opID      string
	confirmed bool // the op says so too
}

// A chain follows a stream that is not an op's.
type chain struct{ tail op.Tail }

// check tells whether an event is the one that comes next. After damage it
// goes on from what the event says of itself, so that one damaged event is one
// finding.
func (c *chain) check(t *tally, e *eventstore.Recorded) bool {
	rec := recordOf(e)
	tail, err := c.tail.Check(t.auditor.ledger, string(e.Stream), rec)
	if err == nil {
		c.tail = tail
		return true
	}
	d := diagnose(t.auditor.ledger, string(e.Stream), c.tail, rec, err)
	t.find(d.kind, e, "", d.expected, d.found)
	if c.tail, err = op.TailAfter(rec); err != nil {
		c.tail = op.Tail{Next: rec.Revision + 1, Last: rec.ID}
	}
	return false
}

// policyEvent puts a policy in its place, to be decided by from here on.
func (a *auditor) policyEvent(e *eventstore.Recorded) {
	sound := a.policies.check(a.main, e)
	p := &policyOnRecord{serial: uint64(e.Revision) + 1, before: a.world.policy}
	bad := func(kind Kind, expected, found string) {
		sound = false
		a.main.find(kind, e, "", expected, found)
	}
	var loaded gate.Loaded
	switch err := op.Unmarshal(e.Data, &loaded); {
	case !sound:
	case e.Type != gate.TypeLoaded:
		bad(UnknownEvent, gate.TypeLoaded, e.Type)
	case err != nil:
		bad(BadEvent, "a policy in the form of "+gate.TypeLoaded, err.Error())
	case loaded.Serial != p.serial:
		bad(BadPolicy, fmt.Sprintf("serial %d, one more than its revision", p.serial), fmt.Sprintf("serial %d", loaded.Serial))
	case p.before != nil && loaded.At.Before(p.before.at):
		bad(BadPolicy, "a time not before that of the policy before, "+stamp(p.before.at), stamp(loaded.At))
	}
	if sound {
		var err error
		if p.policy, err = gate.Compile(loaded.Policy, p.serial); err != nil {
			bad(BadPolicy, "a policy without errors", err.Error())
		} else if digest, err := PolicyDigest(loaded.Policy); len(a.known) > 0 && (err != nil || !slices.Contains(a.known, digest)) {
			// It decides all the same: what was done by it is to be seen.
			a.main.find(UnknownPolicy, e, "", "one of the policies that the auditor knows", fmt.Sprintf("policy %d of %s, put in force by instance %s", p.serial, stamp(loaded.At), loaded.Instance))
		}
	}
	if p.before != nil && p.before.serial >= p.serial {
		return // doubled, and reported: the first one stays
	}
	p.at = loaded.At
	p.before = p.before.replacedBy(p, keptPolicies)
	a.main.counts.Policies++
	next := *a.world
	next.policy = p
	a.world = &next
}

// keptPolicies is how many of the newest policies are kept ready to decide. One
// that so many have replaced since has not decided anything for long.
const keptPolicies = 16

// replacedBy is a copy that knows when it was replaced, and that is ready to
// decide only if it is one of the newest: those who were given the policy before
// must not see it change.
func (p *policyOnRecord) replacedBy(next *policyOnRecord, keep int) *policyOnRecord {
	if p == nil {
		return nil
	}
	c := *p
	if c.replaced.IsZero() {
		c.replaced = next.at
	}
	if keep > 0 {
		c.before = p.before.replacedBy(&c, keep-1)
	} else {
		c.policy = nil
	}
	return &c
}

// agentEvent notes who launches from here on.
func (a *auditor) agentEvent(e *eventstore.Recorded) {
	stream := string(e.Stream)
	c := a.agents[stream]
	if c == nil {
		c = &chain{}
		a.agents[stream] = c
	}
	if !c.check(a.main, e) {
		return
	}
	var took op.TookOver
	switch err := op.Unmarshal(e.Data, &took); {
	case e.Type != op.TypeTookOver:
		a.main.find(UnknownEvent, e, "", op.TypeTookOver, e.Type)
	case err != nil:
		a.main.find(BadEvent, e, "", "a take-over in the form of "+op.TypeTookOver, err.Error())
	case took.Epoch != uint64(e.Revision)+1:
		a.main.find(WrongEpoch, e, "", fmt.Sprintf("epoch %d, one more than its revision", e.Revision+1), fmt.Sprintf("epoch %d", took.Epoch))
	case op.AgentStream(took.Agent) != stream:
		a.main.find(Contradiction, e, "", "a take-over of the agent whose stream it is", "one of "+took.Agent)
	default:
		a.main.counts.TakeOvers++
		next := *a.world
		next.leads = maps.Clone(a.world.leads)
		if next.leads == nil {
			next.leads = make(map[string]*lead)
		}
		next.leads[took.Agent] = &lead{epoch: took.Epoch, instance: took.Instance, at: took.At, before: next.leads[took.Agent]}
		a.world = &next
	}
}

// ledgerEvent notes that people took an older copy for the ledger that counts:
// from here on writs name another audience.
func (a *auditor) ledgerEvent(e *eventstore.Recorded) {
	if !a.self.check(a.main, e) {
		return
	}
	var r op.RollbackAccepted
	err := op.Unmarshal(e.Data, &r)
	_, notHex := hex.DecodeString(r.Audience)
	switch {
	case e.Type != op.TypeRollbackAccepted:
		a.main.find(UnknownEvent, e, "", op.TypeRollbackAccepted, e.Type)
	case err != nil:
		a.main.find(BadEvent, e, "", "data in the form of "+op.TypeRollbackAccepted, err.Error())
	case len(r.Audience) != 16 || notHex != nil || strings.ToLower(r.Audience) != r.Audience:
		a.main.find(BadEvent, e, "", "an audience of 16 lower-case hex digits", r.Audience)
	case r.Audience == a.ledger || slices.ContainsFunc(a.rollbacks, func(b Rollback) bool { return b.Audience == r.Audience }):
		a.main.find(Contradiction, e, "", "a new audience, so that no writ of before can run", "one that was in force before: "+r.Audience)
	default:
		a.rollbacks = append(a.rollbacks, Rollback{
			At: r.At, By: shorten(r.By), Reason: shorten(r.Reason), Audience: r.Audience, Attempts: len(r.Attempts), Position: uint64(e.Position),
		})
		next := *a.world
		next.audience = r.Audience
		a.world = &next
	}
}

// upidEvent notes which attempt has adopted a task.
func (a *auditor) upidEvent(e *eventstore.Recorded) {
	var c chain
	if !c.check(a.main, e) {
		return
	}
	var taken op.UPIDAdopted
	switch err := op.Unmarshal(e.Data, &taken); {
	case e.Type != op.TypeUPIDAdopted:
		a.main.find(UnknownEvent, e, "", op.TypeUPIDAdopted, e.Type)
	case err != nil:
		a.main.find(BadEvent, e, "", "an adoption in the form of "+op.TypeUPIDAdopted, err.Error())
	case op.UPIDStream(taken.UPID) != string(e.Stream):
		a.main.find(Contradiction, e, taken.OpID, "a UPID whose digest is the stream's name", "UPID "+taken.UPID)
	default:
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.adopted[taken.UPID] == nil {
			a.main.counts.Adoptions++
			kept := *e
			kept.Data, kept.Metadata = nil, nil
			a.adopted[taken.UPID] = &adoption{event: kept, opID: taken.OpID}
		}
	}
}

// checkAdoptions tells, at the end, which adopted tasks another op has.
func (a *auditor) checkAdoptions() {
	for upid, ad := range a.adopted {
		switch {
		case ad.confirmed:
		case a.seen.tasks.has(a.seen.key(upid)):
			a.main.find(TaskOfTwoOps, &ad.event, ad.opID, "a task of the op that adopted it", "another op has it on record: "+upid)
		default:
			a.main.notRerun["a task was adopted and its op has not said so: it ended before, or is in flight"]++
		}
	}
}
