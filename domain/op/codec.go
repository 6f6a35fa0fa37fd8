package op

import (
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Marshal gives the bytes under which a value is stored. The same value always
// gives the same bytes.
func Marshal(v any) ([]byte, error) {
	return json.Marshal(v, json.Deterministic(true))
}

// Unmarshal reads stored bytes strictly: an unknown member, a member named
// twice or in another case, invalid UTF-8 and anything after the value are
// errors. A program that does not understand all of an event must not act on
// the part that it does.
func Unmarshal(data []byte, v any) error {
	return json.Unmarshal(data, v, json.RejectUnknownMembers(true), jsontext.AllowDuplicateNames(false))
}

// ErrUnknownEvent says that a stream holds an event this program does not
// know.
var ErrUnknownEvent = errors.New("unknown event type")

// Decode reads one event of an op's stream. Every version ever written stays
// readable.
func Decode(typ string, data []byte) (Event, error) {
	var e Event
	switch typ {
	case TypeStarted:
		e = new(Started)
	case TypeLaunching:
		e = new(Launching)
	case TypeTaskRunning:
		e = new(TaskRunning)
	case TypeSucceeded:
		e = new(Succeeded)
	case TypeFailed:
		e = new(Failed)
	case TypeVoided:
		e = new(Voided)
	default:
		return nil, fmt.Errorf("%w %q", ErrUnknownEvent, clip(typ))
	}
	if err := Unmarshal(data, e); err != nil {
		return nil, fmt.Errorf("%s: %s", typ, clipError(err))
	}
	return e, nil
}

// clipError keeps what an error quotes of stored bytes short: a member's name
// may be as long as an event.
func clipError(err error) string {
	const most = 200
	s := err.Error()
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
