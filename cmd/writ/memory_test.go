package main

import (
	"runtime"
	"runtime/debug"
	"testing"
)

// What is in use may always grow by half before all of it is looked through
// again; as long as it is little, by more.
func TestMemoryLimit(t *testing.T) {
	tests := map[string]struct {
		heap, beside uint64
		want         int64
	}{
		"nothing yet":      {0, 0, smallMemory},
		"little":           {20 << 20, 8 << 20, smallMemory},
		"just little":      {60 << 20, 10 << 20, smallMemory},
		"more than little": {80 << 20, 10 << 20, 130 << 20},
		"much":             {1 << 30, 64 << 20, 3<<29 + 64<<20},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := memoryLimit(tt.heap, tt.beside); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

// What is read of the runtime is what is there: an unknown name would give
// nothing, and a limit that is far too low.
func TestMemoryInUse(t *testing.T) {
	held := make([]byte, 32<<20)
	runtime.GC()
	heap, beside := memoryInUse()
	runtime.KeepAlive(held)
	if heap < uint64(len(held)) || heap > 1<<30 || beside == 0 || beside > 1<<30 {
		t.Errorf("got %d bytes of heap in use and %d beside it, want at least the %d that are held, and something", heap, beside, len(held))
	}
}

// Whoever runs the service has the last word.
func TestMemoryIsLeftToTheEnvironment(t *testing.T) {
	settings := func() [2]int64 {
		percent := debug.SetGCPercent(100)
		debug.SetGCPercent(percent)
		return [2]int64{int64(percent), debug.SetMemoryLimit(-1)}
	}
	had := settings()
	t.Cleanup(func() {
		debug.SetGCPercent(int(had[0]))
		debug.SetMemoryLimit(had[1])
	})
	for _, c := range []struct {
		name, variable, value string
		changes               bool
	}{
		{"GOGC", "GOGC", "75", false},
		{"GOMEMLIMIT", "GOMEMLIMIT", "1GiB", false},
		{"neither", "", "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("GOGC", "")
			t.Setenv("GOMEMLIMIT", "")
			if c.variable != "" {
				t.Setenv(c.variable, c.value)
			}
			keepMemorySmall(t.Context())
			got := settings()
			if changed := got != had; changed != c.changes {
				t.Errorf("settings: got %v after %v, want changed: %t", got, had, c.changes)
			}
			if c.changes && (got[0] != garbagePercent || got[1] < smallMemory) {
				t.Errorf("settings: got %v, want %d %% and at least %d bytes", got, garbagePercent, smallMemory)
			}
		})
	}
}
