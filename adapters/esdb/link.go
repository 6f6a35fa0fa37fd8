package esdb

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
)

const (
	// maxMessage is what EventStoreDB's own clients take.
	maxMessage = 17 << 20
	// window bounds what a slow reader of one call holds in memory: the server
	// is told to send no more than this beyond what was read.
	window = 1 << 20
)

// A link is one TCP connection to one node, made once: when the connection
// has ended, so has the link. It is used only after [client.connect] has
// looked at the node behind it.
type link struct {
	addr    string
	conn    *grpc.ClientConn
	streams streams.StreamsClient
	born    time.Time
	heard   atomic.Int64 // when the last message came, in nanoseconds after born
}

// errSpent ends gRPC's attempts to redial. A connection that it made by
// itself would lead to a node that nobody has looked at.
var errSpent = errors.New("the connection has ended")

// dial gives the link to a node; nothing is sent yet. name is what the node's
// certificate must say, addr where it is.
func (t *target) dial(name, addr string) (*link, error) {
	var dialled atomic.Bool
	once := func(ctx context.Context, _ string) (net.Conn, error) {
		if dialled.Swap(true) {
			return nil, errSpent
		}
		return (&net.Dialer{Timeout: t.callTimeout}).DialContext(ctx, "tcp", addr)
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(t.transport),
		grpc.WithContextDialer(once),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: t.callTimeout}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: t.keepAliveInterval, Timeout: t.keepAliveTimeout, PermitWithoutStream: true,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		grpc.WithInitialWindowSize(window),
		grpc.WithInitialConnWindowSize(8 * window),
		grpc.WithIdleTimeout(0),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
	}
	if t.login != nil {
		opts = append(opts, grpc.WithPerRPCCredentials(t.login))
	}
	conn, err := grpc.NewClient("passthrough:///"+name, opts...)
	if err != nil {
		return nil, fmt.Errorf("%s: %s", addr, err)
	}
	return &link{addr: addr, conn: conn, streams: streams.NewStreamsClient(conn), born: time.Now()}, nil
}

// alive tells whether calls may still be begun. If the connection ends right
// after, they get an error of which the outcome is unknown, like any other.
func (l *link) alive() bool { return l.conn.GetState() == connectivity.Ready }

func (l *link) now() int64 { return int64(time.Since(l.born)) }

// hear notes that the node has said something.
func (l *link) hear() { l.heard.Store(l.now()) }

// silentSince tells whether nothing at all was heard after a time.
func (l *link) silentSince(then int64) bool { return l.heard.Load() < then }

var _ credentials.PerRPCCredentials = (*login)(nil)

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (l *login) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	pair := base64.StdEncoding.EncodeToString([]byte(l.user + ":" + string(l.password)))
	return map[string]string{"authorization": "Basic " + pair}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (l *login) RequireTransportSecurity() bool { return true }
