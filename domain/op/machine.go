package op

import (
	"context"
	"fmt"

	"github.com/looplab/fsm"
)

// State is where an op stands.
type State uint8

// The states. Failed is told apart by its effect: FailedClean (effect none)
// may be attempted again, Failed (any other effect) is final.
const (
	Absent State = iota + 1
	StateStarted
	StateLaunching
	StateTaskRunning
	StateSucceeded
	StateFailedClean
	StateFailed
	StateVoided
)

// States gives every state.
func States() []State {
	return []State{
		Absent, StateStarted, StateLaunching, StateTaskRunning, StateSucceeded, StateFailedClean, StateFailed, StateVoided,
	}
}

// String is the state's name in the state machine.
func (s State) String() string {
	switch s {
	case Absent:
		return "absent"
	case StateStarted:
		return "started"
	case StateLaunching:
		return "launching"
	case StateTaskRunning:
		return "task-running"
	case StateSucceeded:
		return "succeeded"
	case StateFailedClean:
		return "failed, effect none"
	case StateFailed:
		return "failed"
	case StateVoided:
		return "voided"
	}
	return "invalid state"
}

// MarshalText gives the name of the state.
func (s State) MarshalText() ([]byte, error) {
	if _, err := parseState(s.String()); err != nil {
		return nil, err
	}
	return []byte(s.String()), nil
}

// UnmarshalText accepts exactly the name of a state.
func (s *State) UnmarshalText(text []byte) error {
	var err error
	*s, err = parseState(string(text))
	return err
}

func parseState(name string) (State, error) {
	for _, s := range States() {
		if s.String() == name {
			return s, nil
		}
	}
	return 0, fmt.Errorf("%q is not the name of a state", clip(name))
}

// InFlight tells whether an attempt has begun and not ended.
func (s State) InFlight() bool {
	return s == StateStarted || s == StateLaunching || s == StateTaskRunning
}

// Final tells whether no event can follow.
func (s State) Final() bool {
	return s == StateSucceeded || s == StateFailed || s == StateVoided
}

// A Trigger is an event as the state machine sees it: its type, and for
// OpFailed whether the effect is none.
type Trigger string

// The triggers.
const (
	OnStarted     Trigger = TypeStarted
	OnLaunching   Trigger = TypeLaunching
	OnTaskRunning Trigger = TypeTaskRunning
	OnSucceeded   Trigger = TypeSucceeded
	OnFailedClean Trigger = TypeFailed + ", effect none"
	OnFailed      Trigger = TypeFailed
	OnVoided      Trigger = TypeVoided
)

// Triggers gives every trigger.
func Triggers() []Trigger {
	return []Trigger{OnStarted, OnLaunching, OnTaskRunning, OnSucceeded, OnFailedClean, OnFailed, OnVoided}
}

// TriggerOf gives what an event is to the state machine.
func TriggerOf(e Event) Trigger {
	if f, ok := e.(*Failed); ok && f.Effect == EffectNone {
		return OnFailedClean
	}
	return Trigger(e.Type())
}

// transitions is the op's life. Nothing else in the program says which event
// may follow which.
//
// An attempt that was only started sent nothing, so it can't fail with any
// effect but none. OpSucceeded comes from task-running alone: what nobody saw
// the host accept, nobody may call done.
func transitions() fsm.Events {
	src := func(states ...State) []string {
		names := make([]string, len(states))
		for i, s := range states {
			names[i] = s.String()
		}
		return names
	}
	return fsm.Events{
		{Name: string(OnStarted), Src: src(Absent, StateFailedClean), Dst: StateStarted.String()},
		{Name: string(OnLaunching), Src: src(StateStarted), Dst: StateLaunching.String()},
		{Name: string(OnTaskRunning), Src: src(StateLaunching), Dst: StateTaskRunning.String()},
		{Name: string(OnSucceeded), Src: src(StateTaskRunning), Dst: StateSucceeded.String()},
		{Name: string(OnFailedClean), Src: src(StateStarted, StateLaunching, StateTaskRunning), Dst: StateFailedClean.String()},
		{Name: string(OnFailed), Src: src(StateLaunching, StateTaskRunning), Dst: StateFailed.String()},
		{Name: string(OnVoided), Src: src(Absent, StateFailedClean), Dst: StateVoided.String()},
	}
}

// table holds the machine's answer to every question, asked once: a fold over
// millions of events then costs a look-up each, without building a machine.
var table = askMachine()

type question struct {
	from State
	on   Trigger
}

func askMachine() map[question]State {
	byName := make(map[string]State)
	for _, s := range States() {
		byName[s.String()] = s
	}
	answers := make(map[question]State)
	for _, s := range States() {
		for _, on := range Triggers() {
			m := fsm.NewFSM(s.String(), transitions(), nil)
			// The context is never cancelled: a machine of this library stays
			// stuck after a cancelled transition.
			if err := m.Event(context.Background(), string(on)); err == nil { //nolint:forbidigo // no caller's context: see above
				answers[question{s, on}] = byName[m.Current()]
			}
		}
	}
	return answers
}

// Transition gives the state after an event, or an *IllegalTransitionError.
func Transition(from State, on Trigger) (State, error) {
	to, ok := table[question{from, on}]
	if !ok {
		return 0, &IllegalTransitionError{From: from, On: on}
	}
	return to, nil
}

// An IllegalTransitionError says that an event can't follow in a state.
type IllegalTransitionError struct {
	From State
	On   Trigger
}

func (e *IllegalTransitionError) Error() string {
	return fmt.Sprintf("%s can't follow when the op is %s", e.On, e.From)
}
