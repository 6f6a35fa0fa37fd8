package op_test

import (
	"strings"
	"testing"

	"writ/domain/op"
)

func TestParseNonce(t *testing.T) {
	tests := []struct {
		name, in string
		ok       bool
	}{
		{"128 bits", strings.Repeat("0f", 16), true},
		{"512 bits", strings.Repeat("0f", 64), true},
		{"fewer than 128 bits", strings.Repeat("0f", 15), false},
		{"more than 512 bits", strings.Repeat("0f", 65), false},
		{"half a byte", strings.Repeat("0f", 16) + "0", false},
		{"upper case", strings.Repeat("0F", 16), false},
		{"not hex", strings.Repeat("0g", 16), false},
		{"a separator", strings.Repeat("0f", 15) + "/.", false},
		{"white space", " " + strings.Repeat("0f", 15) + "0", false},
		{"nothing", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n, err := op.ParseNonce(tt.in)
			if (err == nil) != tt.ok {
				t.Fatalf("got nonce %q, error %v; want accepted: %v", n, err, tt.ok)
			}
			back, ok := op.NonceOfStream("op-" + tt.in)
			if ok != tt.ok {
				t.Errorf("as a stream's name: got accepted %v, want %v", ok, tt.ok)
			}
			if tt.ok && (string(n) != tt.in || back != n || n.Stream() != "op-"+tt.in) {
				t.Errorf("got %q, as stream %q, and from it %q; want %q", n, n.Stream(), back, tt.in)
			}
		})
	}
}

func TestNonceOfOtherStreams(t *testing.T) {
	for _, s := range []string{"", "op-", "gate-i-1", string(nonce), "OP-" + string(nonce), "upid-" + string(nonce), " op-" + string(nonce)} {
		if n, ok := op.NonceOfStream(s); ok {
			t.Errorf("%q: got nonce %q, want none", s, n)
		}
	}
}

func TestShortNonceIsOfNoUse(t *testing.T) {
	if got, want := nonce.Short(), "6f1c9a0e…"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDigestsHaveOneForm(t *testing.T) {
	var d op.Digest
	good := strings.Repeat("0a", 32)
	if err := d.UnmarshalText([]byte(good)); err != nil || d.String() != good {
		t.Errorf("got %s (error %v), want %s", d, err, good)
	}
	for _, bad := range []string{"", strings.ToUpper(good), good[1:], good + "0", " " + good[1:], strings.Repeat("g", 64)} {
		if err := d.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q: got no error, want one", bad)
		}
		var c op.Claim
		if err := c.UnmarshalText([]byte(bad)[:min(len(bad), 33)]); err == nil {
			t.Errorf("%q as a claim: got no error, want one", bad)
		}
	}
}

// An op id may be shown: it differs per op, attempt and claim, and does not
// contain the nonce.
func TestOpID(t *testing.T) {
	other := claim
	other[0] ^= 1
	ids := []string{
		op.OpID(nonce, 1, claim), op.OpID(nonce, 2, claim), op.OpID(nonce, 1, other),
		op.OpID(op.Nonce(strings.Repeat("f", 32)), 1, claim),
	}
	seen := make(map[string]bool)
	for _, id := range ids {
		if seen[id] || len(id) != 20 || strings.Contains(id, string(nonce[:8])) {
			t.Errorf("got op id %q, want 20 digits, unlike any other, without the nonce", id)
		}
		seen[id] = true
	}
	if again := op.OpID(nonce, 1, claim); again != ids[0] {
		t.Errorf("got %s, the second time %s", ids[0], again)
	}
}
