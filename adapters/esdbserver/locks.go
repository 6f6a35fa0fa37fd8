package esdbserver

import (
	"context"
	"sync"

	"writ/domain/eventstore"
)

// locks hold one lock for each stream that is being written to. Appends to one
// stream are decided one after the other; those to different streams share the
// store's next fsync.
type locks struct {
	mu   sync.Mutex // guards held
	held map[eventstore.StreamID]*streamLock
}

type streamLock struct {
	free chan struct{} // holds one element while nobody holds the lock
	want int           // who holds it or waits for it; guarded by locks.mu
}

// lock waits for a stream's lock as long as ctx lasts. A stream and its
// metadata share one.
func (l *locks) lock(ctx context.Context, stream eventstore.StreamID) (unlock func(), err error) {
	if of, is := owner(stream); is {
		stream = of
	}
	l.mu.Lock()
	if l.held == nil {
		l.held = make(map[eventstore.StreamID]*streamLock)
	}
	s := l.held[stream]
	if s == nil {
		s = &streamLock{free: make(chan struct{}, 1)}
		s.free <- struct{}{}
		l.held[stream] = s
	}
	s.want++
	l.mu.Unlock()
	forget := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if s.want--; s.want == 0 {
			delete(l.held, stream)
		}
	}
	select {
	case <-s.free:
		return func() { s.free <- struct{}{}; forget() }, nil
	case <-ctx.Done():
		forget()
		return nil, ctx.Err()
	}
}
