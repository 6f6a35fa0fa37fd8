package kills_test

import (
	"context"
	"crypto/rand"
	"log/slog"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"writ/adapters/pebblestore"
	"writ/domain/engine"
	"writ/domain/eventstore"
	"writ/domain/gate"
	"writ/domain/op"
)

// A machine is one life of the service: an engine over the store.
type machine struct {
	h      *history
	power  *power
	disk   *vfs.MemFS
	store  *pebblestore.Store
	engine *engine.Engine
	calls  sync.WaitGroup
	ctx    context.Context
	end    context.CancelFunc
}

// rise turns the power on. Opening must never refuse: a loss of power is no
// damage.
func (h *history) rise(life int) *machine {
	h.t.Helper()
	m := &machine{h: h, power: &power{}, disk: h.disk}
	var err error
	if m.store, err = pebblestore.Open(ledgerDir, h.options(m.disk)); err != nil {
		h.t.Fatalf("life %d: the ledger does not open: %v", life, err)
	}
	h.survived(life, m.store)
	m.ctx, m.end = context.WithCancel(context.Background())
	who := engine.Identity{Site: gate.Site{Agent: "lab", Ledger: string(powerLedger)}, Instance: "one"}
	store := acking{m.store, m}
	book := engine.NewPolicyBook(store, who, h.clock)
	host := line{h.host, m.power}
	pace := engine.DefaultPace()
	pace.StaleLook = time.Hour // in a hurry, a moment without a processor is long
	m.engine, err = engine.New(m.ctx, engine.Config{
		Identity: who, Store: store, Policies: book, Host: host, Executors: map[op.Class]engine.Executor{op.GuestDestroy: host},
		Clock: h.clock, Pace: pace, Log: slog.New(slog.NewTextHandler(h.log, nil)), Pending: m.pending,
		Draw:   func() (c op.Claim) { _, _ = rand.Read(c[:]); return c },
		Guard:  engine.Guard{Witness: witness{m}},
		OnLead: func(ctx context.Context) error { _, err := book.Enforce(ctx, powerPolicy(), op.Digest{}); return err },
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return m
}

// lose cuts the power and gives the disk as the next life finds it.
func (m *machine) lose(rng *mathrand.Rand) *vfs.MemFS {
	m.h.t.Helper()
	m.power.mu.Lock()
	m.power.off = true
	after := m.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 30, 100}[rng.IntN(3)], RNG: rng})
	m.power.mu.Unlock()
	m.stop()
	return after
}

// stop ends what is left of a life in memory.
func (m *machine) stop() {
	m.h.t.Helper()
	m.end()
	if err := m.engine.Stop(m.ctx); err != nil {
		m.h.t.Error(err)
	}
	m.calls.Wait()
	if err := m.store.Close(); err != nil {
		m.h.t.Error(err)
	}
	if err := m.engine.Halted(); err != nil {
		m.h.t.Errorf("nothing was launched any more: %v", err)
	}
}

// load delivers new orders and, again and again, those of before.
func (m *machine) load(fresh int) {
	h := m.h
	beat := time.NewTicker(700 * time.Microsecond)
	m.calls.Go(func() { <-m.ctx.Done(); beat.Stop() })
	for range 6 {
		m.calls.Go(func() {
			for {
				select {
				case <-beat.C:
				case <-m.ctx.Done():
					return
				}
				h.mu.Lock()
				if fresh > 0 {
					fresh--
					h.orders = append(h.orders, h.newOrder(100+len(h.orders)))
				}
				o := h.orders[len(h.orders)-1-h.rngOf(len(h.orders))]
				h.mu.Unlock()
				m.deliver(o)
			}
		})
	}
}

// rngOf draws mostly from the newest. Called with the lock held.
func (h *history) rngOf(n int) int {
	if mathrand.IntN(4) > 0 {
		n = min(n, 12)
	}
	return mathrand.IntN(n)
}

// deliver hands in an order and notes what its caller is told, if there is power.
func (m *machine) deliver(o *powerOrder) engine.Answer {
	a := m.engine.RunSignedJob(m.ctx, o.sub)
	_ = m.power.on(func() error {
		m.h.mu.Lock()
		defer m.h.mu.Unlock()
		switch a.Outcome { //nolint:exhaustive // the answers that acknowledge
		case engine.Succeeded, engine.AlreadyApplied, engine.InFlight, engine.Indeterminate:
			o.acked = true
		case engine.Corrupt, engine.RefusedByGate:
			if a.Reason != gate.NonceSpent {
				m.h.t.Errorf("op %s: got %s: %s", o.nonce.Short(), a.Outcome, a.Detail)
			}
		}
		return nil
	})
	return a
}

// An acking store notes what the engine is told to be on record. What it would
// be told after the power went nobody hears.
type acking struct {
	*pebblestore.Store

	m *machine
}

// Append implements eventstore.Appender.
func (s acking) Append(ctx context.Context, stream eventstore.StreamID, expected eventstore.Expected, events ...eventstore.Proposed) (eventstore.Appended, error) {
	got, err := s.Store.Append(ctx, stream, expected, events...)
	dark := s.m.power.on(func() error {
		if err == nil {
			s.m.h.mu.Lock()
			defer s.m.h.mu.Unlock()
			s.m.h.acks = append(s.m.h.acks, acknowledgement{stream, got, events[len(events)-1].ID})
		}
		return nil
	})
	if dark != nil {
		return eventstore.Appended{}, dark
	}
	return got, err
}

// A witness is the high-water mark on a disk that loses nothing: it must never be
// ahead of what the ledger's own disk keeps.
type witness struct{ m *machine }

// Seen implements engine.Witness.
func (w witness) Seen(context.Context) (engine.Mark, bool, error) {
	w.m.h.mu.Lock()
	defer w.m.h.mu.Unlock()
	return w.m.h.mark, w.m.h.marked, nil
}

// Keep implements engine.Witness.
func (w witness) Keep(_ context.Context, mark engine.Mark) error {
	return w.m.power.on(func() error {
		w.m.h.mu.Lock()
		defer w.m.h.mu.Unlock()
		w.m.h.mark, w.m.h.marked = mark, true
		return nil
	})
}
