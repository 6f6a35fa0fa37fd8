package pebblestore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"writ/adapters/pebblestore"
	"writ/domain/eventstore"
)

// A backup made while others append has all that was acknowledged before, is
// whole, and goes on as a ledger of its own.
func TestBackup(t *testing.T) {
	disk := vfs.NewMem()
	o := small(disk)
	s := create(t, "ledger", o)
	var mu sync.Mutex // guards acks
	var acks []acknowledged
	stop := make(chan struct{})
	var writers sync.WaitGroup
	begun := make(chan struct{}, 100_000)
	for w := range 4 {
		writers.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				stream := eventstore.StreamID(fmt.Sprintf("op-%d-%d", w, i))
				events := proposal(stream, i, 1+i%3, 700)
				answer, err := s.Append(t.Context(), stream, eventstore.NoStream(), events...)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				acks = append(acks, acknowledged{stream, answer, events})
				mu.Unlock()
				select {
				case begun <- struct{}{}:
				default:
				}
			}
		})
	}
	for n := range 5 {
		for range 60 {
			<-begun
		}
		mu.Lock()
		had := acks[:len(acks):len(acks)]
		mu.Unlock()
		dir := fmt.Sprintf("backups/%d", n)
		at, err := s.Backup(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		copied, err := pebblestore.Open(dir, o)
		if err != nil {
			t.Fatal(err)
		}
		if err := survived(copied, had); err != nil {
			t.Errorf("backup %d: %v", n, err)
		}
		all := ledgerFrom(t, copied, eventstore.Cursor{})
		if copied.LedgerID() != ledgerID || all[len(all)-1].Position != at {
			t.Errorf("backup %d: got ledger %s up to %d, want %s up to %d", n, copied.LedgerID(), all[len(all)-1].Position, ledgerID, at)
		}
		goesOn(t, copied, "op-of-the-copy")
		if err := copied.Close(); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	writers.Wait()
	if err := survived(s, acks); err != nil {
		t.Error(err)
	}
}

func TestBackupOfAnEmptyLedgerOnDisk(t *testing.T) {
	s := create(t, filepath.Join(t.TempDir(), "ledger"), pebblestore.Options{})
	for _, dir := range []string{t.TempDir(), filepath.Join(t.TempDir(), "a", "b")} {
		if at, err := s.Backup(t.Context(), dir); err != nil || at != 0 {
			t.Fatalf("got %d, %v", at, err)
		}
		goesOn(t, open(t, dir, pebblestore.Options{}), "op-1")
	}
}

func TestBackupRefuses(t *testing.T) {
	disk := vfs.NewMem()
	s := create(t, "ledger", small(disk))
	goesOn(t, s, "op-1")
	if _, err := s.Backup(t.Context(), "full"); err != nil {
		t.Fatal(err)
	}
	for dir, says := range map[string]string{"full": "not empty", "ledger": "not empty", "ledger/backup": "outside", "full/a/b": "outside"} {
		_, err := s.Backup(t.Context(), dir)
		wantError(t, err, says)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := s.Backup(ended, "other"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that it was cancelled", err)
	}
	goesOn(t, s, "op-1")
}

// inBackup fails the n-th change that is made in the backup's folder.
type inBackup struct {
	nth
	at func() // called at that change, instead of failing it
}

func (f *inBackup) MaybeError(op errorfs.Op) error {
	if !strings.HasPrefix(op.Path, "backup") {
		return nil
	}
	err := f.nth.MaybeError(op)
	if err != nil && f.at != nil {
		f.at()
		return nil
	}
	return err
}

// Whatever fails while a backup is written: it says so and leaves nothing
// behind, and the ledger goes on.
func TestEveryChangeOfABackupFails(t *testing.T) {
	disk := vfs.NewMem()
	inject := &inBackup{}
	s := create(t, "ledger", small(errorfs.Wrap(disk, inject)))
	for i := range 60 {
		goesOn(t, s, eventstore.StreamID(fmt.Sprintf("op-%d", i)))
	}
	inject.enabled.Store(true)
	step := int64(1)
	if testing.Short() {
		step = 7
	}
	failed := 0
	for inject.n = 1; ; inject.n += step {
		inject.count.Store(0)
		_, err := s.Backup(t.Context(), "backup")
		if inject.count.Load() < inject.n {
			if err != nil {
				t.Fatalf("nothing was to fail: %v", err)
			}
			break
		}
		goesOn(t, s, "op-0")
		// Some changes it can do without: a removal, a reservation of room.
		if err == nil {
			c, err := pebblestore.Open("backup", small(disk))
			if err != nil {
				t.Fatalf("change %d: the backup was made: %v", inject.n, err)
			}
			if err := errors.Join(survived(c, nil), c.Close(), disk.RemoveAll("backup")); err != nil {
				t.Fatalf("change %d: %v", inject.n, err)
			}
			continue
		}
		failed++
		if names, err := disk.List("backup"); err == nil && len(names) > 0 {
			t.Fatalf("change %d: %v are left", inject.n, names)
		}
	}
	if failed < 10 {
		t.Errorf("%d changes failed a backup, want most", failed)
	}
	if s.Why() != nil {
		t.Errorf("the ledger has halted: %v", s.Why())
	}
}

// Power is lost while a backup is written: what is left is no ledger, or all
// of it; and the ledger itself has lost nothing.
func TestCrashDuringABackup(t *testing.T) {
	disk := vfs.NewCrashableMem()
	inject := &inBackup{}
	var left *vfs.MemFS
	rng := rand.New(rand.NewPCG(5, 5))
	inject.at = func() {
		left = disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
	}
	s := create(t, "ledger", small(errorfs.Wrap(disk, inject)))
	var acks []acknowledged
	for i := range 40 {
		stream := eventstore.StreamID(fmt.Sprintf("op-%d", i))
		events := proposal(stream, i, 2, 900)
		answer, err := s.Append(t.Context(), stream, eventstore.NoStream(), events...)
		if err != nil {
			t.Fatal(err)
		}
		acks = append(acks, acknowledged{stream, answer, events})
	}
	inject.enabled.Store(true)
	var complete, cut atomic.Int64
	for inject.n = 1; ; inject.n++ {
		inject.count.Store(0)
		left = nil
		if _, err := s.Backup(t.Context(), "backup"); err != nil {
			t.Fatal(err)
		}
		if left == nil {
			break
		}
		for dir, must := range map[string]bool{"ledger": true, "backup": false} {
			again, err := pebblestore.Open(dir, small(left))
			if err != nil {
				if must {
					t.Fatalf("change %d: %v", inject.n, err)
				}
				cut.Add(1)
				continue
			}
			if err := errors.Join(survived(again, acks), again.Close()); err != nil {
				t.Fatalf("change %d: %s: %v", inject.n, dir, err)
			}
			if !must {
				complete.Add(1)
			}
		}
		if err := disk.RemoveAll("backup"); err != nil {
			t.Fatal(err)
		}
	}
	if cut.Load() < 10 {
		t.Errorf("%d crashes left half a backup, %d a whole one; want most to leave a half", cut.Load(), complete.Load())
	}
}
