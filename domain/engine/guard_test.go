package engine_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"writ/domain/engine"
	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
	"writ/domain/op"
)

// A fakeWitness keeps its mark in memory.
type fakeWitness struct {
	mu   sync.Mutex
	mark engine.Mark
	kept bool
	err  error
}

func (f *fakeWitness) Seen(context.Context) (engine.Mark, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mark, f.kept, f.err
}

func (f *fakeWitness) Keep(_ context.Context, m engine.Mark) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.mark, f.kept = m, true
	}
	return f.err
}

// now is the mark as it is.
func (f *fakeWitness) now() engine.Mark {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mark
}

func witnessedBy(f *fakeWitness) option {
	return func(c *engine.Config) { c.Guard.Witness = f }
}

// newLedger is a world whose ledger is empty but for the policy, with a witness
// that has been told of that.
func newLedger(t *testing.T) (*world, *fakeWitness) {
	t.Helper()
	w := newWorld(t)
	w.stop()
	f := new(fakeWitness)
	if err := engine.AcceptRollback(context.Background(), w.memory, f, "lab", op.RollbackAccepted{Audience: string(ledger), By: "test"}); err != nil {
		t.Fatal(err)
	}
	w.start(witnessedBy(f))
	return w, f
}

// count is how many events a ledger has.
func count(t *testing.T, m *storetest.Memory) (n int) {
	t.Helper()
	for _, err := range m.ReadAll(context.Background(), eventstore.Cursor{}, eventstore.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// copyOf is a ledger with the first events of another one.
func copyOf(t *testing.T, m *storetest.Memory, keep int) *storetest.Memory {
	t.Helper()
	old := storetest.NewMemory(ledger)
	n := 0
	for rec, err := range m.ReadAll(context.Background(), eventstore.Cursor{}, eventstore.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n > keep {
			break
		}
		expected := eventstore.NoStream()
		if rec.Revision > 0 {
			expected = eventstore.At(rec.Revision - 1)
		}
		e := eventstore.Proposed{ID: rec.ID, Type: rec.Type, Data: rec.Data, Metadata: rec.Metadata}
		if _, err := old.Append(context.Background(), rec.Stream, expected, e); err != nil {
			t.Fatal(err)
		}
	}
	return old
}

func TestAnOldCopyOfTheLedgerDoesNotAct(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newLedger(t)
		d := order(web3())
		before := count(t, w.memory)
		w.wantOutcome(w.runToEnd(signed(t, d)), engine.Succeeded)
		pass(time.Minute)
		w.stop()
		old := copyOf(t, w.memory, before)

		t.Log("the guest comes back with the backup, and so does the ledger: the writ must not run again")
		w.host.add(web3())
		w.memory, w.store = old, storetest.NewFaulty(old)
		w.book = engine.NewPolicyBook(old, w.who, systemClock{})
		if _, err := w.book.Enforce(context.Background(), policy(), op.Digest{}); err != nil {
			t.Fatal(err)
		}
		w.start(witnessedBy(f))
		got := w.runToEnd(signed(t, d))
		w.wantOutcome(got, engine.Unavailable)
		if !strings.Contains(got.Detail, "accept-rollback") || w.host.effects[d.Nonce] != 1 {
			t.Errorf("got %q and %d effects, want the remedy and one", got.Detail, w.host.effects[d.Nonce])
		}

		t.Log("events of its own, however many, do not make it the newest")
		for range 50 {
			w.runToEnd(engine.Submission{Intent: d.Intent(), SubmittedBy: "test"})
		}
		w.stop()
		w.start(witnessedBy(f))
		w.wantOutcome(w.runToEnd(signed(t, d)), engine.Unavailable)

		t.Log("people accept it: it gets a new audience, and what was signed before is void")
		w.stop()
		if err := engine.AcceptRollback(context.Background(), w.memory, f, "lab", op.RollbackAccepted{Audience: "00112233445566ff", By: "alice"}); err != nil {
			t.Fatal(err)
		}
		p, err := engine.ReadProvenance(context.Background(), w.memory)
		if err != nil || p.Audience != "00112233445566ff" {
			t.Fatalf("provenance: got %+v, %v", p, err)
		}
		w.who.Site.Ledger = p.Audience
		w.start(witnessedBy(f))
		got = w.runToEnd(signed(t, d))
		w.wantOutcome(got, engine.RefusedByGate)
		if got.Reason != "wrong-audience" || w.host.effects[d.Nonce] != 1 {
			t.Errorf("got %s and %d effects", got.Reason, w.host.effects[d.Nonce])
		}
		d.Audience = "lab/00112233445566ff"
		w.wantOutcome(w.runToEnd(signed(t, d)), engine.Succeeded)
	})
}

func TestLedgerAgainstItsMark(t *testing.T) {
	tests := map[string]struct {
		change func(m *engine.Mark, kept *bool)
		says   string // empty: it launches
	}{
		"as it was left":            {func(*engine.Mark, *bool) {}, ""},
		"no mark":                   {func(_ *engine.Mark, kept *bool) { *kept = false }, "no high-water mark"},
		"a mark of another ledger":  {func(m *engine.Mark, _ *bool) { m.Ledger = "ffffffffffffffff" }, "that of ledger ffffffffffffffff"},
		"a mark beyond the end":     {func(m *engine.Mark, _ *bool) { m.Position += 1000 }, "does not have the event"},
		"another event at the mark": {func(m *engine.Mark, _ *bool) { m.Event[0] ^= 1 }, "does not have the event"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, f := newLedger(t)
				pass(time.Minute)
				w.stop()
				tt.change(&f.mark, &f.kept)
				was := f.mark
				w.start(witnessedBy(f))
				got := w.runToEnd(signed(t, order(web3())))
				if tt.says == "" {
					w.wantOutcome(got, engine.Succeeded)
					return
				}
				w.wantOutcome(got, engine.Unavailable)
				if !strings.Contains(got.Detail, tt.says) {
					t.Errorf("detail: got %q, want %q in it", got.Detail, tt.says)
				}
				pass(time.Minute)
				w.stop()
				if f.mark != was {
					t.Errorf("mark: got %+v, want it left as it was", f.mark)
				}
			})
		})
	}
}

// A mark that can't be read is no mark that agrees.
func TestWitnessThatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f := newLedger(t)
		pass(time.Minute)
		w.stop()
		f.err = errors.New("stale file handle")
		w.start(witnessedBy(f))
		d := order(web3())
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		w.wantOutcome(w.engine.RunSignedJob(ctx, signed(t, d)), engine.Unavailable)
		f.mu.Lock()
		f.err = nil
		f.mu.Unlock()
		w.wantOutcome(w.runToEnd(signed(t, d)), engine.Succeeded)
	})
}

func TestGuard(t *testing.T) {
	var mu sync.Mutex
	tests := map[string]struct {
		guard  func(fail *error) engine.Guard
		says   string
		passes bool // once what it asks is right
	}{
		"tokens that the ledger knows nothing of": {
			func(fail *error) engine.Guard {
				return engine.Guard{Foreign: func(context.Context) ([]string, error) {
					mu.Lock()
					defer mu.Unlock()
					if *fail != nil {
						return []string{"writ@pve!w-1", "writ@pve!w-2"}, nil
					}
					return nil, nil
				}}
			}, "writ@pve!w-1, writ@pve!w-2", false,
		},
		"a host that can't be asked": {
			func(fail *error) engine.Guard {
				return engine.Guard{Foreign: func(context.Context) ([]string, error) {
					mu.Lock()
					defer mu.Unlock()
					return nil, *fail
				}}
			}, "has not been asked", true,
		},
		"a clock ahead of the host's": {
			func(fail *error) engine.Guard {
				return engine.Guard{HostTime: func(context.Context) (time.Time, error) {
					mu.Lock()
					defer mu.Unlock()
					if *fail != nil {
						return time.Now().Add(-31 * time.Second), nil
					}
					return time.Now(), nil
				}}
			}, "set both by the same time server", true,
		},
		"a clock behind the host's": {
			func(fail *error) engine.Guard {
				return engine.Guard{HostTime: func(context.Context) (time.Time, error) {
					mu.Lock()
					defer mu.Unlock()
					if *fail != nil {
						return time.Now().Add(31 * time.Second), nil
					}
					return time.Now().Add(29 * time.Second), nil
				}}
			}, "set both by the same time server", true,
		},
		"a disk that is full": {
			func(fail *error) engine.Guard {
				return engine.Guard{Room: func() error {
					mu.Lock()
					defer mu.Unlock()
					return *fail
				}}
			}, "short of room: it is wrong", true,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.stop()
				fail := errors.New("it is wrong")
				w.start(func(c *engine.Config) { c.Guard = tt.guard(&fail) })
				pass(time.Second)
				d := order(web3())
				got := w.runToEnd(signed(t, d))
				w.wantOutcome(got, engine.Unavailable)
				if !strings.Contains(got.Detail, tt.says) {
					t.Errorf("detail: got %q, want %q in it", got.Detail, tt.says)
				}
				w.wantTypes(d.Nonce)
				mu.Lock()
				fail = nil
				mu.Unlock()
				pass(2 * time.Minute)
				got = w.runToEnd(signed(t, d))
				if want := map[bool]engine.Outcome{true: engine.Succeeded, false: engine.Unavailable}[tt.passes]; got.Outcome != want {
					t.Errorf("once it is right: got %s (%s), want %s", got.Outcome, got.Detail, want)
				}
			})
		})
	}
}

// What is under way ends on record while the disk is short of room.
func TestEndingsAreWrittenFromTheReserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.stop()
		var full error
		w.start(func(c *engine.Config) { c.Guard.Room = func() error { return full } })
		w.host.onLaunch = func(h *fakeHost, l *op.Launching) (string, error) {
			full = errors.New("12 MiB are free, 64 MiB are kept for endings")
			return h.carryOut(l, "OK"), nil
		}
		w.wantOutcome(w.runToEnd(signed(t, order(web3()))), engine.Succeeded)
		w.wantOutcome(w.runToEnd(signed(t, rival())), engine.Unavailable)
	})
}

// A clock that was set back makes no expired writ valid again.
func TestClockThatWasSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.stop()
		clock := new(shiftedClock)
		w.start(func(c *engine.Config) { c.Clock = clock })
		w.wantOutcome(w.runToEnd(signed(t, order(web3()))), engine.Succeeded)
		clock.set(-time.Hour)
		pass(5 * time.Second)
		got := w.runToEnd(signed(t, rival()))
		w.wantOutcome(got, engine.Unavailable)
		if !strings.Contains(got.Detail, "set the clock right") {
			t.Errorf("detail: got %q", got.Detail)
		}
		clock.set(0)
		pass(5 * time.Second)
		w.host.add(web3())
		if got := w.runToEnd(signed(t, rival())); got.Outcome == engine.Unavailable {
			t.Errorf("once it is set right: got %s (%s)", got.Outcome, got.Detail)
		}
	})
}

// A shiftedClock is off by what it is set to.
type shiftedClock struct {
	systemClock
	mu  sync.Mutex
	off time.Duration
}

func (c *shiftedClock) set(off time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off = off
}

func (c *shiftedClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Round(0).Add(c.off)
}

// Nothing is launched before the host was asked what it remembers.
func TestNothingIsLaunchedBeforeTheHostWasAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.stop()
		asked := make(chan struct{})
		w.start(func(c *engine.Config) {
			c.Guard.Foreign = func(ctx context.Context) ([]string, error) {
				select {
				case <-asked:
					return nil, nil
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}
		})
		d := order(web3())
		w.wantOutcome(w.engine.RunSignedJob(context.Background(), signed(t, d)), engine.InFlight)
		pass(30 * time.Second)
		w.wantTypes(d.Nonce, op.TypeStarted)
		close(asked)
		w.wantOutcome(w.engine.Wait(context.Background(), d.Nonce), engine.Succeeded)
	})
}
