package pebbleviews

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A halt is the disk as Pebble sees it, until the disk first refuses a change.
// What Pebble does after a refusal is not to be relied on: it ends the process,
// panics in a goroutine of its own, or tries again without pause. None of that
// may happen to a service because of something that can be rebuilt. So Pebble
// is never told: the call that was refused does not come back, nor does any
// later one that would change the folder. Some goroutines stay behind until
// the process ends.
type halt struct {
	vfs.FS

	log     *slog.Logger
	stopped chan struct{} // closed by stop

	mu      sync.Mutex // guards everything below
	why     error      // nil while all is well
	lock    io.Closer  // of the folder; nil if it is not held
	lockErr error      // why it was not to be had
}

func newHalt(disk vfs.FS, log *slog.Logger) *halt {
	return &halt{FS: disk, log: log, stopped: make(chan struct{})}
}

// stop ends all changes. The first reason stays.
func (h *halt) stop(why error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.why != nil {
		return
	}
	h.why = why
	h.log.Error("views stopped", "err", why)
	close(h.stopped)
}

func (h *halt) err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.why
}

// do makes a call that may change the folder, and comes back from it even if
// the call does not.
func (h *halt) do(call func() error) error {
	ended := make(chan error, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				h.stop(fmt.Errorf("pebble gave up: %v", r))
			}
		}()
		ended <- call()
	}()
	select {
	case err := <-ended:
		if why := h.err(); why != nil {
			return why
		}
		return err
	case <-h.stopped:
		return h.err()
	}
}

// change lets a change of the folder through, or never comes back.
func (h *halt) change(what string, do func() error) {
	select {
	case <-h.stopped:
		select {}
	default:
	}
	if err := do(); err != nil {
		h.stop(fmt.Errorf("%s: %w", what, err))
		select {}
	}
}

// Lock implements [vfs.FS]. The lock is kept at hand, because a halted
// database never gives it back.
func (h *halt) Lock(name string) (io.Closer, error) {
	lock, err := h.FS.Lock(name)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lock, h.lockErr = lock, err
	return unlocker{h}, err
}

func (h *halt) lockRefused() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lockErr != nil
}

func (h *halt) unlock() error {
	h.mu.Lock()
	lock := h.lock
	h.lock = nil
	h.mu.Unlock()
	if lock == nil {
		return nil
	}
	return lock.Close()
}

type unlocker struct{ *halt }

func (u unlocker) Close() error { return u.unlock() }

// Create implements [vfs.FS].
func (h *halt) Create(name string, c vfs.DiskWriteCategory) (f vfs.File, _ error) {
	h.change("create "+name, func() (err error) {
		f, err = h.FS.Create(name, c)
		return err
	})
	return &file{f, h, name}, nil
}

// ReuseForWrite implements [vfs.FS].
func (h *halt) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (f vfs.File, _ error) {
	h.change("reuse "+from, func() (err error) {
		f, err = h.FS.ReuseForWrite(from, to, c)
		return err
	})
	return &file{f, h, to}, nil
}

// OpenReadWrite implements [vfs.FS].
func (h *halt) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (f vfs.File, _ error) {
	h.change("open "+name, func() (err error) {
		f, err = h.FS.OpenReadWrite(name, c, o...)
		return err
	})
	return &file{f, h, name}, nil
}

// OpenDir implements [vfs.FS]. A folder that was opened is synced.
func (h *halt) OpenDir(name string) (vfs.File, error) {
	f, err := h.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &file{f, h, name}, nil
}

// Rename implements [vfs.FS].
func (h *halt) Rename(from, to string) error {
	h.change("rename "+from, func() error { return h.FS.Rename(from, to) })
	return nil
}

// Link implements [vfs.FS].
func (h *halt) Link(from, to string) error {
	h.change("link "+from, func() error { return h.FS.Link(from, to) })
	return nil
}

// Remove implements [vfs.FS]. A file that nobody needs and that can't be
// removed does no harm.
func (h *halt) Remove(name string) (err error) {
	h.change("", func() error { err = h.FS.Remove(name); return nil })
	return err
}

// RemoveAll implements [vfs.FS].
func (h *halt) RemoveAll(name string) (err error) {
	h.change("", func() error { err = h.FS.RemoveAll(name); return nil })
	return err
}

// Unwrap implements [vfs.FS].
func (h *halt) Unwrap() vfs.FS { return h.FS }

// A file is one that may be written to.
type file struct {
	vfs.File

	halt *halt
	name string
}

// Write implements [vfs.File].
func (f *file) Write(p []byte) (n int, _ error) {
	f.halt.change("write "+f.name, func() (err error) {
		n, err = f.File.Write(p)
		return err
	})
	return n, nil
}

// WriteAt implements [vfs.File].
func (f *file) WriteAt(p []byte, off int64) (n int, _ error) {
	f.halt.change("write "+f.name, func() (err error) {
		n, err = f.File.WriteAt(p, off)
		return err
	})
	return n, nil
}

// Sync implements [vfs.File].
func (f *file) Sync() error {
	f.halt.change("sync "+f.name, f.File.Sync)
	return nil
}

// SyncData implements [vfs.File].
func (f *file) SyncData() error {
	f.halt.change("sync "+f.name, f.File.SyncData)
	return nil
}

// SyncTo implements [vfs.File].
func (f *file) SyncTo(length int64) (full bool, _ error) {
	f.halt.change("sync "+f.name, func() (err error) {
		full, err = f.File.SyncTo(length)
		return err
	})
	return full, nil
}

// Preallocate implements [vfs.File].
func (f *file) Preallocate(offset, length int64) error {
	f.halt.change("extend "+f.name, func() error { return f.File.Preallocate(offset, length) })
	return nil
}

// Close implements [vfs.File].
func (f *file) Close() error {
	f.halt.change("close "+f.name, f.File.Close)
	return nil
}

// A logger takes Pebble's log.
type logger struct {
	log  *slog.Logger
	halt *halt
}

func (l logger) Infof(format string, args ...any) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug("pebble: " + fmt.Sprintf(format, args...))
	}
}

func (l logger) Errorf(format string, args ...any) {
	l.log.Warn("pebble: " + fmt.Sprintf(format, args...))
}

// Fatalf is how Pebble says that it can't go on, and it must not go on after.
func (l logger) Fatalf(format string, args ...any) {
	l.halt.stop(fmt.Errorf(format, args...))
	select {}
}
