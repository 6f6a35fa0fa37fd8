package httpapi_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"writ/adapters/httpapi"
	"writ/domain/engine"
	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
	"writ/domain/op"
	"writ/projections/recoveryqueue"
	"writ/projections/viewtest"
)

// queued is what the view holds of an op.
func queued(n op.Nonce, s op.State) recoveryqueue.Item {
	return recoveryqueue.Item{Stream: eventstore.StreamID(n.Stream()), Nonce: n, State: s, OpID: "0a1b", Attempt: 1, Since: since}
}

func recovery(t *testing.T, s *site) httpapi.Recovery {
	t.Helper()
	w := s.do(get("/v1/recovery"))
	wantStatus(t, w, 200)
	return decode[httpapi.Recovery](t, w)
}

func TestRecoveryJoinsTheRecordWithWhatTheEngineKnows(t *testing.T) {
	s := newSite(t)
	lost := viewtest.NewStory(t, s.store, viewtest.Nonce(1))
	lost.Started()
	lost.Launching()
	running := viewtest.NewStory(t, s.store, viewtest.Nonce(2)).At(viewtest.Start.Add(time.Minute))
	running.Started()
	running.Launching()
	running.Running("UPID:pve1:0:0:0:qmdestroy:105:writ@pve!writ:")
	fresh := viewtest.NewStory(t, s.store, viewtest.Nonce(3)).At(viewtest.Start.Add(time.Hour))
	fresh.Started()
	ended := viewtest.NewStory(t, s.store, viewtest.Nonce(4))
	ended.Started()
	ended.Failed(op.KindInterrupted, op.EffectNone)
	unseen := viewtest.NewStory(t, s.store, viewtest.Nonce(5)).At(viewtest.Start.Add(2 * time.Hour))
	unseen.Started()
	unseen.Launching()
	for _, st := range []*viewtest.Story{lost, running, fresh, ended} {
		// The view lags: it says of all that they were just started.
		s.queue.items = append(s.queue.items, queued(st.Op.Nonce, op.StateStarted))
	}
	leave := func(o op.Op, detail string) engine.Answer {
		a := engine.AnswerFor(&o)
		a.Outcome, a.Detail = engine.Indeterminate, detail
		return a
	}
	s.engine.left = []engine.Answer{
		leave(lost.Op, "node pve1 does not answer"),
		leave(unseen.Op, "not in the view yet"),
		// Known of an earlier state, and so of no use any more.
		{Outcome: engine.Indeterminate, Nonce: running.Op.Nonce, OpID: running.Op.OpID, State: op.StateLaunching, Detail: "outdated"},
	}

	got := recovery(t, s)
	if got.Halted != "" || !got.Surveyed || got.CaughtUp || len(got.Ops) != 4 {
		t.Fatalf("recovery: got %+v, want four ops, surveyed, not caught up, no alarm", got)
	}
	wants := []struct {
		nonce         op.Nonce
		state         string
		revision      uint64
		indeterminate bool
		detail, look  string
	}{
		{lost.Op.Nonce, "launching", 1, true, "node pve1 does not answer", "on node pve2, the list of tasks"},
		{running.Op.Nonce, "task-running", 2, false, "", "the task UPID:pve1:"},
		{fresh.Op.Nonce, "started", 0, false, "", "nothing was sent to the host"},
		{unseen.Op.Nonce, "launching", 1, true, "not in the view yet", "protection"},
	}
	for i, want := range wants {
		it := got.Ops[i]
		if it.Nonce != string(want.nonce) || it.State != want.state || it.Revision == nil || *it.Revision != want.revision ||
			it.Indeterminate != want.indeterminate || it.Detail != want.detail || it.Attempt != 1 || it.OpID == "" || it.WaitsFor == "" {
			t.Errorf("op %d: got %+v, want %+v", i, it, want)
		}
		if !strings.Contains(strings.Join(it.Look, "\n"), want.look) {
			t.Errorf("op %d: look at %q, want %q", i, it.Look, want.look)
		}
	}
}

func TestACorruptOpIsShownAndStopsNoOther(t *testing.T) {
	s := newSite(t)
	known, found := viewtest.NewStory(t, s.store, viewtest.Nonce(1)), viewtest.NewStory(t, s.store, viewtest.Nonce(2))
	for _, st := range []*viewtest.Story{known, found} {
		st.Started()
		st.Write("OpTeleported", []byte(`{}`))
	}
	fine := viewtest.NewStory(t, s.store, viewtest.Nonce(3))
	fine.Started()
	fine.Launching()
	broken := queued(known.Op.Nonce, op.StateStarted)
	broken.Corrupt = "an unknown event"
	nameless := queued("", op.Absent)
	nameless.Stream, nameless.Corrupt = "op-XYZ", "the stream's name holds no nonce"
	s.queue.items = []recoveryqueue.Item{broken, queued(found.Op.Nonce, op.StateStarted), nameless, queued(fine.Op.Nonce, op.StateLaunching)}

	got := recovery(t, s).Ops
	if len(got) != 4 {
		t.Fatalf("ops: got %+v, want four", got)
	}
	for _, it := range got {
		corrupt := it.Nonce != string(fine.Op.Nonce)
		if (it.Corrupt != "") != corrupt || (it.Revision == nil) != corrupt {
			t.Errorf("op: got %+v, want it corrupt and without a revision to sign: %t", it, corrupt)
		}
		if strings.Contains(it.Corrupt, it.Nonce) && it.Nonce != "" {
			t.Errorf("why it is corrupt holds the whole nonce: %q", it.Corrupt)
		}
	}
}

func TestRecoveryCantBeShown(t *testing.T) {
	t.Run("without the view", func(t *testing.T) {
		s := newSite(t)
		s.queue.err = errors.New("closed")
		wantStatus(t, s.do(get("/v1/recovery")), 503)
	})
	t.Run("without the ledger", func(t *testing.T) {
		s := newSite(t)
		viewtest.NewStory(t, s.store, nonce).Started()
		s.queue.items = []recoveryqueue.Item{queued(nonce, op.StateStarted)}
		s.store.OnRead = func(storetest.ReadCall) (int, error) { return 0, errors.New("disk on fire") }
		wantStatus(t, s.do(get("/v1/recovery")), 503)
	})
}

func TestReadinessFollowsTheEngine(t *testing.T) {
	s := newSite(t)
	ask := func() (int, httpapi.Readiness) {
		t.Helper()
		w := s.do(get("/readyz"))
		return w.Code, decode[httpapi.Readiness](t, w)
	}
	s.engine.surveyed = make(chan struct{})
	if code, r := ask(); code != 503 || r.Ready || r.Checks["surveyed"] != "failing" || r.Checks["launching"] != "ok" {
		t.Errorf("before the survey: got %d %+v, want 503, surveyed failing", code, r)
	}
	if r := recovery(t, s); r.Surveyed {
		t.Errorf("before the survey: got %+v, want surveyed false", r)
	}
	close(s.engine.surveyed)
	if code, r := ask(); code != 200 || !r.Ready || r.Checks["surveyed"] != "ok" {
		t.Errorf("surveyed: got %d %+v, want 200", code, r)
	}
	why := "another copy of this ledger may be acting: the host has 2 tokens of 6f1c9a0e…"
	s.engine.halted = errors.New(why)
	if code, r := ask(); code != 503 || r.Ready || r.Checks["launching"] != "failing: "+why {
		t.Errorf("halted: got %d %+v, want 503 and the reason", code, r)
	}
	if r := recovery(t, s); r.Halted != why {
		t.Errorf("halted: got %q, want %q", r.Halted, why)
	}
}

func TestRecoveryNeedsItsScopes(t *testing.T) {
	all := map[httpapi.Scope][]call{
		httpapi.Read:    {get("/v1/recovery")},
		httpapi.Resolve: {{method: "POST", path: "/v1/recovery/" + string(nonce) + "/resolve", body: `{"envelope":"e30="}`}},
		httpapi.Void:    {{method: "POST", path: "/v1/ops/" + string(nonce) + "/void", body: `{"reason":"r"}`}},
	}
	for _, has := range httpapi.Scopes() {
		s := newSite(t, withToken(has))
		s.engine.settle = func([]byte, string) engine.Answer { return answered(engine.Conflict, op.StateStarted) }
		s.engine.void = func(op.Nonce, string, string) engine.Answer { return answered(engine.Voided, op.StateVoided) }
		for needs, calls := range all {
			for _, c := range calls {
				c.header = map[string]string{"Authorization": "Bearer " + token}
				w := s.do(c)
				if (w.Code != 403) != (has == needs) {
					t.Errorf("%s %s with scope %s: got %d, want it let in: %t", c.method, c.path, has, w.Code, has == needs)
				}
				if w.Code == 403 && problemOf(t, w).Reason != "scope-missing" {
					t.Errorf("%s with scope %s: got %s", c.path, has, w.Body)
				}
			}
		}
	}
}
