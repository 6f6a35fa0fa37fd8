package esdb_test

import (
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/protobuf/proto"

	"writ/adapters/esdb"
	"writ/domain/eventstore"
)

func wire(f *testing.F, m proto.Message) []byte {
	f.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		f.Fatal(err)
	}
	return b
}

// Whatever bytes arrive as an event: an event in form comes of them, or an
// error.
func FuzzEvent(f *testing.F) {
	f.Add(wire(f, event("s", 3, 9)))
	f.Add(wire(f, event("s", 3, 9, func(e *wireEvent) { e.Metadata["created"] = "-1" })))
	f.Add(wire(f, &streams.ReadResp{}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r streams.ReadResp
		if proto.Unmarshal(b, &r) != nil {
			t.Skip("gRPC refuses it")
		}
		e, err := esdb.Understood(&r)
		if err != nil {
			return
		}
		if e.Stream == "" || e.ID == (eventstore.EventID{}) || e.Position == 0 || e.RecordedAt.Location() != time.UTC || e.RecordedAt.Unix() < 0 {
			t.Errorf("got %+v, want an event in form or an error", e)
		}
	})
}

// Whatever bytes arrive as the answer to an append: it counts as done only at
// the revision that must come out.
func FuzzAnswer(f *testing.F) {
	f.Add(wire(f, appended(func(*streams.AppendResp_Success) {})), uint64(0))
	f.Add(wire(f, notAppended(func(*streams.AppendResp_WrongExpectedVersion) {})), uint64(3))
	f.Add([]byte{}, uint64(1))
	f.Fuzz(func(t *testing.T, b []byte, at uint64) {
		var r streams.AppendResp
		if proto.Unmarshal(b, &r) != nil {
			t.Skip("gRPC refuses it")
		}
		expected := eventstore.NoStream()
		if at > 0 {
			expected = eventstore.At(eventstore.Revision(at >> 2))
		}
		done, err := esdb.Judged(expected, &r)
		if err == nil && (done.Revision != expected.Next() || done.Position == 0 || r.GetSuccess() == nil) {
			t.Errorf("at %s: %v was taken for done as %+v", expected, &r, done)
		}
		if eventstore.Definite(err) && r.GetWrongExpectedVersion() == nil {
			t.Errorf("at %s: %v was taken for refused: %v", expected, &r, err)
		}
	})
}
