package eventstore

import "strconv"

// Expected is the state in which an append must find its stream. There is no
// value for 'any': the zero value is invalid and refused by every store.
type Expected struct {
	// 0 invalid, 1 no stream, otherwise revision + 2.
	code uint64
}

// NoStream expects that the stream has no events.
func NoStream() Expected { return Expected{code: 1} }

// At expects that r is the revision of the stream's newest event.
func At(r Revision) Expected { return Expected{code: uint64(r) + 2} }

// Valid is false only for the zero value.
func (e Expected) Valid() bool { return e.code != 0 }

// Revision gives the revision expected; false if no stream is.
func (e Expected) Revision() (Revision, bool) {
	if e.code < 2 {
		return 0, false
	}
	return Revision(e.code - 2), true
}

// Next is the revision that the first event appended gets.
func (e Expected) Next() Revision {
	if r, ok := e.Revision(); ok {
		return r + 1
	}
	return 0
}

// String gives the revision, or "no stream".
func (e Expected) String() string {
	switch e.code {
	case 0:
		return "invalid expectation"
	case 1:
		return "no stream"
	default:
		return strconv.FormatUint(e.code-2, 10)
	}
}
