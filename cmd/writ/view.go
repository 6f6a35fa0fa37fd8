package main

import (
	"context"
	"errors"
	"fmt"

	"writ/adapters/pebbleviews"
	"writ/projections"
)

// A view is a projection that is kept up to date in a folder of its own.
type view struct{ runner *projections.Runner }

// startView feeds one of the views until ctx ends.
func (s *service) startView(ctx context.Context, store *pebbleviews.Store, name string, make func(projections.ViewStore) projections.Projection) (*view, error) {
	in, err := store.View(name)
	if err != nil {
		return nil, err
	}
	v := &view{projections.New(s.Store, s.Store.name, in, make(in), s.opts.Log)}
	s.running.Go(func() {
		// Only what no repetition can mend ends it. A view that was built from
		// more than this ledger holds may mean that this ledger is an old copy,
		// which must not act: the whole service ends, not just the view.
		if err := v.runner.Run(ctx); ctx.Err() == nil {
			s.fail(fmt.Errorf("view %s: %w", name, err))
		}
	})
	return v, nil
}

// ready tells whether the view follows the ledger.
func (v *view) ready() error {
	lag := v.runner.Lag()
	switch {
	case lag.Err != nil:
		return lag.Err
	case !lag.CaughtUp:
		return errors.New("the view lags behind the ledger")
	}
	return nil
}
