package esdbserver

import (
	"context"
	"iter"
	"strconv"
	"strings"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"

	"writ/domain/eventstore"
)

// A streamsService answers the calls of Streams. What it does not have
// (BatchAppend) is answered with UNIMPLEMENTED by the part it is made of.
type streamsService struct {
	streams.UnimplementedStreamsServer

	ledger   *ledger
	tail     *tail
	writer   *writer // nil: read-only
	stopping <-chan struct{}
}

// Read reads and subscribes.
func (s *streamsService) Read(req *streams.ReadReq, out streams.Streams_ReadServer) error {
	r, err := parseRead(req)
	if err != nil {
		return err
	}
	ctx := out.Context()
	switch {
	case r.subscribe:
		err = s.subscribe(ctx, r, out)
	case r.all:
		err = s.readAll(ctx, r, out)
	default:
		err = s.readStream(ctx, r, out)
	}
	return readFailure(err)
}

// readStream answers nothing but events, or the one message that says that
// there is no such stream; the status is OK either way.
func (s *streamsService) readStream(ctx context.Context, r readRequest, out streams.Streams_ReadServer) error {
	state, err := s.ledger.state(ctx, r.stream)
	switch {
	case err != nil:
		return err
	case state.tombstoned:
		return streamDeleted(r.stream)
	case !state.exists():
		return out.Send(notFound(r.stream))
	}
	first, last := state.first(), uint64(state.last)
	since := state.since(s.ledger.now())
	var events iter.Seq2[eventstore.Recorded, error]
	switch {
	case r.backwards && r.from.at == atStart:
		events = s.ledger.backwards(ctx, r.stream, first, 0, since)
	case r.backwards && r.from.at == atNumber:
		events = s.ledger.backwards(ctx, r.stream, first, min(r.from.number, last), since)
	case r.backwards:
		events = s.ledger.backwards(ctx, r.stream, first, last, since)
	case r.from.at == atEnd:
		events = nothing
	default: // at the start the number is 0
		events = s.ledger.forwards(ctx, r.stream, max(r.from.number, first), last, since)
	}
	sent, err := s.send(ctx, r, events, out)
	if err != nil || !r.ends {
		return err
	}
	if sent == 0 && first > r.from.number && first <= last {
		if err := out.Send(&streams.ReadResp{Content: &streams.ReadResp_FirstStreamPosition{FirstStreamPosition: first}}); err != nil {
			return err
		}
	}
	return out.Send(&streams.ReadResp{Content: &streams.ReadResp_LastStreamPosition{LastStreamPosition: last}})
}

func nothing(func(eventstore.Recorded, error) bool) {}

func notFound(stream eventstore.StreamID) *streams.ReadResp {
	return &streams.ReadResp{Content: &streams.ReadResp_StreamNotFound_{StreamNotFound: &streams.ReadResp_StreamNotFound{
		StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte(stream)},
	}}}
}

// readAll shows everything, whatever the metadata of the streams says.
func (s *streamsService) readAll(ctx context.Context, r readRequest, out streams.Streams_ReadServer) error {
	events := iter.Seq2[eventstore.Recorded, error](nothing)
	switch {
	case r.backwards && r.from.at == atEnd:
		end, err := s.ledger.end(ctx)
		if err != nil {
			return err
		}
		events = s.ledger.before(ctx, end+1, r.filter.store())
	case r.backwards && r.from.at == atNumber:
		end, err := s.ledger.end(ctx)
		if err != nil {
			return err
		}
		events = s.ledger.before(ctx, min(eventstore.Position(r.from.number), end+1), r.filter.store())
	case !r.backwards && r.from.at == atStart:
		events = s.ledger.store.ReadAll(ctx, eventstore.Cursor{}, r.filter.store())
	case !r.backwards && r.from.at == atNumber:
		// The position named is included.
		events = s.ledger.store.ReadAll(ctx, cursor(eventstore.Position(max(r.from.number, 1)-1)), r.filter.store())
	}
	_, err := s.send(ctx, r, events, out)
	return err
}

// send gives at most as many events as were asked for, and says how many.
func (s *streamsService) send(ctx context.Context, r readRequest, events iter.Seq2[eventstore.Recorded, error], out streams.Streams_ReadServer) (sent uint64, err error) {
	for e, err := range events {
		if err != nil {
			return sent, err
		}
		if !r.filter.passes(e) {
			continue
		}
		message, err := s.message(ctx, r, e)
		if err != nil {
			return sent, err
		}
		if err := out.Send(message); err != nil {
			return sent, err
		}
		if sent++; sent == r.count {
			break
		}
	}
	return sent, nil
}

// message puts an event into a message, with what it links to if that was
// asked for.
func (s *streamsService) message(ctx context.Context, r readRequest, e eventstore.Recorded) (*streams.ReadResp, error) {
	if !r.links || e.Type != typeLink {
		return plainEvent(e, r.uuids), nil
	}
	target, ok, err := s.target(ctx, e)
	if err != nil || !ok {
		return linkedEvent(e, nil, r.uuids), err
	}
	return linkedEvent(e, &target, r.uuids), nil
}

// target gives the event that a link names, if it is there to be shown.
func (s *streamsService) target(ctx context.Context, link eventstore.Recorded) (eventstore.Recorded, bool, error) {
	number, name, ok := strings.Cut(string(link.Data), "@")
	revision, err := strconv.ParseUint(number, 10, 63)
	if !ok || err != nil || name == "" {
		return eventstore.Recorded{}, false, nil //nolint:nilerr // it leads nowhere
	}
	stream := eventstore.StreamID(name)
	state, err := s.ledger.state(ctx, stream)
	if err != nil || state.tombstoned || state.deleted() || revision < state.first() {
		return eventstore.Recorded{}, false, err
	}
	e, ok, err := s.ledger.event(ctx, stream, eventstore.Revision(revision))
	if err != nil || !ok || e.RecordedAt.Before(state.since(s.ledger.now())) {
		return e, false, err
	}
	return e, true, nil
}
