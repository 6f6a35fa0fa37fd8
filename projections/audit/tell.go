package audit

import (
	"fmt"
	"strings"

	"writ/domain/eventstore"
	"writ/domain/gate"
	"writ/domain/op"
	"writ/domain/signedop"
)

// A teller puts the events of one op into words.
type teller struct {
	ledger    string
	policies  map[uint64]gate.Loaded
	audiences []audienceFrom
}

// From a position on, writs name an audience.
type audienceFrom struct {
	position eventstore.Position
	audience string
}

// audience is the ledger's part of what a writ had to name at a position.
func (t *teller) audience(at eventstore.Position) string {
	a := t.ledger
	for _, f := range t.audiences {
		if f.position < at {
			a = f.audience
		}
	}
	return a
}

func newTeller(ledger string, events []eventstore.Recorded) *teller {
	t := &teller{ledger: ledger, policies: make(map[uint64]gate.Loaded)}
	for _, e := range events {
		var l gate.Loaded
		if e.Stream == gate.PolicyStream && op.Unmarshal(e.Data, &l) == nil {
			t.policies[l.Serial] = l
		}
		var r op.RollbackAccepted
		if e.Stream == op.LedgerStream && op.Unmarshal(e.Data, &r) == nil {
			t.audiences = append(t.audiences, audienceFrom{e.Position, r.Audience})
		}
	}
	return t
}

// tell goes through the op's events. What comes behind damage is told by what
// it says of itself.
func (t *teller) tell(events []eventstore.Recorded) *Story {
	n := op.Nonce(strings.TrimPrefix(string(events[0].Stream), op.StreamPrefix))
	s := &Story{Ledger: t.ledger, NonceShort: n.Short()}
	o := op.New(t.ledger, n)
	sound := true
	for i := range events {
		e := &events[i]
		if sound {
			sound = o.Apply(recordOf(e)) == nil
		}
		step := Step{Revision: uint64(e.Revision), Position: uint64(e.Position), At: e.RecordedAt, Event: shorten(e.Type)}
		if ev, err := op.Decode(e.Type, e.Data); err == nil {
			step.At = op.HeaderOf(ev).At
			step.Text, step.Details = t.words(ev, e.Position)
		} else {
			step.Text = "it can't be read: " + err.Error()
		}
		step.Text = shorten(step.Text)
		for i, d := range step.Details {
			step.Details[i] = shorten(d)
		}
		if step.Details == nil {
			step.Details = []string{}
		}
		s.Steps = append(s.Steps, step)
	}
	s.OpID, s.State, s.Since = o.OpID, o.State, o.Since
	s.Headline = shorten(headline(&o, sound))
	return s
}

func headline(o *op.Op, sound bool) string {
	what := "the op"
	if o.Started != nil {
		what = aimWords(o.Started.Intent)
	}
	if !sound {
		return what + ": its record is damaged; what is told behind the damage is what the events say of themselves"
	}
	switch o.State {
	case op.StateSucceeded:
		if o.Succeeded.Resolution != nil {
			return what + " counts as done, on the word of the people who settled it; it can never run again"
		}
		if o.Keyless() {
			return what + " was done; nobody had signed it, so whoever asks for it again has an op of their own"
		}
		return what + " was done, once; it can never run again"
	case op.StateFailed:
		if o.Keyless() {
			return fmt.Sprintf("%s failed with effect %s; whoever asks for it again has an op of their own", what, o.Failed.Effect)
		}
		return fmt.Sprintf("%s failed with effect %s; it can never run again", what, o.Failed.Effect)
	case op.StateFailedClean:
		if o.Keyless() {
			return what + " failed without any effect; whoever may ask for it can ask again"
		}
		return what + " failed without any effect; the same writ may be delivered again while it is valid"
	case op.StateVoided:
		return what + " was taken back before it ran; it can never run"
	case op.StateStarted:
		return what + " is claimed, and nothing has been sent to the host"
	case op.StateLaunching:
		return what + " is in flight: its request may have been sent, and its outcome is not on record"
	case op.StateTaskRunning:
		return what + " is in flight: the host has taken it, and its end is not on record"
	case op.Absent:
	}
	return what + " has left nothing on record that can be followed"
}

// words tells what the event at a position says.
func (t *teller) words(ev op.Event, at eventstore.Position) (text string, details []string) {
	switch e := ev.(type) {
	case *op.Started:
		return t.started(e, at)
	case *op.Launching:
		text = fmt.Sprintf("The request was announced, before it was sent: %s %s to node %s, as %s.", e.Request.Method, requestWords(e.Request), e.Node, e.Credential)
		details = append(details, "right before, the host showed: "+observedWords(e.Observed))
		if about := subjectWords(e.Observed); about != "" {
			details = append(details, "and what it is about: "+about)
		}
		return text, append(details, fmt.Sprintf("right before, policy %d was asked once more; the gate saw: %s", e.PolicySerial, factsWords(e.Target, e.Facts)))
	case *op.TaskRunning:
		switch {
		case e.UPID == "" && e.Adopted:
			text = "No task of it is known; this event goes before the word of those who settled it."
		case e.UPID == "":
			text = "The host took the request and answered at once."
		case e.Adopted:
			text = "Recovery found the task that the request had started: " + e.UPID
		default:
			text = "The host took the request and started a task: " + e.UPID
		}
		return text, nil
	case *op.Succeeded:
		details = append(details, evidenceWords(&e.Evidence)...)
		if len(e.Residue) > 0 {
			details = append(details, "left behind, as the host could not remove it: "+strings.Join(e.Residue, ", "))
		}
		return fmt.Sprintf("Attempt %d succeeded; the host's last word was %q.", e.Attempt, e.ExitStatus), append(details, resolvedWords(e.Resolution)...)
	case *op.Failed:
		return failedWords(e)
	case *op.Voided:
		return fmt.Sprintf("The writ was taken back by %s: %s", e.VoidedBy, e.Reason), nil
	}
	return "", nil
}

// started tells who ordered what, and how it was decided.
func (t *teller) started(e *op.Started, at eventstore.Position) (text string, details []string) {
	text = fmt.Sprintf("Attempt %d was claimed by instance %s of agent %s: %s.", e.Attempt, e.Instance, e.Agent, aimWords(e.Intent))
	details = append(details, "submitted by "+orNobody(e.SubmittedBy))
	if u, err := signedop.Parse(e.Envelope); err == nil {
		d := u.UnverifiedDocument()
		details = append(
			details,
			fmt.Sprintf("the writ says: %q, requested by %s, valid from %s to %s", d.Reason, d.RequestedBy, stamp(d.NotBefore), stamp(d.ExpiresAt)),
			"the writ expects: "+expectWords(d.Expect),
		)
	}
	for _, s := range e.Signers {
		details = append(details, fmt.Sprintf("signed by %s as %s, with key %s", s.Person, e.Role, s.Key))
	}
	if e.Keyless {
		details = append(details, "it takes nothing away and ran without a signature, as a rule of the policy lets its caller do")
	}
	details = append(details, "the gate saw: "+factsWords(e.Target, e.Facts))
	l, ok := t.policies[e.PolicySerial]
	if !ok {
		return text, append(details, fmt.Sprintf("decided by policy %d, which is not on record", e.PolicySerial))
	}
	p, err := gate.Compile(l.Policy, e.PolicySerial)
	if err != nil {
		return text, append(details, fmt.Sprintf("decided by policy %d, which is damaged on record", e.PolicySerial))
	}
	site := gate.Site{Agent: e.Agent, Ledger: t.audience(at)}
	auth, d := gate.Authenticate(e.At, p, site, gate.Submission{Intent: e.Intent, Envelope: e.Envelope, Caller: e.SubmittedBy})
	if auth != nil {
		d = gate.Permit(e.At, p, site, auth, e.Facts)
	}
	return text, append(details, fmt.Sprintf("decided by policy %d, in force since %s; asked again it says %s: %s", e.PolicySerial, stamp(l.At), d.Reason, d.Detail))
}

func orNobody(s string) string {
	if s == "" {
		return "nobody named"
	}
	return s
}

func failedWords(e *op.Failed) (text string, details []string) {
	text = fmt.Sprintf("Attempt %d failed (%s): %s", e.Attempt, e.Kind, e.Message)
	switch e.Effect {
	case op.EffectNone:
		details = append(details, "effect none: nothing was changed at the host")
	case op.EffectPartial:
		details = append(details, "effect partial: it was half done")
	case op.EffectUnknown:
		details = append(details, "effect unknown: what it changed could not be found out")
	case op.EffectDone:
		details = append(details, "effect done: the host was changed all the same")
	}
	if e.Reason != "" {
		details = append(details, "the gate, asked again right before the launch, said "+e.Reason)
	}
	if e.Evidence != nil {
		details = append(details, evidenceWords(e.Evidence)...)
	}
	for _, l := range e.LogTail {
		details = append(details, "the task's log: "+l)
	}
	return text, append(details, resolvedWords(e.Resolution)...)
}

func evidenceWords(ev *op.Evidence) []string {
	var all []string
	for _, r := range ev.Reasons {
		all = append(all, fmt.Sprintf("evidence (%s): %s", ev.Effect, r))
	}
	return all
}

func resolvedWords(r *op.Resolved) []string {
	if r == nil {
		return nil
	}
	all := []string{fmt.Sprintf("people settled it, under policy %d, as %s: %s", r.PolicySerial, r.Role, r.Reason)}
	for _, s := range r.Signers {
		all = append(all, fmt.Sprintf("the resolution was signed by %s, with key %s", s.Person, s.Key))
	}
	return all
}

func requestWords(r op.Request) string {
	if r.Query == "" {
		return r.Path
	}
	return r.Path + "?" + r.Query
}
