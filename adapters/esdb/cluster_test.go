package esdb_test

import (
	"context"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"writ/adapters/esdb"
	"writ/domain/eventstore"
)

// A cluster of three nodes, of which the leader answers and the others say who
// that is. It keeps one revision number, and no events.
type cluster struct {
	nodes [3]*node

	mu        sync.Mutex // guards everything below
	leader    int
	silent    bool // those that don't lead don't say who does
	next      uint64
	served    [3]int        // appends, by node
	following [3]int        // subscriptions begun, by node
	deluded   map[int]bool  // take themselves for the leader in gossip
	changed   chan struct{} // closed when following changes
}

type node struct {
	*scripted
	gossip.UnimplementedGossipServer
	cluster *cluster
	number  int
	addr    string
	server  *grpc.Server
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{deluded: make(map[int]bool), changed: make(chan struct{})}
	for i := range c.nodes {
		script, _ := newScripted(t)
		n := &node{scripted: script, cluster: c, number: i}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		n.addr = l.Addr().String()
		n.server = grpc.NewServer(grpc.StreamInterceptor(n.onlyLeader))
		streams.RegisterStreamsServer(n.server, script)
		registerFeatures(n.server, script)
		gossip.RegisterGossipServer(n.server, n)
		script.append = n.onAppend
		script.read = n.onRead
		c.nodes[i] = n
		ended := make(chan error, 1)
		go func() { ended <- n.server.Serve(l) }()
		t.Cleanup(func() {
			n.server.Stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
	return c
}

func (c *cluster) seeds() esdb.Options {
	return esdb.Options{Connection: esdb.Secret("esdb://" + c.nodes[0].addr + "," + c.nodes[1].addr + "," + c.nodes[2].addr + "?tls=false")}
}

func (c *cluster) lead(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leader = n
}

// onlyLeader refuses every call that a node does not lead for. A call that
// does not demand the leader is a mistake of the store.
func (n *node) onlyLeader(srv any, in grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	md, _ := metadata.FromIncomingContext(in.Context())
	if got := md.Get("requires-leader"); len(got) != 1 || got[0] != "true" {
		return status.Errorf(codes.InvalidArgument, "requires-leader is %q", got)
	}
	n.cluster.mu.Lock()
	leader, silent := n.cluster.leader, n.cluster.silent
	n.cluster.mu.Unlock()
	if leader == n.number {
		return handler(srv, in)
	}
	trailer := metadata.Pairs("exception", "not-leader")
	if !silent {
		host, port, _ := net.SplitHostPort(n.cluster.nodes[leader].addr)
		trailer.Append("leader-endpoint-host", host)
		trailer.Append("leader-endpoint-port", port)
	}
	in.SetTrailer(trailer)
	return status.Error(codes.NotFound, "not the leader")
}

func (n *node) Read(context.Context, *shared.Empty) (*gossip.ClusterInfo, error) {
	n.cluster.mu.Lock()
	defer n.cluster.mu.Unlock()
	info := &gossip.ClusterInfo{}
	for i, m := range n.cluster.nodes {
		host, port, _ := net.SplitHostPort(m.addr)
		number, _ := strconv.ParseUint(port, 10, 16)
		state := gossip.MemberInfo_Follower
		if i == n.cluster.leader && !n.cluster.deluded[n.number] || i == n.number && n.cluster.deluded[n.number] {
			state = gossip.MemberInfo_Leader
		}
		info.Members = append(info.Members, &gossip.MemberInfo{
			State: state, IsAlive: true, HttpEndPoint: &gossip.EndPoint{Address: host, Port: uint32(number)},
		})
	}
	return info, nil
}

func (n *node) onAppend(in streams.Streams_AppendServer) error {
	n.cluster.mu.Lock()
	defer n.cluster.mu.Unlock()
	revision := n.cluster.next
	n.cluster.next++
	n.cluster.served[n.number]++
	return in.SendAndClose(appended(func(s *streams.AppendResp_Success) {
		s.CurrentRevisionOption = &streams.AppendResp_Success_CurrentRevision{CurrentRevision: revision}
	}))
}

func (n *node) onRead(o *streams.ReadReq_Options, out streams.Streams_ReadServer) error {
	if o.GetSubscription() == nil {
		return status.Error(codes.Unimplemented, "no events here")
	}
	n.cluster.mu.Lock()
	n.cluster.following[n.number]++
	close(n.cluster.changed)
	n.cluster.changed = make(chan struct{})
	n.cluster.mu.Unlock()
	<-out.Context().Done()
	return nil
}

// followed waits until a subscription has been begun at a node.
func (c *cluster) followed(t *testing.T, n int) {
	t.Helper()
	patience := time.After(30 * time.Second)
	for {
		c.mu.Lock()
		have, changed := c.following[n], c.changed
		c.mu.Unlock()
		if have > 0 {
			return
		}
		select {
		case <-changed:
		case <-patience:
			t.Fatalf("no subscription was begun at node %d", n)
		}
	}
}

// The leader is found, followed when it moves, and found again when it dies;
// what is followed moves with it.
func TestLeaderMoves(t *testing.T) {
	for name, silent := range map[string]bool{"and the old one says where": false, "and nobody says where": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			c.silent = silent
			c.lead(1)
			s := open(t, c.seeds())
			ended := make(chan error, 1)
			ctx, cancel := context.WithCancel(t.Context())
			go func() { ended <- last(s.Subscribe(ctx, eventstore.Cursor{}, eventstore.Filter{})) }()
			c.followed(t, 1)

			expected := eventstore.NoStream()
			add := func(n int) {
				t.Helper()
				done, err := settle(t.Context(), s, "s", expected, happened(n))
				if err != nil {
					t.Fatal(err)
				}
				expected = eventstore.At(done.Revision)
			}
			add(1)
			c.lead(2)
			if _, err := s.Append(t.Context(), "s", expected, happened(2)); err == nil || eventstore.Definite(err) {
				t.Errorf("at the node that led: got error %v, want one that is not definite", err)
			}
			add(2)
			c.followed(t, 2)
			c.mu.Lock()
			c.deluded[1] = true // a node that was cut off
			c.mu.Unlock()
			c.nodes[2].server.Stop()
			c.lead(0)
			add(3)
			c.followed(t, 0)
			cancel()
			<-ended
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.served != [3]int{1, 1, 1} {
				t.Errorf("got %v appends by node, want one each", c.served)
			}
		})
	}
}

// However the cluster is named, its leader is found: by one node that does not
// lead, and by a name that stands for several.
func TestLeaderIsFound(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.lead(2)
	_, port, _ := net.SplitHostPort(c.nodes[0].addr)
	for name, connection := range map[string]string{
		"by another node": "esdb://" + c.nodes[0].addr,
		"by a name":       "esdb+discover://localhost:" + port,
		"by dead seeds":   "esdb://127.0.0.1:1,127.0.0.1:2," + c.nodes[0].addr,
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, esdb.Options{Connection: esdb.Secret(connection + "?tls=false")})
			if err := s.Health(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestClusterWithoutALeader(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.lead(-1)
	c.silent = true
	s, err := esdb.Open(t.Context(), c.seeds())
	if err == nil {
		s.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "names a leader") {
		t.Errorf("got error %v, want that nobody names a leader", err)
	}
}
