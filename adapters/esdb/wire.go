package esdb

import (
	"encoding/binary"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"

	"writ/domain/eventstore"
)

func streamName(s eventstore.StreamID) *shared.StreamIdentifier {
	return &shared.StreamIdentifier{StreamName: []byte(s)}
}

// wireID gives an event's id as two big-endian halves.
func wireID(id eventstore.EventID) *shared.UUID {
	return &shared.UUID{Value: &shared.UUID_Structured_{Structured: &shared.UUID_Structured{
		MostSignificantBits:  int64(binary.BigEndian.Uint64(id[:8])),
		LeastSignificantBits: int64(binary.BigEndian.Uint64(id[8:])),
	}}}
}

// eventID understands both forms of an id; false for none.
func eventID(u *shared.UUID) (id eventstore.EventID, ok bool) {
	switch v := u.GetValue().(type) {
	case *shared.UUID_Structured_:
		binary.BigEndian.PutUint64(id[:8], uint64(v.Structured.GetMostSignificantBits()))
		binary.BigEndian.PutUint64(id[8:], uint64(v.Structured.GetLeastSignificantBits()))
	case *shared.UUID_String_:
		parsed, err := uuid.Parse(v.String_)
		if err != nil {
			return id, false
		}
		id = eventstore.EventID(parsed)
	}
	return id, id != eventstore.EventID{}
}

// contentType is what EventStoreDB is told of every event's data. It is true of
// all that the service writes; the database does not check it, and keeps the
// bytes as they are whatever it is told.
const contentType = "application/json"

func optionsOf(stream eventstore.StreamID, expected eventstore.Expected) *streams.AppendReq {
	o := &streams.AppendReq_Options{StreamIdentifier: streamName(stream)}
	if r, ok := expected.Revision(); ok {
		o.ExpectedStreamRevision = &streams.AppendReq_Options_Revision{Revision: uint64(r)}
	} else {
		o.ExpectedStreamRevision = &streams.AppendReq_Options_NoStream{NoStream: &shared.Empty{}}
	}
	return &streams.AppendReq{Content: &streams.AppendReq_Options_{Options: o}}
}

func messageOf(e eventstore.Proposed) *streams.AppendReq {
	return &streams.AppendReq{Content: &streams.AppendReq_ProposedMessage_{ProposedMessage: &streams.AppendReq_ProposedMessage{
		Id:             wireID(e.ID),
		Metadata:       map[string]string{"type": e.Type, "content-type": contentType},
		CustomMetadata: e.Metadata,
		Data:           e.Data,
	}}}
}

// recorded understands an event of a reply. Nothing in it is taken for granted.
func recorded(r *streams.ReadResp_ReadEvent) (eventstore.Recorded, error) {
	e := r.GetEvent()
	switch {
	case e == nil:
		return eventstore.Recorded{}, nonsense("an event without an event")
	case r.GetLink() != nil:
		return eventstore.Recorded{}, nonsense("a resolved link, which was not asked for")
	}
	name := string(e.GetStreamIdentifier().GetStreamName())
	if name == "" || !utf8.ValidString(name) {
		return eventstore.Recorded{}, nonsense("an event of stream %.60q", name)
	}
	bad := func(format string, args ...any) (eventstore.Recorded, error) {
		return eventstore.Recorded{}, nonsense("event %d of %.300s: "+format, append([]any{e.GetStreamRevision(), name}, args...)...)
	}
	id, ok := eventID(e.GetId())
	if !ok {
		return bad("it has no id")
	}
	typ, ok := e.GetMetadata()["type"]
	if !ok || !utf8.ValidString(typ) {
		return bad("it has no type")
	}
	ticks, err := strconv.ParseInt(e.GetMetadata()["created"], 10, 64)
	if err != nil || ticks < 0 {
		return bad("created is %.30q, want a count of 100 ns since 1970", e.GetMetadata()["created"])
	}
	const perSecond = 10_000_000
	if p := e.GetCommitPosition(); p == 0 || p > maxNumber {
		return bad("position %d", p)
	}
	return eventstore.Recorded{
		Stream:     eventstore.StreamID(name),
		Revision:   eventstore.Revision(e.GetStreamRevision()),
		Position:   eventstore.Position(e.GetCommitPosition()),
		ID:         id,
		Type:       typ,
		Data:       e.GetData(),
		Metadata:   e.GetCustomMetadata(),
		RecordedAt: time.Unix(ticks/perSecond, ticks%perSecond*100).UTC(),
	}, nil
}
