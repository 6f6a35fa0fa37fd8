package esdbserver_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"writ/adapters/esdbserver"
	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
)

const ledgerID = "0123456789abcdef"

// A systemStore is a ledger in memory that takes streams beginning with $, as a
// writable server's store does. It keeps them under another first letter.
type systemStore struct{ *storetest.Memory }

func newSystemStore() systemStore { return systemStore{storetest.NewMemory(ledgerID)} }

func kept(s eventstore.StreamID) eventstore.StreamID {
	if rest, ok := strings.CutPrefix(string(s), "$"); ok {
		return eventstore.StreamID("\x01" + rest)
	}
	return s
}

func shown(e eventstore.Recorded) eventstore.Recorded {
	if rest, ok := strings.CutPrefix(string(e.Stream), "\x01"); ok {
		e.Stream = eventstore.StreamID("$" + rest)
	}
	return e
}

func keptFilter(f eventstore.Filter) eventstore.Filter {
	var k eventstore.Filter
	for _, p := range f.StreamPrefixes {
		k.StreamPrefixes = append(k.StreamPrefixes, string(kept(eventstore.StreamID(p))))
	}
	return k
}

func shownAll(events iter.Seq2[eventstore.Recorded, error]) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for e, err := range events {
			if !yield(shown(e), err) {
				return
			}
		}
	}
}

func (s systemStore) Append(ctx context.Context, stream eventstore.StreamID, expected eventstore.Expected, events ...eventstore.Proposed) (eventstore.Appended, error) {
	return s.Memory.Append(ctx, kept(stream), expected, events...)
}

func (s systemStore) Head(ctx context.Context, stream eventstore.StreamID) (eventstore.Recorded, error) {
	e, err := s.Memory.Head(ctx, kept(stream))
	return shown(e), err
}

func (s systemStore) ReadStream(ctx context.Context, stream eventstore.StreamID, from eventstore.Revision) iter.Seq2[eventstore.Recorded, error] {
	return shownAll(s.Memory.ReadStream(ctx, kept(stream), from))
}

func (s systemStore) ReadAll(ctx context.Context, after eventstore.Cursor, filter eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	return shownAll(s.Memory.ReadAll(ctx, after, keptFilter(filter)))
}

func (s systemStore) Subscribe(ctx context.Context, after eventstore.Cursor, filter eventstore.Filter) iter.Seq2[eventstore.Notice, error] {
	return func(yield func(eventstore.Notice, error) bool) {
		for n, err := range s.Memory.Subscribe(ctx, after, keptFilter(filter)) {
			n.Event = shown(n.Event)
			if !yield(n, err) {
				return
			}
		}
	}
}

// A node is a server under test and a connection to it.
type node struct {
	addr    string
	conn    *grpc.ClientConn
	streams streams.StreamsClient
}

// start serves a store on loopback until the test ends.
func start(t testing.TB, cfg esdbserver.Config) *node {
	t.Helper()
	server, err := esdbserver.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n, stop := serve(t, server)
	t.Cleanup(stop)
	return n
}

// serve lets a server listen on loopback until stop is called.
func serve(t testing.TB, server *esdbserver.Server) (n *node, stop func()) {
	t.Helper()
	n, served := listen(t, server)
	return n, func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	}
}

// listen lets a server listen on loopback until the test shuts it down.
func listen(t testing.TB, server *esdbserver.Server) (n *node, served <-chan error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	n = &node{addr: l.Addr().String()}
	n.conn = dial(t, n.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	n.streams = streams.NewStreamsClient(n.conn)
	return n, ended
}

func textLog(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// writable serves a ledger in memory to which clients may write.
func writable(t testing.TB) *node {
	t.Helper()
	store := newSystemStore()
	return start(t, esdbserver.Config{Store: store, Writer: store})
}

func dial(t testing.TB, addr string, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+addr, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// event is one to append, of JSON content.
func event(eventType, data string) *streams.AppendReq_ProposedMessage {
	id := uuid.New()
	return &streams.AppendReq_ProposedMessage{
		Id:       &shared.UUID{Value: &shared.UUID_String_{String_: id.String()}},
		Metadata: map[string]string{"type": eventType, "content-type": "application/json"},
		Data:     []byte(data),
	}
}

// Expected states of a stream, beside a revision.
const (
	noStream = -1
	anyState = -2
	exists   = -4
)

func identifier(stream string) *shared.StreamIdentifier {
	return &shared.StreamIdentifier{StreamName: []byte(stream)}
}

// send makes one call of Append and gives what came back, trailers included.
func (n *node) send(ctx context.Context, requests ...*streams.AppendReq) (*streams.AppendResp, metadata.MD, error) {
	var trailer metadata.MD
	call, err := n.streams.Append(ctx, grpc.Trailer(&trailer))
	if err != nil {
		return nil, nil, err
	}
	for _, r := range requests {
		if err := call.Send(r); err != nil && !errors.Is(err, io.EOF) {
			return nil, nil, err
		}
	}
	answer, err := call.CloseAndRecv()
	return answer, trailer, err
}

func appendRequests(stream string, expected int64, events ...*streams.AppendReq_ProposedMessage) []*streams.AppendReq {
	o := &streams.AppendReq_Options{StreamIdentifier: identifier(stream)}
	switch expected {
	case noStream:
		o.ExpectedStreamRevision = &streams.AppendReq_Options_NoStream{NoStream: &shared.Empty{}}
	case anyState:
		o.ExpectedStreamRevision = &streams.AppendReq_Options_Any{Any: &shared.Empty{}}
	case exists:
		o.ExpectedStreamRevision = &streams.AppendReq_Options_StreamExists{StreamExists: &shared.Empty{}}
	default:
		o.ExpectedStreamRevision = &streams.AppendReq_Options_Revision{Revision: uint64(expected)}
	}
	requests := []*streams.AppendReq{{Content: &streams.AppendReq_Options_{Options: o}}}
	for _, e := range events {
		requests = append(requests, &streams.AppendReq{Content: &streams.AppendReq_ProposedMessage_{ProposedMessage: e}})
	}
	return requests
}

// append puts events on record and gives the answer.
func (n *node) append(t testing.TB, stream string, expected int64, events ...*streams.AppendReq_ProposedMessage) *streams.AppendResp {
	t.Helper()
	answer, _, err := n.send(t.Context(), appendRequests(stream, expected, events...)...)
	if err != nil {
		t.Fatalf("append to %s at %d: %v", stream, expected, err)
	}
	return answer
}

// must is append for a test that needs it to succeed; it gives the position of
// the last event.
func (n *node) must(t testing.TB, stream string, expected int64, events ...*streams.AppendReq_ProposedMessage) uint64 {
	t.Helper()
	answer := n.append(t, stream, expected, events...)
	if answer.GetSuccess() == nil {
		t.Fatalf("append to %s at %d: got %v, want success", stream, expected, answer)
	}
	return answer.GetSuccess().GetPosition().GetCommitPosition()
}

// read gives every message of a read, and how it ended.
func (n *node) read(t testing.TB, options ...readOption) ([]*streams.ReadResp, error) {
	t.Helper()
	call, err := n.streams.Read(t.Context(), readRequest(options...))
	if err != nil {
		t.Fatal(err)
	}
	var messages []*streams.ReadResp
	for {
		m, err := call.Recv()
		if errors.Is(err, io.EOF) {
			return messages, nil
		}
		if err != nil {
			return messages, err
		}
		messages = append(messages, m)
	}
}

// events reads, and gives the data of the events, or what else came, as words.
func (n *node) events(t testing.TB, options ...readOption) string {
	t.Helper()
	messages, err := n.read(t, options...)
	words := make([]string, 0, len(messages)+1)
	for _, m := range messages {
		words = append(words, word(m))
	}
	if err != nil {
		words = append(words, status.Code(err).String())
	}
	return strings.Join(words, " ")
}

// word gives a message in short.
func word(m *streams.ReadResp) string {
	switch c := m.GetContent().(type) {
	case *streams.ReadResp_Event:
		if c.Event.GetLink() != nil {
			return string(c.Event.GetLink().GetData()) + "->" + string(c.Event.GetEvent().GetData())
		}
		if kind := c.Event.GetEvent().GetMetadata()["type"]; strings.HasPrefix(kind, "$stream") {
			return kind
		}
		return string(c.Event.GetEvent().GetData())
	case *streams.ReadResp_Confirmation:
		return "confirmed"
	case *streams.ReadResp_CaughtUp_:
		return "caught-up"
	case *streams.ReadResp_FellBehind_:
		return "fell-behind"
	case *streams.ReadResp_Checkpoint_:
		return "checkpoint"
	case *streams.ReadResp_StreamNotFound_:
		return "not-found"
	case *streams.ReadResp_FirstStreamPosition:
		return "first"
	case *streams.ReadResp_LastStreamPosition:
		return "last"
	case *streams.ReadResp_LastAllStreamPosition:
		return "last-all"
	}
	return "nothing"
}

// startOver serves a store that the test knows, and lets clients write.
func startOver(t testing.TB, store systemStore) *node {
	t.Helper()
	return start(t, esdbserver.Config{Store: store, Writer: store})
}

func mustID(t testing.TB, e *streams.AppendReq_ProposedMessage) eventstore.EventID {
	t.Helper()
	id, err := uuid.Parse(e.GetId().GetString_())
	if err != nil {
		t.Fatal(err)
	}
	return eventstore.EventID(id)
}

// A subscriber reads messages one by one.
type subscriber struct {
	streams.Streams_ReadClient
	leave context.CancelFunc
}

// patience bounds each subscription: a server that is silent fails instead.
const patience = time.Minute

// subscribe follows from the start; the confirmation has come when it returns.
func (n *node) subscribe(t testing.TB, options ...readOption) *subscriber {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	call, err := n.streams.Read(ctx, readRequest(append(options, subscribing)...))
	if err != nil {
		t.Fatal(err)
	}
	s := &subscriber{call, cancel}
	first, err := s.Recv()
	if err != nil || first.GetConfirmation().GetSubscriptionId() == "" {
		t.Fatalf("got %v, %v, want a confirmation first", first, err)
	}
	return s
}

// words gives so many messages in short; the error is one of them.
func (s *subscriber) words(n int) string {
	var words []string
	for range n {
		m, err := s.Recv()
		if err != nil {
			words = append(words, status.Code(err).String())
			break
		}
		words = append(words, word(m))
	}
	return strings.Join(words, " ")
}
