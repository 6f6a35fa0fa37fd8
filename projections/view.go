package projections

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
)

// A ViewStore holds one view: keys in order, each with a value. All methods
// may be called concurrently; only one Runner at a time may commit or clear.
type ViewStore interface {
	// Get gives a key's value, which belongs to the caller; false if the key
	// is not there.
	Get(ctx context.Context, key string) (value []byte, found bool, err error)

	// Scan gives the entries whose key begins with a prefix, in the order of
	// the keys' bytes, all as they were at one moment. The last element
	// carries the error if there is one, with a zero entry. Stopping early
	// releases everything.
	Scan(ctx context.Context, prefix string) iter.Seq2[Entry, error]

	// ScanFrom is Scan without the entries whose key comes before from. It costs
	// no more for those it leaves out, however many they are.
	ScanFrom(ctx context.Context, prefix, from string) iter.Seq2[Entry, error]

	// Commit makes all changes of a batch or none. When it returns nil, every
	// later read sees them. After an error they may have been made or not.
	//
	// A crash may lose the newest commits, but only from the end: a commit
	// that survives has all before it with it.
	Commit(ctx context.Context, b Batch) error

	// Clear removes everything, or nothing if it fails; after an error either
	// may be true. It is ordered among the commits as one of them.
	Clear(ctx context.Context) error
}

// An Entry is a key with its value.
type Entry struct {
	Key   string
	Value []byte
}

// A Batch is what one commit changes. No key is in it twice.
type Batch struct {
	Set    []Entry
	Delete []string
}

// reserved is what the keys of this package begin with.
const reserved = "!"

// Changes collects what events change in a view until it is committed. Reads
// see the changes.
type Changes struct {
	under getter
	set   map[string][]byte // a nil value: the key is to be deleted
}

// A getter is what changes are made to: a view, or other changes.
type getter interface {
	Get(ctx context.Context, key string) ([]byte, bool, error)
}

func newChanges(under getter) *Changes {
	return &Changes{under: under, set: make(map[string][]byte)}
}

// Get gives a key's value, which must not be changed; false if the key is not
// there.
func (c *Changes) Get(ctx context.Context, key string) ([]byte, bool, error) {
	if v, ok := c.set[key]; ok {
		return v, v != nil, nil
	}
	return c.under.Get(ctx, key)
}

// Set gives a key a value, which must not be changed afterwards. Keys that
// begin with "!" belong to the runner: a projection that uses one is broken.
func (c *Changes) Set(key string, value []byte) {
	mustBeFree(key)
	if value == nil {
		value = []byte{}
	}
	c.set[key] = value
}

// Delete removes a key, if it is there.
func (c *Changes) Delete(key string) {
	mustBeFree(key)
	c.set[key] = nil
}

func mustBeFree(key string) {
	if key == "" || strings.HasPrefix(key, reserved) {
		panic(fmt.Sprintf("projections: internal error: a projection uses the key %q", key))
	}
}

// batch gives all changes, in the order of their keys.
func (c *Changes) batch() Batch {
	var b Batch
	for _, key := range slices.Sorted(maps.Keys(c.set)) {
		if v := c.set[key]; v != nil {
			b.Set = append(b.Set, Entry{Key: key, Value: v})
		} else {
			b.Delete = append(b.Delete, key)
		}
	}
	return b
}
