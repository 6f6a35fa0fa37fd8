package esdbserver

import (
	"context"
	"errors"
	"log/slog"
	"sort"
	"sync"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"

	"writ/domain/eventstore"
)

// A tail holds the newest events in memory for all live subscribers, filled by
// one follower of the store, which starts with the first subscriber. The
// follower waits for nobody: a subscriber that is not done with an event when it
// is pushed out has fallen behind, and reads it from the store.
type tail struct {
	ledger    *ledger
	maxEvents int
	maxBytes  int
	log       *slog.Logger

	mu      sync.Mutex // guards everything below
	events  []*liveEvent
	first   uint64              // the number of events[0]; they are counted from the start of the server
	bytes   int                 // of events
	base    eventstore.Position // everything on record behind it and not behind events is in events
	changed chan struct{}       // closed when events grow or the follower ends
	err     error               // for which the follower ended
	running bool
	closed  bool
	cancel  context.CancelFunc // ends the follower
	ended   chan struct{}      // closed when the follower has ended
}

func newTail(l *ledger, maxEvents, maxBytes int, log *slog.Logger) *tail {
	return &tail{ledger: l, maxEvents: maxEvents, maxBytes: maxBytes, log: log}
}

// A liveEvent is shared by all live subscribers, and so are the messages made
// of it, which nobody changes.
type liveEvent struct {
	eventstore.Recorded
	message [textual + 1]func() *streams.ReadResp // by form of ids, made once
}

func newLiveEvent(e eventstore.Recorded) *liveEvent {
	v := &liveEvent{Recorded: e}
	for form := structured; form <= textual; form++ {
		v.message[form] = sync.OnceValue(func() *streams.ReadResp { return plainEvent(e, form) })
	}
	return v
}

// size is roughly what an event takes in memory, with both of its messages.
func (e *liveEvent) size() int {
	return len(e.Data) + len(e.Metadata) + len(e.Type) + len(e.Stream) + 1024
}

// attach gives the number of the first event behind a position, if everything
// from there on is in memory; otherwise the subscriber has to read on from the
// store first, which will get it there. ctx bounds the start of the follower.
func (t *tail) attach(ctx context.Context, after eventstore.Position) (number uint64, ok bool, err error) {
	if err := t.start(ctx); err != nil {
		return 0, false, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if after < t.base {
		return 0, false, nil
	}
	i := sort.Search(len(t.events), func(i int) bool { return t.events[i].Position > after })
	return t.first + uint64(i), true, nil
}

// start sees to it that the follower runs.
func (t *tail) start(ctx context.Context) error {
	t.mu.Lock()
	running := t.running
	t.mu.Unlock()
	if running {
		return nil
	}
	end, err := t.ledger.end(ctx)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return errStopping
	case t.running:
		return nil
	}
	// The follower serves those who come later too, not this caller alone.
	follow, cancel := context.WithCancel(context.WithoutCancel(ctx))
	// What a follower before this one has left is dropped, and one number left
	// out: between its last event and this one's first others may be missing, so
	// whoever still waits for the next number has fallen behind.
	t.first += uint64(len(t.events)) + 1
	t.events, t.bytes, t.base = nil, 0, end
	t.running, t.err, t.cancel = true, nil, cancel
	t.changed, t.ended = make(chan struct{}), make(chan struct{})
	go t.follow(follow, end, t.ended)
	return nil
}

// follow adds what comes until the store or the server ends.
func (t *tail) follow(ctx context.Context, from eventstore.Position, ended chan struct{}) {
	defer close(ended)
	err := errors.New("the store ended the subscription without a reason")
	for notice, failed := range t.ledger.store.Subscribe(ctx, cursor(from), eventstore.Filter{}) {
		if failed != nil {
			err = failed
			break
		}
		if notice.Kind == eventstore.NewEvent {
			t.add(newLiveEvent(notice.Event))
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running, t.err = false, err
	t.cancel()
	close(t.changed)
	if !t.closed {
		t.log.Error("live events: the store's subscription ended", "err", err)
	}
}

func (t *tail) add(e *liveEvent) {
	t.ledger.learn(e.Position)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.events = append(t.events, e)
	t.bytes += e.size()
	// One event stays, however large it is.
	drop := 0
	for len(t.events)-drop > 1 && (len(t.events)-drop > t.maxEvents || t.bytes > t.maxBytes) {
		t.bytes -= t.events[drop].size()
		t.base = t.events[drop].Position
		t.events[drop] = nil // append may keep the array for long
		drop++
	}
	t.events = t.events[drop:]
	t.first += uint64(drop)
	close(t.changed)
	t.changed = make(chan struct{})
}

// A subscriber takes at most so many events at once, and so many bytes or one
// event. That, and what the transport holds, is all that a slow one keeps.
const (
	liveBatch      = 64
	liveBatchBytes = 256 << 10
)

// take gives the events from a number on, as far as they have come, into a
// buffer; and a channel that is closed when there is more to know. It is not ok
// if the first of them is not in memory any more.
func (t *tail) take(number uint64, into []*liveEvent) (batch []*liveEvent, changed <-chan struct{}, ok bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if number < t.first {
		return nil, nil, false, nil
	}
	if at := number - t.first; at < uint64(len(t.events)) {
		batch, size := into[:0], 0
		for _, e := range t.events[at:] {
			if size += e.size(); len(batch) == liveBatch || len(batch) > 0 && size > liveBatchBytes {
				break
			}
			batch = append(batch, e)
		}
		return batch, nil, true, nil
	}
	if !t.running {
		return nil, nil, false, t.err
	}
	return nil, t.changed, true, nil
}

// close ends the follower and waits for it.
func (t *tail) close() {
	t.mu.Lock()
	t.closed = true
	running, ended := t.running, t.ended
	if running {
		t.cancel()
	}
	t.mu.Unlock()
	if ended != nil {
		<-ended
	}
}
