package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"writ/domain/eventstore"
)

func (s Suite) racing(t *testing.T) {
	t.Run("of two appends for one revision exactly one is appended", s.raceForOne)
	t.Run("appenders of one stream lose nothing and write nothing twice", s.raceInLine)
	t.Run("appenders of different streams don't disturb each other", s.raceApart)
	t.Run("positions are never visible out of order", s.positionsInOrder)
}

func (s Suite) raceForOne(t *testing.T) {
	f := s.open(t)
	stream := f.stream("one")
	var winners []eventstore.Proposed
	expected := eventstore.NoStream()
	for round := range s.Rounds {
		callers := 2 + round%3
		events := make([][]eventstore.Proposed, callers)
		for i := range events {
			events[i] = several(1 + (round+i)%2)
		}
		answers, errs := make([]eventstore.Appended, callers), make([]error, callers)
		together(callers, func(i int) {
			answers[i], errs[i] = f.settle(stream, expected, events[i]...)
		})
		winner := -1
		for i := range callers {
			if errs[i] == nil && winner >= 0 {
				t.Fatalf("round %d: callers %d and %d were both appended at %s", round, winner, i, expected)
			}
			if errs[i] == nil {
				winner = i
			}
		}
		if winner < 0 {
			t.Fatalf("round %d: nobody was appended at %s: %v", round, expected, errs)
		}
		is := eventstore.At(answers[winner].Revision)
		if want := expected.Next() + eventstore.Revision(len(events[winner])) - 1; answers[winner].Revision != want {
			t.Fatalf("round %d: the winner got revision %d, want %d", round, answers[winner].Revision, want)
		}
		for i, err := range errs {
			if i == winner {
				continue
			}
			refused(t, err, stream, expected, is)
			_, err = f.settle(stream, expected, events[i]...) // nor later
			refused(t, err, stream, expected, is)
		}
		winners = append(winners, events[winner]...)
		expected = is
	}
	f.holds(t, stream, winners...)
}

func (s Suite) raceInLine(t *testing.T) {
	f := s.open(t)
	stream := f.stream("line")
	const callers = 4
	each := max(s.Rounds/8, 1)
	var mu sync.Mutex
	acknowledged := make(map[eventstore.Revision]eventstore.EventID)
	errs := make([]error, callers)
	together(callers, func(i int) {
		expected := eventstore.NoStream()
		for range each {
			e := event()
			for {
				done, err := f.settle(stream, expected, e)
				if err == nil {
					mu.Lock()
					acknowledged[done.Revision] = e.ID
					mu.Unlock()
					expected = eventstore.At(done.Revision)
					break
				}
				var wrong *eventstore.WrongRevisionError
				if !errors.As(err, &wrong) {
					errs[i] = err
					return
				}
				head, err := f.Head(f.ctx, stream)
				if err != nil {
					errs[i] = err
					return
				}
				expected = eventstore.At(head.Revision)
			}
		}
	})
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	got := f.read(t, stream, 0)
	if len(got) != callers*each || len(acknowledged) != callers*each {
		t.Fatalf("got %d events on record and %d acknowledged revisions, want %d of both", len(got), len(acknowledged), callers*each)
	}
	for i, e := range got {
		if e.Revision != eventstore.Revision(i) || acknowledged[e.Revision] != e.ID {
			t.Fatalf("event %d: got %s, want revision %d and id %x", i, show(e), i, acknowledged[eventstore.Revision(i)])
		}
	}
}

func (s Suite) raceApart(t *testing.T) {
	f := s.open(t)
	const callers = 16
	each := max(s.Rounds/20, 2)
	errs := make([]error, callers)
	want := make([][]eventstore.Proposed, callers)
	together(callers, func(i int) {
		expected := eventstore.NoStream()
		for n := range each {
			events := several(1 + n%2)
			done, err := f.settle(f.stream(fmt.Sprint("apart-", i)), expected, events...)
			if err != nil {
				errs[i] = err
				return
			}
			want[i] = append(want[i], events...)
			expected = eventstore.At(done.Revision)
		}
	})
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	for i := range callers {
		f.holds(t, f.stream(fmt.Sprint("apart-", i)), want[i]...)
	}
}

// A reader that only ever goes on from the last position it saw must miss
// nothing, however many append at the same time.
func (s Suite) positionsInOrder(t *testing.T) {
	f := s.open(t)
	const callers = 8
	each := max(s.Rounds/5, 2)
	errs := make([]error, callers)
	var writers sync.WaitGroup
	for i := range callers {
		writers.Go(func() {
			expected := eventstore.NoStream()
			for range each {
				done, err := f.settle(f.stream(fmt.Sprint("order-", i)), expected, several(2)...)
				if err != nil {
					errs[i] = err
					return
				}
				expected = eventstore.At(done.Revision)
			}
		})
	}
	over := make(chan struct{})
	go func() {
		writers.Wait()
		close(over)
	}()
	var seen []eventstore.Recorded
	var at eventstore.Cursor
	for last := false; ; {
		for _, e := range f.readAll(t, at, f.mine()) {
			if p, ok := at.Position(); ok && e.Position <= p {
				t.Fatalf("got position %d after %d", e.Position, p)
			}
			at = eventstore.After(e.Position)
			seen = append(seen, e)
		}
		if last {
			break
		}
		select {
		case <-over:
			last = true // one more time: all is on record now
		default:
		}
	}
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if len(seen) != callers*each*2 {
		t.Errorf("read on from position to position: got %d events, want %d", len(seen), callers*each*2)
	}
	same(t, "read on, against read at once", seen, f.readAll(t, eventstore.Cursor{}, f.mine()))
}
