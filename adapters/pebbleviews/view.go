package pebbleviews

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/cockroachdb/pebble/v2"

	"writ/projections"
)

// A View is one view in a store; it implements [projections.ViewStore]. Its
// keys stand in the database behind its name and a zero byte.
type View struct {
	store        *Store
	name         string
	lower, upper []byte // all of its keys are within
}

func (v *View) key(key string) []byte {
	return append(v.lower[:len(v.lower):len(v.lower)], key...)
}

// use makes a call into the database unless it is closed or halted.
func (v *View) use(ctx context.Context, what string, call func(db *pebble.DB) error) error {
	err := v.store.begin()
	if err == nil {
		defer v.store.calls.Done()
		err = errors.Join(ctx.Err(), v.store.halt.err())
	}
	if err == nil {
		err = call(v.store.db)
	}
	if err != nil {
		return fmt.Errorf("%s view %s: %w", what, v.name, err)
	}
	return nil
}

// Get implements [projections.ViewStore].
func (v *View) Get(ctx context.Context, key string) (value []byte, found bool, err error) {
	err = v.use(ctx, "read", func(db *pebble.DB) error {
		have, closer, err := db.Get(v.key(key))
		if errors.Is(err, pebble.ErrNotFound) {
			return nil
		}
		if err != nil {
			return own(err)
		}
		value, found = append([]byte{}, have...), true
		return own(closer.Close())
	})
	return value, found, err
}

// Scan implements [projections.ViewStore].
func (v *View) Scan(ctx context.Context, prefix string) iter.Seq2[projections.Entry, error] {
	return v.ScanFrom(ctx, prefix, "")
}

// ScanFrom implements [projections.ViewStore].
func (v *View) ScanFrom(ctx context.Context, prefix, from string) iter.Seq2[projections.Entry, error] {
	return func(yield func(projections.Entry, error) bool) {
		stopped := false
		err := v.use(ctx, "scan", func(db *pebble.DB) (err error) {
			lower := v.key(prefix)
			upper := after(lower)
			if from > prefix {
				lower = v.key(from)
			}
			if bytes.Compare(lower, upper) >= 0 {
				return nil // all keys of the prefix come before
			}
			it, err := db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
			if err != nil {
				return own(err)
			}
			defer func() { err = errors.Join(err, own(it.Close())) }()
			for ok := it.First(); ok; ok = it.Next() {
				if err := ctx.Err(); err != nil {
					return err
				}
				value, err := it.ValueAndErr()
				if err != nil {
					return own(err)
				}
				e := projections.Entry{Key: string(it.Key()[len(v.lower):]), Value: bytes.Clone(value)}
				if stopped = !yield(e, nil); stopped {
					return nil
				}
			}
			return own(it.Error())
		})
		if err != nil && !stopped {
			yield(projections.Entry{}, err)
		}
	}
}

// after gives the first key behind all that begin with a prefix. There is one:
// a view's name and the zero byte behind it are not all ones.
func after(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	for end[len(end)-1] == 0xff {
		end = end[:len(end)-1]
	}
	end[len(end)-1]++
	return end
}

// Commit implements [projections.ViewStore]. It waits for no disk, unless one
// has fallen far behind; then it waits for as long as that takes, whatever
// ctx says, because a commit given up could still be made later.
func (v *View) Commit(ctx context.Context, b projections.Batch) error {
	return v.write(ctx, "commit", func(w *pebble.Batch) error {
		for _, e := range b.Set {
			if err := w.Set(v.key(e.Key), e.Value, nil); err != nil {
				return err
			}
		}
		for _, key := range b.Delete {
			if err := w.Delete(v.key(key), nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// Clear implements [projections.ViewStore].
func (v *View) Clear(ctx context.Context) error {
	return v.write(ctx, "clear", func(w *pebble.Batch) error {
		return w.DeleteRange(v.lower, v.upper, nil)
	})
}

func (v *View) write(ctx context.Context, what string, fill func(*pebble.Batch) error) error {
	return v.use(ctx, what, func(db *pebble.DB) error {
		w := db.NewBatch()
		if err := fill(w); err != nil {
			return own(errors.Join(err, w.Close()))
		}
		return v.store.halt.do(func() error {
			return own(errors.Join(w.Commit(pebble.NoSync), w.Close()))
		})
	})
}

// own keeps Pebble's types inside of this package.
func own(err error) error {
	if err == nil {
		return nil
	}
	return errors.New(err.Error())
}
