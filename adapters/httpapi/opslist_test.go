package httpapi_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"writ/adapters/httpapi"
	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
	"writ/domain/op"
	"writ/projections"
	"writ/projections/status"
	"writ/projections/viewtest"
)

// A fakeStatus gives the page it holds, and keeps what it was asked.
type fakeStatus struct {
	page  status.Page
	err   error
	wait  func(ctx context.Context, p eventstore.Position) error
	asked []status.Query

	rebuilds int
}

func (f *fakeStatus) List(_ context.Context, q status.Query) (status.Page, error) {
	f.asked = append(f.asked, q)
	return f.page, f.err
}

func (f *fakeStatus) WaitFor(ctx context.Context, p eventstore.Position) error { return f.wait(ctx, p) }
func (f *fakeStatus) Lag() projections.Lag                                     { return f.page.Lag }

// runStatus keeps a view of all ops until the test ends.
func runStatus(t *testing.T, store eventstore.Store) *status.Ops {
	t.Helper()
	slots := projections.Slots{A: viewtest.NewMemory(), B: viewtest.NewMemory(), Plan: viewtest.NewMemory()}
	shelf, err := projections.OpenShelf(t.Context(), store, "memory", slots, status.View{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- shelf.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return status.New(shelf)
}

func TestTheListSaysHowFarItIs(t *testing.T) {
	s := newSite(t)
	w := s.do(get("/v1/ops"))
	wantStatus(t, w, 200)
	if l := decode[httpapi.OpList](t, w); l.AsOf != "" || l.CaughtUp || l.Ops == nil || len(l.Ops) != 0 || l.Next != "" {
		t.Errorf("list %+v, want an empty one of the beginning", l)
	}
	s.status.page = status.Page{Lag: projections.Lag{Applied: eventstore.After(41), CaughtUp: true}, Ops: []status.Op{{
		Stream: eventstore.StreamID(nonce.Stream()), Nonce: nonce, State: status.TaskRunning, Last: op.StateTaskRunning, OpID: "0a1b", Attempt: 1,
		Began: since, Since: since, Class: op.GuestDestroy, Target: op.Target{Node: "pve1", Guest: &op.Guest{Type: op.QEMU, VMID: 105}}, UPID: "UPID:x",
		Signers: []string{"alice"},
	}, {
		Stream: "op-?", Began: since, State: status.Corrupt, Last: op.Absent, Corrupt: "revision 0: the stream's name holds no nonce",
	}}}
	w = s.do(get("/v1/ops"))
	wantStatus(t, w, 200)
	l := decode[httpapi.OpList](t, w)
	if l.AsOf != "3f9c2ab41d6e4a70:memory:41" || !l.CaughtUp || len(l.Ops) != 2 {
		t.Fatalf("list %+v, want two ops as of 3f9c2ab41d6e4a70:memory:41", l)
	}
	if o := l.Ops[0]; o.Nonce != string(nonce) || o.State != "task-running" || o.Class != "guest-destroy" || o.Target.Guest.VMID != 105 || !o.Since.Equal(since) || o.Signers[0] != "alice" || o.Detail == "" {
		t.Errorf("op %+v", o)
	}
	if o := l.Ops[1]; o.Corrupt == "" || o.State != "absent" || o.Nonce != "" {
		t.Errorf("op %+v, want it corrupt", o)
	}
}

func TestWhatIsAskedOfTheList(t *testing.T) {
	tests := []struct {
		name, query string
		want        status.Query
	}{
		{"nothing", "", status.Query{Limit: 100}},
		{"in flight", "?state=in-flight", status.Query{Limit: 100, States: []status.State{status.Started, status.Launching, status.TaskRunning}}},
		{"failed in any way, or corrupt", "?state=failed,corrupt", status.Query{Limit: 100, States: []status.State{status.Failed, status.FailedClean, status.Corrupt}}},
		{"all that can be asked", "?state=succeeded&class=guest-destroy&vmid=105&node=pve1&signer=alice&op_id=0a1b&from=2026-11-23T09:00:00Z&until=2026-11-23T10:00:00.5Z&limit=7", status.Query{
			States: []status.State{status.Succeeded}, Class: op.GuestDestroy, VMID: 105, Node: "pve1", Signer: "alice", OpID: "0a1b", Limit: 7,
			From: since, Until: since.Add(time.Hour + 500*time.Millisecond),
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t)
			wantStatus(t, s.do(get("/v1/ops"+tt.query)), 200)
			if len(s.status.asked) != 1 || !reflect.DeepEqual(s.status.asked[0], tt.want) {
				t.Errorf("got %+v, want %+v", s.status.asked, tt.want)
			}
		})
	}
}

func TestListsThatCantBe(t *testing.T) {
	cursor := "v1-" + strings.Repeat("7f", 16)
	tests := []struct {
		name, query string
		status      int
		reason      string
	}{
		{"a state there is not", "?state=paused", 422, "bad-request"},
		{"no op was on record as absent", "?state=absent", 422, "bad-request"},
		{"a time that is none", "?from=yesterday", 422, "bad-request"},
		{"a limit beyond the bound", "?limit=501", 422, "bad-request"},
		{"no limit", "?limit=0", 422, "bad-request"},
		{"no guest", "?vmid=0", 422, "bad-request"},
		{"a filter there is not", "?tag=x", 422, "bad-request"},
		{"a signer that is too long", "?signer=" + strings.Repeat("a", 256), 422, "bad-request"},
		{"no cursor", "?cursor=x", 422, "bad-request"},
		{"a cursor of the ledger", "?cursor=3f9c2ab41d6e4a70:memory:1", 422, "bad-request"},
		{"half a cursor", "?cursor=3f9c2ab41d6e4a70:memory:ops-v1-00", 422, "bad-request"},
		{"a cursor of another ledger", "?cursor=0000000000000000:memory:ops-" + cursor, 412, "foreign-cursor"},
		{"a cursor of another store", "?cursor=3f9c2ab41d6e4a70:esdb:ops-" + cursor, 412, "foreign-cursor"},
		{"at least a page's cursor", "?at_least=3f9c2ab41d6e4a70:memory:ops-" + cursor, 422, "bad-request"},
		{"at least a place of another ledger", "?at_least=0000000000000000:memory:1", 412, "foreign-cursor"},
		{"at least a place beyond the end", "?at_least=3f9c2ab41d6e4a70:memory:999999", 412, "cursor-ahead"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t)
			viewtest.NewStory(t, s.store, nonce).Started()
			w := s.do(get("/v1/ops" + tt.query))
			wantStatus(t, w, tt.status)
			if p := problemOf(t, w); p.Reason != tt.reason {
				t.Errorf("problem %+v, want reason %s", p, tt.reason)
			}
			if len(s.status.asked) != 0 {
				t.Errorf("the view was asked %+v", s.status.asked)
			}
		})
	}
	s := newSite(t)
	s.status.err = &status.ForeignCursorError{Have: 1, Want: 2}
	w := s.do(get("/v1/ops?cursor=3f9c2ab41d6e4a70:memory:ops-" + cursor))
	wantStatus(t, w, 412)
	if p := problemOf(t, w); p.Reason != "foreign-cursor" {
		t.Errorf("a cursor of another format: problem %+v, want reason foreign-cursor", p)
	}
}

func TestTheListGoesOnAtItsCursor(t *testing.T) {
	s := newSite(t)
	ops := runStatus(t, s.store)
	s.cfg.Status = ops
	api, err := httpapi.New(s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.api = api
	var last eventstore.Recorded
	for n := range uint64(5) {
		last = viewtest.NewStory(t, s.store, viewtest.Nonce(n)).Voided()
	}
	if err := ops.WaitFor(t.Context(), last.Position); err != nil {
		t.Fatal(err)
	}
	var got []string
	for path := "/v1/ops?limit=2"; ; {
		w := s.do(get(path))
		wantStatus(t, w, 200)
		l := decode[httpapi.OpList](t, w)
		for _, o := range l.Ops {
			got = append(got, o.Nonce)
		}
		if l.Next == "" {
			break
		}
		path = "/v1/ops?limit=2&cursor=" + url.QueryEscape(l.Next)
	}
	var want []string
	for n := uint64(5); n > 0; n-- {
		want = append(want, string(viewtest.Nonce(n-1)))
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What the view need not know of is not waited for.
func TestAtLeast(t *testing.T) {
	s := newSite(t)
	began := viewtest.NewStory(t, s.store, nonce).Started()
	other, err := s.store.Append(t.Context(), "gate-i-1", eventstore.NoStream(), eventstore.Proposed{ID: eventstore.EventID{1}, Type: op.TypeRefused, Data: []byte("{}")})
	if err != nil {
		t.Fatal(err)
	}
	var waited []eventstore.Position
	s.status.wait = func(_ context.Context, p eventstore.Position) error {
		waited = append(waited, p)
		s.status.page.Lag.Applied = eventstore.After(p)
		return nil
	}
	path := "/v1/ops?at_least=" + at(other.Position)
	wantStatus(t, s.do(get(path)), 200)
	if len(waited) != 1 || waited[0] != began.Position {
		t.Errorf("waited for %v, want the event of the op at %d", waited, began.Position)
	}
	wantStatus(t, s.do(get(path)), 200)
	wantStatus(t, s.do(get("/v1/ops?at_least="+at(0))), 200)
	if len(waited) != 1 {
		t.Errorf("waited again for %v, want no more", waited)
	}
}

func TestAListThatStaysBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		began := viewtest.NewStory(t, s.store, nonce).Started()
		s.status.wait = func(ctx context.Context, _ eventstore.Position) error {
			<-ctx.Done()
			return ctx.Err()
		}
		asked := time.Now()
		w := s.do(get("/v1/ops?at_least=" + at(began.Position)))
		wantStatus(t, w, 503)
		if p := problemOf(t, w); p.Reason != "view-behind" || w.Header().Get("Retry-After") == "" || time.Since(asked) != 10*time.Second {
			t.Errorf("problem %+v after %v, want view-behind after 10s, with Retry-After", p, time.Since(asked))
		}
	})
	s := newSite(t)
	began := viewtest.NewStory(t, s.store, nonce).Started()
	s.store.OnRead = func(storetest.ReadCall) (int, error) { return 0, errors.New("disk on fire") }
	wantStatus(t, s.do(get("/v1/ops?at_least="+at(began.Position))), 503)
}

// at is the ledger's cursor behind a position, as a query takes it.
func at(p eventstore.Position) string { return url.QueryEscape(fmt.Sprintf("%s:memory:%d", ledger, p)) }

func TestWithoutAViewThereIsNoList(t *testing.T) {
	s := newSite(t, func(c *httpapi.Config) { c.Status = nil })
	s.doc = document(t, s.api)
	wantStatus(t, s.do(get("/v1/ops")), 405)
}

func TestAViewIsBuiltAgainOnRequest(t *testing.T) {
	tests := []struct {
		name, body string
		scope      httpapi.Scope
		status     int
		rebuilds   int
	}{
		{"the view of all ops", `{"view":"status"}`, httpapi.Backup, 202, 1},
		{"a view that can't be", `{"view":"appliedkeys"}`, httpapi.Backup, 422, 0},
		{"no view", `{}`, httpapi.Backup, 422, 0},
		{"no body", "", httpapi.Backup, 400, 0},
		{"a caller who may only read", `{"view":"status"}`, httpapi.Read, 403, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, withToken(tt.scope))
			w := s.do(call{method: "POST", path: "/v1/store/rebuild-view", body: tt.body, header: map[string]string{"Authorization": "Bearer " + token}})
			wantStatus(t, w, tt.status)
			if s.status.rebuilds != tt.rebuilds {
				t.Errorf("built again %d times, want %d", s.status.rebuilds, tt.rebuilds)
			}
		})
	}
}
