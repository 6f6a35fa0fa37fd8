package httpapi

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
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
	Surveyed() <-chan struct{}
	Halted() error
}

// A Ledger is read to tell how an op stands.
type Ledger interface {
	eventstore.Reader
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

// Config is what an API needs. All of it is required but Tokens, Ready and
// the bounds.
type Config struct {
	Engine Engine
	Ledger Ledger
	// StoreName is the store's part of a cursor: positions mean nothing in
	// another store.
	StoreName string
	Queue     Queue
	// QueueLag says how far the queue is; the runner that feeds it knows.
	QueueLag func() projections.Lag
	Ready    []Check

	// Tokens are the callers that are let in. None: everybody who reaches a
	// loopback address.
	Tokens []Token

	Log     *slog.Logger
	Now     func() time.Time
	Version string // of the program, for the OpenAPI document

	// MaxConcurrent bounds the requests served at a time, those that wait for
	// the end of an op included; 0 means 512.
	MaxConcurrent int
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

	slots     chan struct{} // one for each request that may be served at a time
	readiness readiness
	// draining ends when no more submissions are taken.
	draining context.Context //nolint:containedctx // a broadcast over the API's life, no call's
	drain    context.CancelFunc
}

// New makes an API.
func New(cfg Config) (*API, error) {
	if cfg.Engine == nil || cfg.Ledger == nil || cfg.Queue == nil || cfg.QueueLag == nil || cfg.Log == nil || cfg.Now == nil || cfg.StoreName == "" {
		return nil, errors.New("httpapi: engine, ledger, store name, queue, its lag, log and clock are required")
	}
	for _, t := range cfg.Tokens {
		if err := t.Check(); err != nil {
			return nil, err
		}
	}
	if cfg.MaxConcurrent == 0 {
		cfg.MaxConcurrent = 512
	}
	a := &API{cfg: cfg, mux: http.NewServeMux(), slots: make(chan struct{}, cfg.MaxConcurrent)}
	a.draining, a.drain = context.WithCancel(context.Background())
	a.huma = humago.New(a.mux, openAPIConfig(cfg.Version))
	a.registerSubmit()
	a.registerOps()
	a.registerRecovery()
	a.registerSettle()
	a.registerHealth()
	if err := a.serveOpenAPI(); err != nil {
		return nil, err
	}
	return a, nil
}

// Drain turns new submissions away and ends all waiting for the end of ops:
// those who wait are told how their op stands. Everything else goes on being
// answered.
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
