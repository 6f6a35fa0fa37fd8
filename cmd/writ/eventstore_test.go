package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"
)

// startEventstore runs the program's eventstore until interrupt is called, and
// gives what it said when it was ready.
func startEventstore(t *testing.T, args ...string) (ready eventsServing, interrupt func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	ended := make(chan int, 1)
	var log bytes.Buffer
	go func() {
		ended <- run(ctx, append([]string{"eventstore", "--json", "--listen", "127.0.0.1:0"}, args...), strings.NewReader(""), w, &log)
		_ = w.Close()
	}()
	if err := json.NewDecoder(r).Decode(&ready); err != nil {
		cancel()
		t.Fatalf("eventstore said %v and ended with %d:\n%s", err, <-ended, log.String())
	}
	return ready, func() {
		t.Helper()
		cancel()
		if code := <-ended; code != exitOK {
			t.Errorf("eventstore ended with %d, want %d:\n%s", code, exitOK, log.String())
		}
	}
}

// esdbClient is the official client, ready to be used.
func esdbClient(t *testing.T, url string) *esdb.Client {
	t.Helper()
	conf, err := esdb.ParseConnectionString(url)
	if err != nil {
		t.Fatal(err)
	}
	client, err := esdb.NewClient(conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// What clients write is there when the program is started again, which without
// --writable lets nobody change it.
func TestEventstoreKeepsWhatClientsWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "events")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ready, interrupt := startEventstore(t, "--store", dir, "--create", "--writable")
	client := esdbClient(t, ready.URL)
	var last *esdb.WriteResult
	for i, expected := range []esdb.ExpectedRevision{esdb.NoStream{}, esdb.Revision(0), esdb.Any{}} {
		var err error
		last, err = client.AppendToStream(ctx, "orders", esdb.AppendToStreamOptions{ExpectedRevision: expected},
			esdb.EventData{EventID: uuid.New(), EventType: "Placed", ContentType: esdb.ContentTypeBinary, Data: []byte{byte(i)}})
		if err != nil || last.NextExpectedVersion != uint64(i) {
			t.Fatalf("append %d: got %v, %v, want revision %d", i, last, err, i)
		}
	}
	interrupt()

	ready, interrupt = startEventstore(t, "--store", dir)
	defer interrupt()
	client = esdbClient(t, ready.URL)
	from := esdb.Position{Commit: last.CommitPosition - 2, Prepare: last.CommitPosition - 2}
	s, err := client.SubscribeToAll(ctx, esdb.SubscribeToAllOptions{From: from, Filter: &esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Prefixes: []string{"ord"}}})
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i < 3; i++ {
		e := s.Recv().EventAppeared
		if e == nil || e.OriginalEvent().EventNumber != uint64(i) || e.OriginalEvent().ContentType != "application/octet-stream" || e.OriginalEvent().Data[0] != byte(i) {
			t.Fatalf("got %+v, want revision %d as it was written", e, i)
		}
	}
	_ = s.Close()
	_, err = client.AppendToStream(ctx, "orders", esdb.AppendToStreamOptions{ExpectedRevision: esdb.Any{}},
		esdb.EventData{EventType: "Placed", ContentType: esdb.ContentTypeJson, Data: []byte("{}")})
	if e, ok := esdb.FromError(err); ok || !e.IsErrorCode(esdb.ErrorCodeAccessDenied) {
		t.Errorf("got %v, want access denied", err)
	}
}

// A store filled with events that were numbered elsewhere shows them so, and
// goes on behind them.
func TestEventstoreFilled(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "events.ndjson")
	lines := `{"position":167,"stream":"$$orders","revision":0,"id":"5ed0b2c9-dde9-4312-941e-19c494536f37","type":"$metadata","contentType":"application/json","created":15788528539909510,"data":"eyIkdGIiOjF9","metadata":""}
{"position":305,"stream":"orders","revision":0,"id":"ce95c081-87a2-43c1-a335-2dec6927a213","type":"Placed","contentType":"application/octet-stream","created":15788528540028310,"data":"AA==","metadata":"AQ=="}
{"position":999999999,"stream":"orders","revision":1,"id":"ce95c081-87a2-43c1-a335-2dec6927a214","type":"Placed","contentType":"application/json","created":15788528540028311,"data":"e30=","metadata":""}
`
	if err := os.WriteFile(file, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	ready, interrupt := startEventstore(t, "--store", filepath.Join(dir, "store"), "--create", "--writable", "--import", file)
	defer interrupt()
	client := esdbClient(t, ready.URL)
	read, err := client.ReadAll(t.Context(), esdb.ReadAllOptions{Direction: esdb.Backwards, From: esdb.End{}}, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	for _, want := range []string{
		"999999999 orders@1 Placed application/json 1578852854002831100",
		"305 orders@0 Placed application/octet-stream 1578852854002831000",
		"167 $$orders@0 $metadata application/json 1578852853990951000",
	} {
		e, err := read.Recv()
		if err != nil {
			t.Fatal(err)
		}
		r := e.OriginalEvent()
		if got := fmt.Sprintf("%d %s@%d %s %s %d", r.Position.Commit, r.StreamID, r.EventNumber, r.EventType, r.ContentType, r.CreatedDate.UnixNano()); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	done, err := client.AppendToStream(t.Context(), "orders", esdb.AppendToStreamOptions{ExpectedRevision: esdb.Revision(1)},
		esdb.EventData{EventID: uuid.New(), EventType: "Placed", ContentType: esdb.ContentTypeJson, Data: []byte("{}")})
	if err != nil || done.CommitPosition <= 999999999 {
		t.Errorf("got %v, %v, want a position behind those that were there", done, err)
	}
}
