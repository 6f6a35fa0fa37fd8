package pebblestore_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"writ/adapters/pebblestore"
	"writ/domain/eventstore"
)

var streams = flag.Int("streams", 1_000_000, "streams in the ledger of BenchmarkLookUp")

func benchStore(b *testing.B) *pebblestore.Store {
	b.Helper()
	dir := filepath.Join(b.TempDir(), "ledger")
	if err := pebblestore.Create(dir, ledgerID, pebblestore.Options{}); err != nil {
		b.Fatal(err)
	}
	s, err := pebblestore.Open(dir, pebblestore.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

// share runs n operations in so many goroutines.
func share(b *testing.B, goroutines int, do func(i int) error) {
	b.Helper()
	b.ResetTimer()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
				if err := do(int(i)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// BenchmarkAppend appends a new stream of one event with 1 KiB, beside what
// the same disk and bytes cost without us: an fsync of a plain file for each,
// and pebble with one Sync for each caller, which pebble groups.
func BenchmarkAppend(b *testing.B) {
	for _, callers := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("store/callers=%d", callers), func(b *testing.B) {
			s := benchStore(b)
			share(b, callers, func(i int) error {
				stream := eventstore.StreamID(fmt.Sprintf("op-%032x", i))
				_, err := s.Append(b.Context(), stream, eventstore.NoStream(), proposal(stream, i, 1, 1024)...)
				return err
			})
		})
		b.Run(fmt.Sprintf("floor-pebble/callers=%d", callers), func(b *testing.B) {
			db, err := pebble.Open(b.TempDir(), &pebble.Options{MemTableSize: 16 << 20, Logger: silent{}})
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			share(b, callers, func(i int) error {
				stream := eventstore.StreamID(fmt.Sprintf("op-%032x", i))
				return db.Set([]byte(stream), proposal(stream, i, 1, 1024)[0].Data, pebble.Sync)
			})
		})
	}
	b.Run("floor-file/callers=1", func(b *testing.B) {
		f, err := os.Create(filepath.Join(b.TempDir(), "file"))
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		share(b, 1, func(i int) error {
			_, err := f.Write(proposal("op", i, 1, 1024)[0].Data)
			return errors.Join(err, f.Sync())
		})
	})
}

// BenchmarkLookUp reads from a ledger of -streams streams of 4 events each.
func BenchmarkLookUp(b *testing.B) {
	s := benchStore(b)
	const fillers = 512
	var wg sync.WaitGroup
	for w := range fillers {
		wg.Go(func() {
			for i := w; i < *streams; i += fillers {
				stream := eventstore.StreamID(fmt.Sprintf("op-%032x", uint64(i)*0x9e3779b97f4a7c15))
				if _, err := s.Append(b.Context(), stream, eventstore.NoStream(), proposal(stream, i, 4, 200)...); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	at := func(i int) eventstore.StreamID {
		return eventstore.StreamID(fmt.Sprintf("op-%032x", uint64(i%*streams)*0x9e3779b97f4a7c15))
	}
	// Anywhere among those that exist, as new nonces are: one place alone would
	// soon be in memory.
	missing := func(i int) eventstore.StreamID { return at(i*7919) + "x" }
	b.Run("head of a missing stream", func(b *testing.B) {
		for i := range b.N {
			if _, err := s.Head(b.Context(), missing(i)); !errors.Is(err, eventstore.ErrStreamNotFound) {
				b.Fatal(err)
			}
		}
	})
	b.Run("read a missing stream", func(b *testing.B) {
		for i := range b.N {
			for _, err := range s.ReadStream(b.Context(), missing(i), 0) {
				if !errors.Is(err, eventstore.ErrStreamNotFound) {
					b.Fatal(err)
				}
			}
		}
	})
	b.Run("read an op of 4 events", func(b *testing.B) {
		for i := range b.N {
			n := 0
			for _, err := range s.ReadStream(b.Context(), at(i*7919), 0) {
				if err != nil {
					b.Fatal(err)
				}
				n++
			}
			if n != 4 {
				b.Fatalf("got %d events, want 4", n)
			}
		}
	})
	b.Run("read all, each event", func(b *testing.B) {
		n := 0
		for n < b.N {
			for _, err := range s.ReadAll(b.Context(), eventstore.Cursor{}, eventstore.Filter{}) {
				if err != nil {
					b.Fatal(err)
				}
				if n++; n == b.N {
					break
				}
			}
		}
	})
}
