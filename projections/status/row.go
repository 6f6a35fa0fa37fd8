package status

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"writ/domain/eventstore"
	"writ/domain/op"
	"writ/projections"
)

const (
	// maxSigners bounds the people kept of an op, against damaged events: an
	// envelope of writ holds fewer signatures.
	maxSigners = 32
	// maxMessage bounds what is kept of a failure's message, in bytes.
	maxMessage = 300
)

// row is what is stored of an op.
type row struct {
	projections.Track

	Nonce string `json:"nonce,omitempty"`
	// Stream is the name of one that holds no nonce; in base64, as it need not
	// be text.
	Stream []byte `json:"stream,omitempty"`
	// Began is when the first event says that it happened; when the store took
	// it if that can't be read.
	Began    time.Time           `json:"began"`
	Position eventstore.Position `json:"position"` // of the newest event

	Class   op.Class       `json:"class,omitempty"`
	Target  op.Target      `json:"target,omitzero"`
	Node    string         `json:"node,omitempty"`
	UPID    string         `json:"upid,omitempty"`
	Effect  op.Effect      `json:"effect,omitempty"`
	Kind    op.FailureKind `json:"kind,omitempty"`
	Message string         `json:"message,omitempty"`
	Signers []string       `json:"signers,omitempty"`
	Role    string         `json:"role,omitempty"`
	Keyless bool           `json:"keyless,omitzero"`
}

// begin gives the row of an op whose first event this is.
func begin(e eventstore.Recorded) row {
	r := row{Began: e.RecordedAt.UTC()}
	if n, ok := op.NonceOfStream(string(e.Stream)); ok {
		r.Nonce = string(n)
	} else {
		r.Stream = []byte(e.Stream)
	}
	return r
}

// follow takes over what an event says of the op.
func (r *row) follow(rec eventstore.Recorded) {
	r.Position = rec.Position
	var e op.Event
	if r.Track, e = r.Follow(rec); e == nil {
		return
	}
	h := op.HeaderOf(e)
	if r.Next == 1 {
		r.Began = h.At
	}
	r.Class, r.Target = h.Class, h.Target
	switch e := e.(type) {
	case *op.Started:
		// A new attempt: what the one before it did is in the stream.
		r.Node, r.UPID, r.Effect, r.Kind, r.Message = "", "", "", "", ""
		r.Role, r.Keyless, r.Signers = e.Role, e.Keyless, nil
		for _, s := range e.Signers {
			if len(r.Signers) < maxSigners && !slices.Contains(r.Signers, s.Person) {
				r.Signers = append(r.Signers, s.Person)
			}
		}
	case *op.Launching:
		r.Node = e.Node
	case *op.TaskRunning:
		r.UPID = e.UPID
	case *op.Succeeded:
		r.Effect = e.Evidence.Effect
	case *op.Failed:
		r.Effect, r.Kind, r.Message = e.Effect, e.Kind, cut(e.Message)
	case *op.Voided:
		r.Message = cut(e.Reason)
	}
}

func cut(s string) string {
	if len(s) <= maxMessage {
		return s
	}
	return strings.ToValidUTF8(s[:maxMessage], "") + "…"
}

// state is what the op is listed under.
func (r *row) state() State {
	switch {
	case r.Corrupt != "":
		return Corrupt
	case r.State.InFlight():
		return map[op.State]State{op.StateStarted: Started, op.StateLaunching: Launching, op.StateTaskRunning: TaskRunning}[r.State]
	case r.State == op.StateSucceeded:
		return Succeeded
	case r.State == op.StateFailedClean:
		return FailedClean
	case r.State == op.StateFailed:
		return Failed
	}
	return Voided
}

// nodes are those that the op is of: the one it names, and the one that its
// request went to.
func (r *row) nodes() []string {
	if r.Node == r.Target.Node {
		return []string{r.Node}
	}
	return []string{r.Target.Node, r.Node}
}

// indexes are the answers that the op belongs to, but for those by op id.
func (r *row) indexes() []string {
	var all []string
	add := func(letter, value string) {
		if in, ok := index(letter, value); ok {
			all = append(all, in)
		}
	}
	add(byState, string(r.state()))
	add(byClass, string(r.Class))
	if r.Target.Guest != nil {
		add(byGuest, vmidText(r.Target.Guest.VMID))
	}
	for _, n := range r.nodes() {
		add(byNode, n)
	}
	for _, p := range r.Signers {
		add(bySigner, p)
	}
	return all
}

func (r *row) op() Op {
	stream := eventstore.StreamID(r.Stream)
	if r.Nonce != "" {
		stream = eventstore.StreamID(op.Nonce(r.Nonce).Stream())
	}
	return Op{
		Stream: stream, Nonce: op.Nonce(r.Nonce), State: r.state(), Last: r.State, OpID: r.OpID, Attempt: r.Attempt,
		Began: r.Began, Since: r.At, Position: r.Position, Class: r.Class, Target: r.Target, Node: r.Node, UPID: r.UPID,
		Effect: r.Effect, Kind: r.Kind, Message: r.Message, Signers: r.Signers, Role: r.Role, Keyless: r.Keyless, Corrupt: r.Corrupt,
	}
}

func parse(data []byte) (row, error) {
	var r row
	if err := op.Unmarshal(data, &r); err != nil {
		return row{}, fmt.Errorf("an entry of the view can't be read, build it again: %w", err)
	}
	return r, nil
}
