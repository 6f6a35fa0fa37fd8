package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"writ/adapters/pebbleviews"
	"writ/projections"
	"writ/projections/status"
)

// The views of a service. Of the first ones each answers a question on which
// the start of the service waits: they are cleared, and built again then.
var (
	plainViews  = []string{"appliedkeys", "attempts", "recoveryqueue"}
	shelvedView = status.View{}.Name()
)

// shelfSlots are where the view of all ops is kept: it is built again beside
// the one that serves.
func shelfSlots(store *pebbleviews.Store) (slots projections.Slots, err error) {
	for _, s := range []struct {
		suffix string
		to     *projections.ViewStore
	}{{"-a", &slots.A}, {"-b", &slots.B}, {"-plan", &slots.Plan}} {
		v, err := store.View(shelvedView + s.suffix)
		if err != nil {
			return projections.Slots{}, err
		}
		*s.to = v
	}
	return slots, nil
}

// startStatus feeds the view of all ops until ctx ends. Nothing waits for it
// but those who ask for lists.
func (s *service) startStatus(ctx context.Context, store *pebbleviews.Store) error {
	slots, err := shelfSlots(store)
	if err != nil {
		return err
	}
	s.ops, err = projections.OpenShelf(ctx, s.Store, s.Store.name, slots, status.View{}, s.opts.Log)
	if err != nil {
		return err
	}
	s.running.Go(func() {
		// As with the other views: what ends it by itself may mean that this
		// ledger is an old copy.
		if err := s.ops.Run(ctx); ctx.Err() == nil {
			s.fail(fmt.Errorf("view %s: %w", shelvedView, err))
		}
	})
	return nil
}

// A rebuildOrder is what the command has done.
type rebuildOrder struct {
	Views []string `json:"views"` // that are built again
}

func newRebuildViewsCmd(a *app) *cobra.Command {
	var (
		f      clientFlags
		config string
	)
	all := append(slices.Clone(plainViews), shelvedView)
	cmd := &cobra.Command{
		Use:   "rebuild-views [VIEW...]",
		Short: "Have the read models built again from the ledger",
		Long: `Has the views of the ledger built again from the first event on, for the case that one
gives errors or what it says is in doubt. The ledger itself is not touched, and nothing
that must not happen twice rests on a view.

A service that runs is asked (scope backup) to build ` + shelvedView + ` again, the view behind
writ ops ls. The view there is goes on serving until the new one has reached the end of
the ledger.

With --config, and no service running, it is put down for the next start, which builds
` + strings.Join(plainViews, ", ") + ` before anything is launched, and
` + shelvedView + ` beside the one there is. Without a VIEW all are built again.`,
		ValidArgs: all,
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, name := range args {
				if !slices.Contains(all, name) {
					return usagef("there is no view %q: they are %s", name, strings.Join(all, ", "))
				}
				if config == "" && name != shelvedView {
					return usagef("%s is built again by a start of the service alone: stop it, and give --config", name)
				}
			}
			args = slices.Compact(slices.Sorted(slices.Values(args)))
			if config == "" {
				if err := orderRebuild(cmd.Context(), f); err != nil {
					return err
				}
				return a.show(rebuildOrder{[]string{shelvedView}}, func(w io.Writer) {
					fmt.Fprintf(w, "The service builds %s again; the one there is serves until that is done.\n", shelvedView)
				})
			}
			if len(args) == 0 {
				args = all
			}
			c, err := loadConfig(config, os.Environ())
			if err != nil {
				return err
			}
			if err := askRebuild(cmd.Context(), c.Store.Views, args); err != nil {
				return err
			}
			return a.show(rebuildOrder{args}, func(w io.Writer) {
				fmt.Fprintf(w, "The next start of the service builds again: %s.\n", strings.Join(args, ", "))
			})
		},
	}
	f.register(cmd)
	cmd.Flags().StringVar(&config, "config", "", "configuration file: put it down for the next start of the service")
	return cmd
}

// orderRebuild asks a service that runs.
func orderRebuild(ctx context.Context, f clientFlags) error {
	c, err := f.open()
	if err != nil {
		return err
	}
	r, err := c.do(ctx, http.MethodPost, "/v1/store/rebuild-view", map[string]string{"view": shelvedView})
	if err == nil && r.problem != nil {
		return r.problem
	}
	return err
}

// askRebuild puts down which views are to be built again. After an error some
// may be.
func askRebuild(ctx context.Context, dir string, names []string) (err error) {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("views %s: there is no such folder, so the next start builds all views; is store.views right?", dir)
	}
	store, err := pebbleviews.Open(dir, pebbleviews.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	for _, name := range names {
		if name == shelvedView {
			slots, err := shelfSlots(store)
			if err != nil {
				return err
			}
			if err := projections.AskRebuild(ctx, slots); err != nil {
				return err
			}
			continue
		}
		v, err := store.View(name)
		if err != nil {
			return err
		}
		if err := v.Clear(ctx); err != nil {
			return err
		}
	}
	return nil
}
