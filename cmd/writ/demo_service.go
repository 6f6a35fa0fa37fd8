package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"writ/adapters/pebblestore"
)

// How long the service of the demo may take to stop. Nothing runs by then.
const demoStopTime = 10 * time.Second

// startService runs the whole service by the configuration file, as writ serve
// does, and takes hold of its ledger for reading.
func (w *demoWorld) startService(ctx context.Context) error {
	c, err := loadConfig(w.path("writ.yaml"), nil)
	if err != nil {
		return err
	}
	s, err := startService(ctx, serviceOptions{Config: c, Log: slog.New(slog.DiscardHandler), Version: readVersion().Version})
	if err != nil {
		return err
	}
	w.service, w.base, w.ledger = s, s.URL, s.Store
	return nil
}

// stopService ends the service; without one it does nothing.
func (w *demoWorld) stopService(ctx context.Context) error {
	if w.service == nil {
		return nil
	}
	// The demo may have been interrupted: what remains is given its time.
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), demoStopTime)
	defer cancel()
	w.client.CloseIdleConnections()
	err := w.service.Stop(stopping)
	w.service, w.ledger = nil, nil
	return err
}

// onDisk lets the ledger be read from its folder alone, while no service runs.
func (w *demoWorld) onDisk(read func() error) error {
	store, err := pebblestore.Open(w.path("ledger"), pebblestore.Options{})
	if err != nil {
		return err
	}
	w.ledger = store
	err = read()
	w.ledger = nil
	return errors.Join(err, store.Close())
}
