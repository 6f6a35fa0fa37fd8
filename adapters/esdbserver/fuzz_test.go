package esdbserver_test

import (
	"bytes"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"writ/adapters/esdbserver"
)

// Whatever is sent as a read is taken, or refused as an invalid argument.
func FuzzRead(f *testing.F) {
	for _, options := range [][]readOption{
		{ofStream("s"), fromRevision(3), backwards},
		{ofAll, fromPosition(7), subscribing},
		{ofAll, fromEnd, subscribing, filtered("type", 4, 2, prefix("a", "b"))},
		{ofAll, filtered("stream", 4, 0, pattern("^(?!x)"))},
	} {
		b, err := proto.Marshal(readRequest(options...))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		var req streams.ReadReq
		if proto.Unmarshal(b, &req) != nil {
			return
		}
		if err := esdbserver.CheckRead(&req); err != nil && status.Code(err) != codes.InvalidArgument {
			t.Errorf("got %v, want an invalid argument", err)
		}
	})
}

// Metadata of any bytes can be read, and be replaced by some that hides what it
// should and changes nothing the second time.
func FuzzMetadata(f *testing.F) {
	for _, seed := range []string{`{}`, `{"$tb":3}`, `{"$maxAge":1,"a":[{"$tb":2}]}`, `{"$tb":1,"$tb":2}`, `[1]`, `{"$acl":{"$r":["x"]}}`, `{"a":`, ``} {
		f.Add([]byte(seed), uint64(5))
	}
	f.Fuzz(func(t *testing.T, data []byte, revision uint64) {
		revision >>= 1
		once := esdbserver.WithTruncateBefore(data, revision)
		// What counted as empty for another key's sake still does.
		if got := esdbserver.HiddenBefore(once); got != revision && got != 0 {
			t.Errorf("got %d from %q, want %d", got, once, revision)
		}
		if again := esdbserver.WithTruncateBefore(once, revision); !bytes.Equal(again, once) {
			t.Errorf("got %q, the second time %q", once, again)
		}
	})
}
