// Package viewtest holds what every store of a view must do, as tests: [Suite]
// checks a store against each sentence of [projections.ViewStore]. It also
// holds two stores for other tests: [Memory], a view in memory, and [Faulty],
// which makes any of them fail.
package viewtest

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"writ/projections"
)

// A Suite is the contract, and what it has to know of a store to check it.
type Suite struct {
	// Open gives an empty view to one test, which closes it by t.Cleanup.
	Open func(t *testing.T) projections.ViewStore
	// Reopen closes a view in good order and opens it again. Nil: the store
	// does not outlive its process, and the tests of that are left out.
	Reopen func(t *testing.T, v projections.ViewStore) projections.ViewStore
}

// Run checks a store, each sentence of the contract in a subtest of its own.
func (s Suite) Run(t *testing.T) {
	t.Helper()
	t.Run("a key that is not there is not found", s.missing)
	t.Run("what was committed is read", s.committed)
	t.Run("any bytes are a value and any but none a key", s.anyBytes)
	t.Run("values belong to the caller", s.ownValues)
	t.Run("scan gives the keys of a prefix in order", s.scan)
	t.Run("scan from a key leaves out what comes before it", s.scanFrom)
	t.Run("scan shows one moment", s.scanOneMoment)
	t.Run("scan may stop early", s.scanStops)
	t.Run("readers see all of a commit or nothing", s.atomic)
	t.Run("clear removes everything", s.clear)
	t.Run("an ended context is an error or no matter", s.ended)
	if s.Reopen != nil {
		t.Run("reopened it holds what was committed", s.reopened)
	}
}

func set(pairs ...string) projections.Batch {
	var b projections.Batch
	for i := 0; i < len(pairs); i += 2 {
		b.Set = append(b.Set, projections.Entry{Key: pairs[i], Value: []byte(pairs[i+1])})
	}
	return b
}

func commit(t *testing.T, v projections.ViewStore, b projections.Batch) {
	t.Helper()
	if err := v.Commit(t.Context(), b); err != nil {
		t.Fatalf("commit: got error %v, want none", err)
	}
}

func expect(t *testing.T, v projections.ViewStore, key, want string, wantFound bool) {
	t.Helper()
	got, found, err := v.Get(t.Context(), key)
	if err != nil || found != wantFound || string(got) != want {
		t.Errorf("get %q: got %q, found %v, error %v; want %q, found %v", key, got, found, err, want, wantFound)
	}
}

// Dump gives all of a view as text, one line for each key in order: two views
// are the same if their dumps are.
func Dump(t testing.TB, v projections.ViewStore, prefix string) string {
	t.Helper()
	text := ""
	for e, err := range v.Scan(t.Context(), prefix) {
		if err != nil {
			t.Fatalf("scan %q: got error %v, want none", prefix, err)
		}
		text += fmt.Sprintf("%q = %q\n", e.Key, e.Value)
	}
	return text
}

func scans(t *testing.T, v projections.ViewStore, prefix string, want projections.Batch) {
	t.Helper()
	text := ""
	for _, e := range want.Set {
		text += fmt.Sprintf("%q = %q\n", e.Key, e.Value)
	}
	if got := Dump(t, v, prefix); got != text {
		t.Errorf("scan %q: got\n%swant\n%s", prefix, got, text)
	}
}

func (s Suite) missing(t *testing.T) {
	v := s.Open(t)
	expect(t, v, "a", "", false)
	scans(t, v, "", set())
	commit(t, v, projections.Batch{Delete: []string{"a"}})
	commit(t, v, projections.Batch{})
	scans(t, v, "", set())
}

func (s Suite) committed(t *testing.T) {
	v := s.Open(t)
	commit(t, v, set("a", "1", "b", "2", "c", "3"))
	b := set("b", "two", "d", "4")
	b.Delete = []string{"a", "x"}
	commit(t, v, b)
	expect(t, v, "a", "", false)
	expect(t, v, "b", "two", true)
	expect(t, v, "c", "3", true)
	expect(t, v, "d", "4", true)
	scans(t, v, "", set("b", "two", "c", "3", "d", "4"))
}

func (s Suite) anyBytes(t *testing.T) {
	v := s.Open(t)
	large := string(make([]byte, 1<<20))
	b := set("\x00", "zero", "empty", "", "large", large, "\xff\xff", "\x00\xff", "é/ ", "text")
	commit(t, v, b)
	for _, e := range b.Set {
		expect(t, v, e.Key, string(e.Value), true)
	}
	scans(t, v, "\xff", set("\xff\xff", "\x00\xff"))
	scans(t, v, "\x00", set("\x00", "zero"))
}

func (s Suite) ownValues(t *testing.T) {
	v := s.Open(t)
	mine := []byte("value")
	commit(t, v, projections.Batch{Set: []projections.Entry{{Key: "a", Value: mine}}})
	mine[0] = 'X'
	got, _, err := v.Get(t.Context(), "a")
	if err != nil || string(got) != "value" {
		t.Fatalf("got %q (error %v), want %q: the store kept the caller's slice", got, err, "value")
	}
	got[0] = 'X'
	for e, err := range v.Scan(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if string(e.Value) != "value" {
			t.Errorf("got %q, want %q: a reader's slice is the store's", e.Value, "value")
		}
		e.Value[0] = 'Y'
	}
	expect(t, v, "a", "value", true)
}

func (s Suite) scan(t *testing.T) {
	v := s.Open(t)
	commit(t, v, set("op/b", "2", "op", "x", "op/a", "1", "oq", "y", "op/", "0", "op/a/b", "1b"))
	scans(t, v, "op/", set("op/", "0", "op/a", "1", "op/a/b", "1b", "op/b", "2"))
	scans(t, v, "op/b", set("op/b", "2"))
	scans(t, v, "op/c", set())
	scans(t, v, "", set("op", "x", "op/", "0", "op/a", "1", "op/a/b", "1b", "op/b", "2", "oq", "y"))
}

func (s Suite) scanFrom(t *testing.T) {
	v := s.Open(t)
	commit(t, v, set("op", "x", "op/a", "1", "op/b", "2", "op/b\x00", "3", "op/\xff\xff", "4", "oq", "y"))
	for _, tt := range []struct{ prefix, from, want string }{
		{"op/", "", "1234"},
		{"op/", "op/", "1234"},
		{"op/", "o", "1234"},
		{"op/", "op/a", "1234"},
		{"op/", "op/a\x00", "234"},
		{"op/", "op/b\x00", "34"},
		{"op/", "op/\xff\xff\x00", ""},
		{"op/", "oq", ""},
		{"op/", "\xff", ""},
		{"", "op/b", "234y"},
		{"op/b", "op/b", "23"},
		{"op/b", "op/a", "23"},
		{"none/", "", ""},
	} {
		got := ""
		for e, err := range v.ScanFrom(t.Context(), tt.prefix, tt.from) {
			if err != nil {
				t.Fatalf("scan %q from %q: got error %v, want none", tt.prefix, tt.from, err)
			}
			got += string(e.Value)
		}
		if got != tt.want {
			t.Errorf("scan %q from %q: got %q, want %q", tt.prefix, tt.from, got, tt.want)
		}
	}
}

func (s Suite) scanOneMoment(t *testing.T) {
	v := s.Open(t)
	commit(t, v, set("a", "1", "b", "1", "c", "1"))
	n := 0
	for e, err := range v.Scan(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 1 {
			b := set("b", "2", "bb", "2")
			b.Delete = []string{"c"}
			commit(t, v, b)
		}
		if string(e.Value) != "1" {
			t.Errorf("got %q = %q, which was committed after the scan began", e.Key, e.Value)
		}
	}
	if n != 3 {
		t.Errorf("got %d entries, want the 3 there were when the scan began", n)
	}
	scans(t, v, "", set("a", "1", "b", "2", "bb", "2"))
}

func (s Suite) scanStops(t *testing.T) {
	v := s.Open(t)
	commit(t, v, set("a", "1", "b", "1"))
	for range 100 {
		for _, err := range v.Scan(t.Context(), "") {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	commit(t, v, set("c", "1"))
	scans(t, v, "", set("a", "1", "b", "1", "c", "1"))
}

// Each commit gives both keys the same value, so a reader that finds them
// unequal has seen half of one.
func (s Suite) atomic(t *testing.T) {
	v := s.Open(t)
	const rounds = 300
	commit(t, v, set("a", "0", "z", "0"))
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				var seen []string
				for e, err := range v.Scan(t.Context(), "") {
					if err != nil {
						t.Errorf("scan: got error %v, want none", err)
						return
					}
					seen = append(seen, string(e.Value))
				}
				if len(seen) != 2 || seen[0] != seen[1] {
					t.Errorf("got %q, want two equal values", seen)
					return
				}
			}
		})
	}
	for i := range rounds {
		n := fmt.Sprint(i)
		commit(t, v, set("a", n, "z", n))
		expect(t, v, "a", n, true)
	}
	close(stop)
	wg.Wait()
}

func (s Suite) clear(t *testing.T) {
	v := s.Open(t)
	for i := range 3 {
		commit(t, v, set("\x00", "0", "a", "1", "\xff\xff\xff", "2"))
		if err := v.Clear(t.Context()); err != nil {
			t.Fatalf("clear: got error %v, want none", err)
		}
		scans(t, v, "", set())
		expect(t, v, "a", "", false)
		commit(t, v, set("b", fmt.Sprint(i)))
		scans(t, v, "", set("b", fmt.Sprint(i)))
	}
}

func (s Suite) ended(t *testing.T) {
	v := s.Open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := v.Commit(ctx, set("a", "1")); err == nil {
		expect(t, v, "a", "1", true)
	}
	commit(t, v, set("a", "2"))
	expect(t, v, "a", "2", true)
}

func (s Suite) reopened(t *testing.T) {
	v := s.Open(t)
	commit(t, v, set("a", "1", "b", "2"))
	commit(t, v, projections.Batch{Delete: []string{"a"}})
	v = s.Reopen(t, v)
	scans(t, v, "", set("b", "2"))
	if err := v.Clear(t.Context()); err != nil {
		t.Fatal(err)
	}
	commit(t, v, set("c", "3"))
	v = s.Reopen(t, v)
	scans(t, v, "", set("c", "3"))
}
