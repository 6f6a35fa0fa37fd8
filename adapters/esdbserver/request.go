package esdbserver

import (
	"math"
	"unicode/utf8"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc/codes"

	"writ/domain/eventstore"
)

// A readRequest is a call of Streams.Read, checked for form.
type readRequest struct {
	all       bool
	stream    eventstore.StreamID // if not all
	from      place
	backwards bool
	count     uint64 // at least 1; not of a subscription
	subscribe bool
	filter    *filter // nil: everything
	links     bool    // resolve them
	uuids     uuidForm
	// ends asks for the numbers of the stream's ends beside the events. The
	// Go client never asks, and panics on a message that it does not expect.
	ends bool
}

// A place is where a read begins.
type place struct {
	at     placeKind
	number uint64 // of number: a revision or a position, at most maxNumber
}

type placeKind uint8

const (
	atStart placeKind = iota + 1
	atEnd
	atNumber
)

// numbered reads a number in which all bits stand for the end.
func numbered(n uint64, of string) (place, error) {
	switch {
	case n == math.MaxUint64:
		return place{at: atEnd}, nil
	case n > maxNumber:
		return place{}, fail(codes.InvalidArgument, "%s %d: at most %d is possible", of, n, uint64(maxNumber))
	}
	return place{at: atNumber, number: n}, nil
}

func parseRead(req *streams.ReadReq) (r readRequest, err error) {
	o := req.GetOptions()
	if r.uuids, err = parseUUIDOption(o.GetUuidOption()); err != nil {
		return r, err
	}
	switch of := o.GetStreamOption().(type) {
	case *streams.ReadReq_Options_Stream:
		if r.stream, err = parseStream(of.Stream.GetStreamIdentifier()); err != nil {
			return r, err
		}
		r.from, err = parseRevision(of.Stream)
	case *streams.ReadReq_Options_All:
		r.all = true
		r.from, err = parsePosition(of.All)
	default:
		err = fail(codes.InvalidArgument, "read: neither a stream nor all was named")
	}
	if err != nil {
		return r, err
	}
	switch o.GetReadDirection() {
	case streams.ReadReq_Options_Forwards:
	case streams.ReadReq_Options_Backwards:
		r.backwards = true
	default:
		return r, fail(codes.InvalidArgument, "read: direction %d is unknown", o.GetReadDirection())
	}
	switch n := o.GetCountOption().(type) {
	case *streams.ReadReq_Options_Count:
		if r.count = n.Count; r.count == 0 {
			return r, fail(codes.InvalidArgument, "read: a count of 0")
		}
	case *streams.ReadReq_Options_Subscription:
		r.subscribe = true
	default:
		return r, fail(codes.InvalidArgument, "read: neither a count nor a subscription was asked for")
	}
	if f := o.GetFilter(); f != nil {
		if r.filter, err = parseFilter(f); err != nil {
			return r, err
		}
	}
	switch {
	case r.filter != nil && !r.all:
		return r, fail(codes.InvalidArgument, "read: only all can be filtered, not one stream")
	case r.subscribe && r.backwards:
		return r, fail(codes.InvalidArgument, "read: a subscription runs forwards")
	case r.subscribe && r.filter != nil && r.filter.every == 0:
		return r, fail(codes.InvalidArgument, "read: the checkpoint interval multiplier is 0")
	}
	r.links = o.GetResolveLinks()
	r.ends = o.GetControlOption().GetCompatibility() >= 1
	return r, nil
}

func parseUUIDOption(o *streams.ReadReq_Options_UUIDOption) (uuidForm, error) {
	switch o.GetContent().(type) {
	case *streams.ReadReq_Options_UUIDOption_Structured:
		return structured, nil
	case *streams.ReadReq_Options_UUIDOption_String_:
		return textual, nil
	}
	return 0, fail(codes.InvalidArgument, "read: the form of ids (uuid_option) was not given")
}

func parseRevision(o *streams.ReadReq_Options_StreamOptions) (place, error) {
	switch at := o.GetRevisionOption().(type) {
	case *streams.ReadReq_Options_StreamOptions_Start:
		return place{at: atStart}, nil
	case *streams.ReadReq_Options_StreamOptions_End:
		return place{at: atEnd}, nil
	case *streams.ReadReq_Options_StreamOptions_Revision:
		return numbered(at.Revision, "revision")
	}
	return place{}, fail(codes.InvalidArgument, "read: no revision was given to begin at")
}

func parsePosition(o *streams.ReadReq_Options_AllOptions) (place, error) {
	switch at := o.GetAllOption().(type) {
	case *streams.ReadReq_Options_AllOptions_Start:
		return place{at: atStart}, nil
	case *streams.ReadReq_Options_AllOptions_End:
		return place{at: atEnd}, nil
	case *streams.ReadReq_Options_AllOptions_Position:
		commit, prepare := at.Position.GetCommitPosition(), at.Position.GetPreparePosition()
		if commit < prepare {
			return place{}, fail(codes.InvalidArgument, "position %d/%d: the first number must not be below the second", commit, prepare)
		}
		return numbered(commit, "position")
	}
	return place{}, fail(codes.InvalidArgument, "read: no position was given to begin at")
}

// parseStream checks a stream's name. Whether it can be written to is for the
// store to say.
func parseStream(id *shared.StreamIdentifier) (eventstore.StreamID, error) {
	name := string(id.GetStreamName())
	switch {
	case name == "" || name == "$$":
		return "", fail(codes.InvalidArgument, "the stream has no name")
	case !utf8.ValidString(name):
		return "", fail(codes.InvalidArgument, "stream %q: the name is not UTF-8", name)
	}
	return eventstore.StreamID(name), nil
}
