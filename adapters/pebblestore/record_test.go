package pebblestore_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"writ/adapters/pebblestore"
	"writ/domain/eventstore"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var sample = eventstore.Proposed{
	ID: eventstore.EventID{1, 2, 3, 15: 0xff}, Type: "OpStarted",
	Data: []byte(`{"op_id":"x"}`), Metadata: []byte(`{"chain":"00"}`),
}

var sampleTime = time.Date(2026, 11, 23, 9, 0, 0, 123456789, time.UTC)

// What is on disk stays readable: this file must never change, only grow.
func TestStoredForm(t *testing.T) {
	key, place := pebblestore.EventKey("op-6f1c\x00a", 3), pebblestore.PositionKey(258)
	got := fmt.Sprintf("event key   %x\nevent       %x\nplace key   %x\nplace       %x\n",
		key, pebblestore.EncodeEvent(key, 258, sampleTime, sample), place, pebblestore.EncodePlace(place, "op-6f1c\x00a", 3))
	const name = "testdata/stored-v1.golden"
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	e, err := pebblestore.DecodeEvent(key, pebblestore.EncodeEvent(key, 258, sampleTime, sample))
	if err != nil || e.Stream != "op-6f1c\x00a" || e.Revision != 3 || e.Position != 258 || !e.RecordedAt.Equal(sampleTime) ||
		e.ID != sample.ID || e.Type != sample.Type || !bytes.Equal(e.Data, sample.Data) || !bytes.Equal(e.Metadata, sample.Metadata) {
		t.Errorf("got %+v, %v back", e, err)
	}
}

// No single bit of a record, nor of its key, can change unnoticed.
func TestEveryBitIsCovered(t *testing.T) {
	key := pebblestore.EventKey("op-1", 3)
	value := pebblestore.EncodeEvent(key, 258, sampleTime, sample)
	place := pebblestore.PositionKey(258)
	at := pebblestore.EncodePlace(place, "op-1", 3)
	flip := func(b []byte, i int) []byte {
		b = slices.Clone(b)
		b[i/8] ^= 1 << (i % 8)
		return b
	}
	var corrupt *eventstore.CorruptError
	for i := range 8 * len(value) {
		if _, err := pebblestore.DecodeEvent(key, flip(value, i)); !errors.As(err, &corrupt) {
			t.Errorf("bit %d of an event: got error %v, want a *CorruptError", i, err)
		}
	}
	for i := range 8 * len(key) {
		if _, err := pebblestore.DecodeEvent(flip(key, i), value); !errors.As(err, &corrupt) {
			t.Errorf("bit %d of an event's key: got error %v, want a *CorruptError", i, err)
		}
	}
	for i := range 8 * len(at) {
		if _, _, _, err := pebblestore.DecodePlace(place, flip(at, i)); !errors.As(err, &corrupt) {
			t.Errorf("bit %d of a place: got error %v, want a *CorruptError", i, err)
		}
	}
	for i := range 8 * len(place) {
		if _, _, _, err := pebblestore.DecodePlace(flip(place, i), at); !errors.As(err, &corrupt) {
			t.Errorf("bit %d of a place's key: got error %v, want a *CorruptError", i, err)
		}
	}
}

// The order of keys is the order of revisions, and no stream's keys lie among
// another's.
func TestKeysOfStreamsStayTogether(t *testing.T) {
	names := []eventstore.StreamID{"a", "a\x00", "a\x00\x01", "a\x00\xff", "a\x01", "aa", "a\xff", "b"}
	var keys [][]byte
	owner := make(map[string]eventstore.StreamID)
	for _, n := range names {
		var before []byte
		for _, r := range []eventstore.Revision{0, 1, 255, 256, 1 << 32, 1<<64 - 1} {
			k := pebblestore.EventKey(n, r)
			if bytes.Compare(before, k) >= 0 {
				t.Errorf("%q@%d sorts before the revision before it", n, r)
			}
			keys, before, owner[string(k)] = append(keys, k), k, n
		}
	}
	slices.SortFunc(keys, bytes.Compare)
	seen := make(map[eventstore.StreamID]bool)
	for i, k := range keys {
		n := owner[string(k)]
		if i > 0 && owner[string(keys[i-1])] == n {
			continue
		}
		if seen[n] {
			t.Errorf("keys of %q lie on both sides of another stream's", n)
		}
		seen[n] = true
	}
}

func FuzzDecode(f *testing.F) {
	key := pebblestore.EventKey("op-1", 3)
	f.Add(key, pebblestore.EncodeEvent(key, 258, sampleTime, sample))
	place := pebblestore.PositionKey(258)
	f.Add(place, pebblestore.EncodePlace(place, "op-1", 3))
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, key, value []byte) {
		var corrupt *eventstore.CorruptError
		if e, err := pebblestore.DecodeEvent(key, value); err != nil && !errors.As(err, &corrupt) {
			t.Errorf("got error %v, want a *CorruptError", err)
		} else if err == nil && !bytes.Equal(pebblestore.EventKey(e.Stream, e.Revision), key) {
			t.Errorf("key %x was taken for %s@%d", key, e.Stream, e.Revision)
		}
		if _, _, _, err := pebblestore.DecodePlace(key, value); err != nil && !errors.As(err, &corrupt) {
			t.Errorf("got error %v, want a *CorruptError", err)
		}
	})
}
