package pebblestore

import "github.com/cockroachdb/pebble/v2/vfs"

// A guardedFile freezes its guard when the disk refuses a write or a sync, and
// does not change once the guard is frozen.
type guardedFile struct {
	vfs.File
	guard *guard
	name  string
	log   bool // a piece of the log, whose syncs are timed

	runway *runway // of a piece of the log that is new; nil otherwise
}

func (f *guardedFile) Write(b []byte) (int, error) {
	f.guard.pass()
	if f.runway != nil {
		f.runway.lay(f, len(b))
	}
	n, err := f.File.Write(b)
	f.guard.done("write "+f.name, err)
	return n, nil
}

func (f *guardedFile) WriteAt(b []byte, at int64) (int, error) {
	f.guard.pass()
	n, err := f.File.WriteAt(b, at)
	f.guard.done("write "+f.name, err)
	return n, nil
}

// Preallocate saves time at best, and not every file system knows it.
func (f *guardedFile) Preallocate(at, n int64) error {
	f.guard.pass()
	return f.File.Preallocate(at, n)
}

func (f *guardedFile) Sync() error {
	f.guard.pass()
	f.guard.done("sync "+f.name, f.timed(f.File.Sync))
	return nil
}

func (f *guardedFile) SyncData() error {
	f.guard.pass()
	f.guard.done("sync "+f.name, f.timed(f.File.SyncData))
	return nil
}

func (f *guardedFile) SyncTo(n int64) (bool, error) {
	f.guard.pass()
	full, err := f.File.SyncTo(n)
	f.guard.done("sync "+f.name, err)
	return full, nil
}

func (f *guardedFile) Close() error {
	f.guard.pass()
	f.guard.done("close "+f.name, f.File.Close())
	return nil
}

// A copiedFile belongs to a backup. Its writes fail once that has to end.
type copiedFile struct {
	vfs.File
	guard *guard
}

func (g *guard) createCopy(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := g.copyStopped(); err != nil {
		return nil, err
	}
	f, err := g.FS.Create(name, c)
	if err != nil {
		return nil, err
	}
	return &copiedFile{File: f, guard: g}, nil
}

func (f *copiedFile) Write(b []byte) (int, error) {
	if err := f.guard.copyStopped(); err != nil {
		return 0, err
	}
	return f.File.Write(b)
}
