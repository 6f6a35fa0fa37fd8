package esdbserver

import (
	"strconv"
	"strings"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"

	"writ/domain/eventstore"
)

// Types of events that mean something to the protocol.
const (
	typeDeleted  = "$streamDeleted" // a tombstone
	typeMetadata = "$metadata"
	typeLink     = "$>"
)

// Content types, of which the protocol knows two.
const (
	contentJSON   = "application/json"
	contentBinary = "application/octet-stream"
)

// maxNumber is the largest revision and position; the revision of a tombstone.
const maxNumber = 1<<63 - 1

// Marks behind a type, for the content type that the port does not have. The
// second one is needed only where the type itself looks as if it had one.
const (
	binaryMark = "\x00b"
	jsonMark   = "\x00j"
)

// StoredType gives the type under which an event is stored: its own if the
// content is JSON, as all of the service's own events are, otherwise with a
// mark of two bytes behind it. For loading a store with events that were
// written elsewhere.
func StoredType(eventType, contentType string) string {
	switch {
	case contentType != contentJSON:
		return eventType + binaryMark
	case strings.HasSuffix(eventType, binaryMark), strings.HasSuffix(eventType, jsonMark):
		return eventType + jsonMark
	}
	return eventType
}

// shownType is the reverse of StoredType.
func shownType(stored string) (eventType, contentType string) {
	if t, binary := strings.CutSuffix(stored, binaryMark); binary {
		return t, contentBinary
	}
	return strings.TrimSuffix(stored, jsonMark), contentJSON
}

// ticks counts 100 ns from 1970 on. The Go client ends its process if an event
// comes without it.
func ticks(t time.Time) int64 { return t.Unix()*1e7 + int64(t.Nanosecond())/100 }

func encodeEvent(e eventstore.Recorded, form uuidForm) *streams.ReadResp_ReadEvent_RecordedEvent {
	eventType, contentType := shownType(e.Type)
	revision := uint64(e.Revision)
	if isTombstone(e) {
		revision = maxNumber
	}
	return &streams.ReadResp_ReadEvent_RecordedEvent{
		Id:               encodeUUID(e.ID, form),
		StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte(e.Stream)},
		StreamRevision:   revision,
		CommitPosition:   uint64(e.Position),
		PreparePosition:  uint64(e.Position),
		Metadata: map[string]string{
			"type":         eventType,
			"content-type": contentType,
			"created":      strconv.FormatInt(ticks(e.RecordedAt), 10),
		},
		CustomMetadata: e.Metadata,
		Data:           e.Data,
	}
}

// isTombstone tells whether an event ends its stream for good. Clients can't
// append such an event but by a tombstone.
func isTombstone(e eventstore.Recorded) bool { return e.Type == typeDeleted }

// plainEvent is an event without looking where a link leads.
func plainEvent(e eventstore.Recorded, form uuidForm) *streams.ReadResp {
	return eventMessage(&streams.ReadResp_ReadEvent{
		Event:    encodeEvent(e, form),
		Position: &streams.ReadResp_ReadEvent_CommitPosition{CommitPosition: uint64(e.Position)},
	})
}

// linkedEvent is a link with what it leads to; nil if that is gone.
func linkedEvent(link eventstore.Recorded, target *eventstore.Recorded, form uuidForm) *streams.ReadResp {
	r := &streams.ReadResp_ReadEvent{
		Link:     encodeEvent(link, form),
		Position: &streams.ReadResp_ReadEvent_CommitPosition{CommitPosition: uint64(link.Position)},
	}
	if target != nil {
		r.Event = encodeEvent(*target, form)
	}
	return eventMessage(r)
}

func eventMessage(e *streams.ReadResp_ReadEvent) *streams.ReadResp {
	return &streams.ReadResp{Content: &streams.ReadResp_Event{Event: e}}
}
