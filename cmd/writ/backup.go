package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"

	"github.com/spf13/cobra"

	"writ/adapters/httpapi"
)

// backupName is what a backup's folder may be called: it never leads out of
// the folder that backups are kept in.
var backupName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// backup makes a backup of a ledger in the folder that backups are kept in.
func backup(ctx context.Context, store *ledger, folder, name string) (httpapi.BackupMade, error) {
	if store.embedded == nil {
		return httpapi.BackupMade{}, errors.New("the ledger is in EventStoreDB: back it up as its documentation says")
	}
	now := systemClock{}.Now()
	if name == "" {
		name = fmt.Sprintf("%s-%s", store.LedgerID(), now.Format("20060102t150405z"))
	}
	if !backupName.MatchString(name) {
		return httpapi.BackupMade{}, fmt.Errorf("%q is not the name of a backup: lower-case letters, digits, dots and dashes", name)
	}
	// Others can't look into it: the record holds the writs whole.
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return httpapi.BackupMade{}, fileError("make", folder, err)
	}
	path := filepath.Join(folder, name)
	end, err := store.embedded.Backup(ctx, path)
	if err != nil {
		return httpapi.BackupMade{}, err
	}
	return httpapi.BackupMade{Path: path, Ledger: string(store.LedgerID()), Position: uint64(end), At: systemClock{}.Now()}, nil
}

func newBackupCmd(a *app) *cobra.Command {
	var f clientFlags
	var config string
	cmd := &cobra.Command{
		Use:   "backup [NAME]",
		Short: "Back up the ledger, while the service runs or not",
		Long: `Makes a complete copy of the ledger in the folder store.backups, on the machine of the
service, then opens it, reads all of it and compares its end with the ledger's. If the
service runs it is asked to (scope backup); with --config and no service running, this
command does it.

A backup shows what happened until it was made. It is not to be run in place of the
ledger while the ledger exists: it knows fewer spent nonces than the truth. What putting
one back means is said by writ store accept-rollback --help.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			name := ""
			switch {
			case len(args) > 1:
				return usagef("backup takes one name at most, got %d", len(args))
			case len(args) == 1:
				name = args[0]
			}
			if name != "" && !backupName.MatchString(name) {
				return usagef("%q is not the name of a backup: lower-case letters, digits, dots and dashes", name)
			}
			made, err := a.makeBackup(cmd.Context(), config, f, name)
			if err != nil {
				return err
			}
			return a.show(made, func(w io.Writer) {
				fmt.Fprintf(w, "Backup of ledger %s up to position %d, opened, read whole and compared:\n%s\n", made.Ledger, made.Position, made.Path)
			})
		},
	}
	f.register(cmd)
	cmd.Flags().StringVar(&config, "config", "", "configuration file: back the ledger up without a service")
	return cmd
}

func (a *app) makeBackup(ctx context.Context, config string, f clientFlags, name string) (made httpapi.BackupMade, err error) {
	if config == "" {
		return askForBackup(ctx, f, name)
	}
	c, err := loadConfig(config, os.Environ())
	if err != nil {
		return made, err
	}
	store, err := c.openLedger(ctx, slog.New(slog.DiscardHandler))
	if err != nil {
		return made, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return backup(ctx, store, c.Store.Backups, name)
}

func askForBackup(ctx context.Context, f clientFlags, name string) (made httpapi.BackupMade, err error) {
	c, err := f.open()
	if err != nil {
		return made, err
	}
	body := map[string]string{}
	if name != "" {
		body["name"] = name
	}
	r, err := c.do(ctx, http.MethodPost, "/v1/store/backup", body)
	switch {
	case err != nil:
		return made, err
	case r.problem != nil:
		return made, r.problem
	}
	if err := json.Unmarshal(r.body, &made); err != nil {
		return made, fmt.Errorf("ask %s: the answer can't be read: %w", c.base, err)
	}
	return made, nil
}
