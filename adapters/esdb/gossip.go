package esdb

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
)

// findLeader asks the seeds who leads. A node that was cut off may take itself
// for the leader still: the answer given most often counts, and the node named
// is looked at before it is used, whoever named it.
func (t *target) findLeader(ctx context.Context) (string, error) {
	var asking sync.WaitGroup
	defer asking.Wait()
	ctx, cancel := context.WithTimeoutCause(ctx, t.gossipTimeout, errLate)
	defer cancel() // first, so that those that were not waited for end
	seeds, err := t.seedAddresses(ctx)
	if err != nil {
		return "", err
	}
	type answer struct {
		leader string
		err    error
	}
	answers := make(chan answer, len(seeds)) // so that none is stuck when we have heard enough
	for _, s := range seeds {
		asking.Go(func() {
			leader, err := t.askSeed(ctx, s.name, s.addr)
			answers <- answer{leader, err}
		})
	}
	votes := make(map[string]int)
	var errs []error
	best := ""
	for range seeds {
		a := <-answers
		if a.err != nil {
			errs = append(errs, a.err)
			continue
		}
		votes[a.leader]++
		if votes[a.leader] > votes[best] {
			best = a.leader
		}
		if votes[best] > len(seeds)/2 {
			break
		}
	}
	if best == "" {
		return "", fmt.Errorf("no node of %s names a leader: %w", t, together(errs...))
	}
	return best, nil
}

// A seed is a node to ask: what its certificate must say, and where it is.
type seed struct{ name, addr string }

func (t *target) seedAddresses(ctx context.Context) ([]seed, error) {
	var seeds []seed
	for _, name := range t.seeds {
		if !t.discover {
			seeds = append(seeds, seed{name, name})
			continue
		}
		host, port, err := net.SplitHostPort(name)
		if err != nil {
			return nil, fmt.Errorf("%s: %s", name, err)
		}
		found, err := net.DefaultResolver.LookupHost(ctx, host)
		if err != nil {
			return nil, fmt.Errorf("%s: %s", name, err)
		}
		for _, ip := range found {
			seeds = append(seeds, seed{name, net.JoinHostPort(ip, port)})
		}
	}
	return seeds, nil
}

// askSeed asks one node who leads.
func (t *target) askSeed(ctx context.Context, name, addr string) (string, error) {
	l, err := t.dial(name, addr)
	if err != nil {
		return "", err
	}
	defer func() { _ = l.conn.Close() }() // asked once, not needed any more
	info, err := gossip.NewGossipClient(l.conn).Read(ctx, &shared.Empty{})
	if err != nil {
		return "", fmt.Errorf("%s: gossip: %w", addr, plain(err))
	}
	for _, m := range info.GetMembers() {
		at := m.GetHttpEndPoint()
		if m.GetState() == gossip.MemberInfo_Leader && m.GetIsAlive() && at.GetAddress() != "" && at.GetPort() > 0 {
			return net.JoinHostPort(at.GetAddress(), strconv.FormatUint(uint64(at.GetPort()), 10)), nil
		}
	}
	return "", fmt.Errorf("%s: gossip: it knows of no leader that is alive", addr)
}
