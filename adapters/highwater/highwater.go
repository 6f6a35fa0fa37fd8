// Package highwater keeps a ledger's high-water mark in a file of its own:
// which event was on record, at which position. It is a witness against an old
// copy of the ledger, so the file belongs on another disk than the ledger, and
// in no backup that is restored together with it.
package highwater

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"writ/domain/engine"
	"writ/domain/eventstore"
)

// A File keeps the mark. It implements [engine.Witness].
type File struct{ path string }

var _ engine.Witness = File{}

// At gives the mark in a file, which need not exist yet. Its folder must.
func At(path string) File { return File{path: path} }

// Path is where the mark is kept.
func (f File) Path() string { return f.path }

// stored is the file's content.
type stored struct {
	Version  int       `json:"version"`
	Ledger   string    `json:"ledger"`
	Position uint64    `json:"position"`
	Event    string    `json:"event"`
	At       time.Time `json:"at"`
}

// Seen implements [engine.Witness]. A file that can't be read, or that is not
// whole, is an error and never no mark.
func (f File) Seen(context.Context) (engine.Mark, bool, error) {
	data, err := os.ReadFile(f.path)
	if errors.Is(err, os.ErrNotExist) {
		return engine.Mark{}, false, nil
	}
	if err != nil {
		return engine.Mark{}, false, err
	}
	m, err := parse(data)
	if err != nil {
		return engine.Mark{}, false, fmt.Errorf("%s: %w", f.path, err)
	}
	return m, true, nil
}

func parse(data []byte) (engine.Mark, error) {
	var s stored
	if err := json.Unmarshal(data, &s, json.RejectUnknownMembers(true)); err != nil {
		return engine.Mark{}, fmt.Errorf("not a high-water mark: %w", err)
	}
	if s.Version != 1 {
		return engine.Mark{}, fmt.Errorf("high-water mark of version %d, this program reads version 1", s.Version)
	}
	m := engine.Mark{Ledger: eventstore.LedgerID(s.Ledger), Position: eventstore.Position(s.Position), At: s.At}
	id, err := hex.DecodeString(s.Event)
	if err != nil || len(id) != len(m.Event) || s.Event != strings.ToLower(s.Event) {
		return engine.Mark{}, fmt.Errorf("high-water mark: event: got %q, want %d lower-case hex digits", s.Event, 2*len(m.Event))
	}
	copy(m.Event[:], id)
	return m, nil
}

// Keep implements [engine.Witness]: the file is replaced as a whole, and synced
// before it takes the old one's place. If the power fails in between, the old
// one is there.
func (f File) Keep(_ context.Context, m engine.Mark) error {
	data, err := json.Marshal(stored{
		Version: 1, Ledger: string(m.Ledger), Position: uint64(m.Position), Event: hex.EncodeToString(m.Event[:]), At: m.At.UTC(),
	}, jsontext.Multiline(true))
	if err != nil {
		return err
	}
	return f.replace(append(data, '\n'))
}

func (f File) replace(data []byte) (err error) {
	dir := filepath.Dir(f.path)
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(f.path)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), f.path); err != nil {
		return err
	}
	folder, err := os.Open(dir) //nolint:gosec // the folder is the operator's choice
	if err != nil {
		return nil // the file is in its place; only after a power failure may it be the old one
	}
	defer folder.Close()
	return folder.Sync()
}
