// Package recoveryqueue is the view of what is not finished: every op in
// flight, since when, and what is known; and every op whose stream is corrupt,
// because a person must look at it.
//
// It lags behind the ledger, so it may miss the newest ops and still show ones
// that have just ended. Whoever acts on an op reads the op's own stream.
package recoveryqueue

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"writ/domain/eventstore"
	"writ/domain/op"
	"writ/projections"
)

// An Item is one op that is not finished.
type Item struct {
	// Stream is the op's; Nonce is empty if the stream's name holds none.
	Stream eventstore.StreamID
	Nonce  op.Nonce

	// State is started, launching or task-running. If Corrupt is set it is the
	// last one understood, and may be any.
	State   op.State
	OpID    string
	Attempt int
	// Since is when the op came into its state, as its event says. For a
	// stream of which nothing was understood it is when the store took the
	// event.
	Since  time.Time
	Class  op.Class
	Target op.Target
	// Why says in a sentence what the op waits for.
	Why string
	// Node and UPID are of the request and of the host's task, once known.
	Node string
	UPID string
	// LastFailure is how the attempt before this one ended; nil if this is the
	// first.
	LastFailure *Failure
	// Corrupt is why the stream can't be what writ wrote; empty if it can.
	Corrupt string
}

// A Failure is how an attempt ended.
type Failure struct {
	Attempt  int            `json:"attempt"`
	Kind     op.FailureKind `json:"kind"`
	Message  string         `json:"message"`
	Evidence *op.Evidence   `json:"evidence,omitempty"`
	At       time.Time      `json:"at"`
}

// Queue reads the view, and is the projection that makes it. List may be
// called concurrently with everything.
type Queue struct{ view projections.ViewStore }

// New gives the queue in a view, which must hold nothing else.
func New(view projections.ViewStore) *Queue { return &Queue{view: view} }

// Rows stand under one of two prefixes: what is listed, and ops that failed
// without an effect, which may be attempted again. Ops that have ended for
// good leave nothing behind.
const (
	listed = "listed/"
	clean  = "clean/"
)

type row struct {
	projections.Track

	Class       op.Class  `json:"class,omitempty"`
	Target      op.Target `json:"target,omitzero"`
	Node        string    `json:"node,omitempty"`
	UPID        string    `json:"upid,omitempty"`
	LastFailure *Failure  `json:"last_failure,omitempty"`
	// Noticed is when the store took the event that can't be so.
	Noticed time.Time `json:"noticed,omitzero"`
}

// List gives all items, as of one moment, the oldest first.
func (q *Queue) List(ctx context.Context) ([]Item, error) {
	var items []Item
	for e, err := range q.view.Scan(ctx, listed) {
		if err != nil {
			return nil, fmt.Errorf("list the recovery queue: %w", err)
		}
		r, err := parse(e.Value)
		if err != nil {
			return nil, fmt.Errorf("list the recovery queue: %w", err)
		}
		items = append(items, r.item(eventstore.StreamID(op.StreamPrefix+e.Key[len(listed):])))
	}
	slices.SortFunc(items, func(a, b Item) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Stream, b.Stream))
	})
	return items, nil
}

func (r row) item(stream eventstore.StreamID) Item {
	nonce, _ := op.NonceOfStream(string(stream))
	since := r.At
	if since.IsZero() {
		since = r.Noticed
	}
	return Item{
		Stream: stream, Nonce: nonce, State: r.State, OpID: r.OpID, Attempt: r.Attempt, Since: since,
		Class: r.Class, Target: r.Target, Why: r.why(), Node: r.Node, UPID: r.UPID,
		LastFailure: r.LastFailure, Corrupt: r.Corrupt,
	}
}

func (r row) why() string {
	switch {
	case r.Corrupt != "":
		return "its stream is corrupt: nothing is done with it until a person has looked"
	case r.State == op.StateStarted:
		return "claimed; nothing was sent to the host yet"
	case r.State == op.StateLaunching:
		return "announced; the request may be on its way, and no task of it is on record"
	case r.State == op.StateTaskRunning && r.UPID == "":
		return "carried out by the host at once; the effect is not verified yet"
	case r.State == op.StateTaskRunning:
		return "a task of the host carries it out; its end is not on record"
	}
	return ""
}

// Name implements [projections.Projection].
func (q *Queue) Name() string { return "recoveryqueue" }

// Format implements [projections.Projection].
func (q *Queue) Format() int { return 1 }

// Filter implements [projections.Projection].
func (q *Queue) Filter() eventstore.Filter { return projections.OpStreams() }

// Apply implements [projections.Projection].
func (q *Queue) Apply(ctx context.Context, view *projections.Changes, e eventstore.Recorded) error {
	key := projections.Key(e.Stream)
	r, stands, err := find(ctx, view, key)
	if err != nil || r.Corrupt != "" {
		return err
	}
	var event op.Event
	if r.Track, event = r.Follow(e); event != nil {
		r.learn(event)
	} else {
		r.Noticed = e.RecordedAt
	}
	belongs := ""
	switch {
	case r.Corrupt != "" || r.State.InFlight():
		belongs = listed + key
	case r.State == op.StateFailedClean:
		belongs = clean + key
	}
	if stands != "" && stands != belongs {
		view.Delete(stands)
	}
	if belongs == "" {
		return nil
	}
	data, err := op.Marshal(r)
	if err != nil {
		return err
	}
	view.Set(belongs, data)
	return nil
}

// learn takes over what an event says of the op.
func (r *row) learn(e op.Event) {
	switch e := e.(type) {
	case *op.Started:
		r.Class, r.Target, r.Node, r.UPID = e.Class, e.Target, "", ""
	case *op.Launching:
		r.Node = e.Node
	case *op.TaskRunning:
		r.UPID = e.UPID
	case *op.Failed:
		r.LastFailure = &Failure{Attempt: e.Attempt, Kind: e.Kind, Message: e.Message, Evidence: e.Evidence, At: e.At}
	}
}

// find gives the row of an op and where it stands; zero if there is none.
func find(ctx context.Context, view *projections.Changes, key string) (r row, stands string, err error) {
	for _, prefix := range []string{listed, clean} {
		data, found, err := view.Get(ctx, prefix+key)
		if err != nil {
			return row{}, "", err
		}
		if found {
			r, err := parse(data)
			return r, prefix + key, err
		}
	}
	return row{}, "", nil
}

func parse(data []byte) (row, error) {
	var r row
	if err := op.Unmarshal(data, &r); err != nil {
		return row{}, fmt.Errorf("an entry of the view can't be read, clear it to build it again: %w", err)
	}
	return r, nil
}
