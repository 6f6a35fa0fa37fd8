package engine

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"writ/domain/eventstore"
	"writ/domain/op"
)

// LoadOp folds an op from its stream. An op of which nothing is on record is
// no error.
func LoadOp(ctx context.Context, store eventstore.Reader, ledger eventstore.LedgerID, n op.Nonce) (op.Op, error) {
	o, err := op.Fold(string(ledger), n, Records(store.ReadStream(ctx, eventstore.StreamID(n.Stream()), 0)))
	if errors.Is(err, eventstore.ErrStreamNotFound) {
		if o.Tail.Next > 0 {
			return o, &op.CorruptStreamError{Stream: n.Stream(), Revision: o.Tail.Next, Why: "the stream was deleted while it was read"}
		}
		return op.New(string(ledger), n), nil
	}
	var corrupt *eventstore.CorruptError
	if errors.As(err, &corrupt) {
		return o, &op.CorruptStreamError{Stream: n.Stream(), Revision: o.Tail.Next, Why: corrupt.Why}
	}
	return o, err
}

// Records gives stored events as the aggregate takes them.
func Records(events iter.Seq2[eventstore.Recorded, error]) iter.Seq2[op.Record, error] {
	return func(yield func(op.Record, error) bool) {
		for e, err := range events {
			if !yield(RecordOf(e), err) {
				return
			}
		}
	}
}

// RecordOf gives a stored event as the aggregate takes it.
func RecordOf(e eventstore.Recorded) op.Record {
	return op.Record{Revision: uint64(e.Revision), ID: op.ID(e.ID), Type: e.Type, Data: e.Data, Metadata: e.Metadata}
}

func proposed(rec op.Record) eventstore.Proposed {
	return eventstore.Proposed{ID: eventstore.EventID(rec.ID), Type: rec.Type, Data: rec.Data, Metadata: rec.Metadata}
}

func expectBefore(revision uint64) eventstore.Expected {
	if revision == 0 {
		return eventstore.NoStream()
	}
	return eventstore.At(eventstore.Revision(revision - 1))
}

// AppendRecord makes one append, of records that follow one another, and says
// what is certain about it: all of them are on record or none.
func AppendRecord(ctx context.Context, store eventstore.Appender, stream string, recs ...op.Record) AppendDone {
	events := make([]eventstore.Proposed, len(recs))
	for i, rec := range recs {
		events[i] = proposed(rec)
	}
	rec := recs[len(recs)-1]
	got, err := store.Append(ctx, eventstore.StreamID(stream), expectBefore(recs[0].Revision), events...)
	var wrong *eventstore.WrongRevisionError
	switch {
	case err == nil && uint64(got.Revision) == rec.Revision:
		return AppendDone{Outcome: AppendOK}
	case err == nil:
		// The store took the append for a repetition of another one. Whatever
		// is on record at our place, it isn't this.
		return AppendDone{
			Outcome: AppendLost,
			Err:     fmt.Errorf("append at revision %d was answered with revision %d", rec.Revision, got.Revision),
		}
	case errors.As(err, &wrong):
		return AppendDone{Outcome: AppendLost, Err: err}
	case eventstore.Definite(err):
		return AppendDone{Outcome: AppendRefused, Err: err}
	default:
		return AppendDone{Outcome: AppendUnknown, Err: err}
	}
}
