package esdbserver_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"writ/adapters/esdbserver"
	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
)

// outcome gives an append's answer in short.
func outcome(n *node, stream string, expected int64, events ...*streams.AppendReq_ProposedMessage) string {
	answer, trailer, err := n.send(context.Background(), appendRequests(stream, expected, events...)...)
	switch {
	case err != nil:
		return strings.TrimSpace(status.Code(err).String() + " " + strings.Join(trailer.Get("exception"), ""))
	case answer.GetWrongExpectedVersion() != nil:
		w := answer.GetWrongExpectedVersion()
		if _, none := w.GetCurrentRevisionOption().(*streams.AppendResp_WrongExpectedVersion_CurrentNoStream); none {
			return "wrong: no stream"
		}
		return fmt.Sprintf("wrong: at %d", w.GetCurrentRevision())
	}
	s := answer.GetSuccess()
	if _, none := s.GetCurrentRevisionOption().(*streams.AppendResp_Success_NoStream); none {
		return "done: no stream"
	}
	return fmt.Sprintf("done: %d", s.GetCurrentRevision())
}

// What an append finds in a stream decides about it, in the protocol's order.
func TestAppendDecides(t *testing.T) {
	a, b, c, d := event("T", "a"), event("T", "b"), event("T", "c"), event("T", "d")
	type step struct {
		expected int64
		events   []*streams.AppendReq_ProposedMessage
		want     string
	}
	do := func(expected int64, want string, events ...*streams.AppendReq_ProposedMessage) step {
		return step{expected, events, want}
	}
	tests := map[string][]step{
		"at an exact revision":                         {do(noStream, "done: 0", a), do(0, "done: 2", b, c)},
		"ahead of the stream":                          {do(3, "wrong: no stream", a), do(noStream, "done: 0", a), do(1, "wrong: at 0", b)},
		"no stream expected, one there":                {do(noStream, "done: 0", a), do(noStream, "wrong: at 0", b)},
		"any":                                          {do(anyState, "done: 0", a), do(anyState, "done: 1", b)},
		"exists, and does not":                         {do(exists, "wrong: no stream", a)},
		"exists":                                       {do(noStream, "done: 0", a), do(exists, "done: 1", b)},
		"repeated at the exact revision":               {do(noStream, "done: 1", a, b), do(1, "done: 2", c), do(noStream, "done: 1", a, b), do(1, "done: 2", c)},
		"repeated in part, the rest is another":        {do(noStream, "done: 1", a, b), do(noStream, "wrong: at 1", a, c)},
		"repeated in part, from the beginning":         {do(noStream, "done: 1", a, b), do(noStream, "done: 0", a)},
		"repeated and more than is there":              {do(noStream, "done: 1", a, b), do(noStream, "wrong: at 1", a, b, c)},
		"repeated with any":                            {do(noStream, "done: 2", a, b, c), do(anyState, "done: 1", a, b), do(anyState, "done: 2", a, c)},
		"repeated with exists":                         {do(noStream, "done: 0", a), do(0, "done: 1", b), do(exists, "done: 0", a)},
		"any, the first known, a later one not":        {do(noStream, "done: 0", a), do(anyState, "wrong: at 0", a, b)},
		"any, the first not known, a later one is":     {do(noStream, "done: 0", a), do(anyState, "done: 2", b, a)},
		"no event, as expected":                        {do(noStream, "done: no stream"), do(noStream, "done: 0", a), do(0, "done: 0")},
		"no event, not as expected":                    {do(noStream, "done: 1", a, b), do(0, "wrong: at 1"), do(5, "wrong: at 1")},
		"an event of another id at the place of ours":  {do(noStream, "done: 1", a, b), do(0, "wrong: at 1", d)},
		"two events of one id in one append":           {do(noStream, "InvalidArgument", a, a)},
		"no type, and no event of the append was kept": {do(noStream, "InvalidArgument missing-required-metadata-property", a, &streams.AppendReq_ProposedMessage{Id: a.GetId()}), do(noStream, "done: 0", a)},
	}
	for name, steps := range tests {
		t.Run(name, func(t *testing.T) {
			n := writable(t)
			for i, s := range steps {
				if got := outcome(n, "s", s.expected, s.events...); got != s.want {
					t.Errorf("step %d: got %q, want %q", i, got, s.want)
				}
			}
		})
	}
}

// Ids alone tell a repetition, in either of their forms; the bytes don't count.
func TestARepetitionIsToldByIDs(t *testing.T) {
	n := writable(t)
	id := uuid.New()
	first, again := event("T", "first"), event("U", "again")
	first.Id = &shared.UUID{Value: &shared.UUID_String_{String_: id.String()}}
	again.Id = &shared.UUID{Value: &shared.UUID_Structured_{Structured: &shared.UUID_Structured{
		MostSignificantBits: int64(be(id[:8])), LeastSignificantBits: int64(be(id[8:])),
	}}}
	at := n.must(t, "s", noStream, first)
	if got := n.must(t, "s", noStream, again); got != at {
		t.Errorf("repeated: got position %d, want that of the first, %d", got, at)
	}
	if got := n.must(t, "other", noStream, again); got <= at {
		t.Errorf("the same id in another stream: got position %d, want a new one beyond %d", got, at)
	}
	if got, want := n.events(t, ofStream("s")), "first"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func be(b []byte) (n uint64) {
	for _, x := range b {
		n = n<<8 | uint64(x)
	}
	return n
}

func TestAppendsOfBadForm(t *testing.T) {
	large := event("T", strings.Repeat("x", eventstore.MaxEventBytes+1))
	noID, zeroID, badID := event("T", "x"), event("T", "x"), event("T", "x")
	noID.Id = nil
	zeroID.Id = &shared.UUID{Value: &shared.UUID_Structured_{Structured: &shared.UUID_Structured{}}}
	badID.Id = &shared.UUID{Value: &shared.UUID_String_{String_: "{" + uuid.NewString() + "}"}}
	tests := map[string]struct {
		requests []*streams.AppendReq
		want     string
	}{
		"nothing at all":               {nil, "InvalidArgument"},
		"no options":                   {appendRequests("s", noStream, event("T", "x"))[1:], "InvalidArgument"},
		"options again":                {append(appendRequests("s", noStream), appendRequests("s", noStream)...), "InvalidArgument"},
		"no name":                      {appendRequests("", noStream, event("T", "x")), "InvalidArgument"},
		"the metadata of no name":      {appendRequests("$$", noStream, event("T", "x")), "InvalidArgument"},
		"a name that is not UTF-8":     {appendRequests("s\xff", noStream, event("T", "x")), "InvalidArgument"},
		"a name that is too long":      {appendRequests(strings.Repeat("s", 257), noStream, event("T", "x")), "InvalidArgument"},
		"to all":                       {appendRequests("$all", noStream, event("T", "x")), "PermissionDenied access-denied"},
		"a tombstone of his own":       {appendRequests("s", noStream, event("$streamDeleted", "")), "PermissionDenied access-denied"},
		"an empty type":                {appendRequests("s", noStream, event("", "x")), "InvalidArgument"},
		"no id":                        {appendRequests("s", noStream, noID), "InvalidArgument"},
		"an id of zeroes":              {appendRequests("s", noStream, zeroID), "InvalidArgument"},
		"an id in braces":              {appendRequests("s", noStream, badID), "InvalidArgument"},
		"too large":                    {appendRequests("s", noStream, large), "InvalidArgument maximum-append-size-exceeded"},
		"too large in all":             {appendRequests("s", noStream, event("T", strings.Repeat("x", 600<<10)), event("T", strings.Repeat("x", 600<<10))), "InvalidArgument maximum-append-size-exceeded"},
		"as large as a message may be": {appendRequests("s", noStream, event("T", strings.Repeat("x", 16<<20))), "InvalidArgument maximum-append-size-exceeded"},
		"a type that is too large":     {appendRequests("s", noStream, event(strings.Repeat("T", 1<<20), "")), "InvalidArgument maximum-append-size-exceeded"},
		"too many events":              {appendRequests("s", noStream, slices.Repeat([]*streams.AppendReq_ProposedMessage{event("T", "")}, 16<<10+1)...), "InvalidArgument"},
		"a revision of all bits but one": {[]*streams.AppendReq{{Content: &streams.AppendReq_Options_{Options: &streams.AppendReq_Options{
			StreamIdentifier: identifier("s"), ExpectedStreamRevision: &streams.AppendReq_Options_Revision{Revision: 1 << 63},
		}}}}, "InvalidArgument"},
		"no expectation": {[]*streams.AppendReq{{Content: &streams.AppendReq_Options_{Options: &streams.AppendReq_Options{StreamIdentifier: identifier("s")}}}}, "InvalidArgument"},
	}
	n := writable(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, trailer, err := n.send(t.Context(), tt.requests...)
			got := strings.TrimSpace(status.Code(err).String() + " " + strings.Join(trailer.Get("exception"), ""))
			if got != tt.want {
				t.Errorf("got %s (%v), want %s", got, err, tt.want)
			}
		})
	}
	if got := n.events(t, ofAll); got != "" {
		t.Errorf("got %q on record, want nothing", got)
	}
}

// As much as the store takes can be sent, whatever the events are called.
func TestTheLargestAppend(t *testing.T) {
	n := writable(t)
	if got, want := outcome(n, "s", noStream, event(strings.Repeat("T", 256), strings.Repeat("x", eventstore.MaxEventBytes))), "done: 0"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The Go client reports the status only if it could send everything.
func TestALargeAppendIsReadToItsEndBeforeItIsRefused(t *testing.T) {
	events := make([]*streams.AppendReq_ProposedMessage, 40)
	for i := range events {
		events[i] = event("T", strings.Repeat("x", 900<<10))
	}
	for name, n := range map[string]*node{"writable": writable(t), "read-only": start(t, esdbserver.Config{Store: newSystemStore()})} {
		t.Run(name, func(t *testing.T) {
			call, err := n.streams.Append(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for i, r := range appendRequests("s", noStream, events...) {
				if err := call.Send(r); err != nil {
					t.Fatalf("message %d: got %v, want all of them taken", i, err)
				}
			}
			_, err = call.CloseAndRecv()
			if code := status.Code(err); code != codes.InvalidArgument && code != codes.PermissionDenied {
				t.Errorf("got %v, want a refusal", err)
			}
		})
	}
}

// Types and content types survive, whatever the types are, and neither data nor
// metadata is changed.
func TestContentTypeAndBytesAreKept(t *testing.T) {
	n := writable(t)
	var want []string
	for _, eventType := range []string{"T", "\x00", "T\x00b", "T\x00j", "T\x00b\x00j", "\x00b"} {
		for _, contentType := range []string{"application/json", "application/octet-stream", "text/plain"} {
			e := event(eventType, "\x00\xff not json")
			e.Metadata["content-type"] = contentType
			e.CustomMetadata = []byte{0, 1, 0xfe}
			n.must(t, "s", int64(len(want))-1, e)
			if contentType == "text/plain" {
				contentType = "application/octet-stream" // there are two
			}
			want = append(want, fmt.Sprintf("%q %s", eventType, contentType))
		}
	}
	messages, err := n.read(t, ofStream("s"))
	if err != nil || len(messages) != len(want) {
		t.Fatalf("got %d messages, %v, want %d", len(messages), err, len(want))
	}
	for i, m := range messages {
		e := m.GetEvent().GetEvent()
		if got := fmt.Sprintf("%q %s", e.GetMetadata()["type"], e.GetMetadata()["content-type"]); got != want[i] {
			t.Errorf("event %d: got %s, want %s", i, got, want[i])
		}
		if string(e.GetData()) != "\x00\xff not json" || string(e.GetCustomMetadata()) != "\x00\x01\xfe" {
			t.Errorf("event %d: got %q and %q, want the bytes that were sent", i, e.GetData(), e.GetCustomMetadata())
		}
	}
}

// Of many that append to one stream with the same expectation one wins; with
// any, all do, one after the other.
func TestAppendsRace(t *testing.T) {
	n := writable(t)
	const clients = 32
	got := make(chan string, clients)
	for range clients {
		go func() { got <- outcome(n, "one", noStream, event("T", "x")) }()
	}
	won := 0
	for range clients {
		if g := <-got; g == "done: 0" {
			won++
		} else if g != "wrong: at 0" {
			t.Errorf("got %q, want it done or a wrong version", g)
		}
	}
	if won != 1 {
		t.Errorf("got %d winners, want 1", won)
	}
	for range clients {
		go func() { got <- outcome(n, "all", anyState, event("T", "x")) }()
	}
	seen := make(map[string]bool)
	for range clients {
		g := <-got
		if seen[g] || !strings.HasPrefix(g, "done: ") {
			t.Errorf("got %q, want each revision once", g)
		}
		seen[g] = true
	}
}

// The store takes fewer events in one append than a client may send.
func TestALongAppend(t *testing.T) {
	store := newSystemStore()
	faulty := storetest.NewFaulty(store)
	faulty.OnAppend = storetest.FailNth(3, storetest.Lost)
	n := start(t, esdbserver.Config{Store: store, Writer: faulty})
	events := numbered(0, 500)
	if got, want := outcome(n, "s", noStream, events...), "Aborted"; got != want {
		t.Errorf("the third part lost: got %q, want %q", got, want)
	}
	if got, want := outcome(n, "s", noStream, events...), "done: 499"; got != want {
		t.Errorf("repeated: got %q, want it completed, %q", got, want)
	}
	if got, want := outcome(n, "s", noStream, events...), "done: 499"; got != want {
		t.Errorf("repeated again: got %q, want %q", got, want)
	}
	if got, want := outcome(n, "s", noStream, append(events, event("T", "more"))...), "wrong: at 499"; got != want {
		t.Errorf("with one more: got %q, want %q", got, want)
	}
	for i, got := range strings.Fields(n.events(t, ofStream("s"))) {
		if want := fmt.Sprint(i); got != want {
			t.Fatalf("revision %d: got %s, want %s", i, got, want)
		}
	}
}

// Ids are remembered for so many events, and no more.
func TestIDsAreForgotten(t *testing.T) {
	if testing.Short() {
		t.Skip("appends 65,536 events")
	}
	n := writable(t)
	first, second := event("T", "first"), event("T", "second")
	n.must(t, "s", anyState, first)
	n.must(t, "s", anyState, second)
	const remembered = 64 << 10
	for added := 0; added < remembered-1; {
		more := numbered(added, min(500, remembered-1-added))
		n.must(t, "others", anyState, more...)
		added += len(more)
	}
	if got, want := outcome(n, "s", anyState, second), "done: 1"; got != want {
		t.Errorf("one that is remembered: got %q, want %q", got, want)
	}
	if got, want := outcome(n, "s", anyState, first), "done: 2"; got != want {
		t.Errorf("one that is forgotten: got %q, want it written again, %q", got, want)
	}
	if got, want := outcome(n, "s", noStream, first), "done: 0"; got != want {
		t.Errorf("at the exact revision: got %q, want it known for ever, %q", got, want)
	}
}
