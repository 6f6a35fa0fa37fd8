package eventstore_test

import (
	"math"
	"strings"
	"testing"

	"writ/domain/eventstore"
)

// The largest revisions once wrapped around into 'no stream' and into the
// invalid expectation.
func TestExpectedDoesNotWrapAround(t *testing.T) {
	for _, r := range []eventstore.Revision{0, 1, math.MaxUint64 - 2, math.MaxUint64 - 1, math.MaxUint64} {
		e := eventstore.At(r)
		if got, ok := e.Revision(); !ok || got != r || !e.Valid() || e == eventstore.NoStream() {
			t.Errorf("At(%d): got %s (revision %d, %t)", r, e, got, ok)
		}
	}
	if (eventstore.Expected{}).Valid() {
		t.Error("the zero value is valid; it must stand for nothing, least of all for 'any'")
	}
}

func TestCheckAppend(t *testing.T) {
	event := func(change func(*eventstore.Proposed)) []eventstore.Proposed {
		e := eventstore.Proposed{ID: eventstore.EventID{1}, Type: "T", Data: []byte("{}")}
		change(&e)
		return []eventstore.Proposed{e}
	}
	keep := func(*eventstore.Proposed) {}
	many := make([]eventstore.Proposed, eventstore.MaxAppendEvents+1)
	large := make([]eventstore.Proposed, 3)
	for i := range many {
		many[i] = eventstore.Proposed{ID: eventstore.EventID{byte(i + 1)}, Type: "T"}
	}
	for i := range large {
		large[i] = eventstore.Proposed{ID: eventstore.EventID{byte(i + 1)}, Type: "T", Data: make([]byte, eventstore.MaxEventBytes/2)}
	}
	tests := map[string]struct {
		stream   eventstore.StreamID
		expected eventstore.Expected
		events   []eventstore.Proposed
		says     string // empty: accepted
	}{
		"in form":            {"s", eventstore.NoStream(), event(keep), ""},
		"no name":            {"", eventstore.NoStream(), event(keep), "no name"},
		"long name":          {eventstore.StreamID(strings.Repeat("s", 257)), eventstore.NoStream(), event(keep), "257 bytes"},
		"the store's name":   {"$all", eventstore.NoStream(), event(keep), "belong to the store"},
		"name not UTF-8":     {"s\xff", eventstore.NoStream(), event(keep), "UTF-8"},
		"type not UTF-8":     {"s", eventstore.NoStream(), event(func(e *eventstore.Proposed) { e.Type = "\xff" }), "UTF-8"},
		"no expectation":     {"s", eventstore.Expected{}, event(keep), "no expected revision"},
		"the last revision":  {"s", eventstore.At(math.MaxUint64), event(keep), "no stream gets that far"},
		"far, but possible":  {"s", eventstore.At(math.MaxInt64 - 1), event(keep), ""},
		"no revision left":   {"s", eventstore.At(math.MaxInt64), event(keep), "no stream gets that far"},
		"no event":           {"s", eventstore.NoStream(), nil, "no event"},
		"too many events":    {"s", eventstore.NoStream(), many, "65 events"},
		"too large in all":   {"s", eventstore.NoStream(), large, "in one append"},
		"event too large":    {"s", eventstore.NoStream(), event(func(e *eventstore.Proposed) { e.Data = make([]byte, 1<<20) }), "bytes"},
		"no id":              {"s", eventstore.NoStream(), event(func(e *eventstore.Proposed) { e.ID = eventstore.EventID{} }), "no id"},
		"an id twice":        {"s", eventstore.NoStream(), append(event(keep), event(keep)...), "another one"},
		"no type":            {"s", eventstore.NoStream(), event(func(e *eventstore.Proposed) { e.Type = "" }), "type"},
		"no data is allowed": {"s", eventstore.At(7), event(func(e *eventstore.Proposed) { e.Data = nil }), ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			err := eventstore.CheckAppend(tt.stream, tt.expected, tt.events)
			switch {
			case tt.says == "" && err != nil:
				t.Errorf("got %v, want it accepted", err)
			case tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says) || !eventstore.Definite(err)):
				t.Errorf("got %v, want a definite error that says %q", err, tt.says)
			}
		})
	}
}
