package pebblestore_test

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"writ/domain/eventstore"
)

// A countingDisk counts the syncs of pieces of the log.
type countingDisk struct {
	vfs.FS

	syncs atomic.Uint64
}

func (d *countingDisk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, c)
	return d.wrap(name, f, err)
}

func (d *countingDisk) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.ReuseForWrite(from, to, c)
	return d.wrap(to, f, err)
}

func (d *countingDisk) wrap(name string, f vfs.File, err error) (vfs.File, error) {
	if err != nil || filepath.Ext(name) != ".log" {
		return f, err
	}
	return &countingFile{f, d}, nil
}

type countingFile struct {
	vfs.File

	disk *countingDisk
}

func (f *countingFile) Sync() error {
	defer f.disk.syncs.Add(1)
	return f.File.Sync()
}

func (f *countingFile) SyncData() error {
	defer f.disk.syncs.Add(1)
	return f.File.SyncData()
}

// Every sync of the log is in the figures, and no other one.
func TestSyncsOfTheLogAreTimed(t *testing.T) {
	began := time.Now()
	disk := &countingDisk{FS: vfs.NewMem()}
	s := create(t, "ledger", small(disk))
	created := disk.syncs.Load()
	if count, _, _ := s.SyncTimes(); count > created {
		t.Errorf("got %d syncs of a ledger just opened, want at most the %d that the disk has made", count, created)
	}
	const appends = 400 // past a flush: the log goes on in another file
	for i := range appends {
		stream := eventstore.StreamID(fmt.Sprintf("op-%d", i))
		if _, err := s.Append(t.Context(), stream, eventstore.NoStream(), proposal(stream, i, 1, 900)...); err != nil {
			t.Fatal(err)
		}
	}
	before := disk.syncs.Load() - created
	count, within, sum := s.SyncTimes()
	if count < appends || count < before {
		t.Errorf("got %d syncs, want one for each of %d appends at least, and the %d that the disk has made since", count, appends, before)
	}
	if all := time.Since(began).Seconds(); sum <= 0 || sum > all {
		t.Errorf("got %v s in all, want more than none and at most the %v s since the beginning", sum, all)
	}
	bounds := slices.SortedFunc(maps.Keys(within), cmp.Compare[float64])
	for i := 1; i < len(bounds); i++ {
		if within[bounds[i]] < within[bounds[i-1]] {
			t.Errorf("got %d within %v s and %d within %v s, want no fewer within more", within[bounds[i-1]], bounds[i-1], within[bounds[i]], bounds[i])
		}
	}
	if n := within[bounds[len(bounds)-1]]; n != count {
		t.Errorf("got %d within %v s, want all %d", n, bounds[len(bounds)-1], count)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if closed, _, _ := s.SyncTimes(); closed < count {
		t.Errorf("closed: got %d syncs, want the %d of before at least", closed, count)
	}
}
