package pebblestore

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"writ/domain/eventstore"
)

// Options of a store. The zero value is good for production.
type Options struct {
	// Logger gets what an operator should know, and pebble's own chatter at
	// debug. Nil: nothing is logged.
	Logger *slog.Logger
	// Clock stamps events. Nil: time.Now.
	Clock func() time.Time
	// CacheBytes bounds the memory for blocks read from disk, and for what finds
	// them. 0: 24 MiB. Once much was written the tables in memory take of it, see
	// newCache.
	CacheBytes int64
	// MemTableBytes is how much is kept in memory, and read again from the log
	// when opening, before it is sorted into a table on disk. 0: 16 MiB.
	MemTableBytes uint64
	// MaxGroup bounds the appends that share one fsync. 0: 256.
	MaxGroup int
	// SystemStreams lets Append take streams whose names start with $, which
	// are the store's own otherwise. For a server that keeps what it knows of
	// streams as events beside them ($$name, as EventStoreDB does); never for
	// a ledger of ops.
	SystemStreams bool
	// CheckAtOpen is how many bytes of tables, the ones written last first,
	// are read whole and checked before Open returns; the rest is read soon
	// after. It bounds what a restart costs. 0: 64 MiB. Below 0: none.
	CheckAtOpen int64
	// FS stands in for the disk in tests. Nil: the operating system's.
	FS vfs.FS
}

// filterBits is how large the filters of the lowest level are, for each key; it
// holds nine of ten. Only those of events are ever asked. Above it they can be
// larger, as there are few keys.
const filterBits, filterBitsAbove = 14, 16

// maxGroupBytes bounds the data of the appends that share one fsync.
const maxGroupBytes = 4 << 20

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.CacheBytes <= 0 {
		o.CacheBytes = 24 << 20
	}
	if o.MemTableBytes == 0 {
		o.MemTableBytes = 16 << 20
	}
	if o.MaxGroup <= 0 {
		o.MaxGroup = 256
	}
	if o.CheckAtOpen == 0 {
		o.CheckAtOpen = 64 << 20
	}
	if o.FS == nil {
		o.FS = vfs.Default
	}
	return o
}

// pebble gives the options for the database behind a guard.
func (o Options) pebble(g *guard) *pebble.Options {
	p := &pebble.Options{
		FS:           g,
		MemTableSize: o.MemTableBytes,
		// Never pebble's default, which grows with its version. This one adds
		// to each piece of the log how far it was synced, which tells damage
		// in the middle of a log from a tail torn by a crash.
		FormatMajorVersion: pebble.FormatWALSyncChunks,
		// They serve what is removed, and nothing here is; and of a table that
		// is damaged pebble tries to get them at once, again and for ever.
		DisableTableStats: true,
		Logger:            &logger{log: o.Logger, guard: g},
		EventListener: &pebble.EventListener{
			// A flush or compaction failed. Pebble would try again at once,
			// for ever; see scheduler.
			BackgroundError: func(err error) {
				g.freeze(fmt.Errorf("background work: %w", err))
				o.Logger.Error("ledger stopped: background work failed", "err", err)
			},
			// Whoever reads it gets the error, see Health for the rest. If this
			// came too late for an append, nothing is wrong with that append.
			DataCorruption: func(info pebble.DataCorruptionInfo) {
				g.freeze(&eventstore.CorruptError{Why: fmt.Sprintf("table %s: %v", info.Path, info.Details)})
			},
			DiskSlow: func(info pebble.DiskSlowInfo) {
				o.Logger.Warn("disk slow", "file", info.Path, "duration", info.Duration)
			},
		},
	}
	// Ops have random names, so that each table that is flushed lies over all
	// others of its level: with pebble's own 4, merging them at once takes some 7
	// percent of the processor time of a busy ledger more. The price is two more tables
	// to be asked whether an op is there, by their filters; writing stops at 12.
	p.L0CompactionThreshold = 8
	// Opening looks at every table, see checkTables: of ten million ops there would
	// be thousands in pebble's own size, which on the lowest level is 16 MiB.
	p.TargetFileSizes[0] = 4 << 20 // and twice as much on each level below
	for i := range p.Levels {
		// Most look-ups are for a stream that does not exist yet. Each level is
		// asked, and together they answer more than 99 of 100 without reading a
		// block; with the usual ten bits it would be 95.
		p.Levels[i].FilterPolicy = bloom.FilterPolicy(filterBitsAbove)
	}
	p.Levels[len(p.Levels)-1].FilterPolicy = bloom.FilterPolicy(filterBits)
	return p
}

// readTables gives the options with which pebble reads the tables it writes.
func (o Options) readTables() sstable.ReaderOptions {
	p := o.pebble(newGuard(o.FS, ""))
	p.EnsureDefaults()
	return p.MakeReaderOptions()
}

// A scheduler lets no compaction begin once the guard is frozen. One that
// meets a damaged block before it has written anything would not be stopped by
// the guard, and pebble would begin it again at once, for ever, at the cost of
// a whole processor.
type scheduler struct {
	pebble.CompactionScheduler
	guard *guard
}

// newScheduler makes pebble's own, but for a clock that looks ten times a
// second whether more compactions are allowed by now: here it is always one.
func newScheduler(g *guard) *scheduler {
	return &scheduler{CompactionScheduler: pebble.NewConcurrencyLimitSchedulerWithNoPeriodicGrantingForTest(), guard: g}
}

// Register implements [pebble.CompactionScheduler].
func (s *scheduler) Register(goroutines int, db pebble.DBForCompaction) {
	s.CompactionScheduler.Register(goroutines, &compacting{DBForCompaction: db, guard: s.guard})
}

type compacting struct {
	pebble.DBForCompaction
	guard *guard
}

// GetAllowedWithoutPermission implements [pebble.DBForCompaction].
func (c *compacting) GetAllowedWithoutPermission() int {
	if c.guard.failed() != nil {
		return 0
	}
	return c.DBForCompaction.GetAllowedWithoutPermission()
}

// A logger takes pebble's log.
type logger struct {
	log   *slog.Logger
	guard *guard
}

func (l *logger) Infof(format string, args ...any) {
	l.log.Debug("pebble: " + fmt.Sprintf(format, args...))
}

func (l *logger) Errorf(format string, args ...any) {
	l.log.Warn("pebble: " + fmt.Sprintf(format, args...))
}

// Fatalf is pebble's way to say that it can't go on. It does go on, however,
// if this returns (a commit whose fsync failed then answers nil), so from here
// on nothing reaches the disk, and Store asks the guard before it believes an
// answer.
func (l *logger) Fatalf(format string, args ...any) {
	why := fmt.Sprintf(format, args...)
	l.guard.freeze(errors.New(why))
	l.log.Error("ledger stopped", "err", why)
}
