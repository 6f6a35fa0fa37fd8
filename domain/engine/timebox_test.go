package engine_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"writ/domain/engine"
	"writ/domain/eventstore"
	"writ/domain/op"
	"writ/domain/signedop"
)

// hangingStore takes no claim until it is given up once.
type hangingStore struct {
	eventstore.Store

	mu    sync.Mutex // guards what follows
	hung  map[eventstore.StreamID]bool
	waits []time.Duration // for how long each was waited for
}

func (s *hangingStore) Append(ctx context.Context, stream eventstore.StreamID, expected eventstore.Expected, events ...eventstore.Proposed) (eventstore.Appended, error) {
	s.mu.Lock()
	hang := strings.HasPrefix(string(stream), op.StreamPrefix) && !s.hung[stream]
	s.hung[stream] = true
	s.mu.Unlock()
	if !hang {
		return s.Store.Append(ctx, stream, expected, events...)
	}
	begin := time.Now()
	<-ctx.Done()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waits = append(s.waits, time.Since(begin))
	return eventstore.Appended{}, ctx.Err()
}

// An append that hangs is given up in time, however many others began or ended
// around it, and no earlier than nine tenths of the time that it may take.
func TestEachAppendIsGivenUpInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 10 * time.Second
		var store *hangingStore
		w := newWorld(t, func(c *engine.Config) {
			store = &hangingStore{Store: c.Store, hung: make(map[eventstore.StreamID]bool)}
			c.Store, c.AppendTimeout = store, limit
		})
		var jobs sync.WaitGroup
		const ops = 9
		for i := range ops {
			d := order(web3(), func(d *signedop.Document) {
				d.Nonce = nonce(fmt.Sprint("hanging ", i))
				d.Target.Guest.VMID += i
			})
			jobs.Go(func() { w.engine.RunSignedJob(context.Background(), signed(t, d)) })
			pass(437 * time.Millisecond)
		}
		jobs.Wait()
		if len(store.waits) != ops {
			t.Errorf("got %d appends given up, want %d", len(store.waits), ops)
		}
		for _, waited := range store.waits {
			if waited < limit*9/10 || waited > limit {
				t.Errorf("an append was given up after %s, want %s to %s", waited, limit*9/10, limit)
			}
		}
	})
}
