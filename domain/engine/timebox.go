package engine

import (
	"context"
	"sync"
	"time"
)

// A timebox bounds the time of pieces of work that are many and short. Those
// that begin within the same tenth of the limit share a timer: one for each
// would cost as much as the work.
type timebox struct {
	life  context.Context //nolint:containedctx // of the engine: ends all work
	limit time.Duration

	mu        sync.Mutex      // guards what follows
	work      context.Context //nolint:containedctx // of all that began lately
	young     context.Context //nolint:containedctx // ended: what begins now gets a new one
	end, aged context.CancelFunc
}

// begin gives a context for one piece of work. It ends when the limit is over,
// or up to a tenth of it before.
func (t *timebox) begin() context.Context {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.young == nil || t.young.Err() != nil {
		// Those before end by themselves: others may be at work under them.
		t.young, t.aged = context.WithTimeout(t.life, t.limit/10) //nolint:gosec // see above
		t.work, t.end = context.WithTimeout(t.life, t.limit)      //nolint:gosec // see above
	}
	return t.work
}
