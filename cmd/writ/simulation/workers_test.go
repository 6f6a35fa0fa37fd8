package simulation_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// chunkSeeds is how many histories a process plays before the next one takes
// over: it keeps them small, and what one of them does wrong to itself.
const chunkSeeds = 250

// A ledger of figures that is gathered over runs.
type gathered struct {
	First uint64 `json:"first_seed"`
	Next  uint64 `json:"next_seed"` // all before it are done
	// NextCarried is the same for carried histories, whose seeds are their own.
	NextCarried uint64 `json:"next_carried_seed"`
	figures
}

// share plays histories in processes of their own, one for each processor: a
// history is the same each time only where nothing else runs beside it.
func share(t *testing.T) {
	t.Helper()
	sum := gathered{First: *first, Next: *first, NextCarried: *first, figures: newFigures()}
	if *keep != "" {
		sum.load(t, *keep)
	}
	if testing.Short() {
		*seeds, *carried = min(*seeds, 16), min(*carried, 16)
	}
	dir := t.TempDir()
	chunks := append(chunksOf(histories{playedKind, sum.Next, *seeds}), chunksOf(histories{carriedKind, sum.NextCarried, *carried})...)
	results := make([]*figures, len(chunks))
	var mu sync.Mutex // guards what follows
	next, merged := 0, 0
	var workers sync.WaitGroup
	for range runtime.NumCPU() {
		workers.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				mu.Unlock()
				if i >= len(chunks) {
					return
				}
				f := inProcess(t, dir, chunks[i])
				mu.Lock()
				results[i] = f
				// In the order of the seeds: a run that is broken off leaves no gap.
				for merged < len(results) && results[merged] != nil {
					sum.add(*results[merged])
					next := &sum.Next
					if chunks[merged].kind == carriedKind {
						next = &sum.NextCarried
					}
					*next = chunks[merged].first + uint64(chunks[merged].count)
					merged++
					if *keep != "" {
						sum.save(t, *keep)
					}
				}
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	t.Logf("%s", sum.text())
}

// chunksOf shares histories out.
func chunksOf(all histories) []histories {
	size := min(chunkSeeds, max(1, (all.count+2*runtime.NumCPU()-1)/(2*runtime.NumCPU())))
	var chunks []histories
	for done := 0; done < all.count; done += size {
		chunks = append(chunks, histories{all.kind, all.first + uint64(done), min(size, all.count-done)})
	}
	return chunks
}

// inProcess plays histories in another process. It gives nil if that did not
// come to its end.
func inProcess(t *testing.T, dir string, part histories) *figures {
	t.Helper()
	file := filepath.Join(dir, fmt.Sprint(part.kind, part.first))
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSeeds$", "-test.timeout=10m",
		fmt.Sprintf("-tail=%d", *shown), fmt.Sprintf("-chunk=%s,%d,%d,%s", part.kind, part.first, part.count, file))
	cmd.Env = tellable(os.Environ())
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if err != nil {
		t.Errorf("%s seeds %d to %d: %v\n%s", part.kind, part.first, part.first+uint64(part.count)-1, err, out.Bytes())
	}
	f := newFigures()
	data, readErr := os.ReadFile(file)
	if readErr == nil {
		readErr = json.Unmarshal(data, &f)
	}
	if readErr != nil {
		if err == nil {
			t.Errorf("%s seeds %d to %d: %v", part.kind, part.first, part.first+uint64(part.count)-1, readErr)
		}
		return nil
	}
	return &f
}

func (f *figures) save(t *testing.T, file string) {
	t.Helper()
	data, err := json.Marshal(f, json.Deterministic(true))
	if err == nil {
		err = os.WriteFile(file, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (g *gathered) text() []byte {
	data, err := json.Marshal(g, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil {
		return []byte(err.Error())
	}
	return data
}

func (g *gathered) save(t *testing.T, file string) {
	t.Helper()
	// Whole or not at all, whenever the run is broken off.
	fresh := file + ".new"
	err := os.WriteFile(fresh, append(g.text(), '\n'), 0o600)
	if err == nil {
		err = os.Rename(fresh, file)
	}
	if err != nil {
		t.Errorf("the figures can't be kept: %v", err)
	}
}

func (g *gathered) load(t *testing.T, file string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		err = json.Unmarshal(data, g)
	}
	if err != nil {
		t.Fatalf("%s can't be read as figures: %v", file, err)
	}
	g.NextCarried = max(g.NextCarried, g.First) // of a file that is older than these histories
}
