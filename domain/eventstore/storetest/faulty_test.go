package storetest_test

import (
	"errors"
	"testing"
	"testing/synctest"

	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
)

func one(id byte) eventstore.Proposed {
	return eventstore.Proposed{ID: eventstore.EventID{id}, Type: "Happened", Data: []byte{id}}
}

// length is the number of events in stream s.
func length(t *testing.T, s eventstore.Store) int {
	t.Helper()
	n := 0
	for _, err := range s.ReadStream(t.Context(), "s", 0) {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			return 0
		}
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

func TestFaults(t *testing.T) {
	for name, c := range map[string]struct {
		fault               storetest.Fault
		after, afterDeliver int // events on record
	}{
		"lost":            {storetest.Lost, 0, 0},
		"done but failed": {storetest.DoneButFailed, 1, 1},
		"late":            {storetest.Late, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			m := storetest.NewMemory(ledgerID)
			f := storetest.NewFaulty(m)
			f.OnAppend = storetest.FailNth(1, c.fault)
			_, err := f.Append(t.Context(), "s", eventstore.NoStream(), one(1))
			if !errors.Is(err, storetest.ErrInjected) || eventstore.Definite(err) {
				t.Fatalf("got error %v, want an ambiguous ErrInjected", err)
			}
			if got := length(t, m); got != c.after {
				t.Errorf("after the fault: got %d events, want %d", got, c.after)
			}
			for _, err := range f.Deliver(t.Context()) {
				if err != nil {
					t.Errorf("deliver: got error %v", err)
				}
			}
			if got := length(t, m); got != c.afterDeliver {
				t.Errorf("after delivery: got %d events, want %d", got, c.afterDeliver)
			}
			done, err := f.Append(t.Context(), "s", eventstore.NoStream(), one(1)) // the caller settles it
			if err != nil || done.Revision != 0 || length(t, m) != 1 {
				t.Errorf("repeated: got %+v, %v and %d events, want revision 0 and one event", done, err, length(t, m))
			}
		})
	}
}

func TestLateAppendThatIsOvertakenIsRefused(t *testing.T) {
	m := storetest.NewMemory(ledgerID)
	f := storetest.NewFaulty(m)
	f.OnAppend = storetest.FailNth(1, storetest.Late)
	_, _ = f.Append(t.Context(), "s", eventstore.NoStream(), one(1)) // late
	if _, err := f.Append(t.Context(), "s", eventstore.NoStream(), one(2)); err != nil {
		t.Fatal(err)
	}
	answers := f.Deliver(t.Context())
	var wrong *eventstore.WrongRevisionError
	if len(answers) != 1 || !errors.As(answers[0], &wrong) {
		t.Errorf("got answers %v, want one *WrongRevisionError", answers)
	}
}

func TestHooksSeeEachAppendBeforeAndAfter(t *testing.T) {
	m := storetest.NewMemory(ledgerID)
	f := storetest.NewFaulty(m)
	var before, after []int
	f.Before = func(c storetest.AppendCall) {
		before = append(before, c.N, length(t, m))
		if c.N == 2 { // another process gets in between
			if _, err := m.Append(t.Context(), "s", eventstore.At(0), one(9)); err != nil {
				t.Error(err)
			}
		}
	}
	f.After = func(c storetest.AppendCall, _ eventstore.Appended, err error) {
		after = append(after, c.N, length(t, m))
		if (err == nil) != (c.N == 1) {
			t.Errorf("append %d: got error %v", c.N, err)
		}
	}
	_, _ = f.Append(t.Context(), "s", eventstore.NoStream(), one(1))
	_, _ = f.Append(t.Context(), "s", eventstore.At(0), one(2))
	if want := []int{1, 0, 2, 1}; !equal(before, want) {
		t.Errorf("before: got %v, want %v", before, want)
	}
	if want := []int{1, 1, 2, 2}; !equal(after, want) {
		t.Errorf("after: got %v, want %v", after, want)
	}
}

func equal(a, b []int) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func TestReadFaultComesAfterSoManyElements(t *testing.T) {
	m := storetest.NewMemory(ledgerID)
	if _, err := m.Append(t.Context(), "s", eventstore.NoStream(), one(1), one(2), one(3)); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("connection reset")
	for elements := range 5 {
		f := storetest.NewFaulty(m)
		f.OnRead = func(storetest.ReadCall) (int, error) { return elements, broken }
		n, last := 0, error(nil)
		for _, err := range f.ReadStream(t.Context(), "s", 0) {
			if last = err; err == nil {
				n++
			}
		}
		if n != min(elements, 3) || !errors.Is(last, broken) || !errors.Is(last, storetest.ErrInjected) {
			t.Errorf("after %d: got %d elements and %v", elements, n, last)
		}
		if _, err := f.Head(t.Context(), "s"); !errors.Is(err, broken) {
			t.Errorf("head: got error %v, want the fault", err)
		}
	}
}

func TestCutEndsWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := storetest.NewMemory(ledgerID)
		f := storetest.NewFaulty(m)
		ended := make(chan error)
		go func() {
			var last error
			for _, err := range f.Subscribe(t.Context(), eventstore.Cursor{}, eventstore.Filter{}) {
				last = err
			}
			ended <- last
		}()
		synctest.Wait() // it has caught up and waits
		f.Cut()
		if err := <-ended; !errors.Is(err, storetest.ErrInjected) {
			t.Errorf("subscription: got error %v, want ErrInjected", err)
		}
		_, err := f.Append(t.Context(), "s", eventstore.NoStream(), one(1))
		if !errors.Is(err, storetest.ErrInjected) || length(t, m) != 0 {
			t.Errorf("append: got error %v and %d events, want ErrInjected and none", err, length(t, m))
		}
		if _, err := f.Head(t.Context(), "s"); !errors.Is(err, storetest.ErrInjected) {
			t.Errorf("head: got error %v, want ErrInjected", err)
		}
	})
}
