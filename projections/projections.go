// Package projections keeps read models: views of the ledger that answer one
// kind of question fast.
//
// A view is never the truth. It lags behind the ledger, may be thrown away at
// any time, and is then built again from the first event on. Nothing that
// must not happen twice rests on one: 'once' is the business of the expected
// revision at which an op's events are appended.
//
// A [Runner] feeds one [Projection] from the ledger into one [ViewStore]. What
// makes it safe to stop at any moment is that the changes that an event makes
// and the checkpoint that says that it was applied are committed together:
// after a crash, or a commit whose outcome is unknown, the checkpoint in the
// view tells which of both happened, and no event is skipped or applied twice.
//
// An event that can't be understood stops nothing but its own op: the views
// mark that op as corrupt (see [Track]) and go on.
//
// Package viewtest holds the contract of a ViewStore as tests, and one in
// memory.
package projections

import (
	"context"

	"writ/domain/eventstore"
)

// A Projection says what a view holds. Its methods are called by one Runner,
// never concurrently.
type Projection interface {
	// Name tells the view apart from others; it never changes.
	Name() string

	// Format is the version of the view's keys and values, and of the rules
	// that make them. A view of another format is cleared and built again.
	Format() int

	// Filter says which streams matter.
	Filter() eventstore.Filter

	// Apply changes the view by one event. The result depends on the event
	// and the view alone, so that a rebuild gives the same view.
	//
	// An error says that the view could not be read, never that the event
	// could not be understood: it is applied again until there is none.
	Apply(ctx context.Context, view *Changes, e eventstore.Recorded) error
}
