package esdb_test

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"writ/adapters/esdb"
	"writ/adapters/esdbserver"
	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
)

// BenchmarkAppend appends events to streams of their own through the wire,
// beside the same appends to the store behind it: the difference is what the
// protocol costs.
func BenchmarkAppend(b *testing.B) {
	for _, callers := range []int{1, 16, 256} {
		for _, over := range []string{"wire", "memory"} {
			b.Run(fmt.Sprintf("%s/callers=%d", over, callers), func(b *testing.B) {
				var s eventstore.Store = storetest.NewMemory(ledgerID)
				if over == "wire" {
					s = wired(b, s)
				}
				var next atomic.Int64
				var running sync.WaitGroup
				b.ResetTimer()
				for range callers {
					running.Go(func() {
						for n := int(next.Add(1)); n <= b.N; n = int(next.Add(1)) {
							e := happened(n)
							e.Data = make([]byte, 1<<10)
							if _, err := s.Append(b.Context(), eventstore.StreamID(fmt.Sprint("op-", n)), eventstore.NoStream(), e); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				running.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
			})
		}
	}
}

// BenchmarkReadAll reads events of 1 KiB through the wire.
func BenchmarkReadAll(b *testing.B) {
	memory := storetest.NewMemory(ledgerID)
	s := wired(b, memory)
	for n := range 10_000 {
		e := happened(n)
		e.Data = make([]byte, 1<<10)
		if _, err := memory.Append(b.Context(), eventstore.StreamID(fmt.Sprint("op-", n)), eventstore.NoStream(), e); err != nil {
			b.Fatal(err)
		}
	}
	b.ResetTimer()
	events := 0
	for range b.N {
		for _, err := range s.ReadAll(b.Context(), eventstore.Cursor{}, eventstore.Filter{}) {
			if err != nil {
				b.Fatal(err)
			}
			events++
		}
	}
	b.ReportMetric(float64(events)/b.Elapsed().Seconds(), "events/s")
}

// wired gives a store over the wire.
func wired(b *testing.B, behind eventstore.Store) *esdb.Store {
	b.Helper()
	server, err := esdbserver.New(esdbserver.Config{Store: behind, Writer: behind})
	if err != nil {
		b.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	o := options(l.Addr().String())
	if err := esdb.Create(b.Context(), o, ledgerID); err != nil {
		b.Fatal(err)
	}
	s, err := esdb.Open(b.Context(), o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		s.Close()
		_ = server.Shutdown(b.Context())
		<-ended
	})
	return s
}
