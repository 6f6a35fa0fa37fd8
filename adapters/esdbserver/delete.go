package esdbserver

import (
	"context"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	"writ/domain/eventstore"
)

// Delete hides a stream until it is written to again.
func (s *streamsService) Delete(ctx context.Context, req *streams.DeleteReq) (*streams.DeleteResp, error) {
	if s.writer == nil {
		return nil, errReadOnly
	}
	stream, expected, err := parseDelete(req.GetOptions())
	if err != nil {
		return nil, err
	}
	position, err := s.writer.delete(ctx, stream, expected, false)
	if err != nil {
		return nil, appendFailure(err)
	}
	return &streams.DeleteResp{PositionOption: &streams.DeleteResp_Position_{Position: &streams.DeleteResp_Position{
		CommitPosition: uint64(position), PreparePosition: uint64(position),
	}}}, nil
}

// Tombstone ends a stream for good.
func (s *streamsService) Tombstone(ctx context.Context, req *streams.TombstoneReq) (*streams.TombstoneResp, error) {
	if s.writer == nil {
		return nil, errReadOnly
	}
	stream, expected, err := parseTombstone(req.GetOptions())
	if err != nil {
		return nil, err
	}
	position, err := s.writer.delete(ctx, stream, expected, true)
	if err != nil {
		return nil, appendFailure(err)
	}
	return &streams.TombstoneResp{PositionOption: &streams.TombstoneResp_Position_{Position: &streams.TombstoneResp_Position{
		CommitPosition: uint64(position), PreparePosition: uint64(position),
	}}}, nil
}

// delete writes the event that deletes a stream, and gives its position.
func (w *writer) delete(ctx context.Context, stream eventstore.StreamID, expected expectation, forGood bool) (position eventstore.Position, err error) {
	id, err := uuid.NewRandom()
	if err != nil {
		return 0, err
	}
	e := eventstore.Proposed{ID: eventstore.EventID(id), Type: typeDeleted}
	err = w.decided(ctx, stream, func() (err error) {
		position, err = w.tryDelete(ctx, stream, expected, e, forGood)
		return err
	})
	return position, err
}

func (w *writer) tryDelete(ctx context.Context, stream eventstore.StreamID, expected expectation, e eventstore.Proposed, forGood bool) (eventstore.Position, error) {
	v, err := w.decide(ctx, stream, expected, []eventstore.Proposed{e})
	switch {
	case err != nil:
		return 0, err
	case v.is == verdictDeleted:
		return 0, streamDeleted(stream)
	case v.is != verdictWrite, !forGood && v.state.last < 0 && v.state.metaLast < 0:
		return 0, wrongVersion(stream, expected, v.state.last)
	}
	if forGood {
		done, err := w.put(ctx, stream, v.state.last, []eventstore.Proposed{e})
		return done.Position, err
	}
	e.Type, e.Data = typeMetadata, withTruncateBefore(nil, deletedBefore)
	done, err := w.put(ctx, metaOf(stream), v.state.metaLast, []eventstore.Proposed{e})
	return done.Position, err
}

func parseDelete(o *streams.DeleteReq_Options) (eventstore.StreamID, expectation, error) {
	stream, err := parseDeletable(o.GetStreamIdentifier())
	if err != nil {
		return "", 0, err
	}
	switch e := o.GetExpectedStreamRevision().(type) {
	case *streams.DeleteReq_Options_Revision:
		expected, err := expectRevision(e.Revision)
		return stream, expected, err
	case *streams.DeleteReq_Options_NoStream:
		return stream, expectNoStream, nil
	case *streams.DeleteReq_Options_Any:
		return stream, expectAny, nil
	case *streams.DeleteReq_Options_StreamExists:
		return stream, expectExists, nil
	}
	return "", 0, errNoExpectation
}

func parseTombstone(o *streams.TombstoneReq_Options) (eventstore.StreamID, expectation, error) {
	stream, err := parseDeletable(o.GetStreamIdentifier())
	if err != nil {
		return "", 0, err
	}
	switch e := o.GetExpectedStreamRevision().(type) {
	case *streams.TombstoneReq_Options_Revision:
		expected, err := expectRevision(e.Revision)
		return stream, expected, err
	case *streams.TombstoneReq_Options_NoStream:
		return stream, expectNoStream, nil
	case *streams.TombstoneReq_Options_Any:
		return stream, expectAny, nil
	case *streams.TombstoneReq_Options_StreamExists:
		return stream, expectExists, nil
	}
	return "", 0, errNoExpectation
}

var errNoExpectation = fail(codes.InvalidArgument, "delete: no expected revision was given")

func parseDeletable(id *shared.StreamIdentifier) (eventstore.StreamID, error) {
	stream, err := parseStream(id)
	if err != nil {
		return "", err
	}
	if _, is := owner(stream); is || stream == "$all" {
		return "", fail(codes.InvalidArgument, "stream %q can't be deleted", stream)
	}
	return stream, nil
}
