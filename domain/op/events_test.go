package op_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"writ/domain/op"
)

// versions are all stored forms of all events, each as the newest of a story:
// testdata/events/<type>.<variant>.v<schema>.{data,metadata}.json.
func versions() map[string][]op.Event {
	keyless := change(started(1, 0), func(e *op.Started) {
		e.Class = op.GuestStart
		e.Intent = op.Intent{Class: op.GuestStart, Target: e.Target}
		e.Envelope, e.PayloadSHA256, e.Signers, e.Role, e.Keyless = nil, op.Digest{}, nil, "", true
	})
	container := func(attempt, n int) op.Header {
		h := header(attempt, n)
		h.Target.Guest = &op.Guest{Type: op.LXC, VMID: 104}
		return h
	}
	yes := true
	ctStarted := change(started(1, 0), func(e *op.Started) {
		e.Header = container(1, 0)
		e.Intent = op.Intent{Class: op.GuestDestroy, Target: e.Target, Params: op.Params{Purge: &yes, Force: &yes}}
		e.Epoch, e.Facts = 3, op.Facts{}
	})
	ctLaunching := change(launching(1, 1), func(e *op.Launching) {
		e.Header = container(1, 1)
		e.Observed = op.Observed{
			Found: true, Node: "pve1", Type: op.LXC, VMID: 104, Name: "ct-4", WritID: "00112233445566778899aabbccddeeff",
			Lock: "backup", Protection: true, Template: true, HAManaged: true,
		}
	})
	return map[string][]op.Event{
		"OpStarted.signed":      {started(1, 0)},
		"OpStarted.keyless":     {keyless},
		"OpStarted.container":   {ctStarted},
		"OpStarted.again":       {started(1, 0), failed(1, 1, op.EffectNone), started(2, 2)},
		"OpLaunching.guest":     {started(1, 0), launching(1, 1)},
		"OpLaunching.container": {ctStarted, ctLaunching},
		"OpTaskRunning.upid":    {started(1, 0), launching(1, 1), running(1, 2)},
		"OpTaskRunning.adopted": {started(1, 0), launching(1, 1), change(running(1, 2), func(e *op.TaskRunning) { e.Adopted = true })},
		"OpTaskRunning.synchronous": {
			started(1, 0), launching(1, 1), change(running(1, 2), func(e *op.TaskRunning) { e.UPID = "" }),
		},
		"OpSucceeded.residue": {started(1, 0), launching(1, 1), running(1, 2), succeeded(1, 3)},
		"OpSucceeded.clean": {
			started(1, 0), launching(1, 1), running(1, 2), change(succeeded(1, 3), func(e *op.Succeeded) { e.Residue = nil }),
		},
		"OpFailed.none":    {started(1, 0), launching(1, 1), running(1, 2), failed(1, 3, op.EffectNone)},
		"OpFailed.partial": {started(1, 0), launching(1, 1), running(1, 2), failed(1, 3, op.EffectPartial)},
		"OpFailed.bare": {started(1, 0), change(failed(1, 1, op.EffectNone), func(e *op.Failed) {
			e.Kind, e.Message, e.LogTail, e.Evidence = op.KindInterrupted, "the service stopped", nil, nil
		})},
		"OpVoided.before-start": {voided(0, 0)},
		"OpVoided.after-clean":  {started(1, 0), failed(1, 1, op.EffectNone), voided(1, 2)},
	}
}

// What this program writes today, byte for byte.
func TestStoredForm(t *testing.T) {
	for name, story := range versions() {
		t.Run(name, func(t *testing.T) {
			_, records := given(t, story...)
			last := records[len(records)-1]
			golden(t, "events/"+name+".v1.data.json", last.Data)
			golden(t, "events/"+name+".v1.metadata.json", last.Metadata)
		})
	}
}

// Every version ever written stays readable: all files there are, whether or
// not today's program would still write them.
func TestEveryStoredVersionIsReadable(t *testing.T) {
	files, err := filepath.Glob("testdata/events/*.data.json")
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, file := range files {
		typ, _, _ := strings.Cut(filepath.Base(file), ".")
		seen[typ] = true
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		e, err := op.Decode(typ, data)
		if err != nil {
			t.Errorf("%s: got error %v, want an event", file, err)
			continue
		}
		if e.Type() != typ {
			t.Errorf("%s: got an event of type %s, want %s", file, e.Type(), typ)
		}
		again, err := op.Encode(e)
		if err != nil || !bytes.Equal(again, data) {
			t.Errorf("%s: encoded again, got\n%s (error %v)\nwant\n%s", file, again, err, data)
		}
		metadata, err := os.ReadFile(strings.TrimSuffix(file, "data.json") + "metadata.json")
		if err != nil {
			t.Fatal(err)
		}
		var m op.Metadata
		if err := op.Unmarshal(metadata, &m); err != nil {
			t.Errorf("%s: metadata: got error %v, want none", file, err)
		}
	}
	for _, typ := range []string{
		op.TypeStarted, op.TypeLaunching, op.TypeTaskRunning, op.TypeSucceeded, op.TypeFailed, op.TypeVoided,
	} {
		if !seen[typ] {
			t.Errorf("no stored form of %s under testdata/events", typ)
		}
	}
}

func TestHeaderOf(t *testing.T) {
	for _, e := range []op.Event{started(1, 0), launching(1, 0), running(1, 0), succeeded(1, 0), failed(1, 0, op.EffectNone), voided(1, 0)} {
		got, want := op.HeaderOf(e), header(1, 0)
		if got.OpID != want.OpID || got.Nonce != want.Nonce || !got.Target.Equal(want.Target) || !got.At.Equal(want.At) {
			t.Errorf("%s: got header %+v, want %+v", e.Type(), got, want)
		}
	}
}
