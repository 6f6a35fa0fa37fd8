package engine

import (
	"context"
	"errors"
	"fmt"

	"writ/domain/eventstore"
	"writ/domain/op"
)

// A ClosedError says that a ledger has moved to another store: this one must
// not be acted on any more.
type ClosedError struct{ op.StoreClosed }

func (c *ClosedError) Error() string {
	return fmt.Sprintf("this store was closed on %s: its ledger has moved to %s. Use that one", c.At.UTC().Format("2006-01-02 15:04"), c.To)
}

// CloseStore puts on record, in this store alone, that the ledger has moved.
// Who leads over it finds out at the latest when it takes over again; take over
// first.
func CloseStore(ctx context.Context, store eventstore.Store, c op.StoreClosed) error {
	_, err := newJournal(store, op.StoreStream).append(ctx, string(store.LedgerID()), op.TypeStoreClosed, func(uint64) ([]byte, error) {
		return op.Marshal(c)
	})
	if err != nil {
		return fmt.Errorf("close the store: %w", err)
	}
	return nil
}

// readClosed gives how the store was closed, nil if it was not.
func readClosed(ctx context.Context, store eventstore.Reader) (*ClosedError, error) {
	head, err := store.Head(ctx, op.StoreStream)
	if errors.Is(err, eventstore.ErrStreamNotFound) {
		return nil, nil //nolint:nilnil // it is open
	}
	if err != nil {
		return nil, fmt.Errorf("read stream %s: %w", op.StoreStream, err)
	}
	var c op.StoreClosed
	if err := op.Unmarshal(head.Data, &c); err != nil || head.Type != op.TypeStoreClosed {
		return nil, fmt.Errorf("stream %s at revision %d: %q can't be read: %w", op.StoreStream, head.Revision, text(head.Type), err)
	}
	return &ClosedError{c}, nil
}
