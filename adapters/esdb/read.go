package esdb

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"

	"writ/domain/eventstore"
)

const (
	pageEvents = 256
	// pageBytes ends a page early, so that a reader holds little more than
	// this, however large the events are.
	pageBytes = 4 << 20
)

// A page is a part of a stream, without a gap.
type page struct {
	events []eventstore.Recorded
	last   bool // the stream ended here
}

func readOptions() *streams.ReadReq_Options {
	return &streams.ReadReq_Options{
		FilterOption: &streams.ReadReq_Options_NoFilter{NoFilter: &shared.Empty{}},
		UuidOption: &streams.ReadReq_Options_UUIDOption{
			Content: &streams.ReadReq_Options_UUIDOption_Structured{Structured: &shared.Empty{}},
		},
	}
}

// pageOver reads at most n events of a stream. A stream that has events but
// does not begin with revision 0, or leaves one out, is an
// *eventstore.CorruptError.
func (c *client) pageOver(ctx context.Context, l *link, stream eventstore.StreamID, from eventstore.Revision, n int) (page, error) {
	o := readOptions()
	o.ReadDirection = streams.ReadReq_Options_Forwards
	o.CountOption = &streams.ReadReq_Options_Count{Count: uint64(n)}
	o.StreamOption = &streams.ReadReq_Options_Stream{Stream: &streams.ReadReq_Options_StreamOptions{
		StreamIdentifier: streamName(stream),
		// No stream gets to the largest number, and what lies beyond it has
		// meanings of its own.
		RevisionOption: &streams.ReadReq_Options_StreamOptions_Revision{Revision: min(uint64(from), maxNumber-1)},
	}}
	p := page{}
	next, bytes := from, 0
	missing := false
	err := c.read(ctx, l, o, func(e eventstore.Recorded) (bool, error) {
		if e.Stream != stream {
			return false, nonsense("an event of %.300s among those of %s", e.Stream, stream)
		}
		if e.Revision != next {
			return false, &eventstore.CorruptError{
				Stream: stream,
				Why:    fmt.Sprintf("revision %d is missing, the next that can be read is %d: the stream was deleted or truncated", next, e.Revision),
			}
		}
		next++
		bytes += len(e.Data) + len(e.Metadata)
		p.events = append(p.events, e)
		return len(p.events) < n && bytes < pageBytes, nil
	}, &missing)
	switch {
	case err != nil:
		return page{}, deletedFrom(stream, err)
	case missing:
		return page{}, eventstore.ErrStreamNotFound
	case len(p.events) == 0 && from == 0:
		return page{}, &eventstore.CorruptError{Stream: stream, Why: "it exists, but none of its events can be read: it was truncated"}
	}
	p.last = len(p.events) < n && bytes < pageBytes
	return p, nil
}

// headOver reads the newest event of a stream.
func (c *client) headOver(ctx context.Context, l *link, stream eventstore.StreamID) (eventstore.Recorded, error) {
	o := readOptions()
	o.ReadDirection = streams.ReadReq_Options_Backwards
	o.CountOption = &streams.ReadReq_Options_Count{Count: 1}
	o.StreamOption = &streams.ReadReq_Options_Stream{Stream: &streams.ReadReq_Options_StreamOptions{
		StreamIdentifier: streamName(stream),
		RevisionOption:   &streams.ReadReq_Options_StreamOptions_End{End: &shared.Empty{}},
	}}
	e, found, missing, err := c.newest(ctx, l, o)
	switch {
	case err != nil:
		return eventstore.Recorded{}, deletedFrom(stream, err)
	case missing:
		return eventstore.Recorded{}, eventstore.ErrStreamNotFound
	case !found:
		return eventstore.Recorded{}, &eventstore.CorruptError{Stream: stream, Why: "it exists, but none of its events can be read: it was truncated"}
	case e.Stream != stream:
		return eventstore.Recorded{}, nonsense("an event of %.300s as the head of %s", e.Stream, stream)
	}
	return e, nil
}

// endOver gives the cursor behind the newest event of the whole database.
func (c *client) endOver(ctx context.Context, l *link) (eventstore.Cursor, error) {
	o := readOptions()
	o.ReadDirection = streams.ReadReq_Options_Backwards
	o.CountOption = &streams.ReadReq_Options_Count{Count: 1}
	o.StreamOption = &streams.ReadReq_Options_All{All: &streams.ReadReq_Options_AllOptions{
		AllOption: &streams.ReadReq_Options_AllOptions_End{End: &shared.Empty{}},
	}}
	e, found, _, err := c.newest(ctx, l, o)
	if err != nil || !found {
		return eventstore.Cursor{}, err
	}
	return eventstore.After(e.Position), nil
}

func (c *client) newest(ctx context.Context, l *link, o *streams.ReadReq_Options) (e eventstore.Recorded, found, missing bool, err error) {
	err = c.read(ctx, l, o, func(r eventstore.Recorded) (bool, error) {
		e, found = r, true
		return false, nil
	}, &missing)
	return e, found, missing, err
}

// read makes one read that ends by itself, and gives each event to one, which
// says whether to go on. missing is set if the server says that there is no
// such stream.
func (c *client) read(ctx context.Context, l *link, o *streams.ReadReq_Options, one func(eventstore.Recorded) (bool, error), missing *bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // frees a call that was left before its end
	began := l.now()
	call, err := l.streams.Read(ctx, &streams.ReadReq{Options: o})
	if err != nil {
		return c.failed(ctx, l, began, err, nil)
	}
	for events := 0; ; {
		reply, err := call.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return c.failed(ctx, l, began, err, call.Trailer())
		}
		l.hear()
		switch r := reply.GetContent().(type) {
		case *streams.ReadResp_StreamNotFound_:
			if events > 0 {
				return nonsense("no such stream, after %d of its events", events)
			}
			*missing = true
		case *streams.ReadResp_Event:
			events++
			e, err := recorded(r.Event)
			if err != nil {
				return err
			}
			if *missing {
				return nonsense("an event of a stream that does not exist")
			}
			if more, err := one(e); err != nil || !more {
				return err
			}
		default:
			// Hints such as the stream's first and last revision; nothing
			// rests on them.
		}
	}
}
