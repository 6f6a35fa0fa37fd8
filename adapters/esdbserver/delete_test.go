package esdbserver_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"writ/domain/eventstore"
)

// delete makes one call of Delete and gives how it ended, with the trailers.
func (n *node) delete(stream string, expected int64) string {
	o := &streams.DeleteReq_Options{StreamIdentifier: identifier(stream)}
	switch expected {
	case noStream:
		o.ExpectedStreamRevision = &streams.DeleteReq_Options_NoStream{NoStream: &shared.Empty{}}
	case anyState:
		o.ExpectedStreamRevision = &streams.DeleteReq_Options_Any{Any: &shared.Empty{}}
	case exists:
		o.ExpectedStreamRevision = &streams.DeleteReq_Options_StreamExists{StreamExists: &shared.Empty{}}
	default:
		o.ExpectedStreamRevision = &streams.DeleteReq_Options_Revision{Revision: uint64(expected)}
	}
	var trailer metadata.MD
	answer, err := n.streams.Delete(context.Background(), &streams.DeleteReq{Options: o}, grpc.Trailer(&trailer))
	return ended(err, trailer, answer.GetPosition().GetCommitPosition())
}

func (n *node) tombstone(stream string, expected int64) string {
	o := &streams.TombstoneReq_Options{StreamIdentifier: identifier(stream)}
	switch expected {
	case noStream:
		o.ExpectedStreamRevision = &streams.TombstoneReq_Options_NoStream{NoStream: &shared.Empty{}}
	case anyState:
		o.ExpectedStreamRevision = &streams.TombstoneReq_Options_Any{Any: &shared.Empty{}}
	case exists:
		o.ExpectedStreamRevision = &streams.TombstoneReq_Options_StreamExists{StreamExists: &shared.Empty{}}
	default:
		o.ExpectedStreamRevision = &streams.TombstoneReq_Options_Revision{Revision: uint64(expected)}
	}
	var trailer metadata.MD
	answer, err := n.streams.Tombstone(context.Background(), &streams.TombstoneReq{Options: o}, grpc.Trailer(&trailer))
	return ended(err, trailer, answer.GetPosition().GetCommitPosition())
}

func ended(err error, trailer metadata.MD, position uint64) string {
	if err == nil && position > 0 {
		return "done"
	}
	words := []string{status.Code(err).String()}
	for _, name := range []string{"exception", "stream-name", "expected-version", "actual-version"} {
		words = append(words, trailer.Get(name)...)
	}
	return strings.Join(words, " ")
}

func TestSoftDelete(t *testing.T) {
	n := writable(t)
	check := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %q, want %q", what, got, want)
		}
	}
	n.must(t, "s", noStream, event("T", "a"), event("T", "b"))
	check("delete at a wrong revision", n.delete("s", 7), "FailedPrecondition wrong-expected-version s 7 1")
	check("delete what is not there", n.delete("none", anyState), "FailedPrecondition wrong-expected-version none -2 -1")
	check("delete", n.delete("s", 1), "done")
	check("read", n.events(t, ofStream("s")), "not-found")
	check("read backwards", n.events(t, ofStream("s"), fromEnd, backwards), "not-found")
	check("all still shows it", n.events(t, ofAll), `a b {"$tb":9223372036854775807}`)
	check("append to what must exist", outcome(n, "s", exists, event("T", "c")), "FailedPrecondition stream-deleted")
	check("append at a wrong revision", outcome(n, "s", 0, event("T", "c")), "wrong: at 1")

	check("append to no stream brings it back", outcome(n, "s", noStream, event("T", "c")), "done: 2")
	check("only what is new is shown", n.events(t, ofStream("s")), "c")
	check("no stream is expected, and there is one", outcome(n, "s", noStream, event("T", "x")), "wrong: at 2")
	check("the metadata says so", n.events(t, ofStream("$$s")), `{"$tb":2}`)
	check("append goes on", outcome(n, "s", 2, event("T", "d")), "done: 3")

	check("delete again", n.delete("s", exists), "done")
	check("delete what is deleted and must exist", n.delete("s", exists), "FailedPrecondition stream-deleted s")
	check("append at the last revision brings it back", outcome(n, "s", 3, event("T", "e")), "done: 4")
	check("only what is new is shown", n.events(t, ofStream("s")), "e")

	check("delete a third time", n.delete("s", anyState), "done")
	check("append of any brings it back", outcome(n, "s", anyState, event("T", "f")), "done: 5")
	check("only what is new is shown", n.events(t, ofStream("s")), "f")
	check("delete of metadata", n.delete("$$s", anyState), "InvalidArgument")
	check("delete of all", n.delete("$all", anyState), "InvalidArgument")
}

// Writing metadata brings a soft-deleted stream back too, with nothing in it,
// and the keys that were written.
func TestMetadataBringsADeletedStreamBack(t *testing.T) {
	n := writable(t)
	n.must(t, "s", noStream, event("T", "a"))
	n.delete("s", anyState)
	meta := event("$metadata", `{"mine":[1,2],"$maxCount":5}`)
	if got, want := outcome(n, "$$s", 0, meta), "done: 1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := outcome(n, "$$s", 0, meta), "done: 1"; got != want {
		t.Errorf("repeated: got %q, want %q", got, want)
	}
	if got, want := n.events(t, ofStream("$$s")), `{"mine":[1,2],"$maxCount":5,"$tb":1}`; got != want {
		t.Errorf("got metadata %s, want %s", got, want)
	}
	if got := n.events(t, ofStream("s")); got != "" {
		t.Errorf("got %q, want a stream without events to show", got)
	}
	n.must(t, "s", 0, event("T", "b"))
	if got, want := n.events(t, ofStream("s")), "b"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	n.delete("s", anyState)
	n.must(t, "$$s", anyState, event("$metadata", `{"$maxAge":"metadata without effect"}`))
	if got := n.events(t, ofStream("s")); got != "" {
		t.Errorf("got %q, want what was deleted to stay hidden", got)
	}
}

// A process that dies between the events and the metadata that shows them has
// told nobody that they are there. Whoever writes next finds it finished.
func TestARevivalThatWasCutShortIsFinished(t *testing.T) {
	for name, again := range map[string]func(n *node, late *streams.AppendReq_ProposedMessage) string{
		"the append is repeated": func(n *node, late *streams.AppendReq_ProposedMessage) string { return outcome(n, "s", 1, late) },
		"another is made":        func(n *node, _ *streams.AppendReq_ProposedMessage) string { return outcome(n, "s", 1, event("T", "x")) },
		"the stream is expected to be empty": func(n *node, _ *streams.AppendReq_ProposedMessage) string {
			return outcome(n, "s", noStream, event("T", "x"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			store := newSystemStore()
			n := startOver(t, store)
			n.must(t, "s", noStream, event("T", "a"), event("T", "b"))
			n.delete("s", anyState)
			late := event("T", "late")
			id := mustID(t, late)
			if _, err := store.Append(t.Context(), "s", eventstore.At(1), eventstore.Proposed{ID: id, Type: "T", Data: []byte("late")}); err != nil {
				t.Fatal(err)
			}
			want := "wrong: at 2"
			if strings.Contains(name, "repeated") {
				want = "done: 2"
			}
			if got := again(n, late); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			if got, want := n.events(t, ofStream("s")), "late"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestTombstone(t *testing.T) {
	n := writable(t)
	check := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %q, want %q", what, got, want)
		}
	}
	name := "s/ü\n"
	n.must(t, name, noStream, event("T", "a"))
	check("at a wrong revision", n.tombstone(name, noStream), "FailedPrecondition wrong-expected-version s%2F%C3%BC%0A -1 0")
	check("tombstone", n.tombstone(name, 0), "done")
	const gone = "FailedPrecondition stream-deleted s%2F%C3%BC%0A"
	check("again", n.tombstone(name, anyState), gone)
	check("delete", n.delete(name, anyState), gone)
	check("append", outcome(n, name, anyState, event("T", "b")), "FailedPrecondition stream-deleted")
	check("append metadata", outcome(n, "$$"+name, anyState, event("$metadata", "{}")), "FailedPrecondition stream-deleted")
	check("read", n.events(t, ofStream(name)), "FailedPrecondition")
	check("read metadata", n.events(t, ofStream("$$"+name)), "FailedPrecondition")
	check("subscribe", n.events(t, ofStream(name), subscribing), "FailedPrecondition")
	check("all shows it", n.events(t, ofAll), "a $streamDeleted")
	check("a stream that never was", n.tombstone("never", anyState), "done")
	check("it is gone all the same", outcome(n, "never", noStream, event("T", "a")), "FailedPrecondition stream-deleted")

	messages, err := n.read(t, ofAll, fromEnd, backwards, count(1))
	if err != nil || len(messages) != 1 || messages[0].GetEvent().GetEvent().GetStreamRevision() != 1<<63-1 {
		t.Errorf("got %v, %v, want one event of revision %d", messages, err, uint64(1<<63-1))
	}
}

// What metadata hides is hidden from reads of the stream, not from all.
func TestMetadataHidesEvents(t *testing.T) {
	tests := map[string]struct{ meta, forwards, backwards string }{
		"none":                      {`{}`, "0 1 2 3 4", "4 3 2 1 0"},
		"truncated":                 {`{"$tb":3}`, "3 4", "4 3"},
		"truncated as a whole":      {`{"$tb":5}`, "", ""},
		"counted":                   {`{"$maxCount":2}`, "3 4", "4 3"},
		"counted, more than there":  {`{"$maxCount":9}`, "0 1 2 3 4", "4 3 2 1 0"},
		"both":                      {`{"$maxCount":4,"$tb":3}`, "3 4", "4 3"},
		"deleted":                   {`{"$tb":9223372036854775807}`, "not-found", "not-found"},
		"of the wrong type":         {`{"$maxCount":2,"$tb":"3"}`, "0 1 2 3 4", "4 3 2 1 0"},
		"a fraction":                {`{"$maxCount":2.0}`, "0 1 2 3 4", "4 3 2 1 0"},
		"a count of none":           {`{"$maxCount":0}`, "0 1 2 3 4", "4 3 2 1 0"},
		"a role that is no role":    {`{"$tb":3,"$acl":{"$r":1}}`, "0 1 2 3 4", "4 3 2 1 0"},
		"a list of roles":           {`{"$tb":3,"$acl":{"$r":["a","b"],"$w":"c"}}`, "3 4", "4 3"},
		"a default list":            {`{"$tb":3,"$acl":"$userStreamAcl"}`, "3 4", "4 3"},
		"keys of somebody else":     {`{"tb":1,"$TB":2,"x":{"$tb":1}}`, "0 1 2 3 4", "4 3 2 1 0"},
		"no JSON":                   {`{"$tb":3`, "0 1 2 3 4", "4 3 2 1 0"},
		"no object":                 {`3`, "0 1 2 3 4", "4 3 2 1 0"},
		"something behind it":       {`{"$tb":3} 1`, "0 1 2 3 4", "4 3 2 1 0"},
		"a key that comes twice":    {`{"$tb":3,"$tb":1}`, "0 1 2 3 4", "4 3 2 1 0"},
		"an age that is far beyond": {`{"$maxAge":9223372036854775807}`, "0 1 2 3 4", "4 3 2 1 0"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			n := writable(t)
			n.must(t, "s", noStream, numbered(0, 5)...)
			n.must(t, "$$s", noStream, event("$metadata", tt.meta))
			if got := n.events(t, ofStream("s")); got != tt.forwards {
				t.Errorf("forwards: got %q, want %q", got, tt.forwards)
			}
			if got := n.events(t, ofStream("s"), fromEnd, backwards); got != tt.backwards {
				t.Errorf("backwards: got %q, want %q", got, tt.backwards)
			}
			if got, want := n.events(t, ofAll, count(5)), "0 1 2 3 4"; got != want {
				t.Errorf("all: got %q, want %q", got, want)
			}
		})
	}
}

// numbered gives events whose data are numbers.
func numbered(from, n int) []*streams.AppendReq_ProposedMessage {
	events := make([]*streams.AppendReq_ProposedMessage, n)
	for i := range events {
		events[i] = event("T", fmt.Sprint(from+i))
	}
	return events
}
