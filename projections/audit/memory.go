package audit

import (
	"hash/maphash"
	"sync"
)

// memory is what an audit can't forget: which ops have ended, which are
// damaged, and which tasks are on record. It keeps 64 bits of each name, made
// with a seed of this run, so nobody can prepare two names that look alike; of
// ten million names the chance that two do is 3 in a million, and then a
// finding is reported that the next run does not repeat. None is ever missed.
type memory struct {
	seed           maphash.Seed
	ended, damaged set
	tasks          set
}

func newMemory() *memory { return &memory{seed: maphash.MakeSeed()} }

func (m *memory) key(name string) uint64 {
	k := maphash.String(m.seed, name)
	if k == 0 {
		return 1 // 0 marks an empty slot
	}
	return k
}

// set holds keys in little more than their own size. It may be used
// concurrently.
type set struct{ segments [64]segment }

// segment grows by itself, so that only a small part of the set is ever held
// twice.
type segment struct {
	mu    sync.Mutex
	slots []uint64 // a power of two; 0 is empty
	n     int
}

func (s *set) segment(key uint64) *segment { return &s.segments[key>>58] }

// add puts a key in; false if it is there already.
func (s *set) add(key uint64) bool {
	g := s.segment(key)
	g.mu.Lock()
	defer g.mu.Unlock()
	if 4*(g.n+1) > 3*len(g.slots) {
		g.grow()
	}
	if !g.put(key) {
		return false
	}
	g.n++
	return true
}

func (s *set) has(key uint64) bool {
	g := s.segment(key)
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.slots) == 0 {
		return false
	}
	for i := key & g.mask(); g.slots[i] != 0; i = (i + 1) & g.mask() {
		if g.slots[i] == key {
			return true
		}
	}
	return false
}

func (g *segment) mask() uint64 { return uint64(len(g.slots)) - 1 }

func (g *segment) put(key uint64) bool {
	i := key & g.mask()
	for ; g.slots[i] != 0; i = (i + 1) & g.mask() {
		if g.slots[i] == key {
			return false
		}
	}
	g.slots[i] = key
	return true
}

func (g *segment) grow() {
	old := g.slots
	g.slots = make([]uint64, max(64, 2*len(old)))
	for _, key := range old {
		if key != 0 {
			g.put(key)
		}
	}
}
