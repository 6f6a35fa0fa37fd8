package engine

import (
	"context"
	"sync"
	"time"

	"writ/domain/eventstore"
	"writ/domain/op"
)

// How many refusals are recorded one by one before they are only counted, so
// that nobody fills the disk by knocking.
const (
	refusalBurst    = 200
	refusalsPerSec  = 20
	refusalsCounted = 10 * time.Second // how long counts are gathered
)

// refusals records what the gate refused in the stream of this instance.
type refusals struct {
	journal *journal
	who     Identity
	// flushing lets a flush return only once the counts that another one took
	// are on record: whoever stops the engine relies on that.
	flushing sync.Mutex

	mu     sync.Mutex // guards what follows
	tokens float64
	last   time.Time
	counts map[string]int // of refusals not recorded one by one
	from   time.Time
}

func newRefusals(store eventstore.Store, who Identity) *refusals {
	return &refusals{
		journal: newJournal(store, op.GateStream(who.Instance)),
		who:     who, tokens: refusalBurst,
	}
}

// record puts a refusal on record, or counts it if too many come at once.
func (r *refusals) record(ctx context.Context, now time.Time, refused op.Refused) error {
	if !r.admit(now, refused.Reason) {
		return nil
	}
	_, err := r.journal.append(ctx, refused.NonceShort, op.TypeRefused, func(uint64) ([]byte, error) {
		return op.Marshal(refused)
	})
	return err
}

func (r *refusals) admit(now time.Time, reason string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.last.IsZero() {
		// A clock that was set back takes no tokens away.
		passed := max(0, now.Sub(r.last).Seconds())
		r.tokens = min(refusalBurst, r.tokens+passed*refusalsPerSec)
	}
	r.last = now
	if r.tokens >= 1 {
		r.tokens--
		return true
	}
	if r.counts == nil {
		r.counts, r.from = make(map[string]int), now
	}
	r.counts[reason]++
	return false
}

// flush records the counts gathered. If that fails they are kept for the next
// time.
func (r *refusals) flush(ctx context.Context, now time.Time) error {
	r.flushing.Lock()
	defer r.flushing.Unlock()
	r.mu.Lock()
	counts, from := r.counts, r.from
	r.counts = nil
	r.mu.Unlock()
	if counts == nil {
		return nil
	}
	_, err := r.journal.append(ctx, "refusals", op.TypeRefusalsCounted, func(uint64) ([]byte, error) {
		return op.Marshal(op.RefusalsCounted{
			Agent: r.who.Site.Agent, Instance: r.who.Instance, From: from.UTC(), To: now.UTC(), ByReason: counts,
		})
	})
	if err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.counts == nil {
			r.counts = make(map[string]int)
		}
		for reason, n := range counts {
			r.counts[reason] += n
		}
		r.from = from
	}
	return err
}
