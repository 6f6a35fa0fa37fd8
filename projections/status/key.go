package status

import (
	"encoding/binary"
	"math"
	"strconv"
	"strings"
	"time"

	"writ/domain/eventstore"
)

// A place is where an op stands in every list, the newest first: the time at
// which it began and the position of its first event, both inverted, in 16
// bytes whose order is that of the list. An op never changes its place.
type place string

const placeBytes = 16

func placeOf(began time.Time, p eventstore.Position) place {
	return placeAt(nanos(began), p)
}

func placeAt(began uint64, p eventstore.Position) place {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, placeBytes), ^began)
	return place(binary.BigEndian.AppendUint64(b, ^uint64(p)))
}

// nanos counts from 1970 on; what lies before, or behind the year 2262, is at
// the end of what can be counted.
func nanos(t time.Time) uint64 {
	switch {
	case t.Unix() < 0:
		return 0
	case t.Year() > 2261:
		return math.MaxInt64
	}
	return uint64(t.UnixNano())
}

// next is the place right behind; false if there is none.
func (p place) next() (place, bool) {
	b := []byte(p)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i]++; b[i] != 0 {
			return place(b), true
		}
	}
	return "", false
}

// Keys. An op's row stands at its place; the place is found by the op's nonce.
// For every question that can be asked of the view there is an index: a key for
// each op of which the answer is yes, of the index's letter, the length of the
// value asked for, the value, and the op's place.
const (
	rows    = "o"
	byNonce = "n"

	byState  = "s"
	byClass  = "c"
	byGuest  = "g"
	byNode   = "h"
	bySigner = "p"
	byOpID   = "i"
)

// MaxValueBytes bounds what can be asked for by value. Nothing that writ writes
// is longer; what is, in a damaged ledger, is shown and can't be asked for.
const MaxValueBytes = 255

// index is the beginning of the keys of one answer; false if there can't be any.
func index(letter, value string) (string, bool) {
	if value == "" || len(value) > MaxValueBytes {
		return "", false
	}
	return letter + string([]byte{byte(len(value))}) + value, true
}

func vmidText(vmid int) string { return strconv.Itoa(vmid) }

// placeIn takes the place from a key that begins with a prefix.
func placeIn(key, prefix string) (place, bool) {
	p, ok := strings.CutPrefix(key, prefix)
	return place(p), ok && len(p) == placeBytes
}
