package audit

import (
	"cmp"
	"slices"
	"time"

	"writ/domain/eventstore"
	"writ/domain/op"
)

// ReportVersion is the version of the report's form as JSON.
const ReportVersion = 1

// A Report says what an audit has read, checked and found. It holds no whole
// nonce and nothing that could be submitted.
type Report struct {
	Version int    `json:"version"`
	Ledger  string `json:"ledger"`
	Source  string `json:"source"`
	// Complete tells that the source was read to its end; otherwise Stopped or
	// a finding says why not.
	Complete bool   `json:"complete"`
	Stopped  string `json:"stopped,omitempty"`
	// Sound tells that everything was read and nothing was found.
	Sound bool `json:"sound"`

	LastPosition uint64            `json:"last_position"`
	Types        map[string]uint64 `json:"types"` // events by type
	Counts       Counts            `json:"counts"`
	// NotRerun counts, by why, the decisions that can't be taken again from
	// what is on record.
	NotRerun map[string]int `json:"not_rerun"`
	// Notes counts what is no finding and worth knowing.
	Notes map[string]int `json:"notes"`
	// Rollbacks are the times that people took an older copy of the ledger for
	// the one that counts. What came after the copy is not in this record.
	Rollbacks []Rollback `json:"rollbacks"`
	// Others counts events of streams that an audit does not know, by the
	// beginning of their names.
	Others map[string]int `json:"others"`

	// Findings are the first, in order of position; FindingsByKind counts all.
	Findings       []Finding    `json:"findings"`
	FindingsByKind map[Kind]int `json:"findings_by_kind"`
	// InFlight are the ops that have begun and not ended, the oldest first. On
	// record there is no difference between one that runs and one that is
	// indeterminate.
	InFlight []InFlight `json:"in_flight"`
	// Today is set if today's policy was asked.
	Today *Today `json:"today,omitempty"`

	cut bool
}

// Counts are what was read and what was confirmed.
type Counts struct {
	Events   uint64 `json:"events"`
	Policies uint64 `json:"policies"`
	// TakeOvers and Adoptions are the events of agents' and tasks' streams.
	TakeOvers uint64 `json:"take_overs"`
	Adoptions uint64 `json:"adoptions"`
	// Alive are signs of life of instances that lead.
	Alive uint64 `json:"signs_of_life"`
	// Unchecked are events that stand behind damage in their op's stream, or
	// in streams that an audit does not know.
	Unchecked uint64 `json:"unchecked"`

	Ops      Ops    `json:"ops"`
	Attempts uint64 `json:"attempts"`
	Launches uint64 `json:"launches"`
	Refused  uint64 `json:"refused"`

	// What follows was decided again, with the same answer.
	Claims          uint64 `json:"claims_confirmed"`
	LaunchDecisions uint64 `json:"launches_confirmed"`
	Refusals        uint64 `json:"refusals_confirmed"`
	Resolutions     uint64 `json:"resolutions_confirmed"`
	Signatures      uint64 `json:"signatures_verified"`
}

// Ops counts every op once, by where it stands.
type Ops struct {
	Total       uint64 `json:"total"`
	Succeeded   uint64 `json:"succeeded"`
	Failed      uint64 `json:"failed"`       // with an effect, or one that is not known
	FailedClean uint64 `json:"failed_clean"` // with effect none
	Voided      uint64 `json:"voided"`
	InFlight    uint64 `json:"in_flight"`
	Damaged     uint64 `json:"damaged"` // the stream can't be followed to its end
}

func (c *Counts) ended(s op.State) {
	switch s { //nolint:exhaustive // the final ones
	case op.StateSucceeded:
		c.Ops.Succeeded++
	case op.StateVoided:
		c.Ops.Voided++
	default:
		c.Ops.Failed++
	}
}

func (c *Counts) add(o *Counts) {
	for _, f := range []struct {
		to *uint64
		n  uint64
	}{
		{&c.Events, o.Events},
		{&c.Policies, o.Policies},
		{&c.TakeOvers, o.TakeOvers},
		{&c.Adoptions, o.Adoptions},
		{&c.Alive, o.Alive},
		{&c.Unchecked, o.Unchecked},
		{&c.Ops.Succeeded, o.Ops.Succeeded},
		{&c.Ops.Failed, o.Ops.Failed},
		{&c.Ops.FailedClean, o.Ops.FailedClean},
		{&c.Ops.Voided, o.Ops.Voided},
		{&c.Ops.InFlight, o.Ops.InFlight},
		{&c.Ops.Damaged, o.Ops.Damaged},
		{&c.Attempts, o.Attempts},
		{&c.Launches, o.Launches},
		{&c.Refused, o.Refused},
		{&c.Claims, o.Claims},
		{&c.LaunchDecisions, o.LaunchDecisions},
		{&c.Refusals, o.Refusals},
		{&c.Resolutions, o.Resolutions},
		{&c.Signatures, o.Signatures},
	} {
		*f.to += f.n
	}
}

// An OpLine names an op in a list.
type OpLine struct {
	NonceShort string    `json:"nonce_short"`
	OpID       string    `json:"op_id"`
	Attempt    int       `json:"attempt"`
	Class      op.Class  `json:"class"`
	Target     string    `json:"target"`
	At         time.Time `json:"at"`
	Position   uint64    `json:"position"`
}

func lineOf(h *op.Header, p eventstore.Position) OpLine {
	return OpLine{
		NonceShort: h.Nonce.Short(), OpID: h.OpID, Attempt: h.Attempt, Class: op.Class(shorten(string(h.Class))), Target: shorten(h.Target.String()), At: h.At,
		Position: uint64(p),
	}
}

// A Rollback is an older copy of the ledger that people took for the one that
// counts.
type Rollback struct {
	At       time.Time `json:"at"`
	By       string    `json:"by"`
	Reason   string    `json:"reason"`
	Audience string    `json:"audience"` // what writs had to name from then on
	// Attempts is of how many attempts the host knew and the copy did not.
	Attempts int    `json:"attempts"`
	Position uint64 `json:"position"`
}

// An InFlight op has begun and not ended. At and Position are of its newest
// event.
type InFlight struct {
	OpLine

	State op.State `json:"state"`
	UPID  string   `json:"upid,omitempty"`
}

// Today is what today's policy would have decided about every claim on record:
// at the time of the claim and with its facts. A key that is revoked by now was
// not revoked then, unless the policy says from when.
type Today struct {
	Allowed  uint64         `json:"allowed"`
	Refused  uint64         `json:"refused"`
	ByReason map[string]int `json:"by_reason"`
	// Ops are the first of those refused, in order of position.
	Ops []TodayRefused `json:"ops"`
}

// TodayRefused is a claim that today's policy would refuse.
type TodayRefused struct {
	OpLine

	Reason string `json:"reason"`
	Detail string `json:"detail"`
}

type todayTally struct {
	allowed uint64
	reasons map[string]int
	refused []TodayRefused
}

func (t *todayTally) merge(o *todayTally) {
	t.allowed += o.allowed
	for r, n := range o.reasons {
		t.reasons[r] += n
	}
	t.refused = append(t.refused, o.refused...)
}

// report joins what all have found, once they have ended.
func (a *auditor) report(source string) *Report {
	a.checkAdoptions()
	t := a.main
	var inFlight []InFlight
	for _, w := range a.workers {
		w.counts.Ops.InFlight = uint64(len(w.ops))
		w.counts.Ops.FailedClean = uint64(len(w.resting))
		for _, s := range w.ops {
			inFlight = append(inFlight, s.line())
		}
		t.merge(w.tally)
	}
	o := &t.counts.Ops
	o.Total = o.Succeeded + o.Failed + o.FailedClean + o.Voided + o.InFlight + o.Damaged
	slices.SortFunc(inFlight, func(x, y InFlight) int { return cmp.Or(x.At.Compare(y.At), cmp.Compare(x.Position, y.Position)) })
	r := &Report{
		Version: ReportVersion, Ledger: a.ledger, Source: source, LastPosition: a.last, Types: a.types, Counts: t.counts,
		NotRerun: t.notRerun, Notes: t.notes, Rollbacks: append([]Rollback{}, a.rollbacks...), Others: a.oddities, Findings: append([]Finding{}, t.sorted()...), FindingsByKind: t.kinds,
		InFlight: append([]InFlight{}, inFlight[:min(len(inFlight), a.limit)]...), cut: a.cut,
	}
	if a.today != nil {
		slices.SortFunc(t.today.refused, func(x, y TodayRefused) int { return cmp.Compare(x.Position, y.Position) })
		r.Today = &Today{Allowed: t.today.allowed, ByReason: t.today.reasons, Ops: append([]TodayRefused{}, t.today.refused[:min(len(t.today.refused), a.limit)]...)}
		for _, n := range t.today.reasons {
			r.Today.Refused += uint64(n)
		}
	}
	return r
}

// findings counts all, those beyond the limit too.
func (r *Report) findings() int {
	n := 0
	for _, of := range r.FindingsByKind {
		n += of
	}
	return n
}

func (s *opState) line() InFlight {
	h := s.op.Started.Header
	h.At = s.op.Since
	l := InFlight{OpLine: lineOf(&h, s.last), State: s.op.State}
	if s.op.Running != nil {
		l.UPID = shorten(s.op.Running.UPID)
	}
	return l
}
