package pebblestore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2/sstable"

	"writ/domain/eventstore"
)

// A table is a file in which pebble keeps keys in order. Once written it never
// changes.
type table struct {
	number            uint64 // grows with each file written
	path              string
	size              uint64
	smallest, largest []byte // its keys, as the manifest has them
	partly            bool   // only some of its keys count
}

// tables lists what the ledger now rests on, the files written last first.
func (s *Store) tables() ([]table, error) {
	levels, err := s.db.SSTables()
	if err != nil {
		return nil, translate(err, "")
	}
	var all []table
	for _, level := range levels {
		for _, t := range level {
			number := uint64(t.BackingSSTNum)
			all = append(all, table{
				number: number, path: s.disk.PathJoin(s.dir, fmt.Sprintf("%06d.sst", number)), size: t.Size,
				smallest: t.Smallest.UserKey, largest: t.Largest.UserKey, partly: t.Virtual,
			})
		}
	}
	slices.SortFunc(all, func(a, b table) int { return cmp.Compare(b.number, a.number) })
	return all, nil
}

// check reads the frame of a table: footer, properties, the top of its index,
// its first and its last block of data, each with its checksum; and compares
// its ends with the manifest. What that costs does not grow with the table.
// If whole, it reads everything else too. An *eventstore.CorruptError says
// that the file is not what was written; after any other error nothing is
// known about it. The size was compared by pebble when it was opened.
func (s *Store) check(ctx context.Context, t table, whole bool) (keys uint64, err error) {
	damaged := func(err error) error {
		return &eventstore.CorruptError{Why: fmt.Sprintf("table %s: %s", t.path, err)}
	}
	file, err := s.disk.Open(t.path)
	if err != nil {
		return 0, err
	}
	readable, err := sstable.NewSimpleReadable(file)
	if err != nil {
		return 0, errors.Join(err, file.Close())
	}
	// From here on a disk that can't read is as bad as one that reads wrong.
	r, err := sstable.NewReader(ctx, readable, s.readTables)
	if err != nil {
		return 0, errors.Join(damaged(err), readable.Close())
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	properties, err := r.ReadPropertiesBlock(ctx, nil)
	if err != nil {
		return 0, damaged(err)
	}
	if !t.partly {
		if err := checkEnds(r, t); err != nil {
			return 0, damaged(err)
		}
	}
	if !whole {
		return properties.NumEntries, nil
	}
	if err := r.ValidateBlockChecksums(); err != nil {
		return 0, damaged(err)
	}
	return properties.NumEntries, nil
}

// checkEnds finds a table that is sound and another one's.
func checkEnds(r *sstable.Reader, t table) error {
	it, err := r.NewIter(sstable.NoTransforms, nil, nil, sstable.AssertNoBlobHandles)
	if err != nil {
		return err
	}
	var first, last []byte
	if kv := it.First(); kv != nil {
		first = bytes.Clone(kv.K.UserKey)
	}
	if kv := it.Last(); kv != nil {
		last = bytes.Clone(kv.K.UserKey)
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return err
	}
	if !bytes.Equal(first, t.smallest) || !bytes.Equal(last, t.largest) {
		return fmt.Errorf("its keys go from %x to %x, in the manifest from %x to %x", first, last, t.smallest, t.largest)
	}
	return nil
}
