package main

import (
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"writ/adapters/esdb"
	"writ/adapters/highwater"
	"writ/adapters/pebblestore"
	"writ/domain/engine"
	"writ/domain/eventstore"
	"writ/domain/signedop"
)

// Names of what init makes.
const (
	configName = "writ.yaml"
	policyName = "policy.yaml"
	ledgerName = "ledger"
)

//go:embed init_config.yaml
var initConfig string

//go:embed init_policy.yaml
var initPolicy string

// A made tells what init has made.
type made struct {
	Ledger   string `json:"ledger"`   // its id
	Audience string `json:"audience"` // what op documents must name
	Config   string `json:"config"`
	Policy   string `json:"policy"`
	Store    string `json:"store"`
}

func newInitCmd(a *app) *cobra.Command {
	var agent string
	var db eventstoreDBConfig
	cmd := &cobra.Command{
		Use:   "init [DIR]",
		Short: "Make a new ledger, with a configuration and a policy to fill in",
		Long: `Makes a folder with a new, empty ledger, a configuration file and a policy file
that allows nothing yet. Nothing that exists is overwritten.

The ledger gets a random id that stays with it for ever. Together with the agent's
name it is the audience that every op document must name, so that a writ for this
ledger runs nowhere else.

With --eventstoredb the ledger is made in that database, where several services can
share it: one of them leads, the others stand by.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := "."
			switch len(args) {
			case 0:
			case 1:
				dir = args[0]
			default:
				return usagef("init takes one folder at most, got %d", len(args))
			}
			return a.init(cmd.Context(), dir, agent, db)
		},
	}
	cmd.Flags().StringVar(&db.Connection, "eventstoredb", "", "make the ledger in this EventStoreDB: esdb://node:2113?tlsCAFile=ca.crt")
	cmd.Flags().StringVar(&db.Username, "eventstoredb-username", "", "whom to sign in to it as")
	cmd.Flags().StringVar(&db.PasswordFile, "eventstoredb-password-file", "", "file with the user's password alone")
	cmd.Flags().StringVar(&agent, "agent", "lab", "this agent's name, the first half of the audience")
	return cmd
}

func (a *app) init(ctx context.Context, dir, agent string, db eventstoreDBConfig) error {
	if err := signedop.CheckName(agent); err != nil {
		return usagef("--agent: %v", err)
	}
	m := made{
		Config: filepath.Join(dir, configName), Policy: filepath.Join(dir, policyName), Store: filepath.Join(dir, ledgerName),
	}
	// All are looked at first, so that a folder that is in use stays as it is.
	for _, path := range []string{m.Config, m.Policy, m.Store, highWaterOf(m.Store)} {
		if err := mustNotExist(path); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fileError("make", dir, err)
	}
	var id [8]byte
	_, _ = rand.Read(id[:])
	m.Ledger = hex.EncodeToString(id[:])
	m.Audience = agent + "/" + m.Ledger
	if err := makeLedger(ctx, m.Store, eventstore.LedgerID(m.Ledger), db); err != nil {
		return err
	}
	if db.Connection != "" {
		m.Store = "EventStoreDB"
	}
	fill := strings.NewReplacer("@store@", storeSection(db), "@agent@", agent, "@audience@", m.Audience, "@listen@", defaultListen)
	if err := writeNew(m.Policy, []byte(fill.Replace(initPolicy)), 0o600); err != nil {
		return err
	}
	if err := writeNew(m.Config, []byte(fill.Replace(initConfig)), 0o600); err != nil {
		return err
	}
	return a.show(m, m.text)
}

// makeLedger makes the ledger where it is to be.
func makeLedger(ctx context.Context, dir string, id eventstore.LedgerID, db eventstoreDBConfig) error {
	if db.Connection == "" {
		return createLedger(dir, highWaterOf(dir), id)
	}
	o, err := db.options(nil)
	if err != nil {
		return err
	}
	if err := esdb.Create(ctx, o, id); err != nil {
		return fmt.Errorf("--eventstoredb: %w", err)
	}
	return highwater.At(highWaterOf(dir)).Keep(ctx, engine.Mark{Ledger: id, At: systemClock{}.Now()})
}

// storeSection is what the configuration says of where the ledger is.
func storeSection(db eventstoreDBConfig) string {
	if db.Connection == "" {
		return `  embedded:
    # The ledger. It is the record: back it up, and never run a copy of it.
    path: ledger`
	}
	lines := []string{"  eventstoredb:", "    # The ledger, and who signs in to it. No credentials in the connection string.", fmt.Sprintf("    connection: %q", db.Connection)}
	if db.Username != "" {
		lines = append(lines, fmt.Sprintf("    username: %q", db.Username))
	}
	if db.PasswordFile != "" {
		lines = append(lines, fmt.Sprintf("    password_file: %q", db.PasswordFile))
	}
	return strings.Join(append(lines, "    # For how long the one that leads must not have been heard of before another one does.", "    # lease: 30s"), "\n")
}

// createLedger makes the ledger in a folder that others can't look into: the
// record holds the writs whole. The mark says that there was nothing in it.
func createLedger(dir, highWater string, id eventstore.LedgerID) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fileError("make", dir, err)
	}
	if err := pebblestore.Create(dir, id, pebblestore.Options{}); err != nil {
		return err
	}
	return highwater.At(highWater).Keep(context.Background(), engine.Mark{Ledger: id, At: systemClock{}.Now()})
}

func (m made) text(w io.Writer) {
	fmt.Fprintf(w, "A new ledger is made.\n\n")
	fmt.Fprintf(w, "  ledger    %s\n  audience  %s\n  store     %s\n  config    %s\n  policy    %s\n\n", m.Ledger, m.Audience, m.Store, m.Config, m.Policy)
	fmt.Fprintf(w, "Next: make keys (writ keygen), enrol people in the policy and check it (writ policy check %s),\n", m.Policy)
	fmt.Fprintf(w, "name the host in the configuration, and run: writ serve --config %s\n", m.Config)
}
