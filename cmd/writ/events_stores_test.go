package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"writ/adapters/httpapi"
	"writ/adapters/pebblestore"
	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
	"writ/domain/op"
	"writ/projections"
	"writ/projections/recoveryqueue"
	"writ/projections/viewtest"
)

const storesLedger = eventstore.LedgerID("3f9c2ab41d6e4a70")

// stores gives each store there is, under the name that its cursors bear.
func stores(t *testing.T) map[string]eventstore.Store {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ledger")
	if err := pebblestore.Create(dir, storesLedger, pebblestore.Options{}); err != nil {
		t.Fatal(err)
	}
	embedded, err := pebblestore.Open(dir, pebblestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := embedded.Close(); err != nil {
			t.Error(err)
		}
	})
	return map[string]eventstore.Store{"memory": storetest.NewMemory(storesLedger), storeName: embedded}
}

// idle is an engine of which nothing is asked here, and an empty queue.
type idle struct{ httpapi.Engine }

func (idle) List(context.Context) ([]recoveryqueue.Item, error) { return nil, nil }

// serveLedger serves a ledger and gives a client of it.
func serveLedger(t *testing.T, name string, store eventstore.Store) *client {
	t.Helper()
	api, err := httpapi.New(httpapi.Config{
		Engine: idle{}, Ledger: store, StoreName: name, Queue: idle{}, QueueLag: func() projections.Lag { return projections.Lag{} },
		Log: slog.New(slog.DiscardHandler), Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := api.Server(nil)
	ended := make(chan error, 1)
	go func() { ended <- api.Serve(srv, l) }()
	t.Cleanup(func() {
		api.Drain()
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := errors.Join(srv.Shutdown(ctx), <-ended); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	c, err := clientFlags{url: "http://" + l.Addr().String()}.open()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A gathered is what a follower is given, one at a time.
type gathered struct {
	t        *testing.T
	messages chan message
	cancel   context.CancelFunc
}

func gather(t *testing.T, c *client, path, lastID string) *gathered {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	g := &gathered{t: t, messages: make(chan message), cancel: cancel}
	var running sync.WaitGroup
	running.Go(func() {
		defer close(g.messages)
		_ = c.stream(ctx, path, lastID, func(m message) error {
			select {
			case g.messages <- m:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	return g
}

// next gives what comes next that says something.
func (g *gathered) next() message {
	g.t.Helper()
	for m := range g.messages {
		if m.data != "" {
			return m
		}
	}
	g.t.Fatal("the stream ended")
	return message{}
}

func (g *gathered) event() httpapi.LedgerEvent {
	g.t.Helper()
	m := g.next()
	var e httpapi.LedgerEvent
	if err := json.Unmarshal([]byte(m.data), &e); err != nil || m.name != "" {
		g.t.Fatalf("got %+v (%v), want an event", m, err)
	}
	return e
}

// tell puts the lives of some ops on record.
func tell(t *testing.T, store eventstore.Store, from, n uint64) {
	t.Helper()
	for i := from; i < from+n; i++ {
		s := viewtest.NewStory(t, store, viewtest.Nonce(i))
		s.Started()
		s.Launching()
		s.Running(fmt.Sprintf("UPID:pve1:%d:", i))
		s.Succeeded()
	}
}

// What those who follow a ledger see depends on what is in it, and on nothing
// of the store but the positions and the store's clock.
func TestFollowersSeeTheSameWhateverTheStore(t *testing.T) {
	seen := map[string][]string{}
	for name, store := range stores(t) {
		c := serveLedger(t, name, store)
		tell(t, store, 0, 20)
		note := func(what string, e httpapi.LedgerEvent) {
			seen[name] = append(seen[name], fmt.Sprintf("%s %s@%d %s %s %s %s %s", what, e.Stream, e.Revision, e.Type, e.ID, e.Data, e.Metadata, e.Withheld))
		}
		all := gather(t, c, "/v1/events", "")
		var cursors []string
		for range 80 {
			e := all.event()
			note("on record", e)
			cursors = append(cursors, e.Cursor)
		}
		if m := all.next(); m.name != "caught-up" {
			t.Errorf("%s: then %+v, want caught-up", name, m)
		}
		tell(t, store, 100, 2)
		for range 8 {
			note("live", all.event())
		}
		all.cancel()
		// A break at any place, then the rest.
		for _, at := range []int{0, 1, 39, 78} {
			again := gather(t, c, "/v1/events", cursors[at])
			note("again", again.event())
			again.cancel()
		}
		some := gather(t, c, "/v1/events?types=OpSucceeded,OpLaunching&streams=op-"+strings.Repeat("0", 30), "")
		for range 10 {
			note("filtered", some.event())
		}
		some.cancel()
		for _, foreign := range []string{"3f9c2ab41d6e4a70:other:1", "0000000000000000:" + name + ":1", "3f9c2ab41d6e4a70:" + name + ":9999999999"} {
			var p *httpapi.Problem
			if err := c.stream(t.Context(), "/v1/events", foreign, nil); !errors.As(err, &p) || p.Status != 412 {
				t.Errorf("%s: cursor %s: %v, want 412", name, foreign, err)
			} else {
				seen[name] = append(seen[name], "refused "+p.Reason)
			}
		}
	}
	if !slices.Equal(seen["memory"], seen[storeName]) {
		for i, want := range seen["memory"] {
			if got := seen[storeName][i]; got != want {
				t.Fatalf("line %d\non %s: %s\non memory: %s", i, storeName, got, want)
			}
		}
	}
	if len(seen["memory"]) < 100 {
		t.Errorf("%d things seen, want all", len(seen["memory"]))
	}
}

// From the moment at which the append is answered to the moment at which a
// follower holds the event: milliseconds, not the interval of a look. The bound
// is wide, for machines that do other things as well.
func TestEventsComeWithinMilliseconds(t *testing.T) {
	for name, store := range stores(t) {
		c := serveLedger(t, name, store)
		g := gather(t, c, "/v1/events", "")
		if m := g.next(); m.name != "caught-up" {
			t.Fatalf("%s: %+v, want caught-up", name, m)
		}
		var took []time.Duration
		for i := range uint64(51) {
			story := viewtest.NewStory(t, store, viewtest.Nonce(i))
			story.Started()
			began := time.Now()
			g.event()
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		if median := took[len(took)/2]; median > 50*time.Millisecond {
			t.Errorf("%s: half of the events came after more than %s, want it within 50ms", name, median)
		}
	}
}

// A follower that takes nothing holds up neither the ledger nor the others.
func TestASlowFollowerHoldsNothingUp(t *testing.T) {
	for name, store := range stores(t) {
		c := serveLedger(t, name, store)
		slow, quick := gather(t, c, "/v1/events", ""), gather(t, c, "/v1/events", "")
		slow.next()
		quick.next()
		const ops = 300
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 4 * ops {
				quick.event()
			}
		}()
		tell(t, store, 0, ops)
		select {
		case <-done:
		case <-time.After(30 * time.Second):
			t.Errorf("%s: the quick follower was held up", name)
		}
		quick.cancel()
		slow.cancel()
	}
}

// FuzzReadMessages: whatever stands in a stream, what is handed on was whole in
// it, and nothing panics.
func FuzzReadMessages(f *testing.F) {
	f.Add("id: a:b:1\ndata: {}\n\n")
	f.Add(": heartbeat\n\n")
	f.Add("event: end\ndata: {\"status\":503}\n\nid: 1\n")
	f.Add("data\n\n\n\ndata:x\r\n\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		n := 0
		err := readMessages(strings.NewReader(text), func(m message) error {
			n++
			if strings.Contains(m.name+m.id+m.data, "\n") {
				t.Errorf("a field holds a line end: %+v", m)
			}
			return nil
		}, func(err error) error { return &lostError{err} })
		var lost *lostError
		if !errors.As(err, &lost) || !errors.Is(lost.err, io.ErrUnexpectedEOF) {
			t.Errorf("the end gives %v, want a lost connection", err)
		}
		if ends := strings.Count(text, "\n"); n > ends {
			t.Errorf("%d events in %d lines", n, ends)
		}
	})
}

func TestAStreamIsAskedForLikeEverythingElse(t *testing.T) {
	refusing := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<h1>welcome</h1>")
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = refusing.Serve(l) }()
	defer refusing.Close()
	c, err := clientFlags{url: "http://" + l.Addr().String()}.open()
	if err != nil {
		t.Fatal(err)
	}
	err = c.stream(t.Context(), "/v1/events?from=start", "", nil)
	if err == nil || !strings.Contains(err.Error(), "not one of writ's") {
		t.Errorf("a page in place of a stream: %v, want it named", err)
	}
	_ = refusing.Close()
	var lost *lostError
	if err := c.stream(t.Context(), "/v1/events?from=start", "", nil); !errors.As(err, &lost) || strings.Contains(err.Error(), "/v1/events") {
		t.Errorf("nobody there: %v, want a lost connection without the URL", err)
	}
}

// How fast a follower is given what is on record: reading, the look whether an
// envelope may be shown, JSON, and a connection on this machine.
func BenchmarkFollow(b *testing.B) {
	dir := filepath.Join(b.TempDir(), "ledger")
	if err := pebblestore.Create(dir, storesLedger, pebblestore.Options{}); err != nil {
		b.Fatal(err)
	}
	store, err := pebblestore.Open(dir, pebblestore.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	const ops = 2000
	for i := range uint64(ops) {
		s := viewtest.NewStory(b, store, viewtest.Nonce(i))
		h := s.Header()
		h.Attempt, h.OpID = 1, op.OpID(h.Nonce, 1, op.Claim{1})
		s.Append(&op.Started{Header: h, Claim: op.Claim{1}, Intent: op.Intent{Class: h.Class, Target: h.Target}, Envelope: make([]byte, 1500)})
		s.Launching()
		s.Running("UPID:pve1:1:")
		s.Succeeded()
	}
	api, err := httpapi.New(httpapi.Config{
		Engine: idle{}, Ledger: store, StoreName: storeName, Queue: idle{}, QueueLag: func() projections.Lag { return projections.Lag{} },
		Log: slog.New(slog.DiscardHandler), Now: time.Now,
	})
	if err != nil {
		b.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	srv := api.Server(nil)
	go func() { _ = api.Serve(srv, l) }()
	defer srv.Close()
	c, err := clientFlags{url: "http://" + l.Addr().String()}.open()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		n := 0
		err := c.stream(b.Context(), "/v1/events", "", func(m message) error {
			if m.name == "caught-up" {
				return errSeen
			}
			n++
			return nil
		})
		if !errors.Is(err, errSeen) || n < 4*ops {
			b.Fatalf("%d events, %v; want %d", n, err, 4*ops)
		}
	}
	b.ReportMetric(float64(4*ops)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
