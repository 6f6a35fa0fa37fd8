package op_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"writ/domain/op"
)

// The whole matrix, for people to read in a diff.
func TestTransitionMatrix(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Which event may follow in which state, and where it leads. A dot: it can't.\n\n")
	fmt.Fprintf(&b, "%-24s", "")
	for _, s := range op.States() {
		fmt.Fprintf(&b, "| %-20s", s)
	}
	b.WriteString("\n" + strings.Repeat("-", 24+22*len(op.States())) + "\n")
	for _, on := range op.Triggers() {
		fmt.Fprintf(&b, "%-24s", on)
		for _, s := range op.States() {
			to, err := op.Transition(s, on)
			if err != nil {
				fmt.Fprintf(&b, "| %-20s", ".")
				continue
			}
			fmt.Fprintf(&b, "| %-20s", to)
		}
		b.WriteString("\n")
	}
	var lines []string
	for line := range strings.Lines(b.String()) {
		lines = append(lines, strings.TrimRight(line, " \n")+"\n")
	}
	golden(t, "transitions.txt", []byte(strings.Join(lines, "")))
}

// The legal transitions once more, written down from the documentation and
// not from the code: a change has to be made in both places on purpose.
func TestTransitionsAreThoseDocumented(t *testing.T) {
	type step struct {
		from op.State
		on   op.Trigger
	}
	legal := map[step]op.State{
		{op.Absent, "OpStarted"}:                       op.StateStarted,
		{op.StateStarted, "OpLaunching"}:               op.StateLaunching,
		{op.StateStarted, "OpFailed, effect none"}:     op.StateFailedClean,
		{op.StateLaunching, "OpTaskRunning"}:           op.StateTaskRunning,
		{op.StateLaunching, "OpFailed"}:                op.StateFailed,
		{op.StateLaunching, "OpFailed, effect none"}:   op.StateFailedClean,
		{op.StateTaskRunning, "OpSucceeded"}:           op.StateSucceeded,
		{op.StateTaskRunning, "OpFailed"}:              op.StateFailed,
		{op.StateTaskRunning, "OpFailed, effect none"}: op.StateFailedClean,
		{op.StateFailedClean, "OpStarted"}:             op.StateStarted,
		{op.Absent, "OpVoided"}:                        op.StateVoided,
		{op.StateFailedClean, "OpVoided"}:              op.StateVoided,
	}
	if got, want := len(op.States())*len(op.Triggers()), 8*7; got != want {
		t.Fatalf("got %d pairs of state and event, want %d", got, want)
	}
	for _, from := range op.States() {
		for _, on := range op.Triggers() {
			got, err := op.Transition(from, on)
			want, ok := legal[step{from, on}]
			if (err == nil) != ok || got != want {
				t.Errorf("%s in state %s: got %v (error %v), want %v", on, from, got, err, want)
			}
			var illegal *op.IllegalTransitionError
			if err != nil && (!errors.As(err, &illegal) || illegal.From != from || illegal.On != on) {
				t.Errorf("%s in state %s: got error %v, want an *IllegalTransitionError that names both", on, from, err)
			}
		}
	}
}

func TestNothingFollowsAFinalState(t *testing.T) {
	final := map[op.State]bool{op.StateSucceeded: true, op.StateFailed: true, op.StateVoided: true}
	inFlight := map[op.State]bool{op.StateStarted: true, op.StateLaunching: true, op.StateTaskRunning: true}
	for _, s := range op.States() {
		if s.Final() != final[s] || s.InFlight() != inFlight[s] {
			t.Errorf("%s: got final %v, in flight %v; want %v, %v", s, s.Final(), s.InFlight(), final[s], inFlight[s])
		}
		follows := 0
		for _, on := range op.Triggers() {
			if _, err := op.Transition(s, on); err == nil {
				follows++
			}
		}
		if s.Final() != (follows == 0) {
			t.Errorf("%s: final is %v, but %d events may follow", s, s.Final(), follows)
		}
	}
}

func TestTheZeroStateIsNone(t *testing.T) {
	var zero op.State
	for _, on := range op.Triggers() {
		if to, err := op.Transition(zero, on); err == nil {
			t.Errorf("%s in the zero state: got %s, want an error", on, to)
		}
	}
	if got, want := zero.String(), "invalid state"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestStatesHaveNames(t *testing.T) {
	for _, s := range op.States() {
		text, err := s.MarshalText()
		if err != nil {
			t.Errorf("%s: got error %v, want none", s, err)
		}
		var back op.State
		if err := back.UnmarshalText(text); err != nil || back != s {
			t.Errorf("%s: got back %s (error %v)", s, back, err)
		}
	}
	var zero op.State
	if text, err := zero.MarshalText(); err == nil {
		t.Errorf("the zero state: got %q, want an error", text)
	}
	for _, name := range []string{"", "invalid state", "Started", "started "} {
		if err := zero.UnmarshalText([]byte(name)); err == nil {
			t.Errorf("%q: got %s, want an error", name, zero)
		}
	}
}
