package esdbserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"writ/domain/eventstore"
)

// A Writer is what a writable server needs of its store beyond the port: that
// Append also takes streams whose names begin with $. If it refuses them, the
// server takes no deletes and no stream metadata, and works otherwise.
//
// Others may append to the store while the server runs, but not to streams that
// clients delete: the check whether a stream is deleted and the append after it
// are one step only for appends through the server.
type Writer interface {
	eventstore.Appender
}

// Config of a server.
type Config struct {
	// Store is what is served.
	Store eventstore.Store
	// Writer makes the server writable; it writes to the same store. Nil: the
	// server is read-only.
	Writer Writer
	// Users may sign in. Nil: whoever can connect may do everything that the
	// server offers, and credentials are not looked at.
	Users map[string]Password
	// TLS of the listener; needs a certificate. Nil: cleartext HTTP/2, over
	// which most clients send no credentials.
	TLS *tls.Config
	// Log gets what an operator should know. Nil: nothing is logged.
	Log *slog.Logger
	// Clock is asked for the age of events. Nil: time.Now.
	Clock func() time.Time
	// LiveEvents bounds the newest events that are kept in memory for live
	// subscribers. 0: 2048. LiveBytes bounds their size. 0: 16 MiB.
	LiveEvents, LiveBytes int
}

const (
	// maxMessage is what both ends of the protocol take in one message.
	maxMessage = 17 << 20
	// maxHeaders bounds the headers of a call, in bytes.
	maxHeaders = 32 << 10
	// maxCalls bounds the calls, subscriptions among them, of one connection.
	maxCalls = 4096

	defaultLiveEvents = 2048
	defaultLiveBytes  = 16 << 20
)

// A Server serves one store. It may serve several listeners at once.
type Server struct {
	grpc     *grpc.Server
	log      *slog.Logger
	stopping chan struct{} // closed by Shutdown: subscriptions end
	stop     sync.Once
	tail     *tail
	writes   func() int64 // how many are under way
}

// New makes a server. It answers nothing before Serve.
func New(cfg Config) (*Server, error) {
	if cfg.Store == nil {
		return nil, errors.New("event store server: no store was given")
	}
	for name, password := range cfg.Users {
		if name == "" || password == "" {
			return nil, fmt.Errorf("event store server: user %q: name and password must not be empty", name)
		}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.LiveEvents <= 0 {
		cfg.LiveEvents = defaultLiveEvents
	}
	if cfg.LiveBytes <= 0 {
		cfg.LiveBytes = defaultLiveBytes
	}
	l := &ledger{store: cfg.Store, now: cfg.Clock}
	s := &Server{
		log:      cfg.Log,
		stopping: make(chan struct{}),
		writes:   func() int64 { return 0 },
		tail:     newTail(l, cfg.LiveEvents, cfg.LiveBytes, cfg.Log),
	}
	gate := newGatekeeper(cfg.Users, cfg.Log)
	options := []grpc.ServerOption{
		// The Go client pings every ten seconds, with or without a call open;
		// the default policy would end its connection for that.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 2 * time.Second, PermitWithoutStream: true}),
		// A subscriber whose machine is gone must not be kept for ever.
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 20 * time.Second}),
		grpc.ConnectionTimeout(10 * time.Second),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.MaxConcurrentStreams(maxCalls),
		grpc.ChainUnaryInterceptor(gate.unary),
		grpc.ChainStreamInterceptor(gate.stream),
	}
	if cfg.TLS != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(cfg.TLS)))
	}
	s.grpc = grpc.NewServer(options...)
	service := &streamsService{ledger: l, tail: s.tail, stopping: s.stopping}
	if cfg.Writer != nil {
		service.writer = newWriter(l, cfg.Writer)
		s.writes = service.writer.underWay.Load
	}
	streams.RegisterStreamsServer(s.grpc, service)
	serverfeatures.RegisterServerFeaturesServer(s.grpc, &features{writable: cfg.Writer != nil})
	gossip.RegisterGossipServer(s.grpc, &member{id: memberID(cfg.Store.LedgerID()), now: cfg.Clock})
	return s, nil
}

// Serve answers calls that come in through a listener until Shutdown, and
// gives nil then. It closes the listener.
func (s *Server) Serve(l net.Listener) error {
	err := s.grpc.Serve(l)
	if err == nil || errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	return fmt.Errorf("serve events on %s: %v", l.Addr(), err)
}

// Shutdown takes no new calls, ends the subscriptions with UNAVAILABLE, waits
// for the other calls under way, and ends what is left when ctx does. It gives
// an error if appends or deletes were among that: their outcome is unknown. The
// store stays open. Serve has returned or is about to when Shutdown does.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop.Do(func() { close(s.stopping) })
	done := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(done)
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		// What is left may be subscribers who don't read.
		if n := s.writes(); n > 0 {
			err = fmt.Errorf("stop serving events: %d appends or deletes were cut off, their outcome is unknown: %v", n, ctx.Err())
		}
		s.grpc.Stop() // ends GracefulStop too
		<-done
	}
	s.tail.close()
	return err
}
