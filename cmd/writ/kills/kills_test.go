package kills_test

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"writ/adapters/httpapi"
)

var (
	kills = flag.Int("kills", 6, "how often TestKills kills the service")
	seed  = flag.Uint64("seed", 1, "what chance is made from; when which process does what is not up to it")
)

const (
	// callers deliver at the same time.
	callers = 8
	// few kills are for a quick look: then it is not waited for until recovery is
	// sure of each request that never arrived, which takes it some ten seconds.
	few = 20
)

// life is how long a service lives that has come to answer: mostly a moment,
// sometimes long enough for recovery to be sure of requests that never arrived.
func (s *site) life() time.Duration {
	least, most := time.Duration(0), 250*time.Millisecond
	switch n := s.rng.IntN(100); {
	case n < 3:
		least, most = 9*time.Second, 11*time.Second
	case n < 25:
		most = time.Second
	}
	return least + time.Duration(s.rng.Int64N(int64(most-least)))
}

// round is one life of the service.
func (s *site) round() {
	s.t.Helper()
	if s.rng.IntN(3) == 0 {
		s.cluster.harm(s.rng)
	}
	s.start()
	if s.rng.IntN(5) == 0 {
		s.pause(time.Duration(s.rng.Int64N(int64(60 * time.Millisecond))))
		s.early++
		s.kill()
		return
	}
	base := s.answers()
	s.load.serve(base, 4+s.rng.IntN(8))
	life := s.life()
	s.pause(life / 2)
	s.cluster.release(s.rng, false)
	if s.rng.IntN(4) == 0 {
		s.lift(s.recovery(base))
	}
	s.pause(life - life/2)
	if s.rng.IntN(12) == 0 {
		s.killStopping()
		return
	}
	s.kill()
}

// The service, killed at any moment and started again, destroys each guest that
// a writ names at most once, destroys no other, knows what it did, and forgets
// nothing that it has acknowledged.
func TestKills(t *testing.T) {
	t.Parallel()
	s := newSite(t, build(t))
	s.quick = *kills < few
	ctx, cancel := context.WithCancel(t.Context())
	s.load.run(ctx, callers)
	began := time.Now()
	for s.killed < *kills {
		s.round()
	}
	cancel()
	s.load.calls.Wait()
	t.Logf("killed %d times in %s, %d of them before it answered, %d while it stopped; the slowest start took %s",
		s.killed, time.Since(began).Round(time.Second), s.early, s.stopping, s.slowest.Round(time.Millisecond))

	left := s.settle()
	s.stop()
	s.verifyAudit(left, "--store", s.events)
	s.account(left)
	for _, p := range s.processes {
		for _, line := range p.log.wrong() {
			t.Errorf("logged: %s", line)
		}
	}
	s.report()
}

// settle is the last life, in which nothing goes wrong. Everything is delivered
// again until nothing more comes of it. It gives the nonces of the ops that the
// host's evidence does not decide.
func (s *site) settle() map[string]bool {
	s.t.Helper()
	s.cluster.calm()
	s.start()
	base := s.answers()
	s.load.serve(base, 0)
	patience := 2 * time.Minute
	if s.quick {
		patience = time.Second
	}
	enough := time.Now().Add(patience)
	for {
		r := s.recovery(base)
		s.lift(r)
		var calls sync.WaitGroup
		for some := range slices.Chunk(s.load.open(), 64) {
			for _, o := range some {
				if !open(r, o) {
					calls.Go(func() { s.load.deliver(o, base, "?wait=1s") })
				}
			}
			calls.Wait()
		}
		r = s.recovery(base)
		left, quiet := s.quiet(r)
		if quiet {
			return left
		}
		if time.Now().After(enough) {
			if s.quick && r.Surveyed && r.CaughtUp {
				return left
			}
			s.t.Errorf("long after the last kill ops are still in flight, or to be delivered again:\n%s", s.unsettled(r))
			return nil
		}
		s.pause(200 * time.Millisecond)
	}
}

// lift takes the protection away that recovery has set, as people do once the op
// is settled and no request for it can be under way any more.
func (s *site) lift(r httpapi.Recovery) {
	s.t.Helper()
	if !r.CaughtUp || !r.Surveyed || !s.cluster.still() {
		return
	}
	open := make(map[int]bool)
	for _, it := range r.Ops {
		open[it.Target.Guest.VMID] = true
	}
	for _, g := range s.cluster.guests() {
		if g.Protection && !open[g.VMID] {
			// A guest that is gone meanwhile needs none.
			_ = s.cluster.sim(http.MethodPost, fmt.Sprintf("guests/%d", g.VMID), map[string]any{"config": map[string]string{"protection": ""}}, nil)
		}
	}
}

// undecided is what leaves a doubt that the host can't clear up: a worker that was
// killed, and whose children may live on; and a request that the host's own
// proxies delivered more than once, so that it became several tasks.
var undecided = []string{"worker did not end by itself", "tasks of the host can be this attempt's"}

// quiet tells whether whatever is open waits for people, and rightly so.
func (s *site) quiet(r httpapi.Recovery) (left map[string]bool, quiet bool) {
	s.t.Helper()
	left = make(map[string]bool)
	on := make(map[int]bool)
	quiet = r.CaughtUp && r.Surveyed
	for _, it := range r.Ops {
		left[it.Nonce], on[it.Target.Guest.VMID] = true, true
		quiet = quiet && it.Indeterminate && slices.ContainsFunc(undecided, func(why string) bool { return strings.Contains(it.Detail, why) })
	}
	for _, o := range s.load.open() {
		// Or another guest, of which nothing is known for certain, had the VMID before.
		quiet = quiet && (left[string(o.nonce)] || on[o.guest.VMID])
	}
	return left, quiet
}

// open tells whether an order's op is in flight.
func open(r httpapi.Recovery, o *order) bool {
	return slices.ContainsFunc(r.Ops, func(it httpapi.RecoveryItem) bool { return it.Nonce == string(o.nonce) })
}

func (s *site) unsettled(r httpapi.Recovery) string {
	var all []string
	for _, it := range r.Ops {
		all = append(all, fmt.Sprintf("in flight: op %s is %s, waits for %s, %s", it.OpID, it.State, it.WaitsFor, it.Detail))
	}
	for _, o := range s.load.open() {
		all = append(all, fmt.Sprintf("to be delivered: guest %d: %s", o.guest.VMID, o.last))
	}
	return strings.Join(all[:min(len(all), 20)], "\n")
}

func (s *site) report() {
	s.t.Helper()
	l := s.load
	s.t.Logf("%d writs, delivered %d times, %d of these never answered; %d guests that no writ names", len(l.orders), l.deliveries, l.cut, len(l.bystanders))
	for _, told := range slices.Sorted(maps.Keys(l.told)) {
		s.t.Logf("told %6d times: %s", l.told[told], told)
	}
	for _, name := range slices.Sorted(maps.Keys(s.cluster.injected)) {
		s.t.Logf("fault %3d times: %s", s.cluster.injected[name], name)
	}
}
