package pebblestore_test

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
)

// BenchmarkLayout compares where the event itself is kept: under its stream
// and revision with an index by position, or the other way round. The events
// of an op lie 1000 ops apart in the ledger, as when many run at once. The
// result of reading one op, of reading the whole ledger, and the bytes on disk
// for an op decided for the first.
func BenchmarkLayout(b *testing.B) {
	const ops, events, apart = 100_000, 4, 1000
	for _, byStream := range []bool{true, false} {
		b.Run(fmt.Sprintf("by stream %t", byStream), func(b *testing.B) {
			dir := b.TempDir()
			o := &pebble.Options{MemTableSize: 16 << 20, CacheSize: 64 << 20, Logger: silent{}, FormatMajorVersion: pebble.FormatWALSyncChunks}
			for i := range o.Levels {
				o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
			}
			db, err := pebble.Open(dir, o)
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			streamKey := func(op, r int) []byte {
				return binary.BigEndian.AppendUint64(fmt.Appendf(nil, "eop-%016x%016x\x00\x01", uint64(op)*0x9e3779b97f4a7c15, op), uint64(r))
			}
			positionKey := func(p int) []byte { return binary.BigEndian.AppendUint64([]byte{'p'}, uint64(p)) }
			set := func(k, v []byte) {
				if err := db.Set(k, v, pebble.NoSync); err != nil {
					b.Fatal(err)
				}
			}
			p := 0
			for block := 0; block < ops; block += apart {
				for r := range events {
					for op := block; op < block+apart; op++ {
						p++
						e := proposal("", op*events+r, 1, 300)[0]
						record := append(append([]byte(nil), e.Data...), e.Metadata...)
						if byStream {
							set(streamKey(op, r), record)
							set(positionKey(p), streamKey(op, r))
						} else {
							set(positionKey(p), record)
							set(streamKey(op, r), positionKey(p))
						}
					}
				}
			}
			if err := db.Flush(); err != nil {
				b.Fatal(err)
			}
			if err := db.Compact(b.Context(), []byte{0}, []byte{0xff}, true); err != nil {
				b.Fatal(err)
			}
			follow := func(first []byte) {
				v, closer, err := db.Get(first)
				if err != nil || len(v) == 0 {
					b.Fatalf("get %x: %v", first, err)
				}
				closer.Close()
			}
			scan := func(lower, upper []byte, indirect bool, limit int) int {
				it, err := db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
				if err != nil {
					b.Fatal(err)
				}
				defer it.Close()
				n := 0
				for ok := it.First(); ok && n < limit; ok = it.Next() {
					n++
					if v, err := it.ValueAndErr(); err != nil {
						b.Fatal(err)
					} else if indirect {
						follow(v)
					}
				}
				return n
			}
			b.Run("op", func(b *testing.B) {
				for i := range b.N {
					op := i * 7919 % ops
					if n := scan(streamKey(op, 0), streamKey(op, events), !byStream, events); n != events {
						b.Fatalf("got %d events, want %d", n, events)
					}
				}
				b.ReportMetric(float64(tableBytes(b, dir))/ops, "disk-B/op")
			})
			b.Run("ledger, each event", func(b *testing.B) {
				for n := 0; n < b.N; {
					n += scan([]byte{'p'}, []byte{'q'}, byStream, b.N-n)
				}
			})
		})
	}
}

func tableBytes(b *testing.B, dir string) (sum int64) {
	b.Helper()
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(name) != ".sst" {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return sum
}
