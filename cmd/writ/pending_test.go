package main

import (
	"context"
	"iter"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"writ/domain/engine"
	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
	"writ/domain/gate"
	"writ/domain/op"
	"writ/projections"
	"writ/projections/recoveryqueue"
	"writ/projections/viewtest"
)

// A subscription that delivers late, as one over a network does.
type lateFeed struct {
	eventstore.Store
	late time.Duration
}

func (l lateFeed) Subscribe(ctx context.Context, after eventstore.Cursor, f eventstore.Filter) iter.Seq2[eventstore.Notice, error] {
	return func(yield func(eventstore.Notice, error) bool) {
		for n, err := range l.Store.Subscribe(ctx, after, f) {
			if n.Kind == eventstore.NewEvent {
				_ = systemClock{}.Wait(ctx, l.late)
			}
			if !yield(n, err) {
				return
			}
		}
	}
}

// The list at a take-over must hold what was in flight when it was asked for, or the survey
// ends without it. Here the view of a standby was caught up once, and is a moment behind.
func TestPendingAtATakeOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		m := storetest.NewMemory("3f9c2ab41d6e4a70")
		view := viewtest.NewMemory()
		queue := recoveryqueue.New(view)
		feed := projections.New(lateFeed{m, 300 * time.Millisecond}, "memory", view, queue, slog.New(slog.DiscardHandler))
		ended := make(chan struct{})
		go func() { defer close(ended); _ = feed.Run(ctx) }()
		pending := inFlightOf(m, feed, queue)
		if _, err := pending(ctx); err != nil { // caught up: it stands by for weeks
			t.Fatal(err)
		}
		n := op.Nonce("6f1c9a0e5d7b4c2f8a3e1d0c9b8a7f6e")
		o := op.New("3f9c2ab41d6e4a70", n)
		target := op.Target{Node: "pve1", Guest: &op.Guest{Type: op.QEMU, VMID: 105}}
		var claim op.Claim
		rec, _, err := o.Propose(&op.Started{
			Header: op.Header{OpID: op.OpID(n, 1, claim), Nonce: n, Attempt: 1, Class: op.GuestDestroy, Target: target, Agent: "lab", Instance: "a", Epoch: 1, At: time.Now().UTC()},
			Claim:  claim, Intent: op.Intent{Class: op.GuestDestroy, Target: target}, Envelope: []byte("x"), PayloadSHA256: op.DigestOf([]byte("x")), Role: "operator", Signers: nil, PolicySerial: 1,
		})
		if err != nil {
			t.Fatal(err)
		}
		if done := engine.AppendRecord(ctx, m, n.Stream(), rec); done.Outcome != engine.AppendOK {
			t.Fatal(done.Err)
		}
		// The predecessor dies; this instance takes over and asks.
		who := engine.Identity{Site: gate.Site{Agent: "lab", Ledger: "3f9c2ab41d6e4a70"}, Instance: "b"}
		if _, err := engine.TakeOver(ctx, m, who, systemClock{}); err != nil {
			t.Fatal(err)
		}
		got, err := pending(ctx)
		if err != nil || len(got) != 1 {
			t.Errorf("in flight after the take-over: got %v, %v; want the op that is on record as in flight", got, err)
		}
		cancel()
		<-ended
	})
}
