package op_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"testing/quick"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"writ/domain/op"
)

// A vector is one link of a chain, for anyone who checks a ledger with a
// program of their own.
type vector struct {
	Ledger   string `json:"ledger"`
	Stream   string `json:"stream"`
	Revision uint64 `json:"revision"`
	Type     string `json:"type"`
	Data     string `json:"data"` // standard base64
	Prev     string `json:"prev"` // hex
	Chain    string `json:"chain"`
}

// chainByHand is the definition again, straight from the documentation and
// without any code of the package.
func chainByHand(t *testing.T, v vector) string {
	t.Helper()
	data, err := base64.StdEncoding.DecodeString(v.Data)
	if err != nil {
		t.Fatal(err)
	}
	prev, err := hex.DecodeString(v.Prev)
	if err != nil {
		t.Fatal(err)
	}
	in := []byte("writ-chain-v1")
	for _, field := range []string{
		v.Ledger, v.Stream, string(binary.BigEndian.AppendUint64(nil, v.Revision)), v.Type, string(data), string(prev),
	} {
		in = binary.BigEndian.AppendUint64(in, uint64(len(field)))
		in = append(in, field...)
	}
	sum := sha256.Sum256(in)
	return hex.EncodeToString(sum[:])
}

func vectors(t *testing.T) []vector {
	t.Helper()
	var all []vector
	add := func(ledger, stream string, revision uint64, typ string, data []byte, prev op.Digest) op.Digest {
		chain := op.Chain(ledger, stream, revision, typ, data, prev)
		all = append(all, vector{
			ledger, stream, revision, typ, base64.StdEncoding.EncodeToString(data), prev.String(), chain.String(),
		})
		return chain
	}
	_, records := given(t, started(1, 0), launching(1, 1), running(1, 2), succeeded(1, 3))
	var prev op.Digest
	for _, r := range records {
		prev = add(ledger, nonce.Stream(), r.Revision, r.Type, r.Data, prev)
	}
	add(ledger, "policy", 0, "PolicyLoaded", nil, op.Digest{})
	add(ledger, "gate-i-1", 1<<63, "OpRefused", []byte{0, 0xff, '\n'}, op.Digest{1})
	add("", "", 0, "", nil, op.Digest{})
	return all
}

func TestChainVectors(t *testing.T) {
	want := vectors(t)
	text, err := json.Marshal(want, jsontext.WithIndent("  "))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "chain.json", append(text, '\n'))

	file, err := os.ReadFile("testdata/chain.json")
	if err != nil {
		t.Fatal(err)
	}
	var stored []vector
	if err := json.Unmarshal(file, &stored); err != nil {
		t.Fatal(err)
	}
	if len(stored) != len(want) {
		t.Fatalf("got %d vectors, want %d", len(stored), len(want))
	}
	for i, v := range stored {
		if got := chainByHand(t, v); got != v.Chain {
			t.Errorf("vector %d: computed by hand %s, want %s", i, got, v.Chain)
		}
	}
}

// The metadata that is stored carries the chain as defined.
func TestStoredChainIsTheDefined(t *testing.T) {
	_, records := given(t, started(1, 0), launching(1, 1), running(1, 2), failed(1, 3, op.EffectNone), started(2, 4))
	prev := op.Digest{}.String()
	for _, r := range records {
		var m op.Metadata
		if err := op.Unmarshal(r.Metadata, &m); err != nil {
			t.Fatal(err)
		}
		want := chainByHand(t, vector{
			Ledger: ledger, Stream: nonce.Stream(), Revision: r.Revision, Type: r.Type,
			Data: base64.StdEncoding.EncodeToString(r.Data), Prev: prev,
		})
		if m.Chain.String() != want {
			t.Errorf("revision %d: got chain %s, want %s", r.Revision, m.Chain, want)
		}
		prev = want
	}
}

// A place is where an event stands and what it says.
type place struct {
	Ledger, Stream string
	Revision       uint64
	Type           string
	Data           []byte
	Prev           op.Digest
}

func (p place) chain() op.Digest {
	return op.Chain(p.Ledger, p.Stream, p.Revision, p.Type, p.Data, p.Prev)
}

func (p place) id() op.ID { return op.EventID(p.Stream, p.Revision, p.Type, p.Data) }

// Whatever is changed, the hashes change; whatever is moved from one field
// into the next, too.
func TestHashesDependOnEverything(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	check := func(p place) bool {
		changes := map[string]func(*place){
			"ledger":   func(q *place) { q.Ledger += "0" },
			"stream":   func(q *place) { q.Stream += "0" },
			"revision": func(q *place) { q.Revision++ },
			"type":     func(q *place) { q.Type += "0" },
			"data":     func(q *place) { q.Data = append(slices.Clone(q.Data), 0) },
			"prev":     func(q *place) { q.Prev[rng.IntN(32)] ^= 1 << rng.IntN(8) },
			"a bit of the data": func(q *place) {
				q.Data = append(slices.Clone(q.Data), 7)
				p := slices.Clone(q.Data)
				p[rng.IntN(len(p))] ^= 1 << rng.IntN(8)
				q.Data = p
			},
		}
		for name, f := range changes {
			q := p
			f(&q)
			if q.chain() == p.chain() {
				t.Errorf("%s: got the same chain for %+v and %+v", name, p, q)
				return false
			}
			if in := name != "ledger" && name != "prev"; in == (q.id() == p.id()) {
				t.Errorf("%s: got ids %s and %s, want them to differ: %v", name, p.id(), q.id(), in)
				return false
			}
		}
		// The boundary between stream and type, and between type and data.
		q := p
		q.Stream, q.Type = p.Stream+p.Type, ""
		if p.Type != "" && (q.chain() == p.chain() || q.id() == p.id()) {
			t.Errorf("got the same hash with the type moved into the stream: %+v", p)
			return false
		}
		q = p
		q.Type, q.Data = "", append([]byte(p.Type), p.Data...)
		if p.Type != "" && (q.chain() == p.chain() || q.id() == p.id()) {
			t.Errorf("got the same hash with the type moved into the data: %+v", p)
			return false
		}
		return p.chain() == p.chain() && p.id() == p.id() //nolint:staticcheck // asked twice on purpose
	}
	if err := quick.Check(check, &quick.Config{MaxCount: 300}); err != nil {
		t.Error(err)
	}
}

// An id is a UUID of version 8, so that any store takes it.
func TestEventIDIsAUUID(t *testing.T) {
	check := func(p place) bool {
		id := p.id()
		return id[6]>>4 == 8 && id[8]>>6 == 2
	}
	if err := quick.Check(check, nil); err != nil {
		t.Error(err)
	}
	id := op.ID{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0x8d, 0xef, 0x81, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef}
	if got, want := id.String(), "01234567-89ab-8def-8123-456789abcdef"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Two that claim the same op for the same attempt at the same instant, and
// differ in nothing but the claim, never share an event id: so no store can
// take one's append for a repetition of the other's.
func TestClaimantsNeverShareAnEventID(t *testing.T) {
	check := func(a, b op.Claim) bool {
		if a == b {
			return true
		}
		var recs [2]op.Record
		for i, c := range []op.Claim{a, b} {
			o := op.New(ledger, nonce)
			rec, _, err := o.Propose(change(started(1, 0), func(e *op.Started) {
				e.Claim, e.OpID = c, op.OpID(nonce, 1, c)
			}))
			if err != nil {
				t.Fatal(err)
			}
			recs[i] = rec
		}
		return recs[0].Revision == recs[1].Revision && recs[0].ID != recs[1].ID
	}
	if err := quick.Check(check, &quick.Config{MaxCount: 300}); err != nil {
		t.Error(err)
	}
	near := claim
	near[15] ^= 1
	if !check(claim, near) {
		t.Error("two claims that differ in one bit share an id")
	}
}

// Repeating one's own append gives the same bytes and the same id.
func TestAClaimantRepeatsItself(t *testing.T) {
	_, a := given(t, started(1, 0), launching(1, 1))
	_, b := given(t, started(1, 0), launching(1, 1))
	for i := range a {
		if a[i].ID != b[i].ID || string(a[i].Data) != string(b[i].Data) || string(a[i].Metadata) != string(b[i].Metadata) {
			t.Errorf("revision %d: got different records for the same event", i)
		}
	}
}

// The metadata is put together by hand, and must be what Marshal would store.
func TestMetadataIsEncodedAsMarshalDoes(t *testing.T) {
	for name, correlation := range map[string]string{
		"nonce": string(nonce), "none": "", "name": "policy", "quoted": `a"b\c`, "control": "a\x00\n\x7f",
		"html": "<&>", "line ends of Unicode": "\u2028\u2029", "beyond ASCII": "ä😀",
	} {
		for _, tail := range []op.Tail{{}, {Next: 3, Last: op.ID{1, 2, 15: 0xff}, Chain: op.DigestOf([]byte("before"))}} {
			rec, _, err := tail.Seal(ledger, "s", correlation, "T", []byte("{}"))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			var meta op.Metadata
			if err := op.Unmarshal(rec.Metadata, &meta); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			want, err := op.Marshal(meta)
			if err != nil || string(rec.Metadata) != string(want) || meta.Correlation != correlation {
				t.Errorf("%s: got %s, want %s (error %v)", name, rec.Metadata, want, err)
			}
		}
	}
	if rec, _, err := (op.Tail{}).Seal(ledger, "s", "\xff", "T", nil); err == nil {
		t.Errorf("got %s of what is not UTF-8, want an error", rec.Metadata)
	}
}
