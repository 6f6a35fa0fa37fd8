package esdb_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"writ/adapters/esdb"
	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
)

// A rig is a store that reaches its server through a proxy, and a server whose
// own store fails as programmed.
type rig struct {
	*esdb.Store
	proxy  *proxy
	faulty *storetest.Faulty
	behind *storetest.Memory
}

// newRig makes a rig whose store holds a ledger; faults begin afterwards.
func newRig(t *testing.T, o esdb.Options) *rig {
	t.Helper()
	r := &rig{behind: storetest.NewMemory("0000000000000000")}
	r.faulty = storetest.NewFaulty(r.behind)
	addr, _ := serve(t, r.faulty, "")
	r.proxy = newProxy(t, addr)
	o.Connection = options(r.proxy.addr()).Connection
	r.Store = create(t, o)
	return r
}

// The whole contract holds while connections are cut: before an append gets to
// the server, while the server is at it, and after it is on record. The suite
// repeats an append until the answer is definite and does nothing about reads
// and subscriptions, so those have to get over it by themselves.
func TestContractWhileConnectionsAreCut(t *testing.T) {
	t.Parallel()
	behind := storetest.NewFaulty(storetest.NewMemory("0000000000000000"))
	addr, _ := serve(t, behind, "")
	p := newProxy(t, addr)
	if err := esdb.Create(t.Context(), options(p.addr()), ledgerID); err != nil {
		t.Fatal(err)
	}
	var before, during, after, moment atomic.Int64
	behind.Before = func(c storetest.AppendCall) {
		if c.N%31 == 1 {
			during.Add(1)
			p.cut()
		}
	}
	behind.OnAppend = func(c storetest.AppendCall) storetest.Fault {
		if c.N%31 == 11 {
			before.Add(1)
			p.cut()
			return storetest.Lost
		}
		return 0
	}
	behind.After = func(c storetest.AppendCall, _ eventstore.Appended, _ error) {
		if c.N%31 == 21 {
			after.Add(1)
			p.cut()
		}
	}
	storetest.Suite{
		Open: func(t *testing.T) eventstore.Store {
			t.Helper()
			for {
				s, err := esdb.Open(t.Context(), options(p.addr()))
				if err == nil {
					t.Cleanup(func() { s.Close() })
					return visibleTypes{s}
				}
				if moment.Add(1) > 100 {
					t.Fatal(err) // it was not the moment
				}
			}
		},
		IDsOnly: true,
		Rounds:  20,
	}.Run(t)
	if before.Load() == 0 || during.Load() == 0 || after.Load() == 0 {
		t.Errorf("got %d cuts before, %d during, %d after an append, want some of each", before.Load(), during.Load(), after.Load())
	}
	t.Logf("%d cuts before, %d during, %d after an append; %d connections", before.Load(), during.Load(), after.Load(), p.accepted())
}

// What is on record decides, whatever became of the answer.
func TestAppendWhoseConnectionIsCut(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		cut     func(r *rig, n int)
		written bool // after the first try
	}{
		"before it is sent": {func(r *rig, _ int) { r.proxy.down() }, false},
		"before it is on record": {func(r *rig, n int) {
			r.faulty.OnAppend = func(c storetest.AppendCall) storetest.Fault {
				if c.N == n {
					r.proxy.down()
					return storetest.Lost
				}
				return 0
			}
		}, false},
		"after it is on record": {func(r *rig, n int) {
			r.faulty.After = func(c storetest.AppendCall, _ eventstore.Appended, _ error) {
				if c.N == n {
					r.proxy.down()
				}
			}
		}, true},
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, esdb.Options{})
			c.cut(r, 2) // the first append was the ledger's record
			_, err := r.Append(t.Context(), "s", eventstore.NoStream(), happened(1))
			if err == nil || eventstore.Definite(err) {
				t.Fatalf("got error %v, want one that is not definite", err)
			}
			if _, err := r.behind.Head(t.Context(), "s"); (err == nil) != c.written {
				t.Errorf("at the server: got %v, want written %t", err, c.written)
			}
			r.proxy.up()
			done, err := settle(t.Context(), r, "s", eventstore.NoStream(), happened(1))
			if err != nil || done.Revision != 0 {
				t.Fatalf("repeated: got %+v, %v, want revision 0", done, err)
			}
			if got := ids(t, r, "s"); !slices.Equal(got, []eventstore.EventID{happened(1).ID}) {
				t.Errorf("got events %x, want one", got)
			}
		})
	}
}

// An append that another one overtook while its own outcome was unknown is
// refused, never taken for done.
func TestAppendOvertakenWhileItsOutcomeIsUnknown(t *testing.T) {
	t.Parallel()
	r := newRig(t, esdb.Options{})
	r.faulty.OnAppend = storetest.FailNth(2, storetest.Lost)
	if _, err := r.Append(t.Context(), "s", eventstore.NoStream(), happened(1)); err == nil || eventstore.Definite(err) {
		t.Fatalf("got error %v, want one that is not definite", err)
	}
	if _, err := r.Append(t.Context(), "s", eventstore.NoStream(), happened(2)); err != nil {
		t.Fatal(err)
	}
	_, err := r.Append(t.Context(), "s", eventstore.NoStream(), happened(1))
	var wrong *eventstore.WrongRevisionError
	if !errors.As(err, &wrong) || wrong.Actual != eventstore.At(0) {
		t.Errorf("got error %v, want that the stream is at 0", err)
	}
}

// A server that holds its tongue keeps nobody longer than the call's time, or
// than the caller's own patience.
func TestStalledServer(t *testing.T) {
	t.Parallel()
	const callTime = 300 * time.Millisecond
	r := newRig(t, esdb.Options{CallTimeout: callTime})
	release := r.proxy.hold()
	calls := map[string]func(ctx context.Context) error{
		"append": func(ctx context.Context) error {
			_, err := r.Append(ctx, "s", eventstore.NoStream(), happened(1))
			return err
		},
		"head":        func(ctx context.Context) error { _, err := r.Head(ctx, "s"); return err },
		"read stream": func(ctx context.Context) error { return last(r.ReadStream(ctx, "s", 0)) },
		"read all":    func(ctx context.Context) error { return last(r.ReadAll(ctx, eventstore.Cursor{}, eventstore.Filter{})) },
		"health":      r.Health,
	}
	for name, call := range calls {
		began := time.Now()
		if err := call(t.Context()); err == nil || eventstore.Definite(err) {
			t.Errorf("%s: got error %v, want that there is no answer", name, err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s: answered after %v, want about %v", name, took, callTime)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- call(ctx) }()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("%s, abandoned: got error %v, want the context's", name, err)
		}
	}
	release()
	if _, err := settle(t.Context(), r, "s", eventstore.NoStream(), happened(1)); err != nil {
		t.Error(err)
	}
	if got := ids(t, r, "s"); len(got) != 1 {
		t.Errorf("got %d events, want 1", len(got))
	}
}

func last[E any](sequence iter.Seq2[E, error]) (last error) {
	for _, err := range sequence {
		last = err
	}
	return last
}

// A subscription goes on where it was, through one cut after another, and
// says only once that it has caught up.
func TestSubscriptionResumes(t *testing.T) {
	t.Parallel()
	r := newRig(t, esdb.Options{})
	next, stop := iter.Pull2(r.Subscribe(t.Context(), eventstore.Cursor{}, eventstore.Filter{}))
	defer stop()
	caughtUp := 0
	for n := range 30 {
		stream := eventstore.StreamID(fmt.Sprint("s-", n%3))
		expected := eventstore.NoStream()
		if n >= 3 {
			expected = eventstore.At(eventstore.Revision(n/3 - 1))
		}
		switch n % 4 {
		case 1:
			r.proxy.cut() // while nothing is under way
		case 2:
			r.proxy.down() // and what comes meanwhile is missed
		}
		if _, err := r.behind.Append(t.Context(), stream, expected, happened(n)); err != nil {
			t.Fatal(err)
		}
		r.proxy.up()
		for {
			notice, err, ok := next()
			if err != nil || !ok {
				t.Fatalf("event %d: got error %v, ended %t", n, err, !ok)
			}
			if notice.Kind == eventstore.CaughtUp {
				caughtUp++
			}
			if notice.Kind == eventstore.NewEvent {
				if notice.Event.ID != happened(n).ID {
					t.Fatalf("got event %x, want %x", notice.Event.ID, happened(n).ID)
				}
				break
			}
		}
	}
	if caughtUp > 1 {
		t.Errorf("got %d notices that it caught up, want 1 at most", caughtUp)
	}
}

// After an outage another database answers under the same name: nothing is
// written into it, and nothing read from it.
func TestAnotherLedgerUnderTheSameName(t *testing.T) {
	t.Parallel()
	r := newRig(t, esdb.Options{CallTimeout: time.Second})
	if _, err := r.Append(t.Context(), "s", eventstore.NoStream(), happened(1)); err != nil {
		t.Fatal(err)
	}
	other := storetest.NewMemory("0000000000000000")
	elsewhere, _ := serve(t, other, "")
	if err := esdb.Create(t.Context(), options(elsewhere), ledgerID); err != nil {
		t.Fatal(err) // with the same id even: a copy is another store
	}
	r.proxy.lead(elsewhere)
	r.proxy.cut()
	if _, err := r.Append(t.Context(), "new", eventstore.NoStream(), happened(2)); err == nil || eventstore.Definite(err) {
		t.Errorf("append: got error %v, want one that is not definite", err)
	}
	if _, err := other.Head(t.Context(), "new"); !errors.Is(err, eventstore.ErrStreamNotFound) {
		t.Errorf("in the other ledger: got %v, want no stream", err)
	}
	if e, err := r.Head(t.Context(), "s"); err == nil {
		t.Errorf("head: got %v, want an error", e)
	}
	if err := r.Health(t.Context()); err == nil {
		t.Error("health: got no error")
	}
}

// A database that was put back to an earlier state ends a subscription: what
// it tells next does not come after what was told.
func TestSubscriptionToADatabaseThatWasPutBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, esdb.Options{})
	// A copy of the database as it is now, to which other things happen.
	copied := storetest.NewMemory("0000000000000000")
	for e, err := range r.behind.ReadAll(t.Context(), eventstore.Cursor{}, eventstore.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if _, err := copied.Append(t.Context(), e.Stream, eventstore.NoStream(), eventstore.Proposed{ID: e.ID, Type: e.Type, Data: e.Data, Metadata: e.Metadata}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := copied.Append(t.Context(), "s", eventstore.NoStream(), happened(7)); err != nil {
		t.Fatal(err)
	}
	elsewhere, _ := serve(t, copied, "")
	if _, err := r.Append(t.Context(), "s", eventstore.NoStream(), happened(1)); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for n, err := range r.Subscribe(t.Context(), eventstore.Cursor{}, eventstore.Filter{}) {
		if err != nil {
			var corrupt *eventstore.CorruptError
			if !errors.As(err, &corrupt) {
				t.Errorf("got error %v, want that the database is an older copy", err)
			}
			break
		}
		if n.Kind == eventstore.NewEvent {
			seen++
			r.proxy.lead(elsewhere)
			r.proxy.cut()
		}
	}
	if seen != 1 {
		t.Errorf("got %d events, want the one before it was put back", seen)
	}
}

func TestClosedStore(t *testing.T) {
	t.Parallel()
	r := newRig(t, esdb.Options{})
	ended := make(chan error, 1)
	go func() { ended <- last(r.Subscribe(t.Context(), eventstore.Cursor{}, eventstore.Filter{})) }()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, eventstore.ErrClosed) {
		t.Errorf("subscription: got %v, want ErrClosed", err)
	}
	if _, err := r.Append(t.Context(), "s", eventstore.NoStream(), happened(1)); !errors.Is(err, eventstore.ErrClosed) {
		t.Errorf("append: got %v, want ErrClosed", err)
	}
	if _, err := r.Head(t.Context(), "s"); !errors.Is(err, eventstore.ErrClosed) {
		t.Errorf("head: got %v, want ErrClosed", err)
	}
	r.Close()
}
