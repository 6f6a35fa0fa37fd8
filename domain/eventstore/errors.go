package eventstore

import (
	"errors"
	"fmt"
)

// ErrStreamNotFound says that a stream has no events.
var ErrStreamNotFound = errors.New("stream not found")

// ErrClosed says that the store was closed; nothing was begun.
var ErrClosed = errors.New("event store closed")

// A WrongRevisionError proves that an append found its stream in another
// state than expected and appended nothing.
type WrongRevisionError struct {
	Stream   StreamID
	Expected Expected
	Actual   Expected // as the stream was found; the zero value if the store did not say
}

func (e *WrongRevisionError) Error() string {
	return fmt.Sprintf("append %s: stream is at %s, expected %s", e.Stream, e.Actual, e.Expected)
}

// An InvalidError proves that an append was refused for its form, before
// anything was written.
type InvalidError struct {
	Stream StreamID
	Why    string
}

func (e *InvalidError) Error() string {
	return fmt.Sprintf("append %s: %s", e.Stream, e.Why)
}

// A CorruptError says that what is stored can't be what was written: a
// checksum that does not fit, a revision missing, a stream that was truncated.
// It is never repaired silently.
type CorruptError struct {
	Stream StreamID // empty if it is not one stream's matter
	Why    string
}

func (e *CorruptError) Error() string {
	if e.Stream == "" {
		return "event store corrupt: " + e.Why
	}
	return fmt.Sprintf("stream %s corrupt: %s", e.Stream, e.Why)
}

// Definite tells whether an append's error proves that nothing was appended
// and nothing will be.
func Definite(err error) bool {
	var wrong *WrongRevisionError
	var invalid *InvalidError
	return errors.As(err, &wrong) || errors.As(err, &invalid)
}
