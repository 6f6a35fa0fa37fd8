package pebblestore

import (
	"math/bits"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// firstMemTableBytes is the size of pebble's first table in memory; each is
// twice as large as the one before, up to the size it is told.
const firstMemTableBytes = 256 << 10

// newCache makes the cache for blocks, and what has to be told of each flush.
//
// Pebble takes the memory of its tables in memory off that of the cache: of the
// one that is written, and of the one that is flushed or kept to be used again.
// Two of full size are more than the cache has, which would then hold nothing at
// all: each look-up of a new op would read the filters of every table from the
// disk. So there is room for one of them beside the blocks. It is kept free
// until they are about to have their full size, so that a process which mostly
// reads holds no more blocks than it was told.
func newCache(o Options) (*pebble.Cache, func(pebble.FlushInfo)) {
	c := pebble.NewCache(o.CacheBytes + int64(o.MemTableBytes))
	release := c.Reserve(int(o.MemTableBytes))
	grown := max(1, int64(bits.Len64(o.MemTableBytes/firstMemTableBytes))-1)
	var flushes atomic.Int64
	return c, func(pebble.FlushInfo) {
		if flushes.Add(1) == grown {
			release()
		}
	}
}
