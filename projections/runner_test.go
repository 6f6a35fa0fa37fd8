package projections_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
	"writ/projections"
	"writ/projections/viewtest"
)

const ledger = eventstore.LedgerID("3f9c2ab41d6e4a70")

// A tally lists the revisions of every stream as they were applied, so that
// an event that was skipped, doubled or misplaced can be seen. Each event is
// in two keys, which must never disagree.
type tally struct {
	name   string
	format int
	filter eventstore.Filter
}

func newTally() *tally {
	return &tally{name: "tally", format: 1, filter: eventstore.Filter{StreamPrefixes: []string{"s"}}}
}

func (p *tally) Name() string              { return p.name }
func (p *tally) Format() int               { return p.format }
func (p *tally) Filter() eventstore.Filter { return p.filter }

func (p *tally) Apply(ctx context.Context, view *projections.Changes, e eventstore.Recorded) error {
	for _, key := range []string{"stream/" + string(e.Stream), "all"} {
		have, _, err := view.Get(ctx, key)
		if err != nil {
			return err
		}
		view.Set(key, fmt.Appendf(have[:len(have):len(have)], "%s@%d ", e.Stream, e.Revision))
	}
	return nil
}

// grow appends n events to streams s0, s1, … in turns, with one event that
// passes no filter between any two, and gives the position of the last.
func grow(t testing.TB, store eventstore.Store, from, n int) eventstore.Position {
	t.Helper()
	var last eventstore.Position
	for i := from; i < from+n; i++ {
		for _, name := range []string{"other", "s"} {
			stream, expected := eventstore.StreamID(fmt.Sprintf("%s%d", name, i%3)), eventstore.NoStream()
			if i >= 3 {
				expected = eventstore.At(eventstore.Revision(i/3 - 1))
			}
			e := eventstore.Proposed{Type: "Happened", Data: []byte(name)}
			binary.BigEndian.PutUint64(e.ID[:], uint64(i)+1)
			copy(e.ID[8:], name)
			done, err := store.Append(t.Context(), stream, expected, e)
			if err != nil {
				t.Fatal(err)
			}
			last = done.Position
		}
	}
	return last
}

// all is what a tally must hold after grow.
func all(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "s%d@%d ", i%3, i/3)
	}
	return b.String()
}

func holds(t testing.TB, view projections.ViewStore, want string) {
	t.Helper()
	got, _, err := view.Get(t.Context(), "all")
	if err != nil || string(got) != want {
		t.Errorf("got %q (error %v), want %q", got, err, want)
	}
}

// start runs a runner until the test or stop ends it, and gives what Run gave.
func start(t testing.TB, r *projections.Runner) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	return func() error {
		cancel()
		return <-ended
	}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestCatchesUpAndFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, view := storetest.NewMemory(ledger), viewtest.NewMemory()
		first := grow(t, store, 0, 1000)
		r := projections.New(store, "memory", view, newTally(), quiet())
		stop := start(t, r)
		if err := r.WaitFor(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		holds(t, view, all(1000))
		if got, want := view.Commits(), 20; got > want {
			t.Errorf("got %d commits for 1000 events on record, want at most %d", got, want)
		}
		synctest.Wait()
		if lag := r.Lag(); !lag.CaughtUp || lag.Err != nil {
			t.Errorf("got caught up %v, error %v; want true and none", lag.CaughtUp, lag.Err)
		}
		// Live: visible without waiting for more, or for any time to pass.
		for i := 1000; i < 1010; i++ {
			before := time.Now()
			if err := r.WaitFor(t.Context(), grow(t, store, i, 1)); err != nil {
				t.Fatal(err)
			}
			holds(t, view, all(i+1))
			if d := time.Since(before); d != 0 {
				t.Errorf("got event %d after %s, want at once", i, d)
			}
		}
		if err := stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("got error %v, want that of the context", err)
		}
	})
}

func TestGoesOnWhereItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, view := storetest.NewMemory(ledger), viewtest.NewMemory()
		for i := range 5 {
			stop := start(t, projections.New(store, "memory", view, newTally(), quiet()))
			synctest.Wait()
			grow(t, store, i*7, 7)
			synctest.Wait()
			if err := stop(); !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
		}
		holds(t, view, all(35))
	})
}

// The checkpoint moves on although nothing passes the filter.
func TestCheckpointMovesWithoutEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, view := storetest.NewMemory(ledger), viewtest.NewMemory()
		last := grow(t, store, 0, 500)
		p := newTally()
		p.filter = eventstore.Filter{StreamPrefixes: []string{"none"}}
		r := projections.New(store, "memory", view, p, quiet())
		stop := start(t, r)
		synctest.Wait()
		if at, _ := r.Lag().Applied.Position(); at != last {
			t.Errorf("got applied up to %d, want %d", at, last)
		}
		_ = stop()
		again := projections.New(store, "memory", view, p, quiet())
		stop = start(t, again)
		if err := again.WaitFor(t.Context(), last); err != nil {
			t.Error(err)
		}
		_ = stop()
	})
}

// Every write fails once, in both ways: nothing is skipped, nothing doubled.
func TestAFailedCommitNeitherSkipsNorDoubles(t *testing.T) {
	for _, fault := range []viewtest.Fault{viewtest.Lost, viewtest.DoneButFailed} {
		for n := 1; n <= 14; n++ {
			synctest.Test(t, func(t *testing.T) {
				store, inner := storetest.NewMemory(ledger), viewtest.NewMemory()
				grow(t, store, 0, 1200)
				view := viewtest.NewFaulty(inner)
				failed := false
				view.OnWrite = func(i int) viewtest.Fault {
					if i != n {
						return 0
					}
					failed = true
					return fault
				}
				r := projections.New(store, "memory", view, newTally(), quiet())
				stop := start(t, r)
				for i := range 12 {
					synctest.Wait()
					grow(t, store, 1200+i, 1)
				}
				if err := r.WaitFor(t.Context(), grow(t, store, 1212, 1)); err != nil {
					t.Fatal(err)
				}
				holds(t, inner, all(1213))
				if !failed {
					t.Errorf("write %d never happened", n)
				}
				_ = stop()
			})
		}
	}
}

// A process dies at every write, before or after it is made, and its
// successor goes on: the view is the same, to the byte, as one built at once.
func TestACrashLeavesNoTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, view, smooth := storetest.NewMemory(ledger), viewtest.NewMemory(), viewtest.NewMemory()
		grow(t, store, 0, 3000)
		lives := 0
		for done := false; !done; lives++ {
			ctx, die := context.WithCancel(t.Context())
			dying := viewtest.NewFaulty(view)
			dying.OnWrite = func(n int) viewtest.Fault {
				if n < 2 {
					return 0
				}
				die()
				return viewtest.Fault(1 + lives%2)
			}
			r := projections.New(store, "memory", dying, newTally(), quiet())
			ended := make(chan error, 1)
			go func() { ended <- r.Run(ctx) }()
			synctest.Wait()
			done = ctx.Err() == nil // it caught up with one write
			die()
			_ = <-ended
		}
		if lives < 4 {
			t.Errorf("got through in %d lives, want the test to kill more", lives)
		}
		r := projections.New(store, "memory", smooth, newTally(), quiet())
		stop := start(t, r)
		synctest.Wait()
		_ = stop()
		holds(t, view, all(3000))
		if got, want := viewtest.Dump(t, view, ""), viewtest.Dump(t, smooth, ""); got != want {
			t.Errorf("got another view after %d crashes than without any", lives)
		}
	})
}

// A view that can't be read is no reason to leave an event out.
func TestAFailedReadSkipsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, inner := storetest.NewMemory(ledger), viewtest.NewMemory()
		view := viewtest.NewFaulty(inner)
		view.OnRead = func(n int) error {
			if n%7 == 0 {
				return errors.New("disk")
			}
			return nil
		}
		last := grow(t, store, 0, 300)
		r := projections.New(store, "memory", view, newTally(), quiet())
		stop := start(t, r)
		if err := r.WaitFor(t.Context(), last-1); err != nil {
			t.Fatal(err)
		}
		_ = stop()
		holds(t, inner, all(300))
	})
}

// The ledger fails again and again, sooner than a batch is full.
func TestAFailingLedgerIsFollowedAllTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory, view := storetest.NewMemory(ledger), viewtest.NewMemory()
		last := grow(t, memory, 0, 300)
		store := storetest.NewFaulty(memory)
		store.OnRead = func(c storetest.ReadCall) (int, error) {
			if c.Method == "Subscribe" {
				return 5, errors.New("connection lost")
			}
			return 0, nil
		}
		r := projections.New(store, "memory", view, newTally(), quiet())
		stop := start(t, r)
		if err := r.WaitFor(t.Context(), last); err != nil {
			t.Fatal(err)
		}
		holds(t, view, all(300))
		_ = stop()
	})
}

// Pauses grow to half a minute, are shown, and begin anew after a success.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory, view := storetest.NewMemory(ledger), viewtest.NewMemory()
		store := storetest.NewFaulty(memory)
		broken, tries := true, 0
		store.OnRead = func(storetest.ReadCall) (int, error) {
			tries++
			if broken {
				return 0, errors.New("connection refused")
			}
			return 0, nil
		}
		r := projections.New(store, "memory", view, newTally(), quiet())
		stop := start(t, r)
		time.Sleep(time.Hour)
		synctest.Wait()
		if tries < 100 || tries > 140 {
			t.Errorf("got %d tries in an hour, want about 120", tries)
		}
		if err := r.Lag().Err; err == nil || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("got error %v shown, want the one there is", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.WaitFor(ctx, 1); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("got error %v, want the deadline's and why it was missed", err)
		}
		broken = false
		if err := r.WaitFor(t.Context(), grow(t, memory, 0, 1)); err != nil {
			t.Fatal(err)
		}
		if lag := r.Lag(); lag.Err != nil || !lag.CaughtUp {
			t.Errorf("got error %v, caught up %v; want none and true", lag.Err, lag.CaughtUp)
		}
		_ = stop()
	})
}

// endless is a store whose subscriptions misbehave.
type endless struct {
	eventstore.Store

	subscribe func(after eventstore.Cursor) []eventstore.Notice
	err       error
}

func (s endless) Subscribe(_ context.Context, after eventstore.Cursor, _ eventstore.Filter) iter.Seq2[eventstore.Notice, error] {
	return func(yield func(eventstore.Notice, error) bool) {
		for _, n := range s.subscribe(after) {
			if !yield(n, nil) {
				return
			}
		}
		if s.err != nil {
			yield(eventstore.Notice{}, s.err)
		}
	}
}

func TestAClosedStoreEndsIt(t *testing.T) {
	store := endless{storetest.NewMemory(ledger), func(eventstore.Cursor) []eventstore.Notice { return nil }, eventstore.ErrClosed}
	r := projections.New(store, "memory", viewtest.NewMemory(), newTally(), quiet())
	if err := r.Run(t.Context()); !errors.Is(err, eventstore.ErrClosed) {
		t.Errorf("got error %v, want %v", err, eventstore.ErrClosed)
	}
	if err := r.WaitFor(t.Context(), 1); !errors.Is(err, eventstore.ErrClosed) {
		t.Errorf("wait: got error %v, want %v", err, eventstore.ErrClosed)
	}
}

// A store that breaks its word and repeats itself does no harm.
func TestARepeatedEventIsNotAppliedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory, view := storetest.NewMemory(ledger), viewtest.NewMemory()
		grow(t, memory, 0, 1)
		var e eventstore.Recorded
		for r, err := range memory.ReadStream(t.Context(), "s0", 0) {
			if err != nil {
				t.Fatal(err)
			}
			e = r
		}
		n := eventstore.Notice{Kind: eventstore.NewEvent, Event: e, At: eventstore.After(e.Position)}
		store := endless{memory, func(eventstore.Cursor) []eventstore.Notice { return []eventstore.Notice{n, n, {}} }, nil}
		r := projections.New(store, "memory", view, newTally(), quiet())
		stop := start(t, r)
		time.Sleep(time.Minute)
		synctest.Wait()
		holds(t, view, all(1))
		if err := r.Lag().Err; err == nil || !strings.Contains(err.Error(), "again") {
			t.Errorf("got error %v shown, want one about the repeat", err)
		}
		_ = stop()
	})
}

func TestWaitForBeforeRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := storetest.NewMemory(ledger)
		r := projections.New(store, "memory", viewtest.NewMemory(), newTally(), quiet())
		waited := make(chan error, 1)
		last := grow(t, store, 0, 3)
		go func() { waited <- r.WaitFor(t.Context(), last) }()
		synctest.Wait()
		stop := start(t, r)
		if err := <-waited; err != nil {
			t.Error(err)
		}
		if err := stop(); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := r.WaitFor(t.Context(), last+1000); !errors.Is(err, context.Canceled) {
			t.Errorf("after the end: got error %v, want the one that ended it", err)
		}
		if err := r.WaitFor(t.Context(), last); err != nil {
			t.Errorf("after the end, for what is applied: got error %v, want none", err)
		}
	})
}
