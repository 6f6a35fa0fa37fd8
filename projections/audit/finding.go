package audit

import (
	"cmp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"writ/domain/eventstore"
	"writ/domain/op"
)

// A Kind says what a finding is about: a closed set, stable for programs.
type Kind string

// The kinds. Each has its sentence in Kind.Meaning.
const (
	Unreadable        Kind = "unreadable"
	OutOfOrder        Kind = "out-of-order"
	Incomplete        Kind = "incomplete"
	BadStream         Kind = "bad-stream"
	WrongRevision     Kind = "wrong-revision"
	Altered           Kind = "altered"
	WrongID           Kind = "wrong-id"
	BrokenChain       Kind = "broken-chain"
	BadMetadata       Kind = "bad-metadata"
	UnknownEvent      Kind = "unknown-event"
	BadEvent          Kind = "bad-event"
	IllegalTransition Kind = "illegal-transition"
	EventAfterEnd     Kind = "event-after-end"
	Contradiction     Kind = "contradiction"
	BadPolicy         Kind = "bad-policy"
	UnknownPolicy     Kind = "unknown-policy"
	PolicyMissing     Kind = "policy-missing"
	PolicySuperseded  Kind = "policy-superseded"
	DecisionDiffers   Kind = "decision-differs"
	LaunchNotAllowed  Kind = "launch-not-allowed"
	ExpectationUnmet  Kind = "expectation-unmet"
	RequestDiffers    Kind = "request-differs"
	ResolutionDiffers Kind = "resolution-differs"
	TaskOfTwoOps      Kind = "task-of-two-ops"
	WrongEpoch        Kind = "wrong-epoch"
	Contested         Kind = "contested"
)

// Kinds gives every kind, in the order of the documentation.
func Kinds() []Kind {
	return []Kind{
		Unreadable, OutOfOrder, Incomplete, BadStream, WrongRevision, Altered, WrongID, BrokenChain, BadMetadata,
		UnknownEvent, BadEvent, IllegalTransition, EventAfterEnd, Contradiction, BadPolicy, UnknownPolicy, PolicyMissing,
		PolicySuperseded, DecisionDiffers, LaunchNotAllowed, ExpectationUnmet, RequestDiffers, ResolutionDiffers,
		TaskOfTwoOps, WrongEpoch, Contested,
	}
}

// Meaning says in a sentence what a finding of the kind tells.
func (k Kind) Meaning() string {
	switch k {
	case Unreadable:
		return "an event can't be read"
	case OutOfOrder:
		return "an event does not come after the one before it"
	case Incomplete:
		return "the export is not the whole record"
	case BadStream:
		return "a stream has a name that no op can have"
	case WrongRevision:
		return "an event of a stream is missing, doubled or in another's place"
	case Altered:
		return "an event's bytes are not those that its id and its chain hash were made of"
	case WrongID:
		return "an event's id is not the one that belongs to its bytes and place"
	case BrokenChain:
		return "a chain hash does not follow from the ledger, the place, the bytes and the event before"
	case BadMetadata:
		return "an event's metadata says something else than the event"
	case UnknownEvent:
		return "an event is of a type that does not belong in its stream"
	case BadEvent:
		return "an event's data is not in the form of its type"
	case IllegalTransition:
		return "an event can't follow in the state that the op was in"
	case EventAfterEnd:
		return "an op goes on after its final end"
	case Contradiction:
		return "an event contradicts the stream it stands in"
	case BadPolicy:
		return "a policy on record can't have been in force as it stands there"
	case UnknownPolicy:
		return "a policy was in force that the auditor does not know"
	case PolicyMissing:
		return "a decision names a policy that was not on record before it, or is dated before its policy"
	case PolicySuperseded:
		return "a decision was taken by a policy that had been replaced"
	case DecisionDiffers:
		return "the gate, asked again, decides otherwise than is on record"
	case LaunchNotAllowed:
		return "the gate, asked again for the moment of the launch, refuses"
	case ExpectationUnmet:
		return "the request was announced though the target was not as the signers expected it, or not as its class needs it"
	case RequestDiffers:
		return "the announced request is for something else than was ordered, or in another form"
	case ResolutionDiffers:
		return "an op was settled otherwise than a signed and allowed resolution says"
	case TaskOfTwoOps:
		return "one task of the host is on record for two ops"
	case WrongEpoch:
		return "an event was written by an instance that was not the one that launches"
	case Contested:
		return "the service recorded that the host started a task for an op that had ended"
	}
	return "unknown kind"
}

// A Finding is one thing that does not hold.
type Finding struct {
	Kind Kind `json:"kind"`
	// Stream is where; the nonce in it is shortened.
	Stream   string `json:"stream,omitempty"`
	Revision uint64 `json:"revision"`
	Position uint64 `json:"position"`
	OpID     string `json:"op_id,omitempty"`
	Expected string `json:"expected"`
	Found    string `json:"found"`
}

func compareFindings(a, b Finding) int {
	return cmp.Or(cmp.Compare(a.Position, b.Position), cmp.Compare(a.Stream, b.Stream), cmp.Compare(a.Revision, b.Revision),
		cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Found, b.Found))
}

// streamShown is a stream's name as it may be shown: no whole nonce, and
// nothing that a terminal obeys.
func streamShown(s eventstore.StreamID) string {
	if n, ok := strings.CutPrefix(string(s), op.StreamPrefix); ok {
		return shorten(op.StreamPrefix + op.Nonce(n).Short())
	}
	return shorten(string(s))
}

// maxShown bounds a text that a report shows of foreign words.
const maxShown = 512

// shorten makes foreign words fit for a report: one line, in bounds, and with
// nothing in them that a terminal obeys.
func shorten(s string) string {
	if len(s) > 2*maxShown {
		s = s[:2*maxShown]
	}
	s = strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	if len(s) <= maxShown {
		return s
	}
	cut := maxShown
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// A tally is what one goroutine has counted and found.
type tally struct {
	auditor  *auditor
	counts   Counts
	findings []Finding // the first of them, at most the auditor's limit
	kinds    map[Kind]int
	notRerun map[string]int
	notes    map[string]int
	today    todayTally
}

func (a *auditor) newTally() *tally {
	return &tally{
		auditor: a, kinds: make(map[Kind]int), notRerun: make(map[string]int), notes: make(map[string]int),
		today: todayTally{reasons: make(map[string]int)},
	}
}

// find notes a finding. Each goroutine sees positions in ascending order, so
// the first ones of each hold the first ones of all.
func (t *tally) find(kind Kind, e *eventstore.Recorded, opID, expected, found string) {
	t.kinds[kind]++
	if len(t.findings) >= t.auditor.limit {
		return
	}
	t.findings = append(t.findings, Finding{
		Kind: kind, Stream: streamShown(e.Stream), Revision: uint64(e.Revision), Position: uint64(e.Position), OpID: shorten(opID),
		Expected: shorten(expected), Found: shorten(found),
	})
}

// merge joins tallies in a way that does not depend on who counted what.
func (t *tally) merge(o *tally) {
	t.counts.add(&o.counts)
	t.findings = append(t.findings, o.findings...)
	for k, n := range o.kinds {
		t.kinds[k] += n
	}
	for why, n := range o.notRerun {
		t.notRerun[why] += n
	}
	for what, n := range o.notes {
		t.notes[what] += n
	}
	t.today.merge(&o.today)
}

func (t *tally) sorted() []Finding {
	slices.SortFunc(t.findings, compareFindings)
	return t.findings[:min(len(t.findings), t.auditor.limit)]
}
