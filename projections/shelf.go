package projections

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"writ/domain/eventstore"
)

// Readable is a projection whose readers also understand views of older
// formats.
type Readable interface {
	Projection

	// Reads tells whether the readers understand a view of a format other than
	// the present one.
	Reads(format int) bool
}

// A Shelf keeps one view up to date, and builds it again beside the one that
// serves: at the request of people, and by itself when the view has an older
// format that its readers still understand. Readers change over to the new view
// when it has reached the end of the ledger, and not before; then the old one is
// removed.
//
// A view that has the present format is kept up to date while it is built again.
// One of an older format stands still meanwhile, which Lag shows. One of a
// format that nobody understands any more is cleared, as a [Runner] does.
//
// Run must not be called twice at a time; the other methods may be called
// concurrently with it and with each other.
type Shelf struct {
	store      eventstore.Store
	storeName  string
	projection Readable
	slots      Slots
	log        *slog.Logger
	asked      chan struct{} // holds one request to build the view again

	mu      sync.Mutex    // guards everything below
	plan    plan          // as saved, or about to be
	serving *shelved      // never nil
	next    *shelved      // nil unless the view is being built again
	changed chan struct{} // closed and replaced when another one serves
}

// A shelved view is one of the two. All but readers is fixed.
type shelved struct {
	view    ViewStore
	format  int
	runner  *Runner // nil: it stands still
	still   Lag     // of one that stands still
	readers sync.WaitGroup
}

var errStandsStill = errors.New("the view has an older format, and stands still while it is built again")

// OpenShelf finds out which view serves; from then on it can be read. The
// remaining arguments are those of New.
func OpenShelf(ctx context.Context, store eventstore.Store, storeName string, slots Slots, p Readable, log *slog.Logger) (*Shelf, error) {
	s := &Shelf{
		store: store, storeName: storeName, projection: p, slots: slots, log: log.With("projection", p.Name()),
		asked: make(chan struct{}, 1), changed: make(chan struct{}),
	}
	var err error
	if s.plan, err = slots.load(ctx); err != nil {
		return nil, fmt.Errorf("open view %s: %w", p.Name(), err)
	}
	s.serving = s.shelve(s.plan.Serving)
	if err := s.inspect(ctx); err != nil {
		return nil, fmt.Errorf("open view %s: %w", p.Name(), err)
	}
	if s.plan.Wanted || s.plan.Building || s.serving.runner == nil {
		s.next = s.shelve(s.plan.other())
	}
	return s, nil
}

// inspect looks at the view that serves: whether it stands still, and whether it
// can serve at all.
func (s *Shelf) inspect(ctx context.Context) error {
	v := s.serving
	have, found, err := v.runner.load(ctx)
	older := found && have.Format != s.projection.Format() && s.projection.Reads(have.Format)
	if err == nil && found && (older || s.plan.Wanted) {
		err = v.runner.checkLast(ctx, have)
	}
	var refused *RefusedError
	if errors.As(err, &refused) && s.plan.Wanted {
		// People asked for another view in its place, so it need not be looked
		// at any more. If this fails half-way, the wish still stands.
		s.log.WarnContext(ctx, "view can't serve and is built again at once", "err", err)
		if err := v.view.Clear(ctx); err != nil {
			return err
		}
		s.plan = plan{Serving: s.plan.Serving}
		return s.slots.save(ctx, s.plan)
	}
	if err != nil {
		return err
	}
	if older {
		v.format, v.runner, v.still = have.Format, nil, Lag{Applied: have.cursor(), Err: errStandsStill}
		s.log.InfoContext(ctx, "view has an older format, which serves until it is built again", "have", have.Format, "want", s.projection.Format())
	}
	return nil
}

func (s *Shelf) shelve(name string) *shelved {
	view := s.slots.view(name)
	return &shelved{
		view: view, format: s.projection.Format(),
		runner: New(s.store, s.storeName, view, s.projection, s.log),
	}
}

// Rebuild asks for the view to be built again from the first event on, beside
// the one that serves. It returns at once; if that is being done already,
// nothing changes.
func (s *Shelf) Rebuild() {
	select {
	case s.asked <- struct{}{}:
	default: // there is a request already
	}
}

// Read calls f with the view that serves, its format, and how far it was before
// f began; what f finds is at least that far. All that f reads is of that one
// view, which is not removed before f returns.
func (s *Shelf) Read(f func(view ViewStore, format int, lag Lag) error) error {
	s.mu.Lock()
	v := s.serving
	v.readers.Add(1) // under the lock: nobody waits for readers of one that still serves
	s.mu.Unlock()
	defer v.readers.Done()
	return f(v.view, v.format, v.lag())
}

func (v *shelved) lag() Lag {
	if v.runner == nil {
		return v.still
	}
	return v.runner.Lag()
}

// Lag gives how far the view is that serves.
func (s *Shelf) Lag() Lag {
	s.mu.Lock()
	v := s.serving
	s.mu.Unlock()
	return v.lag()
}

// Building gives how far the view is that is being built again; false if none
// is.
func (s *Shelf) Building() (Lag, bool) {
	s.mu.Lock()
	v := s.next
	s.mu.Unlock()
	if v == nil {
		return Lag{}, false
	}
	return v.lag(), true
}

// WaitFor waits until the view that serves holds all up to a position, as
// [Runner.WaitFor] does, also across a change of views.
func (s *Shelf) WaitFor(ctx context.Context, p eventstore.Position) error {
	for {
		s.mu.Lock()
		v, changed := s.serving, s.changed
		s.mu.Unlock()
		again, err := v.waitFor(ctx, p, changed)
		if !again {
			return err
		}
	}
}

// waitFor waits for one view; again if another one serves by then.
func (v *shelved) waitFor(ctx context.Context, p eventstore.Position, changed <-chan struct{}) (again bool, err error) {
	if v.runner == nil {
		if at, ok := v.still.Applied.Position(); ok && at >= p {
			return false, nil
		}
		select {
		case <-changed:
			return true, nil
		case <-ctx.Done():
			return false, fmt.Errorf("wait for position %d: %w", p, errors.Join(ctx.Err(), errStandsStill))
		}
	}
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- v.runner.WaitFor(waiting, p) }()
	select {
	case err := <-done:
		select {
		case <-changed:
			return err != nil, nil
		default:
			return false, err
		}
	case <-changed:
		cancel()
		_ = <-done
		return true, nil
	}
}
