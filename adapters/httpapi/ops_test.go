package httpapi_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"writ/adapters/httpapi"
	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
	"writ/domain/op"
	"writ/projections/viewtest"
)

func get(path string) call { return call{method: "GET", path: path} }

func TestAnOpIsShownWithItsEventsAndWithoutItsEnvelope(t *testing.T) {
	s := newSite(t)
	story := viewtest.NewStory(t, s.store, nonce)
	started := story.Header()
	started.Attempt = 1
	started.OpID = op.OpID(nonce, 1, op.Claim{1})
	story.Append(&op.Started{
		Header: started, Claim: op.Claim{1}, Intent: op.Intent{Class: started.Class, Target: started.Target},
		Envelope: []byte(`{"payload":"signed by two"}`),
	})
	story.Launching()
	story.Running("UPID:pve1:0:0:0:qmdestroy:105:writ@pve!writ:")
	raw := envelopeOnRecord(t, s.store)

	w := s.do(get("/v1/ops/" + string(nonce)))
	wantStatus(t, w, 200)
	o := decode[httpapi.Op](t, w)
	if o.State != "task-running" || o.Attempt != 1 || o.Applied || o.Spent || o.OpID == "" || !strings.HasPrefix(o.UPID, "UPID:pve1:") || o.NonceShort != "6f1c9a0e…" {
		t.Errorf("op %+v, want one in state task-running with its op id and UPID", o)
	}
	var types []string
	for i, e := range o.Events {
		types = append(types, e.Type)
		if e.Revision != uint64(i) || len(e.Data) == 0 || e.At.IsZero() {
			t.Errorf("event %d: %+v, want its revision, time and data", i, e)
		}
	}
	if got, want := strings.Join(types, " "), "OpStarted OpLaunching OpTaskRunning"; got != want {
		t.Errorf("events %s, want %s", got, want)
	}
	if strings.Contains(w.Body.String(), "envelope") || strings.Contains(w.Body.String(), raw) {
		t.Errorf("the answer holds the envelope: %s", w.Body)
	}
}

// envelopeOnRecord gives the beginning of the envelope as the store has it.
func envelopeOnRecord(t *testing.T, store eventstore.Reader) string {
	t.Helper()
	for rec, err := range store.ReadStream(t.Context(), eventstore.StreamID(nonce.Stream()), 0) {
		if err != nil {
			t.Fatal(err)
		}
		_, after, ok := strings.Cut(string(rec.Data), `"envelope":"`)
		if !ok {
			t.Fatalf("the first event has no envelope, so nothing can be seen missing: %s", rec.Data)
		}
		text, _, _ := strings.Cut(after, `"`)
		return text
	}
	return ""
}

func TestHowOpsStand(t *testing.T) {
	for name, c := range map[string]struct {
		tell                    func(s *viewtest.Story)
		state, effect           string
		applied, spent, corrupt bool
	}{
		"started":               {func(s *viewtest.Story) { s.Started() }, "started", "", false, false, false},
		"succeeded":             {func(s *viewtest.Story) { s.Started(); s.Launching(); s.Running("u"); s.Succeeded() }, "succeeded", "", true, true, false},
		"failed without":        {func(s *viewtest.Story) { s.Started(); s.Failed(op.KindInterrupted, op.EffectNone) }, "failed", "none", false, false, false},
		"failed with an effect": {func(s *viewtest.Story) { s.Started(); s.Launching(); s.Failed(op.KindTaskFailed, op.EffectPartial) }, "failed", "partial", false, true, false},
		"voided":                {func(s *viewtest.Story) { s.Voided() }, "voided", "", false, true, false},
		"an unknown event":      {func(s *viewtest.Story) { s.Started(); s.Write("OpTeleported", []byte(`{"secret":1}`)) }, "started", "", false, false, true},
		"not JSON":              {func(s *viewtest.Story) { s.Started(); s.Write(op.TypeLaunching, []byte("\x00\xff")) }, "started", "", false, false, true},
		"an illegal transition": {func(s *viewtest.Story) { s.Started(); s.Write(op.TypeSucceeded, succeeded(s)) }, "started", "", false, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			c.tell(viewtest.NewStory(t, s.store, nonce))
			w := s.do(get("/v1/ops/" + string(nonce)))
			wantStatus(t, w, 200)
			o := decode[httpapi.Op](t, w)
			if o.State != c.state || o.Effect != c.effect || o.Applied != c.applied || o.Spent != c.spent || (o.Corrupt != "") != c.corrupt {
				t.Errorf("op %+v, want state %q, effect %q, applied %t, spent %t, corrupt %t", o, c.state, c.effect, c.applied, c.spent, c.corrupt)
			}
			if strings.Contains(w.Body.String(), "secret") {
				t.Errorf("an event that nobody understands is shown: %s", w.Body)
			}
			w = s.do(get("/v1/applied/" + string(nonce)))
			if c.corrupt {
				wantStatus(t, w, 500)
				if p := problemOf(t, w); p.Reason != "corrupt" || strings.Contains(p.Detail, string(nonce)) {
					t.Errorf("problem %+v, want reason corrupt and no whole nonce", p)
				}
				return
			}
			wantStatus(t, w, 200)
			if a := decode[httpapi.Applied](t, w); a.Applied != c.applied || a.Spent != c.spent || a.State != c.state || a.Since.IsZero() {
				t.Errorf("applied %+v, want applied %t, spent %t, state %q and since when", a, c.applied, c.spent, c.state)
			}
		})
	}
}

// succeeded is an event that the state machine would not let through.
func succeeded(s *viewtest.Story) []byte {
	data, err := op.Encode(&op.Succeeded{Header: s.Header(), Evidence: op.Evidence{Effect: op.EffectDone}})
	if err != nil {
		panic(err)
	}
	return data
}

func TestANonceOfWhichNothingIsOnRecord(t *testing.T) {
	s := newSite(t)
	w := s.do(get("/v1/ops/" + string(nonce)))
	wantStatus(t, w, 404)
	if p := problemOf(t, w); p.Reason != "not-found" {
		t.Errorf("reason %q, want not-found", p.Reason)
	}
	w = s.do(get("/v1/applied/" + string(nonce)))
	wantStatus(t, w, 200)
	if a := decode[httpapi.Applied](t, w); a.Applied || a.Spent || a.State != "absent" {
		t.Errorf("applied %+v, want neither applied nor spent", a)
	}
}

func TestNoncesThatAreNone(t *testing.T) {
	for name, n := range map[string]string{
		"short": "6f1c9a0e", "capitals": strings.ToUpper(string(nonce)), "odd": string(nonce) + "a", "not hex": strings.Repeat("g", 32),
		"too long": strings.Repeat("ab", 65), "a stream": "op-" + string(nonce), "a space": "%20" + string(nonce), "enormous": strings.Repeat("a", 8000),
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			for _, path := range []string{"/v1/ops/", "/v1/applied/"} {
				w := s.do(get(path + n))
				wantStatus(t, w, 422)
				if p := problemOf(t, w); len(p.Errors) == 0 || p.Errors[0].Location != "path.nonce" || strings.Contains(w.Body.String(), string(nonce)) {
					t.Errorf("problem %s, want it to name path.nonce and not to hold what was given", w.Body)
				}
			}
		})
	}
}

func TestALedgerThatCantBeRead(t *testing.T) {
	s := newSite(t)
	viewtest.NewStory(t, s.store, nonce).Started()
	s.store.OnRead = func(storetest.ReadCall) (int, error) { return 0, errors.New("disk on fire at /var/lib") }
	s.status.err = errors.New("view on fire at /var/lib")
	for _, path := range []string{"/v1/ops/" + string(nonce), "/v1/applied/" + string(nonce), "/v1/ops"} {
		w := s.do(get(path))
		wantStatus(t, w, 503)
		if p := problemOf(t, w); p.Reason != "unavailable" || strings.Contains(p.Detail, "/var/lib") {
			t.Errorf("problem %+v, want reason unavailable and nothing of the inside", p)
		}
	}
	if !strings.Contains(s.log.String(), "disk on fire") || !strings.Contains(s.log.String(), "view on fire") {
		t.Errorf("log %s, want it to say what went wrong", s.log)
	}
}

func TestOnlyTheNewestEventsOfALongStreamAreShown(t *testing.T) {
	s := newSite(t)
	story := viewtest.NewStory(t, s.store, nonce)
	for range 251 {
		story.Started()
		story.Failed(op.KindInterrupted, op.EffectNone)
	}
	w := s.do(get("/v1/ops/" + string(nonce)))
	wantStatus(t, w, 200)
	o := decode[httpapi.Op](t, w)
	if len(o.Events) != 500 || o.Omitted != 2 || o.Events[0].Revision != 2 || o.Attempt != 251 {
		t.Errorf("%d events from revision %d, %d omitted, attempt %d; want 500 from 2, 2 omitted, attempt 251", len(o.Events), o.Events[0].Revision, o.Omitted, o.Attempt)
	}
}

func TestReadiness(t *testing.T) {
	var broken error
	asked := 0
	now := since
	s := newSite(t, func(c *httpapi.Config) {
		c.Now = func() time.Time { return now }
		c.Ready = []httpapi.Check{
			{Name: "policy", Test: func(context.Context) error { asked++; return broken }},
			{Name: "views", Test: func(context.Context) error { return nil }},
		}
	})
	w := s.do(get("/readyz"))
	wantStatus(t, w, 200)
	if r := decode[httpapi.Readiness](t, w); !r.Ready || r.Checks["policy"] != "ok" || r.Checks["views"] != "ok" {
		t.Errorf("readiness %+v, want both checks ok", r)
	}
	broken = errors.New("serial 3 here, 4 on record")
	for range 20 {
		wantStatus(t, s.do(get("/readyz")), 200)
	}
	if asked != 1 {
		t.Errorf("checked %d times within a second, want once", asked)
	}
	now = now.Add(time.Second)
	w = s.do(get("/readyz"))
	wantStatus(t, w, 503)
	if r := decode[httpapi.Readiness](t, w); r.Ready || r.Checks["policy"] != "failing" || r.Checks["views"] != "ok" || strings.Contains(w.Body.String(), "serial") {
		t.Errorf("readiness %s, want policy failing, without saying why to anybody who asks", w.Body)
	}
}

func TestHEADIsAGETWithoutABody(t *testing.T) {
	s := newSite(t)
	for path, want := range map[string]int{"/healthz": 200, "/v1/ops": 200, "/openapi.json": 200, "/v1/ops/" + string(nonce): 404, "/nothing": 404} {
		if w := s.do(call{method: "HEAD", path: path}); w.Code != want {
			t.Errorf("HEAD %s: %d, want %d", path, w.Code, want)
		}
	}
}

func TestAnAPIWithoutItsPartsIsNone(t *testing.T) {
	good := newSite(t).cfg
	for name, drop := range map[string]func(*httpapi.Config){
		"engine": func(c *httpapi.Config) { c.Engine = nil }, "ledger": func(c *httpapi.Config) { c.Ledger = nil },
		"queue": func(c *httpapi.Config) { c.Queue = nil }, "lag": func(c *httpapi.Config) { c.QueueLag = nil },
		"log": func(c *httpapi.Config) { c.Log = nil }, "clock": func(c *httpapi.Config) { c.Now = nil }, "store name": func(c *httpapi.Config) { c.StoreName = "" },
	} {
		bad := good
		drop(&bad)
		if _, err := httpapi.New(bad); err == nil {
			t.Errorf("without %s: no error", name)
		}
	}
}
