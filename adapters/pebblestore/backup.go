package pebblestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"writ/domain/eventstore"
)

// Backup writes a copy of the ledger into a folder that is empty or does not
// exist, while everything else goes on, and gives the position of the copy's
// last event. The copy is a ledger, with the same id: it holds each event that
// was acknowledged before the call, and each up to its last one. Before Backup
// returns nil, the copy was opened, every block of it was read, its end
// compared with the ledger's, and all of it is durable. It shares no file with
// the ledger.
//
// After an error nothing is left of it but an empty folder at most. After a
// crash a part of it may be left, which no Open takes for a ledger. A backup
// that fails does the ledger no harm. One at a time; it holds Close off, and
// ends early if ctx does.
//
// Whoever runs the copy instead of the ledger runs a ledger that may know fewer
// spent nonces than the truth.
func (s *Store) Backup(ctx context.Context, dir string) (eventstore.Position, error) {
	fail := func(err error) (eventstore.Position, error) {
		return 0, fmt.Errorf("back up ledger %s to %s: %w", s.dir, dir, err)
	}
	done, err := s.reading(ctx)
	if err != nil {
		return fail(err)
	}
	defer done()
	if !s.backups.TryLock() {
		return fail(errors.New("another backup is under way: wait for its end"))
	}
	defer s.backups.Unlock()
	if why := s.guard.failed(); why != nil {
		return fail(s.halted())
	}
	dir = s.disk.PathJoin(dir)
	if err := s.checkTarget(dir); err != nil {
		return fail(err)
	}
	end, err := s.backUp(ctx, dir)
	if err == nil {
		return end, nil
	}
	// If this fails, what is left has no marker, and no Open takes it.
	if cleaned := s.disk.RemoveAll(dir); cleaned != nil {
		err = errors.Join(err, fmt.Errorf("remove what there is of the backup: %w", cleaned))
	}
	return fail(err)
}

// checkTarget makes sure that nothing is in the way of a backup.
func (s *Store) checkTarget(dir string) error {
	for up := dir; ; up = s.disk.PathDir(up) {
		if up != dir {
			if _, err := s.disk.Stat(s.disk.PathJoin(up, markerFile)); err == nil {
				return fmt.Errorf("the folder lies in %s, which is a ledger: name one outside", up)
			}
		}
		if up == s.disk.PathDir(up) {
			break
		}
	}
	if err := checkEmpty(s.disk, dir); err != nil {
		return err
	}
	// Pebble makes the folder itself.
	if err := s.disk.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: name a folder that does not exist yet", err)
	}
	return nil
}

func (s *Store) backUp(ctx context.Context, dir string) (eventstore.Position, error) {
	least := s.shown().end
	if err := s.copyTo(ctx, dir); err != nil {
		return 0, err
	}
	// What is missing of the copy, opening it notices by this.
	if err := writeFile(s.disk, dir, endFile, fmt.Appendf(nil, "%d\n", least)); err != nil {
		return 0, err
	}
	end, err := s.compare(ctx, dir)
	if err != nil {
		return 0, err
	}
	what, err := readFile(s.disk, s.disk.PathJoin(s.dir, markerFile))
	if err != nil {
		return 0, err
	}
	// Last: without it nobody takes the folder for a ledger.
	if err := writeFile(s.disk, dir, markerFile, what); err != nil {
		return 0, err
	}
	if err := syncDir(s.disk, s.disk.PathDir(dir)); err != nil {
		return 0, err
	}
	s.log.Info("ledger backed up", "dir", s.dir, "to", dir, "position", uint64(end))
	return end, nil
}

// copyTo has pebble copy its files as they are at one moment. It keeps the
// files it copies from being removed meanwhile.
func (s *Store) copyTo(ctx context.Context, dir string) error {
	var abandoned atomic.Bool
	s.guard.copyUntil(func() error {
		if abandoned.Load() {
			return errNoBackup
		}
		return ctx.Err()
	})
	err := s.guard.unlessFrozen(func() error { return s.db.Checkpoint(dir, pebble.WithFlushedWAL()) })
	// If the ledger has halted, the copying may still be going on.
	abandoned.Store(true)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return translate(err, "")
}

// compare opens a copy, which reads all its tables, and compares its end with
// the ledger's.
func (s *Store) compare(ctx context.Context, dir string) (end eventstore.Position, err error) {
	o := Options{FS: s.disk, CacheBytes: 1 << 20, CheckAtOpen: math.MaxInt64}
	c, err := hold(ctx, dir, marker{ledger: s.ledger}, o.withDefaults())
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	end = c.shown().end
	at := min(end, s.shown().end) // events may follow of which it is open yet whether they are on record
	if at == 0 {
		return end, nil
	}
	ours, _, err := s.ledgerPage(ctx, at-1, at, eventstore.Filter{})
	if err != nil {
		return 0, err
	}
	theirs, _, err := c.ledgerPage(ctx, at-1, at, eventstore.Filter{})
	if err != nil {
		return 0, err
	}
	if len(ours) != 1 || len(theirs) != 1 || !same(ours[0], theirs[0]) {
		return 0, &eventstore.CorruptError{Why: fmt.Sprintf("position %d of the copy holds another event than the ledger", at)}
	}
	return end, nil
}

func same(a, b eventstore.Recorded) bool {
	return a.Stream == b.Stream && a.Revision == b.Revision && a.Position == b.Position && a.ID == b.ID && a.Type == b.Type &&
		a.RecordedAt.Equal(b.RecordedAt) && bytes.Equal(a.Data, b.Data) && bytes.Equal(a.Metadata, b.Metadata)
}
