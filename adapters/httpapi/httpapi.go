package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/go-json-experiment/json"

	"writ/domain/engine"
	"writ/domain/eventstore"
	"writ/domain/op"
	"writ/projections"
	"writ/projections/recoveryqueue"
)

// An Engine runs ops and settles what it could not bring to an end; an
// *engine.Engine does.
type Engine interface {
	RunSignedJob(ctx context.Context, sub engine.Submission) engine.Answer
	Wait(ctx context.Context, n op.Nonce) engine.Answer
	Resolve(ctx context.Context, raw []byte, caller string) engine.Answer
	Void(ctx context.Context, n op.Nonce, by, reason string) engine.Answer
	Left() []engine.Answer
	Waiting() map[op.Nonce]string
	Surveyed() <-chan struct{}
	Halted() error
}

// A Ledger is read to tell how an op stands, and followed.
type Ledger interface {
	eventstore.Reader
	eventstore.Subscriber
	LedgerID() eventstore.LedgerID
}

// A Queue lists the ops in flight; a *recoveryqueue.Queue does.
type Queue interface {
	List(ctx context.Context) ([]recoveryqueue.Item, error)
}

// A Check is one thing that must hold before requests should be sent here.
type Check struct {
	Name string
	Test func(ctx context.Context) error
}

// An Observer is told what an API does, for figures. Its methods may be called
// concurrently, and must return at once.
type Observer interface {
	// Request tells of a request that was answered, by the operation's method
	// and path as the OpenAPI document has them; "other" if it has none.
	Request(operation string, status int, took time.Duration)
	// Subscribers tells how many follow the ledger now.
	Subscribers(n int)
	// SubscriberLeft tells why one no longer does: gone, slow, stopping,
	// unauthorized or unavailable.
	SubscriberLeft(why string)
}

// Config is what an API needs. All of it is required but those who are let in,
// Ready, Metrics, Observer and the bounds.
type Config struct {
	Engine Engine
	Ledger Ledger
	// StoreName is the store's part of a cursor: positions mean nothing in
	// another store.
	StoreName string
	Queue     Queue
	// QueueLag says how far the queue is; the runner that feeds it knows.
	QueueLag func() projections.Lag
	// Status answers which ops there are; nil: they can't be listed.
	Status Status
	// Rebuild has the view of all ops built again, and returns at once; nil:
	// there is no such path.
	Rebuild func()
	Ready   []Check

	// Tokens and Clients are the callers that are let in; SetTokens changes
	// the tokens later. If there is none of either and Identified is not set,
	// everybody who reaches a loopback address may do everything.
	Tokens  []Token
	Clients []Client
	// Identified says that callers are told apart although none may be known
	// yet, or any more.
	Identified bool

	// Plan reads what an op would take away, as the host stands; nil: there is no
	// such path.
	Plan func(ctx context.Context, in op.Intent) (op.Plan, error)

	// Backup makes a backup of the ledger, and names it itself if it is not
	// told how; nil: there is no such path.
	Backup func(ctx context.Context, name string) (BackupMade, error)

	Metrics  http.Handler // answers GET /metrics; nil: there is no such path
	Observer Observer

	Log     *slog.Logger
	Now     func() time.Time
	Version string // of the program, for the OpenAPI document

	// MaxConcurrent bounds the requests served at a time, those that wait for
	// the end of an op included; 0 means 512.
	MaxConcurrent int
	// MaxConnections bounds the connections that are open at a time, idle ones
	// included; 0 means 1024.
	MaxConnections int
	// MaxSubscribers bounds those who follow the ledger at a time, and a
	// quarter of it each named caller's; 0 means 64.
	MaxSubscribers int
	// RequestsPerSecond bounds how often each named caller may ask; 0: as often
	// as they like. For a moment it may be twice as often.
	RequestsPerSecond float64
}

// Bounds of a request.
const (
	// MaxBodyBytes holds the largest envelope in base64 and an intent.
	MaxBodyBytes = 256 << 10
	// MaxWait is the longest a submission can wait for the end of its op.
	MaxWait = 5 * time.Minute
	// admitTime bounds the way to the claim; after it nobody is kept waiting
	// for a ledger or a host that does not answer.
	admitTime = time.Minute
)

// An API answers requests. Its methods may be called concurrently.
type API struct {
	cfg  Config
	mux  *http.ServeMux
	huma huma.API

	tokens      atomic.Pointer[[]Token]
	limiter     *limiter
	slots       chan struct{} // one for each request that may be served at a time
	subscribers subscribers
	audits      chan struct{} // one for each audit that may run at a time
	plans       chan struct{} // one for each plan that may be made at a time
	readiness   readiness
	// draining ends when no more submissions are taken.
	draining context.Context //nolint:containedctx // a broadcast over the API's life, no call's
	drain    context.CancelFunc
}

// New makes an API.
func New(cfg Config) (*API, error) {
	if cfg.Engine == nil || cfg.Ledger == nil || cfg.Queue == nil || cfg.QueueLag == nil || cfg.Log == nil || cfg.Now == nil || cfg.StoreName == "" {
		return nil, errors.New("httpapi: engine, ledger, store name, queue, its lag, log and clock are required")
	}
	if cfg.MaxConcurrent == 0 {
		cfg.MaxConcurrent = 512
	}
	if cfg.MaxConnections == 0 {
		cfg.MaxConnections = 1024
	}
	if cfg.MaxSubscribers == 0 {
		cfg.MaxSubscribers = 64
	}
	if cfg.Observer == nil {
		cfg.Observer = unobserved{}
	}
	a := &API{
		cfg: cfg, mux: http.NewServeMux(), slots: make(chan struct{}, cfg.MaxConcurrent), limiter: newLimiter(cfg.RequestsPerSecond), audits: make(chan struct{}, maxAudits),
		plans:       make(chan struct{}, maxPlans),
		subscribers: subscribers{most: cfg.MaxSubscribers, observer: cfg.Observer, of: make(map[string]int)},
	}
	a.cfg.Clients = slices.Clone(cfg.Clients)
	if err := a.SetTokens(cfg.Tokens); err != nil {
		return nil, fmt.Errorf("httpapi: %w", err)
	}
	a.draining, a.drain = context.WithCancel(context.Background())
	a.huma = humago.New(a.mux, openAPIConfig(cfg.Version))
	a.registerSubmit()
	a.registerOps()
	a.registerOpsList()
	a.registerRebuild()
	a.registerRecovery()
	a.registerSettle()
	a.registerHealth()
	a.registerEvents()
	a.registerMetrics()
	a.registerAudit()
	a.registerBackup()
	a.registerPlan()
	if err := a.serveOpenAPI(); err != nil {
		return nil, err
	}
	return a, nil
}

// Drain turns new submissions away, ends all waiting for the end of ops (those
// who wait are told how their op stands) and all following of the ledger.
// Everything else goes on being answered.
func (a *API) Drain() { a.drain() }

// jsonFormat reads strictly (no member twice, none unknown, valid UTF-8) and
// writes the same bytes for the same value.
func jsonFormat() huma.Format {
	return huma.Format{
		Marshal: func(w io.Writer, v any) error { return json.MarshalWrite(w, v, json.Deterministic(true)) },
		Unmarshal: func(data []byte, v any) error {
			if err := json.Unmarshal(data, v, json.RejectUnknownMembers(true)); err != nil {
				return err
			}
			// The library reads a body into any first, to check it against the
			// schema, and there takes null for absent. Nobody should have to
			// wonder which of both was meant.
			if parsed, ok := v.(*any); ok && holdsNull(*parsed) {
				return errors.New("null is not allowed: leave the member out")
			}
			return nil
		},
	}
}

// holdsNull looks as deep as JSON may nest, which the parser bounds.
func holdsNull(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case map[string]any:
		for _, item := range v {
			if holdsNull(item) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(v, holdsNull)
	}
	return false
}
