// Package pebbleviews keeps views in a folder of their own, in a Pebble
// database: [Open] the folder, and take a [View] for each projection. A View
// is a projections.ViewStore.
//
// What is in the folder can be built again from the ledger at any time, so
// nothing here waits for the disk:
//
//   - A commit that returned is seen by every later read, and survives once
//     the store was closed in good order.
//   - When the process dies, the newest commits may be lost: those that Pebble
//     had not handed to the operating system yet, which it does in pieces of
//     32 KiB. When the machine dies, so may be all that the operating system
//     had not written: usually those of the last half minute.
//   - Commits are never lost from the middle, never half, and never reordered,
//     across all views of the folder: what survives is what was there at some
//     moment. Each commit carries its checkpoint, so the projection goes on
//     from there and applies again what was lost.
//   - A folder in which more than its end is damaged is refused, or gives
//     errors when the damage is read; every block has a checksum. Deleting the
//     folder is always a remedy, and costs the time of a rebuild.
//
// After the disk has refused a write, nobody knows what is in the folder, and
// the store answers every call with an error until it is opened again.
package pebbleviews

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"regexp"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Options of a store. The zero value is good for production.
type Options struct {
	// Logger gets what an operator should know, and Pebble's own chatter at
	// debug. Nil: nothing is logged.
	Logger *slog.Logger
	// CacheBytes bounds the memory for blocks read from disk. 0: 12 MiB.
	CacheBytes int64
	// MemTableBytes is how much is kept in memory before it is sorted into a
	// table on disk. 0: 8 MiB.
	MemTableBytes uint64
	// FS stands in for the disk in tests. Nil: the operating system's.
	FS vfs.FS
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.CacheBytes <= 0 {
		o.CacheBytes = 12 << 20
	}
	if o.MemTableBytes == 0 {
		o.MemTableBytes = 8 << 20
	}
	if o.FS == nil {
		o.FS = vfs.Default
	}
	return o
}

// A Store is a folder of views that this process holds. All methods may be
// called concurrently.
type Store struct {
	dir  string
	db   *pebble.DB
	halt *halt

	// db must not be called once it is closed: Close waits for the calls.
	calls  sync.WaitGroup
	mu     sync.Mutex // guards closed, and calls against a late beginning
	closed bool
}

// begin says that a call into db is under way; calls.Done ends it. Calls may
// be nested, as that of someone who commits while scanning.
func (s *Store) begin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	s.calls.Add(1)
	return nil
}

// Files in the folder: what it is, and the database.
const (
	markerFile = "writ-views"
	markerText = "writ views\nformat 1\n"
	databaseIn = "db"
)

// ErrClosed says that the store was closed.
var ErrClosed = errors.New("view store closed")

// Open takes hold of a folder of views. One that does not exist or is empty
// becomes one. It refuses a folder that holds anything else, one of another
// format, a damaged one, and one that another process holds; it then leaves
// the folder as it is.
func Open(dir string, o Options) (*Store, error) {
	o = o.withDefaults()
	if err := prepare(o.FS, dir); err != nil {
		return nil, fmt.Errorf("open views %s: %w", dir, err)
	}
	h := newHalt(o.FS, o.Logger)
	var db *pebble.DB
	err := h.do(func() (err error) {
		db, err = pebble.Open(o.FS.PathJoin(dir, databaseIn), o.pebble(h))
		return err
	})
	switch {
	case err == nil:
		return &Store{dir: dir, db: db, halt: h}, nil
	case h.lockRefused():
		return nil, fmt.Errorf("open views %s: another process holds the folder: stop that one, or use another folder (%v)", dir, err)
	case h.err() != nil:
		return nil, errors.Join(fmt.Errorf("open views %s: the disk refused a write: %v", dir, err), h.unlock())
	}
	// No %w: callers can't do anything about a Pebble error.
	return nil, errors.Join(fmt.Errorf("open views %s: %v: delete the folder, the views are built again from the ledger", dir, err), h.unlock())
}

// prepare makes sure that the folder is one of views, and no other.
func prepare(disk vfs.FS, dir string) error {
	names, err := disk.List(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	marker, next := disk.PathJoin(dir, markerFile), disk.PathJoin(dir, markerFile+".next")
	text, err := readFile(disk, marker)
	switch {
	case err == nil && text == markerText:
		return nil
	case err == nil && strings.HasPrefix(text, "writ views\n"):
		return fmt.Errorf("it is of another format than this program's: delete the folder, the views are built again from the ledger")
	case err == nil:
		return fmt.Errorf("%s in it is not a marker of writ's views: use another folder", markerFile)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	for _, name := range names {
		// Left by a process that died right here, with nothing else done.
		if name != markerFile+".next" {
			return fmt.Errorf("it holds %q and is no folder of views: use another one, or an empty one", name)
		}
	}
	if err := makeFolder(disk, dir); err != nil {
		return err
	}
	f, err := disk.Create(next, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	if _, err = f.Write([]byte(markerText)); err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := disk.Rename(next, marker); err != nil {
		return err
	}
	// Without this a crash could leave the database and no marker, and the
	// folder would be refused as someone else's.
	return syncFolder(disk, dir)
}

// makeFolder makes a folder and those above it, so that a crash can't take it
// away again.
func makeFolder(disk vfs.FS, dir string) error {
	_, err := disk.Stat(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	above := disk.PathDir(dir)
	if above != dir {
		if err := makeFolder(disk, above); err != nil {
			return err
		}
	}
	if err := disk.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return syncFolder(disk, above)
}

func syncFolder(disk vfs.FS, dir string) error {
	d, err := disk.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func readFile(disk vfs.FS, name string) (string, error) {
	f, err := disk.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 4096))
	return string(b), err
}

func (o Options) pebble(h *halt) *pebble.Options {
	p := &pebble.Options{
		FS: h,
		// Pebble takes the memory of its tables in memory off the cache: of the
		// one that is written, and of one that is flushed or kept to be used
		// again. There is room for the first beside the blocks, so that a busy
		// store keeps some of them, too.
		CacheSize:    o.CacheBytes + int64(o.MemTableBytes),
		MemTableSize: o.MemTableBytes,
		// Never Pebble's default, which grows with its version. This one tells
		// damage in the middle of the log from an end torn by a crash.
		FormatMajorVersion: pebble.FormatWALSyncChunks,
		Logger:             logger{o.Logger, h},
		EventListener: &pebble.EventListener{
			// Pebble would try again at once, for ever.
			BackgroundError: func(err error) { h.stop(fmt.Errorf("background work: %w", err)) },
			DataCorruption: func(info pebble.DataCorruptionInfo) {
				o.Logger.Error("views damaged on disk, delete the folder to build them again", "file", info.Path, "err", info.Details)
			},
		},
	}
	for i := range p.Levels {
		// Most look-ups are for keys that are not there: ten bits a key answer
		// 99 of 100 of them without reading a block.
		p.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return p
}

// Close makes durable what was committed and lets go of the folder. Calls
// under way are waited for, scans to their end; later ones get ErrClosed.
func (s *Store) Close() error {
	s.mu.Lock()
	was := s.closed
	s.closed = true
	s.mu.Unlock()
	if was {
		return nil
	}
	s.calls.Wait()
	err := s.halt.err()
	if err == nil {
		err = s.halt.do(s.db.Close)
	}
	if err == nil {
		return nil
	}
	// A database that was halted can't be closed. Nothing of this process can
	// change the folder any more, so another may have it.
	return errors.Join(fmt.Errorf("close views %s: %w", s.dir, err), s.halt.unlock())
}

var viewName = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)

// View gives the view of a name: 1 to 64 of a-z, 0-9 and hyphen. Views of
// different names share nothing.
func (s *Store) View(name string) (*View, error) {
	if !viewName.MatchString(name) {
		return nil, fmt.Errorf("view %.80q: a name is 1 to 64 of a-z, 0-9 and hyphen", name)
	}
	return &View{store: s, name: name, lower: []byte(name + "\x00"), upper: []byte(name + "\x01")}, nil
}
