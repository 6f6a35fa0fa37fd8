package storetest_test

import (
	"context"
	"errors"
	"iter"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
)

// A mutant breaks one sentence of the contract.
type mutant struct {
	*storetest.Memory
	name string
}

func (m *mutant) Append(ctx context.Context, stream eventstore.StreamID, expected eventstore.Expected, events ...eventstore.Proposed) (eventstore.Appended, error) {
	switch m.name {
	case "any revision":
		if head, err := m.Head(ctx, stream); err == nil && expected.Valid() {
			expected = eventstore.At(head.Revision)
		}
	case "only the first event":
		if len(events) > 1 && len(events) <= eventstore.MaxAppendEvents {
			events = events[:1]
		}
	case "reports success for a lost race":
		done, err := m.Memory.Append(ctx, stream, expected, events...)
		var wrong *eventstore.WrongRevisionError
		if errors.As(err, &wrong) {
			return eventstore.Appended{Revision: expected.Next()}, nil
		}
		return done, err
	case "forgets what it wrote":
		if head, err := m.Head(ctx, stream); err == nil && eventstore.At(head.Revision) != expected && expected.Valid() {
			return eventstore.Appended{}, &eventstore.WrongRevisionError{Stream: stream, Expected: expected, Actual: eventstore.At(head.Revision)}
		}
	case "writes though cancelled, and says it did not":
		if ctx.Err() != nil {
			return eventstore.Appended{}, &eventstore.InvalidError{Stream: stream, Why: "cancelled"}
		}
	}
	return m.Memory.Append(ctx, stream, expected, events...)
}

func (m *mutant) ReadStream(ctx context.Context, stream eventstore.StreamID, from eventstore.Revision) iter.Seq2[eventstore.Recorded, error] {
	switch m.name {
	case "an empty stream is not missing":
		return func(yield func(eventstore.Recorded, error) bool) {
			for e, err := range m.Memory.ReadStream(ctx, stream, from) {
				if errors.Is(err, eventstore.ErrStreamNotFound) || !yield(e, err) {
					return
				}
			}
		}
	case "reads from the revision after":
		return m.Memory.ReadStream(ctx, stream, from+1)
	}
	return m.Memory.ReadStream(ctx, stream, from)
}

func (m *mutant) ReadAll(ctx context.Context, after eventstore.Cursor, filter eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	switch m.name {
	case "ignores the filter":
		filter = eventstore.Filter{}
	case "includes the cursor's event":
		if p, ok := after.Position(); ok {
			after = eventstore.After(p - 1)
		}
	}
	return m.Memory.ReadAll(ctx, after, filter)
}

func (m *mutant) Subscribe(ctx context.Context, after eventstore.Cursor, filter eventstore.Filter) iter.Seq2[eventstore.Notice, error] {
	inner := m.Memory.Subscribe(ctx, after, filter)
	return func(yield func(eventstore.Notice, error) bool) {
		n := 0
		for notice, err := range inner {
			n++
			switch {
			case m.name == "drops an event" && n == 40,
				m.name == "never checkpoints" && notice.Kind == eventstore.Checkpoint,
				m.name == "ends in silence" && err != nil:
				continue
			case m.name == "repeats an event" && n == 40, m.name == "is caught up twice" && notice.Kind == eventstore.CaughtUp:
				if !yield(notice, err) {
					return
				}
			}
			if !yield(notice, err) {
				return
			}
		}
	}
}

// A suite that passes every store proves nothing. Each mutant runs in a
// process of its own, because it has to fail.
func TestSuiteFindsWhatBreaksTheContract(t *testing.T) {
	if name := os.Getenv("STORETEST_MUTANT"); name != "" {
		storetest.Suite{Rounds: 20, Open: func(*testing.T) eventstore.Store {
			return &mutant{Memory: storetest.NewMemory(ledgerID), name: name}
		}}.Run(t)
		return
	}
	for name, finds := range map[string]bool{
		"none": false, "any revision": true, "only the first event": true, "reports success for a lost race": true,
		"forgets what it wrote": true, "writes though cancelled, and says it did not": true,
		"an empty stream is not missing": true, "reads from the revision after": true, "ignores the filter": true,
		"includes the cursor's event": true, "drops an event": true, "repeats an event": true, "is caught up twice": true,
		"never checkpoints": true, "ends in silence": true,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			run := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestSuiteFindsWhatBreaksTheContract$", "-test.timeout=8s")
			run.Env = append(os.Environ(), "STORETEST_MUTANT="+name)
			out, err := run.CombinedOutput()
			if failed := err != nil; failed != finds {
				t.Errorf("got failed %t, want %t:\n%.2000s", failed, finds, out)
			}
			if finds && !strings.Contains(string(out), "--- FAIL") && !strings.Contains(string(out), "panic: test timed out") {
				t.Errorf("failed for another reason:\n%.2000s", out)
			}
		})
	}
}

const patience = time.Minute
