package eventstore

import (
	"fmt"
	"math"
	"unicode/utf8"
)

// CheckAppend gives the *InvalidError with which every store refuses an append
// that breaks the form: an invalid expectation or one that no stream can meet,
// no event or too many or too large, a name that is empty, too long, not UTF-8
// or the store's own, an id that is zero or used twice within the append.
func CheckAppend(stream StreamID, expected Expected, events []Proposed) error {
	refuse := func(format string, args ...any) error {
		return &InvalidError{Stream: stream, Why: fmt.Sprintf(format, args...)}
	}
	switch {
	case stream == "":
		return refuse("the stream has no name")
	case len(stream) > MaxNameBytes:
		return refuse("the stream's name has %d bytes, at most %d are allowed", len(stream), MaxNameBytes)
	case !utf8.ValidString(string(stream)):
		return refuse("the stream's name is not UTF-8")
	case stream[0] == '$':
		return refuse("names that start with $ belong to the store")
	case !expected.Valid():
		return refuse("no expected revision was given")
	case len(events) == 0:
		return refuse("no event was given")
	case len(events) > MaxAppendEvents:
		return refuse("%d events in one append, at most %d are allowed", len(events), MaxAppendEvents)
	}
	// Beyond it Next wraps around to 0, which would be taken for a stream that
	// does not exist yet; and the wire protocol of EventStoreDB has its special
	// values there.
	if r, ok := expected.Revision(); ok && uint64(r) > math.MaxInt64-uint64(len(events)) {
		return refuse("revision %d was expected, no stream gets that far", r)
	}
	seen := make(map[EventID]bool, len(events))
	total := 0
	for i, e := range events {
		total += len(e.Data) + len(e.Metadata)
		switch {
		case e.ID == EventID{}:
			return refuse("event %d has no id", i)
		case seen[e.ID]:
			return refuse("event %d has the id of another one", i)
		case e.Type == "" || len(e.Type) > MaxNameBytes:
			return refuse("event %d: a type has 1 to %d bytes, this one %d", i, MaxNameBytes, len(e.Type))
		case !utf8.ValidString(e.Type):
			return refuse("event %d has a type that is not UTF-8", i)
		case len(e.Data)+len(e.Metadata) > MaxEventBytes:
			return refuse("event %d has %d bytes, at most %d are allowed", i, len(e.Data)+len(e.Metadata), MaxEventBytes)
		}
		seen[e.ID] = true
	}
	if total > MaxEventBytes {
		return refuse("%d bytes in one append, at most %d are allowed", total, MaxEventBytes)
	}
	return nil
}
