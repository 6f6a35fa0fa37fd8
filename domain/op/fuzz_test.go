package op_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"writ/domain/op"
)

// What decodes can be encoded, and means the same when read again. What an op
// makes of hostile bytes is a value or an error, never a panic.
func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob("testdata/events/*.data.json")
	if err != nil || len(files) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		typ, _, _ := strings.Cut(filepath.Base(file), ".")
		f.Add(typ, data)
	}
	f.Add(op.TypeTaskRunning, []byte(`null`))
	f.Add(op.TypeStarted, []byte(`{"at":"0000-01-01T00:00:00+23:59","signers":null,"envelope":""}`))
	f.Fuzz(func(t *testing.T, typ string, data []byte) {
		e, err := op.Decode(typ, data)
		if err != nil {
			if n := len(err.Error()); n > 400 {
				t.Fatalf("got an error of %d bytes, want at most 400", n)
			}
			return
		}
		for _, o := range []op.Op{op.New(ledger, nonce), op.New(ledger, op.HeaderOf(e).Nonce)} {
			_ = o.Apply(sealedBytes(t, o, typ, data))
		}
		once, err := op.Encode(e)
		if err != nil {
			// A time may be readable and yet have no form in UTC that is.
			if at := op.HeaderOf(e).At; at.UTC().Year() < 0 || at.UTC().Year() > 9999 {
				return
			}
			t.Fatalf("%q decodes, but does not encode: %v", data, err)
		}
		if want, err := op.Marshal(e); err != nil || !bytes.Equal(once, want) {
			t.Fatalf("got %q, want %q (error %v)", once, want, err)
		}
		again, err := op.Decode(typ, once)
		if err != nil {
			t.Fatalf("%q decodes, what it encodes to does not: %q: %v", data, once, err)
		}
		twice, err := op.Encode(again)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("got %q (error %v), want %q as before", twice, err, once)
		}
		if a, b := op.HeaderOf(e), op.HeaderOf(again); !a.At.Equal(b.At) || a.Nonce != b.Nonce || !a.Target.Equal(b.Target) {
			t.Fatalf("got %+v, want %+v as before", b, a)
		}
	})
}
