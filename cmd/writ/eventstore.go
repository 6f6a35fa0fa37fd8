package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"writ/adapters/esdbserver"
	"writ/adapters/pebblestore"
	"writ/domain/eventstore"
)

type eventstoreFlags struct {
	store, listen, addressFile string
	create, writable           bool
	access                     eventsAccess
	fill                       string
	grace                      time.Duration
}

// An eventsServing is what eventstore tells as soon as it answers.
type eventsServing struct {
	URL      string `json:"url"` // a connection string, without credentials
	Ledger   string `json:"ledger"`
	Store    string `json:"store"`
	Writable bool   `json:"writable"`
}

func newEventstoreCmd(a *app) *cobra.Command {
	var f eventstoreFlags
	cmd := &cobra.Command{
		Use:   "eventstore",
		Short: "Serve an embedded store alone, over EventStoreDB's protocol",
		Long: `Serves the ledger in a folder to EventStoreDB clients, in any language, until it is
interrupted: reads, catch-up subscriptions and, with --writable, appends, deletes and
tombstones. There are no persistent subscriptions and no projections.

The folder is held meanwhile: nothing else can open it, writ serve neither. Without
--writable nobody can change anything. A ledger that writ init made belongs to writ
serve, which alone may write to it, so --writable refuses it; make another with
--create.

Who reads a ledger of ops reads the writs in it whole: give access to those who could
be trusted with them.

Without --user everybody who can connect may do all of this, so it listens on loopback
addresses only, unless --insecure says that others see to who gets there. Clients send
credentials over TLS only.`,
		Example: `  writ eventstore --store events --create --writable
  writ eventstore --store ledger --listen 0.0.0.0:2113 --tls-cert node.crt --tls-key node.key \
    --user reader --password-file reader.password`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.eventstore(cmd.Context(), f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.store, "store", "", "folder with the ledger (required)")
	fl.BoolVar(&f.create, "create", false, "make a new ledger in the folder, which must not exist yet or be empty")
	fl.StringVar(&f.listen, "listen", "127.0.0.1:2113", "address and port; port 0 takes a free one")
	fl.BoolVar(&f.writable, "writable", false, "let clients append and delete")
	fl.StringVar(&f.access.Cert, "tls-cert", "", "certificate chain of the server, PEM")
	fl.StringVar(&f.access.Key, "tls-key", "", "its private key, PEM")
	fl.StringVar(&f.access.User, "user", "", "the name with which clients sign in")
	fl.StringVar(&f.access.PasswordFile, "password-file", "", "file with the password, on its first line")
	fl.BoolVar(&f.access.Insecure, "insecure", false, "listen on other than loopback addresses without --user or without TLS")
	fl.StringVar(&f.addressFile, "address-file", "", "write address and port to this file as soon as it answers, for scripts that listen on port 0")
	fl.DurationVar(&f.grace, "grace", 5*time.Second, "how long appends under way are waited for at the end")
	fl.StringVar(&f.fill, "import", "", "fill the ledger that --create makes with events from a file of test data")
	_ = fl.MarkHidden("import") // it exists
	return cmd
}

func (a *app) eventstore(ctx context.Context, f eventstoreFlags) (err error) {
	switch {
	case f.store == "":
		return usagef("--store is missing: name the folder with the ledger")
	case f.fill != "" && !f.create:
		return usagef("--import fills a new ledger only: give --create too")
	}
	if err := f.access.check(f.listen); err != nil {
		return err
	}
	log := newLogger(logConfig{Level: "info", Format: "text"}, a.err)
	store, err := f.open(pebblestore.Options{Logger: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()

	cfg := esdbserver.Config{Store: store, Log: log, Clock: a.now}
	if f.writable {
		cfg.Writer = store
	}
	s, err := startEvents(f.listen, cfg, f.access)
	if err != nil {
		return err
	}
	defer func() {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), f.grace)
		defer cancel()
		err = errors.Join(err, s.Stop(stop))
	}()
	if err := a.tellEvents(s, store.LedgerID(), f); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case <-store.Halted():
		return store.Why()
	case err := <-s.Failed:
		return err
	}
}

// open takes hold of the ledger, after making it if that was asked for.
func (f eventstoreFlags) open(o pebblestore.Options) (*pebblestore.Store, error) {
	o.SystemStreams = f.writable
	if f.create {
		if err := f.make(o); err != nil {
			return nil, err
		}
	} else if f.writable {
		if _, err := os.Lstat(highWaterOf(f.store)); err == nil {
			return nil, fmt.Errorf("serve %s: the ledger belongs to writ serve (%s is beside it), which alone may write to it: leave --writable away, or make another with --create", f.store, highWaterOf(f.store))
		}
	}
	return pebblestore.Open(f.store, o)
}

// make makes a new ledger, empty or with the events of a file.
func (f eventstoreFlags) make(o pebblestore.Options) error {
	var id [8]byte
	_, _ = rand.Read(id[:])
	ledger := eventstore.LedgerID(hex.EncodeToString(id[:]))
	// Others can't look into it. That it is empty is for the store to say.
	if err := os.MkdirAll(f.store, 0o700); err != nil {
		return fileError("make", f.store, err)
	}
	if f.fill != "" {
		return pebblestore.Import(f.store, ledger, o, filledEvents(f.fill))
	}
	return pebblestore.Create(f.store, ledger, o)
}

func (a *app) tellEvents(s *eventServer, ledger eventstore.LedgerID, f eventstoreFlags) error {
	if f.addressFile != "" {
		// Whoever waits for the file never sees half of it.
		if err := replace(f.addressFile, []byte(s.Addr+"\n")); err != nil {
			return err
		}
	}
	v := eventsServing{URL: s.URL, Ledger: string(ledger), Store: f.store, Writable: f.writable}
	return a.show(v, func(w io.Writer) {
		mode := "read-only"
		if v.Writable {
			mode = "writable"
		}
		fmt.Fprintf(w, "writ serves the events of ledger %s, %s, at %s\n", v.Ledger, mode, v.URL)
	})
}
