package pebblestore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/vfs"

	"writ/adapters/pebblestore"
	"writ/domain/eventstore"
)

// settledLedger gives the disk of a ledger with tables that no
// compaction is about to replace.
func settledLedger(t *testing.T) (*vfs.MemFS, []acknowledged) {
	t.Helper()
	disk := vfs.NewCrashableMem()
	o := pebblestore.Options{FS: disk}
	if err := pebblestore.Create("ledger", ledgerID, o); err != nil {
		t.Fatal(err)
	}
	var acks []acknowledged
	for life := range 3 { // what the log holds becomes a table at the next opening
		s := reopen(t, o)
		for i := range 40 * min(1, 2-life) {
			stream := eventstore.StreamID(fmt.Sprintf("op-%d-%d", life, i))
			events := proposal(stream, i, 2, 900)
			answer, err := s.Append(t.Context(), stream, eventstore.NoStream(), events...)
			if err != nil {
				t.Fatal(err)
			}
			acks = append(acks, acknowledged{stream, answer, events})
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return disk.CrashClone(vfs.CrashCloneCfg{}), acks
}

// tablesOf gives the paths of a ledger's tables, the one written last first.
func tablesOf(t *testing.T, disk vfs.FS) []string {
	t.Helper()
	names, err := disk.List("ledger")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names) // their numbers count up
	var tables []string
	for _, name := range slices.Backward(names) {
		if strings.HasSuffix(name, ".sst") {
			tables = append(tables, disk.PathJoin("ledger", name))
		}
	}
	return tables
}

// A region is a part of a table's file.
type region struct{ from, to uint64 }

// regions gives the parts of a table by what they hold.
func regions(t *testing.T, disk vfs.FS, path string) map[string]region {
	t.Helper()
	f, err := disk.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		t.Fatal(err)
	}
	r, err := sstable.NewReader(t.Context(), readable, sstable.ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	l, err := r.Layout()
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Data) < 5 || len(l.Index) == 0 || len(l.Filter) != 1 {
		t.Fatalf("the table has %d blocks of data, %d of index, %d filters", len(l.Data), len(l.Index), len(l.Filter))
	}
	of := func(h block.Handle) region { return region{h.Offset, h.Offset + h.Length + block.TrailerLen} }
	return map[string]region{
		"first data":  of(l.Data[0].Handle),
		"inner data":  of(l.Data[len(l.Data)/2].Handle),
		"last data":   of(l.Data[len(l.Data)-1].Handle),
		"index":       of(l.Index[0]),
		"filter":      of(l.Filter[0].Handle),
		"properties":  of(l.Properties),
		"meta index":  of(l.MetaIndex),
		"footer":      {l.Footer.Offset, l.Footer.Offset + l.Footer.Length},
		"footer, end": {l.Footer.Offset + l.Footer.Length - 12, l.Footer.Offset + l.Footer.Length},
	}
}

// overwrite puts other bytes in place of a file, on a copy of the disk.
func overwrite(t *testing.T, disk *vfs.MemFS, path string, content []byte) *vfs.MemFS {
	t.Helper()
	copied := disk.CrashClone(vfs.CrashCloneCfg{})
	f, err := copied.Create(path, vfs.WriteCategoryUnspecified)
	if err == nil {
		_, err = f.Write(content)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return copied
}

// Every byte of a table that is read whole at opening: the ledger is refused,
// or (padding) nothing that counts was changed. Without that reading, the
// frame is refused all the same, and the rest found soon after.
func TestDamagedTable(t *testing.T) {
	disk, acks := settledLedger(t)
	refusedAlways := map[string]bool{
		"first data": true, "last data": true, "index": true, "properties": true, "meta index": true, "footer, end": true,
	}
	tried := 0
	for _, path := range tablesOf(t, disk)[:1] {
		whole := contents(t, disk, path)
		for name, part := range regions(t, disk, path) {
			for i := range uint64(6) {
				at := part.from + i*(part.to-part.from-1)/5
				flipped := bytes.Clone(whole)
				flipped[at] ^= 1 << (i % 8)
				tried++
				what := fmt.Sprintf("%s: byte %d of %d to %d", name, at, part.from, part.to)

				o := small(overwrite(t, disk, path, flipped))
				s, err := pebblestore.Open("ledger", o)
				switch {
				case err == nil && name != "footer":
					t.Errorf("%s: the ledger was opened", what)
				case err == nil: // some of the footer is padding
					if err := survived(s, acks); err != nil {
						t.Errorf("%s: the ledger was opened: %v", what, err)
					}
				case !corrupt(err):
					t.Errorf("%s: got %v, want that it is corrupt", what, err)
				}
				if s != nil {
					if err := s.Close(); err != nil {
						t.Error(err)
					}
				}

				o = small(overwrite(t, disk, path, flipped))
				o.CheckAtOpen = -1
				s, err = pebblestore.Open("ledger", o)
				if err != nil {
					if !corrupt(err) {
						t.Errorf("%s, frame only: got %v, want that it is corrupt", what, err)
					}
					continue
				}
				if refusedAlways[name] {
					t.Errorf("%s, frame only: the ledger was opened", what)
				}
				if name == "footer" {
					if err := s.Close(); err != nil {
						t.Error(err)
					}
					continue
				}
				haltsForDamage(t, what, s, o)
			}
		}
	}
	if tried < 50 {
		t.Errorf("tried %d damages, want more", tried)
	}
}

func corrupt(err error) bool {
	var is *eventstore.CorruptError
	return errors.As(err, &is)
}

// haltsForDamage waits until a store has found what was damaged, and checks
// that it takes no appends, says why, and is not opened again.
func haltsForDamage(t *testing.T, what string, s *pebblestore.Store, o pebblestore.Options) {
	t.Helper()
	select {
	case <-s.Halted():
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: the store has not halted: %+v", what, s.Health())
	}
	if h := s.Health(); !corrupt(s.Why()) || !corrupt(h.Err) {
		t.Errorf("%s: got reason %v, health %+v, want that it is corrupt", what, s.Why(), h)
	}
	_, err := s.Append(context.Background(), "op-new", eventstore.NoStream(), proposal("op-new", 0, 1, 10)...)
	if !corrupt(err) || eventstore.Definite(err) {
		t.Errorf("%s: an append got %v, want that the ledger is corrupt, and nothing definite: it may be repeated", what, err)
	}
	if err := s.Close(); !corrupt(err) {
		t.Errorf("%s: closing says %v, want that it is corrupt", what, err)
	}
	// Although only the frames would be read now, were it not for the note.
	again, err := pebblestore.Open("ledger", o)
	if err == nil {
		_ = again.Close() // it should not be open
	}
	if !corrupt(err) {
		t.Errorf("%s: opening it again gives %v, want that it is corrupt", what, err)
	}
}

// What was found damaged and is sound again (the file was put back) is opened
// after all of it was read.
func TestDamageThatWasRepaired(t *testing.T) {
	disk, acks := settledLedger(t)
	path := tablesOf(t, disk)[0]
	whole := contents(t, disk, path)
	flipped := bytes.Clone(whole)
	inner := regions(t, disk, path)["inner data"]
	flipped[inner.from+10] ^= 1
	o := small(overwrite(t, disk, path, flipped))
	o.CheckAtOpen = -1
	s := reopen(t, o)
	haltsForDamage(t, "inner data", s, o)

	f, err := o.FS.Create(path, vfs.WriteCategoryUnspecified)
	if err == nil {
		_, err = f.Write(whole)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s := reopen(t, o)
		if err := survived(s, acks); err != nil {
			t.Error(err)
		}
		goesOn(t, s, "op-after")
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// The tables of a table that belongs to another place are sound and wrong.
func TestSwappedTables(t *testing.T) {
	disk, _ := settledLedger(t)
	tables := tablesOf(t, disk)
	if len(tables) < 2 {
		t.Fatalf("got tables %v, want several", tables)
	}
	for i, path := range tables {
		other := contents(t, disk, tables[(i+1)%len(tables)])
		_, err := pebblestore.Open("ledger", small(overwrite(t, disk, path, other)))
		if err == nil {
			t.Errorf("%s holds what another table held, and the ledger was opened", path)
		}
	}
}

// A store that halts for damage while it is verified.
func TestVerifyFindsADamagedTable(t *testing.T) {
	disk, _ := settledLedger(t)
	o := small(disk)
	s := reopen(t, o)
	var last pebblestore.Progress
	calls := 0
	if err := s.Verify(t.Context(), func(p pebblestore.Progress) { calls++; last = p }); err != nil {
		t.Fatal(err)
	}
	if calls < 2 || last.Bytes != last.OfBytes || last.Events != last.OfEvents || last.Events != 160 || last.Bytes == 0 {
		t.Errorf("got %d notices of progress, the last %+v", calls, last)
	}
	for _, path := range tablesOf(t, disk) {
		whole := contents(t, disk, path)
		whole[len(whole)/2] ^= 1
		f, err := disk.Create(path, vfs.WriteCategoryUnspecified)
		if err == nil {
			_, err = f.Write(whole)
		}
		if err = errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Verify(t.Context(), nil); !corrupt(err) {
		t.Errorf("got %v, want that it is corrupt", err)
	}
	haltsForDamage(t, "verify", s, o)
}

// reopen opens the ledger that is there; the test closes it.
func reopen(t *testing.T, o pebblestore.Options) *pebblestore.Store {
	t.Helper()
	s, err := pebblestore.Open("ledger", o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
