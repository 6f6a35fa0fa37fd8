package esdbserver_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"writ/adapters/esdbserver"
	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
)

func TestReadAStream(t *testing.T) {
	n := writable(t)
	n.must(t, "s", noStream, numbered(0, 5)...)
	n.must(t, "s2", noStream, event("T", "other"))
	tests := map[string]struct {
		options []readOption
		want    string
	}{
		"from the start":                   {nil, "0 1 2 3 4"},
		"so many":                          {[]readOption{count(2)}, "0 1"},
		"from a revision":                  {[]readOption{fromRevision(3)}, "3 4"},
		"from beyond the end":              {[]readOption{fromRevision(5)}, ""},
		"from the end":                     {[]readOption{fromEnd}, ""},
		"from the end as a number":         {[]readOption{fromRevision(1<<64 - 1)}, ""},
		"backwards from the end":           {[]readOption{fromEnd, backwards}, "4 3 2 1 0"},
		"backwards, so many":               {[]readOption{fromEnd, backwards, count(2)}, "4 3"},
		"backwards from a revision":        {[]readOption{fromRevision(2), backwards}, "2 1 0"},
		"backwards from beyond the end":    {[]readOption{fromRevision(77), backwards}, "4 3 2 1 0"},
		"backwards from the start":         {[]readOption{backwards}, "0"},
		"a stream that is not there":       {[]readOption{ofStream("none")}, "not-found"},
		"one that is not there, backwards": {[]readOption{ofStream("none"), fromEnd, backwards}, "not-found"},
		"a count of none":                  {[]readOption{count(0)}, "InvalidArgument"},
		"no name":                          {[]readOption{ofStream("")}, "InvalidArgument"},
		"a revision beyond all":            {[]readOption{fromRevision(1 << 63)}, "InvalidArgument"},
		"a filter":                         {[]readOption{filtered("stream", 32, 1, prefix("s"))}, "InvalidArgument"},
		"no form of ids":                   {[]readOption{func(o *streams.ReadReq_Options) { o.UuidOption = nil }}, "InvalidArgument"},
		"no filter option at all":          {[]readOption{func(o *streams.ReadReq_Options) { o.FilterOption = nil }}, "0 1 2 3 4"},
		"with the stream's end":            {[]readOption{compatible}, "0 1 2 3 4 last"},
		"nothing, with the stream's end":   {[]readOption{compatible, fromRevision(9)}, "last"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := n.events(t, append([]readOption{ofStream("s")}, tt.options...)...); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func compatible(o *streams.ReadReq_Options) {
	o.ControlOption = &streams.ReadReq_Options_ControlOption{Compatibility: 1}
}

// The numbers of a stream's ends come only if they are asked for.
func TestTheEndsOfAStream(t *testing.T) {
	n := writable(t)
	n.must(t, "s", noStream, numbered(0, 5)...)
	n.must(t, "$$s", noStream, event("$metadata", `{"$tb":3,"$maxAge":1000}`))
	messages, err := n.read(t, ofStream("s"), compatible, count(1))
	if err != nil || len(messages) != 2 || messages[1].GetLastStreamPosition() != 4 {
		t.Errorf("got %v, %v, want an event and the last revision, 4", messages, err)
	}
	messages, err = n.read(t, ofStream("s"), compatible, backwards, fromRevision(1))
	if err != nil || len(messages) != 2 || messages[0].GetFirstStreamPosition() != 3 || messages[1].GetLastStreamPosition() != 4 {
		t.Errorf("before the first: got %v, %v, want its revision, 3, and the last, 4", messages, err)
	}
}

func TestReadAll(t *testing.T) {
	n := writable(t)
	at := make([]uint64, 6)
	for i := range at {
		at[i] = n.must(t, fmt.Sprintf("s%d", i%2), anyState, event(fmt.Sprintf("T%d", i%3), fmt.Sprint(i)))
	}
	if at[0] == 0 {
		t.Error("the first event is at position 0, which means the start")
	}
	tests := map[string]struct {
		options []readOption
		want    string
	}{
		"from the start":                       {nil, "0 1 2 3 4 5"},
		"from a position, it included":         {[]readOption{fromPosition(at[2])}, "2 3 4 5"},
		"from between two":                     {[]readOption{fromPosition(at[2] + 1)}, "3 4 5"},
		"from position 0":                      {[]readOption{fromPosition(0)}, "0 1 2 3 4 5"},
		"from the end":                         {[]readOption{fromEnd}, ""},
		"from beyond the end":                  {[]readOption{fromPosition(1 << 62)}, ""},
		"backwards from the end":               {[]readOption{fromEnd, backwards}, "5 4 3 2 1 0"},
		"backwards from a position, excluded":  {[]readOption{fromPosition(at[2]), backwards}, "1 0"},
		"backwards from between two":           {[]readOption{fromPosition(at[2] + 1), backwards}, "2 1 0"},
		"backwards from beyond the end":        {[]readOption{fromPosition(1 << 62), backwards, count(2)}, "5 4"},
		"backwards from the start":             {[]readOption{backwards}, ""},
		"backwards from position 0":            {[]readOption{fromPosition(0), backwards}, ""},
		"so many that pass":                    {[]readOption{filtered("stream", 1, 1, prefix("s1")), count(2)}, "1 3"},
		"by prefixes of streams":               {[]readOption{filtered("stream", 32, 1, prefix("x", "s0"))}, "0 2 4"},
		"by an expression on streams":          {[]readOption{filtered("stream", 32, 1, pattern(`^[^\$].*1$`))}, "1 3 5"},
		"by types":                             {[]readOption{filtered("type", 32, 1, prefix("T0"))}, "0 3"},
		"by an expression on types":            {[]readOption{filtered("type", 32, 1, pattern("[12]"))}, "1 2 4 5"},
		"backwards, by types":                  {[]readOption{fromEnd, backwards, filtered("type", 32, 1, prefix("T0"))}, "3 0"},
		"backwards, by streams":                {[]readOption{fromEnd, backwards, filtered("stream", 32, 1, prefix("s1")), count(2)}, "5 3"},
		"an expression with look-around":       {[]readOption{filtered("stream", 32, 1, pattern("^(?!x)"))}, "InvalidArgument"},
		"a filter of nothing":                  {[]readOption{filtered("stream", 32, 1, prefix())}, "InvalidArgument"},
		"a window of nothing":                  {[]readOption{filtered("stream", 0, 1, prefix("s"))}, "InvalidArgument"},
		"a position whose halves contradict":   {[]readOption{func(o *streams.ReadReq_Options) { fromPosition(1)(o); o.GetAll().GetPosition().PreparePosition = 2 }}, "InvalidArgument"},
		"a position beyond all":                {[]readOption{fromPosition(1 << 63)}, "InvalidArgument"},
		"neither a count nor a subscription":   {[]readOption{func(o *streams.ReadReq_Options) { o.CountOption = nil }}, "InvalidArgument"},
		"a direction that is none":             {[]readOption{func(o *streams.ReadReq_Options) { o.ReadDirection = 7 }}, "InvalidArgument"},
		"neither a stream nor all":             {[]readOption{func(o *streams.ReadReq_Options) { o.StreamOption = nil }}, "InvalidArgument"},
		"a subscription that runs backwards":   {[]readOption{subscribing, backwards}, "InvalidArgument"},
		"a subscription without checkpoints":   {[]readOption{subscribing, filtered("stream", 32, 0, prefix("s"))}, "InvalidArgument"},
		"a read without checkpoints is good":   {[]readOption{filtered("stream", 32, 0, prefix("s0"))}, "0 2 4"},
		"all does not tell of a stream's ends": {[]readOption{compatible, count(1)}, "0"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := n.events(t, append([]readOption{ofAll}, tt.options...)...); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// Backward reads and the ledger's end are made of forward reads; they must hold
// over many pages, wide gaps, and where events pass a filter rarely.
func TestReadALongLedgerBackwards(t *testing.T) {
	store := newSystemStore()
	n := startOver(t, store)
	var want []string
	for i := range 5000 {
		data := fmt.Sprintf("%d", i)
		if i == 700 || i == 701 || i == 4000 {
			data += strings.Repeat(" ", 900<<10) // positions of this store grow by the length of the data
		}
		stream, expected := eventstore.StreamID("common"), eventstore.NoStream()
		if i%1000 == 0 {
			stream = eventstore.StreamID(fmt.Sprintf("rare-%d", i))
		} else if i > 1 {
			expected = eventstore.At(eventstore.Revision(i - 2 - (i-1)/1000))
		}
		e := eventstore.Proposed{ID: eventstore.EventID{1, byte(i >> 8), byte(i)}, Type: "T", Data: []byte(data)}
		if _, err := store.Append(t.Context(), stream, expected, e); err != nil {
			t.Fatal(err)
		}
		want = append([]string{fmt.Sprint(i)}, want...)
	}
	got := strings.Fields(n.events(t, ofAll, fromEnd, backwards))
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("all backwards: got %d events, want %d, the newest first", len(got), len(want))
	}
	if got, want := n.events(t, ofAll, fromEnd, backwards, filtered("stream", 32, 1, prefix("rare"))), "4000 3000 2000 1000 0"; strings.Join(strings.Fields(got), " ") != want {
		t.Errorf("the rare ones backwards: got %.100q, want %q", got, want)
	}
	got = strings.Fields(n.events(t, ofStream("common"), fromEnd, backwards))
	if len(got) != 4995 || got[0] != "4999" || got[4994] != "1" {
		t.Errorf("a stream backwards: got %d events, want 4995 from 4999 to 1", len(got))
	}
}

// What a client learns about one event.
func TestAnEventAsItIsSent(t *testing.T) {
	store := storetest.NewMemory(ledgerID)
	store.SetClock(func() time.Time { return time.Unix(1_600_000_000, 123_456_789) })
	id := eventstore.EventID{0xff, 1, 2, 3, 4, 5, 6, 7, 0x80, 9, 10, 11, 12, 13, 14, 15}
	done, err := store.Append(t.Context(), "s", eventstore.NoStream(), eventstore.Proposed{ID: id, Type: "T", Data: []byte(`{"a":1}`), Metadata: []byte(`{"b":2}`)})
	if err != nil {
		t.Fatal(err)
	}
	n := start(t, esdbserver.Config{Store: store})
	for _, from := range []readOption{ofStream("s"), ofAll} {
		messages, err := n.read(t, from)
		if err != nil || len(messages) != 1 {
			t.Fatalf("got %d messages, %v, want 1", len(messages), err)
		}
		e := messages[0].GetEvent()
		if got := e.GetCommitPosition(); got != uint64(done.Position) || e.GetLink() != nil {
			t.Errorf("got position %d, link %v, want %d and no link", got, e.GetLink(), done.Position)
		}
		r := e.GetEvent()
		got := fmt.Sprint(r.GetId().GetString_(), " ", string(r.GetStreamIdentifier().GetStreamName()), " ", r.GetStreamRevision(), " ",
			r.GetCommitPosition() == uint64(done.Position), r.GetPreparePosition() == uint64(done.Position), " ",
			r.GetMetadata(), " ", string(r.GetData()), string(r.GetCustomMetadata()))
		want := "ff010203-0405-0607-8009-0a0b0c0d0e0f s 0 true true map[content-type:application/json created:16000000001234567 type:T] {\"a\":1}{\"b\":2}"
		if got != want {
			t.Errorf("got\n%s, want\n%s", got, want)
		}
	}
	messages, err := n.read(t, ofAll, func(o *streams.ReadReq_Options) {
		o.UuidOption = &streams.ReadReq_Options_UUIDOption{Content: &streams.ReadReq_Options_UUIDOption_Structured{Structured: &shared.Empty{}}}
	})
	if err != nil || len(messages) != 1 {
		t.Fatalf("got %d messages, %v, want 1", len(messages), err)
	}
	s := messages[0].GetEvent().GetEvent().GetId().GetStructured()
	if uint64(s.GetMostSignificantBits()) != 0xff01020304050607 || uint64(s.GetLeastSignificantBits()) != 0x80090a0b0c0d0e0f {
		t.Errorf("got id %v, want its two halves as they are", s)
	}
}

// Events of a stream older than its $maxAge are hidden; the stream is there.
func TestOldEventsAreHidden(t *testing.T) {
	store := newSystemStore()
	now := time.Unix(1_700_000_000, 0)
	store.SetClock(func() time.Time { return now })
	clock := make(chan time.Time, 1)
	n := start(t, esdbserver.Config{Store: store, Writer: store, Clock: func() time.Time {
		at := <-clock
		clock <- at
		return at
	}})
	clock <- now
	n.must(t, "s", noStream, numbered(0, 2)...)
	n.must(t, "$$s", noStream, event("$metadata", `{"$maxAge":10}`))
	store.SetClock(func() time.Time { return now.Add(6 * time.Second) })
	n.must(t, "s", 1, numbered(2, 1)...)
	for _, tt := range []struct {
		after                int
		forwards, backwarded string
	}{{9, "0 1 2", "2 1 0"}, {11, "2", "2"}, {17, "", ""}} {
		<-clock
		clock <- now.Add(time.Duration(tt.after) * time.Second)
		if got := n.events(t, ofStream("s")); got != tt.forwards {
			t.Errorf("after %d s: got %q, want %q", tt.after, got, tt.forwards)
		}
		if got := n.events(t, ofStream("s"), fromEnd, backwards); got != tt.backwarded {
			t.Errorf("backwards after %d s: got %q, want %q", tt.after, got, tt.backwarded)
		}
	}
	if got, want := n.events(t, ofAll, count(3)), `0 1 {"$maxAge":10}`; got != want {
		t.Errorf("all: got %q, want %q", got, want)
	}
}

func TestLinks(t *testing.T) {
	n := writable(t)
	n.must(t, "s", noStream, numbered(0, 3)...)
	n.must(t, "hidden", noStream, event("T", "x"))
	n.must(t, "$$hidden", noStream, event("$metadata", `{"$tb":1}`))
	for i, to := range []string{"1@s", "0@hidden", "7@s", "0@none", "nonsense"} {
		n.must(t, "l", int64(i)-1, event("$>", to))
	}
	if got, want := n.events(t, ofStream("l"), resolvingLinks), "1@s->1 0@hidden-> 7@s-> 0@none-> nonsense->"; got != want {
		t.Errorf("resolved: got %q, want %q", got, want)
	}
	if got, want := n.events(t, ofStream("l")), "1@s 0@hidden 7@s 0@none nonsense"; got != want {
		t.Errorf("as they are: got %q, want %q", got, want)
	}
	if got, want := n.subscribe(t, ofStream("l"), resolvingLinks).words(2), "1@s->1 0@hidden->"; got != want {
		t.Errorf("subscribed: got %q, want %q", got, want)
	}
	n.tombstone("s", anyState)
	if got, want := n.events(t, ofAll, resolvingLinks, filtered("type", 32, 1, prefix("$>")), count(1)), "1@s->"; got != want {
		t.Errorf("to a tombstoned stream: got %q, want %q", got, want)
	}
}

// A store that can't be read is told as what it is.
func TestAStoreThatFails(t *testing.T) {
	store := storetest.NewMemory(ledgerID)
	faulty := storetest.NewFaulty(store)
	n := start(t, esdbserver.Config{Store: faulty, Writer: faulty})
	n.must(t, "s", noStream, event("T", "x"))
	faulty.OnRead = func(storetest.ReadCall) (int, error) {
		return 0, &eventstore.CorruptError{Stream: "s", Why: "a byte fell out"}
	}
	for name, options := range map[string][]readOption{
		"a stream": {ofStream("s")}, "all": {ofAll}, "all backwards": {ofAll, fromEnd, backwards},
		"a subscription": {ofStream("s"), subscribing}, "a subscription to all": {ofAll, subscribing, fromEnd},
	} {
		_, err := n.read(t, options...)
		if status.Code(err) != codes.DataLoss || !strings.Contains(err.Error(), "a byte fell out") {
			t.Errorf("%s: got %v, want the loss of data, and where", name, err)
		}
	}
}

// An append whose outcome nobody knows is answered so that the client repeats
// it, and repeating it settles it.
func TestAnAppendOfUnknownOutcome(t *testing.T) {
	store := newSystemStore()
	faulty := storetest.NewFaulty(store)
	faulty.OnAppend = storetest.FailNth(1, storetest.DoneButFailed)
	n := start(t, esdbserver.Config{Store: store, Writer: faulty})
	e := event("T", "x")
	if got, want := outcome(n, "s", noStream, e), "Aborted"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := outcome(n, "s", noStream, e), "done: 0"; got != want {
		t.Errorf("repeated: got %q, want %q", got, want)
	}
	if got, want := n.events(t, ofAll), "x"; got != want {
		t.Errorf("got %q, want it on record once", got)
	}
}
