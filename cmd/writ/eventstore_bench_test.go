package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"writ/adapters/esdbserver"
	"writ/adapters/pebblestore"
	"writ/domain/eventstore"
)

// How to run them, and what came out: docs/performance.md.

const benchEventBytes = 1024

// benchEvents serves a new store to which clients may write.
func benchEvents(b *testing.B) (*pebblestore.Store, *eventServer) {
	b.Helper()
	dir := filepath.Join(b.TempDir(), "events")
	options := pebblestore.Options{SystemStreams: true}
	if err := pebblestore.Create(dir, benchLedger, options); err != nil {
		b.Fatal(err)
	}
	store, err := pebblestore.Open(dir, options)
	if err != nil {
		b.Fatal(err)
	}
	s, err := startEvents("127.0.0.1:0", esdbserver.Config{Store: store, Writer: store}, eventsAccess{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := errors.Join(s.Stop(ctx), store.Close()); err != nil {
			b.Error(err)
		}
	})
	return store, s
}

func benchClient(b *testing.B, url string) *esdb.Client {
	b.Helper()
	conf, err := esdb.ParseConnectionString(url)
	if err != nil {
		b.Fatal(err)
	}
	client, err := esdb.NewClient(conf)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = client.Close() })
	return client
}

func benchProposed() eventstore.Proposed {
	e := eventstore.Proposed{ID: eventstore.EventID(uuid.New()), Type: "OpStarted", Data: make([]byte, benchEventBytes)}
	_, _ = rand.Read(e.Data)
	return e
}

// BenchmarkEventsAppend appends one event at a time, each to a new stream, in
// process and through the official client.
func BenchmarkEventsAppend(b *testing.B) {
	for _, callers := range []int{1, 64} {
		store, s := benchEvents(b)
		client := benchClient(b, s.URL)
		appends := map[string]func(ctx context.Context, stream string, e eventstore.Proposed) error{
			"in-process": func(ctx context.Context, stream string, e eventstore.Proposed) error {
				_, err := store.Append(ctx, eventstore.StreamID(stream), eventstore.NoStream(), e)
				return err
			},
			"grpc": func(ctx context.Context, stream string, e eventstore.Proposed) error {
				_, err := client.AppendToStream(ctx, stream, esdb.AppendToStreamOptions{ExpectedRevision: esdb.NoStream{}},
					esdb.EventData{EventID: uuid.UUID(e.ID), EventType: e.Type, ContentType: esdb.ContentTypeJson, Data: e.Data})
				return err
			},
		}
		for _, way := range []string{"in-process", "grpc"} {
			b.Run(fmt.Sprintf("%s/callers=%d", way, callers), func(b *testing.B) {
				var next atomic.Int64
				var all sync.WaitGroup
				b.ResetTimer()
				for range callers {
					all.Go(func() {
						for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
							if err := appends[way](b.Context(), fmt.Sprintf("%s-%d-%d-%d", way, callers, b.N, n), benchProposed()); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				all.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
			})
		}
	}
}

// BenchmarkEventsRead reads a whole ledger, and single short streams, in process
// and through the official client, until so many events were read.
func BenchmarkEventsRead(b *testing.B) {
	const ops, each = 5000, 4
	store, s := benchEvents(b)
	client := benchClient(b, s.URL)
	for i := range ops {
		events := make([]eventstore.Proposed, each)
		for j := range events {
			events[j] = benchProposed()
		}
		if _, err := store.Append(b.Context(), eventstore.StreamID(fmt.Sprintf("op-%d", i)), eventstore.NoStream(), events...); err != nil {
			b.Fatal(err)
		}
	}
	count := func(b *testing.B, read *esdb.ReadStream, err error) (n int) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
		defer read.Close()
		for {
			if _, err := read.Recv(); errors.Is(err, io.EOF) {
				return n
			} else if err != nil {
				b.Fatal(err)
			}
			n++
		}
	}
	ways := []struct {
		name string
		want int
		read func(b *testing.B, i int) int
	}{
		{"all/in-process", ops * each, func(b *testing.B, _ int) (n int) {
			for _, err := range store.ReadAll(b.Context(), eventstore.Cursor{}, eventstore.Filter{}) {
				if err != nil {
					b.Fatal(err)
				}
				n++
			}
			return n
		}},
		{"all/grpc", ops * each, func(b *testing.B, _ int) int {
			read, err := client.ReadAll(b.Context(), esdb.ReadAllOptions{From: esdb.Start{}}, 1<<40)
			return count(b, read, err)
		}},
		{"stream/in-process", each, func(b *testing.B, i int) (n int) {
			for _, err := range store.ReadStream(b.Context(), eventstore.StreamID(fmt.Sprintf("op-%d", i%ops)), 0) {
				if err != nil {
					b.Fatal(err)
				}
				n++
			}
			return n
		}},
		{"stream/grpc", each, func(b *testing.B, i int) int {
			read, err := client.ReadStream(b.Context(), fmt.Sprintf("op-%d", i%ops), esdb.ReadStreamOptions{From: esdb.Start{}}, 1<<40)
			return count(b, read, err)
		}},
	}
	for _, way := range ways {
		b.Run(way.name, func(b *testing.B) {
			read := 0
			for i := 0; read < b.N; i++ {
				got := way.read(b, i)
				if got != way.want {
					b.Fatalf("got %d events, want %d", got, way.want)
				}
				read += got
			}
			b.ReportMetric(float64(read)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// benchSubscribers connects so many live subscribers to everything, 100 to a
// connection. Each gives what it gets to see, until the benchmark ends.
func benchSubscribers(b *testing.B, addr string, n int, see func(*streams.ReadResp_ReadEvent_RecordedEvent)) {
	b.Helper()
	var live sync.WaitGroup
	var conn streams.StreamsClient
	for i := range n {
		if i%100 == 0 {
			c, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = c.Close() })
			conn = streams.NewStreamsClient(c)
		}
		call, err := conn.Read(b.Context(), &streams.ReadReq{Options: &streams.ReadReq_Options{
			StreamOption: &streams.ReadReq_Options_All{All: &streams.ReadReq_Options_AllOptions{
				AllOption: &streams.ReadReq_Options_AllOptions_End{End: &shared.Empty{}},
			}},
			CountOption: &streams.ReadReq_Options_Subscription{Subscription: &streams.ReadReq_Options_SubscriptionOptions{}},
			UuidOption:  &streams.ReadReq_Options_UUIDOption{Content: &streams.ReadReq_Options_UUIDOption_Structured{Structured: &shared.Empty{}}},
		}})
		if err != nil {
			b.Fatal(err)
		}
		live.Add(1)
		go func() {
			for {
				m, err := call.Recv()
				if err != nil {
					return // the benchmark has ended
				}
				if m.GetCaughtUp() != nil {
					live.Done()
				}
				if e := m.GetEvent().GetEvent(); e != nil {
					see(e)
				}
			}
		}()
	}
	live.Wait()
}

// BenchmarkEventsDelivery measures from the call of an append in the service to
// the delivery at live subscribers, one event at a time.
func BenchmarkEventsDelivery(b *testing.B) {
	for _, subscribers := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("subscribers=%d", subscribers), func(b *testing.B) {
			store, s := benchEvents(b)
			var mu sync.Mutex // guards the two below
			var began time.Time
			var took []time.Duration
			seen := make(chan struct{}, subscribers)
			benchSubscribers(b, s.Addr, subscribers, func(*streams.ReadResp_ReadEvent_RecordedEvent) {
				at := time.Now()
				mu.Lock()
				took = append(took, at.Sub(began))
				mu.Unlock()
				seen <- struct{}{}
			})
			var appending time.Duration
			b.ResetTimer()
			for i := range b.N {
				e := benchProposed()
				at := time.Now()
				mu.Lock()
				began = at
				mu.Unlock()
				if _, err := store.Append(b.Context(), eventstore.StreamID(fmt.Sprint(i)), eventstore.NoStream(), e); err != nil {
					b.Fatal(err)
				}
				appending += time.Since(at)
				for range subscribers {
					<-seen
				}
			}
			b.StopTimer()
			slices.Sort(took)
			ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
			b.ReportMetric(ms(took[len(took)/2]), "median-ms")
			b.ReportMetric(ms(took[len(took)*99/100]), "p99-ms")
			b.ReportMetric(ms(appending/time.Duration(b.N)), "append-ms")
		})
	}
}

// BenchmarkEventsMemory measures what a live subscriber costs a server of its
// own process.
func BenchmarkEventsMemory(b *testing.B) {
	const subscribers = 1000
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	writ := filepath.Join(dir, "writ") // under this name the test program is writ
	if err := os.Symlink(self, writ); err != nil {
		b.Fatal(err)
	}
	server := exec.Command(writ, "eventstore", "--store", filepath.Join(dir, "events"), "--create", "--writable", "--json", "--listen", "127.0.0.1:0")
	out, err := server.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := server.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGTERM)
		_ = server.Wait()
	})
	line := make([]byte, 1024)
	n, err := out.Read(line)
	if err != nil {
		b.Fatal(err)
	}
	url := regexp.MustCompile(`"esdb://([^?]+)\?tls=false"`).FindSubmatch(line[:n])
	if url == nil {
		b.Fatalf("got %s, want a connection string", line[:n])
	}
	client := benchClient(b, "esdb://"+string(url[1])+"?tls=false")
	grow := func(stream string) {
		for range 100 {
			if _, err := client.AppendToStream(b.Context(), stream, esdb.AppendToStreamOptions{},
				esdb.EventData{EventType: "T", ContentType: esdb.ContentTypeJson, Data: make([]byte, benchEventBytes)}); err != nil {
				b.Fatal(err)
			}
		}
	}
	for range b.N {
		grow("before")
		before := residentBytes(b, server.Process.Pid)
		var seen atomic.Int64
		all := make(chan struct{})
		benchSubscribers(b, string(url[1]), subscribers, func(*streams.ReadResp_ReadEvent_RecordedEvent) {
			if seen.Add(1) == 100*subscribers {
				close(all)
			}
		})
		grow("after")
		<-all
		b.ReportMetric(float64(residentBytes(b, server.Process.Pid)-before)/subscribers/1024, "KiB/subscriber")
	}
}

// residentBytes is the memory that a process holds, as Linux tells it.
func residentBytes(b *testing.B, pid int) int64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Skip(err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				b.Fatal(err)
			}
			return kb << 10
		}
	}
	b.Skip("the system does not tell")
	return 0
}
