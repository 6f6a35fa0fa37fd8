package httpapi_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"writ/adapters/httpapi"
	"writ/domain/op"
)

func ask(t *testing.T, s *site, secret string) int {
	t.Helper()
	return s.do(call{method: "GET", path: "/v1/ops", header: map[string]string{"Authorization": "Bearer " + secret}}).Code
}

func TestTokensComeAndGo(t *testing.T) {
	now := since
	s := newSite(t, withToken(httpapi.Read), func(c *httpapi.Config) { c.Now = func() time.Time { return now } })
	fresh := func(name, secret string, expires time.Time) httpapi.Token {
		return httpapi.Token{Name: name, SHA256: op.DigestOf([]byte(secret)), Scopes: []httpapi.Scope{httpapi.Read}, Expires: expires}
	}
	if got := ask(t, s, token); got != 200 {
		t.Fatalf("status %d, want 200", got)
	}
	if err := s.api.SetTokens([]httpapi.Token{fresh("a", "aaa", time.Time{}), fresh("b", "bbb", since.Add(time.Hour))}); err != nil {
		t.Fatal(err)
	}
	for secret, want := range map[string]int{token: 401, "aaa": 200, "bbb": 200} {
		if got := ask(t, s, secret); got != want {
			t.Errorf("%s: status %d, want %d", secret, got, want)
		}
	}
	now = since.Add(time.Hour)
	for secret, want := range map[string]int{"aaa": 200, "bbb": 401} {
		if got := ask(t, s, secret); got != want {
			t.Errorf("%s, an hour later: status %d, want %d", secret, got, want)
		}
	}
	// What can't be meant changes nothing.
	for what, bad := range map[string][]httpapi.Token{
		"a name twice":  {fresh("a", "aaa", time.Time{}), fresh("a", "ccc", time.Time{})},
		"a token twice": {fresh("a", "aaa", time.Time{}), fresh("b", "aaa", time.Time{})},
		"no name":       {fresh("", "aaa", time.Time{})},
	} {
		if err := s.api.SetTokens(bad); err == nil {
			t.Errorf("%s: taken", what)
		}
		if got := ask(t, s, "aaa"); got != 200 {
			t.Errorf("%s: status %d afterwards, want 200", what, got)
		}
	}
	// The last one taken away closes the interface. It must never open it.
	if err := s.api.SetTokens(nil); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, s.do(get("/v1/ops")), 401)
	wantStatus(t, s.do(call{method: "POST", path: "/v1/ops", body: submission}), 401)
}

func TestAnInterfaceThatTellsCallersApartNeedsNoneToBeClosed(t *testing.T) {
	s := newSite(t, func(c *httpapi.Config) { c.Identified = true })
	wantStatus(t, s.do(get("/v1/ops")), 401)
	if err := s.api.SetTokens(tokenWith(httpapi.Read)); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, s, token); got != 200 {
		t.Errorf("status %d once there is a token, want 200", got)
	}
}

func TestACallerMayNotAskTooOften(t *testing.T) {
	now := since
	s := newSite(t, func(c *httpapi.Config) {
		c.Tokens = append(tokenWith(httpapi.Read), httpapi.Token{Name: "other", SHA256: op.DigestOf([]byte("other")), Scopes: []httpapi.Scope{httpapi.Read}})
		c.RequestsPerSecond, c.Now = 5, func() time.Time { return now }
	})
	for i := range 10 {
		if got := ask(t, s, token); got != 200 {
			t.Fatalf("request %d: status %d, want 200", i, got)
		}
	}
	w := s.do(call{method: "GET", path: "/v1/ops", header: map[string]string{"Authorization": "Bearer " + token}})
	wantStatus(t, w, 429)
	if p := problemOf(t, w); p.Reason != "rate-limited" || w.Header().Get("Retry-After") != "1" || !strings.Contains(p.Detail, "controller") {
		t.Errorf("problem %+v, Retry-After %q; want rate-limited, whom, and 1 second", p, w.Header().Get("Retry-After"))
	}
	if got := ask(t, s, "other"); got != 200 {
		t.Errorf("another caller: status %d, want 200", got)
	}
	wantStatus(t, s.do(get("/healthz")), 200)
	now = now.Add(200 * time.Millisecond)
	if a, b := ask(t, s, token), ask(t, s, token); a != 200 || b != 429 {
		t.Errorf("a fifth of a second later: %d, %d; want one more", a, b)
	}
	now = now.Add(-time.Hour)
	if got := ask(t, s, token); got != 429 {
		t.Errorf("after the clock was set back: %d, want 429", got)
	}
	now = now.Add(time.Hour)
	for i := range 10 {
		if got := ask(t, s, token); got != 200 {
			t.Fatalf("much later, request %d: status %d, want 200", i, got)
		}
	}
}

// An authority issues certificates for a test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, key: key}
	own := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, own, own, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

func (a *authority) issue(subject pkix.Name, usage x509.ExtKeyUsage, until time.Time) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: subject, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until,
		ExtKeyUsage: []x509.ExtKeyUsage{usage}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestClientCertificates(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	later, before := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	name := pkix.Name{CommonName: "controller", Organization: []string{"Lab"}}
	client := x509.ExtKeyUsageClientAuth
	s := newSite(t, func(c *httpapi.Config) {
		c.Clients = []httpapi.Client{{Name: "by-cert", Subject: "CN=controller,O=Lab", Scopes: []httpapi.Scope{httpapi.Read}}}
		c.Tokens = []httpapi.Token{{Name: "by-token", SHA256: op.DigestOf([]byte(token)), Scopes: []httpapi.Scope{httpapi.Void}}}
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := s.api.Server(&tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{ours.issue(pkix.Name{CommonName: "writ"}, x509.ExtKeyUsageServerAuth, later)},
		ClientCAs:    ours.pool(), ClientAuth: tls.VerifyClientCertIfGiven,
	})
	ended := make(chan error, 1)
	go func() { ended <- s.api.Serve(srv, l) }()
	defer func() {
		_ = srv.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	for what, c := range map[string]struct {
		certs  []tls.Certificate
		token  string
		status int // 0: no connection at all
	}{
		"the certificate of a caller":      {[]tls.Certificate{ours.issue(name, client, later)}, "", 200},
		"of nobody we know":                {[]tls.Certificate{ours.issue(pkix.Name{CommonName: "controller"}, client, later)}, "", 401},
		"of somebody like one":             {[]tls.Certificate{ours.issue(pkix.Name{CommonName: "controller,O=Lab"}, client, later)}, "", 401},
		"with more in its subject":         {[]tls.Certificate{ours.issue(pkix.Name{CommonName: "controller", Organization: []string{"Lab", "Other"}}, client, later)}, "", 401},
		"by another authority":             {[]tls.Certificate{theirs.issue(name, client, later)}, "", 0},
		"that has expired":                 {[]tls.Certificate{ours.issue(name, client, before)}, "", 0},
		"a server's":                       {[]tls.Certificate{ours.issue(name, x509.ExtKeyUsageServerAuth, later)}, "", 0},
		"none":                             {nil, "", 401},
		"a token decides, if it is shown":  {[]tls.Certificate{ours.issue(name, client, later)}, token, 403},
		"so does one that is not known":    {[]tls.Certificate{ours.issue(name, client, later)}, "nonsense", 401},
		"a token alone, without its scope": {nil, token, 403},
	} {
		t.Run(what, func(t *testing.T) {
			// The certificate is shown whether the server's list of authorities asks for it or not.
			conf := &tls.Config{RootCAs: ours.pool(), MinVersion: tls.VersionTLS12, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				if len(c.certs) == 0 {
					return &tls.Certificate{}, nil
				}
				return &c.certs[0], nil
			}}
			web := &http.Client{Transport: &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true}}
			r, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+l.Addr().String()+"/v1/ops", nil)
			if err != nil {
				t.Fatal(err)
			}
			if c.token != "" {
				r.Header.Set("Authorization", "Bearer "+c.token)
			}
			resp, err := web.Do(r)
			if err != nil {
				if c.status != 0 {
					t.Errorf("no answer (%v), want %d", err, c.status)
				}
				return
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != c.status {
				t.Errorf("status %d, want %d: %s", resp.StatusCode, c.status, body)
			}
		})
	}
	if !strings.Contains(s.log.String(), "caller=by-cert") {
		t.Errorf("the log does not name the caller: %s", s.log)
	}
}

func TestClientsThatCantBeMeant(t *testing.T) {
	good := httpapi.Client{Name: "a", Subject: "CN=a", Scopes: []httpapi.Scope{httpapi.Read}}
	for name, clients := range map[string][]httpapi.Client{
		"no name":              {{Subject: "CN=a", Scopes: good.Scopes}},
		"no subject":           {{Name: "a", Scopes: good.Scopes}},
		"a name for a subject": {{Name: "a", Subject: "controller", Scopes: good.Scopes}},
		"no scope":             {{Name: "a", Subject: "CN=a"}},
		"a subject twice":      {good, {Name: "b", Subject: "CN=a", Scopes: good.Scopes}},
		"a name twice":         {good, {Name: "a", Subject: "CN=b", Scopes: good.Scopes}},
		"a token's name":       {{Name: "controller", Subject: "CN=a", Scopes: good.Scopes}},
	} {
		if err := httpapi.CheckCallers(tokenWith(httpapi.Read), clients); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if err := httpapi.CheckCallers(tokenWith(httpapi.Read), []httpapi.Client{good}); err != nil {
		t.Errorf("a good one: %v", err)
	}
}
