package esdbserver_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"writ/adapters/esdbserver"
	"writ/domain/eventstore"
)

// A panicking store is broken beyond what the port allows.
type panicking struct{ systemStore }

func (panicking) Head(context.Context, eventstore.StreamID) (eventstore.Recorded, error) {
	panic("a bug")
}

// A mistake in one call ends that call alone, and tells strangers nothing.
func TestAPanicEndsOneCall(t *testing.T) {
	store := panicking{newSystemStore()}
	var log strings.Builder
	n := start(t, esdbserver.Config{Store: store, Writer: store, Log: textLog(&log)})
	if got, want := outcome(n, "s", noStream, event("T", "x")), "Internal"; got != want {
		t.Errorf("append: got %q, want %q", got, want)
	}
	if got, want := n.delete("s", anyState), "Internal"; got != want {
		t.Errorf("delete: got %q, want %q", got, want)
	}
	_, err := n.read(t, ofStream("s"))
	if status.Code(err) != codes.Internal || strings.Contains(err.Error(), "a bug") {
		t.Errorf("read: got %v, want an internal error without more", err)
	}
	if got := n.events(t, ofAll); got != "" {
		t.Errorf("another call: got %q, want an empty ledger", got)
	}
	if !strings.Contains(log.String(), "a bug") {
		t.Errorf("the log does not tell of it:\n%s", log.String())
	}
}

// A waiting writer holds appends until it is told to go on.
type waiting struct {
	systemStore
	begun, goOn chan struct{}
}

func (w waiting) Append(ctx context.Context, stream eventstore.StreamID, expected eventstore.Expected, events ...eventstore.Proposed) (eventstore.Appended, error) {
	w.begun <- struct{}{}
	<-w.goOn
	return w.systemStore.Append(ctx, stream, expected, events...)
}

// Appends under way are waited for; if that takes too long, it is said.
func TestShutdownAndAppendsUnderWay(t *testing.T) {
	for name, patient := range map[string]bool{"patient": true, "out of patience": false} {
		t.Run(name, func(t *testing.T) {
			w := waiting{newSystemStore(), make(chan struct{}), make(chan struct{})}
			server, err := esdbserver.New(esdbserver.Config{Store: w, Writer: w})
			if err != nil {
				t.Fatal(err)
			}
			n, served := listen(t, server)
			answered := make(chan string, 1)
			go func() { answered <- outcome(n, "s", noStream, event("T", "x")) }()
			<-w.begun
			ctx, cancel := context.WithCancel(t.Context())
			stopped := make(chan error, 1)
			go func() { stopped <- server.Shutdown(ctx) }()
			if !patient {
				cancel()
				if got, want := <-answered, "Unavailable"; got != want {
					t.Errorf("got %q, want %q: nobody knows", got, want)
				}
			}
			close(w.goOn)
			err = <-stopped
			if patient != (err == nil) || err != nil && !strings.Contains(err.Error(), "1 appends or deletes were cut off") {
				t.Errorf("shutdown: got %v, want an error only if it was cut off", err)
			}
			if patient {
				if got, want := <-answered, "done: 0"; got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			}
			if err := <-served; err != nil {
				t.Errorf("serve: %v", err)
			}
			cancel()
		})
	}
}

// Nobody waits for a subscriber who does not read, and it is no error.
func TestShutdownDoesNotWaitForASlowSubscriber(t *testing.T) {
	store := newSystemStore()
	server, err := esdbserver.New(esdbserver.Config{Store: store, Writer: store})
	if err != nil {
		t.Fatal(err)
	}
	n, served := listen(t, server)
	narrow := dial(t, n.addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithInitialWindowSize(64<<10), grpc.WithInitialConnWindowSize(64<<10))
	slow := (&node{streams: streams.NewStreamsClient(narrow)}).subscribe(t, ofAll)
	quick := n.subscribe(t, ofAll)
	if got, want := slow.words(1)+" "+quick.words(1), "caught-up caught-up"; got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
	for i := range 10 {
		n.must(t, "s", int64(i)-1, event("T", strings.Repeat("x", 100<<10)))
		if _, err := quick.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := server.Shutdown(ctx); err != nil {
		t.Errorf("shutdown: got %v, want no error", err)
	}
	if err := <-served; err != nil {
		t.Errorf("serve: %v", err)
	}
}

func TestServeTellsWhyItEnds(t *testing.T) {
	server, err := esdbserver.New(esdbserver.Config{Store: newSystemStore()})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Serve(brokenListener{}); err == nil || !strings.Contains(err.Error(), "no more") {
		t.Errorf("got %v, want the listener's error", err)
	}
	if _, err := esdbserver.New(esdbserver.Config{}); err == nil {
		t.Error("a server without a store was made")
	}
}

type brokenListener struct{}

func (brokenListener) Accept() (net.Conn, error) { return nil, errors.New("no more") }
func (brokenListener) Close() error              { return nil }
func (brokenListener) Addr() net.Addr            { return &net.TCPAddr{} }
