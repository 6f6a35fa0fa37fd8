package simulation_test

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
)

var (
	seeds   = flag.Int("seeds", 100, "how many histories TestSeeds plays in which the host's exchanges are played, each twice")
	carried = flag.Int("carried", 80, "how many histories TestSeeds plays in which the adapter's own requests are carried to a simulated cluster, each twice")
	first   = flag.Uint64("first", 1, "seed of the first of them; with -figures, of the very first")
	keep    = flag.String("figures", "", "file in which the figures of all histories are gathered, over runs: each run goes on after the last seed done")
	shown   = flag.Int("tail", 60, "how many of the last lines are shown of a history in which something is wrong")
	words   = flag.Bool("words", false, "show what the service logs; for one seed")
	chunk   = flag.String("chunk", "", "play these histories in this process and write the figures to a file: kind,first,count,file")
)

// Whatever goes wrong with store, host, processes, clocks and people, what must
// never be is not; and a seed always gives the same history.
func TestSeeds(t *testing.T) {
	if *chunk != "" {
		part, file := chunkOf(t, *chunk)
		playAll(t, part).save(t, file)
		return
	}
	if *words {
		playAll(t, histories{playedKind, *first, *seeds})
		playAll(t, histories{carriedKind, *first, *carried})
		return
	}
	share(t)
}

// A kind is one of the two of histories.
type kind string

const (
	playedKind  kind = "played"  // the adapter's exchanges with the host are played
	carriedKind kind = "carried" // its own requests are carried to a simulated cluster
)

// histories are some of a kind, one for each seed.
type histories struct {
	kind  kind
	first uint64
	count int
}

// playAll plays histories in this process, each twice.
func playAll(t *testing.T, part histories) *figures {
	t.Helper()
	// The collector takes turns with goroutines: which goroutine comes first must
	// not depend on when it does.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	total := newFigures()
	var one, two []byte
	for i := range part.count {
		seed := part.first + uint64(i)
		s, again := history(t, part.kind, seed, one), history(t, part.kind, seed, two)
		one, two = s.log, again.log
		if !shuffled && !bytes.Equal(one, two) {
			parted := parting(one, two)
			s, again = history(t, part.kind, seed, one), history(t, part.kind, seed, two)
			one, two = s.log, again.log
			s.figures.Disturbed++
			if !bytes.Equal(one, two) {
				s.figures.Unequal++
				t.Errorf("%s seed %d gives more than one history; %s\n%s", part.kind, seed, replay(part.kind, seed), parting(one, two))
			} else {
				t.Logf("%s seed %d was disturbed:\n%s", part.kind, seed, parted)
			}
		}
		if len(s.failures) > 0 {
			s.figures.Wrong++
			t.Errorf("%s seed %d; %s\n%s\nthe end of its history:\n%s", part.kind, seed, replay(part.kind, seed), strings.Join(s.failures, "\n"), lastLines(one, *shown))
		}
		if s.figures.Wrong+s.figures.Unequal > 0 {
			s.figures.Which = []uint64{seed}
		}
		total.add(s.figures)
		if i%16 == 15 {
			runtime.GC()
		}
	}
	return &total
}

func replay(k kind, seed uint64) string {
	one := "-seeds 1 -carried 0"
	if k == carriedKind {
		one = "-seeds 0 -carried 1"
	}
	return fmt.Sprintf("play it again with: go test ./cmd/writ/simulation -run TestSeeds %s -first %d -tail 100000", one, seed)
}

// history plays one.
func history(t *testing.T, k kind, seed uint64, into []byte) (s *sim) {
	t.Helper()
	var log io.Writer
	if *words {
		log = os.Stderr
	}
	synctest.Test(t, func(*testing.T) {
		if k == carriedKind {
			s = carry(seed, log, into)
			return
		}
		s = play(seed, log, into)
	})
	return s
}

func lastLines(b []byte, n int) []byte {
	at := len(b)
	for range n + 1 {
		i := bytes.LastIndexByte(b[:at], '\n')
		if i < 0 {
			return b
		}
		at = i
	}
	return b[at+1:]
}

// parting shows where two histories part.
func parting(one, two []byte) string {
	same := 0
	for same < min(len(one), len(two)) && one[same] == two[same] {
		same++
	}
	from := bytes.LastIndexByte(one[:same], '\n') + 1
	next := func(b []byte) []byte { return b[from:min(len(b), from+800)] }
	return fmt.Sprintf("%s\nthen the one:\n%s\nand the other:\n%s", lastLines(one[:from], 12), next(one), next(two))
}

func chunkOf(t *testing.T, text string) (part histories, file string) {
	t.Helper()
	parts := strings.SplitN(text, ",", 4)
	if len(parts) != 4 {
		t.Fatalf("-chunk: got %q, want kind,first,count,file", text)
	}
	from, err := strconv.ParseUint(parts[1], 10, 64)
	if err != nil {
		t.Fatalf("-chunk: %v", err)
	}
	count, err := strconv.Atoi(parts[2])
	if err != nil {
		t.Fatalf("-chunk: %v", err)
	}
	return histories{kind(parts[0]), from, count}, parts[3]
}

// tellable are the environment's settings without those that would let another
// goroutine come first than the seed says.
func tellable(env []string) []string {
	env = slices.DeleteFunc(env, func(s string) bool {
		return strings.HasPrefix(s, "GODEBUG=") || strings.HasPrefix(s, "GOMAXPROCS=") || strings.HasPrefix(s, "GOGC=")
	})
	return append(env, "GODEBUG=asyncpreemptoff=1", "GOMAXPROCS=1")
}
