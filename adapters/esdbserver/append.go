package esdbserver

import (
	"context"
	"errors"
	"io"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"writ/domain/eventstore"
)

const (
	// A call that is going to fail is read to its end all the same, since the Go
	// client reports the status only if it could send everything. Beyond so many
	// bytes it is cut off.
	drainBytes = 64 << 20
	// strangerBytes is the same for somebody who did not sign in.
	strangerBytes = 2 << 20
	// maxAppendBytes is the protocol's limit for what an append holds, in which
	// types count twice. The store's own, for data and metadata, is below it.
	maxAppendBytes = 1 << 20
	// maxAppendEvents bounds the events of one call, which may have no content.
	maxAppendEvents = 16 << 10
)

// An appendRequest is a call of Streams.Append, checked for form.
type appendRequest struct {
	stream   eventstore.StreamID
	expected expectation
	events   []eventstore.Proposed
}

// Append puts events at the end of a stream, all of them or none.
func (s *streamsService) Append(in streams.Streams_AppendServer) error {
	if s.writer == nil {
		drain(in, new(streams.AppendReq), drainBytes)
		return errReadOnly
	}
	r, err := receiveAppend(in)
	if err != nil {
		return err
	}
	answer, err := s.writer.append(in.Context(), r)
	if err != nil {
		return appendFailure(err)
	}
	return in.SendAndClose(answer)
}

var errReadOnly = accessDenied("this server is read-only")

// receiveAppend reads the whole call, and keeps no more of it than an append
// may have.
func receiveAppend(in streams.Streams_AppendServer) (r appendRequest, err error) {
	content, types, received := 0, 0, 0
	tooLarge := func() bool { return content > eventstore.MaxEventBytes || content+types > maxAppendBytes }
	for n := 0; ; n++ {
		req, receiveErr := in.Recv()
		switch {
		case errors.Is(receiveErr, io.EOF) && n == 0:
			return r, fail(codes.InvalidArgument, "append: nothing was sent")
		case errors.Is(receiveErr, io.EOF):
			if err == nil && tooLarge() {
				err = appendTooLarge(content + types)
			}
			return r, err
		case receiveErr != nil:
			return r, receiveErr
		}
		message := req.GetProposedMessage()
		if received += len(message.GetData()) + len(message.GetCustomMetadata()) + 64; received > drainBytes {
			return r, appendTooLarge(received)
		}
		switch {
		case err != nil: // only read on
		case n == 0:
			r.stream, r.expected, err = parseAppendOptions(req.GetOptions())
		case message == nil:
			err = fail(codes.InvalidArgument, "append: message %d holds no event", n)
		default:
			var e eventstore.Proposed
			if e, err = parseProposed(message, n-1); err != nil {
				continue
			}
			if len(r.events) == maxAppendEvents {
				err = fail(codes.InvalidArgument, "append: more than %d events", maxAppendEvents)
				continue
			}
			content += len(e.Data) + len(e.Metadata)
			types += 2 * len(e.Type)
			if !tooLarge() {
				r.events = append(r.events, e)
			}
		}
	}
}

func parseAppendOptions(o *streams.AppendReq_Options) (eventstore.StreamID, expectation, error) {
	if o == nil {
		return "", 0, fail(codes.InvalidArgument, "append: the first message must say to which stream")
	}
	stream, err := parseStream(o.GetStreamIdentifier())
	if err != nil {
		return "", 0, err
	}
	if stream == "$all" {
		return "", 0, accessDenied("nothing can be appended to $all")
	}
	switch e := o.GetExpectedStreamRevision().(type) {
	case *streams.AppendReq_Options_Revision:
		expected, err := expectRevision(e.Revision)
		return stream, expected, err
	case *streams.AppendReq_Options_NoStream:
		return stream, expectNoStream, nil
	case *streams.AppendReq_Options_Any:
		return stream, expectAny, nil
	case *streams.AppendReq_Options_StreamExists:
		return stream, expectExists, nil
	}
	return "", 0, fail(codes.InvalidArgument, "append: no expected revision was given")
}

func parseProposed(m *streams.AppendReq_ProposedMessage, n int) (eventstore.Proposed, error) {
	id, err := decodeUUID(m.GetId())
	if err != nil {
		return eventstore.Proposed{}, fail(codes.InvalidArgument, "event %d: %v", n, err)
	}
	eventType, hasType := m.GetMetadata()["type"]
	contentType, hasContent := m.GetMetadata()["content-type"]
	switch {
	case !hasType || !hasContent:
		return eventstore.Proposed{}, missingMetadata(n)
	case eventType == "":
		return eventstore.Proposed{}, fail(codes.InvalidArgument, "event %d: the type is empty", n)
	case eventType == typeDeleted:
		return eventstore.Proposed{}, accessDenied("events of type " + typeDeleted + " are written by a tombstone alone")
	}
	return eventstore.Proposed{ID: id, Type: StoredType(eventType, contentType), Data: m.GetData(), Metadata: m.GetCustomMetadata()}, nil
}

// drain reads a call to its end, or until it has had enough of it.
func drain(in grpc.ServerStream, message *streams.AppendReq, most int) {
	for size := 0; size < most; {
		if in.RecvMsg(message) != nil {
			return
		}
		m := message.GetProposedMessage()
		size += len(m.GetData()) + len(m.GetCustomMetadata()) + 64
	}
}

// appended is the answer to an append that is on record. revision is -1 if
// there is no event in the stream, and position 0 if the append had none.
func appended(revision int64, position eventstore.Position) *streams.AppendResp {
	s := &streams.AppendResp_Success{}
	if revision < 0 {
		s.CurrentRevisionOption = &streams.AppendResp_Success_NoStream{NoStream: &shared.Empty{}}
	} else {
		s.CurrentRevisionOption = &streams.AppendResp_Success_CurrentRevision{CurrentRevision: uint64(revision)}
	}
	if position == 0 {
		s.PositionOption = &streams.AppendResp_Success_NoPosition{NoPosition: &shared.Empty{}}
	} else {
		s.PositionOption = &streams.AppendResp_Success_Position{Position: &streams.AppendResp_Position{
			CommitPosition: uint64(position), PreparePosition: uint64(position),
		}}
	}
	return &streams.AppendResp{Result: &streams.AppendResp_Success_{Success: s}}
}

// append decides an append and carries it out.
func (w *writer) append(ctx context.Context, r appendRequest) (answer *streams.AppendResp, err error) {
	err = w.decided(ctx, r.stream, func() (err error) {
		answer, err = w.tryAppend(ctx, r)
		return err
	})
	return answer, err
}

func (w *writer) tryAppend(ctx context.Context, r appendRequest) (*streams.AppendResp, error) {
	v, err := w.decide(ctx, r.stream, r.expected, r.events)
	switch {
	case err != nil:
		return nil, err
	case v.is == verdictDeleted:
		return nil, streamDeleted(r.stream)
	case v.is == verdictWrong:
		return wrongExpectedVersion(r.expected, v.state.last), nil
	case v.is == verdictRepeated:
		return appended(int64(v.revision), v.position), nil
	case len(r.events) == 0:
		return appended(v.state.last, 0), nil
	}
	done, err := w.write(ctx, r.stream, v.state, r.events[v.written:])
	if err != nil {
		return nil, err
	}
	return appended(int64(done.Revision), done.Position), nil
}
