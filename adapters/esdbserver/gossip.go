package esdbserver

import (
	"context"
	"net"
	"strconv"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"writ/domain/eventstore"
)

// A member is the only one of its cluster, and leads it.
type member struct {
	gossip.UnimplementedGossipServer
	id  eventstore.EventID
	now func() time.Time
}

// memberID is the same for every start of one ledger. The Node client takes
// only ids that name a version of UUID.
func memberID(ledger eventstore.LedgerID) eventstore.EventID {
	return eventstore.EventID(uuid.NewSHA1(uuid.NameSpaceOID, []byte("event store server of ledger "+ledger)))
}

// Read tells a client that discovers a cluster to stay where it is. The address
// is the one by which this client came, because a client goes to exactly what
// it is told, and through a proxy or a container's port no other may work.
func (m *member) Read(ctx context.Context, _ *shared.Empty) (*gossip.ClusterInfo, error) {
	host, port, ok := dialled(ctx)
	if !ok {
		return nil, fail(codes.Unavailable, "the address of this server could not be found out")
	}
	return &gossip.ClusterInfo{Members: []*gossip.MemberInfo{{
		InstanceId:   encodeUUID(m.id, structured),
		TimeStamp:    ticks(m.now()),
		State:        gossip.MemberInfo_Leader,
		IsAlive:      true,
		HttpEndPoint: &gossip.EndPoint{Address: host, Port: port},
	}}}, nil
}

func dialled(ctx context.Context) (host string, port uint32, ok bool) {
	md, _ := metadata.FromIncomingContext(ctx)
	for _, authority := range md.Get(":authority") {
		if host, port, ok := endpoint(authority); ok {
			return host, port, true
		}
	}
	p, ok := peer.FromContext(ctx)
	if !ok || p.LocalAddr == nil {
		return "", 0, false
	}
	return endpoint(p.LocalAddr.String())
}

func endpoint(hostport string) (string, uint32, bool) {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil || host == "" {
		return "", 0, false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return host, uint32(n), err == nil && n > 0
}
