// Package status is the view of every op there ever was: how it stands, and
// which ops are in a state, of a class, on a guest or a node, signed by a
// person, or begun in a span of time; the newest first.
//
// [View] is the projection that makes it, [Ops] answers questions from it. It
// lags behind the ledger, and every answer says how far it is. Whoever acts on
// an op reads the op's own stream.
//
// An op has one row, which stands at a place that never changes: when the op
// began, and the position of its first event. For every question there are keys
// that hold the places of the ops that belong to the answer, in the order of the
// places; a question with several parts walks along several of these, leaping
// from one to the next place that is in all. So a page costs the same however
// many ops there are, and a cursor is a place.
package status

import (
	"context"
	"fmt"
	"slices"
	"time"

	"writ/domain/eventstore"
	"writ/domain/op"
	"writ/projections"
)

// A State is what an op is listed under. The zero value is none.
type State string

// The states. FailedClean is an op that failed without an effect and may be
// attempted again; Failed one that had an effect, or may have had. Corrupt is an
// op whose stream can't be what writ wrote, in whatever state it was before.
const (
	Started     State = "started"
	Launching   State = "launching"
	TaskRunning State = "task-running"
	Succeeded   State = "succeeded"
	FailedClean State = "failed-clean"
	Failed      State = "failed"
	Voided      State = "voided"
	Corrupt     State = "corrupt"
)

// States gives every state.
func States() []State {
	return []State{Started, Launching, TaskRunning, Succeeded, FailedClean, Failed, Voided, Corrupt}
}

// InFlight gives the states of an op that has begun and not ended.
func InFlight() []State { return []State{Started, Launching, TaskRunning} }

// An Op is how one op stands.
type Op struct {
	// Stream is the op's; Nonce is empty if the stream's name holds none.
	Stream eventstore.StreamID
	Nonce  op.Nonce

	// State is what the op is listed under. Last is its last state that was
	// understood; the same, unless the stream is corrupt.
	State   State
	Last    op.State
	OpID    string // of the newest attempt
	Attempt int    // the number of attempts
	// Began is when the first event happened, Since when the op came into its
	// state, both as the events say. Of a stream whose first event can't be
	// read, Began is when the store took it, and Since is zero.
	Began, Since time.Time
	// Position is that of the newest event; of the first that can't be so if
	// the stream is corrupt.
	Position eventstore.Position

	Class  op.Class
	Target op.Target
	// Node is the one that the request went to, UPID the host's task; empty
	// until they are known.
	Node, UPID string
	// Effect, Kind and Message are of the end of the newest attempt, if it has
	// ended. Of a voided op Message is why it was taken back.
	Effect  op.Effect
	Kind    op.FailureKind
	Message string // at most 300 bytes and "…"
	Signers []string
	Role    string
	Keyless bool
	// Corrupt is why the stream can't be what writ wrote; empty if it can.
	Corrupt string
}

// View is the projection that makes the view.
type View struct{}

// Name implements [projections.Projection].
func (View) Name() string { return "status" }

// Format implements [projections.Projection].
func (View) Format() int { return 1 }

// Reads implements [projections.Readable]: there is no older format yet.
func (View) Reads(int) bool { return false }

// Filter implements [projections.Projection].
func (View) Filter() eventstore.Filter { return projections.OpStreams() }

// Apply implements [projections.Projection]. What can't be understood marks its
// own op, which stays as it was last understood.
func (View) Apply(ctx context.Context, view *projections.Changes, e eventstore.Recorded) error {
	nonceKey := byNonce + projections.Key(e.Stream)
	at, known, err := view.Get(ctx, nonceKey)
	if err != nil {
		return err
	}
	r := begin(e)
	var before []string
	if known {
		data, found, err := view.Get(ctx, rows+string(at))
		if err != nil {
			return err
		}
		if !found {
			return fmt.Errorf("the view lacks the row of an op that it knows, build it again")
		}
		if r, err = parse(data); err != nil {
			return err
		}
		if r.Corrupt != "" {
			return nil
		}
		before = r.indexes()
	}
	wasOpID := r.OpID
	r.follow(e)
	if !known {
		at = []byte(placeOf(r.Began, e.Position))
		view.Set(nonceKey, at)
	}
	data, err := op.Marshal(r)
	if err != nil {
		return err
	}
	view.Set(rows+string(at), data)
	after := r.indexes()
	for _, in := range before {
		if !slices.Contains(after, in) {
			view.Delete(in + string(at))
		}
	}
	for _, in := range after {
		if !slices.Contains(before, in) {
			view.Set(in+string(at), nil)
		}
	}
	// The op ids of earlier attempts stay: who has one of them finds the op.
	if in, ok := index(byOpID, r.OpID); ok && r.OpID != wasOpID {
		view.Set(in+string(at), nil)
	}
	return nil
}
