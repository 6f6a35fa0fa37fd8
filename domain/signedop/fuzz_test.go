package signedop_test

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"writ/domain/op"
	"writ/domain/signedop"
)

// checkParsed holds for all bytes: either a *MalformedError of bearable
// length, or a writ that prints back to the same bytes.
func checkParsed(t *testing.T, raw []byte) *signedop.Unverified {
	t.Helper()
	u, err := signedop.Parse(raw)
	if err != nil {
		if _, ok := errors.AsType[*signedop.MalformedError](err); !ok || u != nil || len(err.Error()) > 400 {
			t.Fatalf("got %v, %T of %d bytes, want a short *MalformedError", u, err, len(err.Error()))
		}
		return nil
	}
	payload := encode(t, u.UnverifiedDocument())
	var env dsse.Envelope
	if err := json.Unmarshal(raw, &env); err != nil {
		t.Fatal(err)
	}
	var sigs []sig
	for _, s := range env.Signatures {
		sigs = append(sigs, sig{s.KeyID, s.Sig})
	}
	if again := rawEnvelope(payload, sigs...); !bytes.Equal(again, raw) || !bytes.Equal(u.Raw(), raw) {
		t.Fatalf("printed back differently\n got %s\nwant %s", again, raw)
	}
	return u
}

// signedDigests are the documents that the trusted keys have signed in the
// vectors.
func signedDigests(tb testing.TB, vs []vector) map[op.Digest]bool {
	tb.Helper()
	digests := make(map[op.Digest]bool)
	for _, v := range vs {
		if v.Result == vectorSigned {
			digests[parse(tb, v.Envelope).Digest()] = true
		}
	}
	return digests
}

// Whatever parses prints back to the same bytes, and nothing verifies but what
// was signed.
func FuzzParse(f *testing.F) {
	vs := readVectors(f)
	for _, v := range vs {
		f.Add(v.Envelope)
	}
	trusted, signed := keysOf(trustedSigners(f)...), signedDigests(f, vs)
	f.Fuzz(func(t *testing.T, raw []byte) {
		u := checkParsed(t, raw)
		if u == nil {
			return
		}
		if v, _ := u.Verify(trusted); v != nil && !signed[v.Digest()] {
			t.Fatalf("verified though nobody signed it: %s", raw)
		}
	})
}

// The same from the document's side, which the fuzzer does not reach through
// base64.
func FuzzParseDocument(f *testing.F) {
	for _, d := range []signedop.Document{order(), containerOrder()} {
		f.Add(encode(f, d))
	}
	for _, c := range documentCases() {
		f.Add(c.bend(f, documentText(encode(f, order()), c.old)))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		raw := rawEnvelope(payload)
		if u := checkParsed(t, raw); u != nil && !bytes.Equal(encode(t, u.UnverifiedDocument()), payload) {
			t.Fatalf("printed back differently: %s", payload)
		}
	})
}

// No change of a single byte gives another order that anyone signed: each is
// refused, or leaves the same order with no more signers than before.
func TestNoSingleByteChangesAnOrder(t *testing.T) {
	signers := trustedSigners(t)[:2] // Ed25519; an ECDSA signature can be turned into its other form
	trusted := keysOf(signers...)
	raw := seal(t, order(), signers...)
	before, _ := parse(t, raw).Verify(trusted)
	verified := 0
	try := func(changed []byte) {
		u := checkParsed(t, changed)
		if u == nil {
			return
		}
		after, outcomes := u.Verify(trusted)
		if after == nil {
			return
		}
		verified++
		if !reflect.DeepEqual(after.Document(), before.Document()) || after.Digest() != before.Digest() {
			t.Fatalf("another order verified: %s", changed)
		}
		for _, k := range after.Keys() {
			if !slices.Contains(before.Keys(), k) {
				t.Fatalf("key %v, %v signed only after a change: %s", k, outcomes, changed)
			}
		}
		if len(after.Keys()) >= len(before.Keys()) {
			t.Fatalf("a change went unnoticed: %s", changed)
		}
	}
	for i := range raw {
		for bit := range 8 {
			changed := bytes.Clone(raw)
			changed[i] ^= 1 << bit
			try(changed)
		}
		try(slices.Delete(bytes.Clone(raw), i, i+1))
		for _, b := range []byte{raw[i], ' ', '0', '\\', 0} {
			try(slices.Insert(bytes.Clone(raw), i, b))
		}
	}
	if verified == 0 {
		t.Error("no change left a valid signature: the test shows nothing about those that do")
	}
}
