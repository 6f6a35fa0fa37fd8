package op_test

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"writ/domain/op"
)

func resolution() *op.Resolved {
	return &op.Resolved{
		Envelope:      []byte(`{"payload":"e30=","payloadType":"application/vnd.writ.resolution.v1+json"}`),
		PayloadSHA256: op.Digest{0xcc, 0xdd},
		Signers: []op.Signer{
			{Person: "alice", Key: "SHA256:rYc8Cz1TZ4wMZnMZLT0mWjUq2t3w5u0pDd9yTg1O1jA"},
			{Person: "bob", Key: "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"},
		},
		Role: "resolver", PolicySerial: 9, Reason: "OPS-124: pve1 burnt down",
	}
}

// settledAs is the failure by which people settled an attempt.
func settledAs(attempt, n int, effect op.Effect) *op.Failed {
	return &op.Failed{
		Header: header(attempt, n), Kind: op.KindResolved, Effect: effect, Message: "settled by alice, bob", Resolution: resolution(),
	}
}

// settledAsDone is the success by which people settled an attempt.
func settledAsDone(attempt, n int) *op.Succeeded {
	return &op.Succeeded{
		Header: header(attempt, n), ExitStatus: op.ExitResolved,
		Evidence:   op.Evidence{Effect: op.EffectDone, Reasons: []string{"on the word of alice, bob"}},
		Resolution: resolution(),
	}
}

func unseenTask(attempt, n int) *op.TaskRunning {
	return &op.TaskRunning{Header: header(attempt, n), Adopted: true}
}

func refused(attempt, n int) *op.Failed {
	return &op.Failed{
		Header: header(attempt, n), Kind: op.KindRefused, Effect: op.EffectNone,
		Message: "the key of alice is revoked", Reason: "key-revoked",
	}
}

// The stored forms that hold a resolution or the gate's reason, byte for byte.
// Those without either are as they were.
func TestStoredFormOfResolutions(t *testing.T) {
	announced := []op.Event{started(1, 0), launching(1, 1)}
	taken := append(announced[:2:2], running(1, 2))
	for name, story := range map[string][]op.Event{
		"OpSucceeded.resolved":        append(taken[:3:3], settledAsDone(1, 3)),
		"OpSucceeded.resolved-unseen": append(announced[:2:2], unseenTask(1, 2), settledAsDone(1, 3)),
		"OpTaskRunning.unseen":        append(announced[:2:2], unseenTask(1, 2)),
		"OpFailed.resolved-none":      append(announced[:2:2], settledAs(1, 2, op.EffectNone)),
		"OpFailed.resolved-unknown":   append(taken[:3:3], settledAs(1, 3, op.EffectUnknown)),
		"OpFailed.refused":            {started(1, 0), refused(1, 1)},
	} {
		t.Run(name, func(t *testing.T) {
			_, records := given(t, story...)
			last := records[len(records)-1]
			golden(t, "events/"+name+".v1.data.json", last.Data)
			golden(t, "events/"+name+".v1.metadata.json", last.Metadata)
		})
	}
}

// What was stored before there were resolutions and reasons holds neither.
func TestEventsWithoutAResolutionAreStoredAsEver(t *testing.T) {
	for _, e := range []op.Event{succeeded(1, 0), failed(1, 0, op.EffectPartial)} {
		data, err := op.Encode(e)
		if err != nil || bytes.Contains(data, []byte("resolution")) || bytes.Contains(data, []byte(`"reason":`)) {
			t.Errorf("%s: got %s (error %v), want neither resolution nor reason", e.Type(), data, err)
		}
	}
}

func TestResolutionsEndAnAttempt(t *testing.T) {
	announced := []op.Event{started(1, 0), launching(1, 1)}
	taken := append(announced[:2:2], running(1, 2))
	for _, tt := range []struct {
		name  string
		given []op.Event
		state op.State
	}{
		{"announced, without effect", append(announced[:2:2], settledAs(1, 2, op.EffectNone)), op.StateFailedClean},
		{"announced, in part", append(announced[:2:2], settledAs(1, 2, op.EffectPartial)), op.StateFailed},
		{"announced, unknown", append(announced[:2:2], settledAs(1, 2, op.EffectUnknown)), op.StateFailed},
		{"announced, done", append(announced[:2:2], unseenTask(1, 2), settledAsDone(1, 3)), op.StateSucceeded},
		{"running, unknown", append(taken[:3:3], settledAs(1, 3, op.EffectUnknown)), op.StateFailed},
		{"running, done", append(taken[:3:3], settledAsDone(1, 3)), op.StateSucceeded},
		{
			"without effect, then attempted again",
			append(announced[:2:2], settledAs(1, 2, op.EffectNone), started(2, 3), launching(2, 4)), op.StateLaunching,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, _ := given(t, tt.given...)
			if o.State != tt.state {
				t.Errorf("got %s, want %s", o.State, tt.state)
			}
			var kept *op.Resolved
			switch {
			case o.Succeeded != nil:
				kept = o.Succeeded.Resolution
			case o.Failed != nil:
				kept = o.Failed.Resolution
			default:
				return
			}
			if !reflect.DeepEqual(kept, resolution()) {
				t.Errorf("got the resolution %+v, want it whole: %+v", kept, resolution())
			}
		})
	}
}

// A success of an op in launching is recorded by two events in one append:
// both can be proposed before either is on record.
func TestTwoEventsOfOneAppend(t *testing.T) {
	o, _ := given(t, started(1, 0), launching(1, 1))
	first, foreseen, err := o.Propose(unseenTask(1, 2))
	if err != nil {
		t.Fatal(err)
	}
	second, end, err := foreseen.Propose(settledAsDone(1, 2)) // at the same time
	if err != nil {
		t.Fatal(err)
	}
	if first.Revision != 2 || second.Revision != 3 || end.State != op.StateSucceeded {
		t.Errorf("got revisions %d and %d, then %s; want 2 and 3, then %s", first.Revision, second.Revision, end.State, op.StateSucceeded)
	}
	for _, rec := range []op.Record{first, second} {
		if err := o.Apply(rec); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := printed(t, o), printed(t, end); got != want {
		t.Errorf("applied\n%s\nforeseen\n%s", got, want)
	}
}

// An end that contradicts what it rests on is neither written nor read.
func TestIllegalResolutions(t *testing.T) {
	announced := []op.Event{started(1, 0), launching(1, 1)}
	taken := append(announced[:2:2], running(1, 2))
	without := func(f func(*op.Resolved)) op.Event {
		return change(settledAs(1, 3, op.EffectUnknown), func(e *op.Failed) { f(e.Resolution) })
	}
	for _, tt := range []struct {
		name  string
		given []op.Event
		when  op.Event
	}{
		{"success that nobody saw the host accept, on people's word", announced, settledAsDone(1, 2)},
		{"a claim settled as unknown, though it sent nothing", announced[:1], settledAs(1, 1, op.EffectUnknown)},
		{"success on people's word with a task's exit status", taken, change(settledAsDone(1, 3), func(e *op.Succeeded) { e.ExitStatus = "OK" })},
		{"success on people's word that the effect is unknown", taken, change(settledAsDone(1, 3), func(e *op.Succeeded) { e.Evidence.Effect = op.EffectUnknown })},
		{"another kind of failure with a resolution", taken, change(settledAs(1, 3, op.EffectUnknown), func(e *op.Failed) { e.Kind = op.KindTaskFailed })},
		{"a resolution of no known effect", taken, settledAs(1, 3, "")},
		{"a resolution without its envelope", taken, without(func(r *op.Resolved) { r.Envelope = nil })},
		{"a resolution that nobody signed", taken, without(func(r *op.Resolved) { r.Signers = nil })},
		{"a resolution in no role", taken, without(func(r *op.Resolved) { r.Role = "" })},
		{"success by a resolution that nobody signed", taken, change(settledAsDone(1, 3), func(e *op.Succeeded) { e.Resolution.Signers = nil })},
		{"a gate's reason where the gate did not refuse", taken, change(failed(1, 3, op.EffectNone), func(e *op.Failed) { e.Reason = "expired" })},
		{"a gate's reason for a resolution", taken, change(settledAs(1, 3, op.EffectNone), func(e *op.Failed) { e.Reason = "signed" })},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, _ := given(t, tt.given...)
			before := printed(t, o)
			if rec, _, err := o.Propose(tt.when); err == nil {
				t.Errorf("propose: got record %s@%d, want an error", rec.Type, rec.Revision)
			}
			isCorrupt(t, o.Apply(sealed(t, o, tt.when)), uint64(len(tt.given)))
			if got := printed(t, o); got != before {
				t.Errorf("after the error the op is\n%s\nwant it unchanged\n%s", got, before)
			}
		})
	}
}

// A resolved failure without its resolution, and a refusal without its reason,
// stay readable.
func TestResolvedAndRefusedWithoutMoreAreReadable(t *testing.T) {
	for _, e := range []*op.Failed{
		change(settledAs(1, 2, op.EffectUnknown), func(e *op.Failed) { e.Resolution = nil }),
		change(refused(1, 2), func(e *op.Failed) { e.Reason = "" }),
	} {
		o, _ := given(t, started(1, 0), launching(1, 1), e)
		if o.Failed == nil || o.Failed.Kind != e.Kind {
			t.Errorf("got %+v, want a failure of kind %s", o.Failed, e.Kind)
		}
	}
}

// The members of a stored resolution are read as strictly as the rest.
func TestCorruptResolutions(t *testing.T) {
	o, _ := given(t, started(1, 0), launching(1, 1))
	data, err := op.Encode(settledAs(1, 2, op.EffectUnknown))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ was, is string }{
		"an unknown member":      {`"role":"resolver"`, `"role":"resolver","also":1`},
		"a member twice":         {`"role":"resolver"`, `"role":"resolver","role":"resolver"`},
		"a member in capitals":   {`"role":"resolver"`, `"Role":"resolver"`},
		"an envelope not base64": {`"envelope":"`, `"envelope":"!`},
		"a short digest":         {`"payload_sha256":"cc`, `"payload_sha256":"`},
		"null":                   {`"resolution":{`, `"resolution":null,"x":{`},
	} {
		if !strings.Contains(string(data), c.was) {
			t.Fatalf("%s does not contain %s", data, c.was)
		}
		bent := []byte(strings.Replace(string(data), c.was, c.is, 1))
		t.Run(name, func(t *testing.T) {
			o := o
			isCorrupt(t, o.Apply(sealedBytes(t, o, op.TypeFailed, bent)), 2)
		})
	}
}
