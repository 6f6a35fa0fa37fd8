package esdb_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
)

var outage = flag.Duration("outage", 0,
	"how long the server stays away in TestOutageUnderLoad; 0: until every writer was answered once that it is")

// The server goes away while hundreds append, and comes back: nothing is lost,
// nothing is doubled, every caller is answered in time, and nobody has to do
// anything about it.
//
//	go test ./adapters/esdb -run OutageUnderLoad -outage 60s
//	go test ./adapters/esdb -run OutageUnderLoad -outage 1h -timeout 2h
func TestOutageUnderLoad(t *testing.T) {
	const (
		writers  = 300
		outages  = 2
		callTime = 5 * time.Second
		slack    = 10 * time.Second // of a machine that is busy with other things
	)
	store := storetest.NewFaulty(storetest.NewMemory("0000000000000000"))
	addr, stop := serve(t, store, "")
	warned := &counter{}
	o := options(addr)
	o.CallTimeout, o.Logger = callTime, slog.New(warned)
	s := create(t, o)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var (
		running, following sync.WaitGroup

		finish   atomic.Bool
		refused  [writers]chan struct{} // told of each answer that is not a success
		acked    [writers]chan struct{} // told of each success
		written  [writers][]eventstore.EventID
		slowest  atomic.Int64
		failures atomic.Int64
	)
	stream := func(w int) eventstore.StreamID { return eventstore.StreamID(fmt.Sprint("op-", w)) }
	tell := func(c chan struct{}) {
		select {
		case c <- struct{}{}:
		default:
		}
	}
	for w := range writers {
		refused[w], acked[w] = make(chan struct{}, 1), make(chan struct{}, 1)
	}
	for w := range writers {
		running.Go(func() {
			expected := eventstore.NoStream()
			for n := 0; !finish.Load() && ctx.Err() == nil; n++ {
				e := happened(w<<16 + n)
				for {
					began := time.Now()
					done, err := s.Append(ctx, stream(w), expected, e)
					for took := int64(time.Since(began)); took > slowest.Load(); {
						slowest.Store(took)
					}
					if err == nil {
						expected = eventstore.At(done.Revision)
						break
					}
					if eventstore.Definite(err) {
						t.Errorf("writer %d, event %d: %v", w, n, err)
						return
					}
					failures.Add(1)
					tell(refused[w])
				}
				written[w] = append(written[w], e.ID)
				tell(acked[w])
			}
		})
	}
	seen := make(map[eventstore.EventID]eventstore.Position)
	next := make(map[eventstore.StreamID]eventstore.Revision)
	var total atomic.Int64
	told := make(chan struct{}, 1)
	following.Go(func() {
		for n, err := range s.Subscribe(ctx, eventstore.Cursor{}, eventstore.Filter{StreamPrefixes: []string{"op-"}}) {
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				t.Errorf("subscription: %v", err)
				return
			case n.Kind != eventstore.NewEvent:
				continue
			}
			if seen[n.Event.ID] != 0 || n.Event.Revision != next[n.Event.Stream] {
				t.Errorf("subscription: got revision %d of %s, want %d", n.Event.Revision, n.Event.Stream, next[n.Event.Stream])
			}
			seen[n.Event.ID] = n.Event.Position
			next[n.Event.Stream]++
			total.Add(1)
			tell(told)
		}
	})

	all := func(c [writers]chan struct{}) {
		for w := range writers {
			select { // what was told before
			case <-c[w]:
			default:
			}
		}
		for w := range writers {
			<-c[w]
		}
	}
	for range outages {
		all(acked) // the load is on
		stop()
		if *outage > 0 {
			away := time.NewTimer(*outage / outages)
			<-away.C
		}
		all(refused)
		if err := s.Health(ctx); err == nil {
			t.Error("healthy, with the server away")
		}
		_, stop = serve(t, store, addr)
	}
	all(acked)
	finish.Store(true)
	running.Wait()
	if err := s.Health(ctx); err != nil {
		t.Errorf("with the server back: %v", err)
	}
	sum := int64(0)
	for w := range writers {
		sum += int64(len(written[w]))
	}
	patience := time.After(time.Minute)
	for late := false; total.Load() < sum && !late; {
		select {
		case <-told:
		case <-patience:
			late = true
			t.Errorf("the subscription told of %d events, want %d", total.Load(), sum)
		}
	}
	cancel()
	following.Wait()

	count := 0
	for w := range writers {
		got := ids(t, store, stream(w))
		if !slices.Equal(got, written[w]) {
			t.Errorf("writer %d: %d events on record, %d acknowledged, want the same", w, len(got), len(written[w]))
		}
		for _, id := range got {
			if seen[id] == 0 {
				t.Errorf("event %x of writer %d was not told", id, w)
			}
		}
		count += len(got)
	}
	if len(seen) != count {
		t.Errorf("%d events told, %d on record", len(seen), count)
	}
	if took := time.Duration(slowest.Load()); took > callTime+slack {
		t.Errorf("the slowest answer took %v, want at most %v", took, callTime)
	}
	if n := warned.n.Load(); n > 100 {
		t.Errorf("%d lines were logged, want a few", n)
	}
	t.Logf("%d events; %d answers of unknown outcome; slowest answer %v; %d log lines",
		count, failures.Load(), time.Duration(slowest.Load()), warned.n.Load())
}

// A counter counts log lines.
type counter struct{ n atomic.Int64 }

func (c *counter) Enabled(context.Context, slog.Level) bool { return true }

func (c *counter) Handle(context.Context, slog.Record) error { c.n.Add(1); return nil }

func (c *counter) WithAttrs([]slog.Attr) slog.Handler { return c }

func (c *counter) WithGroup(string) slog.Handler { return c }
