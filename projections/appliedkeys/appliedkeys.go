// Package appliedkeys is the view that answers whether a nonce has run: it
// holds every applied key and every otherwise spent one, with when and where
// in the ledger that was decided.
//
// It lags behind the ledger. What it says of a key it holds is final; that it
// does not hold a key means nothing, and nobody may launch because of it. That
// decision is made on the op's own stream.
package appliedkeys

import (
	"context"
	"fmt"
	"time"

	"writ/domain/eventstore"
	"writ/domain/op"
	"writ/projections"
)

// An Entry is what is known of a spent key, or of one whose stream is corrupt.
type Entry struct {
	Nonce op.Nonce
	// State is the op's last: succeeded (an applied key), failed (with an
	// effect) or voided. If Corrupt is set it is the last one understood.
	State op.State
	// OpID and Attempt are of the attempt that ended it; empty and 0 if the op
	// was voided before any.
	OpID    string
	Attempt int
	// At is when it ended, as its last event says.
	At time.Time
	// Position and Revision are of that event, or, if Corrupt is set, of the
	// one that can't be so.
	Position eventstore.Position
	Revision eventstore.Revision
	// Corrupt is why the stream can't be what writ wrote. Such an op is never
	// run, and counts neither as applied nor as anything else.
	Corrupt string
}

// Applied tells whether the op has taken effect and is on record as done.
func (e Entry) Applied() bool { return e.State == op.StateSucceeded && e.Corrupt == "" }

// Keys reads the view, and is the projection that makes it. Lookup may be
// called concurrently with everything.
type Keys struct{ view projections.ViewStore }

// New gives the keys in a view, which must hold nothing else.
func New(view projections.ViewStore) *Keys { return &Keys{view: view} }

// row is what is stored of an op: also of one that is not spent, so that what
// comes next can be judged.
type row struct {
	projections.Track

	Position eventstore.Position `json:"position"`
	Revision eventstore.Revision `json:"revision"`
	// Keyless: nobody signed the op, and its nonce is no key to anything.
	Keyless bool `json:"keyless,omitzero"`
}

const prefix = "op/"

// Lookup gives the entry of a nonce; false if, as far as the view has come,
// the key is not spent, or the op is a keyless one.
func (k *Keys) Lookup(ctx context.Context, n op.Nonce) (Entry, bool, error) {
	data, found, err := k.view.Get(ctx, prefix+string(n))
	if err != nil {
		return Entry{}, false, fmt.Errorf("look up %s: %w", n.Short(), err)
	}
	if !found {
		return Entry{}, false, nil
	}
	r, err := parse(data)
	if err != nil {
		return Entry{}, false, fmt.Errorf("look up %s: %w", n.Short(), err)
	}
	if !r.State.Final() && r.Corrupt == "" || r.Keyless {
		return Entry{}, false, nil
	}
	return Entry{
		Nonce: n, State: r.State, OpID: r.OpID, Attempt: r.Attempt, At: r.At,
		Position: r.Position, Revision: r.Revision, Corrupt: r.Corrupt,
	}, true, nil
}

func parse(data []byte) (row, error) {
	var r row
	if err := op.Unmarshal(data, &r); err != nil {
		return row{}, fmt.Errorf("an entry of the view can't be read, clear it to build it again: %w", err)
	}
	return r, nil
}

// Name implements [projections.Projection].
func (k *Keys) Name() string { return "appliedkeys" }

// Format implements [projections.Projection].
func (k *Keys) Format() int { return 1 }

// Filter implements [projections.Projection].
func (k *Keys) Filter() eventstore.Filter { return projections.OpStreams() }

// Apply implements [projections.Projection].
func (k *Keys) Apply(ctx context.Context, view *projections.Changes, e eventstore.Recorded) error {
	key := prefix + projections.Key(e.Stream)
	data, found, err := view.Get(ctx, key)
	if err != nil {
		return err
	}
	var r row
	if found {
		if r, err = parse(data); err != nil {
			return err
		}
	}
	if r.Corrupt != "" {
		return nil
	}
	var happened op.Event
	r.Track, happened = r.Follow(e)
	if started, ok := happened.(*op.Started); ok {
		r.Keyless = started.Keyless
	}
	r.Position, r.Revision = e.Position, e.Revision
	if data, err = op.Marshal(r); err != nil {
		return err
	}
	view.Set(key, data)
	return nil
}
