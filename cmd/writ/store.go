package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/user"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"writ/adapters/highwater"
	"writ/adapters/pebbleviews"
	"writ/domain/engine"
	"writ/domain/eventstore"
	"writ/domain/op"
)

func newStoreCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "store",
		Short: "Look after the ledger itself",
		Args:  noArgs,
	}
	cmd.AddCommand(newBackupCmd(a), newStoreVerifyCmd(a), newStoreCopyCmd(a), newRebuildViewsCmd(a), newAcceptRollbackCmd(a))
	return cmd
}

type acceptFlags struct {
	config, reason string
	yes            bool
}

func newAcceptRollbackCmd(a *app) *cobra.Command {
	var f acceptFlags
	cmd := &cobra.Command{
		Use:   "accept-rollback",
		Short: "Take an older copy of the ledger for the one that counts from now on",
		Long: `For the case that the newest copy of the ledger is lost, and an older one was put in its
place: a backup, or a machine that was rolled back. The service does not launch anything
over such a copy, because writs may have run of which it knows nothing.

This puts on record that people take this copy for the one that counts. The ledger gets
a new audience, so every writ that was signed so far is void and nothing can run twice.
Whoever still wants something done signs a new writ, for the new audience and for the
target as it is now. Attempts that the host remembers and this copy does not are put on
record by name. The read models are deleted, and built again at the next start.

Stop the service first, and make sure that no other copy of the ledger is in use: only one
of them may act.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.acceptRollback(cmd.Context(), f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.config, "config", configDefault(), "configuration file; $"+configVariable+" names another default")
	fl.StringVar(&f.reason, "reason", "", "what happened, for the record (required)")
	fl.BoolVar(&f.yes, "yes", false, "do not ask")
	return cmd
}

// An acceptedRollback is what the command has done.
type acceptedRollback struct {
	Ledger   string   `json:"ledger"`
	Was      string   `json:"was"`      // the audience until now
	Audience string   `json:"audience"` // from now on
	Attempts []string `json:"attempts"` // that the host remembers, and this copy does not
}

func (a *app) acceptRollback(ctx context.Context, f acceptFlags) (err error) {
	if strings.TrimSpace(f.reason) == "" {
		return usagef("--reason is required: say what happened, it stands in the record")
	}
	c, err := loadConfig(f.config, os.Environ())
	if err != nil {
		return err
	}
	log := slog.New(slog.DiscardHandler)
	store, err := c.openLedger(ctx, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	was, err := engine.ReadProvenance(ctx, store)
	if err != nil {
		return err
	}
	host, err := c.openHost(log)
	if err != nil {
		return err
	}
	defer host.Close()
	strangers, err := unknownAttempts(ctx, store, func(known func(string) bool) ([]string, error) {
		return host.ForeignAttempts(ctx, func(c string) bool { return was.Accepted[c] || known(c) })
	})
	if err != nil {
		return fmt.Errorf("%w; without the host's answer this can't be told apart from another copy that acts", err)
	}
	done := acceptedRollback{Ledger: string(store.LedgerID()), Was: c.Agent + "/" + was.Audience, Attempts: strangers}
	fmt.Fprintf(a.err, "Ledger %s, audience %s.\nThe host remembers %d attempts of which this copy knows nothing.\n"+
		"All writs that were signed for this audience become void.\n", done.Ledger, done.Was, len(strangers))
	if !f.yes {
		ok, err := a.confirm(ctx, "Take this copy for the one that counts?")
		if err != nil {
			return err
		}
		if !ok {
			fmt.Fprintln(a.err, "Nothing was changed.")
			return &toldError{exitFailed}
		}
	}
	if err := clearViews(c.Store.Views); err != nil {
		return err
	}
	var id [8]byte
	_, _ = rand.Read(id[:])
	accepted := op.RollbackAccepted{
		Audience: hex.EncodeToString(id[:]), At: systemClock{}.Now(), By: userName(), Reason: f.reason, Attempts: strangers,
	}
	if err := engine.AcceptRollback(ctx, store, highwater.At(c.Store.HighWater), c.Agent, accepted); err != nil {
		return err
	}
	done.Audience = c.Agent + "/" + accepted.Audience
	return a.show(done, func(w io.Writer) {
		fmt.Fprintf(w, "This copy counts from now on. Its audience is %s.\nWrits that were signed for %s are void.\n", done.Audience, done.Was)
	})
}

// unknownAttempts gives what the host remembers and the ledger has never
// announced. The whole ledger is read for it.
func unknownAttempts(ctx context.Context, store eventstore.Store, ask func(known func(string) bool) ([]string, error)) ([]string, error) {
	strangers, err := ask(func(string) bool { return false })
	if err != nil || len(strangers) == 0 {
		return nil, err
	}
	for rec, err := range store.ReadAll(ctx, eventstore.Cursor{}, eventstore.Filter{StreamPrefixes: []string{op.StreamPrefix}}) {
		if err != nil {
			return nil, err
		}
		if rec.Type != op.TypeLaunching {
			continue
		}
		if e, err := op.Decode(rec.Type, rec.Data); err == nil {
			if l, ok := e.(*op.Launching); ok {
				strangers = slices.DeleteFunc(strangers, func(c string) bool { return c == l.Credential })
			}
		}
	}
	return strangers, nil
}

// clearViews deletes the read models: they may have been built from more than
// this copy of the ledger holds. A folder that is something else is refused.
func clearViews(dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	views, err := pebbleviews.Open(dir, pebbleviews.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	if err := views.Close(); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return fileError("delete", dir, err)
	}
	return nil
}

// userName is who runs the program, as the machine knows them.
func userName() string {
	u, err := user.Current()
	if err != nil {
		return fmt.Sprintf("uid %d", os.Getuid())
	}
	return u.Username
}
