package esdbserver

import (
	"context"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"

	"writ/domain/eventstore"
)

// A subscription is one call that follows a stream or the whole ledger. It is
// driven by its client: nothing is read ahead of what has been sent but a page.
type subscription struct {
	readRequest
	service *streamsService
	out     streams.Streams_ReadServer

	next uint64              // of a stream: the first revision that was not seen
	at   eventstore.Position // everything up to here was seen
	live bool                // the client was told that it has caught up

	considered uint64              // events since the last checkpoint
	checkpoint eventstore.Position // the last one sent
}

// subscribe follows until the client leaves, the stream is tombstoned, or the
// server stops.
func (s *streamsService) subscribe(ctx context.Context, r readRequest, out streams.Streams_ReadServer) error {
	v := &subscription{readRequest: r, service: s, out: out}
	if err := v.begin(ctx); err != nil {
		return err
	}
	id, err := uuid.NewRandom()
	if err != nil {
		return err
	}
	if err := out.Send(&streams.ReadResp{Content: &streams.ReadResp_Confirmation{
		Confirmation: &streams.ReadResp_SubscriptionConfirmation{SubscriptionId: id.String()},
	}}); err != nil {
		return err
	}
	for {
		if err := v.catchUp(ctx); err != nil {
			return err
		}
		number, ok, err := s.tail.attach(ctx, v.at)
		if err != nil {
			return err
		}
		if ok {
			err = v.follow(ctx, number)
		}
		if err != nil {
			return err
		}
	}
}

// begin finds the place behind which the subscription starts. What is on record
// when the call is made lies before 'end'.
func (v *subscription) begin(ctx context.Context) error {
	l := v.service.ledger
	if v.all {
		v.at = eventstore.Position(v.from.number)
		if v.from.at == atEnd {
			end, err := l.end(ctx)
			v.at = end
			return err
		}
		return nil
	}
	state, err := l.state(ctx, v.stream)
	switch {
	case err != nil:
		return err
	case state.tombstoned:
		return streamDeleted(v.stream)
	case v.from.at == atEnd:
		v.next = uint64(state.last + 1)
	case v.from.at == atNumber:
		v.next = v.from.number + 1
	}
	return nil
}

// catchUp sends what the store has, until the live events can be joined.
func (v *subscription) catchUp(ctx context.Context) error {
	if v.all {
		for e, err := range v.service.ledger.store.ReadAll(ctx, cursor(v.at), eventstore.Filter{}) {
			if err != nil {
				return err
			}
			if err := v.see(ctx, newLiveEvent(e)); err != nil {
				return err
			}
		}
		return nil
	}
	// Asked before the stream is read: events of it that are not among those
	// read come behind this end.
	end, err := v.service.ledger.end(ctx)
	if err != nil {
		return err
	}
	state, err := v.service.ledger.state(ctx, v.stream)
	if err != nil {
		return err
	}
	if state.last >= 0 {
		from := max(v.next, state.first())
		for e, err := range v.service.ledger.forwards(ctx, v.stream, from, uint64(state.last), state.since(v.service.ledger.now())) {
			if err != nil {
				return err
			}
			if err := v.see(ctx, newLiveEvent(e)); err != nil {
				return err
			}
		}
		v.next = max(v.next, uint64(state.last)+1) // what is hidden counts as seen
	}
	v.at = max(v.at, end)
	return nil
}

// follow sends live events. It returns nil when the subscription has fallen
// behind.
func (v *subscription) follow(ctx context.Context, number uint64) error {
	buffer := make([]*liveEvent, 0, liveBatch)
	for {
		batch, changed, ok, err := v.service.tail.take(number, buffer)
		switch {
		case err != nil:
			return err
		case !ok:
			return v.fallBehind()
		case len(batch) == 0:
			if err := v.tellCaughtUp(); err != nil {
				return err
			}
			// A subscriber without events keeps up with the ledger all the same.
			select {
			case <-changed:
			case <-ctx.Done():
				return ctx.Err()
			case <-v.service.stopping:
				return errStopping
			}
			continue
		}
		for _, e := range batch {
			if err := v.see(ctx, e); err != nil {
				return err
			}
		}
		number += uint64(len(batch))
		clear(batch) // what is waited for next must not keep them
	}
}

// see sends an event if it is wanted, and keeps count.
func (v *subscription) see(ctx context.Context, e *liveEvent) error {
	select {
	case <-v.service.stopping:
		return errStopping
	default:
	}
	if e.Position <= v.at && v.all {
		return nil
	}
	if !v.all {
		if e.Stream != v.stream || uint64(e.Revision) < v.next {
			return nil
		}
		v.next = uint64(e.Revision) + 1
	}
	v.at = max(v.at, e.Position)
	v.considered++
	if v.filter.passes(e.Recorded) {
		if err := v.send(ctx, e); err != nil {
			return err
		}
	}
	if !v.all && isTombstone(e.Recorded) {
		return streamDeleted(v.stream)
	}
	if v.filter != nil && v.considered >= v.filter.every {
		return v.sendCheckpoint()
	}
	return nil
}

func (v *subscription) send(ctx context.Context, e *liveEvent) error {
	if !v.links || e.Type != typeLink {
		return v.out.Send(e.message[v.uuids]())
	}
	message, err := v.service.message(ctx, v.readRequest, e.Recorded)
	if err != nil {
		return err
	}
	return v.out.Send(message)
}

// sendCheckpoint says how far the ledger was searched. From there a filtered
// subscription may be taken up again.
func (v *subscription) sendCheckpoint() error {
	v.considered = 0
	if v.at == 0 || v.at == v.checkpoint {
		return nil
	}
	v.checkpoint = v.at
	return v.out.Send(&streams.ReadResp{Content: &streams.ReadResp_Checkpoint_{Checkpoint: &streams.ReadResp_Checkpoint{
		CommitPosition: uint64(v.at), PreparePosition: uint64(v.at),
	}}})
}

func (v *subscription) tellCaughtUp() error {
	if v.live {
		return nil
	}
	v.live = true
	if v.filter != nil {
		if err := v.sendCheckpoint(); err != nil {
			return err
		}
	}
	return v.out.Send(&streams.ReadResp{Content: &streams.ReadResp_CaughtUp_{CaughtUp: &streams.ReadResp_CaughtUp{}}})
}

// fallBehind tells a client that was live that it is not any more.
func (v *subscription) fallBehind() error {
	if !v.live {
		return nil
	}
	v.live = false
	return v.out.Send(&streams.ReadResp{Content: &streams.ReadResp_FellBehind_{FellBehind: &streams.ReadResp_FellBehind{}}})
}
