package op_test

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"writ/domain/op"
)

// What nobody wrote is reported, with the place, and changes nothing.
func TestCorruptRecords(t *testing.T) {
	o, records := given(t, started(1, 0), launching(1, 1))
	next, _, err := o.Propose(running(1, 2))
	if err != nil {
		t.Fatal(err)
	}
	data := string(next.Data)
	rewritten := func(old, new string) op.Record { //nolint:predeclared // reads as what it is
		if !strings.Contains(data, old) {
			t.Fatalf("%s does not contain %s", data, old)
		}
		return sealedBytes(t, o, next.Type, []byte(strings.Replace(data, old, new, 1)))
	}
	meta := func(old, new string) op.Record { //nolint:predeclared // reads as what it is
		if !bytes.Contains(next.Metadata, []byte(old)) {
			t.Fatalf("%s does not contain %s", next.Metadata, old)
		}
		r := next
		r.Metadata = bytes.Replace(next.Metadata, []byte(old), []byte(new), 1)
		return r
	}
	with := func(f func(*op.Record)) op.Record {
		r := next
		f(&r)
		return r
	}
	tests := []struct {
		name string
		rec  op.Record
	}{
		{"one byte of the data", with(func(r *op.Record) { r.Data = []byte(strings.Replace(data, "pve1", "pve2", 1)) })},
		{"another type", with(func(r *op.Record) { r.Type = op.TypeVoided })},
		{"another id", with(func(r *op.Record) { r.ID[0]++ })},
		{"the event before once more", records[1]},
		{"a revision left out", with(func(r *op.Record) { r.Revision++ })},
		{"no data", with(func(r *op.Record) { r.Data = nil })},
		{"no metadata", with(func(r *op.Record) { r.Metadata = nil })},
		{"chain of something else", meta(`"chain":"`, `"chain":"00`)},
		{"chain altered", with(func(r *op.Record) { r.Metadata = alterChain(t, r.Metadata) })},
		{"metadata of a newer schema", meta(`"schema":1`, `"schema":2`)},
		{"metadata of no schema", meta(`"schema":1,`, ``)},
		{"metadata with an unknown member", meta(`{`, `{"extra":1,`)},
		{"metadata with a member twice", meta(`{`, `{"schema":1,`)},
		{"metadata that points to another cause", meta(`"$causationId":"`+records[1].ID.String(), `"$causationId":"`+records[0].ID.String())},
		{"metadata that points to another op", meta(string(nonce), strings.Repeat("f", 32))},
		{"an unknown event", sealedBytes(t, o, "OpPaused", next.Data)},
		{"an event of another kind of stream", sealedBytes(t, o, op.TypeRefused, []byte(`{}`))},
		{"an unknown member", rewritten(`{`, `{"surprise":true,`)},
		{"a member twice", rewritten(`"upid":`, `"adopted":false,"upid":`)},
		{"a member in another case", rewritten(`"upid":`, `"Upid":`)},
		{"a time with an offset", rewritten(`.123Z"`, `.123+01:00"`)},
		{"a wrong type of value", rewritten(`"attempt":1`, `"attempt":"1"`)},
		{"something behind the value", sealedBytes(t, o, next.Type, append(bytes.Clone(next.Data), "{}"...))},
		{"half of it", sealedBytes(t, o, next.Type, next.Data[:len(next.Data)/2])},
		{"null", sealedBytes(t, o, next.Type, []byte("null"))},
		{"not UTF-8", rewritten(`"lab"`, "\"l\xffb\"")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o, before := o, o
			err := o.Apply(tt.rec)
			isCorrupt(t, err, tt.rec.Revision)
			if !reflect.DeepEqual(o, before) {
				t.Errorf("after the error the op is %+v, want it unchanged: %+v", o, before)
			}
			if strings.Contains(err.Error(), string(nonce)) {
				t.Errorf("got an error that shows the whole nonce: %v", err)
			}
			if err := o.Apply(next); err != nil {
				t.Errorf("the true record afterwards: got error %v, want none", err)
			}
		})
	}
}

func alterChain(t *testing.T, metadata []byte) []byte {
	t.Helper()
	var m op.Metadata
	if err := op.Unmarshal(metadata, &m); err != nil {
		t.Fatal(err)
	}
	m.Chain[31] ^= 1
	b, err := op.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A stream whose beginning is missing, or which is someone else's, is none.
func TestTruncatedAndMisplacedStreams(t *testing.T) {
	_, records := given(t, started(1, 0), failed(1, 1, op.EffectNone), started(2, 2), launching(2, 3))
	other := op.Nonce("ffffffffffffffffffffffffffffffff")
	tests := []struct {
		name    string
		ledger  string
		nonce   op.Nonce
		records []op.Record
		at      uint64
	}{
		{"the first event is gone", ledger, nonce, records[1:], 1},
		{"the first attempt is gone", ledger, nonce, records[2:], 2},
		{"an event in the middle is gone", ledger, nonce, append(records[:1:1], records[2:]...), 2},
		{"two events change places", ledger, nonce, []op.Record{records[1], records[0]}, 1},
		{"copied from another ledger", "0000000000000000", nonce, records, 0},
		{"copied from another op", ledger, other, records, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o, err := op.Fold(tt.ledger, tt.nonce, stream(tt.records))
			if err == nil {
				t.Fatalf("got %s, want an error", o.State)
			}
			want := fmt.Sprintf("stream op-%s corrupt at revision %d: ", tt.nonce.Short(), tt.at)
			if !strings.HasPrefix(err.Error(), want) {
				t.Errorf("got error %q, want one that begins with %q", err, want)
			}
		})
	}
}

// A stream cut off at its end is shorter, not corrupt: nothing in it can tell.
// What was acknowledged is known outside of the store.
func TestAMissingEndIsNotSeen(t *testing.T) {
	_, records := given(t, started(1, 0), launching(1, 1), running(1, 2))
	o, err := op.Fold(ledger, nonce, stream(records[:2]))
	if err != nil || o.State != op.StateLaunching {
		t.Errorf("got %s (error %v), want %s", o.State, err, op.StateLaunching)
	}
}

// Errors show neither whole nonces nor unbounded foreign text.
func TestErrorsAreShortAndDiscreet(t *testing.T) {
	long := strings.Repeat("x", 1<<16)
	o, _ := given(t, started(1, 0))
	for name, rec := range map[string]op.Record{
		"type":            sealedBytes(t, o, long, []byte("{}")),
		"member":          sealedBytes(t, o, op.TypeLaunching, []byte(`{"`+long+`":1}`)),
		"op id":           sealed(t, o, change(launching(1, 1), func(e *op.Launching) { e.OpID = long })),
		"metadata member": {Revision: 1, Type: op.TypeVoided, ID: op.EventID(nonce.Stream(), 1, op.TypeVoided, nil), Metadata: []byte(`{"` + long + `":1}`)},
	} {
		err := o.Apply(rec)
		isCorrupt(t, err, 1)
		if n := len(err.Error()); n > 500 {
			t.Errorf("%s: got an error of %d bytes, want at most 500", name, n)
		}
	}
	for _, name := range []string{"op-" + string(nonce), "op-" + string(nonce) + long, "op-" + strings.Repeat("F", 32)} {
		text := (&op.CorruptStreamError{Stream: name, Why: "test"}).Error()
		if len(text) > 100 || strings.Contains(text, name[:20]) {
			t.Errorf("got %q, want the stream's name shortened", text)
		}
	}
}
