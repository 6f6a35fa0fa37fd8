package main

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"

	"writ/domain/gate"
)

// Beside the service, the official client reads the ledger and changes nothing.
func TestTheServiceServesItsEvents(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().String()
	_ = free.Close()
	c := newServiceConfig(t)
	c.Serve.EventsListen = addr
	s, err := start(t, c, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer stop(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client := esdbClient(t, "esdb://"+addr+"?tls=false")
	stream, err := client.ReadStream(ctx, gate.PolicyStream, esdb.ReadStreamOptions{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	e, err := stream.Recv()
	if err != nil || e.Event.EventType != gate.TypeLoaded {
		t.Errorf("the first event of %s: got %+v, %v; want %s", gate.PolicyStream, e, err, gate.TypeLoaded)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("after it: got %v, want the end", err)
	}
	_, err = client.AppendToStream(ctx, gate.PolicyStream, esdb.AppendToStreamOptions{ExpectedRevision: esdb.Any{}},
		esdb.EventData{EventID: uuid.New(), EventType: "PolicyLoaded", ContentType: esdb.ContentTypeJson, Data: []byte("{}")})
	var refused *esdb.Error
	if !errors.As(err, &refused) || refused.Code() != esdb.ErrorCodeAccessDenied {
		t.Errorf("an append: got %v, want that access is denied", err)
	}
	if p, err := s.book.Current(ctx); err != nil || p.Serial() != 1 {
		t.Errorf("the policy: got serial %d, %v; want 1", p.Serial(), err)
	}
}

func TestKeysOfServeThatCannotBeMeant(t *testing.T) {
	for name, change := range map[string]func(c *config){
		"a user, and nothing listens": func(c *config) { c.Serve.EventsUser = "r" },
		"strangers":                   func(c *config) { c.Serve.EventsListen = "0.0.0.0:2113" },
		"a password that can be overheard": func(c *config) {
			c.Serve = serveConfig{EventsListen: "0.0.0.0:2113", EventsUser: "r", EventsPasswordFile: "p"}
		},
		"a user without a password":     func(c *config) { c.Serve = serveConfig{EventsListen: "127.0.0.1:2113", EventsUser: "r"} },
		"a certificate without its key": func(c *config) { c.Serve.EventsListen = "127.0.0.1:2113"; c.Serve.EventsTLS.CertFile = "c" },
		"a ledger that is elsewhere": func(c *config) {
			c.Serve.EventsListen, c.Store.Embedded.Path, c.Store.EventStoreDB.Connection = "127.0.0.1:2113", "", "esdb://n:2113"
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newServiceConfig(t)
			if b := c.check(); b != nil {
				t.Fatalf("before: %+v", b)
			}
			change(c)
			if b := c.check(); b == nil {
				t.Error("it is taken")
			}
		})
	}
}
