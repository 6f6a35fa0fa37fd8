package esdbserver_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"writ/adapters/esdbserver"
	"writ/domain/eventstore/storetest"
)

func TestSubscribe(t *testing.T) {
	n := writable(t)
	n.must(t, "s", noStream, numbered(0, 3)...)
	at := n.must(t, "other", noStream, event("T", "x"))
	n.must(t, "other", 0, event("T", "y"))
	tests := map[string]struct {
		options []readOption
		history string // until the subscription is live
		live    string // after 3 and z were appended
	}{
		"a stream":                       {[]readOption{ofStream("s")}, "0 1 2 caught-up", "3"},
		"a stream, behind a revision":    {[]readOption{ofStream("s"), fromRevision(0)}, "1 2 caught-up", "3"},
		"a stream, behind its last":      {[]readOption{ofStream("s"), fromRevision(2)}, "caught-up", "3"},
		"a stream, from its end":         {[]readOption{ofStream("s"), fromEnd}, "caught-up", "3"},
		"a stream that is not there yet": {[]readOption{ofStream("new")}, "caught-up", "z"},
		"all":                            {[]readOption{ofAll}, "0 1 2 x y caught-up", "3 z"},
		"all, behind a position":         {[]readOption{ofAll, fromPosition(at)}, "y caught-up", "3 z"},
		"all, from the end":              {[]readOption{ofAll, fromEnd}, "caught-up", "3 z"},
		"streams by prefix":              {[]readOption{ofAll, filtered("stream", 32, 1, prefix("o", "n"))}, "x y checkpoint caught-up", "z"},
		"streams by prefix, often":       {[]readOption{ofAll, filtered("stream", 1, 2, prefix("o", "n"))}, "checkpoint x checkpoint y checkpoint caught-up", "z"},
		"nothing that is there":          {[]readOption{ofAll, filtered("stream", 32, 1, prefix("new"))}, "checkpoint caught-up", "z"},
		"types, from the end":            {[]readOption{ofAll, fromEnd, filtered("type", 32, 1, pattern("^Z$"))}, "checkpoint caught-up", "z"},
	}
	followers := make(map[string]*subscriber)
	for name, tt := range tests {
		followers[name] = n.subscribe(t, tt.options...)
		if got := followers[name].words(len(strings.Fields(tt.history))); got != tt.history {
			t.Errorf("%s: got %q, want %q", name, got, tt.history)
		}
	}
	n.must(t, "s", 2, event("T", "3"))
	n.must(t, "new", noStream, event("Z", "z"))
	for name, tt := range tests {
		got := ""
		for got == "" || len(strings.Fields(got)) < len(strings.Fields(tt.live)) {
			if w := followers[name].words(1); w != "checkpoint" {
				got = strings.TrimSpace(got + " " + w)
			}
		}
		if got != tt.live {
			t.Errorf("%s, live: got %q, want %q", name, got, tt.live)
		}
	}
}

// A subscription may be taken up again from any checkpoint: it is never below an
// event that was sent, and grows.
func TestCheckpoints(t *testing.T) {
	n := writable(t)
	s := n.subscribe(t, ofAll, filtered("stream", 4, 2, prefix("wanted")))
	if got, want := s.words(1), "caught-up"; got != want {
		t.Fatalf("got %q, want %q: there is no place to name yet", got, want)
	}
	var at uint64
	for i := range 40 {
		stream := "unwanted"
		if i%20 == 0 {
			stream = "wanted"
		}
		at = n.must(t, stream, anyState, event("T", fmt.Sprint(i)))
	}
	var last uint64
	checkpoints, events := 0, 0
	for last < at {
		m, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		switch c := m.GetContent().(type) {
		case *streams.ReadResp_Checkpoint_:
			checkpoints++
			if c.Checkpoint.GetCommitPosition() <= last && checkpoints > 1 || c.Checkpoint.GetCommitPosition() < last {
				t.Errorf("checkpoint %d follows %d", c.Checkpoint.GetCommitPosition(), last)
			}
			last = c.Checkpoint.GetCommitPosition()
		case *streams.ReadResp_Event:
			events++
			last = c.Event.GetCommitPosition()
		}
	}
	if checkpoints != 5 || events != 2 {
		t.Errorf("got %d checkpoints and %d events, want one for every 8 of 40 events, and 2", checkpoints, events)
	}
	again := n.subscribe(t, ofAll, fromPosition(last), filtered("stream", 4, 2, prefix("wanted")))
	if got, want := again.words(2), "checkpoint caught-up"; got != want {
		t.Errorf("from the last checkpoint: got %q, want %q", got, want)
	}
}

// Deletion ends nothing; a tombstone is delivered and ends the subscription.
func TestSubscriptionsAndDeletion(t *testing.T) {
	n := writable(t)
	n.must(t, "s", noStream, event("T", "a"))
	s, all := n.subscribe(t, ofStream("s")), n.subscribe(t, ofAll)
	if got, want := s.words(2)+", "+all.words(2), "a caught-up, a caught-up"; got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
	n.delete("s", anyState)
	n.must(t, "s", anyState, event("T", "b"))
	n.tombstone("s", anyState)
	if got, want := s.words(3), "b $streamDeleted FailedPrecondition"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := all.words(4), `{"$tb":9223372036854775807} b {"$tb":1} $streamDeleted`; got != want {
		t.Errorf("all: got %q, want %q", got, want)
	}
	if got, want := n.events(t, ofStream("$$s"), subscribing), "FailedPrecondition"; got != want {
		t.Errorf("metadata of a tombstoned stream: got %q, want %q", got, want)
	}
}

// Many writers, and subscribers that join at any time: each gets every event
// once, in order.
func TestNoGapAndNoRepeatBetweenHistoryAndLive(t *testing.T) {
	store := newSystemStore()
	// Few are kept in memory, so that subscribers fall behind all the time.
	n := start(t, esdbserver.Config{Store: store, Writer: store, LiveEvents: 7})
	const writers, each = 4, 150
	written := make(chan error, writers)
	for w := range writers {
		go func() {
			for i := range each {
				if got, want := outcome(n, fmt.Sprintf("s%d", w), int64(i)-1, event("T", fmt.Sprint(i))), fmt.Sprintf("done: %d", i); got != want {
					written <- fmt.Errorf("got %q, want %q", got, want)
					return
				}
			}
			written <- nil
		}()
	}
	all := make(chan string, 8)
	for i := range cap(all) {
		options, want := []readOption{ofAll}, writers*each
		if i%2 == 0 {
			options, want = []readOption{ofStream("s1")}, each
		}
		s := n.subscribe(t, options...)
		go func() { all <- inOrder(s, want) }()
	}
	for range writers {
		if err := <-written; err != nil {
			t.Fatal(err)
		}
	}
	for range cap(all) {
		if wrong := <-all; wrong != "" {
			t.Error(wrong)
		}
	}
}

// inOrder reads until so many events have come and says what is wrong with
// them.
func inOrder(s *subscriber, want int) string {
	position, next := uint64(0), make(map[string]uint64)
	for seen := 0; seen < want; {
		m, err := s.Recv()
		if err != nil {
			return fmt.Sprintf("after %d events: %v", seen, err)
		}
		e := m.GetEvent().GetEvent()
		if e == nil {
			continue
		}
		seen++
		stream := string(e.GetStreamIdentifier().GetStreamName())
		if e.GetCommitPosition() <= position || e.GetStreamRevision() != next[stream] {
			return fmt.Sprintf("got %s@%d at %d, want revision %d beyond position %d", stream, e.GetStreamRevision(), e.GetCommitPosition(), next[stream], position)
		}
		position, next[stream] = e.GetCommitPosition(), next[stream]+1
	}
	return ""
}

// A subscriber that does not read holds up neither appends nor others, is told
// that it fell behind, and still gets everything.
func TestASlowSubscriber(t *testing.T) {
	store := newSystemStore()
	for name, cfg := range map[string]esdbserver.Config{
		"few events are kept": {LiveEvents: 16},
		"few bytes are kept":  {LiveBytes: 1 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			cfg.Store, cfg.Writer = store, store
			slowSubscriber(t, start(t, cfg), "s "+name)
		})
	}
}

func slowSubscriber(t *testing.T, n *node, stream string) {
	t.Helper()
	// Of what it does not read, the transport holds so many bytes.
	narrow := dial(t, n.addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithInitialWindowSize(64<<10), grpc.WithInitialConnWindowSize(64<<10))
	slow := (&node{streams: streams.NewStreamsClient(narrow)}).subscribe(t, ofAll, fromEnd)
	quick := n.subscribe(t, ofAll, fromEnd)
	if got, want := slow.words(1)+" "+quick.words(1), "caught-up caught-up"; got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
	const events = 120
	data := strings.Repeat("x", 64<<10)
	for i := range events {
		n.must(t, stream, int64(i)-1, event("T", data))
		if m, err := quick.Recv(); err != nil || m.GetEvent() == nil {
			t.Fatalf("the quick one: got %v, %v, want event %d", m, err, i)
		}
	}
	seen, told := 0, map[string]int{}
	for seen < events || told["caught-up"] == 0 {
		m, err := slow.Recv()
		if err != nil {
			t.Fatalf("after %d events: %v", seen, err)
		}
		e := m.GetEvent().GetEvent()
		if e == nil {
			told[word(m)]++
			continue
		}
		if e.GetStreamRevision() != uint64(seen) {
			t.Fatalf("got revision %d, want %d", e.GetStreamRevision(), seen)
		}
		seen++
	}
	if told["fell-behind"] == 0 {
		t.Errorf("got %v, want it told that it fell behind", told)
	}
}

// When the server stops, subscribers are told, and come back elsewhere.
func TestShutdownEndsSubscriptions(t *testing.T) {
	store := newSystemStore()
	server, err := esdbserver.New(esdbserver.Config{Store: store})
	if err != nil {
		t.Fatal(err)
	}
	n, stop := serve(t, server)
	s := n.subscribe(t, ofAll)
	if got, want := s.words(1), "caught-up"; got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
	stop()
	if _, err := s.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v, want it unavailable", err)
	}
}

// When the store's own subscription fails, so do those who live on it; who comes
// back misses nothing.
func TestTheStoresSubscriptionFails(t *testing.T) {
	store := newSystemStore()
	faulty := storetest.NewFaulty(store)
	var follows atomic.Int32
	faulty.OnRead = func(c storetest.ReadCall) (int, error) {
		if c.Method == "Subscribe" && follows.Add(1) == 1 {
			return 2, errors.New("a cable was pulled") // when it has caught up and told of one event
		}
		return 1 << 30, nil
	}
	n := start(t, esdbserver.Config{Store: faulty, Writer: store})
	s := n.subscribe(t, ofAll)
	if got, want := s.words(1), "caught-up"; got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
	last := n.must(t, "s", noStream, event("T", "0"))
	if got, want := s.words(2), "0 Unknown"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	n.must(t, "s", 0, numbered(1, 4)...)
	again := n.subscribe(t, ofAll, fromPosition(last))
	n.must(t, "s", 4, event("T", "5"))
	got := strings.ReplaceAll(again.words(6), "caught-up ", "")
	if want := "1 2 3 4 5"; got != want && got != want+" caught-up" {
		t.Errorf("taken up again: got %q, want %q", got, want)
	}
}

// A subscriber that is stuck while the store's subscription fails and begins
// anew: what came in between is not lost on it, wherever it was stuck.
func TestAStuckSubscriberOverAFailure(t *testing.T) {
	for stuck := 1; stuck <= 6; stuck++ {
		t.Run(fmt.Sprintf("after %d events", stuck), func(t *testing.T) {
			store := newSystemStore()
			faulty := storetest.NewFaulty(store)
			var follows atomic.Int32
			faulty.OnRead = func(c storetest.ReadCall) (int, error) {
				if c.Method == "Subscribe" && follows.Add(1) == 1 {
					return 1 + stuck, errors.New("a cable was pulled")
				}
				return 1 << 30, nil
			}
			n := start(t, esdbserver.Config{Store: faulty, Writer: store})
			narrow := dial(t, n.addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
				grpc.WithInitialWindowSize(64<<10), grpc.WithInitialConnWindowSize(64<<10))
			slow := (&node{streams: streams.NewStreamsClient(narrow)}).subscribe(t, ofAll)
			quick := n.subscribe(t, ofAll)
			if got, want := slow.words(1)+" "+quick.words(1), "caught-up caught-up"; got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
			data := strings.Repeat("x", 100<<10)
			add := func(from, to int) {
				for i := from; i < to; i++ {
					n.must(t, "s", int64(i)-1, event("T", data))
				}
			}
			add(0, stuck)
			for range stuck {
				if m, err := quick.Recv(); err != nil || m.GetEvent() == nil {
					t.Fatalf("got %v, %v, want an event", m, err)
				}
			}
			if _, err := quick.Recv(); err == nil {
				t.Fatal("the store's subscription went on")
			}
			add(stuck, stuck+3) // while nobody follows
			if got := strings.Count(n.subscribe(t, ofAll).words(stuck+4), "x"); got == 0 {
				t.Fatal("got nothing from a new subscription")
			}
			add(stuck+3, stuck+6)
			for seen := 0; seen < stuck+6; {
				m, err := slow.Recv()
				if err != nil {
					return // it was told, and comes back
				}
				if e := m.GetEvent().GetEvent(); e != nil {
					if e.GetStreamRevision() != uint64(seen) {
						t.Fatalf("got revision %d, want %d", e.GetStreamRevision(), seen)
					}
					seen++
				}
			}
		})
	}
}

// Clients ping every ten seconds, also with nothing to say; a server that takes
// that for abuse ends the connection within forty.
func TestIdleSubscriptionsStay(t *testing.T) {
	if os.Getenv("WRIT_LONG") == "" {
		t.Skip("takes 45 s: WRIT_LONG=1")
	}
	n := writable(t)
	pinging := dial(t, n.addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 10 * time.Second, PermitWithoutStream: true}))
	s := (&node{streams: streams.NewStreamsClient(pinging)}).subscribe(t, ofAll)
	if got, want := s.words(1), "caught-up"; got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
	<-time.After(45 * time.Second)
	n.must(t, "s", noStream, event("T", "x"))
	if got, want := s.words(1), "x"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
