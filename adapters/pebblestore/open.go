package pebblestore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"writ/domain/eventstore"
)

// A Store is a ledger in a folder that this process holds. It implements
// [eventstore.Store].
type Store struct {
	dir      string
	ledger   eventstore.LedgerID
	db       *pebble.DB
	guard    *guard
	disk     vfs.FS
	log      *slog.Logger
	clock    func() time.Time
	maxGroup int

	readTables sstable.ReaderOptions
	imported   imported            // never changes
	filtersFit eventstore.Position // up to this end the filters of all tables fit into half of the cache
	system     bool                // streams whose names start with $ may be appended to

	spaces    sync.Pool // of *[]byte, for requests
	requests  chan *request
	closing   chan struct{} // closed by Close
	unsettled chan *group   // written, not known to be durable; in order
	stopped   chan struct{} // closed when the last group is answered
	watched   chan struct{} // closed when watch has ended

	// db must not be called once it is closed: reads hold life shared.
	life   sync.RWMutex
	closed bool // guarded by life

	mu      sync.Mutex                                  // guards the four below
	end     eventstore.Position                         // everything up to here is durable, nothing beyond is shown
	changed chan struct{}                               // closed when end moves on
	heads   map[eventstore.StreamID]eventstore.Recorded // the newest events up to end, of some streams
	checked checked                                     // how far the tables were read

	backups sync.Mutex // held by the one that is under way
}

// Create makes a new ledger in a folder that is empty or does not exist yet.
// When it returns nil, the ledger is durable; after an error or a crash the
// folder is not a ledger, and has to be emptied before the next try.
func Create(dir string, ledger eventstore.LedgerID, o Options) error {
	nothing := func(*pebble.DB) error { return nil }
	if err := create(dir, ledger, o.withDefaults(), nothing); err != nil {
		return fmt.Errorf("create ledger %s: %w", dir, err)
	}
	return nil
}

// create makes a ledger that holds what fill puts there.
func create(dir string, ledger eventstore.LedgerID, o Options, fill func(*pebble.DB) error) error {
	if err := checkLedgerID(ledger); err != nil {
		return err
	}
	if err := checkEmpty(o.FS, dir); err != nil {
		return err
	}
	// The ledger holds whole writs: it is its owner's alone.
	if err := o.FS.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	g := newGuard(o.FS, dir)
	db, err := openPebble(dir, o, g, func(p *pebble.Options) { p.ErrorIfExists = true })
	if err != nil {
		return err
	}
	err = g.unlessFrozen(func() error {
		if err := fill(db); err != nil {
			return err
		}
		// The sync is for all that was filled in before, too.
		return db.Set(metaKey("ledger"), []byte(ledger), pebble.Sync)
	})
	if err = errors.Join(err, g.letGo()); err != nil {
		// Not closed but abandoned: this is no ledger.
		g.freeze(err)
		return errors.Join(err, g.unlock())
	}
	if err := g.unlessFrozen(db.Close); err != nil {
		return errors.Join(err, g.unlock())
	}
	// Last: without it nobody takes the folder for a ledger.
	m := marker{format: formatVersion, oldestWriter: formatVersion, ledger: ledger}
	return writeFile(o.FS, dir, markerFile, m.encode())
}

// Open takes hold of a ledger. It refuses a folder that does not exist, is
// empty, is not a ledger, needs a newer program, or is held by another
// process. It gives an *eventstore.CorruptError if events that were on record
// are missing, if the frame of any table is damaged, or anything of those
// written last (Options.CheckAtOpen); Health tells of the others. A refusal
// removes nothing from the folder. What was appended when the process or the machine stopped is on record whole or not at all,
// and on record if it was acknowledged.
func Open(dir string, o Options) (*Store, error) {
	o = o.withDefaults()
	m, err := readMarker(o.FS, dir)
	if err != nil {
		return nil, err
	}
	return hold(context.Background(), dir, m, o)
}

// hold opens a folder that is what a marker says. ctx bounds the opening alone.
func hold(ctx context.Context, dir string, m marker, o Options) (*Store, error) {
	g := newGuard(o.FS, dir)
	db, err := openPebble(dir, o, g, func(p *pebble.Options) { p.ErrorIfNotExists = true })
	if err != nil {
		return nil, fmt.Errorf("open ledger %s: %w", dir, err)
	}
	s := &Store{
		dir: dir, ledger: m.ledger, db: db, guard: g, disk: o.FS, log: o.Logger, clock: o.Clock, maxGroup: o.MaxGroup,
		readTables: o.readTables(), system: o.SystemStreams,
		filtersFit: eventstore.Position(o.CacheBytes / 2 * 8 / filterBits),

		requests:  make(chan *request, o.MaxGroup),
		closing:   make(chan struct{}),
		unsettled: make(chan *group, maxUnsettled),
		stopped:   make(chan struct{}),
		watched:   make(chan struct{}),
		changed:   make(chan struct{}),
		heads:     make(map[eventstore.StreamID]eventstore.Recorded),
	}
	unread, err := s.start(ctx, o)
	if err != nil {
		// Not closed but abandoned: closing would change the folder.
		g.freeze(err)
		return nil, errors.Join(fmt.Errorf("open ledger %s: %w", dir, err), g.unlock())
	}
	go s.commitAll()
	go s.settleAll()
	go s.watch(unread) //nolint:contextcheck // it ends with the store, not with the opening
	return s, nil
}

// start checks what is there before anything is removed or added. It gives the
// tables of which it has not read all.
func (s *Store) start(ctx context.Context, o Options) (unread []table, err error) {
	noted, err := readNote(s.disk, s.dir)
	if err != nil {
		return nil, err
	}
	if noted != "" {
		o.CheckAtOpen = math.MaxInt64
		s.log.Warn("ledger: it was found damaged, checking all of it", "dir", s.dir, "found", noted)
	}
	keys, unread, err := s.checkTables(ctx, o.CheckAtOpen)
	if err == nil {
		err = s.checkComplete(keys, noted != "")
	}
	if err != nil {
		return nil, err
	}
	// Only now may files go that the manifest does not name.
	if err := errors.Join(s.guard.letGo(), s.guard.failed()); err != nil {
		return nil, err
	}
	if noted != "" {
		// If this fails, the next opening checks all once more.
		if err := s.disk.Remove(s.disk.PathJoin(s.dir, damageFile)); err != nil {
			return nil, err
		}
	}
	if err := s.writeEnd(); err != nil {
		return nil, err
	}
	// If this fails, nobody can say who holds the folder; it is held anyway.
	if err := writeFile(s.disk, s.dir, ownerFile, ownerText(o.Clock())); err != nil {
		return nil, err
	}
	s.log.Info("ledger opened", "ledger", s.ledger, "dir", s.dir, "position", uint64(s.end))
	return unread, nil
}

// Halted is closed when a write or a sync failed, or when a table was found
// damaged: from then on every append fails, and only opening the ledger again,
// best by a new process, helps. Reads go on and show what is durable; what is
// damaged they refuse. Why gives the reason.
func (s *Store) Halted() <-chan struct{} { return s.guard.frozen }

// Why gives the reason for which the store has halted; nil if it has not. It
// is an *eventstore.CorruptError if the ledger is damaged.
func (s *Store) Why() error { return s.guard.failed() }

// openPebble opens the database. No error of it carries a pebble type.
func openPebble(dir string, o Options, g *guard, with func(*pebble.Options)) (*pebble.DB, error) {
	p := o.pebble(g)
	with(p)
	p.Experimental.CompactionScheduler = newScheduler(g)
	p.Cache, p.EventListener.FlushEnd = newCache(o)
	defer p.Cache.Unref() // pebble holds it by itself
	opened := make(chan *pebble.DB, 1)
	err := g.unlessFrozen(func() error {
		db, err := pebble.Open(dir, p)
		opened <- db
		return err
	})
	if err == nil {
		return <-opened, nil
	}
	g.freeze(err)
	var broken *fs.PathError
	if lockErr := g.refusedLock(); lockErr != nil && !errors.As(lockErr, &broken) {
		return nil, fmt.Errorf("it is held by %s: stop that one first, two must never write to one ledger (%v)", describeOwner(o.FS, dir), lockErr)
	}
	return nil, errors.Join(translate(err, ""), g.unlock())
}

// checkComplete finds out where the ledger ends, and whether anything is
// missing. Pebble takes a damaged manifest for one that ends at the damage,
// and a damaged last piece of the log for one that a crash tore; either would
// make events vanish without a word, and a vanished event lets an op run
// again. keys is how many the tables hold; right after opening that is all:
// what the log held has been put into a table.
func (s *Store) checkComplete(keys uint64, every bool) error {
	id, closer, err := s.db.Get(metaKey("ledger"))
	if errors.Is(err, pebble.ErrNotFound) {
		return &eventstore.CorruptError{Why: "the record of the ledger's id is gone: restore the folder from a backup"}
	}
	if err != nil {
		return translate(err, "")
	}
	got := eventstore.LedgerID(id)
	if err := closer.Close(); err != nil {
		return translate(err, "")
	}
	if got != s.ledger {
		return &eventstore.CorruptError{Why: fmt.Sprintf("%s names ledger %s, the events are of ledger %.40q: the folder is mixed of two", markerFile, s.ledger, got)}
	}
	if s.end, err = s.lastPosition(); err != nil {
		return err
	}
	known, err := readEnd(s.disk, s.dir)
	if err != nil {
		return err
	}
	if s.imported, err = readImported(s.db); err != nil {
		return err
	}
	if known = max(known, uint64(s.imported.end)); uint64(s.end) < known {
		return &eventstore.CorruptError{Why: fmt.Sprintf("the ledger ends at position %d, but it had reached %d: events are missing, restore the folder from a backup", s.end, known)}
	}
	// Each event has two keys, which are written once and never removed; the
	// tables know how many they hold. If the numbers differ, look closely.
	if keys == s.imported.keysUpTo(s.end) && !every {
		return nil
	}
	s.log.Warn("ledger: checking every event", "dir", s.dir, "events", uint64(s.end))
	return s.verify(s.end, func() error { return nil })
}

// lastPosition gives the newest position on record.
func (s *Store) lastPosition() (eventstore.Position, error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{positionPrefix}, UpperBound: []byte{positionPrefix + 1}})
	if err != nil {
		return 0, translate(err, "")
	}
	defer it.Close()
	if !it.Last() {
		return 0, translate(it.Error(), "")
	}
	if len(it.Key()) != 9 {
		return 0, &eventstore.CorruptError{Why: fmt.Sprintf("position key %x has %d bytes, want 9", it.Key(), len(it.Key()))}
	}
	return eventstore.Position(binary.BigEndian.Uint64(it.Key()[1:])), nil
}

func (s *Store) writeEnd() error {
	return writeFile(s.disk, s.dir, endFile, fmt.Appendf(nil, "%d\n", s.end))
}

// LedgerID implements [eventstore.Store].
func (s *Store) LedgerID() eventstore.LedgerID { return s.ledger }

// Close ends all reads and appends with ErrClosed (an append under way is
// finished first) and gives the folder back. If the store had stopped for an
// error, that error is returned, the folder stays as it was then, and some
// memory is lost until the process ends.
func (s *Store) Close() error {
	s.mu.Lock()
	select {
	case <-s.closing:
		s.mu.Unlock()
		return nil
	default:
		close(s.closing)
	}
	s.mu.Unlock()
	select {
	case <-s.stopped:
	case <-s.guard.frozen: // the committer may be waiting for ever
	}
	<-s.watched // soon: it looks up after each table
	s.life.Lock()
	defer s.life.Unlock()
	s.closed = true
	if why := s.guard.failed(); why != nil {
		// Pebble can't be closed: it may hold its own locks for ever.
		return errors.Join(fmt.Errorf("close ledger %s: it had stopped: %w", s.dir, why), s.guard.unlock())
	}
	// The owner's name goes before the lock does. If the end can't be written,
	// the one written when opening stays, which is true as well.
	err := s.disk.Remove(s.disk.PathJoin(s.dir, ownerFile))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	err = errors.Join(err, s.writeEnd())
	if err = errors.Join(err, s.guard.unlessFrozen(s.db.Close), s.guard.unlock()); err != nil {
		return fmt.Errorf("close ledger %s: %w", s.dir, err)
	}
	return nil
}

// translate gives an error of pebble without its types.
func translate(err error, stream eventstore.StreamID) error {
	if err == nil {
		return nil
	}
	var ours *eventstore.CorruptError
	if errors.As(err, &ours) {
		return ours
	}
	if pebble.IsCorruptionError(err) {
		return &eventstore.CorruptError{Stream: stream, Why: err.Error()}
	}
	return errors.New(err.Error())
}
