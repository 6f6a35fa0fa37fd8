package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"writ/adapters/esdb"
	"writ/adapters/pebblestore"
	"writ/domain/eventstore"
)

// A ledger is the store that the configuration names.
type ledger struct {
	eventstore.Store
	// name is the store's part of cursors and checkpoints: positions mean
	// nothing in another store.
	name string
	// embedded is the store if it is in a folder of this machine's, else nil.
	embedded *pebblestore.Store
	// health fails while the store can't be used, or is known to be damaged.
	health func(context.Context) error
	close  func() error
}

// Close ends the use of the store.
func (l *ledger) Close() error { return l.close() }

// storeName is the embedded store's part of a cursor.
const storeName = "pebble"

func openEmbedded(dir string, log *slog.Logger) (*ledger, error) {
	store, err := pebblestore.Open(dir, pebblestore.Options{Logger: log})
	if err != nil {
		return nil, err
	}
	return &ledger{Store: store, name: storeName, embedded: store, close: store.Close, health: func(context.Context) error { return store.Health().Err }}, nil
}

// openLedger opens the store of the configuration.
func (c *config) openLedger(ctx context.Context, log *slog.Logger) (*ledger, error) {
	if !c.Store.remote() {
		return openEmbedded(c.Store.Embedded.Path, log)
	}
	o, err := c.Store.EventStoreDB.options(log)
	if err != nil {
		return nil, err
	}
	store, err := esdb.Open(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("store.eventstoredb: %w", err)
	}
	return &ledger{Store: store, name: store.Name(), close: store.Close, health: store.Health}, nil
}

// How long a service waits for a database that is started with it.
const (
	databaseTime  = time.Minute
	databaseLooks = 2 * time.Second
)

// awaitLedger is openLedger for a service, which may be started before its
// database is.
func (c *config) awaitLedger(ctx context.Context, log *slog.Logger) (*ledger, error) {
	if !c.Store.remote() {
		return c.openLedger(ctx, log)
	}
	for waited := time.Duration(0); ; waited += databaseLooks {
		l, err := c.openLedger(ctx, log)
		if err == nil || waited >= databaseTime {
			return l, err
		}
		log.Warn("the database can't be used yet, trying again", "err", err)
		if wait := (systemClock{}).Wait(ctx, databaseLooks); wait != nil {
			return nil, errors.Join(err, wait)
		}
	}
}

// An eventstoreDBConfig says where the ledger is if not in a folder.
type eventstoreDBConfig struct {
	// Connection is an EventStoreDB connection string without credentials:
	// esdb://node1:2113,node2:2113,node3:2113?tlsCAFile=/etc/writ/ca.crt
	Connection string `yaml:"connection"`
	Username   string `yaml:"username"`
	// PasswordFile holds the user's password alone.
	PasswordFile string `yaml:"password_file"`
	// Lease is for how long the instance that leads must not have been heard
	// of before another one takes over.
	Lease duration `yaml:"lease"`
}

func (e eventstoreDBConfig) options(log *slog.Logger) (esdb.Options, error) {
	o := esdb.Options{Connection: esdb.Secret(e.Connection), Username: e.Username, Logger: log}
	if e.PasswordFile != "" {
		password, err := readSecretFile(e.PasswordFile)
		if err != nil {
			return o, fmt.Errorf("store.eventstoredb.password_file: %w", err)
		}
		o.Password = esdb.Secret(password)
	}
	return o, nil
}

// remote tells whether the ledger is in a database.
func (s storeConfig) remote() bool { return s.EventStoreDB.Connection != "" }

// lease is the engine's: an embedded store is used by one service alone.
func (s storeConfig) lease() time.Duration {
	if !s.remote() {
		return 0
	}
	return time.Duration(s.EventStoreDB.Lease)
}

// check finds what is missing, wrong or in conflict.
func (s storeConfig) check() *badKey {
	switch {
	case s.remote() && s.Embedded.Path != "":
		return &badKey{"store.eventstoredb", "given beside store.embedded", "the ledger is in one place: leave one of them out"}
	case !s.remote() && s.Embedded.Path == "":
		return &badKey{"store.embedded.path", "missing", "the folder that writ init made; or store.eventstoredb.connection"}
	case !s.remote() && (s.EventStoreDB.Username != "" || s.EventStoreDB.PasswordFile != ""):
		return &badKey{"store.eventstoredb.connection", "missing, and username and password_file do nothing without it", "such as esdb://node1:2113?tlsCAFile=ca.crt"}
	case s.remote() && time.Duration(s.EventStoreDB.Lease) < 20*time.Second:
		return &badKey{"store.eventstoredb.lease", "shorter than 20s, in which a healthy instance may not be heard of", "30s is the default"}
	}
	return nil
}
