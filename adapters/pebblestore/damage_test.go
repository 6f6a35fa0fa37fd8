package pebblestore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"writ/adapters/pebblestore"
	"writ/domain/eventstore"
)

// damagedLedger gives the disk of a ledger with tables and a log.
func damagedLedger(t *testing.T, closed bool) (*vfs.MemFS, []acknowledged) {
	t.Helper()
	disk := vfs.NewCrashableMem()
	s := create(t, "ledger", small(disk))
	var acks []acknowledged
	for i := range 60 {
		stream := eventstore.StreamID(fmt.Sprintf("op-%d", i))
		events := proposal(stream, i, 2, 900)
		answer, err := s.Append(t.Context(), stream, eventstore.NoStream(), events...)
		if err != nil {
			t.Fatal(err)
		}
		acks = append(acks, acknowledged{stream, answer, events})
	}
	if closed {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return disk.CrashClone(vfs.CrashCloneCfg{}), acks
}

func contents(t *testing.T, disk vfs.FS, name string) []byte {
	t.Helper()
	f, err := disk.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// errHole is a loss that no crash explains: what came later is there.
var errHole = errors.New("a hole")

// afterwards opens what is left and reads all of it. It gives nil only if
// everything is there.
func afterwards(disk vfs.FS, acks []acknowledged) error {
	s, err := pebblestore.Open("ledger", small(disk))
	if err != nil {
		return fmt.Errorf("refused: %w", err)
	}
	defer s.Close()
	// As a submission asks: what was acknowledged must not be told to be
	// missing, whether or not anybody verifies the whole ledger.
	var lost error
	for _, a := range acks {
		n := 0
		var last error
		for _, last = range s.ReadStream(context.Background(), a.stream, 0) {
			if last == nil {
				n++
			}
		}
		switch {
		case errors.Is(last, eventstore.ErrStreamNotFound) || last == nil && n < len(a.events):
			lost = fmt.Errorf("%w: %s gives %d of %d events, %v", errAcknowledgedLost, a.stream, n, len(a.events), last)
		case last == nil && lost != nil:
			return fmt.Errorf("%w: %s is there, but before it: %w", errHole, a.stream, lost)
		}
	}
	if lost != nil {
		return lost
	}
	return survived(s, acks)
}

// Whatever happens to a file of a ledger, opening or reading it says so or
// gives every event as it was written. After a clean end that holds of every
// byte. After a crash the end of the newest log and of the manifest can't be
// told from what the crash tore, so there the newest appends may be missed.
func TestDamage(t *testing.T) {
	for _, closed := range []bool{true, false} {
		t.Run(fmt.Sprintf("closed %t", closed), func(t *testing.T) {
			disk, acks := damagedLedger(t, closed)
			names, err := disk.List("ledger")
			if err != nil {
				t.Fatal(err)
			}
			each := 30
			if testing.Short() {
				each = 8
			}
			rng := rand.New(rand.NewPCG(7, 7))
			told := make(map[string]int)
			for _, name := range names {
				path := disk.PathJoin("ledger", name)
				whole := contents(t, disk, path)
				damages := map[string][]byte{"emptied": {}, "cut in half": whole[:len(whole)/2]}
				for range min(each, len(whole)) {
					at, bit := rng.IntN(len(whole)), rng.IntN(8)
					flipped := append([]byte(nil), whole...)
					flipped[at] ^= 1 << bit
					damages[fmt.Sprintf("bit %d of byte %d of %d", bit, at, len(whole))] = flipped
				}
				for what, content := range damages {
					copied := disk.CrashClone(vfs.CrashCloneCfg{})
					f, err := copied.Create(path, vfs.WriteCategoryUnspecified)
					if err == nil {
						_, err = f.Write(content)
					}
					if err = errors.Join(err, f.Close()); err != nil {
						t.Fatal(err)
					}
					err = afterwards(copied, acks)
					if err != nil {
						told[kind(name)]++
					}
					if errors.Is(err, errAcknowledgedLost) && (closed || !tornByCrash(name) || errors.Is(err, errHole)) {
						t.Errorf("%s: %s: %v", name, what, err)
					}
				}
				copied := disk.CrashClone(vfs.CrashCloneCfg{})
				if err := copied.Remove(path); err != nil {
					t.Fatal(err)
				}
				if err := afterwards(copied, acks); errors.Is(err, errAcknowledgedLost) && (closed || !tornByCrash(name) || errors.Is(err, errHole)) {
					t.Errorf("%s: removed: %v", name, err)
				}
			}
			for _, k := range []string{"sst", "log", "MANIFEST"} {
				if told[k] == 0 {
					t.Errorf("no damage of a file of kind %s was told: got %v", k, told)
				}
			}
			t.Log(names, told)
		})
	}
}

func kind(name string) string {
	if _, extension, ok := strings.Cut(name, "."); ok {
		return extension
	}
	kind, _, _ := strings.Cut(name, "-")
	return kind
}

func tornByCrash(name string) bool {
	return strings.HasSuffix(name, ".log") || kind(name) == "MANIFEST"
}
