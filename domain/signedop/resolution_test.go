package signedop_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"writ/domain/op"
	"writ/domain/signedop"
)

// settlement is a resolution that is right in every respect.
func settlement() signedop.Resolution {
	return signedop.Resolution{
		Version:     1,
		Nonce:       testNonce,
		Audience:    "lab/3f9c2ab41d6e4a70",
		Attempt:     1,
		Revision:    1,
		Verdict:     signedop.VerdictFailed,
		Effect:      op.EffectUnknown,
		Role:        "resolver",
		RequestedBy: "alice",
		NotBefore:   time.Date(2026, 11, 23, 11, 0, 0, 0, time.UTC),
		ExpiresAt:   time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC),
		Reason:      "OPS-124: pve1 burnt down",
	}
}

func withRes(r signedop.Resolution, change func(*signedop.Resolution)) signedop.Resolution {
	change(&r)
	return r
}

func encodeResolution(tb testing.TB, r signedop.Resolution) []byte {
	tb.Helper()
	payload, err := r.Encode()
	if err != nil {
		tb.Fatal(err)
	}
	return payload
}

func sealResolution(tb testing.TB, r signedop.Resolution, signers ...signedop.Signer) []byte {
	tb.Helper()
	raw, err := signedop.SealResolution(r, signers...)
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

func parseResolution(tb testing.TB, raw []byte) *signedop.UnverifiedResolution {
	tb.Helper()
	u, err := signedop.ParseResolution(raw)
	if err != nil {
		tb.Fatalf("parse: %v\n%s", err, raw)
	}
	return u
}

func TestResolutionIsCanonical(t *testing.T) {
	const want = `{"attempt":1,"audience":"lab/3f9c2ab41d6e4a70","effect":"unknown","expires_at":"2026-11-23T12:00:00Z",` +
		`"nonce":"6f1c9a0e5d7b4c2f8a3e1d0c9b8a7f6e","not_before":"2026-11-23T11:00:00Z","reason":"OPS-124: pve1 burnt down",` +
		`"requested_by":"alice","revision":1,"role":"resolver","verdict":"failed","version":1}`
	if got := encodeResolution(t, settlement()); string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestParseResolutionShowsWhatWasSealed(t *testing.T) {
	alice, bob := rawSigner(t, "alice"), sshSigner(t, "bob")
	raw := sealResolution(t, settlement(), alice, bob)
	received := bytes.Clone(raw)
	u := parseResolution(t, received)
	clear(received)
	v, _ := u.Verify(keysOf(alice, bob))
	digest := op.Digest(sha256.Sum256(encodeResolution(t, settlement())))
	if got := u.UnverifiedResolution(); !reflect.DeepEqual(got, settlement()) {
		t.Errorf("unverified\n got %+v\nwant %+v", got, settlement())
	}
	if got := v.Resolution(); !reflect.DeepEqual(got, settlement()) {
		t.Errorf("verified\n got %+v\nwant %+v", got, settlement())
	}
	if u.Nonce() != testNonce || u.Digest() != digest || v.Digest() != digest {
		t.Errorf("got nonce %s, digests %s and %s, want %s, %s", u.Nonce(), u.Digest(), v.Digest(), op.Nonce(testNonce), digest)
	}
	if !bytes.Equal(u.Raw(), raw) || !u.IsOf(raw) || u.IsOf(raw[1:]) {
		t.Errorf("raw: got %s, want %s", u.Raw(), raw)
	}
	var keys []string
	for _, k := range v.Keys() {
		keys = append(keys, k.Fingerprint)
	}
	if want := []string{alice.Key().Fingerprint, bob.Key().Fingerprint}; !slices.Equal(keys, want) || len(u.Signatures()) != 2 {
		t.Errorf("keys: got %v of %v, want %v", keys, u.Signatures(), want)
	}
	for _, s := range []string{u.String(), v.String()} {
		if strings.Contains(s, testNonce) || !strings.Contains(s, testNonce[:8]) || !strings.Contains(s, "resolution") {
			t.Errorf("got %q, want a resolution with the nonce shortened", s)
		}
	}
}

func TestCheckResolution(t *testing.T) {
	const beyondJSON = 1 << 53
	res := func(change func(*signedop.Resolution)) signedop.Resolution { return withRes(settlement(), change) }
	verdict := func(v signedop.Verdict, e op.Effect) signedop.Resolution {
		return res(func(r *signedop.Resolution) { r.Verdict, r.Effect = v, e })
	}
	for _, c := range []struct {
		name  string
		res   signedop.Resolution
		field string // empty if it is right
		why   string
	}{
		{"failed, effect unknown", settlement(), "", ""},
		{"failed, effect partial", verdict(signedop.VerdictFailed, op.EffectPartial), "", ""},
		{"failed, effect none", verdict(signedop.VerdictFailed, op.EffectNone), "", ""},
		{"succeeded, effect done", verdict(signedop.VerdictSucceeded, op.EffectDone), "", ""},
		{"a later attempt", res(func(r *signedop.Resolution) { r.Attempt, r.Revision = 3, 7 }), "", ""},
		{"the largest numbers", res(func(r *signedop.Resolution) { r.Attempt, r.Revision = beyondJSON-1, beyondJSON-1 }), "", ""},

		{"nothing at all", signedop.Resolution{}, "version", "knows only 1"},
		{"version 2", res(func(r *signedop.Resolution) { r.Version = 2 }), "version", "knows only 1"},
		{"no nonce", res(func(r *signedop.Resolution) { r.Nonce = "" }), "nonce", "at least 32"},
		{"no ledger", res(func(r *signedop.Resolution) { r.Audience = "lab" }), "audience", "ledger id"},
		{"no attempt", res(func(r *signedop.Resolution) { r.Attempt = 0 }), "attempt", "count from 1"},
		{"a negative attempt", res(func(r *signedop.Resolution) { r.Attempt = -1 }), "attempt", "count from 1"},
		{"an attempt beyond JSON", res(func(r *signedop.Resolution) { r.Attempt = beyondJSON }), "attempt", "9007199254740992"},
		{"no revision, or that of a claim", res(func(r *signedop.Resolution) { r.Revision = 0 }), "revision", "after the claim"},
		{"a revision beyond JSON", res(func(r *signedop.Resolution) { r.Revision = beyondJSON }), "revision", "9007199254740992"},
		{"no verdict", verdict("", op.EffectUnknown), "verdict", "neither succeeded nor failed"},
		{"another verdict", verdict("voided", op.EffectNone), "verdict", "neither succeeded nor failed"},
		{"no effect", verdict(signedop.VerdictFailed, ""), "effect", "is none of"},
		{"another effect", verdict(signedop.VerdictSucceeded, "some"), "effect", "is none of"},
		{"succeeded, effect none", verdict(signedop.VerdictSucceeded, op.EffectNone), "effect", "only if its effect is done"},
		{"succeeded, effect partial", verdict(signedop.VerdictSucceeded, op.EffectPartial), "effect", "only if its effect is done"},
		{"succeeded, effect unknown", verdict(signedop.VerdictSucceeded, op.EffectUnknown), "effect", "only if its effect is done"},
		{"failed, effect done", verdict(signedop.VerdictFailed, op.EffectDone), "effect", "has succeeded"},
		{"no role", res(func(r *signedop.Resolution) { r.Role = "" }), "role", "missing or empty"},
		{"no requester", res(func(r *signedop.Resolution) { r.RequestedBy = "" }), "requested_by", "missing or empty"},
		{"a start in another zone", res(func(r *signedop.Resolution) { r.NotBefore = r.NotBefore.In(time.FixedZone("CET", 3600)) }), "not_before", "not a time in UTC"},
		{"an end at the start", res(func(r *signedop.Resolution) { r.ExpiresAt = r.NotBefore }), "expires_at", "not after"},
		{"no reason", res(func(r *signedop.Resolution) { r.Reason = "" }), "reason", "missing or empty"},
		{"a reason of two lines", res(func(r *signedop.Resolution) { r.Reason = "a\nb" }), "reason", "U+000A"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.res.Check()
			payload, encodeErr := c.res.Encode()
			if (err == nil) != (encodeErr == nil) || (payload == nil) != (err != nil) {
				t.Errorf("Check gives %v, Encode %q, %v", err, payload, encodeErr)
			}
			if c.field == "" {
				if err != nil {
					t.Errorf("got %v, want nil", err)
				} else if got := parseResolution(t, sealResolution(t, c.res)).UnverifiedResolution(); got != c.res {
					t.Errorf("read back %+v, want %+v", got, c.res)
				}
				return
			}
			m, ok := errors.AsType[*signedop.MalformedError](err)
			if !ok || m.Field != c.field || !strings.Contains(m.Why, c.why) {
				t.Errorf("got %v, want field %s, why with %q", err, c.field, c.why)
			}
			if raw, err := signedop.SealResolution(c.res); err == nil {
				t.Errorf("sealed: %s", raw)
			}
		})
	}
}

// resolutionCases are those in which a resolution differs from an op document,
// and one of each way to write the same thing otherwise.
func resolutionCases() []malformedCase {
	return []malformedCase{
		{"white space", `{"attempt"`, `{ "attempt"`, "resolution", "byte 1: not in the canonical form"},
		{"a line end after it", `"version":1}`, "\"version\":1}\n", "resolution", "1 more bytes after the end"},
		{"members in another order", `"verdict":"failed","version":1`, `"version":1,"verdict":"failed"`, "resolution", "not in the canonical form"},
		{"an unknown member", `{"attempt"`, `{"also":1,"attempt"`, "also", "no such member"},
		{"a class", `"effect"`, `"class":"guest-destroy","effect"`, "class", "no such member"},
		{"a member in another case", `"verdict"`, `"Verdict"`, "verdict", "missing"},
		{"a second member in another case", `"verdict"`, `"Verdict":"succeeded","verdict"`, "Verdict", "no such member"},
		{"a verdict twice", `"verdict":"failed"`, `"verdict":"failed","verdict":"succeeded"`, "verdict", "duplicate"},
		{"no attempt", `"attempt":1,`, ``, "attempt", "missing"},
		{"no revision", `"revision":1,`, ``, "revision", "missing"},
		{"no effect", `"effect":"unknown",`, ``, "effect", "missing"},
		{"null instead of a revision", `"revision":1`, `"revision":null`, "revision", "null"},
		{"a revision in quotes", `"revision":1`, `"revision":"1"`, "revision", "a string does not fit, an integer"},
		{"a negative revision", `"revision":1`, `"revision":-1`, "revision", "this number does not fit, an integer of at most 64 bits that is not negative"},
		{"a fraction of a revision", `"revision":1`, `"revision":1.5`, "revision", "not a plain integer"},
		{"a revision too large for JSON", `"revision":1`, `"revision":9007199254740993`, "resolution", "not in the canonical form"},
		{"a revision too large for the program", `"revision":1`, `"revision":18446744073709551616`, "revision", "an integer"},
		{"revision 0", `"revision":1`, `"revision":0`, "revision", "after the claim"},
		{"attempt 0", `"attempt":1`, `"attempt":0`, "attempt", "count from 1"},
		{"minus zero", `"attempt":1`, `"attempt":-0`, "resolution", "not in the canonical form"},
		{"a verdict in capitals", `"failed"`, `"FAILED"`, "verdict", "neither succeeded nor failed"},
		{"a verdict that the effect contradicts", `"failed"`, `"succeeded"`, "effect", "only if its effect is done"},
		{"an effect that the verdict contradicts", `"unknown"`, `"done"`, "effect", "has succeeded"},
		{"an unknown effect", `"unknown"`, `"maybe"`, "effect", "is none of"},
		{"a nonce in upper case", testNonce, strings.ToUpper(testNonce), "nonce", "not a lower-case hex digit"},
		{"a time with an offset", `"2026-11-23T11:00:00Z"`, `"2026-11-23T12:00:00+01:00"`, "not_before", "not a time in UTC"},
		{"a change of direction", `burnt`, "burnt\u202e", "reason", "U+202E"},
		{"version 2", `"version":1`, `"version":2`, "version", "knows only 1"},
		{"text that ends too early", `"version":1}`, `"version":1`, "resolution", "ends too early"},
	}
}

func TestParseRefusesResolutions(t *testing.T) {
	payload := encodeResolution(t, settlement())
	alice := rawSigner(t, "alice")
	for _, c := range resolutionCases() {
		t.Run(c.name, func(t *testing.T) {
			bent := c.bend(t, payload)
			s := sigOf(alice.Key(), must(t, alice, paeOf(signedop.ResolutionPayloadType, bent)))
			c.checkWith(t, resolutions(), rawEnvelopeOf(signedop.ResolutionPayloadType, bent, s))
		})
	}
	for _, c := range []struct {
		name, raw, field, why string
	}{
		{"nothing", "", "envelope", "JSON object is required"},
		{"ten megabytes", strings.Repeat("{", 10<<20), "envelope", "10485760 bytes, at most 65536"},
		{"a resolution without envelope", string(payload), "payload", "missing"},
		{"another type", string(rawEnvelopeOf("application/vnd.writ.resolution.v2+json", payload)), "payloadType", "resolution.v1+json is required"},
	} {
		t.Run(c.name, func(t *testing.T) {
			u, err := signedop.ParseResolution([]byte(c.raw))
			m, ok := errors.AsType[*signedop.MalformedError](err)
			if u != nil || !ok || m.Field != c.field || !strings.Contains(m.Why, c.why) {
				t.Errorf("got %v, %v, want field %s, why with %q", u, err, c.field, c.why)
			}
		})
	}
}

func TestSealCosignAttachOfAResolution(t *testing.T) {
	alice, bob, carol := rawSigner(t, "alice"), sshSigner(t, "bob"), rawSigner(t, "carol")
	token := resolutions().inNamespace(newFIDO(t, "token", 0x05))
	raw := sealResolution(t, settlement())
	toSign, err := signedop.PAEOf(raw)
	if err != nil {
		t.Fatal(err)
	}
	if want := paeOf(signedop.ResolutionPayloadType, encodeResolution(t, settlement())); !bytes.Equal(toSign, want) {
		t.Fatalf("PAE: got %q, want %q", toSign, want)
	}
	for _, s := range []signedop.Signer{alice, bob} {
		if raw, err = signedop.Cosign(raw, s); err != nil {
			t.Fatal(err)
		}
	}
	if raw, err = signedop.Attach(raw, token.Key(), armored(t, must(t, token, toSign))); err != nil {
		t.Fatal(err)
	}
	if raw, err = signedop.Attach(raw, carol.Key(), must(t, carol, toSign)); err != nil {
		t.Fatal(err)
	}
	v, outcomes := parseResolution(t, raw).Verify(keysOf(alice, bob, token, carol))
	if v == nil || len(v.Keys()) != 4 || !v.Keys()[2].PINVerified {
		t.Errorf("got %v, want four valid signatures, the third with PIN", outcomes)
	}
	if _, err := signedop.Cosign(raw, alice); !errors.Is(err, signedop.ErrAlreadySigned) {
		t.Errorf("cosigned again: got %v, want %v", err, signedop.ErrAlreadySigned)
	}
}

// OpenSSH's own tool can sign a resolution, if told that it is one.
func TestSSHKeygenSignsResolutions(t *testing.T) {
	dir := t.TempDir()
	if out, err := sshKeygen(t, dir, nil, "-q", "-t", "ed25519", "-N", "", "-C", "alice", "-f", "key"); err != nil {
		t.Fatalf("make a key: %v\n%s", err, out)
	}
	key, err := signedop.ParseKey(string(readFile(t, filepath.Join(dir, "key.pub"))), signedop.SSH)
	if err != nil {
		t.Fatal(err)
	}
	raw := sealResolution(t, settlement())
	toSign, err := signedop.PAEOf(raw)
	if err != nil {
		t.Fatal(err)
	}
	for namespace, ok := range map[string]bool{"writ-resolution@v1": true, "writ-op@v1": false} {
		out := t.TempDir()
		writeFile(t, out, "message", toSign)
		if text, err := sshKeygen(t, out, nil, "-Y", "sign", "-f", filepath.Join(dir, "key"), "-n", namespace, "message"); err != nil {
			t.Fatalf("sign: %v\n%s", err, text)
		}
		signed, err := signedop.Attach(raw, key, readFile(t, filepath.Join(out, "message.sig")))
		if (err == nil) != ok {
			t.Errorf("namespace %s: got %v, want it attached %t", namespace, err, ok)
		}
		if err == nil {
			if v, outcomes := parseResolution(t, signed).Verify([]signedop.Key{key}); v == nil {
				t.Errorf("got %v, want a valid signature", outcomes)
			}
		} else if !strings.Contains(err.Error(), "-n writ-resolution@v1") {
			t.Errorf("got %v, want the remedy named", err)
		}
	}
}

// makeResolutionVectors states each case with the verdict it must get.
func makeResolutionVectors(t *testing.T) []vector {
	t.Helper()
	k := resolutions()
	alice, bob, mallory := rawSigner(t, "alice"), sshSigner(t, "bob"), rawSigner(t, "mallory")
	token, ecToken := k.inNamespace(newFIDO(t, "token", 0x01)), k.inNamespace(newFIDOECDSA(t, "ec token", 0x05))
	trusted := trustedVectorKeys(t)
	wellFormed := func(name string, res signedop.Resolution, outcomes []vectorOutcome, sigs ...[]byte) vector {
		v := wellFormedVector(name, k.payloadType, encodeResolution(t, res), outcomes, sigs...)
		v.Trusted, v.Nonce = trusted, res.Nonce
		return v
	}
	touched, both := out(token, valid), out(ecToken, valid)
	touched.Touched, both.Touched, both.PINVerified = true, true, true
	payload := encodeResolution(t, settlement())
	m, asOrder := paeOf(k.payloadType, payload), pae(payload)
	sign := func(s signedop.Signer, message []byte) []byte { return must(t, s, message) }
	done := withRes(settlement(), func(r *signedop.Resolution) {
		r.Attempt, r.Revision, r.Verdict, r.Effect = 2, 4, signedop.VerdictSucceeded, op.EffectDone
	})
	none := withRes(settlement(), func(r *signedop.Resolution) { r.Effect = op.EffectNone })

	vs := []vector{
		wellFormed("no signature yet", settlement(), nil),
		wellFormed("one raw signature", settlement(), outs(out(alice, valid)), sign(alice, m)),
		wellFormed("four people", settlement(), outs(out(alice, valid), out(bob, valid), touched, both),
			sign(alice, m), sign(bob, m), sign(token, m), sign(ecToken, m)),
		wellFormed("succeeded", done, outs(out(alice, valid)), sign(alice, paeOf(k.payloadType, encodeResolution(t, done)))),
		wellFormed("failed without effect", none, outs(out(alice, valid)), sign(alice, paeOf(k.payloadType, encodeResolution(t, none)))),
		wellFormed("a stranger's beside a valid one", settlement(), outs(out(mallory, unknown), out(alice, valid)), sign(mallory, m), sign(alice, m)),
		wellFormed("one key twice", settlement(), outs(out(alice, valid), out(alice, repeated)), sign(alice, m), sign(alice, m)),
		wellFormed("over another resolution", none, outs(out(alice, bad)), sign(alice, m)),
		wellFormed("over the same bytes as an order", settlement(), outs(out(alice, bad)), sign(alice, asOrder)),
		wellFormed("ssh, over the same bytes as an order", settlement(), outs(out(bob, bad)), sign(bob, asOrder)),
		wellFormed("ssh, the namespace of orders", settlement(), outs(out(bob, bad)), sshBlob("bob", signedop.SSHNamespace, "", "sha512", m)),
		wellFormed("FIDO, the namespace of orders", settlement(), outs(out(token, bad)), sign(newFIDO(t, "token", 0x01), m)),
	}
	for _, c := range resolutionCases() {
		bent := c.bend(t, payload)
		raw := rawEnvelopeOf(k.payloadType, bent, sigOf(alice.Key(), sign(alice, paeOf(k.payloadType, bent))))
		vs = append(vs, vector{Name: "resolution: " + c.name, Envelope: raw, Result: vectorMalformed, Field: c.field})
	}
	ordered := encode(t, order())
	relabelled := rawEnvelopeOf(k.payloadType, ordered, sigOf(alice.Key(), sign(alice, paeOf(k.payloadType, ordered))))
	return append(vs,
		vector{Name: "a signed order", Envelope: seal(t, order(), alice), Result: vectorMalformed, Field: "payloadType"},
		vector{Name: "an order as a resolution", Envelope: relabelled, Result: vectorMalformed, Field: "attempt"},
	)
}
