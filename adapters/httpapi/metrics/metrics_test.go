package metrics_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"writ/adapters/httpapi"
	"writ/adapters/httpapi/metrics"
	"writ/domain/engine"
	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
	"writ/domain/op"
	"writ/projections"
	"writ/projections/recoveryqueue"
	"writ/projections/viewtest"
)

var update = flag.Bool("update", false, "rewrite golden files")

const ledger = eventstore.LedgerID("3f9c2ab41d6e4a70")

var since = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

// figures gives every figure of the project's own by its name and labels.
func figures(t *testing.T, m *metrics.Metrics) map[string]string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	got := map[string]string{}
	for line := range strings.Lines(w.Body.String()) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if i := strings.LastIndex(line, "} "); i > 0 {
			name, value, ok = line[:i+1], strings.TrimSpace(line[i+2:]), true
		}
		if ok && strings.HasPrefix(name, "writ_") {
			got[name] = value
		}
	}
	return got
}

func want(t *testing.T, got map[string]string, figures map[string]string) {
	t.Helper()
	for name, value := range figures {
		if got[name] != value {
			t.Errorf("%s is %q, want %q", name, got[name], value)
		}
	}
}

// A ticking clock moves on by a second at each look.
func ticking() func() time.Time {
	now := since
	return func() time.Time { now = now.Add(time.Second); return now }
}

func TestWhatIsPutOnRecordIsCounted(t *testing.T) {
	m := metrics.New("test", ticking())
	inner := storetest.NewFaulty(storetest.NewMemory(ledger))
	store := m.Store(inner)
	for i, tell := range []func(s *viewtest.Story){
		func(s *viewtest.Story) { s.Started(); s.Launching(); s.Running("u"); s.Succeeded() },
		func(s *viewtest.Story) { s.Started(); s.Failed(op.KindInterrupted, op.EffectNone); s.Started() },
		func(s *viewtest.Story) { s.Started(); s.Launching(); s.Failed(op.KindTaskFailed, op.EffectPartial) },
		func(s *viewtest.Story) { s.Voided() },
	} {
		tell(viewtest.NewStory(t, store, viewtest.Nonce(uint64(i))))
	}
	record(t, store, op.TypeRefused, op.Refused{Agent: "lab", Reason: "expired", At: since})
	record(t, store, op.TypeRefusalsCounted, op.RefusalsCounted{Agent: "lab", From: since, To: since, ByReason: map[string]int{"expired": 4, "unsigned": 2}})
	record(t, store, op.TypeContested, op.Contested{Agent: "lab", At: since})
	// A writer that is late, one whose form is wrong, one that is never told.
	_, lost := store.Append(t.Context(), "gate-i-1", eventstore.NoStream(), proposal(t, op.TypeContested, op.Contested{Agent: "x", At: since}))
	_, invalid := store.Append(t.Context(), "gate-i-1", eventstore.NoStream())
	inner.OnAppend = func(storetest.AppendCall) storetest.Fault { return storetest.Lost }
	_, unknown := store.Append(t.Context(), "gate-i-2", eventstore.NoStream(), proposal(t, op.TypeContested, op.Contested{Agent: "y", At: since}))
	var wrong *eventstore.WrongRevisionError
	if !errors.As(lost, &wrong) || invalid == nil || !errors.Is(unknown, storetest.ErrInjected) {
		t.Fatalf("errors %v, %v, %v; want them as the store gave them", lost, invalid, unknown)
	}
	want(t, figures(t, m), map[string]string{
		`writ_ops_started_total{class="guest-destroy"}`:                                                   "4",
		`writ_ops_ended_total{class="guest-destroy",effect="done",kind="",result="succeeded"}`:            "1",
		`writ_ops_ended_total{class="guest-destroy",effect="none",kind="interrupted",result="failed"}`:    "1",
		`writ_ops_ended_total{class="guest-destroy",effect="partial",kind="task-failed",result="failed"}`: "1",
		`writ_ops_ended_total{class="guest-destroy",effect="",kind="",result="voided"}`:                   "1",
		`writ_refusals_total{reason="expired"}`:                                                           "5",
		`writ_refusals_total{reason="unsigned"}`:                                                          "2",
		`writ_contested_total`:                                                                            "1",
		`writ_append_seconds_count{outcome="ok"}`:                                                         "14",
		`writ_append_seconds_sum{outcome="ok"}`:                                                           "14",
		`writ_append_seconds_count{outcome="lost"}`:                                                       "1",
		`writ_append_seconds_count{outcome="invalid"}`:                                                    "1",
		`writ_append_seconds_count{outcome="unknown"}`:                                                    "1",
		`writ_build_info{version="test"}`:                                                                 "1",
	})
}

func proposal(t *testing.T, typ string, v any) eventstore.Proposed {
	t.Helper()
	data, err := op.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return eventstore.Proposed{ID: eventstore.EventID(op.EventID("x", 0, typ, data)), Type: typ, Data: data}
}

func record(t *testing.T, store eventstore.Store, typ string, v any) {
	t.Helper()
	expected := eventstore.NoStream()
	if head, err := store.Head(t.Context(), "gate-i-1"); err == nil {
		expected = eventstore.At(head.Revision)
	}
	if _, err := store.Append(t.Context(), "gate-i-1", expected, proposal(t, typ, v)); err != nil {
		t.Fatal(err)
	}
}

// The wrapped ledger keeps the whole contract.
func TestTheWrappedLedgerIsALedger(t *testing.T) {
	storetest.Suite{Open: func(*testing.T) eventstore.Store {
		return metrics.New("test", time.Now).Store(storetest.NewMemory(ledger))
	}}.Run(t)
}

type failing struct {
	engine.Executor
	err error
}

func (f failing) Facts(context.Context, op.Target) (op.Facts, error) {
	return op.Facts{Found: true}, f.err
}

func (f failing) Task(context.Context, string) (engine.Task, error) {
	return engine.Task{Phase: engine.TaskActive}, f.err
}

func (f failing) Launch(context.Context, engine.Attempt, *op.Launching) (string, error) {
	return "UPID:x", f.err
}
func (f failing) PrecedesEffect(string) bool { return true }

func TestHostErrorsAreSortedAndPassedOn(t *testing.T) {
	for kind, err := range map[string]error{
		"definite":    fmt.Errorf("launch: %w", engine.Definite(errors.New("no such VM"))),
		"other-copy":  fmt.Errorf("launch: %w", &engine.OtherCopyError{Why: "a token"}),
		"timeout":     fmt.Errorf("ask: %w", context.DeadlineExceeded),
		"cancelled":   context.Canceled,
		"unreachable": fmt.Errorf("ask: %w", &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}),
		"other":       errors.New("500 got no worker upid"),
		"":            nil,
	} {
		t.Run(kind, func(t *testing.T) {
			m := metrics.New("test", ticking())
			h := m.Host(failing{err: err})
			e := m.Executors(map[op.Class]engine.Executor{op.GuestDestroy: failing{err: err}})[op.GuestDestroy]
			upid, got := e.Launch(t.Context(), engine.Attempt{}, nil)
			if !errors.Is(got, err) || engine.IsDefinite(got) != engine.IsDefinite(err) || upid != "UPID:x" {
				t.Errorf("launch gave %q, %v; want what the host gave", upid, got)
			}
			if facts, got := h.Facts(t.Context(), op.Target{}); !errors.Is(got, err) || !facts.Found {
				t.Errorf("facts %+v, %v; want what the host gave", facts, got)
			}
			if !e.PrecedesEffect("x") {
				t.Error("a question that takes no time is not passed on")
			}
			shown := figures(t, m)
			want(t, shown, map[string]string{`writ_host_call_seconds_count{call="launch"}`: "1", `writ_host_call_seconds_sum{call="facts"}`: "1"})
			if kind != "" {
				want(t, shown, map[string]string{
					`writ_host_errors_total{call="launch",kind="` + kind + `"}`: "1", `writ_host_errors_total{call="facts",kind="` + kind + `"}`: "1",
				})
			} else if strings.Contains(fmt.Sprint(shown), "writ_host_errors_total") {
				t.Errorf("errors are counted where there were none: %v", shown)
			}
		})
	}
}

// A standing is how a service stands.
type standing struct {
	left   []engine.Answer
	halted error
	items  []recoveryqueue.Item
	err    error
}

func (s *standing) Left() []engine.Answer { return s.left }
func (s *standing) Halted() error         { return s.halted }
func (s *standing) List(context.Context) ([]recoveryqueue.Item, error) {
	return s.items, s.err
}

// syncs are those of a ledger that has made six.
func syncs() (count uint64, within map[float64]uint64, sum float64) {
	return 6, map[float64]uint64{0.001: 2, 0.01: 5}, 1.5
}

func TestHowThingsStand(t *testing.T) {
	now := since
	m := metrics.New("test", func() time.Time { return now })
	s := &standing{}
	lag := projections.Lag{CaughtUp: true}
	m.Watch(metrics.Sources{
		Engine: s, Queue: s, QueueLimit: 1024, Room: func() (uint64, uint64, error) { return 3, 7, nil }, Views: map[string]func() projections.Lag{"keys": func() projections.Lag { return lag }},
		Syncs: syncs,
	})
	want(t, figures(t, m), map[string]string{
		`writ_ops_in_flight{state="started"}`: "0", `writ_ops_in_flight{state="task-running"}`: "0", `writ_ops_indeterminate`: "0",
		`writ_ledger_disk_free_bytes`: "3", `writ_ledger_disk_bytes`: "7",
		`writ_fsync_seconds_bucket{le="0.001"}`: "2", `writ_fsync_seconds_bucket{le="0.01"}`: "5", `writ_fsync_seconds_bucket{le="+Inf"}`: "6",
		`writ_fsync_seconds_count`: "6", `writ_fsync_seconds_sum`: "1.5",
		`writ_launching_halted`: "0", `writ_queue_limit`: "1024", `writ_view_caught_up{view="keys"}`: "1", `writ_view_lag_seconds{view="keys"}`: "0", `writ_ledger_position`: "0",
	})
	story := viewtest.NewStory(t, m.Store(storetest.NewMemory(ledger)), viewtest.Nonce(1))
	first := story.Started()
	now = now.Add(30 * time.Second)
	newest := story.Launching()
	lag = projections.Lag{Applied: eventstore.After(first.Position), RecordedAt: since}
	s.halted = errors.New("another copy")
	s.items = []recoveryqueue.Item{
		{State: op.StateStarted, Since: now.Add(-time.Second)},
		{State: op.StateTaskRunning, Since: now.Add(-time.Minute)},
		{State: op.StateTaskRunning, Since: now.Add(-time.Hour)},
		{Corrupt: "no", Since: now.Add(-24 * time.Hour)},
	}
	s.left = []engine.Answer{
		{Outcome: engine.Indeterminate, Since: now.Add(-2 * time.Minute)}, {Outcome: engine.InFlight, Since: now.Add(-time.Hour)},
	}
	want(t, figures(t, m), map[string]string{
		`writ_ops_in_flight{state="started"}`: "1", `writ_ops_in_flight{state="launching"}`: "0", `writ_ops_in_flight{state="task-running"}`: "2",
		`writ_ops_in_flight_oldest_seconds`: "3600", `writ_ops_corrupt`: "1", `writ_ops_indeterminate`: "1", `writ_ops_indeterminate_oldest_seconds`: "120",
		`writ_launching_halted`: "1", `writ_ledger_position`: fmt.Sprint(newest.Position), `writ_view_position{view="keys"}`: fmt.Sprint(first.Position),
		`writ_view_caught_up{view="keys"}`: "0", `writ_view_lag_seconds{view="keys"}`: "30",
	})
	// A view that can't be read gives no figure rather than a false one.
	s.err = errors.New("view on fire")
	if got := figures(t, m); got[`writ_ops_corrupt`] != "" || got[`writ_ops_indeterminate`] != "1" {
		t.Errorf("figures %v, want none of the queue and all others", got)
	}
}

func TestTheInterfaceIsObserved(t *testing.T) {
	m := metrics.New("test", time.Now)
	var _ httpapi.Observer = m
	m.Request("GET /v1/ops/{nonce}", 200, 2*time.Second)
	m.Request("GET /v1/ops/{nonce}", 404, time.Second)
	m.Subscribers(3)
	m.SubscriberLeft("slow")
	want(t, figures(t, m), map[string]string{
		`writ_http_requests_total{operation="GET /v1/ops/{nonce}",status="200"}`: "1", `writ_http_request_seconds_sum{operation="GET /v1/ops/{nonce}"}`: "3",
		`writ_subscribers`: "3", `writ_subscribers_left_total{why="slow"}`: "1",
	})
}

// Who alerts on a figure must find it under the same name tomorrow.
func TestTheNamesOfFigures(t *testing.T) {
	m := metrics.New("test", time.Now)
	s := &standing{}
	m.Watch(metrics.Sources{Engine: s, Queue: s, Room: func() (uint64, uint64, error) { return 3, 7, nil }, Syncs: syncs, Views: map[string]func() projections.Lag{"keys": func() projections.Lag { return projections.Lag{} }}})
	story := viewtest.NewStory(t, m.Store(storetest.NewMemory(ledger)), viewtest.Nonce(1))
	story.Started()
	story.Failed(op.KindInterrupted, op.EffectNone)
	record(t, m.Store(storetest.NewMemory(ledger)), op.TypeRefused, op.Refused{Reason: "expired", At: since})
	_, _ = m.Host(failing{err: errors.New("no")}).Task(t.Context(), "")
	m.Request("other", 404, 0)
	m.SubscriberLeft("gone")
	names := map[string]bool{}
	label := regexp.MustCompile(`([a-z]+)="`)
	for name := range figures(t, m) {
		if strings.Contains(name, "_bucket{") {
			continue
		}
		base, labels, _ := strings.Cut(name, "{")
		for _, l := range label.FindAllStringSubmatch(labels, -1) {
			base += " " + l[1]
		}
		names[base] = true
	}
	var lines []string
	for n := range names {
		lines = append(lines, n)
	}
	slices.Sort(lines)
	got := strings.Join(lines, "\n") + "\n"
	golden := filepath.Join("testdata", "names.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(text) {
		t.Errorf("figures\n%s\nwant\n%s", got, text)
	}
}

// Through the interface they take the scope that reading takes.
func TestFiguresThroughTheInterface(t *testing.T) {
	m := metrics.New("test", time.Now)
	api, err := httpapi.New(httpapi.Config{
		Engine: anEngine{}, Ledger: storetest.NewMemory(ledger), StoreName: "memory", Queue: &standing{},
		QueueLag: func() projections.Lag { return projections.Lag{} }, Log: slog.New(slog.DiscardHandler), Now: time.Now,
		Tokens: []httpapi.Token{
			{Name: "prometheus", SHA256: op.DigestOf([]byte("p")), Scopes: []httpapi.Scope{httpapi.Read}},
			{Name: "controller", SHA256: op.DigestOf([]byte("c")), Scopes: []httpapi.Scope{httpapi.Submit}},
		},
		Metrics: m.Handler(), Observer: m,
	})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(token string) (int, string, string) {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		api.Handler().ServeHTTP(w, r)
		body, _ := io.ReadAll(w.Body)
		return w.Code, w.Header().Get("Content-Type"), string(body)
	}
	if status, _, body := ask("c"); status != 403 {
		t.Errorf("without the scope: %d %s, want 403", status, body)
	}
	status, kind, body := ask("p")
	if status != 200 || !strings.HasPrefix(kind, "text/plain; version=0.0.4") || !strings.Contains(body, `writ_http_requests_total{operation="GET /metrics",status="403"} 1`) {
		t.Errorf("%d %s %s; want figures, with the request before among them", status, kind, body)
	}
}

// anEngine is asked for nothing here.
type anEngine struct{ httpapi.Engine }
