package pebblestore_test

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"writ/adapters/pebblestore"
	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
)

const ledgerID = "3f9c2ab41d6e4a70"

var _ eventstore.Store = (*pebblestore.Store)(nil)

// small keeps little in memory, so that tests reach tables and compactions.
func small(disk vfs.FS) pebblestore.Options {
	return pebblestore.Options{FS: disk, CacheBytes: 1 << 20, MemTableBytes: 64 << 10}
}

func create(t *testing.T, dir string, o pebblestore.Options) *pebblestore.Store {
	t.Helper()
	if err := pebblestore.Create(dir, ledgerID, o); err != nil {
		t.Fatal(err)
	}
	return open(t, dir, o)
}

// open opens a ledger, and closes it when the test ends. Closing it before is
// fine.
func open(t *testing.T, dir string, o pebblestore.Options) *pebblestore.Store {
	t.Helper()
	s, err := pebblestore.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestContract(t *testing.T) {
	for name, o := range map[string]func() pebblestore.Options{
		"in memory": func() pebblestore.Options { return small(vfs.NewMem()) },
		"on disk":   func() pebblestore.Options { return pebblestore.Options{} },
	} {
		t.Run(name, func(t *testing.T) {
			dirs := make(map[eventstore.Store]func(*testing.T) eventstore.Store)
			storetest.Suite{
				Rounds: 60,
				Open: func(t *testing.T) eventstore.Store {
					o, dir := o(), t.TempDir()+"/ledger"
					s := create(t, dir, o)
					dirs[s] = func(t *testing.T) eventstore.Store {
						again := open(t, dir, o)
						dirs[again] = dirs[s]
						return again
					}
					return s
				},
				Reopen: func(t *testing.T, s eventstore.Store) eventstore.Store {
					if err := s.(*pebblestore.Store).Close(); err != nil {
						t.Fatal(err)
					}
					return dirs[s](t)
				},
			}.Run(t)
		})
	}
}
