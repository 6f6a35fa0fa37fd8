package op

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// A Record is one stored event with its place, as a store gives it back.
type Record struct {
	Revision uint64
	ID       ID
	Type     string
	Data     []byte // exactly as stored; never re-encoded
	Metadata []byte
}

// Metadata is what is stored beside an event's data. The names with a dollar
// sign are those by which EventStoreDB's own projections link events.
type Metadata struct {
	Schema      int    `json:"schema"` // version of the event's data; 1
	Correlation string `json:"$correlationId"`
	Causation   string `json:"$causationId,omitempty"` // id of the event before in the stream
	Chain       Digest `json:"chain"`
}

// encode gives the same bytes as Marshal at a fraction of the cost, because
// every event has metadata.
func (m Metadata) encode() ([]byte, error) {
	b := make([]byte, 0, 256)
	b = strconv.AppendInt(append(b, `{"schema":`...), int64(m.Schema), 10)
	var err error
	if b, err = jsontext.AppendQuote(append(b, `,"$correlationId":`...), m.Correlation); err != nil {
		return nil, err
	}
	if m.Causation != "" {
		if b, err = jsontext.AppendQuote(append(b, `,"$causationId":`...), m.Causation); err != nil {
			return nil, err
		}
	}
	b = hex.AppendEncode(append(b, `,"chain":"`...), m.Chain[:])
	return append(b, `"}`...), nil
}

// Schema is the version of the event data that this program writes.
const Schema = 1

// A Tail is the end of a stream: what the next event is bound to. The zero
// value is the tail of a stream without events.
type Tail struct {
	Next  uint64 // revision of the next event
	Last  ID     // id of the event before it
	Chain Digest // chain hash of the event before it; zeros before the first
}

// Chain binds an event to its place, to its exact bytes and to everything
// before it in its stream: SHA-256 over the tag "writ-chain-v1" and then, each
// with its length, ledger id, stream, revision, type, data and the chain hash
// of the event before.
//
// Alone it shows accidents and careless edits. Against someone who can rewrite
// the whole store, and so every hash after the edit, it shows nothing.
func Chain(ledger, stream string, revision uint64, typ string, data []byte, prev Digest) Digest {
	return hashFields("writ-chain-v1", []byte(ledger), []byte(stream), uint64Bytes(revision), []byte(typ), data, prev[:])
}

// Seal makes the record that comes next in a stream: id, chain and metadata.
// The second result is the stream's tail once the record has been appended.
func (t Tail) Seal(ledger, stream, correlation, typ string, data []byte) (Record, Tail, error) {
	rec := Record{
		Revision: t.Next,
		ID:       EventID(stream, t.Next, typ, data),
		Type:     typ,
		Data:     data,
	}
	meta := Metadata{
		Schema:      Schema,
		Correlation: correlation,
		Causation:   t.causation(),
		Chain:       Chain(ledger, stream, t.Next, typ, data, t.Chain),
	}
	var err error
	if rec.Metadata, err = meta.encode(); err != nil {
		return Record{}, Tail{}, fmt.Errorf("seal %s: %w", typ, err)
	}
	return rec, Tail{Next: t.Next + 1, Last: rec.ID, Chain: meta.Chain}, nil
}

// causation names the event before the next one; empty if there is none.
func (t Tail) causation() string {
	if t.Next == 0 {
		return ""
	}
	return t.Last.String()
}

// Check verifies that a record is the one that comes next and is bound to all
// before it, and gives the tail after it. It says nothing about what the event
// means.
func (t Tail) Check(ledger, stream string, rec Record) (Tail, error) {
	corrupt := func(format string, args ...any) (Tail, error) {
		return Tail{}, &CorruptStreamError{Stream: stream, Revision: rec.Revision, Why: fmt.Sprintf(format, args...)}
	}
	if rec.Revision != t.Next {
		return corrupt("revision %d where %d was expected: events were deleted or truncated", rec.Revision, t.Next)
	}
	if want := EventID(stream, rec.Revision, rec.Type, rec.Data); rec.ID != want {
		return corrupt("event id %s does not belong to these bytes at this place", rec.ID)
	}
	var meta Metadata
	if err := Unmarshal(rec.Metadata, &meta); err != nil {
		return corrupt("metadata: %s", clipError(err))
	}
	if meta.Schema != Schema {
		return corrupt("schema %d is unknown to this program, which knows %d", meta.Schema, Schema)
	}
	if want := Chain(ledger, stream, rec.Revision, rec.Type, rec.Data, t.Chain); meta.Chain != want {
		return corrupt("broken chain: %s recorded, %s computed", meta.Chain, want)
	}
	// The chain does not cover these two; a reader that follows them instead
	// of the stream must not be led to another op.
	if meta.Causation != t.causation() {
		return corrupt("metadata: $causationId %q, the event before is %q", clip(meta.Causation), t.causation())
	}
	if n, ok := NonceOfStream(stream); ok && meta.Correlation != string(n) {
		return corrupt("metadata: $correlationId is not the nonce")
	}
	return Tail{Next: rec.Revision + 1, Last: rec.ID, Chain: meta.Chain}, nil
}

// TailAfter is the tail of a stream that ends with the record, as the record
// itself tells it: for a writer that goes on with a stream it wrote. Only Check,
// from the first record on, verifies.
func TailAfter(rec Record) (Tail, error) {
	var meta Metadata
	if err := Unmarshal(rec.Metadata, &meta); err != nil {
		return Tail{}, fmt.Errorf("metadata of revision %d: %w", rec.Revision, err)
	}
	return Tail{Next: rec.Revision + 1, Last: rec.ID, Chain: meta.Chain}, nil
}

// A CorruptStreamError says that a stream can't be what this program, or any
// version of it, wrote. Such an op is never run and never repaired silently.
type CorruptStreamError struct {
	Stream   string
	Revision uint64
	Why      string
}

func (e *CorruptStreamError) Error() string {
	name := clip(e.Stream)
	if n, ok := strings.CutPrefix(e.Stream, streamPrefix); ok {
		name = streamPrefix + Nonce(n).Short()
	}
	return fmt.Sprintf("stream %s corrupt at revision %d: %s", name, e.Revision, e.Why)
}

// hashFields hashes a tag and fields, each preceded by its length in eight
// bytes, so that no two lists of fields give the same input.
func hashFields(tag string, fields ...[]byte) Digest {
	h := sha256.New()
	b := append(make([]byte, 0, sha256.Size), tag...)
	for _, f := range fields {
		h.Write(binary.BigEndian.AppendUint64(b, uint64(len(f))))
		h.Write(f)
		b = b[:0]
	}
	return Digest(h.Sum(b[:0]))
}

func uint64Bytes(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
