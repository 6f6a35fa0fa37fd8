package status_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
	"writ/projections"
	"writ/projections/status"
	"writ/projections/viewtest"
)

const ledger = eventstore.LedgerID("3f9c2ab41d6e4a70")

// A site is a ledger with the view of its ops, which is kept up to date until
// the test ends.
type site struct {
	t     testing.TB
	store eventstore.Store
	slots projections.Slots
	shelf *projections.Shelf
	ops   *status.Ops
}

func memorySlots() projections.Slots {
	return projections.Slots{A: viewtest.NewMemory(), B: viewtest.NewMemory(), Plan: viewtest.NewMemory()}
}

func newSite(t testing.TB) *site {
	t.Helper()
	return open(t, storetest.NewMemory(ledger), memorySlots(), status.View{})
}

func open(t testing.TB, store eventstore.Store, slots projections.Slots, p projections.Readable) *site {
	t.Helper()
	shelf, err := projections.OpenShelf(t.Context(), store, "memory", slots, p, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, store: store, slots: slots, shelf: shelf, ops: status.New(shelf)}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- shelf.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return s
}

func (s *site) story(n uint64) *viewtest.Story {
	s.t.Helper()
	return viewtest.NewStory(s.t, s.store, viewtest.Nonce(n))
}

// reach waits until the view holds an event.
func (s *site) reach(e eventstore.Recorded) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	if err := s.ops.WaitFor(ctx, e.Position); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) page(q status.Query) status.Page {
	s.t.Helper()
	if q.Limit == 0 {
		q.Limit = 100
	}
	page, err := s.ops.List(s.t.Context(), q)
	if err != nil {
		s.t.Fatalf("list %+v: got error %v, want none", q, err)
	}
	return page
}

// all follows the pages of an answer to its end.
func (s *site) all(q status.Query) []status.Op {
	s.t.Helper()
	var ops []status.Op
	for range 10_000 {
		page := s.page(q)
		ops = append(ops, page.Ops...)
		if q.After = page.Next; q.After == nil {
			return ops
		}
	}
	s.t.Fatalf("list %+v: got no end", q)
	return nil
}
