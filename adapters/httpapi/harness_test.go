package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"writ/adapters/httpapi"
	"writ/domain/engine"
	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
	"writ/domain/op"
	"writ/projections"
	"writ/projections/recoveryqueue"
	"writ/projections/viewtest"
)

var update = flag.Bool("update", false, "rewrite golden files")

const (
	ledger = eventstore.LedgerID("3f9c2ab41d6e4a70")
	nonce  = op.Nonce("6f1c9a0e5d7b4c2f8a3e1d0c9b8a7f6e")
	token  = "t0ken-of-the-controller"
)

// since is when everything is, in tests of what does not move.
var since = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

// A fakeEngine answers as it is told.
type fakeEngine struct {
	mu    sync.Mutex
	run   func(ctx context.Context, sub engine.Submission) engine.Answer
	wait  func(ctx context.Context, n op.Nonce) engine.Answer
	taken []engine.Submission

	settle  func(raw []byte, caller string) engine.Answer
	void    func(n op.Nonce, by, reason string) engine.Answer
	left    []engine.Answer
	waiting map[op.Nonce]string
	halted  error
	// surveyed is closed in a new site.
	surveyed chan struct{}
}

func (f *fakeEngine) RunSignedJob(ctx context.Context, sub engine.Submission) engine.Answer {
	f.mu.Lock()
	f.taken = append(f.taken, sub)
	f.mu.Unlock()
	return f.run(ctx, sub)
}

func (f *fakeEngine) Wait(ctx context.Context, n op.Nonce) engine.Answer { return f.wait(ctx, n) }

func (f *fakeEngine) Resolve(_ context.Context, raw []byte, caller string) engine.Answer {
	return f.settle(raw, caller)
}

func (f *fakeEngine) Void(_ context.Context, n op.Nonce, by, reason string) engine.Answer {
	return f.void(n, by, reason)
}

func (f *fakeEngine) Left() []engine.Answer        { return f.left }
func (f *fakeEngine) Waiting() map[op.Nonce]string { return f.waiting }
func (f *fakeEngine) Halted() error                { return f.halted }
func (f *fakeEngine) Surveyed() <-chan struct{}    { return f.surveyed }

func (f *fakeEngine) submissions() []engine.Submission {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]engine.Submission(nil), f.taken...)
}

// inFlight is the answer that comes right after the claim.
func inFlight() engine.Answer {
	return engine.Answer{
		Outcome: engine.InFlight, Nonce: nonce, OpID: "0a1b", Attempt: 1, State: op.StateStarted, Since: since,
		Detail: "claimed and on record as started",
	}
}

// The document is the same for every site, and slow to read.
var (
	readOnce    sync.Once
	theDocument *huma.OpenAPI
)

// A site is an API under test with what it stands on.
type site struct {
	t      *testing.T
	engine *fakeEngine
	store  *storetest.Faulty
	queue  fakeQueue
	lag    projections.Lag
	status fakeStatus
	cfg    httpapi.Config
	api    *httpapi.API
	doc    *huma.OpenAPI // as served
	log    *safeBuffer
}

type fakeQueue struct {
	items []recoveryqueue.Item
	err   error
}

func (q *fakeQueue) List(context.Context) ([]recoveryqueue.Item, error) { return q.items, q.err }

func newSite(t *testing.T, opts ...func(*httpapi.Config)) *site {
	t.Helper()
	s := &site{
		t: t, store: storetest.NewFaulty(storetest.NewMemory(ledger)), log: &safeBuffer{},
		engine: &fakeEngine{
			run:  func(context.Context, engine.Submission) engine.Answer { return inFlight() },
			wait: func(context.Context, op.Nonce) engine.Answer { return inFlight() },
			settle: func([]byte, string) engine.Answer {
				t.Error("the engine got a resolution")
				return engine.Answer{}
			},
			void: func(op.Nonce, string, string) engine.Answer {
				t.Error("the engine was asked to void")
				return engine.Answer{}
			},
			surveyed: make(chan struct{}),
		},
	}
	close(s.engine.surveyed)
	s.cfg = httpapi.Config{
		Engine: s.engine, Ledger: s.store, StoreName: "memory", Queue: &s.queue,
		QueueLag: func() projections.Lag { return s.lag }, Status: &s.status, Rebuild: func() { s.status.rebuilds++ },
		Log: slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Now: time.Now, Version: "test",
		Plan: func(context.Context, op.Intent) (op.Plan, error) {
			t.Error("a plan was asked for")
			return op.Plan{}, nil
		},
		Backup: func(context.Context, string) (httpapi.BackupMade, error) {
			t.Error("a backup was asked for")
			return httpapi.BackupMade{}, nil
		},
	}
	for _, o := range opts {
		o(&s.cfg)
	}
	api, err := httpapi.New(s.cfg)
	if err != nil {
		t.Fatalf("new api: %v", err)
	}
	s.api = api
	readOnce.Do(func() { theDocument = document(t, api) })
	s.doc = theDocument
	return s
}

func withToken(scopes ...httpapi.Scope) func(*httpapi.Config) {
	return func(c *httpapi.Config) {
		c.Tokens = append(c.Tokens, httpapi.Token{Name: "controller", SHA256: op.DigestOf([]byte(token)), Scopes: scopes})
	}
}

// A call is a request to the API's handler; body may be a string.
type call struct {
	method, path, body string
	header             map[string]string
	host               string
}

// do makes a call and checks that the answer is one that the OpenAPI document
// announces.
func (s *site) do(c call) *httptest.ResponseRecorder {
	s.t.Helper()
	var body io.Reader
	if c.body != "" {
		body = strings.NewReader(c.body)
	}
	r := httptest.NewRequestWithContext(s.t.Context(), c.method, c.path, body)
	r.Host = "127.0.0.1:7420"
	if c.host != "" {
		r.Host = c.host
	}
	if c.method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	for k, v := range c.header {
		if v == "" {
			r.Header.Del(k)
			continue
		}
		r.Header.Set(k, v)
	}
	return s.serve(r)
}

func newRequest(t *testing.T, method, path string) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
	r.Host = "127.0.0.1:7420"
	return r
}

func (s *site) serve(r *http.Request) *httptest.ResponseRecorder {
	s.t.Helper()
	w := httptest.NewRecorder()
	s.api.Handler().ServeHTTP(w, r)
	s.conforms(r, w)
	return w
}

const submission = `{"intent":{"class":"guest-destroy","target":{"node":"pve1","guest":{"type":"qemu","vmid":105}}},"envelope":"e30="}`

func (s *site) submit(query string) *httptest.ResponseRecorder {
	s.t.Helper()
	return s.do(call{method: "POST", path: "/v1/ops" + query, body: submission})
}

// conforms checks an answer against the OpenAPI document that the API serves.
func (s *site) conforms(r *http.Request, w *httptest.ResponseRecorder) {
	s.t.Helper()
	problems := conformance(s.doc, r.Method, r.URL.Path, w.Code, w.Header().Get("Content-Type"), w.Body.Bytes())
	for _, p := range problems {
		s.t.Errorf("%s %s: answer %d does not conform: %s\n%s", r.Method, r.URL.Path, w.Code, p, w.Body)
	}
}

// problemOf reads a problem.
func problemOf(t *testing.T, w *httptest.ResponseRecorder) httpapi.Problem {
	t.Helper()
	if got, want := w.Header().Get("Content-Type"), "application/problem+json"; got != want {
		t.Fatalf("content type %q, want %q; body: %s", got, want, w.Body)
	}
	var p httpapi.Problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatalf("read problem: %v\n%s", err, w.Body)
	}
	if p.Status != w.Code || p.Title == "" || p.Reason == "" || p.Detail == "" {
		t.Errorf("problem %+v with status %d: want the same status, and title, reason and detail", p, w.Code)
	}
	return p
}

func decode[T any](t *testing.T, w *httptest.ResponseRecorder) T {
	t.Helper()
	var v T
	dec := json.NewDecoder(bytes.NewReader(w.Body.Bytes()))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("read answer %d: %v\n%s", w.Code, err, w.Body)
	}
	return v
}

func wantStatus(t *testing.T, w *httptest.ResponseRecorder, want int) {
	t.Helper()
	if w.Code != want {
		t.Fatalf("status %d, want %d; body: %s", w.Code, want, w.Body)
	}
}

// A safeBuffer takes a log from many goroutines.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// runQueue feeds a queue from a store until the test ends.
func runQueue(t *testing.T, store eventstore.Store) (*recoveryqueue.Queue, *projections.Runner) {
	t.Helper()
	view := viewtest.NewMemory()
	q := recoveryqueue.New(view)
	r := projections.New(store, "memory", view, q, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = r.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return q, r
}

func statusKey(status int) string { return strconv.Itoa(status) }

func newRecorder() *httptest.ResponseRecorder { return httptest.NewRecorder() }

// untilCaughtUp takes a stream of events up to the end of the record.
type untilCaughtUp struct {
	*httptest.ResponseRecorder
	cancel context.CancelFunc
}

// Write implements http.ResponseWriter.
func (u *untilCaughtUp) Write(b []byte) (int, error) {
	n, err := u.ResponseRecorder.Write(b)
	if bytes.Contains(u.Body.Bytes(), []byte("event: caught-up")) {
		u.cancel()
	}
	return n, err
}
