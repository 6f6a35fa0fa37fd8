package status_test

import (
	"context"
	"iter"

	"writ/domain/eventstore"
)

// oneEvent is a ledger that gives one event, whatever it is, and stays.
type oneEvent struct {
	eventstore.Store

	event eventstore.Recorded
}

// Subscribe implements [eventstore.Subscriber].
func (s oneEvent) Subscribe(ctx context.Context, _ eventstore.Cursor, _ eventstore.Filter) iter.Seq2[eventstore.Notice, error] {
	return func(yield func(eventstore.Notice, error) bool) {
		at := eventstore.After(s.event.Position)
		if yield(eventstore.Notice{Kind: eventstore.NewEvent, Event: s.event, At: at}, nil) &&
			yield(eventstore.Notice{Kind: eventstore.CaughtUp, At: at}, nil) {
			<-ctx.Done()
		}
	}
}
