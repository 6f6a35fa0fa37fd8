package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"writ/adapters/pebblestore"
	"writ/domain/eventstore"
)

// A storeVerdict is what the command has found.
type storeVerdict struct {
	Ledger  string   `json:"ledger"`
	Events  uint64   `json:"events"`
	Streams uint64   `json:"streams"`
	Broken  []string `json:"broken"` // why the chains of streams do not hold
	OK      bool     `json:"ok"`
}

func newStoreVerifyCmd(a *app) *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Read the whole store and check that nothing in it is damaged",
		Long: `Reads every block of the store against its checksum (of an embedded one) and every
event against the chain of its stream. It takes the time that reading takes. What the
events mean, signatures and decisions, is checked by writ audit verify.

Of an embedded ledger the service must be stopped, or a backup be named by the
configuration.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.verifyStore(cmd.Context(), config) },
	}
	cmd.Flags().StringVar(&config, "config", configDefault(), "configuration file; $"+configVariable+" names another default")
	return cmd
}

func (a *app) verifyStore(ctx context.Context, config string) (err error) {
	c, err := loadConfig(config, os.Environ())
	if err != nil {
		return err
	}
	store, err := c.openLedger(ctx, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if store.embedded != nil {
		if err := store.embedded.Verify(ctx, func(pebblestore.Progress) {}); err != nil {
			return err
		}
	}
	v, err := checkChains(ctx, store)
	if err != nil {
		return err
	}
	if err := a.show(v, v.text); err != nil {
		return err
	}
	if !v.OK {
		return &toldError{exitFailed}
	}
	return nil
}

const maxBroken = 100 // chains that are named

// checkChains checks each stream from its first event on, when that is met.
func checkChains(ctx context.Context, l *ledger) (storeVerdict, error) {
	v := storeVerdict{Ledger: string(l.LedgerID()), OK: true}
	for first, err := range l.ReadAll(ctx, eventstore.Cursor{}, eventstore.Filter{}) {
		if err != nil {
			return v, err
		}
		v.Events++
		if first.Revision > 0 {
			continue
		}
		v.Streams++
		check := chainOf(l.LedgerID(), first.Stream)
		for e, err := range l.ReadStream(ctx, first.Stream, 0) {
			if err == nil {
				err = check(e)
			}
			if err == nil {
				continue
			}
			if ctx.Err() != nil {
				return v, ctx.Err()
			}
			v.OK = false
			if len(v.Broken) < maxBroken {
				v.Broken = append(v.Broken, fmt.Sprintf("%.16s…: %v", first.Stream, err))
			}
			break
		}
	}
	return v, nil
}

func (v storeVerdict) text(w io.Writer) {
	if v.OK {
		fmt.Fprintf(w, "Ledger %s is whole: %d events in %d streams, every chain holds.\n", v.Ledger, v.Events, v.Streams)
		return
	}
	fmt.Fprintf(w, "Ledger %s is NOT whole: %d events in %d streams, and these chains do not hold:\n", v.Ledger, v.Events, v.Streams)
	for _, why := range v.Broken {
		fmt.Fprintln(w, "  "+why)
	}
}
