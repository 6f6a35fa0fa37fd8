package pebblestore_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"writ/adapters/pebblestore"
	"writ/domain/eventstore"
)

// A machine that loses power keeps what was synced, and any part of the rest.
func TestCrash(t *testing.T) {
	for _, unsynced := range []int{0, 30, 100} {
		t.Run(fmt.Sprintf("keeping %d%% of what was not synced", unsynced), func(t *testing.T) { crash(t, unsynced) })
	}
}

func crash(t *testing.T, unsynced int) {
	crashes := 40
	if testing.Short() {
		crashes = 8
	}
	disk := vfs.NewCrashableMem()
	s := create(t, "ledger", small(disk))
	rng := rand.New(rand.NewPCG(1, uint64(unsynced)))

	var mu sync.Mutex // held for the instant of a crash, and to note an acknowledgement
	var acks []acknowledged
	permits := make(chan struct{}) // one for each append; closed at the end
	var writers sync.WaitGroup
	for w := range 6 {
		writers.Go(func() {
			i := -1
			for range permits {
				i++
				// Streams of three appends, as ops are.
				stream := eventstore.StreamID(fmt.Sprintf("op-%d-%d", w, i/3))
				expected := eventstore.NoStream()
				for k := range i % 3 {
					n := 1 + k%3
					if k == 0 {
						expected = eventstore.At(eventstore.Revision(n - 1))
						continue
					}
					r, _ := expected.Revision()
					expected = eventstore.At(r + eventstore.Revision(n))
				}
				events := proposal(stream, i, 1+(i%3)%3, 700)
				answer, err := s.Append(t.Context(), stream, expected, events...)
				if err != nil {
					t.Errorf("writer %d, append %d: %v", w, i, err)
					return
				}
				mu.Lock()
				acks = append(acks, acknowledged{stream, answer, events})
				mu.Unlock()
			}
		})
	}
	for i := range crashes {
		for range 1 + rng.IntN(40) {
			permits <- struct{}{}
		}
		mu.Lock() // while up to six appends are under way
		had := acks[:len(acks):len(acks)]
		after := disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: unsynced, RNG: rng})
		mu.Unlock()

		again, err := pebblestore.Open("ledger", small(after))
		if err != nil {
			t.Errorf("crash %d: %v", i, err)
			break
		}
		if err := survived(again, had); err != nil {
			t.Errorf("crash %d, %d appends acknowledged: %v", i, len(had), err)
		}
		goesOn(t, again, "after-the-crash")
		if err := again.Close(); err != nil {
			t.Errorf("crash %d: %v", i, err)
		}
	}
	close(permits)
	writers.Wait()
}

// Opening writes too: a crash while opening must not undo anything.
func TestCrashWhileOpening(t *testing.T) {
	disk := vfs.NewCrashableMem()
	s := create(t, "ledger", small(disk))
	var acks []acknowledged
	for i := range 120 {
		stream := eventstore.StreamID(fmt.Sprintf("op-%d", i))
		events := proposal(stream, i, 2, 700)
		answer, err := s.Append(t.Context(), stream, eventstore.NoStream(), events...)
		if err != nil {
			t.Fatal(err)
		}
		acks = append(acks, acknowledged{stream, answer, events})
	}
	rng := rand.New(rand.NewPCG(2, 2))
	now := disk.CrashClone(vfs.CrashCloneCfg{})
	for life := range 15 {
		// The disk as it is after each of the writes of one opening.
		crashing := &crashAt{FS: now, disk: now, left: rng.IntN(40), rng: rng}
		o := small(crashing)
		if again, err := pebblestore.Open("ledger", o); err == nil {
			if err := survived(again, acks); err != nil {
				t.Fatalf("life %d: %v", life, err)
			}
			if err := again.Close(); err != nil {
				t.Fatalf("life %d: %v", life, err)
			}
		} else {
			t.Fatalf("life %d: %v", life, err)
		}
		if crashing.then == nil {
			continue
		}
		now = crashing.then
		again, err := pebblestore.Open("ledger", small(now.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rng})))
		if err != nil {
			t.Fatalf("life %d, after the crash: %v", life, err)
		}
		if err := survived(again, acks); err != nil {
			t.Fatalf("life %d, after the crash: %v", life, err)
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// crashAt keeps a copy of the disk as a crash would leave it at some removal,
// rename or creation.
type crashAt struct {
	vfs.FS
	disk *vfs.MemFS
	rng  *rand.Rand

	mu   sync.Mutex
	left int
	then *vfs.MemFS
}

func (c *crashAt) tick() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left--; c.left == 0 {
		c.then = c.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: c.rng})
	}
}

func (c *crashAt) Create(name string, k vfs.DiskWriteCategory) (vfs.File, error) {
	defer c.tick()
	return c.FS.Create(name, k)
}

func (c *crashAt) Rename(from, to string) error {
	defer c.tick()
	return c.FS.Rename(from, to)
}

func (c *crashAt) Remove(name string) error {
	defer c.tick()
	return c.FS.Remove(name)
}

func (c *crashAt) Unwrap() vfs.FS { return c.FS }
