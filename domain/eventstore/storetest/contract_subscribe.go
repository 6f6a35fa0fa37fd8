package storetest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"testing"

	"writ/domain/eventstore"
)

func (s Suite) subscribing(t *testing.T) {
	t.Run("gives what is on record, says so, and goes on live", s.catchUpAndStay)
	t.Run("to what does not exist yet", s.subscribeToNothing)
	t.Run("begins again behind any notice without gap or repeat", s.resume)
	t.Run("while others append leaves no gap and repeats nothing", s.catchUpRace)
	t.Run("gives nothing that can't be read", s.onlyDurable)
	t.Run("says how far it searched", s.checkpoints)
	t.Run("ends with the context's error", s.endSubscription)
	t.Run("may stop early", s.leaveSubscription)
	t.Run("slowly does not slow an append", s.slowSubscriber)
}

// A follower is a subscription, and what came of it.
type follower struct {
	next     func() (eventstore.Notice, error, bool)
	events   []eventstore.Recorded
	notices  []eventstore.Notice
	caughtUp int
}

// follow subscribes until the test ends.
func (f *fixture) follow(t *testing.T, after eventstore.Cursor, filter eventstore.Filter) *follower {
	t.Helper()
	next, stop := iter.Pull2(f.Subscribe(f.ctx, after, filter))
	t.Cleanup(stop)
	return &follower{next: next}
}

// one takes one notice.
func (w *follower) one(t *testing.T) eventstore.Notice {
	t.Helper()
	n, err, ok := w.next()
	if err != nil || !ok {
		t.Fatalf("after %d events: got error %v, ended %t, want a notice", len(w.events), err, !ok)
	}
	switch n.Kind {
	case eventstore.NewEvent:
		w.events = append(w.events, n.Event)
		if n.At != eventstore.After(n.Event.Position) {
			t.Errorf("event at position %d: got cursor %v, want the one behind it", n.Event.Position, n.At)
		}
	case eventstore.CaughtUp:
		w.caughtUp++
	case eventstore.Checkpoint:
	default:
		t.Fatalf("got a notice of kind %d", n.Kind)
	}
	if len(w.notices) > 0 && before(n.At, w.notices[len(w.notices)-1].At) {
		t.Errorf("notice %d: got cursor %v after %v, want them to grow", len(w.notices), n.At, w.notices[len(w.notices)-1].At)
	}
	w.notices = append(w.notices, n)
	return n
}

func before(a, b eventstore.Cursor) bool {
	pa, seta := a.Position()
	pb, setb := b.Position()
	return setb && (!seta || pa < pb)
}

// toEvents takes notices until there were n events.
func (w *follower) toEvents(t *testing.T, n int) {
	t.Helper()
	for len(w.events) < n {
		w.one(t)
	}
}

func (w *follower) toCaughtUp(t *testing.T) {
	t.Helper()
	for w.caughtUp == 0 {
		w.one(t)
	}
}

func (s Suite) catchUpAndStay(t *testing.T) {
	f := s.open(t)
	mine, others := f.stream("mine"), f.stream("others")
	var want []eventstore.Recorded
	add := func(n int) {
		for _, e := range f.grow(t, n, mine, others) {
			if e.Stream == mine {
				want = append(want, e)
			}
		}
	}
	add(300)
	w := f.follow(t, eventstore.Cursor{}, f.mine("mine"))
	all := f.follow(t, eventstore.Cursor{}, eventstore.Filter{})
	w.toCaughtUp(t)
	same(t, "on record", w.events, want)
	all.toCaughtUp(t)
	for range 20 {
		add(10)
		w.toEvents(t, len(want))
	}
	same(t, "on record and live", w.events, want)
	if w.caughtUp != 1 {
		t.Errorf("got %d notices that it caught up, want 1", w.caughtUp)
	}
	for got := 0; got < len(want); {
		if n := all.one(t); n.Kind == eventstore.NewEvent && n.Event.ID == want[len(want)-1].ID {
			break
		}
	}
	var passing []eventstore.Recorded
	for _, e := range all.events {
		if e.Stream == mine {
			passing = append(passing, e)
		}
	}
	same(t, "without a filter", passing, want)
}

func (s Suite) subscribeToNothing(t *testing.T) {
	f := s.open(t)
	w := f.follow(t, eventstore.Cursor{}, f.mine("later"))
	w.toCaughtUp(t)
	if len(w.events) != 0 {
		t.Fatalf("got %s, want no event", show(w.events[0]))
	}
	f.grow(t, 3, f.stream("not"))
	want := f.grow(t, 3, f.stream("later"))
	w.toEvents(t, len(want))
	same(t, "live", w.events, want)
}

func (s Suite) resume(t *testing.T) {
	f := s.open(t)
	want := f.grow(t, 12, f.stream("a"), f.stream("b"))
	w := f.follow(t, eventstore.Cursor{}, f.mine())
	w.toCaughtUp(t)
	more := f.grow(t, 4, f.stream("a"), f.stream("b"))
	want = append(want, more...)
	w.toEvents(t, len(want))
	seen := 0
	for i, n := range w.notices {
		if n.Kind == eventstore.NewEvent {
			seen++
		}
		again := f.follow(t, n.At, f.mine())
		again.toCaughtUp(t)
		same(t, fmt.Sprint("behind notice ", i), again.events, want[seen:])
	}
}

func (s Suite) catchUpRace(t *testing.T) {
	f := s.open(t)
	const callers, followers = 4, 4
	each := max(s.Rounds/2, 10)
	f.grow(t, 50, f.stream("race-old"))
	errs := make([]error, callers)
	var writers sync.WaitGroup
	for i := range callers {
		writers.Go(func() {
			expected := eventstore.NoStream()
			for range each {
				done, err := f.settle(f.stream(fmt.Sprint("race-", i)), expected, event())
				if err != nil {
					errs[i] = err
					return
				}
				expected = eventstore.At(done.Revision)
			}
		})
	}
	ends := make([]*follower, followers)
	for i := range ends { // one after the other, while appends go on
		ends[i] = f.follow(t, eventstore.Cursor{}, f.mine())
		ends[i].toEvents(t, 50)
	}
	for i, w := range ends {
		w.toEvents(t, 50+callers*each)
		w.toCaughtUp(t)
		if w.caughtUp != 1 {
			t.Errorf("follower %d: got %d notices that it caught up, want 1", i, w.caughtUp)
		}
	}
	writers.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	want := f.readAll(t, eventstore.Cursor{}, f.mine())
	for i, w := range ends {
		same(t, fmt.Sprint("follower ", i), w.events, want)
	}
}

func (s Suite) onlyDurable(t *testing.T) {
	f := s.open(t)
	const callers = 4
	each := max(s.Rounds/4, 5)
	w := f.follow(t, eventstore.Cursor{}, f.mine())
	w.toCaughtUp(t)
	var writers sync.WaitGroup
	defer writers.Wait() // also when the test fails
	for i := range callers {
		writers.Go(func() {
			expected := eventstore.NoStream()
			for range each {
				done, err := f.settle(f.stream(fmt.Sprint("live-", i)), expected, several(3)...)
				if err != nil {
					t.Error(err)
					return
				}
				expected = eventstore.At(done.Revision)
			}
		})
	}
	for len(w.events) < callers*each*3 {
		n := w.one(t)
		if n.Kind != eventstore.NewEvent {
			continue
		}
		for e, err := range f.ReadStream(f.ctx, n.Event.Stream, n.Event.Revision) {
			if err != nil {
				t.Fatalf("was told of %s, then reading it gave %v", show(n.Event), err)
			}
			same(t, "told, against read", []eventstore.Recorded{n.Event}, []eventstore.Recorded{e})
			break
		}
	}
}

func (s Suite) checkpoints(t *testing.T) {
	f := s.open(t)
	w := f.follow(t, eventstore.Cursor{}, f.mine("rare"))
	w.toCaughtUp(t)
	rest, expected := f.stream("rest"), eventstore.NoStream()
	var last eventstore.Appended
	for range 200 { // many more than any store searches in silence
		last = f.add(t, rest, expected, several(eventstore.MaxAppendEvents)...)
		expected = eventstore.At(last.Revision)
	}
	want := f.grow(t, 1, f.stream("rare"))
	searched := 0
	for len(w.events) == 0 {
		n := w.one(t)
		if n.Kind != eventstore.Checkpoint {
			continue
		}
		searched++
		if p, ok := n.At.Position(); !ok || p > last.Position {
			t.Fatalf("got a checkpoint at %d, %t, but the event that passes is behind %d", p, ok, last.Position)
		}
	}
	if searched == 0 {
		t.Errorf("got no checkpoint over %d events that don't pass", 200*eventstore.MaxAppendEvents)
	}
	same(t, "behind the checkpoints", w.events, want)
}

func (s Suite) endSubscription(t *testing.T) {
	f := s.open(t)
	f.grow(t, 100, f.stream("end"))
	for _, events := range []int{0, 1, 50, 100} { // 100: it waits for more
		ctx, cancel := context.WithCancel(f.ctx)
		n, ended := 0, false
		if events == 0 {
			cancel()
		}
		for notice, err := range f.Subscribe(ctx, eventstore.Cursor{}, f.mine()) {
			if ended {
				t.Fatalf("after %d events: got %v, %v after the error", events, notice, err)
			}
			if err != nil {
				ended = true
				if !errors.Is(err, context.Canceled) {
					t.Errorf("after %d events: got error %v, want the context's", events, err)
				}
				continue
			}
			if notice.Kind == eventstore.NewEvent {
				n++
			}
			if n == events {
				cancel()
			}
		}
		cancel()
		if !ended {
			t.Errorf("cancelled after %d events: ended without an error, want the context's", events)
		}
	}
}

func (s Suite) leaveSubscription(t *testing.T) {
	f := s.open(t)
	f.grow(t, 10, f.stream("leave"))
	for range 3 {
		for _, err := range f.Subscribe(f.ctx, eventstore.Cursor{}, f.mine()) {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	f.grow(t, 1, f.stream("leave"))
}

func (s Suite) slowSubscriber(t *testing.T) {
	f := s.open(t)
	want := f.grow(t, 5, f.stream("slow"))
	stuck := f.follow(t, eventstore.Cursor{}, f.mine()) // between two notices
	stuck.one(t)
	live := f.follow(t, eventstore.Cursor{}, f.mine()) // behind the last one
	live.toCaughtUp(t)
	want = append(want, f.grow(t, 2*s.Rounds, f.stream("slow"))...)
	for _, w := range []*follower{stuck, live} {
		w.toEvents(t, len(want))
		same(t, "read late", w.events, want)
	}
}
