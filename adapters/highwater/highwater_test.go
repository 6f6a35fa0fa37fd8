package highwater_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"writ/adapters/highwater"
	"writ/domain/engine"
	"writ/domain/eventstore"
)

func TestKeptMarkIsSeen(t *testing.T) {
	f := highwater.At(filepath.Join(t.TempDir(), "mark"))
	if m, ok, err := f.Seen(t.Context()); ok || err != nil {
		t.Fatalf("before: got %+v, %t, %v; want none", m, ok, err)
	}
	for _, want := range []engine.Mark{
		{Ledger: "3f9c2ab41d6e4a70"},
		{Ledger: "3f9c2ab41d6e4a70", Position: 1 << 63, Event: eventstore.EventID{1, 0xab}, At: time.Date(2026, 11, 23, 9, 0, 0, 1, time.UTC)},
	} {
		if err := f.Keep(t.Context(), want); err != nil {
			t.Fatal(err)
		}
		if got, ok, err := highwater.At(f.Path()).Seen(t.Context()); !ok || err != nil || got != want {
			t.Errorf("got %+v, %t, %v; want %+v", got, ok, err, want)
		}
	}
	if left, err := os.ReadDir(filepath.Dir(f.Path())); err != nil || len(left) != 1 {
		t.Errorf("files: got %v (error %v), want the mark alone", left, err)
	}
}

func TestGoldenFile(t *testing.T) {
	f := highwater.At(filepath.Join(t.TempDir(), "mark"))
	m := engine.Mark{Ledger: "3f9c2ab41d6e4a70", Position: 4711, Event: eventstore.EventID{1, 2, 3}, At: time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)}
	if err := f.Keep(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(f.Path())
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/mark.json")
	if err != nil || string(got) != string(want) {
		t.Errorf("file: got\n%s\nwant\n%s (error %v)", got, want, err)
	}
}

func TestFileThatIsNoMark(t *testing.T) {
	good, err := os.ReadFile("testdata/mark.json")
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]string{
		"empty":             "",
		"cut off":           string(good[:40]),
		"a later version":   strings.Replace(string(good), `"version": 1`, `"version": 2`, 1),
		"something else":    `{"hello": "world"}`,
		"two of a field":    strings.Replace(string(good), `"version": 1,`, `"version": 1, "version": 1,`, 1),
		"a short event":     strings.Replace(string(good), "0102", "01", 1),
		"upper-case digits": strings.Replace(string(good), "010203", "01020A", 1),
	}
	for name, content := range tests {
		t.Run(name, func(t *testing.T) {
			f := highwater.At(filepath.Join(t.TempDir(), "mark"))
			if err := os.WriteFile(f.Path(), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			if m, ok, err := f.Seen(t.Context()); err == nil || ok || !strings.Contains(err.Error(), f.Path()) {
				t.Errorf("got %+v, %t, %v; want an error that names the file", m, ok, err)
			}
		})
	}
}

func TestKeepWhereNothingCanBeWritten(t *testing.T) {
	f := highwater.At(filepath.Join(t.TempDir(), "missing", "mark"))
	if err := f.Keep(t.Context(), engine.Mark{Ledger: "3f9c2ab41d6e4a70"}); err == nil {
		t.Error("got no error")
	}
}
