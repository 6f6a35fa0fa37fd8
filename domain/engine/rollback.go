package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"writ/domain/eventstore"
	"writ/domain/gate"
	"writ/domain/op"
)

// A Provenance is what a ledger says about itself.
type Provenance struct {
	// Audience is the ledger's part of the audience that writs must name. It
	// is the ledger's id until a rollback is accepted.
	Audience string
	// Accepted are the credentials of attempts that this ledger does not know
	// of, and that people have accepted as those of its lost future.
	Accepted map[string]bool
}

// ReadProvenance reads what a ledger says about itself. If it has moved to another
// store the error is a *ClosedError.
func ReadProvenance(ctx context.Context, store eventstore.Store) (Provenance, error) {
	closed, err := readClosed(ctx, store)
	if err != nil {
		return Provenance{}, err
	}
	if closed != nil {
		return Provenance{}, closed
	}
	p := Provenance{Audience: string(store.LedgerID()), Accepted: make(map[string]bool)}
	for rec, err := range store.ReadStream(ctx, op.LedgerStream, 0) {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			return p, nil
		}
		if err != nil {
			return p, fmt.Errorf("read stream %s: %w", op.LedgerStream, err)
		}
		var accepted op.RollbackAccepted
		if rec.Type != op.TypeRollbackAccepted {
			return p, fmt.Errorf("stream %s at revision %d: unknown event %q", op.LedgerStream, rec.Revision, text(rec.Type))
		}
		if err := op.Unmarshal(rec.Data, &accepted); err != nil {
			return p, fmt.Errorf("stream %s at revision %d: %w", op.LedgerStream, rec.Revision, err)
		}
		p.Audience = accepted.Audience
		for _, c := range accepted.Attempts {
			p.Accepted[c] = true
		}
	}
	return p, nil
}

// AcceptRollback puts on record that people take this copy of the ledger for
// the one that counts from now on, and then makes its end the witness's mark.
// The ledger gets a new audience: whatever was signed so far can't run any
// more, as this copy may not know that it has. After an error it may be on
// record; doing it again is safe.
//
// Whoever leads over the ledger is superseded first, and sends nothing more: it
// was started for the old audience.
func AcceptRollback(ctx context.Context, store eventstore.Store, w Witness, agent string, accepted op.RollbackAccepted) error {
	who := Identity{Site: gate.Site{Agent: agent}, Instance: "accept-rollback"}
	if _, err := TakeOver(ctx, store, who, at(accepted.At)); err != nil {
		return err
	}
	j := newJournal(store, op.LedgerStream)
	if _, err := j.append(ctx, string(store.LedgerID()), op.TypeRollbackAccepted, func(uint64) ([]byte, error) {
		return op.Marshal(accepted)
	}); err != nil {
		return fmt.Errorf("record the rollback: %w", err)
	}
	head, err := store.Head(ctx, op.LedgerStream)
	if err != nil {
		return fmt.Errorf("read stream %s: %w", op.LedgerStream, err)
	}
	// If this fails, the ledger is still taken for an old one. Nothing is lost.
	if err := w.Keep(ctx, Mark{Ledger: store.LedgerID(), Position: head.Position, Event: head.ID, At: accepted.At}); err != nil {
		return fmt.Errorf("keep the high-water mark: %w", err)
	}
	return nil
}

// at is a clock that has stopped.
type at time.Time

func (a at) Now() time.Time { return time.Time(a) }

func (at) Wait(context.Context, time.Duration) error {
	panic("engine: internal error: a take-over waits for nothing")
}
