package main

import (
	"os"
	"runtime/debug"
)

// garbagePercent is by how much the heap may grow over what is in use before
// the service collects garbage. Half of that are blocks of the ledger and the
// views in memory, which cost a collection nothing, so it can be frequent.
const garbagePercent = 50

// keepMemorySmall bounds what the service holds beyond what it uses. Who knows
// better says so: GOGC and GOMEMLIMIT count as they do for every Go program.
func keepMemorySmall() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbagePercent)
	}
}
