package signedop_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"writ/domain/op"
	"writ/domain/signedop"
)

// checkParsed holds for all bytes and each kind of document: either a
// *MalformedError of bearable length, or what prints back to the same bytes.
// What is of one kind is never of another, and what is read the quick way is
// what a closer look finds.
func checkParsed(t *testing.T, k docKind, raw []byte) envelopeView {
	t.Helper()
	u, err := k.parse(raw)
	if err != nil {
		if _, ok := errors.AsType[*signedop.MalformedError](err); !ok || len(err.Error()) > 400 {
			t.Fatalf("got %T of %d bytes, want a short *MalformedError", err, len(err.Error()))
		}
		return nil // so neither way took it
	}
	if err := signedop.ReadBothWays(raw); err != nil {
		t.Fatalf("%v: %s", err, raw)
	}
	for _, other := range docKinds() {
		if _, err := other.parse(raw); err == nil && other.name != k.name {
			t.Fatalf("%s was also taken for %s: %s", k.name, other.name, raw)
		}
	}
	var env dsse.Envelope
	if err := json.Unmarshal(raw, &env); err != nil {
		t.Fatal(err)
	}
	var sigs []sig
	for _, s := range env.Signatures {
		sigs = append(sigs, sig{s.KeyID, s.Sig})
	}
	if again := rawEnvelopeOf(k.payloadType, k.payload(t, u), sigs...); !bytes.Equal(again, raw) || !bytes.Equal(u.Raw(), raw) {
		t.Fatalf("printed back differently\n got %s\nwant %s", again, raw)
	}
	return u
}

// signedDigests are the documents that the trusted keys have signed in the
// vectors.
func signedDigests(tb testing.TB, k docKind, vs []vector) map[op.Digest]bool {
	tb.Helper()
	digests := make(map[op.Digest]bool)
	for _, v := range vs {
		if v.Result != vectorSigned {
			continue
		}
		u, err := k.parse(v.Envelope)
		if err != nil {
			tb.Fatal(err)
		}
		digests[u.Digest()] = true
	}
	return digests
}

// Whatever parses prints back to the same bytes, and nothing verifies but what
// was signed.
func fuzzParse(f *testing.F, k docKind) {
	f.Helper()
	for _, other := range docKinds() {
		for _, v := range readVectors(f, other.vectors) {
			f.Add(v.Envelope)
		}
	}
	trusted, signed := keysOf(trustedSigners(f)...), signedDigests(f, k, readVectors(f, k.vectors))
	f.Fuzz(func(t *testing.T, raw []byte) {
		u := checkParsed(t, k, raw)
		if u == nil {
			return
		}
		if v, _ := k.verify(u, trusted); v != nil && !signed[v.Digest()] {
			t.Fatalf("verified though nobody signed it: %s", raw)
		}
	})
}

func FuzzParse(f *testing.F) { fuzzParse(f, orders()) }

func FuzzParseResolution(f *testing.F) { fuzzParse(f, resolutions()) }

// The same from the document's side, which the fuzzer does not reach through
// base64.
func fuzzPayload(f *testing.F, k docKind) {
	f.Helper()
	f.Fuzz(func(t *testing.T, payload []byte) {
		if u := checkParsed(t, k, rawEnvelopeOf(k.payloadType, payload)); u != nil && !bytes.Equal(k.payload(t, u), payload) {
			t.Fatalf("printed back differently: %s", payload)
		}
	})
}

func FuzzParseDocument(f *testing.F) {
	for _, d := range []signedop.Document{order(), containerOrder()} {
		f.Add(encode(f, d))
	}
	for _, c := range documentCases() {
		f.Add(c.bend(f, documentText(encode(f, order()), c.old)))
	}
	f.Add(encodeResolution(f, settlement()))
	fuzzPayload(f, orders())
}

func FuzzParseResolutionPayload(f *testing.F) {
	f.Add(encodeResolution(f, settlement()))
	for _, c := range resolutionCases() {
		f.Add(c.bend(f, encodeResolution(f, settlement())))
	}
	f.Add(encode(f, order()))
	fuzzPayload(f, resolutions())
}

// No change of a single byte gives another order or resolution that anyone
// signed: each is refused, or leaves the same one with no more signers than
// before.
func TestNoSingleByteChangesWhatWasSigned(t *testing.T) {
	for _, k := range docKinds() {
		t.Run(k.name, func(t *testing.T) { noSingleByteChanges(t, k) })
	}
}

func noSingleByteChanges(t *testing.T, k docKind) {
	t.Helper()
	signers := trustedSigners(t)[:2] // Ed25519; an ECDSA signature can be turned into its other form
	trusted := keysOf(signers...)
	raw := k.sample(t, signers...)
	whole := checkParsed(t, k, raw)
	before, _ := k.verify(whole, trusted)
	verified := 0
	try := func(changed []byte) {
		u := checkParsed(t, k, changed)
		if u == nil {
			return
		}
		after, outcomes := k.verify(u, trusted)
		if after == nil {
			return
		}
		verified++
		if !bytes.Equal(k.payload(t, u), k.payload(t, whole)) || after.Digest() != before.Digest() {
			t.Fatalf("something else verified: %s", changed)
		}
		for _, key := range after.Keys() {
			if !slices.Contains(before.Keys(), key) {
				t.Fatalf("key %v, %v signed only after a change: %s", key, outcomes, changed)
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
