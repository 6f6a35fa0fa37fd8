package projections

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"writ/domain/eventstore"
	"writ/domain/op"
)

// A Track is the least that a view keeps of an op to know whether its next
// event can be so: enough not to show nonsense, not enough to trust. Whether
// the record is genuine is for an audit to say. The zero value is an op of
// which nothing is on record.
type Track struct {
	State   op.State  `json:"state"`
	Next    uint64    `json:"next"` // revision of the next event
	Attempt int       `json:"attempt"`
	OpID    string    `json:"op_id,omitempty"`
	At      time.Time `json:"at,omitzero"` // when the op came into its state, as its event says
	// Corrupt is why the stream can't be what writ wrote; empty if it can.
	// Once set it stays, and the rest stays as last understood.
	Corrupt string `json:"corrupt,omitempty"`
}

// Follow gives the track after an event, and the event. If the event can't be
// understood, or can't stand where it does, the track is marked as corrupt
// and there is no event. It never fails and never panics, whatever the bytes.
func (t Track) Follow(rec eventstore.Recorded) (Track, op.Event) {
	if t.Corrupt != "" {
		return t, nil
	}
	if t.State == 0 {
		t.State = op.Absent
	}
	e, to, err := t.next(rec)
	if err != nil {
		t.Corrupt = strings.ToValidUTF8(fmt.Sprintf("revision %d: %v", rec.Revision, err), "?")
		return t, nil
	}
	h := op.HeaderOf(e)
	return Track{State: to, Next: t.Next + 1, Attempt: h.Attempt, OpID: h.OpID, At: h.At}, e
}

func (t Track) next(rec eventstore.Recorded) (op.Event, op.State, error) {
	nonce, ok := op.NonceOfStream(string(rec.Stream))
	if !ok {
		return nil, 0, errors.New("the stream's name holds no nonce")
	}
	if uint64(rec.Revision) != t.Next {
		return nil, 0, fmt.Errorf("revision %d was expected: events are missing, or follow an end", t.Next)
	}
	e, err := op.Decode(rec.Type, rec.Data)
	if err != nil {
		return nil, 0, err
	}
	h := op.HeaderOf(e)
	if h.Nonce != nonce {
		return nil, 0, fmt.Errorf("the event belongs to another op (nonce %s)", h.Nonce.Short())
	}
	if _, offset := h.At.Zone(); h.At.IsZero() || offset != 0 {
		return nil, 0, fmt.Errorf("at: %s is not a time in UTC", h.At)
	}
	to, err := op.Transition(t.State, op.TriggerOf(e))
	if err != nil {
		return nil, 0, err
	}
	attempt := t.Attempt
	if e.Type() == op.TypeStarted {
		attempt++
	}
	if h.Attempt != attempt {
		return nil, 0, fmt.Errorf("attempt %d where %d was expected", h.Attempt, attempt)
	}
	return e, to, nil
}

// OpStreams lets the streams of all ops pass.
func OpStreams() eventstore.Filter {
	return eventstore.Filter{StreamPrefixes: []string{op.StreamPrefix}}
}

// Key is what a view files an op's stream under: the nonce, or whatever
// stands in its place in the name of a stream that nobody should have made.
func Key(s eventstore.StreamID) string {
	return strings.TrimPrefix(string(s), op.StreamPrefix)
}
