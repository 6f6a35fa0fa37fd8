package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"writ/adapters/esdb"
	"writ/adapters/highwater"
	"writ/domain/engine"
	"writ/domain/eventstore"
	"writ/domain/eventstore/transfer"
	"writ/domain/gate"
	"writ/domain/op"
)

type copyFlags struct {
	config, to string
	yes        bool
}

// A copied ledger is what the command has done.
type copied struct {
	Ledger  string `json:"ledger"`
	To      string `json:"to"` // the target's name in cursors
	Events  uint64 `json:"events"`
	Streams uint64 `json:"streams"`
	Copied  uint64 `json:"copied"` // by this run
	Broken  uint64 `json:"broken"` // streams whose chain holds neither here nor there
}

func newStoreCopyCmd(a *app) *cobra.Command {
	var f copyFlags
	cmd := &cobra.Command{
		Use:   "copy",
		Short: "Move the ledger to another store",
		Long: `Copies the whole ledger, in its order, from the store of one configuration to that of
another: from a folder to EventStoreDB, or back. Then it compares both event by event,
checks every chain at the target, and closes the source: no service leads over it any more.

The target must be empty or hold the beginning of this very ledger: a copy that was
interrupted goes on where it ended. Anything else under the same names is refused, and
nothing is changed. Stop the services first. Cursors and checkpoints of the old store
mean nothing in the new one, and are refused there: whoever follows begins anew.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.copyStore(cmd.Context(), f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.config, "config", configDefault(), "configuration of the ledger as it is; $"+configVariable+" names another default")
	fl.StringVar(&f.to, "to", "", "configuration of the ledger as it is to be (required)")
	fl.BoolVar(&f.yes, "yes", false, "do not ask")
	return cmd
}

func (a *app) copyStore(ctx context.Context, f copyFlags) (err error) {
	if f.to == "" {
		return usagef("--to is required: the configuration that names the new store")
	}
	from, err := loadConfig(f.config, nil)
	if err != nil {
		return err
	}
	to, err := loadConfig(f.to, os.Environ())
	if err != nil {
		return err
	}
	if from.Agent != to.Agent {
		return usagef("agent: %s is %q and %s is %q: the agent's name is part of every audience and can't change", f.config, from.Agent, f.to, to.Agent)
	}
	log := slog.New(slog.DiscardHandler)
	source, err := from.openLedger(ctx, log)
	if err != nil {
		return fmt.Errorf("the source: %w", err)
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	target, err := to.openTarget(ctx, source.LedgerID(), log)
	if err != nil {
		return fmt.Errorf("the target: %w", err)
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	if source.name == target.name && source.embedded == nil {
		return usagef("%s and %s name the same store", f.config, f.to)
	}
	if !f.yes {
		ok, err := a.confirm(ctx, fmt.Sprintf("Move ledger %s and close the store that it is in now?", source.LedgerID()))
		if err != nil {
			return err
		}
		if !ok {
			fmt.Fprintln(a.err, "Nothing was changed.")
			return &toldError{exitFailed}
		}
	}
	report, err := a.moveLedger(ctx, from.Agent, source, target)
	if err != nil {
		return err
	}
	if err := markEnd(ctx, target, to.Store.HighWater); err != nil {
		return err
	}
	done := copied{
		Ledger: string(source.LedgerID()), To: target.name,
		Events: report.Events, Streams: report.Streams, Copied: report.Copied, Broken: report.Broken,
	}
	return a.show(done, func(w io.Writer) {
		fmt.Fprintf(w, "Ledger %s is in %s now: %d events in %d streams, compared one by one, every chain checked.\n", done.Ledger, done.To, done.Events, done.Streams)
		if done.Broken > 0 {
			fmt.Fprintf(w, "%d streams have a broken chain, here as there. writ audit verify says which.\n", done.Broken)
		}
		fmt.Fprintf(w, "The old store is closed. Next: writ serve --config %s\n", f.to)
	})
}

// moveLedger copies, closes the source, and compares once more: whatever got in
// while the copy was made is in it, and nothing gets in any more.
func (a *app) moveLedger(ctx context.Context, agent string, source, target *ledger) (transfer.Report, error) {
	o := transfer.Options{
		Chain: func(s eventstore.StreamID) func(eventstore.Recorded) error { return chainOf(source.LedgerID(), s) },
		Leave: []eventstore.StreamID{op.StoreStream}, Progress: a.copyProgress(),
	}
	who := engine.Identity{Site: gate.Site{Agent: agent}, Instance: "store-copy"}
	if _, err := engine.ReadProvenance(ctx, source); err == nil {
		// Whoever leads over the source finds its lead gone, and, at the next
		// take-over, the store closed.
		if _, err := engine.TakeOver(ctx, source, who, systemClock{}); err != nil {
			return transfer.Report{}, err
		}
	} else if closed := new(engine.ClosedError); !errors.As(err, &closed) || closed.To != target.name {
		return transfer.Report{}, err
	}
	first, err := transfer.Copy(ctx, source, target, o)
	if err != nil {
		return first, err
	}
	if _, err := engine.ReadProvenance(ctx, source); err == nil {
		closing := op.StoreClosed{At: systemClock{}.Now(), By: userName(), To: target.name}
		if err := engine.CloseStore(ctx, source, closing); err != nil {
			return first, err
		}
	}
	report, err := transfer.Copy(ctx, source, target, o)
	report.Copied += first.Copied
	return report, err
}

// copyProgress shows how far a copy is, on a terminal.
func (a *app) copyProgress() func(transfer.Progress) {
	if a.asJSON || !isTerminal(a.err) {
		return nil
	}
	return func(p transfer.Progress) { fmt.Fprintf(a.err, "\r%s: %d events", p.Phase, p.Events) }
}

// chainOf checks the events of one stream, one after the other.
func chainOf(id eventstore.LedgerID, stream eventstore.StreamID) func(eventstore.Recorded) error {
	var tail op.Tail
	return func(e eventstore.Recorded) error {
		next, err := tail.Check(string(id), string(stream), engine.RecordOf(e))
		tail = next
		return err
	}
}

// openTarget opens the store of the configuration, made for this ledger if there
// is none.
func (c *config) openTarget(ctx context.Context, id eventstore.LedgerID, log *slog.Logger) (*ledger, error) {
	if c.Store.remote() {
		o, err := c.Store.EventStoreDB.options(log)
		if err != nil {
			return nil, err
		}
		if err := esdb.Create(ctx, o, id); err != nil && !errors.Is(err, esdb.ErrExists) {
			return nil, err
		}
		return c.openLedger(ctx, log)
	}
	if _, err := os.Stat(c.Store.Embedded.Path); errors.Is(err, os.ErrNotExist) {
		if err := createLedger(c.Store.Embedded.Path, c.Store.HighWater, id); err != nil {
			return nil, err
		}
	}
	return c.openLedger(ctx, log)
}

// markEnd makes the end of a ledger its high-water mark.
func markEnd(ctx context.Context, l *ledger, path string) error {
	mark := engine.Mark{Ledger: l.LedgerID(), At: systemClock{}.Now()}
	for e, err := range l.ReadAll(ctx, eventstore.Cursor{}, eventstore.Filter{}) {
		if err != nil {
			return err
		}
		mark.Position, mark.Event = e.Position, e.ID
	}
	return highwater.At(path).Keep(ctx, mark)
}
