package projections_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
	"writ/projections"
	"writ/projections/viewtest"
)

// built gives a view of a ledger of n events.
func built(t *testing.T, store eventstore.Store, storeName string, p projections.Projection) *viewtest.Memory {
	t.Helper()
	view := viewtest.NewMemory()
	feed(t, store, storeName, view, p)
	return view
}

func feed(t *testing.T, store eventstore.Store, storeName string, view projections.ViewStore, p projections.Projection) {
	t.Helper()
	r := projections.New(store, storeName, view, p, quiet())
	stop := start(t, r)
	if err := r.WaitCaughtUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	_ = stop()
}

func TestForeignViewsAreRefused(t *testing.T) {
	store := storetest.NewMemory(ledger)
	grow(t, store, 0, 30)
	older := storetest.NewMemory(ledger)
	grow(t, older, 0, 20)
	regrown := storetest.NewMemory(ledger)
	grow(t, regrown, 0, 20)
	grow(t, elsewhere{regrown}, 20, 20)

	other := newTally()
	other.name = "census"
	set := func(key, value string) *viewtest.Memory {
		view := viewtest.NewMemory()
		if err := view.Commit(t.Context(), projections.Batch{Set: []projections.Entry{{Key: key, Value: []byte(value)}}}); err != nil {
			t.Fatal(err)
		}
		return view
	}
	tests := []struct {
		name  string
		view  *viewtest.Memory
		store eventstore.Store
		want  string
	}{
		{"another ledger", built(t, store, "memory", newTally()), storetest.NewMemory("0123456789abcdef"), `of ledger "3f9c2ab41d6e4a70", not of "0123456789abcdef"`},
		{"another store", built(t, store, "esdb", newTally()), store, `of store "esdb", not of "memory"`},
		{"another projection", built(t, store, "memory", other), store, `of projection "census", not of "tally"`},
		{"an older copy of the ledger", built(t, store, "memory", newTally()), older, "the ledger is an older copy"},
		{"an older copy that has grown again", built(t, store, "memory", newTally()), regrown, "the ledger is an older copy"},
		{"an empty ledger of the same id", built(t, store, "memory", newTally()), storetest.NewMemory(ledger), "the ledger is an older copy"},
		{"data without a checkpoint", set("all", "s0@0 "), store, "no checkpoint"},
		{"a checkpoint that can't be read", set("!checkpoint", `{"surprise":1}`), store, "can't be read"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := viewtest.Dump(t, tt.view, "")
			r := projections.New(tt.store, "memory", tt.view, newTally(), quiet())
			err := r.Run(t.Context())
			var refused *projections.RefusedError
			if !errors.As(err, &refused) || refused.Projection != "tally" || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want a *RefusedError with %q", err, tt.want)
			}
			if !strings.Contains(err.Error(), "clear") {
				t.Errorf("got error %v, want one that says what to do", err)
			}
			if after := viewtest.Dump(t, tt.view, ""); after != before {
				t.Errorf("got the view changed to\n%swant it left alone\n%s", after, before)
			}
			if err := r.WaitFor(t.Context(), 1); !errors.As(err, &refused) {
				t.Errorf("wait: got error %v, want why it was refused", err)
			}

			if err := tt.view.Clear(t.Context()); err != nil {
				t.Fatal(err)
			}
			feed(t, tt.store, "memory", tt.view, newTally())
			if got, want := viewtest.Dump(t, tt.view, ""), viewtest.Dump(t, built(t, tt.store, "memory", newTally()), ""); got != want {
				t.Errorf("cleared and built again: got\n%swant\n%s", got, want)
			}
		})
	}
}

// elsewhere is a ledger whose events get other ids: another history.
type elsewhere struct{ eventstore.Store }

func (s elsewhere) Append(ctx context.Context, stream eventstore.StreamID, expected eventstore.Expected, events ...eventstore.Proposed) (eventstore.Appended, error) {
	for i := range events {
		events[i].ID[15] ^= 0xff
	}
	return s.Store.Append(ctx, stream, expected, events...)
}

func TestAnotherFormatIsBuiltAgain(t *testing.T) {
	next := newTally()
	next.format = 2
	for _, fault := range []viewtest.Fault{0, viewtest.Lost, viewtest.DoneButFailed} {
		for write := 1; write <= 2; write++ {
			synctest.Test(t, func(t *testing.T) {
				store := storetest.NewMemory(ledger)
				grow(t, store, 0, 30)
				view := built(t, store, "memory", newTally())
				if err := view.Commit(t.Context(), projections.Batch{Set: []projections.Entry{{Key: "stale", Value: []byte("x")}}}); err != nil {
					t.Fatal(err)
				}
				faulty := viewtest.NewFaulty(view)
				faulty.OnWrite = func(n int) viewtest.Fault {
					if n == write {
						return fault
					}
					return 0
				}
				feed(t, store, "memory", faulty, next)
				if got, want := viewtest.Dump(t, view, ""), viewtest.Dump(t, built(t, store, "memory", next), ""); got != want {
					t.Errorf("write %d, fault %d: got\n%swant\n%s", write, fault, got, want)
				}
			})
		}
	}
}

// A damaged event at the checkpoint is no rollback, and no reason to stop.
func TestADamagedEventAtTheCheckpointStopsNothing(t *testing.T) {
	memory := storetest.NewMemory(ledger)
	grow(t, memory, 0, 30)
	view := built(t, memory, "memory", newTally())
	grow(t, memory, 30, 3)
	store := storetest.NewFaulty(memory)
	store.OnRead = func(c storetest.ReadCall) (int, error) {
		if c.Method == "ReadStream" {
			return 0, &eventstore.CorruptError{Stream: c.Stream, Why: "checksum"}
		}
		return 0, nil
	}
	feed(t, store, "memory", view, newTally())
	holds(t, view, all(33))
}
