// Package eventstore is the port to the ledger: streams of events that are
// appended at an expected revision, read back, and followed.
//
// Everything the service promises rests on one property of this port: of any
// number of appends that expect the same revision of a stream, at most one
// takes effect. Two launchers that race for one op, a request delivered twice,
// a process that wakes up after its successor has moved on: all of them lose
// at this line and nowhere else. So there is no append without an expected
// revision, and no implementation may offer one.
//
// The package storetest holds the contract as tests that every store passes,
// and a store in memory.
package eventstore

import (
	"context"
	"iter"
	"time"
)

// Limits that every store enforces before it writes anything.
const (
	// MaxEventBytes bounds data plus metadata of all events of one append.
	// EventStoreDB's default limit for an append is 1 MiB; ours leaves room
	// for its framing.
	MaxEventBytes = 960 << 10
	// MaxAppendEvents bounds the events of one append.
	MaxAppendEvents = 64
	// MaxNameBytes bounds the name of a stream and of an event type.
	MaxNameBytes = 256
)

// A StreamID names a stream. Names starting with "$" belong to the store and
// are refused.
type StreamID string

// A Revision is an event's number within its stream; the first is 0.
type Revision uint64

// A Position is an event's place in the whole ledger. Positions grow strictly
// in the order in which events become visible; they have gaps, and mean
// nothing in another store.
type Position uint64

// A LedgerID identifies one ledger for ever: 16 lower-case hex digits, random,
// made when the ledger is created. It is part of every audience and of every
// chain hash.
type LedgerID string

// An EventID identifies one event. Stores use it to recognise a repeated
// append, so two different appends must never share one.
type EventID [16]byte

// A Proposed event is what an appender wants on record.
type Proposed struct {
	ID       EventID
	Type     string
	Data     []byte
	Metadata []byte
}

// A Recorded event is on record: durable, numbered, never changed.
// Its slices belong to the receiver.
type Recorded struct {
	Stream     StreamID
	Revision   Revision
	Position   Position
	ID         EventID
	Type       string
	Data       []byte
	Metadata   []byte
	RecordedAt time.Time // the store's clock, UTC; for people, never for decisions
}

// Appended is a store's definite answer that an append is on record.
type Appended struct {
	Revision Revision // of the last event appended
	Position Position // of the last event appended
}

// A Store is one ledger. All methods may be called concurrently.
type Store interface {
	Appender
	Reader
	Subscriber

	// LedgerID is fixed for the life of the store.
	LedgerID() LedgerID
}

// An Appender puts events on record.
type Appender interface {
	// Append puts events at the end of stream, all of them or none, if and
	// only if the stream is exactly as expected.
	//
	// When it returns nil, the events are durable: they survive the death of
	// the process and the loss of power, and every later read sees them.
	//
	// A *WrongRevisionError and an *InvalidError prove that this call
	// appended nothing and never will. After any other error, a cancelled
	// context included, the events may be on record or may still get there:
	// the outcome is unknown. The caller settles it by repeating the append
	// with the same events, ids and expectation until the answer is definite.
	//
	// Repeating is safe: if the stream already holds exactly these events,
	// same ids, right after the expected revision, the answer is the one the
	// first append got (the events are not written again). Only the caller
	// retries; a store never does on its own.
	//
	// Two appends with different ids for one expected revision: exactly one
	// is answered with Appended, the other with *WrongRevisionError. An
	// append is the caller's own only if the revision returned is the
	// expected one plus the number of its events; anything else is a store
	// that took it for a repetition of something else.
	Append(ctx context.Context, stream StreamID, expected Expected, events ...Proposed) (Appended, error)
}

// A Reader reads what is on record.
type Reader interface {
	// ReadStream gives the events of a stream from a revision on, in order,
	// up to the end as it is when reading gets there. It sees every append
	// that was acknowledged before the call. A stream without events yields
	// ErrStreamNotFound as its only element; from beyond the end, nothing.
	//
	// The last element carries the error if there is one, with a zero event.
	// Stopping early is not an error and releases everything.
	ReadStream(ctx context.Context, stream StreamID, from Revision) iter.Seq2[Recorded, error]

	// Head gives the newest event of a stream, or ErrStreamNotFound.
	Head(ctx context.Context, stream StreamID) (Recorded, error)

	// ReadAll gives the events of the ledger that pass the filter, in order
	// of position, up to the end as it was when the call was made.
	ReadAll(ctx context.Context, after Cursor, filter Filter) iter.Seq2[Recorded, error]
}

// A Subscriber follows the ledger.
type Subscriber interface {
	// Subscribe gives the events after a cursor that pass the filter and then
	// stays: first what is on record, then a notice of kind CaughtUp, then
	// each event as it becomes durable; without gap, without repeat, in order
	// of position, and nothing that is not durable. It ends when ctx does,
	// with the context's error.
	//
	// It is driven by its reader: nothing is buffered for a slow one beyond a
	// fixed number of events, and no reader can slow an append. A notice of
	// kind Checkpoint says how far the ledger was searched when nothing
	// passed the filter for a while, so that a checkpoint can move on.
	Subscribe(ctx context.Context, after Cursor, filter Filter) iter.Seq2[Notice, error]
}

// A Cursor is a place between two events of one ledger. The zero value is the
// beginning.
type Cursor struct {
	after Position
	set   bool
}

// After is the cursor right behind an event.
func After(p Position) Cursor { return Cursor{after: p, set: true} }

// Position gives the position behind which the cursor stands; false at the
// beginning.
func (c Cursor) Position() (Position, bool) { return c.after, c.set }

// A Filter selects streams by the beginning of their name. The zero value
// lets everything pass.
type Filter struct {
	StreamPrefixes []string
}

// Passes tells whether events of a stream pass.
func (f Filter) Passes(stream StreamID) bool {
	if len(f.StreamPrefixes) == 0 {
		return true
	}
	for _, p := range f.StreamPrefixes {
		if len(stream) >= len(p) && string(stream[:len(p)]) == p {
			return true
		}
	}
	return false
}

// A NoticeKind says what a subscription has to tell.
type NoticeKind uint8

// The kinds of notice. The zero value is none of them.
const (
	NewEvent NoticeKind = iota + 1
	CaughtUp
	Checkpoint
)

// A Notice is one thing a subscription has to tell.
type Notice struct {
	Kind  NoticeKind
	Event Recorded // only of NewEvent
	At    Cursor   // everything up to here has been seen
}
