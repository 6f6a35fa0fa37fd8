// Package attempts is the view that answers whether the ledger has announced a
// request with a given credential. The host remembers the credentials of
// attempts; one that the ledger has never announced means that another copy of
// the ledger has acted.
//
// A credential is made at the host only after its announcement is on record. So
// whoever first asks the host, then waits until this view is caught up, and
// then asks the view, never takes one of this ledger's own for a stranger.
package attempts

import (
	"context"
	"fmt"

	"writ/domain/eventstore"
	"writ/domain/op"
	"writ/projections"
)

// Announced reads the view, and is the projection that makes it. By may be called
// concurrently with everything.
type Announced struct{ view projections.ViewStore }

// New gives the credentials in a view, which must hold nothing else.
func New(view projections.ViewStore) *Announced { return &Announced{view: view} }

const prefix = "credential/"

// By gives the op that announced a request with the credential, the last one if
// there were several; false if, as far as the view has come, none did.
func (a *Announced) By(ctx context.Context, credential string) (op.Nonce, bool, error) {
	n, found, err := a.view.Get(ctx, prefix+credential)
	if err != nil {
		return "", false, fmt.Errorf("look up a credential: %w", err)
	}
	return op.Nonce(n), found, nil
}

// Name implements [projections.Projection].
func (a *Announced) Name() string { return "attempts" }

// Format implements [projections.Projection].
func (a *Announced) Format() int { return 1 }

// Filter implements [projections.Projection].
func (a *Announced) Filter() eventstore.Filter { return projections.OpStreams() }

// Apply implements [projections.Projection]. An announcement that can't be read
// announces nothing: its credential counts as a stranger's, which is told.
func (a *Announced) Apply(_ context.Context, view *projections.Changes, e eventstore.Recorded) error {
	if e.Type != op.TypeLaunching {
		return nil
	}
	ev, err := op.Decode(e.Type, e.Data)
	if err != nil {
		return nil //nolint:nilerr // as above
	}
	n, ok := op.NonceOfStream(string(e.Stream))
	if l, is := ev.(*op.Launching); ok && is && l.Credential != "" {
		view.Set(prefix+l.Credential, []byte(n))
	}
	return nil
}
