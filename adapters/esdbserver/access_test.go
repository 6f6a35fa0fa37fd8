package esdbserver_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/persistent"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"writ/adapters/esdbserver"
	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
)

// Whoever is let in: nothing can be written to a server that is read-only.
func TestAReadOnlyServerTakesNoWrites(t *testing.T) {
	store := storetest.NewMemory(ledgerID)
	if _, err := store.Append(t.Context(), "op-1", eventstore.NoStream(), eventstore.Proposed{ID: eventstore.EventID{1}, Type: "OpStarted", Data: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	n := start(t, esdbserver.Config{Store: store})
	const denied = "PermissionDenied access-denied"
	for what, got := range map[string]string{
		"append to a stream of ops": outcome(n, "op-1", anyState, event("OpSucceeded", "{}")),
		"append to a new stream":    outcome(n, "mine", noStream, event("T", "x")),
		"append of nothing":         outcome(n, "mine", noStream),
		"append of metadata":        outcome(n, "$$op-1", anyState, event("$metadata", `{"$tb":1}`)),
		"delete":                    n.delete("op-1", anyState),
		"tombstone":                 n.tombstone("op-1", anyState),
	} {
		if got != denied {
			t.Errorf("%s: got %q, want %q", what, got, denied)
		}
	}
	if got, want := n.events(t, ofAll), "{}"; got != want {
		t.Errorf("got %q on record, want what was there, %q", got, want)
	}
}

func TestUsers(t *testing.T) {
	store := newSystemStore()
	n := start(t, esdbserver.Config{Store: store, Writer: store, Users: map[string]esdbserver.Password{"admin": "changeit"}})
	basic := func(userAndPassword string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(userAndPassword))
	}
	tests := map[string]struct {
		authorization string
		events, info  codes.Code // what comes of a read and an append; of what is open to all
	}{
		"right":                  {basic("admin:changeit"), codes.OK, codes.OK},
		"nobody":                 {"", codes.PermissionDenied, codes.OK},
		"wrong password":         {basic("admin:changeIt"), codes.Unauthenticated, codes.Unauthenticated},
		"the password's start":   {basic("admin:change"), codes.Unauthenticated, codes.Unauthenticated},
		"no password":            {basic("admin"), codes.Unauthenticated, codes.Unauthenticated},
		"unknown user":           {basic("root:changeit"), codes.Unauthenticated, codes.Unauthenticated},
		"empty user":             {basic(":"), codes.Unauthenticated, codes.Unauthenticated},
		"a bearer token":         {"Bearer " + base64.StdEncoding.EncodeToString([]byte("admin:changeit")), codes.Unauthenticated, codes.Unauthenticated},
		"no base64":              {"Basic admin:changeit", codes.Unauthenticated, codes.Unauthenticated},
		"a scheme in lower case": {"b" + basic("admin:changeit")[1:], codes.OK, codes.OK},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			if tt.authorization != "" {
				ctx = metadata.AppendToOutgoingContext(ctx, "authorization", tt.authorization)
			}
			call, err := n.streams.Read(ctx, readRequest(ofStream("none")))
			if err != nil {
				t.Fatal(err)
			}
			if _, err = call.Recv(); status.Code(err) != tt.events {
				t.Errorf("read: got %v, want %s", err, tt.events)
			}
			_, trailer, err := n.send(ctx, appendRequests("s", anyState, event("T", "x"))...)
			if status.Code(err) != tt.events {
				t.Errorf("append: got %v, want %s", err, tt.events)
			}
			if tt.events == codes.PermissionDenied && strings.Join(trailer.Get("exception"), "") != "access-denied" {
				t.Errorf("append: got trailers %v, want the exception access-denied", trailer)
			}
			if _, err := n.streams.Delete(ctx, &streams.DeleteReq{Options: &streams.DeleteReq_Options{
				StreamIdentifier: identifier("s"), ExpectedStreamRevision: &streams.DeleteReq_Options_Any{Any: &shared.Empty{}},
			}}); status.Code(err) != tt.events {
				t.Errorf("delete: got %v, want %s", err, tt.events)
			}
			if _, err := serverfeatures.NewServerFeaturesClient(n.conn).GetSupportedMethods(ctx, &shared.Empty{}); status.Code(err) != tt.info {
				t.Errorf("features: got %v, want %s", err, tt.info)
			}
			if _, err := gossip.NewGossipClient(n.conn).Read(ctx, &shared.Empty{}); status.Code(err) != tt.info {
				t.Errorf("gossip: got %v, want %s", err, tt.info)
			}
		})
	}
}

func TestPasswordsAreNotPrinted(t *testing.T) {
	var log strings.Builder
	p := esdbserver.Password("changeit")
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "password", p)
	got := fmt.Sprintf("%s %v %q %#v %+v ", p, p, p, p, map[string]esdbserver.Password{"admin": p}) + log.String()
	if strings.Contains(got, "changeit") || !strings.Contains(got, "[redacted]") {
		t.Errorf("got %s, want it redacted", got)
	}
	if _, err := esdbserver.New(esdbserver.Config{Store: newSystemStore(), Users: map[string]esdbserver.Password{"admin": ""}}); err == nil {
		t.Error("an empty password was taken")
	}
}

// What a client is told about the server before it uses it.
func TestWhatIsOffered(t *testing.T) {
	store := newSystemStore()
	for name, tt := range map[string]struct {
		cfg  esdbserver.Config
		want string
	}{
		"writable":  {esdbserver.Config{Store: store, Writer: store}, "getsupportedmethods read read append delete tombstone"},
		"read-only": {esdbserver.Config{Store: store}, "getsupportedmethods read read"},
	} {
		t.Run(name, func(t *testing.T) {
			n := start(t, tt.cfg)
			answer, err := serverfeatures.NewServerFeaturesClient(n.conn).GetSupportedMethods(t.Context(), &shared.Empty{})
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, m := range answer.GetMethods() {
				names = append(names, m.GetMethodName())
				if m.GetServiceName() != strings.ToLower(m.GetServiceName()) || !strings.HasPrefix(m.GetServiceName(), "event_store.client.") {
					t.Errorf("got service %q, want its whole name in lower case", m.GetServiceName())
				}
			}
			if got := strings.Join(names, " "); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			var major, minor, patch int
			if _, err := fmt.Sscanf(answer.GetEventStoreServerVersion(), "%d.%d.%d", &major, &minor, &patch); err != nil || major < 23 {
				t.Errorf("got version %q, want three numbers from 23 on", answer.GetEventStoreServerVersion())
			}
			call, err := n.streams.BatchAppend(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := call.Recv(); status.Code(err) != codes.Unimplemented {
				t.Errorf("batch append: got %v, want it unimplemented", err)
			}
			if _, err := persistent.NewPersistentSubscriptionsClient(n.conn).List(t.Context(), &persistent.ListReq{}); status.Code(err) != codes.Unimplemented {
				t.Errorf("persistent subscriptions: got %v, want them unimplemented", err)
			}
		})
	}
}

// A client that discovers a cluster is sent to where it already is.
func TestGossip(t *testing.T) {
	n := writable(t)
	ask := func() *gossip.MemberInfo {
		answer, err := gossip.NewGossipClient(n.conn).Read(t.Context(), &shared.Empty{})
		if err != nil || len(answer.GetMembers()) != 1 {
			t.Fatalf("got %v, %v, want one member", answer, err)
		}
		return answer.GetMembers()[0]
	}
	m := ask()
	if got := fmt.Sprintf("%s:%d", m.GetHttpEndPoint().GetAddress(), m.GetHttpEndPoint().GetPort()); got != n.addr {
		t.Errorf("got address %s, want that which was dialled, %s", got, n.addr)
	}
	if m.GetState() != gossip.MemberInfo_Leader || !m.GetIsAlive() || m.GetTimeStamp() < 1e16 {
		t.Errorf("got %v, want a leader that is alive, and the time", m)
	}
	if version := m.GetInstanceId().GetStructured().GetMostSignificantBits() >> 12 & 0xf; version < 1 || version > 5 {
		t.Errorf("got an id of version %d; the Node client takes none but 1 to 5", version)
	}
	if got, want := m.GetInstanceId().String(), ask().GetInstanceId().String(); got != want {
		t.Errorf("got id %s, the second time %s", want, got)
	}
}

// The official client, over TLS and with credentials, by discovery.
func TestTheOfficialClientOverTLS(t *testing.T) {
	store := newSystemStore()
	certificate, pool := selfSigned(t)
	server, err := esdbserver.New(esdbserver.Config{
		Store: store, Writer: store, Users: map[string]esdbserver.Password{"admin": "changeit"},
		TLS: &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
	})
	if err != nil {
		t.Fatal(err)
	}
	n, stop := serve(t, server)
	t.Cleanup(stop)
	for name, tt := range map[string]struct {
		url  string
		code esdb.ErrorCode // 0: it works
	}{
		"right":          {"esdb://admin:changeit@" + n.addr, 0},
		"by discovery":   {"esdb+discover://admin:changeit@" + n.addr, 0},
		"wrong password": {"esdb://admin:wrong@" + n.addr, esdb.ErrorCodeUnauthenticated},
		"nobody":         {"esdb://" + n.addr, esdb.ErrorCodeAccessDenied},
	} {
		t.Run(name, func(t *testing.T) {
			conf, err := esdb.ParseConnectionString(tt.url + "?tls=true&discoveryInterval=10&maxDiscoverAttempts=2")
			if err != nil {
				t.Fatal(err)
			}
			conf.RootCAs = pool
			client, err := esdb.NewClient(conf)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			_, err = client.AppendToStream(ctx, "s-"+name, esdb.AppendToStreamOptions{ExpectedRevision: esdb.NoStream{}},
				esdb.EventData{EventType: "T", ContentType: esdb.ContentTypeJson, Data: []byte("{}")})
			if e, ok := esdb.FromError(err); ok != (tt.code == 0) || !ok && !e.IsErrorCode(tt.code) {
				t.Errorf("got %v, want code %d", err, tt.code)
			}
		})
	}
}

func selfSigned(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}
