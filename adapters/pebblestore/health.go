package pebblestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"writ/domain/eventstore"
)

// checkRate is how many bytes a second are read behind opening, on average: a
// disk does a hundred times that.
const checkRate = 32 << 20

// checked is how far the tables that were there at opening have been read.
type checked struct {
	tables, of int
	at         time.Time // when the last one was
	skipped    int       // could not be opened; nothing is known about them
}

// A Health is what is known about the soundness of a ledger's folder.
type Health struct {
	// Err is why the store takes no appends any more; nil while it does. It
	// is an *eventstore.CorruptError if what is stored was found damaged.
	Err error
	// Tables were there at opening; of these Checked were read whole and found
	// sound, the last one At. It takes a second for each 32 MiB.
	Tables, Checked int
	At              time.Time
	// Skipped of them could not be opened, for want of file handles for
	// instance; the log says why.
	Skipped int
}

// Health tells what is known. It costs nothing, and works on a store that has
// halted or is closed.
func (s *Store) Health() Health {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Health{
		Err: s.guard.failed(), Tables: s.checked.of, Checked: s.checked.tables,
		At: s.checked.at, Skipped: s.checked.skipped,
	}
}

// Room gives the bytes that are free, to this process, and those that there
// are in all on the file system of the ledger's folder. An append that finds
// none halts the store, so whoever promises to put the end of what was begun
// on record keeps a reserve.
func (s *Store) Room() (free, total uint64, err error) {
	u, err := s.disk.GetDiskUsage(s.dir)
	if err != nil {
		return 0, 0, fmt.Errorf("ask for the room in %s: %w", s.dir, err)
	}
	return u.AvailBytes, u.TotalBytes, nil
}

// checkTables checks the frame of each table and adds up their keys; it reads
// the tables written last whole, up to so many bytes in all, and gives the
// others.
func (s *Store) checkTables(ctx context.Context, upTo int64) (keys uint64, unread []table, err error) {
	tables, err := s.tables()
	if err != nil {
		return 0, nil, err
	}
	s.checked.of = len(tables)
	for _, t := range tables {
		size := int64(t.size)
		whole := len(unread) == 0 && size <= upTo
		n, err := s.check(ctx, t, whole)
		if err = errors.Join(err, ctx.Err()); err != nil {
			return 0, nil, err
		}
		keys += n
		if !whole {
			unread = append(unread, t)
			continue
		}
		upTo -= size
		s.countChecked()
	}
	return keys, unread, nil
}

// watch reads the tables that opening has not, and leaves a note in the folder
// when anything is found damaged, by whomever. Without it a process that is
// started again would go on until the same block is met again.
func (s *Store) watch(unread []table) {
	defer close(s.watched)
	s.checkSlowly(unread)
	select {
	case <-s.closing:
	case <-s.guard.frozen:
	}
	why := s.guard.failed()
	var corrupt *eventstore.CorruptError
	if !errors.As(why, &corrupt) {
		return
	}
	s.log.Error("ledger damaged: it takes no more appends; restore the folder from a backup", "dir", s.dir, "err", why)
	// If this fails, the next opening may miss the damage; then whoever reads
	// it, or the next run of checkSlowly, stops the store again.
	if err := writeFile(s.disk, s.dir, damageFile, fmt.Appendf(nil, "%s %s\n", time.Now().UTC().Format(time.RFC3339), why)); err != nil {
		s.log.Error("ledger: no note of the damage could be left", "err", err)
	}
}

func (s *Store) checkSlowly(unread []table) {
	for _, t := range unread {
		rest := time.NewTimer(time.Duration(t.size) * time.Second / checkRate)
		select {
		case <-rest.C:
		case <-s.closing:
		case <-s.guard.frozen:
		}
		rest.Stop()
		if s.ending() {
			return
		}
		if known, err := s.checkUsed(context.Background(), t); err != nil {
			_ = s.damaged(err) // told by watch
			if s.guard.failed() == nil {
				s.skipChecked()
				s.log.Warn("ledger: a table could not be checked", "err", err)
			}
		} else if known {
			s.countChecked()
		}
	}
}

// ending tells whether the store is being closed or has halted.
func (s *Store) ending() bool {
	select {
	case <-s.closing:
		return true
	default:
		return s.guard.failed() != nil
	}
}

// checkUsed reads a table whole. It is no harm if the table is gone by now
// because it was replaced: it is not known then whether it was sound.
func (s *Store) checkUsed(ctx context.Context, t table) (known bool, err error) {
	_, err = s.check(ctx, t, true)
	if err != nil && s.unused(t) {
		return false, nil
	}
	return err == nil, err
}

// unused tells whether a table is not part of the ledger any more.
func (s *Store) unused(t table) bool {
	tables, err := s.tables()
	if err != nil {
		return false
	}
	for _, u := range tables {
		if u.number == t.number {
			return false
		}
	}
	return true
}

// damaged halts the store if an error says that what is stored is damaged: an
// append that rests on it could be wrong, and a compaction would carry it on.
// It gives the error back.
func (s *Store) damaged(err error) error {
	var corrupt *eventstore.CorruptError
	if errors.As(err, &corrupt) {
		s.guard.freeze(err)
	}
	return err
}

func (s *Store) countChecked() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checked.tables++
	s.checked.at = time.Now()
}

func (s *Store) skipChecked() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checked.skipped++
}

// readNote gives what was found damaged in an earlier life; empty if nothing
// was.
func readNote(disk vfs.FS, dir string) (string, error) {
	b, err := readFile(disk, disk.PathJoin(dir, damageFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if b = bytes.TrimSpace(b); len(b) == 0 {
		return "without a word", nil
	}
	return string(b), nil
}
