package pebblestore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"writ/adapters/pebblestore"
	"writ/domain/eventstore"
)

// heldSyncs stops each fsync of the log until the test decides on it.
type heldSyncs struct {
	held    atomic.Bool
	begun   chan struct{}
	verdict chan error // closed: all succeed
}

func (h *heldSyncs) String() string { return "held fsyncs of the log" }

func (h *heldSyncs) MaybeError(op errorfs.Op) error {
	switch op.Kind {
	case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
	default:
		return nil
	}
	if !h.held.Load() || !strings.HasSuffix(op.Path, ".log") {
		return nil
	}
	h.begun <- struct{}{}
	return <-h.verdict
}

// A backlog is a store with one append whose fsync is under way, and groups
// that were written behind it.
type backlog struct {
	*pebblestore.Store
	disk    *vfs.MemFS
	syncs   *heldSyncs
	written chan struct{} // one for each group that begins to be written
	calls   []*call
	first   *call // its fsync is under way
	other   *call // of another stream
	next    *call // at the end of the first's stream
	lost    *call // at the place that next has taken
	repeat  *call // of the first
}

// A call is an append that has not come back yet.
type call struct {
	name     string
	stream   eventstore.StreamID
	expected eventstore.Expected
	events   []eventstore.Proposed
	answer   eventstore.Appended
	err      error
	over     chan struct{}
}

func (c *call) acknowledged() acknowledged { return acknowledged{c.stream, c.answer, c.events} }

func (b *backlog) append(t *testing.T, name string, stream eventstore.StreamID, expected eventstore.Expected, events []eventstore.Proposed) *call {
	t.Helper()
	c := &call{name: name, stream: stream, expected: expected, events: events, over: make(chan struct{})}
	b.calls = append(b.calls, c)
	go func() {
		defer close(c.over)
		c.answer, c.err = b.Append(context.Background(), stream, expected, events...)
	}()
	<-b.written
	return c
}

func newBacklog(t *testing.T) *backlog {
	t.Helper()
	b := &backlog{
		disk:    vfs.NewCrashableMem(),
		syncs:   &heldSyncs{begun: make(chan struct{}, 100), verdict: make(chan error)},
		written: make(chan struct{}, 100),
	}
	o := small(errorfs.Wrap(b.disk, b.syncs))
	o.Clock = func() time.Time {
		b.written <- struct{}{} // before the group is decided, so the one before it is with pebble
		return time.Unix(1_700_000_000, 0)
	}
	if err := pebblestore.Create("ledger", ledgerID, o); err != nil {
		t.Fatal(err)
	}
	var err error
	if b.Store, err = pebblestore.Open("ledger", o); err != nil {
		t.Fatal(err)
	}
	<-b.written // the owner's file has the time too
	b.syncs.held.Store(true)

	none := eventstore.NoStream()
	b.first = b.append(t, "first", "op-a", none, proposal("op-a", 0, 2, 300))
	<-b.syncs.begun
	b.other = b.append(t, "other", "op-b", none, proposal("op-b", 1, 1, 300))
	b.next = b.append(t, "next", "op-a", eventstore.At(1), proposal("op-a", 2, 3, 300))
	b.lost = b.append(t, "lost", "op-a", eventstore.At(1), proposal("op-a", 3, 1, 300))
	b.repeat = b.append(t, "repeat", "op-a", none, b.first.events)
	// The last one is decided when yet another group is begun.
	b.append(t, "last", "op-c", none, proposal("op-c", 4, 1, 300))
	return b
}

// waiting checks that none of the calls has come back.
func (b *backlog) waiting(t *testing.T, when string, calls ...*call) {
	t.Helper()
	for _, c := range calls {
		select {
		case <-c.over:
			t.Errorf("%s: append %q was answered %v, %v, want no answer", when, c.name, c.answer, c.err)
		default:
		}
	}
}

// shows checks how many events of the two streams are shown by each way of
// reading.
func (b *backlog) shows(t *testing.T, when string, a, other int) {
	t.Helper()
	for stream, want := range map[eventstore.StreamID]int{"op-a": a, "op-b": other} {
		n := 0
		for _, err := range b.ReadStream(t.Context(), stream, 0) {
			if err == nil {
				n++
			} else if !errors.Is(err, eventstore.ErrStreamNotFound) {
				t.Errorf("%s: %v", when, err)
			}
		}
		if n != want {
			t.Errorf("%s: %s shows %d events, want %d", when, stream, n, want)
		}
		for range 2 { // the second time it is remembered
			head, err := b.Head(t.Context(), stream)
			if want == 0 && !errors.Is(err, eventstore.ErrStreamNotFound) || want > 0 && (err != nil || int(head.Revision) != want-1) {
				t.Errorf("%s: the head of %s is %d, %v, want %d events", when, stream, head.Revision, err, want)
			}
		}
	}
	n := 0
	for e, err := range b.ReadAll(t.Context(), eventstore.Cursor{}, eventstore.Filter{}) {
		if n++; err != nil || int(e.Position) != n {
			t.Errorf("%s: event %d of the ledger is at position %d, %v", when, n, e.Position, err)
		}
	}
	if a+other == 0 && n != 0 || n < a+other {
		t.Errorf("%s: the ledger shows %d events, want at least %d", when, n, a+other)
	}
}

// Groups that are written while the fsync of one before them is under way are
// answered and shown in order, each when its own fsync has returned; a refusal
// when that on which it rests is durable.
func TestPipelineAnswersInOrder(t *testing.T) {
	b := newBacklog(t)
	b.waiting(t, "before the first fsync", b.calls...)
	b.shows(t, "before the first fsync", 0, 0)

	b.syncs.verdict <- nil
	<-b.syncs.begun // the second, for all others
	<-b.first.over
	b.waiting(t, "before the second fsync", b.calls[1:]...)
	b.shows(t, "before the second fsync", 2, 0)
	if want := (eventstore.Appended{Revision: 1, Position: 2}); b.first.err != nil || b.first.answer != want {
		t.Errorf("first: got %v, %v, want %v", b.first.answer, b.first.err, want)
	}

	close(b.syncs.verdict)
	for _, c := range b.calls {
		<-c.over
	}
	b.shows(t, "afterwards", 5, 1)
	if want := (eventstore.Appended{Revision: 0, Position: 3}); b.other.err != nil || b.other.answer != want {
		t.Errorf("other: got %v, %v, want %v", b.other.answer, b.other.err, want)
	}
	if want := (eventstore.Appended{Revision: 4, Position: 6}); b.next.err != nil || b.next.answer != want {
		t.Errorf("next: got %v, %v, want %v", b.next.answer, b.next.err, want)
	}
	var wrong *eventstore.WrongRevisionError
	if !errors.As(b.lost.err, &wrong) || wrong.Actual != eventstore.At(4) {
		t.Errorf("lost: got %v, %v, want that the stream is at 4", b.lost.answer, b.lost.err)
	}
	if b.repeat.err != nil || b.repeat.answer != b.first.answer {
		t.Errorf("repeat: got %v, %v, want the first one's %v", b.repeat.answer, b.repeat.err, b.first.answer)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// When an fsync fails, nobody learns anything of what was written behind it:
// what a refusal or a repetition rests on may be gone after the next opening.
func TestPipelineStopsAtTheFirstFailedSync(t *testing.T) {
	for failing := range 2 {
		t.Run(fmt.Sprintf("fsync %d fails", failing+1), func(t *testing.T) {
			b := newBacklog(t)
			var acks []acknowledged
			unknown, shown := b.calls, 0
			if failing == 1 {
				b.syncs.verdict <- nil
				<-b.syncs.begun
				<-b.first.over
				acks = append(acks, b.first.acknowledged())
				unknown, shown = b.calls[1:], 2
			}
			b.syncs.verdict <- errorfs.ErrInjected
			for _, c := range unknown {
				<-c.over
				if c.err == nil || eventstore.Definite(c.err) || !errors.Is(c.err, b.Why()) {
					t.Errorf("%s: got %v, %v, want an error that leaves the outcome open and says why", c.name, c.answer, c.err)
				}
			}
			b.shows(t, "after the failure", shown, 0)
			if err := b.Close(); err == nil {
				t.Error("closing says that all is well")
			}
			b.survives(t, acks)
		})
	}
}

// Power is lost with one group in its fsync and others written behind it.
func TestCrashWithGroupsInThePipeline(t *testing.T) {
	for settled := range 2 {
		t.Run(fmt.Sprintf("%d settled", settled), func(t *testing.T) {
			b := newBacklog(t)
			var acks []acknowledged
			if settled == 1 {
				b.syncs.verdict <- nil
				<-b.syncs.begun
				<-b.first.over
				acks = append(acks, b.first.acknowledged())
			}
			b.survives(t, acks)
			close(b.syncs.verdict)
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// survives opens what a loss of power may leave of the disk: what was
// acknowledged is there, and of the rest whole appends up to some point.
func (b *backlog) survives(t *testing.T, acks []acknowledged) {
	t.Helper()
	rng := rand.New(rand.NewPCG(3, uint64(len(acks))))
	ends := make(map[string]bool)
	for i := range 60 {
		left := b.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: i * 100 / 59, RNG: rng})
		again, err := pebblestore.Open("ledger", small(left))
		if err != nil {
			t.Fatal(err)
		}
		if err := survived(again, acks); err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, err := range again.ReadAll(t.Context(), eventstore.Cursor{}, eventstore.Filter{}) {
			if err == nil {
				n++
			}
		}
		ends[fmt.Sprint(n)] = true
		// Whatever is left, asking again settles it.
		for _, c := range []*call{b.first, b.other, b.next} {
			if _, err := again.Append(t.Context(), c.stream, c.expected, c.events...); err != nil {
				t.Errorf("%s, again: %v", c.name, err)
			}
		}
		var wrong *eventstore.WrongRevisionError
		if _, err := again.Append(t.Context(), b.lost.stream, b.lost.expected, b.lost.events...); !errors.As(err, &wrong) {
			t.Errorf("lost, again: got %v, want it refused", err)
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if !ends[fmt.Sprint(2*len(acks))] {
		t.Errorf("the ledgers left have %v events, none has only those acknowledged", ends)
	}
}

// Every change of the disk fails once, while several append at a time.
func TestEveryWriteAndSyncFailsInACrowd(t *testing.T) {
	step := int64(5)
	switch {
	case os.Getenv("WRIT_LONG") != "": // every change, for minutes
		step = 1
	case testing.Short():
		step = 17
	}
	for n := int64(1); ; n += step {
		disk := vfs.NewCrashableMem()
		inject := &nth{n: n}
		o := small(errorfs.Wrap(disk, inject))
		if err := pebblestore.Create("ledger", ledgerID, o); err != nil {
			t.Fatal(err)
		}
		s, err := pebblestore.Open("ledger", o)
		if err != nil {
			t.Fatal(err)
		}
		inject.enabled.Store(true)
		acks, failed := crowd(t, s)
		inject.enabled.Store(false)
		if err := s.Close(); err == nil && failed {
			t.Errorf("change %d: an append failed, and closing says that all is well", n)
		}
		rng := rand.New(rand.NewPCG(uint64(n), 4))
		for _, unsynced := range []int{0, 50, 100} {
			again, err := pebblestore.Open("ledger", small(disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: unsynced, RNG: rng})))
			if err != nil {
				t.Fatalf("change %d: %v", n, err)
			}
			if err := survived(again, acks); err != nil {
				t.Fatalf("change %d, %d%% kept, %d appends acknowledged: %v", n, unsynced, len(acks), err)
			}
			goesOn(t, again, "afterwards")
			if err := again.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if inject.count.Load() < n {
			if n < 20 {
				t.Errorf("got %d changes of the disk, want more to fail", inject.count.Load())
			}
			return
		}
	}
}

// crowd has eight append to streams of their own until something fails.
func crowd(t *testing.T, s *pebblestore.Store) (acks []acknowledged, failed bool) {
	t.Helper()
	var mu sync.Mutex // guards acks and failed
	var writers sync.WaitGroup
	for w := range 8 {
		writers.Go(func() {
			expected := eventstore.NoStream()
			stream := eventstore.StreamID(fmt.Sprintf("op-%d", w))
			for i := range 10 {
				events := proposal(stream, i, 1+i%3, 1000)
				answer, err := s.Append(t.Context(), stream, expected, events...)
				mu.Lock()
				failed = failed || err != nil
				if err == nil {
					acks = append(acks, acknowledged{stream, answer, events})
				}
				mu.Unlock()
				if err != nil {
					if eventstore.Definite(err) || !errors.Is(err, s.Why()) {
						t.Errorf("got %v for a disk that failed, want an error that leaves the outcome open and says why", err)
					}
					return
				}
				expected = eventstore.At(answer.Revision)
			}
		})
	}
	writers.Wait()
	return acks, failed
}
