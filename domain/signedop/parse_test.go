package signedop_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"writ/domain/op"
	"writ/domain/signedop"
)

func TestParseShowsWhatWasSealed(t *testing.T) {
	for name, doc := range map[string]signedop.Document{
		"a virtual machine":      order(),
		"a container":            containerOrder(),
		"an expected plan":       withDoc(order(), func(d *signedop.Document) { d.Expect.Plan = strings.Repeat("0a", 32) }),
		"a guest without disks":  withDoc(order(), func(d *signedop.Document) { d.Expect.Volumes = []string{} }),
		"letters beyond ASCII":   withDoc(order(), func(d *signedop.Document) { d.Reason = "retire web-3 für Jürgen – 東京 😀" }),
		"a reason with <&> in":   withDoc(order(), func(d *signedop.Document) { d.Reason = `"a" < \b & c > /d` }),
		"a container, no config": withDoc(containerOrder(), func(d *signedop.Document) { d.Expect.MACs = []string{} }),
	} {
		t.Run(name, func(t *testing.T) {
			alice, bob := rawSigner(t, "alice"), sshSigner(t, "bob")
			raw := seal(t, doc, alice, bob)
			u := parse(t, raw)
			payload := encode(t, doc)
			if got := u.UnverifiedDocument(); !reflect.DeepEqual(got, doc) {
				t.Errorf("document\n got %+v\nwant %+v", got, doc)
			}
			if got := u.Nonce(); got != doc.Nonce {
				t.Errorf("nonce: got %s, want %s", got, doc.Nonce)
			}
			if got, want := u.Digest(), op.Digest(sha256.Sum256(payload)); got != want {
				t.Errorf("digest: got %s, want %s", got, want)
			}
			if got := u.Raw(); !bytes.Equal(got, raw) {
				t.Errorf("raw: got %s, want %s", got, raw)
			}
			want := []signedop.SignatureInfo{{KeyID: alice.Key().Fingerprint}, {KeyID: bob.Key().Fingerprint}}
			if got := u.Signatures(); !reflect.DeepEqual(got, want) {
				t.Errorf("signatures: got %v, want %v", got, want)
			}
		})
	}
}

func withDoc(d signedop.Document, change func(*signedop.Document)) signedop.Document {
	change(&d)
	return d
}

// What a caller does with what it was given never reaches the writ.
func TestValuesShareNothing(t *testing.T) {
	alice := rawSigner(t, "alice")
	raw := seal(t, order(), alice)
	received := bytes.Clone(raw)
	u := parse(t, received)
	clear(received)
	v, _ := u.Verify(keysOf(alice))
	for _, d := range []signedop.Document{u.UnverifiedDocument(), v.Document()} {
		d.Target.Guest.VMID = 999
		*d.Params.Purge = true
		d.Expect.Volumes[0] = "local-lvm:vm-999-disk-0"
	}
	clear(u.Raw())
	clear(v.Keys())
	if got := u.UnverifiedDocument(); !reflect.DeepEqual(got, order()) {
		t.Errorf("unverified document changed: %+v", got)
	}
	if got := v.Document(); !reflect.DeepEqual(got, order()) {
		t.Errorf("verified document changed: %+v", got)
	}
	if got := u.Raw(); !bytes.Equal(got, raw) {
		t.Errorf("raw changed: %s", got)
	}
	if got := v.Keys()[0].Fingerprint; got != alice.Key().Fingerprint {
		t.Errorf("keys changed: %q", got)
	}
}

// malformedCase bends one right text in one place.
type malformedCase struct {
	name     string
	old, new string // old is replaced once by new
	field    string
	why      string // part of it
}

func (c malformedCase) bend(tb testing.TB, text []byte) []byte {
	tb.Helper()
	if !bytes.Contains(text, []byte(c.old)) {
		tb.Fatalf("%q is not in %s", c.old, text)
	}
	return bytes.Replace(text, []byte(c.old), []byte(c.new), 1)
}

func (c malformedCase) check(t *testing.T, raw []byte) {
	t.Helper()
	c.checkWith(t, orders(), raw)
}

func (c malformedCase) checkWith(t *testing.T, k docKind, raw []byte) {
	t.Helper()
	u, err := k.parse(raw)
	m, ok := errors.AsType[*signedop.MalformedError](err)
	if !ok {
		t.Fatalf("got %v, %v, want a *MalformedError", u, err)
	}
	if m.Field != c.field || !strings.Contains(m.Why, c.why) {
		t.Errorf("got field %s, why %q\nwant field %s, why with %q", m.Field, m.Why, c.field, c.why)
	}
	if len(err.Error()) > 300 || strings.Contains(err.Error(), testNonce) {
		t.Errorf("error shows too much: %v", err)
	}
	for _, b := range []byte(err.Error()) {
		if b < ' ' || b == 0x7f {
			t.Errorf("error with a control character: %q", err)
		}
	}
}

func documentCases() []malformedCase {
	const uuid = `"smbios_uuid":"5c6f0a1e-7b2d-4c3f-8a4e-9d0b1c2f3a5e"`
	return []malformedCase{
		{"white space", `{"audience"`, `{ "audience"`, "document", "byte 1: not in the canonical form"},
		{"a line end after it", `"version":1}`, "\"version\":1}\n", "document", "1 more bytes after the end"},
		{"another document after it", `"version":1}`, `"version":1}{}`, "document", "2 more bytes after the end"},
		{"members in another order", `"reason":"OPS-123: retire web-3","requested_by":"alice"`, `"requested_by":"alice","reason":"OPS-123: retire web-3"`, "document", "not in the canonical form"},
		{"an escape that is not needed", `retire`, `\u0072etire`, "document", "not in the canonical form"},
		{"an unknown member", `{"audience"`, `{"also":1,"audience"`, "also", "no such member"},
		{"an unknown member within", `{"node":"pve1"}`, `{"node":"pve1","tag":"x"}`, "target.tag", "no such member"},
		{"a member in another case", `"class"`, `"Class"`, "class", "missing"},
		{"a second member in another case", `"class"`, `"Class":"guest-start","class"`, "Class", "no such member"},
		{"a member twice", `"class":"guest-destroy"`, `"class":"guest-destroy","class":"guest-destroy"`, "class", "duplicate"},
		{"a member twice within", `"vmid":105`, `"vmid":105,"vmid":106`, "target.guest.vmid", "duplicate"},
		{"a member twice by an escape", `"class":"guest-destroy"`, `"cl\u0061ss":"guest-start","class":"guest-destroy"`, "class", "duplicate"},
		{"a missing member", `"reason":"OPS-123: retire web-3",`, ``, "reason", "missing"},
		{"missing params", `"params":{"purge":false},`, ``, "params", "missing"},
		{"null instead of a text", `"role":"operator"`, `"role":null`, "role", "null"},
		{"null for a parameter", `"purge":false`, `"purge":null`, "params.purge", "null"},
		{"null for a list", `"volumes":["local-lvm:vm-105-disk-0"]`, `"volumes":null`, "expect.volumes", "null"},
		{"an empty text that may be left out", `"name":"web-3"`, `"name":""`, "document", "not in the canonical form"},
		{"a fraction", `"vmid":105`, `"vmid":105.0`, "target.guest.vmid", "not a plain integer"},
		{"an exponent", `"vmid":105`, `"vmid":1.05e2`, "target.guest.vmid", "not a plain integer"},
		{"a number too large for JSON", `"vmid":105`, `"vmid":9007199254740993`, "document", "not in the canonical form"},
		{"a number too large for the program", `"vmid":105`, `"vmid":100000000000000000000`, "target.guest.vmid", "an integer"},
		{"minus zero", `"version":1`, `"version":-0`, "document", "not in the canonical form"},
		{"a number in quotes", `"vmid":105`, `"vmid":"105"`, "target.guest.vmid", "a string does not fit, an integer"},
		{"a text where an object belongs", `"params":{"purge":false}`, `"params":"x"`, "params", "a string does not fit, an object"},
		{"an object where a list belongs", `["local-lvm:vm-105-disk-0"]`, `{}`, "expect.volumes", "an object does not fit, an array"},
		{"a number where a boolean belongs", `"purge":false`, `"purge":0`, "params.purge", "this number does not fit, a boolean"},
		{"nested too deeply", `"params":{"purge":false}`, `"params":{"purge":[[[[]]]]}`, "document", "nested deeper"},
		{"invalid UTF-8", `retire`, "re\xfftire", "reason", "invalid UTF-8"},
		{"a lone surrogate", `retire`, `re\ud800tire`, "reason", "surrogate"},
		{"a control character as such", `retire`, "re\ntire", "reason", "byte"},
		{"an escaped line end", `retire`, `re\ntire`, "reason", "U+000A"},
		{"a terminal's escape", `retire`, `re\u001btire`, "reason", "U+001B"},
		{"a change of direction", `retire`, "re\u202etire", "reason", "U+202E"},
		{"a character without width", `retire`, "re\u200btire", "reason", "U+200B"},
		{"text that ends too early", `"version":1}`, `"version":1`, "document", "ends too early"},
		{"no object", `{"audience"`, `[{"audience"`, "document", "JSON object is required"},
		{"version 2", `"version":1`, `"version":2`, "version", "knows only 1"},
		{"a nonce in upper case", testNonce, strings.ToUpper(testNonce), "nonce", "not a lower-case hex digit"},
		{"a short nonce", testNonce, testNonce[:30], "nonce", "at least 32"},
		{"a nonce with white space", testNonce, testNonce[:31] + " ", "nonce", "not a lower-case hex digit"},
		{"an audience without ledger", "lab/3f9c2ab41d6e4a70", "lab", "audience", "ledger id"},
		{"an audience with a short ledger id", "lab/3f9c2ab41d6e4a70", "lab/3f9c", "audience", "ledger id"},
		{"an unknown class", `"guest-destroy"`, `"guest-explode"`, "class", "guest-explode"},
		{"a class in upper case", `"guest-destroy"`, `"GUEST-DESTROY"`, "class", "is none of"},
		{"a class whose expectations can't be said", `"guest-destroy"`, `"restore-overwrite"`, "params.purge", "no such parameter"},
		{"a node with a slash", `"pve1"`, `"pve1/../x"`, "target.node", "not a node name"},
		{"an unknown type of guest", `"qemu"`, `"kvm"`, "target.guest.type", "neither qemu nor lxc"},
		{"a VMID too small", `"vmid":105`, `"vmid":99`, "target.guest.vmid", "not within"},
		{"no guest", `"guest":{"type":"qemu","vmid":105},`, ``, "target.guest", "missing"},
		{"a role that is no name", `"operator"`, `"oper ator"`, "role", "not a name"},
		{"an empty requester", `"alice"`, `""`, "requested_by", "missing or empty"},
		{"a time with an offset", `"2026-11-23T09:00:00Z"`, `"2026-11-23T10:00:00+01:00"`, "not_before", "not a time in UTC"},
		{"a time with offset zero", `"2026-11-23T09:00:00Z"`, `"2026-11-23T09:00:00+00:00"`, "not_before", "not a time in UTC"},
		{"a time with a fraction", `"2026-11-23T09:00:00Z"`, `"2026-11-23T09:00:00.0Z"`, "not_before", "not a time in UTC"},
		{"a time in lower case", `"2026-11-23T09:00:00Z"`, `"2026-11-23t09:00:00z"`, "not_before", "not a time in UTC"},
		{"a date only", `"2026-11-23T10:00:00Z"`, `"2026-11-23"`, "expires_at", "not a time in UTC"},
		{"a day that does not exist", `"2026-11-23T10:00:00Z"`, `"2026-11-31T10:00:00Z"`, "expires_at", "not a time in UTC"},
		{"a leap second", `"2026-11-23T10:00:00Z"`, `"2026-11-23T09:59:60Z"`, "expires_at", "not a time in UTC"},
		{"a time as a number", `"2026-11-23T10:00:00Z"`, `1795428000`, "expires_at", "not a time in UTC"},
		{"an end that is no later", `"2026-11-23T10:00:00Z"`, `"2026-11-23T09:00:00Z"`, "expires_at", "not after not_before"},
		{"an SMBIOS UUID in upper case", "5c6f0a1e", "5C6F0A1E", "expect.smbios_uuid", "not a UUID in lower case"},
		{"a UUID without hyphens", "5c6f0a1e-7b2d-4c3f-8a4e-9d0b1c2f3a5e", "5c6f0a1e7b2d4c3f8a4e9d0b1c2f3a5e", "expect.smbios_uuid", "not a UUID"},
		{"no SMBIOS UUID", uuid + `,`, ``, "expect.smbios_uuid", "must expect its SMBIOS UUID"},
		{"no volumes", `,"volumes":["local-lvm:vm-105-disk-0"]`, ``, "expect.volumes", "must expect its volumes"},
	}
}

func TestParseRefusesDocuments(t *testing.T) {
	payload := encode(t, order())
	for _, c := range documentCases() {
		t.Run(c.name, func(t *testing.T) {
			bent := c.bend(t, documentText(payload, c.old))
			c.check(t, rawEnvelope(bent, signRaw(t, "alice", bent)))
		})
	}
}

// documentText drops the guest where a case is easier to write without it.
func documentText(payload []byte, old string) []byte {
	if old == `{"node":"pve1"}` {
		return bytes.Replace(payload, []byte(`"guest":{"type":"qemu","vmid":105},`), nil, 1)
	}
	return payload
}

func envelopeCases(tb testing.TB) []malformedCase {
	tb.Helper()
	id := rawSigner(tb, "alice").Key().Fingerprint
	b64 := base64.StdEncoding.EncodeToString(encode(tb, order()))
	end := len(b64) - 1
	last := strings.TrimRight(b64, "=")
	return []malformedCase{
		{"white space", `{"payload"`, "{\n\"payload\"", "envelope", "byte 1: not in the canonical form"},
		{"a line end after it", `]}`, "]}\n", "envelope", "1 more bytes after the end"},
		{"members in another order", `"keyid":"` + id + `","sig":"`, `"sig":"AA==","keyid":"` + id + `"},{"keyid":"` + id + `","sig":"`, "envelope", "not in the canonical form"},
		{"a slash that is escaped", "application/", `application\/`, "envelope", "not in the canonical form"},
		{"no key id", `"keyid":"` + id + `",`, ``, "signatures[0].keyid", "not a key's fingerprint"},
		{"an unknown member", `{"payload"`, `{"extra":1,"payload"`, "extra", "no such member"},
		{"an unknown member of a signature", `"sig":`, `"pub":"x","sig":`, "signatures[0].pub", "no such member"},
		{"a payload twice", `{"payload"`, `{"payload":"e30=","payload"`, "payload", "duplicate"},
		{"a payload twice in another case", `{"payload"`, `{"Payload":"e30=","payload"`, "Payload", "no such member"},
		{"no payload", `"payload":"` + b64 + `",`, ``, "payload", "missing"},
		{"no signatures", `"signatures"`, `"signature"`, "signatures", "missing"},
		{"null signatures", `"signatures":[`, `"signatures":null,"x":[`, "signatures", "null"},
		{"an empty payload", b64, ``, "payload", "missing or empty"},
		{"a payload without padding", b64[end:] + `"`, `"`, "payload", "not standard base64"},
		{"a payload with trailing bits", last[len(last)-1:] + b64[len(last):], otherBits(last[len(last)-1]) + b64[len(last):], "payload", "not standard base64"},
		{"a line end in the payload", b64[:8], b64[:4] + `\n` + b64[4:8], "payload", "line end at character 4"},
		{"a payload in URL base64", b64[:4], "_-_-", "payload", "not standard base64"},
		{"another payload type", signedop.PayloadType, "application/vnd.in-toto+json", "payloadType", signedop.PayloadType},
		{"another version of the type", "op.v1", "op.v2", "payloadType", "op.v2"},
		{"a payload type in another case", "application", "Application", "payloadType", "Application"},
		{"an empty key id", id, "", "signatures[0].keyid", "not a key's fingerprint"},
		{"a short fingerprint", id, id[:40], "signatures[0].keyid", "not a key's fingerprint"},
		{"an MD5 fingerprint", id, "MD5:00:11", "signatures[0].keyid", "not a key's fingerprint"},
		{"an empty signature", `"sig":"`, `"sig":"","x":"`, "signatures[0].x", "no such member"},
		{"a signature that is no base64", `"sig":"`, `"sig":"*`, "signatures[0].sig", "not standard base64"},
		{"a signature that is a number", `"signatures":[`, `"signatures":[1,`, "signatures[0]", "this number does not fit, an object"},
	}
}

func TestParseRefusesEnvelopes(t *testing.T) {
	raw := seal(t, order(), rawSigner(t, "alice"))
	for _, c := range envelopeCases(t) {
		t.Run(c.name, func(t *testing.T) { c.check(t, c.bend(t, raw)) })
	}
	for _, c := range []struct{ name, raw, field, why string }{
		{"nothing", "", "envelope", "JSON object is required"},
		{"a list", "[]", "envelope", "JSON object is required"},
		{"null", "null", "envelope", "JSON object is required"},
		{"a document without envelope", string(encode(t, order())), "payload", "missing"},
		{"a byte order mark", "\ufeff" + string(raw), "envelope", "JSON object is required"},
		{"half an envelope", string(raw[:len(raw)/2]), "envelope", "ends too early"},
		{"an unknown member with a hostile name", "{\"\\u001b[2J" + strings.Repeat("x", 9000) + `":1,` + string(raw[1:]), "envelope", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := signedop.Parse([]byte(c.raw))
			m, ok := errors.AsType[*signedop.MalformedError](err)
			if !ok {
				t.Fatalf("got %v, want a *MalformedError", err)
			}
			if c.why != "" && (m.Field != c.field || !strings.Contains(m.Why, c.why)) {
				t.Errorf("got %v, want field %s, why with %q", m, c.field, c.why)
			}
			if len(err.Error()) > 300 || strings.ContainsRune(err.Error(), 0x1b) {
				t.Errorf("error shows too much: %q", err)
			}
		})
	}
}

// otherBits gives a base64 character that differs in its lowest bit.
func otherBits(c byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	return string(alphabet[strings.IndexByte(alphabet, c)^1])
}

func TestParseIsBounded(t *testing.T) {
	payload := encode(t, order())
	one := signRaw(t, "alice", payload)
	many := func(n int, s sig) []byte {
		sigs := make([]sig, n)
		for i := range sigs {
			sigs[i] = s
		}
		return rawEnvelope(payload, sigs...)
	}
	for _, c := range []struct {
		name  string
		raw   []byte
		field string
		why   string
	}{
		{"ten megabytes", bytes.Repeat([]byte("["), 10<<20), "envelope", "10485760 bytes, at most 65536"},
		{"one byte too many", bytes.Repeat([]byte("x"), signedop.MaxEnvelopeBytes+1), "envelope", "65537 bytes"},
		{"a thousand signatures", many(1000, one), "envelope", "at most 65536"},
		{"a thousand tiny signatures", many(1000, sig{"", "AA=="}), "signatures", "1000 signatures, at most 16"},
		{"one signature too many", many(signedop.MaxSignatures+1, one), "signatures", "17 signatures, at most 16"},
		{"sixty thousand brackets", []byte(`{"payload":` + strings.Repeat("[", 60_000)), "envelope", "nested deeper"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := signedop.Parse(c.raw)
			m, ok := errors.AsType[*signedop.MalformedError](err)
			if !ok || m.Field != c.field || !strings.Contains(m.Why, c.why) {
				t.Errorf("got %v, want field %s, why with %q", err, c.field, c.why)
			}
		})
	}
	parse(t, many(signedop.MaxSignatures, one))
}

func TestParseOfHugeInputAllocatesLittle(t *testing.T) {
	huge := bytes.Repeat([]byte("{"), 10<<20)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const times = 100
	for range times {
		if _, err := signedop.Parse(huge); err == nil {
			t.Fatal("parsed")
		}
	}
	runtime.ReadMemStats(&after)
	if per := (after.TotalAlloc - before.TotalAlloc) / times; per > 4096 {
		t.Errorf("%d bytes allocated for each refusal, want at most 4096", per)
	}
}

func TestWritsDoNotShowTheirNonce(t *testing.T) {
	alice := rawSigner(t, "alice")
	u := parse(t, seal(t, order(), alice))
	v, _ := u.Verify(keysOf(alice))
	for _, s := range []string{u.String(), v.String()} {
		if strings.Contains(s, testNonce) || !strings.Contains(s, testNonce[:8]) {
			t.Errorf("got %q, want the nonce shortened", s)
		}
	}
}
