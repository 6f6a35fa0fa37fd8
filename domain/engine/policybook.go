package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"writ/domain/eventstore"
	"writ/domain/gate"
	"writ/domain/op"
)

// A PolicyBook holds the policy in force. A policy comes into force only after
// it is on record, whole, in the stream "policy"; its serial is its place
// there.
type PolicyBook struct {
	journal *journal
	who     Identity
	clock   Clock

	enforcing sync.Mutex // held by Enforce: the last one on record is the last one applied
	current   atomic.Pointer[gate.Policy]
}

// Errors of a PolicyBook.
var (
	ErrNoPolicy = errors.New("no policy is in force")
	// ErrStalePolicy: a newer policy is on record than the one this instance
	// holds. It runs nothing signed until it has loaded that one.
	ErrStalePolicy = errors.New("this instance's policy is not the newest on record")
)

// NewPolicyBook gives a book without a policy.
func NewPolicyBook(store eventstore.Store, who Identity, clock Clock) *PolicyBook {
	return &PolicyBook{journal: newJournal(store, gate.PolicyStream), who: who, clock: clock}
}

// Enforce puts a policy in force: it is compiled, put on record unless the
// newest on record is the very same, and only then applied. source is the
// digest of the file it came from. After an error the policy that was in
// force before stays so; the new one may be on record, and then nothing signed
// runs here until Enforce has succeeded.
func (b *PolicyBook) Enforce(ctx context.Context, doc gate.PolicyDocument, source op.Digest) (*gate.Policy, error) {
	// Refused before it is recorded: what does not compile can't be in force.
	if _, err := gate.Compile(doc, 1); err != nil {
		return nil, err
	}
	b.enforcing.Lock()
	defer b.enforcing.Unlock()
	if p, err := b.sameAsNewest(ctx, doc); p != nil || err != nil {
		return p, err
	}
	revision, err := b.journal.append(ctx, gate.PolicyStream, gate.TypeLoaded, func(revision uint64) ([]byte, error) {
		return op.Marshal(gate.Loaded{
			Serial: revision + 1, Agent: b.who.Site.Agent, Instance: b.who.Instance, At: b.clock.Now().UTC(),
			SourceSHA256: source, Policy: doc,
		})
	})
	if err != nil {
		return nil, fmt.Errorf("record policy: %w", err)
	}
	return b.apply(doc, revision+1)
}

func (b *PolicyBook) apply(doc gate.PolicyDocument, serial uint64) (*gate.Policy, error) {
	p, err := gate.Compile(doc, serial)
	if err != nil {
		return nil, err
	}
	b.current.Store(p)
	return p, nil
}

func (b *PolicyBook) sameAsNewest(ctx context.Context, doc gate.PolicyDocument) (*gate.Policy, error) {
	rec, ok, err := b.journal.head(ctx)
	if err != nil || !ok {
		return nil, err
	}
	var newest gate.Loaded
	if rec.Type != gate.TypeLoaded {
		return nil, fmt.Errorf("stream %s: newest event is %q, not %s", gate.PolicyStream, rec.Type, gate.TypeLoaded)
	}
	if err := op.Unmarshal(rec.Data, &newest); err != nil {
		return nil, fmt.Errorf("stream %s at revision %d: %w", gate.PolicyStream, rec.Revision, err)
	}
	had, err := op.Marshal(newest.Policy)
	if err != nil {
		return nil, err
	}
	want, err := op.Marshal(doc)
	if err != nil || string(had) != string(want) {
		return nil, err
	}
	return b.apply(doc, rec.Revision+1)
}

// Current gives the policy in force, after making sure that it is the newest
// on record.
func (b *PolicyBook) Current(ctx context.Context) (*gate.Policy, error) {
	p := b.current.Load()
	if p == nil {
		return nil, ErrNoPolicy
	}
	rec, ok, err := b.journal.head(ctx)
	if err != nil {
		return nil, fmt.Errorf("read stream %s: %w", gate.PolicyStream, err)
	}
	if !ok || rec.Revision+1 != p.Serial() {
		return nil, fmt.Errorf("%w: serial %d here, %d on record; reload the policy", ErrStalePolicy, p.Serial(), rec.Revision+1)
	}
	return p, nil
}
