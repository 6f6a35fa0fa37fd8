package pebbleviews_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"writ/adapters/pebbleviews"
	"writ/projections"
)

// The n-th step of a workload: what a view holds after it is a function of n
// alone, so that any survivor can be told to be what was there at a moment.
// Every 97th step clears.
func step(n int) (b projections.Batch, clears bool) {
	if n%97 == 0 {
		return b, true
	}
	b = set("n", fmt.Sprint(n), fmt.Sprintf("k%d", n%13), strings.Repeat(fmt.Sprint(n, " "), 1+n%50))
	if n%5 == 0 {
		b.Delete = []string{fmt.Sprintf("k%d", (n+1)%13)}
	}
	return b, false
}

func take(t *testing.T, v projections.ViewStore, n int) error {
	t.Helper()
	b, clears := step(n)
	if clears {
		return v.Clear(t.Context())
	}
	return v.Commit(t.Context(), b)
}

// history gives what a view holds after each of n steps, from none on.
func history(n int) []string {
	have := make(map[string]string)
	all := []string{fmt.Sprint(have)}
	for i := 1; i <= n; i++ {
		b, clears := step(i)
		if clears {
			clear(have)
		}
		for _, e := range b.Set {
			have[e.Key] = string(e.Value)
		}
		for _, k := range b.Delete {
			delete(have, k)
		}
		all = append(all, fmt.Sprint(have))
	}
	return all
}

// survivor checks that a folder holds exactly what was there after some step
// of both views, the second always one step behind or level, and gives it.
func survivor(t *testing.T, disk vfs.FS, held []string) int {
	t.Helper()
	s, err := pebbleviews.Open("views", pebbleviews.Options{FS: disk})
	if err != nil {
		t.Fatalf("after the crash: %v", err)
	}
	defer func() { _ = s.Close() }()
	steps := [2]int{}
	for i, name := range []string{"a", "b"} {
		have := make(map[string]string)
		for e, err := range view(t, s, name).Scan(t.Context(), "") {
			if err != nil {
				t.Fatal(err)
			}
			have[e.Key] = string(e.Value)
		}
		text := fmt.Sprint(have)
		steps[i] = len(held) - 1
		for steps[i] >= 0 && held[steps[i]] != text {
			steps[i]--
		}
		if steps[i] < 0 {
			t.Fatalf("view %s holds what it never held: %v", name, have)
		}
	}
	// After a clear both hold nothing: that says little about which step it was.
	if d := steps[0] - steps[1]; d != 0 && d != 1 && steps[0]%97 != 0 && steps[1]%97 != 0 {
		t.Fatalf("view a is at step %d, view b at %d: want the same moment", steps[0], steps[1])
	}
	return steps[0]
}

// Whatever of the unsynced data survives a crash, the views are as they were
// at one moment.
func TestCrash(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	held := history(1500)
	lost, kept := 0, 0
	for round := range 12 {
		disk := vfs.NewCrashableMem()
		s := open(t, "views", pebbleviews.Options{FS: disk, MemTableBytes: 64 << 10})
		a, b := view(t, s, "a"), view(t, s, "b")
		for n := 1; n <= 1500; n++ {
			for _, v := range []projections.ViewStore{a, b} {
				if err := take(t, v, n); err != nil {
					t.Fatal(err)
				}
			}
			if n%151 != 0 {
				continue
			}
			clone := disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: round * 100 / 11, RNG: rng})
			got := survivor(t, clone, held[:n+1])
			lost += n - got
			kept += got
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		// Closed in good order nothing is lost, even if the machine dies then.
		if got := survivor(t, disk.CrashClone(vfs.CrashCloneCfg{}), held); got != 1500 {
			t.Fatalf("closed, then crashed: got step %d, want 1500", got)
		}
	}
	if lost == 0 || kept == 0 {
		t.Errorf("got %d steps lost and %d kept over all crashes: the test does not reach what it is about", lost, kept)
	}
}

// nth fails the n-th change of the disk and all after it, as a full or dying
// disk does.
type nth struct {
	n    int64
	seen atomic.Int64
}

func (i *nth) String() string { return fmt.Sprintf("(nth %d)", i.n) }

func (i *nth) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() != errorfs.OpIsWrite || !strings.Contains(op.Path, "views") {
		return nil
	}
	if i.seen.Add(1) >= i.n {
		return errors.New("no space left on device")
	}
	return nil
}

// Wherever the disk begins to refuse, every call comes back, none is answered
// as if it had worked after one that did not, and the folder is as it was at
// one moment.
func TestARefusingDisk(t *testing.T) {
	const steps = 600
	held := history(steps)
	finished := false
	for n := int64(1); !finished; n += 1 + n/8 {
		disk := vfs.NewMem()
		refuse := &nth{n: n}
		s, err := pebbleviews.Open("views", pebbleviews.Options{FS: errorfs.Wrap(disk, refuse), MemTableBytes: 64 << 10})
		if err != nil {
			if !strings.Contains(err.Error(), "no space left") {
				t.Errorf("change %d: got error %v, want the disk's", n, err)
			}
			continue
		}
		a, b := view(t, s, "a"), view(t, s, "b")
		failed := false
		for i := 1; i <= steps; i++ {
			for _, v := range []projections.ViewStore{a, b} {
				err := take(t, v, i)
				if failed && err == nil {
					t.Fatalf("change %d: got a commit after the disk had refused", n)
				}
				failed = failed || err != nil
			}
		}
		if _, _, err := a.Get(t.Context(), "n"); failed && err == nil {
			t.Errorf("change %d: got a read answered after the disk had refused", n)
		}
		closeErr := s.Close()
		if failed && closeErr == nil {
			t.Errorf("change %d: got no error from close after the disk had refused", n)
		}
		finished = !failed && closeErr == nil
		got := survivor(t, disk, held)
		if finished && got != steps {
			t.Errorf("without a fault: got step %d, want %d", got, steps)
		}
	}
}
