package projections_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
	"writ/projections"
	"writ/projections/viewtest"
)

// A shelfTally is a tally whose readers understand other formats. While gate is
// open or nil it applies events, else it waits.
type shelfTally struct {
	tally

	reads []int
	gate  chan struct{}
}

func newShelfTally(format int, reads ...int) *shelfTally {
	p := &shelfTally{tally: *newTally(), reads: reads}
	p.format = format
	return p
}

func (p *shelfTally) Reads(format int) bool {
	for _, f := range p.reads {
		if f == format {
			return true
		}
	}
	return false
}

func (p *shelfTally) Apply(ctx context.Context, view *projections.Changes, e eventstore.Recorded) error {
	if p.gate != nil {
		select {
		case <-p.gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return p.tally.Apply(ctx, view, e)
}

func memorySlots() projections.Slots {
	return projections.Slots{A: viewtest.NewMemory(), B: viewtest.NewMemory(), Plan: viewtest.NewMemory()}
}

func openShelf(t *testing.T, store eventstore.Store, slots projections.Slots, p projections.Readable) *projections.Shelf {
	t.Helper()
	s, err := projections.OpenShelf(t.Context(), store, "memory", slots, p, quiet())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func runShelf(t *testing.T, s *projections.Shelf) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	return func() error {
		cancel()
		return <-ended
	}
}

// serves checks what readers find.
func serves(t *testing.T, s *projections.Shelf, format int, want string) {
	t.Helper()
	err := s.Read(func(view projections.ViewStore, got int, _ projections.Lag) error {
		if got != format {
			t.Errorf("format %d serves, want %d", got, format)
		}
		holds(t, view, want)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// onlyServing checks that one slot holds what a view built at once does, and the
// other nothing.
func onlyServing(t *testing.T, slots projections.Slots, store eventstore.Store, p projections.Projection) {
	t.Helper()
	want := viewtest.Dump(t, built(t, store, "memory", p), "")
	a, b := viewtest.Dump(t, slots.A, ""), viewtest.Dump(t, slots.B, "")
	if a+b != want || a != "" && b != "" {
		t.Errorf("got\nA: %s\nB: %s\nwant in one of them\n%s", a, b, want)
	}
}

func TestAShelfCatchesUpAndFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, slots := storetest.NewMemory(ledger), memorySlots()
		grow(t, store, 0, 30)
		s := openShelf(t, store, slots, newShelfTally(1))
		stop := runShelf(t, s)
		if err := s.WaitFor(t.Context(), grow(t, store, 30, 30)); err != nil {
			t.Fatal(err)
		}
		serves(t, s, 1, all(60))
		if _, building := s.Building(); building || !s.Lag().CaughtUp {
			t.Errorf("got building %v, lag %+v; want it caught up and nothing built", building, s.Lag())
		}
		if err := stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("got error %v, want that of the context", err)
		}
		onlyServing(t, slots, store, newTally())
	})
}

// A view of an older format serves until the new one is there.
func TestAnOlderFormatServesWhileItIsBuiltAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, slots := storetest.NewMemory(ledger), memorySlots()
		at := grow(t, store, 0, 30)
		old := openShelf(t, store, slots, newShelfTally(1))
		stop := runShelf(t, old)
		synctest.Wait()
		_ = stop()
		newest := grow(t, store, 30, 30)

		p := newShelfTally(2, 1)
		p.gate = make(chan struct{})
		s := openShelf(t, store, slots, p)
		serves(t, s, 1, all(30)) // before it runs
		stop = runShelf(t, s)
		synctest.Wait()
		serves(t, s, 1, all(30))
		lag := s.Lag()
		if got, _ := lag.Applied.Position(); got < at || lag.CaughtUp || lag.Err == nil {
			t.Errorf("got lag %+v, want it to stand at %d and say why", lag, at)
		}
		if building, ok := s.Building(); !ok || building.CaughtUp {
			t.Errorf("got building %v, lag %+v; want it under way", ok, building)
		}
		if err := s.WaitFor(t.Context(), at); err != nil {
			t.Errorf("wait for what it holds: got error %v, want none", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := s.WaitFor(ctx, newest); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("wait for more: got error %v, want the deadline's", err)
		}

		// A reader that is at work when the views change keeps its view.
		began, reader := make(chan struct{}), make(chan error, 1)
		finish := make(chan struct{})
		go func() {
			reader <- s.Read(func(view projections.ViewStore, format int, _ projections.Lag) error {
				close(began)
				<-finish
				if got, _, err := view.Get(t.Context(), "all"); err != nil || string(got) != all(30) || format != 1 {
					return fmt.Errorf("format %d, %q, error %w", format, got, err)
				}
				return nil
			})
		}()
		<-began
		waited := make(chan error, 1)
		go func() { waited <- s.WaitFor(t.Context(), newest) }()
		close(p.gate)
		if err := <-waited; err != nil {
			t.Errorf("wait across the change: got error %v, want none", err)
		}
		serves(t, s, 2, all(60))
		close(finish)
		if err := <-reader; err != nil {
			t.Errorf("a reader across the change: %v", err)
		}
		last := grow(t, store, 60, 3)
		if err := s.WaitFor(t.Context(), last); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		serves(t, s, 2, all(63))
		_ = stop()
		next := newTally()
		next.format = 2
		onlyServing(t, slots, store, next)
	})
}

func TestAFormatThatNobodyReadsIsBuiltAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, slots := storetest.NewMemory(ledger), memorySlots()
		grow(t, store, 0, 30)
		stop := runShelf(t, openShelf(t, store, slots, newShelfTally(2)))
		synctest.Wait()
		_ = stop()
		s := openShelf(t, store, slots, newShelfTally(1)) // an older program
		stop = runShelf(t, s)
		synctest.Wait()
		serves(t, s, 1, all(30))
		_ = stop()
		onlyServing(t, slots, store, newTally())
	})
}

// At the request of people the view is built again, and is the same to the byte.
func TestAViewIsBuiltAgainOnRequest(t *testing.T) {
	for _, live := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			store, slots := storetest.NewMemory(ledger), memorySlots()
			grow(t, store, 0, 30)
			s := openShelf(t, store, slots, newShelfTally(1))
			stop := runShelf(t, s)
			synctest.Wait()
			before := viewtest.Dump(t, slots.A, "")
			if live {
				s.Rebuild()
				s.Rebuild()
			} else {
				_ = stop()
				if err := projections.AskRebuild(t.Context(), slots); err != nil {
					t.Fatal(err)
				}
				s = openShelf(t, store, slots, newShelfTally(1))
				stop = runShelf(t, s)
			}
			synctest.Wait()
			if after := viewtest.Dump(t, slots.B, ""); after != before || before == "" {
				t.Errorf("live %v: got\n%swant the same as before\n%s", live, after, before)
			}
			if left := viewtest.Dump(t, slots.A, ""); left != "" {
				t.Errorf("live %v: got\n%swant the old view removed", live, left)
			}
			if err := s.WaitFor(t.Context(), grow(t, store, 30, 3)); err != nil {
				t.Fatal(err)
			}
			serves(t, s, 1, all(33))
			s.Rebuild()
			synctest.Wait()
			serves(t, s, 1, all(33))
			_ = stop()
			onlyServing(t, slots, store, newTally())
		})
	}
}

// The one that serves is kept up to date while it is built again.
func TestTheViewMovesOnWhileItIsBuiltAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, slots := storetest.NewMemory(ledger), memorySlots()
		grow(t, store, 0, 30)
		faulty := viewtest.NewFaulty(slots.B)
		slots.B = faulty
		var mended atomic.Bool
		faulty.OnWrite = func(n int) viewtest.Fault {
			if !mended.Load() && n > 1 {
				return viewtest.Lost
			}
			return 0
		}
		s := openShelf(t, store, slots, newShelfTally(1))
		stop := runShelf(t, s)
		synctest.Wait()
		s.Rebuild()
		synctest.Wait()
		if err := s.WaitFor(t.Context(), grow(t, store, 30, 30)); err != nil {
			t.Fatal(err)
		}
		serves(t, s, 1, all(60))
		if lag, building := s.Building(); !building || lag.Err == nil {
			t.Errorf("got building %v, lag %+v; want it under way and failing", building, lag)
		}
		mended.Store(true)
		<-time.After(time.Hour) // in the bubble: until it was tried again
		synctest.Wait()
		if _, building := s.Building(); building {
			t.Error("got it still built, want it done")
		}
		_ = stop()
		onlyServing(t, slots, store, newTally())
	})
}

// Wherever a write fails, in either way, and wherever the process dies: what
// serves is whole, and the next start brings the rebuild to its end.
func TestARebuildThatIsBrokenOff(t *testing.T) {
	for _, fault := range []viewtest.Fault{viewtest.Lost, viewtest.DoneButFailed} {
		for _, die := range []bool{false, true} {
			for write := 1; write <= 8; write++ {
				synctest.Test(t, func(t *testing.T) {
					store, slots := storetest.NewMemory(ledger), memorySlots()
					grow(t, store, 0, 30)
					stop := runShelf(t, openShelf(t, store, slots, newShelfTally(1)))
					synctest.Wait()
					_ = stop()

					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					n := 0
					hook := func(int) viewtest.Fault {
						if n++; n != write {
							return 0
						}
						if die {
							cancel()
						}
						return fault
					}
					wrap := func(v projections.ViewStore) projections.ViewStore {
						f := viewtest.NewFaulty(v)
						f.OnWrite = hook
						return f
					}
					s := openShelf(t, store, projections.Slots{A: wrap(slots.A), B: wrap(slots.B), Plan: wrap(slots.Plan)}, newShelfTally(2, 1))
					ended := make(chan error, 1)
					go func() { ended <- s.Run(ctx) }()
					<-time.After(time.Minute) // in the bubble: until it was tried again
					cancel()
					if err := <-ended; !errors.Is(err, context.Canceled) {
						t.Fatalf("write %d, fault %d: got error %v, want the context's", write, fault, err)
					}

					s = openShelf(t, store, slots, newShelfTally(2, 1))
					err := s.Read(func(view projections.ViewStore, format int, _ projections.Lag) error {
						if format != 1 && format != 2 {
							t.Errorf("write %d, fault %d, die %v: format %d serves", write, fault, die, format)
						}
						holds(t, view, all(30))
						return nil
					})
					if err != nil {
						t.Fatal(err)
					}
					stop = runShelf(t, s)
					synctest.Wait()
					serves(t, s, 2, all(30))
					_ = stop()
					next := newTally()
					next.format = 2
					onlyServing(t, slots, store, next)
				})
			}
		}
	}
}

func TestShelvesThatCantBeOpened(t *testing.T) {
	store := storetest.NewMemory(ledger)
	grow(t, store, 0, 30)
	older := storetest.NewMemory(ledger)
	grow(t, older, 0, 20)
	filled := func() projections.Slots {
		slots := memorySlots()
		slots.A = built(t, store, "memory", newTally())
		return slots
	}
	tests := []struct {
		name  string
		store eventstore.Store
		spoil func(*projections.Slots)
		want  string
	}{
		{"another ledger", storetest.NewMemory("0123456789abcdef"), nil, "of ledger"},
		{"an older copy of the ledger", older, nil, "the ledger is an older copy"},
		{"a plan that can't be read", store, func(s *projections.Slots) {
			b := projections.Batch{Set: []projections.Entry{{Key: "plan", Value: []byte(`{"serving":"c"}`)}}}
			if err := s.Plan.Commit(t.Context(), b); err != nil {
				t.Fatal(err)
			}
		}, "clear the views"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			slots := filled()
			if tt.spoil != nil {
				tt.spoil(&slots)
			}
			_, err := projections.OpenShelf(t.Context(), tt.store, "memory", slots, newShelfTally(2, 1), quiet())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want one with %q", err, tt.want)
			}
			if tt.spoil != nil {
				return
			}
			// People who ask for another view get one, without it.
			if err := projections.AskRebuild(t.Context(), slots); err != nil {
				t.Fatal(err)
			}
			stop := runShelf(t, openShelf(t, tt.store, slots, newShelfTally(2, 1)))
			defer func() { _ = stop() }()
			next := newTally()
			next.format = 2
			want := viewtest.Dump(t, built(t, tt.store, "memory", next), "")
			for viewtest.Dump(t, slots.A, "") != want {
				select {
				case <-time.After(time.Millisecond):
				case <-t.Context().Done():
					t.Fatalf("got\n%swant\n%s", viewtest.Dump(t, slots.A, ""), want)
				}
			}
		})
	}
}

// What a runner can't go on from ends the shelf, also in the middle of a rebuild.
func TestAShelfEndsWithItsRunner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, slots := storetest.NewMemory(ledger), memorySlots()
		grow(t, store, 0, 3)
		foreign := built(t, storetest.NewMemory("0123456789abcdef"), "memory", newTally())
		slots.A = built(t, store, "memory", newTally())
		slots.B = foreign
		b := projections.Batch{Set: []projections.Entry{{Key: "plan", Value: []byte(`{"serving":"a","building":true}`)}}}
		if err := slots.Plan.Commit(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		err := openShelf(t, store, slots, newShelfTally(1)).Run(t.Context())
		var refused *projections.RefusedError
		if !errors.As(err, &refused) {
			t.Errorf("got error %v, want a *RefusedError", err)
		}
	})
}
