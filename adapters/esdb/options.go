package esdb

import (
	"fmt"
	"io"
	"log/slog"
	"time"
)

// A Secret is a connection string or a password. However it is printed, logged
// or encoded, it shows as [redacted].
type Secret string

const redacted = "[redacted]"

// Format implements fmt.Formatter, for every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// String gives the placeholder.
func (Secret) String() string { return redacted }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText keeps the secret out of encodings too.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Options of a store. Only Connection has to be given.
type Options struct {
	// Connection is an EventStoreDB connection string:
	//
	//	esdb://user:password@node:2113?tlsCAFile=/etc/writ/ca.crt
	//	esdb://user:password@node1:2113,node2:2113,node3:2113?tlsCAFile=…
	//	esdb+discover://user:password@cluster.example:2113?tlsCAFile=…
	//
	// The first is one node; of the others the leader is found by gossip.
	// Unknown settings are refused, and so is what would make the ledger
	// unsafe: an unverified certificate, a password without TLS, a preference
	// for a node that does not lead, no keepalive.
	Connection Secret
	// Username and Password, if given, are used instead of those in Connection.
	Username string
	Password Secret
	// CallTimeout bounds each call from its beginning to its answer, the time
	// to connect included, and the silence of a subscription that catches up.
	// 0: defaultDeadline of the connection string, or 10 seconds.
	CallTimeout time.Duration
	// Logger gets what an operator should know. Nil: nothing is logged.
	Logger *slog.Logger
}

const (
	defaultCallTimeout = 10 * time.Second
	maxPause           = 2 * time.Second       // between two attempts to connect
	minPause           = 50 * time.Millisecond // after the first failure
)
