package httpapi_test

import (
	"context"
	"net"
	"strings"
	"testing"

	"writ/adapters/httpapi"
	"writ/domain/engine"
	"writ/domain/op"
)

func TestTokensAndScopes(t *testing.T) {
	read := call{method: "GET", path: "/v1/ops"}
	submit := call{method: "POST", path: "/v1/ops", body: submission}
	with := func(c call, authorization string) call {
		c.header = map[string]string{"Authorization": authorization}
		return c
	}
	both := []httpapi.Scope{httpapi.Submit, httpapi.Read}
	for name, c := range map[string]struct {
		scopes []httpapi.Scope
		call   call
		status int
		reason string
	}{
		"the right token":            {both, with(submit, "Bearer "+token), 202, ""},
		"the scheme in lower case":   {both, with(submit, "bearer "+token), 202, ""},
		"read with read":             {[]httpapi.Scope{httpapi.Read}, with(read, "Bearer "+token), 200, ""},
		"submit with read":           {[]httpapi.Scope{httpapi.Read}, with(submit, "Bearer "+token), 403, "scope-missing"},
		"read with submit":           {[]httpapi.Scope{httpapi.Submit}, with(read, "Bearer "+token), 403, "scope-missing"},
		"no token":                   {both, submit, 401, "unauthorized"},
		"an empty token":             {both, with(submit, "Bearer "), 401, "unauthorized"},
		"only the scheme":            {both, with(submit, "Bearer"), 401, "unauthorized"},
		"another scheme":             {both, with(submit, "Basic "+token), 401, "unauthorized"},
		"another token":              {both, with(submit, "Bearer "+token+"x"), 401, "unauthorized"},
		"the beginning of the token": {both, with(submit, "Bearer "+token[:10]), 401, "unauthorized"},
		"the token's digest":         {both, with(submit, "Bearer "+op.DigestOf([]byte(token)).String()), 401, "unauthorized"},
		"reading one op":             {both, call{method: "GET", path: "/v1/ops/" + string(nonce)}, 401, "unauthorized"},
		"asking if applied":          {both, call{method: "GET", path: "/v1/applied/" + string(nonce)}, 401, "unauthorized"},
		"health needs none":          {both, call{method: "GET", path: "/healthz"}, 200, ""},
		"readiness needs none":       {both, call{method: "GET", path: "/readyz"}, 200, ""},
		"any host with tokens":       {both, func() call { c := with(submit, "Bearer "+token); c.host = "writ.example"; return c }(), 202, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, withToken(c.scopes...))
			w := s.do(c.call)
			wantStatus(t, w, c.status)
			if c.status >= 300 {
				if p := problemOf(t, w); p.Reason != c.reason {
					t.Errorf("reason %q, want %q", p.Reason, c.reason)
				}
				if n := len(s.engine.submissions()); n != 0 {
					t.Errorf("the engine got %d submissions, want none", n)
				}
			}
			if got := w.Header().Get("WWW-Authenticate") != ""; got != (c.status == 401) {
				t.Errorf("WWW-Authenticate given: %t, with status %d", got, c.status)
			}
			if strings.Contains(s.log.String(), token) {
				t.Errorf("the log holds the token: %s", s.log)
			}
		})
	}
}

func TestTwoAuthorizationHeadersAreNone(t *testing.T) {
	s := newSite(t, withToken(httpapi.Read))
	r := newRequest(t, "GET", "/v1/ops")
	r.Header.Add("Authorization", "Bearer "+token)
	r.Header.Add("Authorization", "Bearer other")
	wantStatus(t, s.serve(r), 401)
}

// A caller without a right must not be able to make the service read a body.
func TestTheBodyOfAStrangerIsNotRead(t *testing.T) {
	s := newSite(t, withToken(httpapi.Submit))
	r := newRequest(t, "POST", "/v1/ops")
	body := &readCounter{}
	r.Body, r.ContentLength = body, -1
	r.Header.Set("Content-Type", "application/json")
	wantStatus(t, s.serve(r), 401)
	if body.reads != 0 {
		t.Errorf("the body was read %d times, want never", body.reads)
	}
}

type readCounter struct{ reads int }

func (c *readCounter) Read(p []byte) (int, error) { c.reads++; return len(p), nil }
func (c *readCounter) Close() error               { return nil }

func TestTokensThatCantBeMeant(t *testing.T) {
	good := httpapi.Token{Name: "a", SHA256: op.DigestOf([]byte("x")), Scopes: []httpapi.Scope{httpapi.Read}}
	if err := good.Check(); err != nil {
		t.Fatalf("a good token: %v", err)
	}
	for name, c := range map[string]struct {
		change func(*httpapi.Token)
		says   string
	}{
		"no name":              {func(t *httpapi.Token) { t.Name = "" }, "name"},
		"a name with a space":  {func(t *httpapi.Token) { t.Name = "a b" }, "name"},
		"no digest":            {func(t *httpapi.Token) { t.SHA256 = op.Digest{} }, "sha256"},
		"of the empty token":   {func(t *httpapi.Token) { t.SHA256 = op.DigestOf(nil) }, "sha256"},
		"no scope":             {func(t *httpapi.Token) { t.Scopes = nil }, "scopes"},
		"a scope that is none": {func(t *httpapi.Token) { t.Scopes = []httpapi.Scope{"admin"} }, "scopes[0]"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := good
			c.change(&bad)
			err := bad.Check()
			if err == nil || !strings.HasPrefix(err.Error(), c.says) {
				t.Errorf("error %v, want one about %s", err, c.says)
			}
			cfg := newSite(t).cfg
			cfg.Tokens = []httpapi.Token{bad}
			if _, err := httpapi.New(cfg); err == nil {
				t.Error("the API took it")
			}
		})
	}
}

func TestWithoutTokensOnlyLoopbackIsListenedOn(t *testing.T) {
	for addr, fine := range map[string]bool{
		"127.0.0.1:0": true, "127.9.9.9:80": true, "[::1]:80": true, "localhost:80": true,
		":80": false, "0.0.0.0:80": false, "[::]:80": false, "192.168.1.1:80": false, "pve1.example:80": false,
	} {
		if err := httpapi.CheckListen(addr, false); (err == nil) != fine {
			t.Errorf("%s without tokens: %v, want it accepted: %t", addr, err, fine)
		}
		if err := httpapi.CheckListen(addr, true); err != nil {
			t.Errorf("%s with tokens: %v, want it accepted", addr, err)
		}
	}
	for _, addr := range []string{"", "127.0.0.1", "127.0.0.1:http:1", "127.0.0.1:70000"} {
		if err := httpapi.CheckListen(addr, true); err == nil {
			t.Errorf("%q was accepted as an address", addr)
		}
	}
}

// The configuration may have been right and the listener another one.
func TestServeLooksAtTheListenerItself(t *testing.T) {
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := newSite(t)
	if err := s.api.Serve(s.api.Server(nil), l); err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("serve on %s without tokens: %v, want a refusal that names loopback", l.Addr(), err)
	}
}

func TestNothingSecretIsLogged(t *testing.T) {
	s := newSite(t, withToken(httpapi.Submit, httpapi.Read))
	const envelope = "c2VjcmV0LWVudmVsb3Bl" // secret-envelope
	s.engine.run = func(_ context.Context, sub engine.Submission) engine.Answer {
		if string(sub.Envelope) != "secret-envelope" {
			t.Errorf("envelope %q", sub.Envelope)
		}
		return inFlight()
	}
	auth := map[string]string{"Authorization": "Bearer " + token}
	s.do(call{method: "POST", path: "/v1/ops", body: strings.Replace(submission, "e30=", envelope, 1), header: auth})
	s.do(call{method: "POST", path: "/v1/ops", body: `{"envelope":"` + envelope + `!"}`, header: auth})
	s.do(call{method: "POST", path: "/v1/ops", body: `{` + envelope, header: auth})
	for _, path := range []string{"/v1/ops/", "/v1/applied/", "/nonsense/", "/v1/ops/x/"} {
		s.do(call{method: "GET", path: path + string(nonce), header: auth})
		s.do(call{method: "GET", path: path + strings.ToUpper(string(nonce)), header: auth})
	}
	log := s.log.String()
	for what, secret := range map[string]string{
		"token": token, "nonce": string(nonce), "nonce in capitals": strings.ToUpper(string(nonce)), "envelope": envelope, "envelope's bytes": "secret-envelope",
	} {
		if strings.Contains(log, secret) {
			t.Errorf("the log holds the %s:\n%s", what, log)
		}
	}
	for _, shown := range []string{"6f1c9a0e…", "caller=controller", "status=202"} {
		if !strings.Contains(log, shown) {
			t.Errorf("the log does not hold %q:\n%s", shown, log)
		}
	}
}
