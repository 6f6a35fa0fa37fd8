package projections

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"writ/domain/eventstore"
	"writ/domain/op"
)

const (
	// maxBatch bounds the notices whose changes are committed together.
	maxBatch = 512
	// waiting bounds the events that are read ahead of the one being applied.
	waiting = 128

	firstBackoff = 100 * time.Millisecond
	maxBackoff   = 30 * time.Second
)

// A Runner keeps one view up to date. Run must not be called twice at a time;
// the other methods may be called concurrently with it and with each other.
type Runner struct {
	store      eventstore.Store
	storeName  string
	view       ViewStore
	projection Projection
	log        *slog.Logger
	progress   progress
}

// New makes a runner. The name of the store goes into the checkpoints: a view
// fed from one store is refused to another, even of the same ledger, because
// their positions differ.
//
// To build a view again, clear its ViewStore before Run.
func New(store eventstore.Store, storeName string, view ViewStore, p Projection, log *slog.Logger) *Runner {
	return &Runner{
		store: store, storeName: storeName, view: view, projection: p,
		log:      log.With("projection", p.Name()),
		progress: progress{changed: make(chan struct{})},
	}
}

// Run follows the ledger until ctx ends, and then gives its error. Any failure
// of the ledger or of the view is logged, shown by Lag, and overcome by
// starting again from the view's checkpoint, after a pause that grows to half
// a minute. Only what no repetition can mend ends it: a *RefusedError, or
// eventstore.ErrClosed.
func (r *Runner) Run(ctx context.Context) error {
	r.progress.begin()
	pause := firstBackoff
	for {
		progressed, err := r.follow(ctx)
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		var refused *RefusedError
		if ctx.Err() != nil || errors.As(err, &refused) || errors.Is(err, eventstore.ErrClosed) {
			r.progress.end(err)
			return err
		}
		if progressed {
			pause = firstBackoff
		}
		r.progress.failing(err)
		r.log.WarnContext(ctx, "following the ledger failed, starting again", "err", err, "pause", pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, maxBackoff)
	}
}

// a told is an element of a subscription.
type told struct {
	eventstore.Notice
	err error
}

var errEnded = errors.New("the subscription ended")

// follow applies the ledger to the view from its checkpoint on until something
// fails. It tells whether the checkpoint has moved on.
func (r *Runner) follow(ctx context.Context) (progressed bool, err error) {
	from, err := r.open(ctx)
	if err != nil {
		return false, err
	}
	r.progress.opened(from)

	// The subscription is read in a goroutine of its own so that, when events
	// come one by one, it can be seen that no more are waiting and a commit is
	// due.
	ctx, cancel := context.WithCancel(ctx)
	notices := make(chan told, waiting)
	go func() {
		defer close(notices)
		for n, err := range r.store.Subscribe(ctx, from.cursor(), r.projection.Filter()) {
			select {
			case notices <- told{n, err}:
			case <-ctx.Done():
				return
			}
		}
	}()
	defer func() {
		cancel()
		for range notices { // until the goroutine has ended
		}
	}()

	b := batch{checkpoint: from, changes: newChanges(r.view)}
	live := false
	for n := range notices {
		switch {
		case n.err != nil:
			err = fmt.Errorf("follow the ledger: %w", n.err)
		case n.Kind == eventstore.NewEvent:
			err = r.apply(ctx, &b, n.Event)
		case n.Kind == eventstore.CaughtUp:
			live = true
			b.checkpoint = b.checkpoint.moved(n.At)
		case n.Kind == eventstore.Checkpoint:
			b.checkpoint = b.checkpoint.moved(n.At)
		default:
			err = fmt.Errorf("follow the ledger: a notice of unknown kind %d", n.Kind)
		}
		if err == nil {
			b.notices++
		}
		// What was applied before an error is committed: a store that fails
		// again and again must not keep the view from moving on.
		due := err != nil || b.notices >= maxBatch || live && len(notices) == 0
		if due && b.notices > 0 {
			if cerr := r.commit(ctx, &b, live); cerr != nil {
				return progressed, errors.Join(err, cerr)
			}
			progressed = progressed || b.checkpoint.cursor() != from.cursor()
		}
		if err != nil {
			return progressed, err
		}
	}
	return progressed, errEnded
}

// A batch is what the next commit makes true.
type batch struct {
	checkpoint checkpoint
	changes    *Changes
	notices    int       // that are in it
	recorded   time.Time // the newest event
}

// apply puts one event into the batch. After an error the batch is as it was.
func (r *Runner) apply(ctx context.Context, b *batch, e eventstore.Recorded) error {
	if at, ok := b.checkpoint.cursor().Position(); ok && e.Position <= at {
		return fmt.Errorf("the store gave position %d again after %d", e.Position, at)
	}
	trial := newChanges(b.changes)
	if err := r.projection.Apply(ctx, trial, e); err != nil {
		return fmt.Errorf("apply revision %d of %s at position %d: %w", e.Revision, shortName(e.Stream), e.Position, err)
	}
	maps.Copy(b.changes.set, trial.set)
	b.checkpoint = b.checkpoint.moved(eventstore.After(e.Position))
	b.checkpoint.Last = markOf(e)
	b.recorded = e.RecordedAt
	return nil
}

// commit makes a batch part of the view, with its checkpoint, and empties it.
//
// If it fails, nobody knows whether the batch is in the view. The runner then
// drops all it has and begins again at the checkpoint that the view holds: the
// new one if the batch is in it, the old one if not.
func (r *Runner) commit(ctx context.Context, b *batch, live bool) error {
	text, err := op.Marshal(b.checkpoint)
	if err != nil {
		return fmt.Errorf("write the checkpoint: %w", err)
	}
	changes := b.changes.batch()
	changes.Set = append(changes.Set, Entry{Key: checkpointKey, Value: text})
	if err := r.view.Commit(ctx, changes); err != nil {
		return fmt.Errorf("commit the view: %w", err)
	}
	r.progress.committed(*b, live)
	*b = batch{checkpoint: b.checkpoint, changes: newChanges(r.view)}
	return nil
}

// shortName keeps nonces out of errors.
func shortName(s eventstore.StreamID) string {
	if n, ok := op.NonceOfStream(string(s)); ok {
		return op.StreamPrefix + n.Short()
	}
	return fmt.Sprintf("%.64q", s)
}
