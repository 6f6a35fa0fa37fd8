package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"writ/adapters/httpapi"
)

// A sentService answers submissions as scripted and counts them.
type sentService struct {
	*httptest.Server
	got atomic.Int64
}

// serviceThat answers the n-th submission, from 1.
func serviceThat(t *testing.T, answer func(n int, w http.ResponseWriter, r *http.Request)) *sentService {
	t.Helper()
	s := &sentService{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		answer(int(s.got.Add(1)), w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func say(w http.ResponseWriter, status int, v any) {
	kind := "application/json"
	if _, ok := v.(*httpapi.Problem); ok {
		kind = "application/problem+json"
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func problemOf(status int, reason string) *httpapi.Problem {
	return &httpapi.Problem{Title: "t", Status: status, Reason: reason, Detail: "d"}
}

func runSubmit(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	writ := writeFile(t, "x.writ", "{}")
	intent := writeFile(t, "intent.json", `{"class":"guest-destroy","target":{"node":"pve1","guest":{"type":"qemu","vmid":100}},"params":{}}`)
	var o, e bytes.Buffer
	code = run(context.Background(), append([]string{"submit", writ, "--intent", intent, "--wait", "0s"}, args...), strings.NewReader(""), &o, &e)
	return code, o.String(), e.String()
}

func TestExitCodesTellWhatBecameOfIt(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		body   any
		code   int
	}{
		"succeeded":       {200, httpapi.Answer{Outcome: "succeeded"}, 0},
		"already applied": {200, httpapi.Answer{Outcome: "already-applied"}, 0},
		"in flight":       {202, httpapi.Answer{Outcome: "in-flight"}, 3},
		"indeterminate":   {202, httpapi.Answer{Outcome: "indeterminate"}, 4},
		"refused":         {403, problemOf(403, "expired"), 5},
		"nonce reused":    {409, problemOf(409, "nonce-reused"), 5},
		"malformed":       {422, problemOf(422, "malformed"), 5},
		"bad request":     {422, problemOf(422, "bad-request"), 1},
		"no scope":        {403, problemOf(403, "scope-missing"), 1},
		"no token":        {401, problemOf(401, "unauthorized"), 1},
		"precondition":    {412, problemOf(412, "precondition"), 6},
		"host refused":    {424, problemOf(424, "rejected"), 7},
		"queue full":      {429, problemOf(429, "queue-full"), 8},
		"unavailable":     {503, problemOf(503, "unavailable"), 8},
		"corrupt":         {500, problemOf(500, "corrupt"), 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := serviceThat(t, func(_ int, w http.ResponseWriter, _ *http.Request) { say(w, c.status, c.body) })
			code, out, errs := runSubmit(t, "--url", s.URL)
			if code != c.code {
				t.Errorf("exit code %d, want %d; %s%s", code, c.code, out, errs)
			}
			if n := s.got.Load(); n != 1 {
				t.Errorf("sent %d times, want once", n)
			}
			if code, out, _ := runSubmit(t, "--json", "--url", s.URL); code != c.code || strings.Count(out, "\n") != 1 || !json.Valid([]byte(out)) {
				t.Errorf("with --json: exit code %d, want %d and one object on a line: %s", code, c.code, out)
			}
		})
	}
}

func TestWithoutRetryItIsSentOnceWhateverHappens(t *testing.T) {
	for name, answer := range map[string]func(int, http.ResponseWriter, *http.Request){
		"cut off": func(int, http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"redirected": func(_ int, w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusPermanentRedirect)
		},
		"a page": func(_ int, w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") },
		"half": func(_ int, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, `{"outcome":"succeeded"`)
		},
		"no JSON": func(_ int, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, "ok")
		},
		"a problem that is none": func(_ int, w http.ResponseWriter, _ *http.Request) { say(w, 403, problemOf(200, "x")) },
		"unavailable":            func(_ int, w http.ResponseWriter, _ *http.Request) { say(w, 503, problemOf(503, "unavailable")) },
	} {
		t.Run(name, func(t *testing.T) {
			s := serviceThat(t, answer)
			code, out, errs := runSubmit(t, "--url", s.URL)
			if code != exitTryAgain {
				t.Errorf("exit code %d, want %d: nobody knows; %s%s", code, exitTryAgain, out, errs)
			}
			if n := s.got.Load(); n != 1 {
				t.Errorf("sent %d times, want once", n)
			}
		})
	}
}

func TestRetrySendsTheSameUntilItIsDecided(t *testing.T) {
	var bodies []string
	s := serviceThat(t, nil)
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		bodies = append(bodies, string(b))
		switch s.got.Add(1) {
		case 1:
			panic(http.ErrAbortHandler)
		case 2:
			say(w, 503, problemOf(503, "unavailable"))
		default:
			say(w, 200, httpapi.Answer{Outcome: "already-applied"})
		}
	})
	code, out, errs := runSubmit(t, "--json", "--retry", "1m", "--url", s.URL)
	if code != 0 || !strings.Contains(out, `"tries":3`) {
		t.Errorf("exit code %d: %s%s; want 0 after three tries", code, out, errs)
	}
	if len(bodies) != 3 || bodies[0] != bodies[1] || bodies[1] != bodies[2] {
		t.Errorf("sent %q, want three times the same", bodies)
	}
}

func TestRetryStopsAtAnAnswer(t *testing.T) {
	s := serviceThat(t, func(_ int, w http.ResponseWriter, _ *http.Request) { say(w, 412, problemOf(412, "precondition")) })
	if code, _, _ := runSubmit(t, "--retry", "1m", "--url", s.URL); code != exitPrecondition || s.got.Load() != 1 {
		t.Errorf("exit code %d after %d tries, want %d after one", code, s.got.Load(), exitPrecondition)
	}
}

func TestWhatAServiceSaysDoesNotReachTheTerminalRaw(t *testing.T) {
	s := serviceThat(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		p := problemOf(403, "expired")
		p.Detail = "\x1b[2Jall is well\u202e\r"
		say(w, 403, p)
	})
	if _, out, _ := runSubmit(t, "--url", s.URL); strings.ContainsAny(out, "\x1b\r\u202e") || !strings.Contains(out, "all is well") {
		t.Errorf("output %q, want the words and nothing that a terminal obeys", out)
	}
}
