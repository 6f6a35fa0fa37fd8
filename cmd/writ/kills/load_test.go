package kills_test

import (
	"context"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"writ/adapters/pvesim"
)

// A load delivers writs, new ones and again and again those of before, also of
// ops that have ended, to whichever process is the service.
type load struct {
	t        *testing.T
	cluster  *cluster
	audience string
	client   *http.Client
	rng      *rand.Rand
	calls    sync.WaitGroup

	mu         sync.Mutex // guards what follows, and rng
	base       string     // of the service; empty while it is down
	up         chan struct{}
	orders     []*order
	bystanders []pvesim.Guest
	fresh      int // orders that may still be made in this life of the service
	made       int
	deliveries int
	cut        int // deliveries that were never answered
	told       map[string]int
}

func newLoad(t *testing.T, c *cluster, audience string, seed uint64) *load {
	t.Helper()
	return &load{
		t: t, cluster: c, audience: audience, rng: rand.New(rand.NewPCG(seed, 2)), up: make(chan struct{}), told: make(map[string]int),
		client: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 32}},
	}
}

// backlog is how many orders may be open at a time. Kills come faster than
// recovery can be sure of a request that never arrived.
const backlog = 100

// serve tells where the service answers, and how many new orders it gets at most.
func (l *load) serve(base string, fresh int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.base, l.fresh = base, min(fresh, backlog-l.underWay())
	close(l.up)
}

// fall tells that nobody answers any more.
func (l *load) fall() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.base != "" {
		l.base, l.up = "", make(chan struct{})
	}
}

func (l *load) service(ctx context.Context) (string, bool) {
	for {
		l.mu.Lock()
		base, up := l.base, l.up
		l.mu.Unlock()
		if base != "" {
			return base, true
		}
		select {
		case <-up:
		case <-ctx.Done():
			return "", false
		}
	}
}

// run delivers with so many callers until ctx ends.
func (l *load) run(ctx context.Context, callers int) {
	beat := time.NewTicker(4 * time.Millisecond)
	l.calls.Go(func() { <-ctx.Done(); beat.Stop() })
	for range callers {
		l.calls.Go(func() {
			for {
				select {
				case <-beat.C:
				case <-ctx.Done():
					return
				}
				base, ok := l.service(ctx)
				if !ok {
					return
				}
				if o, wait := l.pick(); o != nil {
					l.deliver(o, base, wait)
				}
			}
		})
	}
}

// pick gives what is delivered next: something new, something of late, or
// anything.
func (l *load) pick() (*order, string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	wait := []string{"", "?wait=50ms", "?wait=2s"}[l.rng.IntN(3)]
	if l.fresh > 0 {
		l.fresh--
		l.made++
		if l.made%5 == 0 {
			g, err := l.cluster.bystander(l.made)
			if err != nil {
				l.t.Errorf("make a guest: %v", err)
				return nil, ""
			}
			l.bystanders = append(l.bystanders, g)
		}
		o, err := l.cluster.newOrder(l.made, l.audience, l.rng)
		if err != nil {
			l.t.Errorf("make an order: %v", err)
			return nil, ""
		}
		l.orders = append(l.orders, o)
		return o, wait
	}
	n := len(l.orders)
	if n == 0 {
		return nil, ""
	}
	if l.rng.IntN(4) > 0 {
		return l.orders[n-1-l.rng.IntN(min(n, 40))], wait
	}
	return l.orders[l.rng.IntN(n)], wait
}

func (l *load) deliver(o *order, base, wait string) {
	told, err := o.deliver(l.client, base, wait)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deliveries++
	if err != nil {
		l.cut++
		return
	}
	l.told[told]++
}

// underWay counts the orders of which more is to come without people. Called with
// the lock held.
func (l *load) underWay() (n int) {
	for _, o := range l.open() {
		if !o.waitsForPeople() {
			n++
		}
	}
	return n
}

func (l *load) open() (open []*order) {
	for _, o := range l.orders {
		if !o.settled() {
			open = append(open, o)
		}
	}
	return open
}
