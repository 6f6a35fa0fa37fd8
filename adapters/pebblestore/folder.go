package pebblestore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"writ/domain/eventstore"
)

// formatVersion is the format that this program writes. A folder names the
// oldest version that may write to it, which need not be its own: a format can
// grow in ways that an older program does no harm to.
const formatVersion = 1

// Files of ours beside pebble's.
const (
	markerFile = "writ-ledger" // what the folder is; written last by Create, never changed
	ownerFile  = "writ-owner"  // who holds it; for people, the lock is what counts
	endFile    = "writ-end"    // the ledger reached at least here
	damageFile = "writ-damage" // what was found damaged while the ledger was in use; gone when all is sound again
)

// A marker says what a folder is.
type marker struct {
	format, oldestWriter int
	ledger               eventstore.LedgerID
}

func (m marker) encode() []byte {
	return fmt.Appendf(nil, "writ ledger\nformat %d\noldest-writer %d\nledger %s\n", m.format, m.oldestWriter, m.ledger)
}

func decodeMarker(b []byte) (marker, error) {
	var m marker
	for i, line := range strings.Split(strings.TrimSuffix(string(b), "\n"), "\n") {
		name, value, _ := strings.Cut(line, " ")
		var err error
		switch {
		case i == 0 && line != "writ ledger":
			return m, fmt.Errorf("begins with %.40q, want %q", line, "writ ledger")
		case name == "format":
			m.format, err = strconv.Atoi(value)
		case name == "oldest-writer":
			m.oldestWriter, err = strconv.Atoi(value)
		case name == "ledger":
			m.ledger = eventstore.LedgerID(value)
		}
		if err != nil {
			return m, fmt.Errorf("%s is %.40q, want a number", name, value)
		}
	}
	if m.format < 1 || m.oldestWriter < 1 || m.oldestWriter > m.format {
		return m, fmt.Errorf("format %d, oldest writer %d can't be", m.format, m.oldestWriter)
	}
	return m, checkLedgerID(m.ledger)
}

func checkLedgerID(id eventstore.LedgerID) error {
	if len(id) != 16 || strings.Trim(string(id), "0123456789abcdef") != "" {
		return fmt.Errorf("ledger id %.40q: want 16 lower-case hex digits", id)
	}
	return nil
}

// readMarker finds out whether a folder is a ledger that this program may
// write to.
func readMarker(disk vfs.FS, dir string) (marker, error) {
	names, err := disk.List(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return marker{}, fmt.Errorf("open ledger %s: the folder does not exist: check the path, or make a new ledger with writ init", dir)
	case err != nil:
		return marker{}, fmt.Errorf("open ledger %s: %w", dir, err)
	case len(names) == 0:
		return marker{}, fmt.Errorf("open ledger %s: the folder is empty: check that its disk is mounted, or make a new ledger with writ init", dir)
	}
	b, err := readFile(disk, disk.PathJoin(dir, markerFile))
	if errors.Is(err, fs.ErrNotExist) {
		return marker{}, fmt.Errorf("open ledger %s: the folder holds no file %s, so it is not a ledger, or making one there, or a backup, was cut short: use another folder", dir, markerFile)
	}
	if err != nil {
		return marker{}, fmt.Errorf("open ledger %s: %w", dir, err)
	}
	m, err := decodeMarker(b)
	if err != nil {
		return marker{}, &eventstore.CorruptError{Why: fmt.Sprintf("%s: %s: restore the folder from a backup", disk.PathJoin(dir, markerFile), err)}
	}
	if m.oldestWriter > formatVersion {
		return marker{}, fmt.Errorf("open ledger %s: it may be written to by programs that know format %d or later, this one knows %d: run a newer writ", dir, m.oldestWriter, formatVersion)
	}
	return m, nil
}

// checkEmpty makes sure that Create mixes a ledger with nothing.
func checkEmpty(disk vfs.FS, dir string) error {
	names, err := disk.List(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(names) > 0 {
		return fmt.Errorf("the folder is not empty, it holds %s: name one that is empty or does not exist", names[0])
	}
	return nil
}

// describeOwner tells who holds a folder, as far as the folder says.
func describeOwner(disk vfs.FS, dir string) string {
	b, err := readFile(disk, disk.PathJoin(dir, ownerFile))
	if err != nil || len(bytes.TrimSpace(b)) == 0 {
		return "another process"
	}
	return string(bytes.TrimSpace(b))
}

func ownerText(now time.Time) []byte {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	return fmt.Appendf(nil, "process %d on %s, since %s\n", os.Getpid(), host, now.UTC().Format(time.RFC3339))
}

// readEnd gives the position that the ledger is known to have reached; 0 if
// nobody wrote it down.
func readEnd(disk vfs.FS, dir string) (uint64, error) {
	b, err := readFile(disk, disk.PathJoin(dir, endFile))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	end, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0, &eventstore.CorruptError{Why: fmt.Sprintf("%s holds %.40q, want a position", disk.PathJoin(dir, endFile), b)}
	}
	return end, nil
}

func readFile(disk vfs.FS, name string) ([]byte, error) {
	f, err := disk.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 4096))
}

// writeFile puts a small file in place of an older one: after a crash there is
// the old one or the new one, whole.
func writeFile(disk vfs.FS, dir, name string, content []byte) error {
	next := disk.PathJoin(dir, name+".next")
	f, err := disk.Create(next, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	if _, err = f.Write(content); err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := disk.Rename(next, disk.PathJoin(dir, name)); err != nil {
		return err
	}
	return syncDir(disk, dir)
}

func syncDir(disk vfs.FS, dir string) error {
	d, err := disk.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
