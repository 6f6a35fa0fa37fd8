package pebblestore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A guard stands between pebble and the disk, and freezes the folder when the
// disk first refuses a change. Pebble is not made to live on after that: some
// of its errors it calls fatal and expects the process to end right there, on
// some it panics in a goroutine of its own or while it unlocks what it does not
// hold, others it tries again at once and for ever. A service that ends is a
// service that can't say why. So pebble never hears of the refusal: the call
// does not come back, nor does any later one that would change something. The
// folder stays as it was, as if the process had ended there, while reads,
// which change nothing, go on. The price is a few goroutines and what they
// hold, until the process ends.
//
// It also holds removals back until told that they may go: opening removes
// files that the manifest does not name, and if the manifest is damaged those
// may be the only copy of events.
//
// All this concerns the ledger's folder. What pebble writes elsewhere is a
// backup: there an error is only an error, and the ledger goes on.
type guard struct {
	vfs.FS
	dir string // the ledger's folder

	frozen chan struct{} // closed by freeze
	syncs  syncTimes

	mu      sync.Mutex // guards everything below
	why     error      // the first failure; nil while all is well
	hold    bool       // removals wait in held
	held    []string
	lock    io.Closer // of the folder, as taken by pebble
	lockErr error     // why pebble did not get it

	// copying says why a backup must end now; nil between backups.
	copying func() error
}

func newGuard(fs vfs.FS, dir string) *guard {
	return &guard{FS: fs, dir: fs.PathJoin(dir), frozen: make(chan struct{}), hold: true}
}

// elsewhere tells whether something does not belong to the ledger's folder.
func (g *guard) elsewhere(name string) bool {
	return g.PathJoin(name) != g.dir && g.PathDir(name) != g.dir
}

// copyUntil sets what can end a backup early.
func (g *guard) copyUntil(stop func() error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.copying = stop
}

func (g *guard) copyStopped() error {
	g.mu.Lock()
	stop := g.copying
	g.mu.Unlock()
	if stop == nil {
		return errNoBackup
	}
	return stop()
}

var errNoBackup = errors.New("no backup is under way")

// freeze stops all further changes. The first reason stays.
func (g *guard) freeze(why error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.why == nil {
		g.why = why
		close(g.frozen)
	}
}

// failed gives the reason for the freeze; nil if there is none.
func (g *guard) failed() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.why
}

// pass comes back only while the guard is not frozen.
func (g *guard) pass() {
	select {
	case <-g.frozen:
		select {}
	default:
	}
}

// done comes back only if a change was made.
func (g *guard) done(what string, err error) {
	if err != nil {
		g.freeze(fmt.Errorf("%s: %w", what, err))
		g.pass()
	}
}

// letGo carries out the removals held back, and lets the later ones pass.
func (g *guard) letGo() error {
	g.mu.Lock()
	held := g.held
	g.held, g.hold = nil, false
	g.mu.Unlock()
	for _, name := range held {
		if err := g.FS.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// unlessFrozen waits for a call into pebble, but not for one that can't come
// back.
func (g *guard) unlessFrozen(call func() error) error {
	result := make(chan error, 1)
	go func() { result <- survive(call) }()
	select {
	case err := <-result:
		return errors.Join(err, g.failed())
	case <-g.frozen:
		return g.failed()
	}
}

// survive makes an error of a panic: pebble panics where it can't imagine an
// error, a log that can't be created for one.
func survive(call func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("pebble gave up: %v", r)
		}
	}()
	return call()
}

// Lock keeps a hold of the folder's lock: a pebble that is frozen can't be
// closed, and would never give it back.
func (g *guard) Lock(name string) (io.Closer, error) {
	lock, err := g.FS.Lock(name)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lock, g.lockErr = lock, err
	if err != nil {
		return nil, err
	}
	return closerFunc(g.unlock), nil
}

// refusedLock is why the folder's lock was not to be had; nil if it was.
func (g *guard) refusedLock() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lockErr
}

// unlock gives the folder's lock back, once.
func (g *guard) unlock() error {
	g.mu.Lock()
	lock := g.lock
	g.lock = nil
	g.mu.Unlock()
	if lock == nil {
		return nil
	}
	return lock.Close()
}

type closerFunc func() error

func (f closerFunc) Close() error { return f() }

// Remove implements [vfs.FS]. That a file which nobody needs could not be
// removed is no harm.
func (g *guard) Remove(name string) error {
	if g.elsewhere(name) {
		return g.FS.Remove(name)
	}
	g.pass()
	g.mu.Lock()
	if g.hold {
		g.held = append(g.held, name)
		g.mu.Unlock()
		return nil
	}
	g.mu.Unlock()
	return g.FS.Remove(name)
}

func (g *guard) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if g.elsewhere(name) {
		return g.createCopy(name, c)
	}
	g.pass()
	if strings.HasPrefix(g.PathBase(name), "marker.") {
		// A marker names the file that counts from now on, the manifest above
		// all. Pebble syncs that file but not the folder's entry for it: a
		// crash could keep the marker and lose what it names, and the ledger
		// could not be opened any more.
		g.done("sync "+g.PathDir(name), syncDir(g.FS, g.PathDir(name)))
	}
	f, err := g.FS.Create(name, c)
	g.done("create "+name, err)
	file := &guardedFile{File: f, guard: g, name: name, log: isLog(name)}
	if file.log {
		file.runway = new(runway)
	}
	return file, nil
}

func (g *guard) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	g.pass()
	f, err := g.FS.ReuseForWrite(from, to, c)
	g.done("create "+to, err)
	return &guardedFile{File: f, guard: g, name: to, log: isLog(to)}, nil
}

func (g *guard) Rename(from, to string) error {
	if g.elsewhere(to) {
		return g.FS.Rename(from, to)
	}
	g.pass()
	g.done("rename "+from, g.FS.Rename(from, to))
	return nil
}

func (g *guard) OpenDir(name string) (vfs.File, error) {
	f, err := g.FS.OpenDir(name)
	if err != nil || g.elsewhere(name) {
		return f, err
	}
	return &guardedFile{File: f, guard: g, name: name}, nil
}

// MkdirAll implements [vfs.FS]. A copy of the ledger holds whole writs too.
func (g *guard) MkdirAll(dir string, _ os.FileMode) error { return g.FS.MkdirAll(dir, 0o700) }

// Link makes a copy instead, by failing: a backup that shared its files with
// the ledger would be damaged along with it.
func (g *guard) Link(_, _ string) error { return errNoLinks }

var errNoLinks = errors.New("links are not made")

func (g *guard) RemoveAll(name string) error {
	if g.elsewhere(name) {
		return g.FS.RemoveAll(name)
	}
	g.pass()
	return g.FS.RemoveAll(name)
}

// What follows is not used by what this package asks of pebble.

func (g *guard) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	g.pass()
	f, err := g.FS.OpenReadWrite(name, c, o...)
	g.done("open "+name, err)
	return &guardedFile{File: f, guard: g, name: name}, nil
}

// Unwrap implements [vfs.FS].
func (g *guard) Unwrap() vfs.FS { return g.FS }
