package esdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"

	"writ/domain/eventstore"
)

// append makes one append, once.
func (c *client) append(ctx context.Context, stream eventstore.StreamID, expected eventstore.Expected, events []eventstore.Proposed) (eventstore.Appended, error) {
	done, err := c.send(ctx, stream, expected, events)
	var wrong *eventstore.WrongRevisionError
	if err != nil && !errors.As(err, &wrong) {
		err = fmt.Errorf("append %s at %s: %w", stream, expected, deletedFrom(stream, err))
	}
	return done, err
}

func (c *client) send(ctx context.Context, stream eventstore.StreamID, expected eventstore.Expected, events []eventstore.Proposed) (eventstore.Appended, error) {
	ctx, cancel := c.call(ctx)
	defer cancel()
	l, err := c.acquire(ctx)
	if err != nil {
		return eventstore.Appended{}, err
	}
	began := l.now()
	call, err := l.streams.Append(ctx)
	if err != nil {
		return eventstore.Appended{}, c.failed(ctx, l, began, err, nil)
	}
	// If the server has answered already, Send gives io.EOF, and the reply says
	// why.
	err = call.Send(optionsOf(stream, expected))
	for i := 0; err == nil && i < len(events); i++ {
		err = call.Send(messageOf(events[i]))
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return eventstore.Appended{}, c.failed(ctx, l, began, err, nil)
	}
	// Nothing is appended before the request has been closed. If this line
	// fails, all of it may have arrived nevertheless.
	reply, err := call.CloseAndRecv()
	if err != nil {
		return eventstore.Appended{}, c.failed(ctx, l, began, err, call.Trailer())
	}
	l.hear()
	done, err := judge(stream, expected, len(events), reply)
	if errors.Is(err, errNoPosition) {
		if found, ok := c.lookUp(ctx, l, stream, expected, events); ok {
			return found, nil
		}
	}
	return done, err
}

// lookUp reads whether exactly these events are on record at their place. It
// settles what a success without a position leaves open: a server that answers
// so to an append that is on record would answer so to each repetition.
func (c *client) lookUp(ctx context.Context, l *link, stream eventstore.StreamID, expected eventstore.Expected, events []eventstore.Proposed) (eventstore.Appended, bool) {
	var done eventstore.Appended
	for next := expected.Next(); len(events) > 0; {
		p, err := c.pageOver(ctx, l, stream, next, len(events))
		if err != nil || len(p.events) == 0 {
			return done, false // as unknown as it was
		}
		for i, e := range p.events {
			w := events[i]
			if e.ID != w.ID || e.Type != w.Type || !bytes.Equal(e.Data, w.Data) || !bytes.Equal(e.Metadata, w.Metadata) {
				return done, false
			}
			done = eventstore.Appended{Revision: e.Revision, Position: e.Position}
			next = e.Revision + 1
		}
		events = events[len(p.events):]
	}
	return done, true
}

// errNoPosition is inside the error of an append that was answered with
// success and without a position.
var errNoPosition = errors.New("a success without a position")

// judge says what an answer to an append proves. Only two answers prove
// anything: a success with the revision that must come out and a position, and
// a stream found in another state than expected. After any other the outcome
// is unknown.
func judge(stream eventstore.StreamID, expected eventstore.Expected, n int, reply *streams.AppendResp) (eventstore.Appended, error) {
	switch r := reply.GetResult().(type) {
	case *streams.AppendResp_Success_:
		revision, ok := r.Success.GetCurrentRevisionOption().(*streams.AppendResp_Success_CurrentRevision)
		if !ok {
			return eventstore.Appended{}, nonsense("a success without a revision")
		}
		got, want := eventstore.Revision(revision.CurrentRevision), expected.Next()+eventstore.Revision(n)-1
		if got != want {
			// Written, but not where the stream's first events belong: there
			// were others, and they were deleted. Or an answer to nothing that
			// was asked.
			return eventstore.Appended{}, &eventstore.CorruptError{
				Stream: stream,
				Why:    fmt.Sprintf("an append at %s was answered with revision %d, which must be %d: the stream was deleted or truncated", expected, got, want),
			}
		}
		// At 0 stands the database's own first record.
		position := r.Success.GetPosition().GetCommitPosition()
		if position == 0 || position > maxNumber {
			return eventstore.Appended{}, &replyError{why: fmt.Sprintf("position %d", position), inside: errNoPosition}
		}
		return eventstore.Appended{Revision: got, Position: eventstore.Position(position)}, nil
	case *streams.AppendResp_WrongExpectedVersion_:
		actual, err := standing(r.WrongExpectedVersion)
		if err != nil {
			return eventstore.Appended{}, err
		}
		if actual == expected {
			return eventstore.Appended{}, nonsense("refused because the stream is at %s, where it was expected", actual)
		}
		return eventstore.Appended{}, &eventstore.WrongRevisionError{Stream: stream, Expected: expected, Actual: actual}
	}
	return eventstore.Appended{}, nonsense("neither success nor refusal")
}

// standing says where a stream stands that was not as expected.
func standing(w *streams.AppendResp_WrongExpectedVersion) (eventstore.Expected, error) {
	switch is := w.GetCurrentRevisionOption().(type) {
	case *streams.AppendResp_WrongExpectedVersion_CurrentRevision:
		if is.CurrentRevision > maxNumber {
			return eventstore.Expected{}, nonsense("a stream at revision %d", is.CurrentRevision)
		}
		return eventstore.At(eventstore.Revision(is.CurrentRevision)), nil
	case *streams.AppendResp_WrongExpectedVersion_CurrentNoStream:
		return eventstore.NoStream(), nil
	}
	// Nothing was appended then, but whoever forgets to say where the stream
	// stands may have forgotten more.
	return eventstore.Expected{}, nonsense("a refusal that does not say where the stream stands")
}
