package metrics

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"writ/domain/engine"
	"writ/domain/op"
	"writ/projections"
	"writ/projections/recoveryqueue"
)

// scrapeTime bounds the look at the queue for one scrape.
const scrapeTime = 5 * time.Second

// Sources are what is looked at whenever figures are asked for. Their methods
// must be safe to call at any time.
type Sources struct {
	Engine interface {
		Left() []engine.Answer
		Halted() error
	}
	Queue interface {
		List(ctx context.Context) ([]recoveryqueue.Item, error)
	}
	// QueueLimit is how many ops may be claimed and not ended.
	QueueLimit int
	// Room gives the bytes that are free and those that there are in all on the
	// ledger's disk; nil: nobody knows.
	Room func() (free, total uint64, err error)
	// Syncs tells of the fsyncs of the ledger's log how many there were, how many
	// took at most so many seconds, and their sum in seconds; nil: nobody knows.
	Syncs func() (count uint64, within map[float64]uint64, sum float64)
	// Views says by name how far each view is.
	Views map[string]func() projections.Lag
}

// Watch adds the figures of how things stand. It must be called once at most.
func (m *Metrics) Watch(s Sources) { m.registry.MustRegister(&state{m, s}) }

type state struct {
	m *Metrics
	Sources
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	descInFlight      = desc("writ_ops_in_flight", "Ops claimed and not ended, by state; from a view that may lag.", "state")
	descOldest        = desc("writ_ops_in_flight_oldest_seconds", "For how long the op has been in its state that has been longest.")
	descCorrupt       = desc("writ_ops_corrupt", "ALARM: ops whose stream can't be what writ wrote. They are not run.")
	descQueueLimit    = desc("writ_queue_limit", "How many ops may be claimed and not ended; beyond it submissions are turned away.")
	descIndeterminate = desc("writ_ops_indeterminate", "Ops that the evidence does not decide. A person may have to.")
	descUndecided     = desc("writ_ops_indeterminate_oldest_seconds", "For how long the oldest of them has been in its state.")
	descHalted        = desc("writ_launching_halted", "ALARM: 1 if nothing is launched any more until a person has looked.")
	descPosition      = desc("writ_ledger_position", "The position of the newest event of an op that this process put on record; 0 before the first.")
	descFree          = desc("writ_ledger_disk_free_bytes", "Bytes that are free on the ledger's disk.")
	descTotal         = desc("writ_ledger_disk_bytes", "Bytes that there are in all on the ledger's disk.")
	descSyncs         = desc("writ_fsync_seconds", "How long fsyncs of the ledger's log took. An append waits for one or two of them.")
	descViewPosition  = desc("writ_view_position", "The position up to which the view holds the ledger.", "view")
	descViewCaughtUp  = desc("writ_view_caught_up", "1 if the view follows the ledger.", "view")
	descViewLag       = desc("writ_view_lag_seconds", "How much older the newest event in the view is than the newest one that this process put on record.", "view")
)

// Describe implements [prometheus.Collector].
func (s *state) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descInFlight, descOldest, descCorrupt, descQueueLimit, descIndeterminate, descUndecided, descHalted,
		descPosition, descFree, descTotal, descSyncs, descViewPosition, descViewCaughtUp, descViewLag,
	} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (s *state) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	now := s.m.now()
	gauge(descQueueLimit, float64(s.QueueLimit))
	gauge(descHalted, boolean(s.Engine.Halted() != nil))
	s.collectQueue(now, gauge)
	s.collectUndecided(now, gauge)
	position, at := s.m.newest.get()
	gauge(descPosition, float64(position))
	if s.Room != nil {
		if free, total, err := s.Room(); err == nil {
			gauge(descFree, float64(free))
			gauge(descTotal, float64(total))
		}
	}
	if s.Syncs != nil {
		count, within, sum := s.Syncs()
		ch <- prometheus.MustNewConstHistogram(descSyncs, count, sum, within)
	}
	for name, lag := range s.Views {
		l := lag()
		applied, _ := l.Applied.Position()
		gauge(descViewPosition, float64(applied), name)
		gauge(descViewCaughtUp, boolean(l.CaughtUp), name)
		behind := time.Duration(0)
		if !at.IsZero() && applied < position {
			since := l.RecordedAt
			if since.IsZero() {
				since = s.m.began // nothing was applied by this process yet
			}
			behind = max(0, at.Sub(since))
		}
		gauge(descViewLag, behind.Seconds(), name)
	}
}

// collectQueue leaves its figures out if the view can't be read: none is
// better than a false one.
func (s *state) collectQueue(now time.Time, gauge func(*prometheus.Desc, float64, ...string)) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTime)
	defer cancel()
	items, err := s.Queue.List(ctx)
	if err != nil {
		return
	}
	states := map[op.State]int{op.StateStarted: 0, op.StateLaunching: 0, op.StateTaskRunning: 0}
	corrupt, oldest := 0, time.Duration(0)
	for _, it := range items {
		if it.Corrupt != "" {
			corrupt++
			continue
		}
		states[it.State]++
		oldest = max(oldest, now.Sub(it.Since))
	}
	for state, n := range states {
		gauge(descInFlight, float64(n), state.String())
	}
	gauge(descCorrupt, float64(corrupt))
	gauge(descOldest, oldest.Seconds())
}

func (s *state) collectUndecided(now time.Time, gauge func(*prometheus.Desc, float64, ...string)) {
	n, oldest := 0, time.Duration(0)
	for _, a := range s.Engine.Left() {
		if a.Outcome == engine.Indeterminate {
			n++
			oldest = max(oldest, now.Sub(a.Since))
		}
	}
	gauge(descIndeterminate, float64(n))
	gauge(descUndecided, oldest.Seconds())
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
