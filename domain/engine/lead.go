package engine

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"writ/domain/eventstore"
	"writ/domain/op"
)

// A Lead is the right to launch, held by one instance of an agent at a time:
// the one whose AgentTookOver is the newest event of the agent's stream. Every
// event of an op says under which epoch it was written.
//
// It fences the ledger, together with the expected revision of every append:
// whoever has been superseded finds its ops moved on. The host is fenced by
// the successor's recovery.
type Lead struct {
	journal *journal
	epoch   uint64
	// lost is the newest successor that was heard of; nil: of none.
	lost atomic.Pointer[SupersededError]
}

// TakeOver makes this instance the one that launches, by appending at an exact
// revision of the agent's stream, whoever led before. After an error it is not,
// as far as it knows; a later TakeOver is safe.
func TakeOver(ctx context.Context, store eventstore.Store, who Identity, clock Clock) (*Lead, error) {
	return takeOver(ctx, store, who, clock, func(uint64) error { return nil })
}

// TakeOverFrom is TakeOver from the one who led with an epoch, 0 for nobody. It
// gives a *SupersededError, and this instance does not lead, if another one has
// taken over since.
func TakeOverFrom(ctx context.Context, store eventstore.Store, who Identity, clock Clock, epoch uint64) (*Lead, error) {
	lead, err := takeOver(ctx, store, who, clock, func(newest uint64) error {
		if newest != epoch {
			return &SupersededError{Epoch: newest, Held: epoch}
		}
		return nil
	})
	var overtaken *SupersededError
	if errors.As(err, &overtaken) {
		if rec, ok, headErr := newJournal(store, op.AgentStream(who.Site.Agent)).head(ctx); headErr == nil && ok && rec.Revision+1 == overtaken.Epoch {
			overtaken.Instance = instanceOf(rec)
		}
	}
	return lead, err
}

func takeOver(ctx context.Context, store eventstore.Store, who Identity, clock Clock, may func(newest uint64) error) (*Lead, error) {
	j := newJournal(store, op.AgentStream(who.Site.Agent))
	revision, err := j.append(ctx, who.Site.Agent, op.TypeTookOver, func(revision uint64) ([]byte, error) {
		if err := may(revision); err != nil {
			return nil, err
		}
		return op.Marshal(op.TookOver{Agent: who.Site.Agent, Instance: who.Instance, Epoch: revision + 1, At: clock.Now().UTC()})
	})
	if err != nil {
		return nil, fmt.Errorf("take over as %s: %w", who.Instance, err)
	}
	return &Lead{journal: j, epoch: revision + 1}, nil
}

// Epoch grows with every take-over.
func (l *Lead) Epoch() uint64 { return l.epoch }

// Holds fails with a *SupersededError once another instance has taken over,
// and with another error if that can't be found out: then nothing may be
// launched either.
func (l *Lead) Holds(ctx context.Context) error {
	rec, ok, err := l.journal.head(ctx)
	if err != nil {
		return fmt.Errorf("read stream %s: %w", l.journal.stream, err)
	}
	if ok && rec.Revision+1 == l.epoch {
		// An answer that was long on its way is older than what was heard since.
		if lost := l.lost.Load(); lost != nil {
			return lost
		}
		return nil
	}
	superseded := &SupersededError{Epoch: rec.Revision + 1, Held: l.epoch, Instance: instanceOf(rec)}
	if superseded.Epoch > l.epoch {
		l.lost.Store(superseded)
	}
	return superseded
}

// instanceOf gives who took over, empty if that can't be read.
func instanceOf(rec op.Record) string {
	var took op.TookOver
	if op.Unmarshal(rec.Data, &took) != nil {
		return ""
	}
	return took.Instance
}

// A SupersededError says that another instance launches by now.
type SupersededError struct {
	Instance    string // empty if it can't be read
	Epoch, Held uint64
}

func (e *SupersededError) Error() string {
	return fmt.Sprintf("instance %q has taken over with epoch %d, this one held epoch %d", e.Instance, e.Epoch, e.Held)
}
