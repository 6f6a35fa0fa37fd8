package pebblestore_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"writ/adapters/pebblestore"
	"writ/domain/eventstore"
)

// plainDisk refuses to write anywhere but at the end of a file.
type plainDisk struct{ vfs.FS }

type plainFile struct{ vfs.File }

func (d plainDisk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, c)
	return plainFile{f}, err
}

func (plainFile) WriteAt([]byte, int64) (int, error) { return 0, errors.New("not here") }

// The log is laid out ahead where the disk lets it, and nothing depends on it:
// after a crash all that was acknowledged is there, and nothing else.
func TestLogIsLaidOutAhead(t *testing.T) {
	for name, on := range map[string]func(vfs.FS) vfs.FS{
		"laid out": func(d vfs.FS) vfs.FS { return d },
		"refused":  func(d vfs.FS) vfs.FS { return plainDisk{d} },
	} {
		t.Run(name, func(t *testing.T) {
			disk := vfs.NewCrashableMem()
			s := create(t, "ledger", pebblestore.Options{FS: on(disk)})
			const events = 30
			for i := range events {
				stream := eventstore.StreamID(fmt.Sprintf("op-%d", i))
				if _, err := s.Append(t.Context(), stream, eventstore.NoStream(), proposal(stream, i, 1, 900)...); err != nil {
					t.Fatal(err)
				}
			}
			again, err := pebblestore.Open("ledger", pebblestore.Options{FS: disk.CrashClone(vfs.CrashCloneCfg{})})
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			n := 0
			for _, err := range again.ReadAll(t.Context(), eventstore.Cursor{}, eventstore.Filter{}) {
				if err != nil {
					t.Fatal(err)
				}
				n++
			}
			if n != events {
				t.Errorf("got %d events after the crash, want %d", n, events)
			}
			if got, want := longestLog(t, disk) >= 1<<20, name == "laid out"; got != want {
				t.Errorf("a piece of the log is laid out: got %t, want %t", got, want)
			}
		})
	}
}

// longestLog gives the size of the largest piece of the log.
func longestLog(t *testing.T, disk vfs.FS) (size int64) {
	t.Helper()
	names, err := disk.List("ledger")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if kind(name) != "log" {
			continue
		}
		about, err := disk.Stat(disk.PathJoin("ledger", name))
		if err != nil {
			t.Fatal(err)
		}
		size = max(size, about.Size())
	}
	return size
}
