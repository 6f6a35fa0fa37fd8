package pebblestore

import (
	"path/filepath"
	"sync/atomic"
	"time"
)

// syncBounds are the upper bounds of the times by which fsyncs are counted: from
// what a disk with a cache of its own answers at once to what makes people look.
var syncBounds = [...]time.Duration{
	50 * time.Microsecond, 100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond,
	50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 10 * time.Second,
}

// syncTimes counts the fsyncs of the log. An append waits for one or two of
// them, and for what else there is to do; what the disk is to blame for is here.
type syncTimes struct {
	within [len(syncBounds) + 1]atomic.Uint64 // the last: longer than all bounds
	total  atomic.Int64                       // nanoseconds
}

func (t *syncTimes) add(took time.Duration) {
	i := 0
	for i < len(syncBounds) && took > syncBounds[i] {
		i++
	}
	t.within[i].Add(1)
	t.total.Add(int64(took))
}

// SyncTimes tells how long the fsyncs of the log took since the ledger was
// opened: how many there were, how many of them took at most so many seconds,
// and the sum of all in seconds. One that failed is not among them, as the store
// has halted then. It costs nothing, and works on a store that has halted or is
// closed. While appends go on the figures may be apart by the newest few.
func (s *Store) SyncTimes() (count uint64, within map[float64]uint64, sum float64) {
	t := &s.guard.syncs
	within = make(map[float64]uint64, len(syncBounds))
	for i := range t.within {
		count += t.within[i].Load()
		if i < len(syncBounds) {
			within[syncBounds[i].Seconds()] = count
		}
	}
	return count, within, time.Duration(t.total.Load()).Seconds()
}

// isLog tells whether a file is a piece of pebble's log, by its name.
func isLog(name string) bool { return filepath.Ext(name) == ".log" }

// timed makes a sync, and counts it if it is one of the log.
func (f *guardedFile) timed(sync func() error) error {
	if !f.log {
		return sync()
	}
	began := time.Now()
	err := sync()
	if err == nil {
		f.guard.syncs.add(time.Since(began))
	}
	return err
}
