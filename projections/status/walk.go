package status

import (
	"context"
	"errors"
	"iter"

	"writ/projections"
)

// A walk goes along several lists of places at a time. A place is in a part of
// it if it is in any of the part's lists, and in the walk if it is in each part.
type walk struct {
	view  projections.ViewStore
	parts [][]*walker
	steps int // made by all walkers
}

// seek gives the first place of the walk that is not before at; false if there
// is none. Once maxSteps were made it gives a place that may not be one of the
// walk; but none of the walk is before it.
func (w *walk) seek(at place) (place, bool, error) {
	for agreed := 0; agreed < len(w.parts); {
		for _, part := range w.parts {
			found, ok, err := first(part, at)
			if err != nil || !ok {
				return "", false, err
			}
			if found > at {
				at, agreed = found, 0
			}
			if agreed++; agreed >= len(w.parts) {
				return at, true, nil
			}
		}
		if w.steps >= maxSteps {
			break
		}
	}
	return at, true, nil
}

// first gives the first place in any of the lists that is not before at.
func first(part []*walker, at place) (found place, ok bool, err error) {
	for _, l := range part {
		p, has, err := l.seek(at)
		if err != nil {
			return "", false, err
		}
		if has && (!ok || p < found) {
			found, ok = p, true
		}
	}
	return found, ok, nil
}

// row reads the row at a place.
func (w *walk) row(ctx context.Context, at place) (row, error) {
	for _, part := range w.parts {
		for _, l := range part {
			if l.prefix == rows && l.at == at {
				return parse(l.value)
			}
		}
	}
	data, found, err := w.view.Get(ctx, rows+string(at))
	if err != nil {
		return row{}, err
	}
	if !found {
		return row{}, errors.New("the view lacks the row of an op that it lists, build it again")
	}
	return parse(data)
}

func (w *walk) stop() {
	for _, part := range w.parts {
		for _, l := range part {
			l.close()
		}
	}
}

// leap is how many places a walker goes over one by one before it looks for the
// place it wants: looking costs as much as some twenty steps.
const leap = 16

// A walker goes along one list.
type walker struct {
	ctx    context.Context //nolint:containedctx // lives as long as one call
	view   projections.ViewStore
	prefix string
	steps  *int

	pull    func() (projections.Entry, error, bool)
	release func()
	at      place // where it stands; "" before the first step
	value   []byte
	ended   bool // it has come to the end of the list
}

// seek goes on to the first place that is not before one; it never goes back.
func (l *walker) seek(to place) (place, bool, error) {
	for n := 0; !l.ended && (l.at == "" || l.at < to); n++ {
		if l.pull == nil || n == leap {
			l.close()
			l.pull, l.release = iter.Pull2(l.view.ScanFrom(l.ctx, l.prefix, l.prefix+string(to)))
			*l.steps += leap
		}
		*l.steps++
		e, err, ok := l.pull()
		if err != nil {
			return "", false, err
		}
		if !ok {
			l.ended = true
			break
		}
		if p, is := placeIn(e.Key, l.prefix); is {
			l.at, l.value = p, e.Value
		}
	}
	return l.at, !l.ended, nil
}

func (l *walker) close() {
	if l.release != nil {
		l.release()
		l.pull, l.release = nil, nil
	}
}
