package pebblestore_test

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"writ/adapters/pebblestore"
	"writ/domain/eventstore"
)

// What was written takes memory, too, and of the same allowance. It must leave
// something for what is read: of a busy ledger all of the cache was gone once.
func TestWritingLeavesSomeOfTheCache(t *testing.T) {
	const mib = 1 << 20
	o := pebblestore.Options{FS: vfs.NewMem(), CacheBytes: 3 * mib / 2, MemTableBytes: mib}
	if err := pebblestore.Create("ledger", "00000000000000aa", o); err != nil {
		t.Fatal(err)
	}
	s, err := pebblestore.Open("ledger", o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	for n := range 8 * 16 { // tables in memory of full size several times over
		events := proposal("t", n, 1, 64<<10)
		if _, err := s.Append(t.Context(), "s", expectAfter(n), events...); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		for _, err := range s.ReadStream(t.Context(), "s", 0) {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := pebblestore.CachedBytes(s); got < mib/4 || got > 3*mib/2+mib {
		t.Errorf("blocks in memory: got %d bytes, want some, and no more than allowed", got)
	}
}

func expectAfter(n int) eventstore.Expected {
	if n == 0 {
		return eventstore.NoStream()
	}
	return eventstore.At(eventstore.Revision(n - 1))
}
