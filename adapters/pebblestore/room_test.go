package pebblestore_test

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"writ/adapters/pebblestore"
	"writ/domain/eventstore"
)

// A fullDisk takes so many bytes; of the write that does not fit, as many as
// there is room for.
type fullDisk struct {
	vfs.FS

	mu   sync.Mutex // guards left
	left int
}

func (d *fullDisk) make(room int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left = room
}

func (d *fullDisk) take(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n = min(n, d.left)
	d.left -= n
	return n
}

func (d *fullDisk) wrap(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &fullFile{File: f, disk: d}, nil
}

func (d *fullDisk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if d.take(1) == 0 {
		return nil, &os.PathError{Op: "create", Path: name, Err: syscall.ENOSPC}
	}
	return d.wrap(d.FS.Create(name, c))
}

func (d *fullDisk) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return d.wrap(d.FS.ReuseForWrite(from, to, c))
}

type fullFile struct {
	vfs.File
	disk *fullDisk
}

func (f *fullFile) Write(b []byte) (int, error) {
	fits := f.disk.take(len(b))
	n, err := f.File.Write(b[:fits])
	if err == nil && fits < len(b) {
		err = syscall.ENOSPC
	}
	return n, err
}

// A disk that fills up at any place: the append that hits it has an unknown
// outcome and says why, later ones the same, what was acknowledged is read;
// and when there is room again the ledger is opened as if nothing had been.
func TestDiskFull(t *testing.T) {
	step, filled := 1777, 0
	if testing.Short() {
		step = 9973
	}
	for room := 1; ; room += step {
		disk := &fullDisk{FS: vfs.NewCrashableMem(), left: 1 << 30}
		o := small(disk)
		if err := pebblestore.Create("ledger", ledgerID, o); err != nil {
			t.Fatal(err)
		}
		s := reopen(t, o)
		disk.make(room)
		acks, failed := crowd(t, s)
		if !failed {
			if s.Health().Err == nil && s.Close() == nil {
				break
			}
			continue // full behind the last append
		}
		filled++
		<-s.Halted()
		_, err := s.Append(t.Context(), "op-later", eventstore.NoStream(), proposal("op-later", 0, 1, 10)...)
		if !errors.Is(err, syscall.ENOSPC) || eventstore.Definite(err) || !errors.Is(s.Health().Err, syscall.ENOSPC) {
			t.Errorf("room for %d bytes: a later append got %v, health %v, want that the disk is full", room, err, s.Health().Err)
		}
		if err := survived(s, acks); err != nil {
			t.Errorf("room for %d bytes: reading on: %v", room, err)
		}
		if err := s.Close(); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("room for %d bytes: closing says %v, want that the disk is full", room, err)
		}
		if again, err := pebblestore.Open("ledger", o); err == nil {
			_ = again.Close() // halted, or there was just enough
		} else if corrupt(err) {
			t.Errorf("room for %d bytes: opened while full: %v", room, err)
		}

		disk.make(1 << 30)
		again := reopen(t, o)
		if err := survived(again, acks); err != nil {
			t.Errorf("room for %d bytes: %d appends acknowledged: %v", room, len(acks), err)
		}
		goesOn(t, again, "afterwards")
		if err := again.Close(); err != nil {
			t.Errorf("room for %d bytes: %v", room, err)
		}
	}
	if filled < 10 {
		t.Errorf("the disk filled up %d times, want more", filled)
	}
}

func TestRoom(t *testing.T) {
	s := create(t, fmt.Sprintf("%s/ledger", t.TempDir()), pebblestore.Options{})
	free, total, err := s.Room()
	if err != nil || free == 0 || free > total {
		t.Errorf("got %d of %d bytes free, %v", free, total, err)
	}
}
