package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
)

// A checkpoint is the path of a file that keeps a position. A position means
// something in one store alone, so each store needs a file of its own.
type checkpoint string

// load gives where to go on: the start, if nothing was stored yet.
func (c checkpoint) load() (esdb.AllPosition, error) {
	text, err := os.ReadFile(string(c))
	if errors.Is(err, fs.ErrNotExist) {
		return esdb.Start{}, nil
	}
	if err != nil {
		return nil, err
	}
	var p esdb.Position
	if _, err := fmt.Sscanf(string(text), "%d/%d\n", &p.Commit, &p.Prepare); err != nil {
		return nil, fmt.Errorf("checkpoint %s: %q is no position: %w", c, text, err)
	}
	return p, nil
}

// store puts a position in the place of the one before, whole or not at all.
func (c checkpoint) store(p esdb.Position) error {
	f, err := os.Create(string(c) + ".new")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%d/%d\n", p.Commit, p.Prepare)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), string(c))
}
