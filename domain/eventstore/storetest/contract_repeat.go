package storetest

import (
	"fmt"
	"sync"
	"testing"

	"writ/domain/eventstore"
)

func (s Suite) repeating(t *testing.T) {
	t.Run("an append answers as the first time", s.repeatAnswers)
	t.Run("an append at the same time answers all alike", s.repeatAtOnce)
	t.Run("ids at another expectation is refused", s.repeatElsewhere)
	t.Run("some of the events with others is refused", s.repeatParts)
	t.Run("an id with other bytes writes nothing", s.repeatOtherBytes)
}

func (s Suite) repeatAnswers(t *testing.T) {
	f := s.open(t)
	stream := f.stream("again")
	type call struct {
		expected eventstore.Expected
		events   []eventstore.Proposed
		answer   eventstore.Appended
	}
	var calls []call
	var all []eventstore.Proposed
	expected := eventstore.NoStream()
	for _, n := range []int{1, 3, 1, 2, 10} {
		c := call{expected: expected, events: several(n)}
		c.answer = f.add(t, stream, c.expected, c.events...)
		expected = eventstore.At(c.answer.Revision)
		calls = append(calls, c)
		all = append(all, c.events...)
		// Each of the earlier ones too, with further events behind them.
		for i, c := range calls {
			for range 2 {
				if got := f.add(t, stream, c.expected, c.events...); got != c.answer {
					t.Fatalf("append %d repeated: got %+v, want %+v as the first time", i, got, c.answer)
				}
			}
		}
		f.holds(t, stream, all...)
	}
}

func (s Suite) repeatAtOnce(t *testing.T) {
	f := s.open(t)
	const callers = 8
	for round := range s.Rounds / 4 {
		stream := f.stream(fmt.Sprintf("at-once-%d", round))
		events := several(1 + round%3)
		var answers [callers]eventstore.Appended
		var errs [callers]error
		together(callers, func(i int) {
			answers[i], errs[i] = f.settle(stream, eventstore.NoStream(), events...)
		})
		for i := range callers {
			if errs[i] != nil || answers[i] != answers[0] {
				t.Fatalf("round %d: caller %d got %+v, %v, want %+v as the others", round, i, answers[i], errs[i], answers[0])
			}
		}
		f.holds(t, stream, events...)
	}
}

// together runs n functions at once, and waits for them.
func together(n int, f func(i int)) {
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	wg.Wait()
}

func (s Suite) repeatElsewhere(t *testing.T) {
	f := s.open(t)
	stream := f.stream("elsewhere")
	events := several(6)
	f.add(t, stream, eventstore.NoStream(), events[:2]...)
	f.add(t, stream, eventstore.At(1), events[2:4]...)
	f.add(t, stream, eventstore.At(3), events[4:]...)
	// At 5, where the stream stands, an append is no repetition: whoever
	// reuses ids there asks for a second copy.
	for _, expected := range []eventstore.Expected{
		eventstore.NoStream(), eventstore.At(0), eventstore.At(2), eventstore.At(3), eventstore.At(4), eventstore.At(6), eventstore.At(100),
	} {
		_, err := f.settle(stream, expected, events[2:4]...)
		refused(t, err, stream, expected, eventstore.At(5))
	}
	other := f.stream("elsewhere-too")
	_, err := f.settle(other, eventstore.At(1), events[2:4]...)
	refused(t, err, other, eventstore.At(1), eventstore.NoStream())
	f.holds(t, stream, events...)
	f.holds(t, other)
}

func (s Suite) repeatParts(t *testing.T) {
	f := s.open(t)
	stream := f.stream("parts")
	on := several(4)
	f.add(t, stream, eventstore.NoStream(), on...)
	for name, events := range map[string][]eventstore.Proposed{
		"and one more":        append(several(0), on[0], on[1], on[2], on[3], event()),
		"another in between":  {on[0], event(), on[2], on[3]},
		"another at the end":  {on[0], on[1], on[2], event()},
		"another at first":    {event(), on[1], on[2], on[3]},
		"in another order":    {on[1], on[0], on[2], on[3]},
		"without the first":   {on[1], on[2], on[3]},
		"with one left out":   {on[0], on[2], on[3]},
		"none of them at all": {event()},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := f.settle(stream, eventstore.NoStream(), events...)
			refused(t, err, stream, eventstore.NoStream(), eventstore.At(3))
			f.holds(t, stream, on...)
		})
	}
}

func (s Suite) repeatOtherBytes(t *testing.T) {
	f := s.open(t)
	stream := f.stream("bytes")
	e := event()
	first := f.add(t, stream, eventstore.NoStream(), e)
	f.grow(t, 1, stream)
	before := f.read(t, stream, 0)
	for name, change := range map[string]func(e *eventstore.Proposed){
		"type":     func(e *eventstore.Proposed) { e.Type += "!" },
		"data":     func(e *eventstore.Proposed) { e.Data = []byte("{}") },
		"no data":  func(e *eventstore.Proposed) { e.Data = nil },
		"metadata": func(e *eventstore.Proposed) { e.Metadata = []byte("{}") },
		"moved": func(e *eventstore.Proposed) {
			e.Data, e.Metadata = nil, append(e.Data[:len(e.Data):len(e.Data)], e.Metadata...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			changed := e
			change(&changed)
			got, err := f.settle(stream, eventstore.NoStream(), changed)
			if !s.IDsOnly || err != nil {
				refused(t, err, stream, eventstore.NoStream(), eventstore.At(1))
			} else if got != first {
				t.Errorf("got %+v, want %+v as the first time", got, first)
			}
			same(t, "afterwards", f.read(t, stream, 0), before)
		})
	}
}
