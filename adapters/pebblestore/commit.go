package pebblestore

import (
	"github.com/cockroachdb/pebble/v2"

	"writ/domain/eventstore"
)

// maxUnsettled bounds the groups that are written and not yet durable, and so
// their memory, to 5 MiB each. A few are enough for 256 callers, whose groups
// are large; with 16 callers nearly each append is a group.
const maxUnsettled = 16

// A group is what was decided at once, on its way to its answers.
type group struct {
	requests []*request
	outcomes []outcome           // one for each request, to be told once all of the group is durable
	batch    *pebble.Batch       // what takes effect; nil if nothing does
	end      eventstore.Position // of the ledger, when the group is durable
}

// commitAll is the one goroutine that decides and writes. It takes what waits,
// writes it, and goes on with what has come meanwhile: it does not wait for
// the fsync. Once the disk has failed it writes no more, and Append tells those
// who wait.
func (s *Store) commitAll() {
	defer close(s.unsettled)
	p := newPlan(s)
	for s.guard.failed() == nil {
		select {
		case <-s.closing:
			return
		case <-s.guard.frozen:
		case first := <-s.requests:
			g := s.commit(p, s.gather(first))
			select {
			case s.unsettled <- g:
			case <-s.guard.frozen: // nobody may be left to take it
			}
		}
	}
}

func (s *Store) gather(first *request) []*request {
	waiting, total := []*request{first}, first.size
	for len(waiting) < s.maxGroup && total < maxGroupBytes {
		select {
		case r := <-s.requests:
			waiting = append(waiting, r)
			total += r.size
		default:
			return waiting
		}
	}
	return waiting
}

// commit decides appends, one after the other, and hands those that take
// effect to pebble. From then on the look-ups of the next group see them;
// readers don't, as the end that is shown has not moved.
func (s *Store) commit(p *plan, requests []*request) *group {
	p.begin(requests)
	g := &group{requests: requests, outcomes: make([]outcome, len(requests))}
	for i, r := range requests {
		g.outcomes[i].appended, g.outcomes[i].err = p.decide(r)
	}
	p.finish()
	g.end = p.end
	if p.batch.Empty() { // asked only here: pebble empties a large one
		return g
	}
	g.batch = p.batch
	// If this fails, all of the group may be on disk or none of it; the plan
	// is wrong then, but nothing is decided any more. It may also
	// never come back, see guard.
	if err := survive(func() error { return s.db.ApplyNoSyncWait(g.batch, pebble.Sync) }); err != nil {
		s.guard.freeze(translate(err, ""))
	}
	return g
}
