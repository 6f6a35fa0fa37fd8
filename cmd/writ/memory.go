package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// smallMemory is what the service may hold, beside its own code, before it
	// collects garbage for the sake of memory: enough that a ledger of any
	// size is served within 150 MiB, and several times what a small one needs.
	smallMemory = 100 << 20
	// garbagePercent is by how much the heap may grow over what is in use,
	// however small that is.
	garbagePercent = 400
	// memoryEvery is how often it is looked how much is in use.
	memoryEvery = time.Second
)

// keepMemorySmall bounds what the service holds beyond what it uses, until ctx
// ends, and spares it from collecting garbage as long as it holds little. Who
// knows better says so: with GOGC or GOMEMLIMIT in the environment it does
// nothing, and those count as they do for every Go program.
func keepMemorySmall(ctx context.Context) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	limit := memoryLimit(memoryInUse())
	debug.SetMemoryLimit(limit)
	debug.SetGCPercent(garbagePercent)
	go func() {
		tick := time.NewTicker(memoryEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			// If what is in use grows past the limit between two looks, garbage
			// is collected all the time until the next one, at the cost of at
			// most half of the processors: Go does no more for a limit.
			next := memoryLimit(memoryInUse())
			if off := next - limit; off > limit/32 || off < -limit/32 { // it stops the process for a moment
				limit = next
				debug.SetMemoryLimit(limit)
			}
		}
	}()
}

// memoryLimit gives how many bytes may be held: smallMemory, or half as much
// again as was in use after the last collection, if that is more.
func memoryLimit(heap, beside uint64) int64 {
	return max(smallMemory, int64(beside+heap+heap/2))
}

// memoryInUse gives how many bytes of the heap were in use after the last
// collection, and how many Go holds beside the heap: stacks, and what it keeps
// account with.
func memoryInUse() (heap, beside uint64) {
	s := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"},
	}
	metrics.Read(s)
	beside = s[1].Value.Uint64()
	for _, part := range s[2:] {
		beside -= min(beside, part.Value.Uint64())
	}
	return s[0].Value.Uint64(), beside
}
