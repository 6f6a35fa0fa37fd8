package kills_test

import (
	"context"
	"slices"
	"sync"
	"time"

	"writ/adapters/pebblestore"
	"writ/domain/engine"
	"writ/domain/eventstore"
	"writ/domain/op"
)

// pending lists what is in flight on record.
func (m *machine) pending(ctx context.Context) ([]op.Nonce, error) {
	var nonces []op.Nonce
	ops, err := fold(ctx, m.store)
	for n, o := range ops {
		if o.op.State.InFlight() {
			nonces = append(nonces, n)
		}
	}
	return nonces, err
}

// A folded op is how it stands on record, and what became of each attempt.
type folded struct {
	op        op.Op
	launching map[string]*op.Launching // by op id
	failed    map[string]*op.Failed
	succeeded string // op id
}

// fold reads all ops and checks their chains.
func fold(ctx context.Context, store eventstore.Reader) (map[op.Nonce]*folded, error) {
	ops := make(map[op.Nonce]*folded)
	for e, err := range store.ReadAll(ctx, eventstore.Cursor{}, eventstore.Filter{StreamPrefixes: []string{op.StreamPrefix}}) {
		if err != nil {
			return nil, err
		}
		n, ok := op.NonceOfStream(string(e.Stream))
		if !ok {
			continue
		}
		f := ops[n]
		if f == nil {
			f = &folded{op: op.New(string(powerLedger), n), launching: make(map[string]*op.Launching), failed: make(map[string]*op.Failed)}
			ops[n] = f
		}
		if err := f.op.Apply(engine.RecordOf(e)); err != nil {
			return nil, err
		}
		switch f.op.State { //nolint:exhaustive // what an attempt came to
		case op.StateLaunching:
			f.launching[f.op.OpID] = f.op.Launching
		case op.StateFailed, op.StateFailedClean:
			f.failed[f.op.OpID] = f.op.Failed
		case op.StateSucceeded:
			f.succeeded = f.op.OpID
		}
	}
	return ops, nil
}

// survived checks the ledger as the loss of power has left it: it is whole, has
// all that was acknowledged, and an announcement of all that was ever sent.
func (h *history) survived(life int, store *pebblestore.Store) {
	h.t.Helper()
	ctx := h.t.Context()
	if err := store.Verify(ctx, nil); err != nil {
		h.t.Fatalf("life %d: the ledger does not hold: %v", life, err)
	}
	at := make(map[eventstore.Position]eventstore.Recorded)
	for e, err := range store.ReadAll(ctx, eventstore.Cursor{}, eventstore.Filter{}) {
		if err != nil {
			h.t.Fatalf("life %d: %v", life, err)
		}
		at[e.Position] = e
	}
	for _, a := range h.acks {
		if e := at[a.answer.Position]; e.ID != a.id || e.Stream != a.stream || e.Revision != a.answer.Revision {
			h.t.Fatalf("life %d: position %d, %s@%d was acknowledged and is lost: got %s@%d", life, a.answer.Position, a.stream, a.answer.Revision, e.Stream, e.Revision)
		}
	}
	ops, err := fold(ctx, store)
	if err != nil {
		h.t.Fatalf("life %d: %v", life, err)
	}
	for _, o := range ops {
		if o.op.State.InFlight() {
			h.found[o.op.State]++
		}
	}
	for _, o := range h.orders {
		if o.acked && ops[o.nonce] == nil {
			h.t.Errorf("life %d: op %s was acknowledged and is not on record", life, o.nonce.Short())
		}
	}
	h.compare(ops)
	if h.t.Failed() {
		h.t.FailNow() // what is wrong once is wrong in each life from now on
	}
}

// compare holds the record against the host's account.
func (h *history) compare(ops map[op.Nonce]*folded) {
	h.t.Helper()
	h.host.mu.Lock()
	defer h.host.mu.Unlock()
	for _, why := range h.host.wrong {
		h.t.Error(why)
	}
	h.host.wrong = nil
	for id, r := range h.host.sent {
		o := ops[r.l.Nonce]
		if o == nil || o.launching[id] == nil {
			h.t.Errorf("attempt %s was sent, and its announcement did not survive", id)
			continue
		}
		if f := o.failed[id]; f != nil && f.Effect == op.EffectNone && r.effect {
			h.t.Errorf("attempt %s is on record as %s without effect, and had one: %s", id, f.Kind, f.Message)
		}
	}
	for n, o := range ops {
		if o.succeeded == "" {
			continue
		}
		if r := h.host.sent[o.succeeded]; r == nil || !r.effect {
			h.t.Errorf("op %s succeeded on record, and its guest was not destroyed by it", n.Short())
		}
	}
}

// end is a life in which nothing goes wrong: everything comes to its end.
func (h *history) end() {
	h.t.Helper()
	h.host.mu.Lock()
	h.host.calm = true
	h.host.mu.Unlock()
	m := h.rise(-1)
	enough := time.Now().Add(time.Minute)
	for open := h.orders; len(open) > 0; {
		var still []*powerOrder
		var mu sync.Mutex
		for some := range slices.Chunk(open, 16) {
			var calls sync.WaitGroup
			for _, o := range some {
				calls.Go(func() {
					a := m.deliver(o)
					if a.Outcome == engine.InFlight {
						a = m.engine.Wait(m.ctx, o.nonce)
					}
					if a.Outcome != engine.Succeeded && a.Outcome != engine.AlreadyApplied {
						mu.Lock()
						defer mu.Unlock()
						still = append(still, o)
						if time.Now().After(enough) {
							h.t.Errorf("op %s does not come to its end: %s, %s", o.nonce.Short(), a.Outcome, a.Detail)
						}
					}
				})
			}
			calls.Wait()
		}
		if open = still; time.Now().After(enough) {
			break
		}
	}
	h.host.settle()
	ops, err := fold(h.t.Context(), m.store)
	if err != nil {
		h.t.Fatal(err)
	}
	h.compare(ops)
	m.stop()
	for _, why := range h.log.wrong() {
		h.t.Errorf("logged: %s", why)
	}
	h.t.Logf("%d events acknowledged, %d writs, %d requests sent; found after losses: %v; %d losses while opening", len(h.acks), len(h.orders), len(h.host.sent), h.found, h.torn)
}
