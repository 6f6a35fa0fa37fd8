package pebbleviews_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"writ/adapters/pebbleviews"
	"writ/projections"
	"writ/projections/viewtest"
)

var _ projections.ViewStore = (*pebbleviews.View)(nil)

func open(t testing.TB, dir string, o pebbleviews.Options) *pebbleviews.Store {
	t.Helper()
	s, err := pebbleviews.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func view(t testing.TB, s *pebbleviews.Store, name string) *pebbleviews.View {
	t.Helper()
	v, err := s.View(name)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func set(pairs ...string) projections.Batch {
	var b projections.Batch
	for i := 0; i < len(pairs); i += 2 {
		b.Set = append(b.Set, projections.Entry{Key: pairs[i], Value: []byte(pairs[i+1])})
	}
	return b
}

func commit(t testing.TB, v projections.ViewStore, b projections.Batch) {
	t.Helper()
	if err := v.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

func TestContract(t *testing.T) {
	stores := make(map[projections.ViewStore]*pebbleviews.Store)
	dirs := make(map[projections.ViewStore]string)
	opened := func(t *testing.T, dir string) projections.ViewStore {
		t.Helper()
		s := open(t, dir, pebbleviews.Options{})
		v := view(t, s, "contract")
		stores[v], dirs[v] = s, dir
		// Neighbours must neither be seen nor touched.
		for _, name := range []string{"contrac", "contract-", "contracu"} {
			commit(t, view(t, s, name), set("neighbour", name))
		}
		return v
	}
	viewtest.Suite{
		Open: func(t *testing.T) projections.ViewStore {
			t.Helper()
			v := opened(t, t.TempDir())
			t.Cleanup(func() {
				for _, name := range []string{"contrac", "contract-", "contracu"} {
					got, _, err := view(t, stores[v], name).Get(t.Context(), "neighbour")
					if err != nil && !errors.Is(err, pebbleviews.ErrClosed) && !strings.Contains(err.Error(), "context canceled") {
						t.Error(err)
					}
					if err == nil && string(got) != name {
						t.Errorf("view %s: got %q, want %q untouched", name, got, name)
					}
				}
			})
			return v
		},
		Reopen: func(t *testing.T, v projections.ViewStore) projections.ViewStore {
			t.Helper()
			if err := stores[v].Close(); err != nil {
				t.Fatal(err)
			}
			return opened(t, dirs[v])
		},
	}.Run(t)
}

func TestViewsShareNothing(t *testing.T) {
	s := open(t, t.TempDir(), pebbleviews.Options{})
	a, b := view(t, s, "a"), view(t, s, "a-b")
	commit(t, a, set("k", "a", "\xff\xff", "end"))
	commit(t, b, set("k", "b"))
	if err := a.Clear(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := viewtest.Dump(t, a, ""), ""; got != want {
		t.Errorf("the cleared view: got %q, want %q", got, want)
	}
	if got, want := viewtest.Dump(t, b, ""), "\"k\" = \"b\"\n"; got != want {
		t.Errorf("the other view: got %q, want %q", got, want)
	}
}

func TestViewNames(t *testing.T) {
	s := open(t, t.TempDir(), pebbleviews.Options{})
	for _, name := range []string{"", "a\x00b", "A", "a/b", "é", strings.Repeat("a", 65), "a\n"} {
		if _, err := s.View(name); err == nil {
			t.Errorf("%q: got no error, want one", name)
		}
	}
}

func TestOpenMakesTheFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "views")
	s := open(t, dir, pebbleviews.Options{})
	commit(t, view(t, s, "a"), set("k", "v"))
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("got folder mode %v (error %v), want it for its owner alone", info.Mode(), err)
	}
}

// A folder that is not one of views is left as it was.
func TestForeignFolders(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"someone's files", map[string]string{"notes.txt": "dear diary"}, `holds "notes.txt"`},
		{"a ledger", map[string]string{"writ-ledger": "writ ledger\n", "000001.log": ""}, "no folder of views"},
		{"a bare database", map[string]string{"CURRENT": "x", "LOCK": ""}, "no folder of views"},
		{"a marker of something else", map[string]string{"writ-views": "hello"}, "not a marker"},
		{"another format", map[string]string{"writ-views": "writ views\nformat 2\n"}, "another format"},
		{"half a marker", map[string]string{"writ-views": "writ vi"}, "not a marker"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range tt.files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			s, err := pebbleviews.Open(dir, pebbleviews.Options{})
			if err == nil {
				_ = s.Close()
				t.Fatal("got it opened, want an error")
			}
			if !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("got error %v, want one with %q and the folder", err, tt.want)
			}
			entries, err := os.ReadDir(dir)
			if err != nil || len(entries) != len(tt.files) {
				t.Errorf("got %d files (error %v), want the %d that were there", len(entries), err, len(tt.files))
			}
		})
	}
}

// A process that died while it made the folder leaves one that can be used.
func TestAHalfMadeFolderIsTaken(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "writ-views.next"), []byte("writ"), 0o600); err != nil {
		t.Fatal(err)
	}
	commit(t, view(t, open(t, dir, pebbleviews.Options{}), "a"), set("k", "v"))
}

func TestAFolderThatIsHeld(t *testing.T) {
	dir := t.TempDir()
	first := open(t, dir, pebbleviews.Options{})
	if s, err := pebbleviews.Open(dir, pebbleviews.Options{}); err == nil {
		_ = s.Close()
		t.Fatal("got it opened twice, want an error")
	} else if !strings.Contains(err.Error(), "another process holds") {
		t.Errorf("got error %v, want one that says that it is held", err)
	}
	commit(t, view(t, first, "a"), set("k", "v"))
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	commit(t, view(t, open(t, dir, pebbleviews.Options{}), "a"), set("k", "w"))
}

func TestClosed(t *testing.T) {
	s := open(t, t.TempDir(), pebbleviews.Options{})
	v := view(t, s, "a")
	commit(t, v, set("k", "v"))
	for _, err := range v.Scan(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, _, getErr := v.Get(t.Context(), "k")
	var scanErr error
	for _, err := range v.Scan(t.Context(), "") {
		scanErr = err
	}
	for what, err := range map[string]error{
		"get": getErr, "scan": scanErr, "commit": v.Commit(t.Context(), set("k", "v")), "clear": v.Clear(t.Context()),
	} {
		if !errors.Is(err, pebbleviews.ErrClosed) {
			t.Errorf("%s: got error %v, want %v", what, err, pebbleviews.ErrClosed)
		}
	}
	if err := s.Close(); err != nil {
		t.Errorf("close again: got error %v, want none", err)
	}
}

// What was written takes memory of the same allowance as what is read. It must
// leave something for that.
func TestWritingLeavesSomeOfTheCache(t *testing.T) {
	const mib = 1 << 20
	s := open(t, "views", pebbleviews.Options{FS: vfs.NewMem(), CacheBytes: 3 * mib / 2, MemTableBytes: mib})
	v := view(t, s, "a")
	for i := range 128 { // tables in memory of full size several times over
		commit(t, v, set(fmt.Sprintf("key-%03d", i), strings.Repeat(fmt.Sprint(i), 24<<10)))
	}
	for range 2 {
		for _, err := range v.Scan(t.Context(), "") {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := pebbleviews.CachedBytes(s); got < mib/4 || got > 3*mib/2+mib {
		t.Errorf("blocks in memory: got %d bytes, want some, and no more than allowed", got)
	}
}

// A damaged folder gives errors, or is refused, but never gives wrong data.
func TestDamage(t *testing.T) {
	disk := vfs.NewMem()
	o := pebbleviews.Options{FS: disk, MemTableBytes: 256 << 10}
	s := open(t, "views", o)
	v := view(t, s, "a")
	want := make(map[string]string)
	for i := range 3000 {
		k, val := fmt.Sprintf("key-%05d", i), strings.Repeat(fmt.Sprint(i), 100)
		commit(t, v, set(k, val))
		want[k] = val
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := disk.List("views/db")
	if err != nil {
		t.Fatal(err)
	}
	noticed := 0
	for _, name := range names {
		if !strings.HasSuffix(name, ".sst") && !strings.HasPrefix(name, "MANIFEST") && !strings.HasSuffix(name, ".log") {
			continue
		}
		for _, part := range []int{1, 2, 3} {
			copied := vfs.NewMem()
			if _, err := vfs.Clone(disk, copied, "views", "views"); err != nil {
				t.Fatal(err)
			}
			flip(t, copied, "views/db/"+name, part)
			s, err := pebbleviews.Open("views", pebbleviews.Options{FS: copied})
			if err != nil {
				noticed++
				if !strings.Contains(err.Error(), "delete the folder") {
					t.Errorf("%s: got error %v, want one with the remedy", name, err)
				}
				continue
			}
			for e, err := range view(t, s, "a").Scan(t.Context(), "") {
				if err != nil {
					noticed++
					break
				}
				if want[e.Key] != string(e.Value) {
					t.Errorf("%s: got %q = %q, which was never committed", name, e.Key, e.Value)
				}
			}
			_ = s.Close()
		}
	}
	if noticed == 0 {
		t.Error("no damage was noticed")
	}
}

// flip changes a byte at a quarter of a file.
func flip(t *testing.T, disk vfs.FS, name string, quarter int) {
	t.Helper()
	f, err := disk.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	at := info.Size() * int64(quarter) / 4
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		return // an empty file has nothing to damage
	}
	b[0] ^= 0x55
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}
