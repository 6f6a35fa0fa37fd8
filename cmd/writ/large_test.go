package main

import (
	"bytes"
	"crypto/ed25519"
	"path/filepath"
	"testing"
	"time"

	"writ/adapters/pebblestore"
	"writ/domain/signedop"
	"writ/projections/audit"
)

// The writs of a large ledger are those that signedop would have made.
func TestLargeLedgerSealsAsSignedopDoes(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	s, err := signedop.NewRawSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	l := &largeLedger{ops: 100, id: benchLedger, from: time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC), signers: []signedop.Signer{s, s, s, s}}
	d := l.story(50).document()
	want, err := signedop.Seal(d, s)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got := largeSeal(payload, s); !bytes.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// A filler that was killed leaves a ledger that the next one finishes, and in
// which an audit finds nothing.
func TestALargeLedgerIsFilledToItsEnd(t *testing.T) {
	const ops, killedAt = 3000, 1700
	dir := filepath.Join(t.TempDir(), "large")
	killed := newLargeLedger(t, dir, ops)
	killed.init(t)
	store, err := pebblestore.Open(killed.ledger(), pebblestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	killed.begin(store)
	killed.enforce(t, store)
	for i := range killedAt {
		// The ops that were under way when it was killed.
		if i > killedAt-fillers && i%7 == 0 {
			continue
		}
		if _, err := killed.append(t.Context(), store, i); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	l := fillLedger(t, dir, ops)
	if store, err = pebblestore.Open(l.ledger(), pebblestore.Options{}); err != nil {
		t.Fatal(err)
	}
	r, err := audit.Verify(t.Context(), audit.OfStore(store), audit.Options{})
	if err != nil || !r.Sound {
		t.Fatalf("got %v and %+v, want a sound record", err, r.Findings)
	}
	got := r.Counts.Ops
	if got.Succeeded != ops*90/100 || got.Voided != ops*2/100 || got.InFlight != largeInFlight || r.Counts.Policies != 1 {
		t.Errorf("got %+v, want %d ops of which 90 %% succeeded and 2 %% were voided, %d in flight, one policy", r.Counts, ops, largeInFlight)
	}
	mark, found, err := l.mark().Seen(t.Context())
	if err != nil || !found || uint64(mark.Position) != r.Counts.Events {
		t.Errorf("got the mark at %d (found %v, %v), want the last of %d events", mark.Position, found, err, r.Counts.Events)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if again := fillLedger(t, dir, ops); !again.from.Equal(l.from) {
		t.Errorf("filled again: it begins at %s, want it left as it is, from %s", again.from, l.from)
	}
}
