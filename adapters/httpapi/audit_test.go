package httpapi_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"writ/adapters/httpapi"
	"writ/domain/engine"
	"writ/domain/eventstore/storetest"
	"writ/domain/op"
	"writ/projections/audit"
	"writ/projections/viewtest"
)

// A report or an export of the service that has run an op, as an auditor gets
// it.
func TestAuditThroughTheInterface(t *testing.T) {
	w := newWhole(t)
	close(w.host.hold)
	raw := w.order()
	var a httpapi.Answer
	if code := w.submit(raw, "?wait=1m", &a); code != 200 || a.Outcome != engine.Succeeded.String() {
		t.Fatalf("submit: %d %+v", code, a)
	}
	var report audit.Report
	if code := w.ask("GET", "/v1/audit/report", "", &report); code != 200 || !report.Sound || !report.Complete || report.Counts.Events < 5 || report.Counts.Ops.Succeeded != 1 {
		t.Errorf("report: %d %+v; want a sound ledger with one op", code, report)
	}
	r, err := http.NewRequestWithContext(t.Context(), "GET", w.url+"/v1/audit/export", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	src, err := audit.OpenExport(resp.Body, resp.ContentLength)
	if err != nil {
		t.Fatal(err)
	}
	again, err := audit.Verify(t.Context(), src, audit.Options{})
	if err != nil || !again.Sound || again.Counts != report.Counts {
		t.Errorf("of the export: %+v, %v; want what the service says: %+v", again, err, report)
	}
}

func TestWhoMayReadMayNotExport(t *testing.T) {
	s := newSite(t, withToken(httpapi.Read))
	envelope := signed(t, nonce, time.Hour)
	claim(viewtest.NewStory(t, s.store, nonce), envelope)
	auth := map[string]string{"Authorization": "Bearer " + token}
	w := s.do(call{method: "GET", path: "/v1/audit/export", header: auth})
	wantStatus(t, w, 403)
	w = s.do(call{method: "GET", path: "/v1/audit/report", header: auth})
	wantStatus(t, w, 200)
	if secret := base64.StdEncoding.EncodeToString(envelope); strings.Contains(w.Body.String(), secret) || strings.Contains(w.Body.String(), string(nonce)) {
		t.Errorf("the report holds the envelope or the whole nonce: %s", w.Body)
	}
	for _, path := range []string{"/v1/audit/report", "/v1/audit/export"} {
		wantStatus(t, s.do(get(path)), 401)
	}
}

func TestAnExportFromACursor(t *testing.T) {
	s := newSite(t)
	story := viewtest.NewStory(t, s.store, nonce)
	story.Started()
	events, _ := s.seen(t)
	story.Launching()
	lines := func(w *bytes.Buffer) int { return bytes.Count(w.Bytes(), []byte("\n")) }
	w := s.do(get("/v1/audit/export"))
	wantStatus(t, w, 200)
	whole := lines(w.Body)
	w = s.do(get("/v1/audit/export?after=" + events[0].Cursor))
	wantStatus(t, w, 200)
	if got := lines(w.Body); got != whole-1 {
		t.Errorf("%d lines behind the first event, want one fewer than %d", got, whole)
	}
	for cursor, status := range map[string]int{"3f9c2ab41d6e4a70:other:1": 412, "x": 422, "3f9c2ab41d6e4a70:memory:99999": 412} {
		w := s.do(get("/v1/audit/export?after=" + cursor))
		wantStatus(t, w, status)
	}
	if w := s.do(call{method: "HEAD", path: "/v1/audit/export"}); w.Code != 200 || w.Body.Len() > 0 {
		t.Errorf("HEAD: %d %q, want 200 and nothing", w.Code, w.Body)
	}
}

// An export that breaks off must not look like one that is whole.
func TestAnExportThatCantBeFinishedIsCut(t *testing.T) {
	bubble(t, func(t *testing.T, s *site, l *pipes) {
		viewtest.NewStory(t, s.store, nonce).Started()
		s.store.OnRead = func(storetest.ReadCall) (int, error) { return 0, errors.New("disk on fire") }
		conn := l.dial()
		defer conn.Close()
		_, _ = io.WriteString(conn, "GET /v1/audit/export HTTP/1.1\r\nHost: localhost\r\n\r\n")
		text, _ := io.ReadAll(conn)
		if strings.Contains(string(text), "\r\n0\r\n\r\n") || strings.Contains(string(text), "sha256") {
			t.Errorf("answer %q, want it cut off", text)
		}
	})
}

func TestAuditsAreBoundedAndEndWithTheService(t *testing.T) {
	bubble(t, func(t *testing.T, s *site, l *pipes) {
		story := viewtest.NewStory(t, s.store, nonce)
		for range 100 {
			story.Started()
			story.Failed(op.KindInterrupted, op.EffectNone)
		}
		// Two who take nothing hold the two places.
		for range 2 {
			conn := l.dial()
			defer conn.Close()
			_, _ = io.WriteString(conn, "GET /v1/audit/export HTTP/1.1\r\nHost: localhost\r\n\r\n")
		}
		synctest.Wait()
		for _, path := range []string{"/v1/audit/export", "/v1/audit/report"} {
			w := s.do(get(path))
			wantStatus(t, w, 503)
			if p := problemOf(t, w); p.Reason != "busy" || w.Header().Get("Retry-After") == "" {
				t.Errorf("problem %+v, want busy and when to ask again", p)
			}
		}
		// They are cut off in time.
		<-time.After(time.Minute)
		wantStatus(t, s.do(get("/v1/audit/report")), 200)
		s.api.Drain()
		wantStatus(t, s.do(get("/v1/audit/report")), 503)
	})
}

// A report that takes long keeps its connection alive, and is JSON all the
// same.
func TestALongReportShowsThatItLives(t *testing.T) {
	bubble(t, func(t *testing.T, s *site, l *pipes) {
		slow := s.store
		slow.OnRead = func(storetest.ReadCall) (int, error) {
			<-time.After(50 * time.Second)
			return -1, nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		w := s.serve(newRequest(t, "GET", "/v1/audit/report").WithContext(ctx))
		wantStatus(t, w, 200)
		var r audit.Report
		if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil || !bytes.HasPrefix(w.Body.Bytes(), []byte("\n\n\n")) {
			t.Errorf("answer %q (%v), want empty lines and then the report", w.Body, err)
		}
	})
}
