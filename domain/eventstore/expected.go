package eventstore

import "strconv"

// Expected is the state in which an append must find its stream. There is no
// value for 'any': the zero value is invalid and refused by every store.
type Expected struct {
	state    streamState
	revision Revision // of existing alone
}

type streamState uint8

const (
	absent streamState = iota + 1
	existing
)

// NoStream expects that the stream has no events.
func NoStream() Expected { return Expected{state: absent} }

// At expects that r is the revision of the stream's newest event.
func At(r Revision) Expected { return Expected{state: existing, revision: r} }

// Valid is false only for the zero value.
func (e Expected) Valid() bool { return e.state != 0 }

// Revision gives the revision expected; false if no stream is.
func (e Expected) Revision() (Revision, bool) { return e.revision, e.state == existing }

// Next is the revision that the first event appended gets.
func (e Expected) Next() Revision {
	if e.state == existing {
		return e.revision + 1
	}
	return 0
}

// String gives the revision, or "no stream".
func (e Expected) String() string {
	switch e.state {
	case absent:
		return "no stream"
	case existing:
		return strconv.FormatUint(uint64(e.revision), 10)
	}
	return "invalid expectation"
}
