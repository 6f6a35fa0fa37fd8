package audit

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"writ/domain/eventstore"
	"writ/domain/gate"
	"writ/domain/op"
)

// A Story is one op told from its record, in plain words, with what an audit
// of it found. It holds no whole nonce.
type Story struct {
	Ledger     string    `json:"ledger"`
	NonceShort string    `json:"nonce_short"`
	OpID       string    `json:"op_id,omitempty"`
	State      op.State  `json:"state"` // as far as the stream can be followed
	Since      time.Time `json:"since"`
	Headline   string    `json:"headline"`
	Steps      []Step    `json:"steps"`
	// Findings are those of this op, and of the policies and take-overs that it
	// rests on.
	Findings []Finding      `json:"findings"`
	NotRerun map[string]int `json:"not_rerun"`
}

// A Step is what one event tells.
type Step struct {
	Revision uint64    `json:"revision"`
	Position uint64    `json:"position"`
	At       time.Time `json:"at"` // as the event says; if it can't be read, as the store says
	Event    string    `json:"event"`
	Text     string    `json:"text"`
	Details  []string  `json:"details"`
}

// MinPrefix is how many digits of a nonce Why needs at least.
const MinPrefix = 8

// ErrNotOnRecord says that no op has such a nonce on record.
var ErrNotOnRecord = errors.New("nothing is on record under this nonce: it never ran here, or another ledger has it")

// maxStoryEvents bounds the events of one op that are told.
const maxStoryEvents = 4096

// Why tells the story of the op whose nonce is given, or begins with what is
// given. It fails with ErrNotOnRecord if there is none, and if there are
// several. Damage of the op's stream is part of the story and no error.
func Why(ctx context.Context, src Source, given string) (*Story, error) {
	given = strings.TrimSuffix(given, "…")
	if len(given) < MinPrefix || len(given) > op.MaxNonceDigits || strings.Trim(given, "0123456789abcdef") != "" {
		return nil, fmt.Errorf("nonce: %q is not the beginning of one: %d lower-case hex digits or more are needed", shorten(given), MinPrefix)
	}
	events, err := collect(ctx, src, given)
	if err != nil {
		return nil, err
	}
	var own []eventstore.Recorded
	for _, e := range events {
		if strings.HasPrefix(string(e.Stream), op.StreamPrefix) {
			own = append(own, e)
		}
	}
	if len(own) == 0 {
		return nil, ErrNotOnRecord
	}
	r, err := Verify(ctx, &few{ledger: src.LedgerID(), events: events}, Options{Workers: 1})
	if err != nil {
		return nil, err
	}
	t := newTeller(string(src.LedgerID()), events)
	s := t.tell(own)
	s.NotRerun = r.NotRerun
	s.Findings = []Finding{}
	for _, f := range r.Findings {
		if f.Kind != OutOfOrder {
			s.Findings = append(s.Findings, f)
		}
	}
	return s, nil
}

// few is a part of a ledger.
type few struct {
	ledger eventstore.LedgerID
	events []eventstore.Recorded
}

func (f *few) Name() string                   { return "part" }
func (f *few) LedgerID() eventstore.LedgerID  { return f.ledger }
func (f *few) Progress() (done, total uint64) { return 0, 0 }

func (f *few) Events(context.Context, eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for _, e := range f.events {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// collect gives the events of the one op whose nonce begins as given, and all
// that its decisions rest on.
func collect(ctx context.Context, src Source, given string) ([]eventstore.Recorded, error) {
	if s, ok := src.(*storeSource); ok {
		if streams, ok := s.ledger.(streamReader); ok && len(given) >= op.MinNonceDigits {
			return collectStreams(ctx, streams, op.Nonce(given))
		}
	}
	filter := eventstore.Filter{StreamPrefixes: []string{op.StreamPrefix + given, gate.PolicyStream, op.LedgerStream, agentPrefix}}
	var events []eventstore.Recorded
	var found []eventstore.StreamID
	told := 0
	for e, err := range src.Events(ctx, filter) {
		var unreadable *UnreadableError
		var incomplete *IncompleteError
		switch {
		case errors.As(err, &unreadable), errors.As(err, &incomplete):
			continue // what is missing of this op shows in its revisions
		case err != nil:
			return nil, fmt.Errorf("read the ledger: %w", err)
		case !strings.HasPrefix(string(e.Stream), op.StreamPrefix):
		case !slices.Contains(found, e.Stream):
			if found = append(found, e.Stream); len(found) > 1 {
				return nil, fmt.Errorf("nonce: more than one op on record begins with %s; give more of it", given)
			}
			told++
		default:
			told++
		}
		if told <= maxStoryEvents {
			events = append(events, e)
		}
	}
	return events, nil
}

// A streamReader reads one stream without going through the others.
type streamReader interface {
	ReadStream(ctx context.Context, stream eventstore.StreamID, from eventstore.Revision) iter.Seq2[eventstore.Recorded, error]
}

func collectStreams(ctx context.Context, l streamReader, n op.Nonce) ([]eventstore.Recorded, error) {
	var events []eventstore.Recorded
	read := func(stream string) error {
		for e, err := range l.ReadStream(ctx, eventstore.StreamID(stream), 0) {
			var corrupt *eventstore.CorruptError
			if errors.Is(err, eventstore.ErrStreamNotFound) || errors.As(err, &corrupt) {
				return nil // what is missing shows in the revisions
			}
			if err != nil {
				return fmt.Errorf("read the ledger: %w", err)
			}
			events = append(events, e)
		}
		return nil
	}
	if err := read(n.Stream()); err != nil {
		return nil, err
	}
	agents := make(map[string]bool)
	for _, e := range events {
		if ev, err := op.Decode(e.Type, e.Data); err == nil {
			agents[op.HeaderOf(ev).Agent] = true
		}
	}
	for _, stream := range []string{gate.PolicyStream, op.LedgerStream} {
		if err := read(stream); err != nil {
			return nil, err
		}
	}
	for agent := range agents {
		if err := read(op.AgentStream(agent)); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(events, func(a, b eventstore.Recorded) int {
		if a.Position < b.Position {
			return -1
		}
		return 1
	})
	return events, nil
}
