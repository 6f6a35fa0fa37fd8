package op_test

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"writ/domain/op"
)

// The lives of an op, and where each leads.
func TestFold(t *testing.T) {
	tests := []struct {
		name    string
		given   []op.Event
		state   op.State
		attempt int
		applied bool
		spent   bool
	}{
		{"nothing on record", nil, op.Absent, 0, false, false},
		{"claimed", []op.Event{started(1, 0)}, op.StateStarted, 1, false, false},
		{"announced", []op.Event{started(1, 0), launching(1, 1)}, op.StateLaunching, 1, false, false},
		{"running on the host", []op.Event{started(1, 0), launching(1, 1), running(1, 2)}, op.StateTaskRunning, 1, false, false},
		{"done", []op.Event{started(1, 0), launching(1, 1), running(1, 2), succeeded(1, 3)}, op.StateSucceeded, 1, true, true},
		{"refused right before launch", []op.Event{started(1, 0), failed(1, 1, op.EffectNone)}, op.StateFailedClean, 1, false, false},
		{"rejected by the host", []op.Event{started(1, 0), launching(1, 1), failed(1, 2, op.EffectNone)}, op.StateFailedClean, 1, false, false},
		{"failed half-way", []op.Event{started(1, 0), launching(1, 1), running(1, 2), failed(1, 3, op.EffectPartial)}, op.StateFailed, 1, false, true},
		{"settled as unknown", []op.Event{started(1, 0), launching(1, 1), failed(1, 2, op.EffectUnknown)}, op.StateFailed, 1, false, true},
		{"done by other hands", []op.Event{started(1, 0), launching(1, 1), failed(1, 2, op.EffectDone)}, op.StateFailed, 1, false, true},
		{"taken back before it ran", []op.Event{voided(0, 0)}, op.StateVoided, 0, false, true},
		{"taken back after a clean failure", []op.Event{started(1, 0), failed(1, 1, op.EffectNone), voided(1, 2)}, op.StateVoided, 1, false, true},
		{
			"attempted again, same document",
			[]op.Event{started(1, 0), failed(1, 1, op.EffectNone), started(2, 2), launching(2, 3), running(2, 4), succeeded(2, 5)},
			op.StateSucceeded, 2, true, true,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			stepwise, records := given(t, tt.given...)
			o, err := op.Fold(ledger, nonce, stream(records))
			if err != nil {
				t.Fatalf("got error %v, want none", err)
			}
			if o.State != tt.state || o.Attempt != tt.attempt {
				t.Errorf("got %s in attempt %d, want %s in attempt %d", o.State, o.Attempt, tt.state, tt.attempt)
			}
			if o.Applied() != tt.applied || o.Spent() != tt.spent {
				t.Errorf("got applied %v, spent %v; want %v, %v", o.Applied(), o.Spent(), tt.applied, tt.spent)
			}
			if n := len(tt.given); n > 0 && !o.Since.Equal(at(n-1)) {
				t.Errorf("got since %s, want the time of the last event, %s", o.Since, at(n-1))
			}
			if o.Tail.Next != uint64(len(records)) {
				t.Errorf("got next revision %d, want %d", o.Tail.Next, len(records))
			}
			if stepwise.Tail != o.Tail || stepwise.State != o.State || stepwise.OpID != o.OpID {
				t.Errorf("folding at once and step by step differ: %+v and %+v", o.Tail, stepwise.Tail)
			}
		})
	}
}

// A new attempt starts clean, bound to its own claim.
func TestANewAttemptDropsTheOneBefore(t *testing.T) {
	again := change(started(2, 3), func(e *op.Started) {
		e.Claim[0]++
		e.OpID = op.OpID(nonce, 2, e.Claim)
	})
	o, _ := given(t, started(1, 0), launching(1, 1), failed(1, 2, op.EffectNone), again)
	if o.Launching != nil || o.Running != nil || o.Failed != nil || o.Succeeded != nil {
		t.Errorf("got events of attempt 1 in attempt 2: %+v", o)
	}
	if o.OpID != again.OpID || o.OpID == op.OpID(nonce, 1, claim) {
		t.Errorf("got op id %s, want %s", o.OpID, again.OpID)
	}
	if !o.Pinned || o.Payload != payload {
		t.Errorf("got payload %s (pinned %v), want the one that attempt 1 pinned", o.Payload, o.Pinned)
	}
}

// What can't follow is refused before it is written and reported when read.
func TestIllegalEvents(t *testing.T) {
	begun := []op.Event{started(1, 0)}
	announced := append(begun[:1:1], launching(1, 1))
	taken := append(announced[:2:2], running(1, 2))
	clean := append(begun[:1:1], failed(1, 1, op.EffectNone))
	other := op.Nonce("ffffffffffffffffffffffffffffffff")
	tests := []struct {
		name  string
		given []op.Event
		when  op.Event
	}{
		{"launch without a claim", nil, launching(1, 0)},
		{"claim twice", begun, started(2, 1)},
		{"success that nobody saw the host accept", announced, succeeded(1, 2)},
		{"an attempt that sent nothing had an effect", begun, failed(1, 1, op.EffectPartial)},
		{"a claim after success", append(taken[:3:3], succeeded(1, 3)), started(2, 4)},
		{"a claim after a failure with an effect", append(taken[:3:3], failed(1, 3, op.EffectUnknown)), started(2, 4)},
		{"a claim after it was taken back", []op.Event{voided(0, 0)}, started(1, 1)},
		{"taken back in flight", announced, voided(1, 2)},
		{"another document in the second attempt", clean, change(started(2, 2), func(e *op.Started) { e.PayloadSHA256[0]++ })},
		{"the attempt number stays", clean, started(1, 2)},
		{"an attempt number left out", clean, started(3, 2)},
		{"the first attempt is not number 1", nil, started(2, 0)},
		{"an event of the attempt before", append(clean[:2:2], started(2, 2)), launching(1, 3)},
		{"taken back under another attempt", clean, voided(2, 2)},
		{"an op id of another claim", nil, change(started(1, 0), func(e *op.Started) { e.Claim[15]++ })},
		{"an op id of another attempt", announced, change(running(1, 2), func(e *op.TaskRunning) { e.OpID = op.OpID(nonce, 2, claim) })},
		{"no op id", announced, change(running(1, 2), func(e *op.TaskRunning) { e.OpID = "" })},
		{"another op's nonce", nil, change(started(1, 0), func(e *op.Started) { e.Nonce, e.OpID = other, op.OpID(other, 1, claim) })},
		{"no time", announced, change(running(1, 2), func(e *op.TaskRunning) { e.At = time.Time{} })},
		{"a time before the event before", announced, running(1, 0)},
		{"a time that is not UTC", announced, change(running(1, 2), func(e *op.TaskRunning) { e.At = e.At.In(time.FixedZone("CET", 3600)) })},
		{"a claim for another class than the intent's", nil, change(started(1, 0), func(e *op.Started) { e.Class = op.GuestStop })},
		{"a claim for another guest than the intent's", nil, change(started(1, 0), func(e *op.Started) { e.Target.Guest = &op.Guest{Type: op.QEMU, VMID: 106} })},
		{"a launch on another guest than the claimed one", begun, change(launching(1, 1), func(e *op.Launching) { e.Target.Guest = &op.Guest{Type: op.QEMU, VMID: 106} })},
		{"a launch of another class than the claimed one", begun, change(launching(1, 1), func(e *op.Launching) { e.Class = op.GuestStop })},
		{"success without proof", taken, change(succeeded(1, 3), func(e *op.Succeeded) { e.Evidence.Effect = op.EffectUnknown })},
		{"success with evidence to the contrary", taken, change(succeeded(1, 3), func(e *op.Succeeded) { e.Evidence.Effect = op.EffectNone })},
		{"a failure of no known kind", taken, change(failed(1, 3, op.EffectNone), func(e *op.Failed) { e.Kind = "bad-luck" })},
		{"a failure of no known effect", taken, failed(1, 3, "some")},
		{"a failure without effect", taken, failed(1, 3, "")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o, records := given(t, tt.given...)
			before := o
			if rec, _, err := o.Propose(tt.when); err == nil {
				t.Errorf("propose: got record %s@%d, want an error", rec.Type, rec.Revision)
			}
			bad := sealed(t, o, tt.when)
			isCorrupt(t, o.Apply(bad), uint64(len(tt.given)))
			if !reflect.DeepEqual(o, before) {
				t.Errorf("after the error the op is %+v, want it unchanged: %+v", o, before)
			}
			folded, err := op.Fold(ledger, nonce, stream(append(records, bad)))
			isCorrupt(t, err, uint64(len(tt.given)))
			if folded.State != before.State {
				t.Errorf("fold: got the op as %s, want it as it was before the event, %s", folded.State, before.State)
			}
		})
	}
}

// To propose is only to ask: nothing has happened until the append has.
func TestProposeLeavesTheOpAlone(t *testing.T) {
	o, _ := given(t, started(1, 0))
	before := o
	rec, _, err := o.Propose(launching(1, 1))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(o, before) {
		t.Errorf("got %+v, want it unchanged: %+v", o, before)
	}
	again, _, err := o.Propose(launching(1, 1))
	if err != nil || !reflect.DeepEqual(again, rec) {
		t.Errorf("the second time got %+v (error %v), want the same record %+v", again, err, rec)
	}
}

// A copy of an op is independent of what happens to the original.
func TestAnOpIsAValue(t *testing.T) {
	o, _ := given(t, started(1, 0))
	kept := o
	rec, _, err := o.Propose(launching(1, 1))
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Apply(rec); err != nil {
		t.Fatal(err)
	}
	if kept.State != op.StateStarted || kept.Launching != nil || kept.Tail.Next != 1 {
		t.Errorf("got the copy as %s with next revision %d, want started and 1", kept.State, kept.Tail.Next)
	}
}

// Text that can't be stored as JSON is refused, not altered.
func TestProposeRefusesInvalidUTF8(t *testing.T) {
	o, _ := given(t, started(1, 0))
	e := change(failed(1, 1, op.EffectNone), func(e *op.Failed) { e.Message = "caf\xe9" })
	if rec, _, err := o.Propose(e); err == nil {
		t.Errorf("got record %q, want an error", rec.Data)
	}
}

// An error while reading is no statement about the stream.
func TestFoldPassesAReadErrorOn(t *testing.T) {
	_, records := given(t, started(1, 0), launching(1, 1))
	broken := errors.New("connection lost")
	o, err := op.Fold(ledger, nonce, func(yield func(op.Record, error) bool) {
		if yield(records[0], nil) {
			yield(op.Record{}, broken)
		}
	})
	var corrupt *op.CorruptStreamError
	if !errors.Is(err, broken) || errors.As(err, &corrupt) {
		t.Errorf("got error %v, want the reader's own", err)
	}
	if o.State != op.StateStarted {
		t.Errorf("got state %s, want %s", o.State, op.StateStarted)
	}
}
