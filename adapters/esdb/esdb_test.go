package esdb_test

import (
	"context"
	"errors"
	"iter"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"writ/adapters/esdb"
	"writ/adapters/esdbserver"
	"writ/adapters/pebblestore"
	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
)

var _ eventstore.Store = (*esdb.Store)(nil)

const ledgerID = "3f9c2ab41d6e4a70"

// serve answers EventStoreDB's protocol over a store, on a loopback port,
// until the test ends. addr may be empty.
func serve(t *testing.T, store eventstore.Store, addr string) (where string, stop func()) {
	t.Helper()
	server, err := esdbserver.New(esdbserver.Config{Store: store, Writer: store})
	if err != nil {
		t.Fatal(err)
	}
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		now, cancel := context.WithCancel(context.Background())
		cancel() // no waiting for calls under way: a server that dies does not either
		_ = server.Shutdown(now)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return l.Addr().String(), stop
}

func options(addr string) esdb.Options {
	return esdb.Options{Connection: esdb.Secret("esdb://" + addr + "?tls=false")}
}

// create makes a ledger in the database at addr and opens it.
func create(t *testing.T, o esdb.Options) *esdb.Store {
	t.Helper()
	if err := esdb.Create(t.Context(), o, ledgerID); err != nil {
		t.Fatal(err)
	}
	return open(t, o)
}

func open(t *testing.T, o esdb.Options) *esdb.Store {
	t.Helper()
	s, err := esdb.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func memory(*testing.T) eventstore.Store { return storetest.NewMemory("0000000000000000") }

func pebble(t *testing.T) eventstore.Store {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ledger")
	if err := pebblestore.Create(dir, "0000000000000000", pebblestore.Options{}); err != nil {
		t.Fatal(err)
	}
	s, err := pebblestore.Open(dir, pebblestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// The contract that the embedded store passes in the process holds over the
// wire too, whichever store is at the other end.
func TestContractOverTheWire(t *testing.T) {
	for name, behind := range map[string]func(*testing.T) eventstore.Store{"memory": memory, "pebblestore": pebble} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if testing.Short() && name == "pebblestore" {
				t.Skip("every append waits for the disk; memory behind the same wire is tested")
			}
			addr, _ := serve(t, behind(t), "")
			if err := esdb.Create(t.Context(), options(addr), ledgerID); err != nil {
				t.Fatal(err)
			}
			storetest.Suite{
				Open: func(t *testing.T) eventstore.Store { t.Helper(); return visibleTypes{open(t, options(addr))} },
				Reopen: func(t *testing.T, s eventstore.Store) eventstore.Store {
					t.Helper()
					s.(visibleTypes).Close()
					return visibleTypes{open(t, options(addr))}
				},
				IDsOnly: true,
				Rounds:  40,
			}.Run(t)
		})
	}
}

// visibleTypes writes zero bytes in the types of events as another character,
// and reads them back: esdbserver takes no such types, and the contract's tests
// use them.
type visibleTypes struct{ *esdb.Store }

func (v visibleTypes) Append(ctx context.Context, stream eventstore.StreamID, expected eventstore.Expected, events ...eventstore.Proposed) (eventstore.Appended, error) {
	events = slices.Clone(events)
	for i := range events {
		events[i].Type = strings.ReplaceAll(events[i].Type, "\x00", "\u2400")
	}
	return v.Store.Append(ctx, stream, expected, events...)
}

func (v visibleTypes) ReadStream(ctx context.Context, stream eventstore.StreamID, from eventstore.Revision) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		for e, err := range v.Store.ReadStream(ctx, stream, from) {
			e.Type = strings.ReplaceAll(e.Type, "\u2400", "\x00")
			if !yield(e, err) {
				return
			}
		}
	}
}

// settle appends as the port tells a caller to: the same append again until
// the answer is definite.
func settle(ctx context.Context, s eventstore.Store, stream eventstore.StreamID, expected eventstore.Expected, events ...eventstore.Proposed) (eventstore.Appended, error) {
	for {
		done, err := s.Append(ctx, stream, expected, events...)
		if err == nil || eventstore.Definite(err) || ctx.Err() != nil {
			return done, err
		}
		pause := time.NewTimer(time.Millisecond)
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
	}
}

// happened is an event that differs from the others by its number.
func happened(n int) eventstore.Proposed {
	return eventstore.Proposed{
		ID: eventstore.EventID{1, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, Type: "Happened", Data: []byte(`{}`), Metadata: []byte(`{}`),
	}
}

func ids(t *testing.T, s eventstore.Store, stream eventstore.StreamID) []eventstore.EventID {
	t.Helper()
	var all []eventstore.EventID
	for e, err := range s.ReadStream(t.Context(), stream, 0) {
		if errors.Is(err, eventstore.ErrStreamNotFound) {
			return nil
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e.ID)
	}
	return all
}
