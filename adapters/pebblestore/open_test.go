package pebblestore_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"writ/adapters/pebblestore"
	"writ/domain/eventstore"
)

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Fatalf("got error %v, want one that says %q", err, part)
		}
	}
}

func TestCreateRefuses(t *testing.T) {
	full := t.TempDir()
	write(t, full+"/letter.txt", "dear")
	wantError(t, pebblestore.Create(full, ledgerID, pebblestore.Options{}), "not empty", "letter.txt")
	ledger := filepath.Join(t.TempDir(), "ledger")
	if err := pebblestore.Create(ledger, ledgerID, pebblestore.Options{}); err != nil {
		t.Fatal(err)
	}
	wantError(t, pebblestore.Create(ledger, ledgerID, pebblestore.Options{}), "not empty")
	if info, err := os.Stat(ledger); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the ledger holds whole writs; its folder has mode %v (error %v), want 0700", info.Mode(), err)
	}
	for _, id := range []eventstore.LedgerID{"", "3F9C2AB41D6E4A70", "3f9c2ab41d6e4a7", "3f9c2ab41d6e4a70\n", "3f9c2ab41d6e4a7g"} {
		wantError(t, pebblestore.Create(t.TempDir(), id, pebblestore.Options{}), "16 lower-case hex digits")
	}
}

func TestOpenRefuses(t *testing.T) {
	ledger := func(t *testing.T) string {
		dir := filepath.Join(t.TempDir(), "ledger")
		if err := pebblestore.Create(dir, ledgerID, pebblestore.Options{}); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	marker := "writ ledger\nformat %s\noldest-writer %s\nledger %s\n"
	for name, c := range map[string]struct {
		dir  func(t *testing.T) string
		says []string
	}{
		"no folder": {func(t *testing.T) string { return t.TempDir() + "/none" }, []string{"does not exist", "writ init"}},
		"an empty folder": {func(t *testing.T) string {
			return t.TempDir()
		}, []string{"is empty", "mounted"}},
		"files of others": {func(t *testing.T) string {
			dir := t.TempDir()
			write(t, dir+"/letter.txt", "dear")
			return dir
		}, []string{"not a ledger"}},
		"another program's pebble": {func(t *testing.T) string {
			dir := t.TempDir()
			db, err := pebble.Open(dir, &pebble.Options{Logger: silent{}})
			if err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			return dir
		}, []string{"not a ledger"}},
		"a marker without a ledger": {func(t *testing.T) string {
			dir := t.TempDir()
			write(t, dir+"/writ-ledger", fmt.Sprintf(marker, "1", "1", ledgerID))
			return dir
		}, []string{"open ledger"}},
		"a marker that says something else": {func(t *testing.T) string {
			dir := ledger(t)
			write(t, dir+"/writ-ledger", "hello\n")
			return dir
		}, []string{"corrupt"}},
		"the marker of another ledger": {func(t *testing.T) string {
			dir := ledger(t)
			write(t, dir+"/writ-ledger", fmt.Sprintf(marker, "1", "1", "0000000000000000"))
			return dir
		}, []string{"corrupt", "mixed"}},
		"a newer format that shuts us out": {func(t *testing.T) string {
			dir := ledger(t)
			write(t, dir+"/writ-ledger", fmt.Sprintf(marker, "3", "2", ledgerID))
			return dir
		}, []string{"newer writ"}},
		"a ledger that had got further": {func(t *testing.T) string {
			dir := ledger(t)
			write(t, dir+"/writ-end", "7\n")
			return dir
		}, []string{"corrupt", "missing"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := c.dir(t)
			before := listing(t, dir)
			s, err := pebblestore.Open(dir, pebblestore.Options{})
			if err == nil {
				s.Close()
			}
			wantError(t, err, c.says...)
			for _, name := range before {
				if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
					t.Errorf("a refusal removed %s", name)
				}
			}
		})
	}
}

func listing(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}
func (silent) Fatalf(string, ...any) {}

func TestOpenTakesANewerFormatThatLetsUsIn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ledger")
	if err := pebblestore.Create(dir, ledgerID, pebblestore.Options{}); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/writ-ledger", "writ ledger\nformat 2\noldest-writer 1\ncolour blue\nledger "+ledgerID+"\n")
	open(t, dir, pebblestore.Options{})
}

// A process that holds a ledger is a second run of this test.
func TestSecondProcess(t *testing.T) {
	if dir := os.Getenv("PEBBLESTORE_TEST_HOLD"); dir != "" {
		s, err := pebblestore.Open(dir, pebblestore.Options{})
		fmt.Println("held", err)
		_, _ = io.Copy(io.Discard, os.Stdin) // until it is killed or let go
		if err == nil {
			_ = s.Close()
		}
		return
	}
	dir := filepath.Join(t.TempDir(), "ledger")
	if err := pebblestore.Create(dir, ledgerID, pebblestore.Options{}); err != nil {
		t.Fatal(err)
	}
	holder := exec.Command(os.Args[0], "-test.run=^TestSecondProcess$")
	holder.Env = append(os.Environ(), "PEBBLESTORE_TEST_HOLD="+dir)
	in, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "held <nil>\n" {
		t.Fatalf("the other process says %q, %v", line, err)
	}
	_, err = pebblestore.Open(dir, pebblestore.Options{})
	wantError(t, err, "held by", fmt.Sprintf("process %d on ", holder.Process.Pid))
	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = holder.Wait() // killed
	s := open(t, dir, pebblestore.Options{})
	goesOn(t, s, "op-1")
	_, err = pebblestore.Open(dir, pebblestore.Options{})
	wantError(t, err, "held by", fmt.Sprintf("process %d on ", os.Getpid()))
	goesOn(t, s, "op-1")
}

func TestCloseEndsEverything(t *testing.T) {
	s := create(t, "ledger", small(vfs.NewMem()))
	goesOn(t, s, "op-1")
	var ended error
	for n, err := range s.Subscribe(t.Context(), eventstore.Cursor{}, eventstore.Filter{}) {
		ended = err
		if n.Kind == eventstore.CaughtUp {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_, appended := s.Append(t.Context(), "op-2", eventstore.NoStream(), proposal("op-2", 0, 1, 1)...)
	_, head := s.Head(t.Context(), "op-1")
	for what, err := range map[string]error{"subscription": ended, "append": appended, "head": head, "verify": s.Verify(t.Context(), nil)} {
		if !errors.Is(err, eventstore.ErrClosed) {
			t.Errorf("%s: got error %v, want ErrClosed", what, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Errorf("closed twice: got error %v", err)
	}
}

// Opening compares numbers that the tables keep; only when they don't fit it
// reads all.
func TestOpenDoesNotReadAllOfASoundLedger(t *testing.T) {
	disk := vfs.NewCrashableMem()
	var logged bytes.Buffer
	o := small(disk)
	o.Logger = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelWarn}))
	s := create(t, "ledger", o)
	for life := range 5 {
		for i := range 50 {
			stream := eventstore.StreamID(fmt.Sprintf("op-%d-%d", life, i))
			if _, err := s.Append(t.Context(), stream, eventstore.NoStream(), proposal(stream, i, 3, 1000)...); err != nil {
				t.Fatal(err)
			}
		}
		if life%2 == 0 {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, "ledger", o)
			continue
		}
		o.FS = disk.CrashClone(vfs.CrashCloneCfg{})
		disk = o.FS.(*vfs.MemFS)
		s = open(t, "ledger", o)
	}
	if logged.Len() > 0 {
		t.Errorf("got a warning: %s", logged.String())
	}
}
