package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"writ/adapters/httpapi"
)

func TestWhoIsLetInIsCheckedBeforeAnything(t *testing.T) {
	digest := strings.Repeat("ab", 32)
	tlsKeys := "tls: {cert_file: c, key_file: k}\n"
	for name, c := range map[string]struct {
		add  string
		says string // empty: it is fine
	}{
		"nothing":                          {"", ""},
		"a place for tokens":               {"tokens_file: t\n", ""},
		"and listening everywhere":         {"tokens_file: t\nlisten: 0.0.0.0:7420\n", ""},
		"listening everywhere":             {"listen: 0.0.0.0:7420\n", "loopback"},
		"certificates":                     {tlsKeys + "clients: {ca_file: a, certificates: [{name: x, subject: CN=x, scopes: [read]}]}\n", ""},
		"certificates everywhere":          {tlsKeys + "listen: 0.0.0.0:7420\nclients: {ca_file: a}\n", ""},
		"certificates without TLS":         {"clients: {ca_file: a}\n", "clients.ca_file: given without tls"},
		"certificates without authorities": {tlsKeys + "clients: {certificates: [{name: x, subject: CN=x, scopes: [read]}]}\n", "clients.ca_file: missing"},
		"demanded without authorities":     {tlsKeys + "clients: {required: true}\n", "clients.ca_file: missing"},
		"a subject that is none":           {tlsKeys + "clients: {ca_file: a, certificates: [{name: x, subject: x, scopes: [read]}]}\n", "clients.certificates[0]: client \"x\": subject"},
		"a scope that is none":             {"tokens: [{name: x, sha256: " + digest + ", scopes: [root]}]\n", "scopes[0]: \"root\" is none of submit, read, resolve, void, backup"},
		"a name for two": {
			tlsKeys + "tokens: [{name: x, sha256: " + digest + ", scopes: [read]}]\nclients: {ca_file: a, certificates: [{name: x, subject: CN=x, scopes: [read]}]}\n",
			"clients.certificates[0]: client \"x\": name: it is that of another caller",
		},
		"no requests at all": {"limits: {requests_per_second: 0}\n", "limits.requests_per_second: 0 is not from 1"},
		"no subscribers":     {"limits: {subscribers: -1}\n", "limits.subscribers: -1 is not from 1"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := loadConfig(writeFile(t, "writ.yaml", minimalConfig+c.add), nil)
			if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want an error that says %q", err, c.says)
			}
		})
	}
}

// A tokensConfig is one that has a place for tokens and nothing in it.
func tokensConfig(t *testing.T) (c *config, path string) {
	t.Helper()
	path = writeFile(t, "writ.yaml", minimalConfig+"tokens_file: tokens.yaml\n")
	c, err := loadConfig(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c, path
}

// Of two who change the file at once, neither may undo what the other did.
func TestTokensAreChangedOneAtATime(t *testing.T) {
	c, path := tokensConfig(t)
	const each = 8
	var all sync.WaitGroup
	for _, who := range []string{"a", "b", "c"} {
		all.Go(func() {
			for i := range each {
				name := who + string(rune('0'+i))
				var errs bytes.Buffer
				if code := run(t.Context(), []string{"token", "create", name, "--scope", "read", "--config", path}, nil, io.Discard, &errs); code != 0 {
					t.Errorf("create %s: exit code %d: %s", name, code, errs.String())
				}
				if i%2 == 1 {
					if code := run(t.Context(), []string{"token", "revoke", name, "--config", path}, nil, io.Discard, &errs); code != 0 {
						t.Errorf("revoke %s: exit code %d: %s", name, code, errs.String())
					}
				}
			}
		})
	}
	all.Wait()
	tokens, err := c.callers()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, tok := range tokens {
		names = append(names, tok.Name)
	}
	slices.Sort(names)
	if got, want := strings.Join(names, " "), "a0 a2 a4 a6 b0 b2 b4 b6 c0 c2 c4 c6"; got != want {
		t.Errorf("tokens of %s, want those of %s", got, want)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*"))
	if err != nil || len(left) != 2 {
		t.Errorf("files %v (%v), want the configuration and the tokens alone", left, err)
	}
}

func TestATokensFileThatCantBeMeant(t *testing.T) {
	c, path := tokensConfig(t)
	digest := strings.Repeat("ab", 32)
	one := "{name: x, sha256: " + digest + ", scopes: [read], created: 2026-11-23T09:00:00Z}"
	for name, f := range map[string]struct{ text, says string }{
		"one":             {"tokens: [" + one + "]\n", ""},
		"none":            {"tokens: []\n", ""},
		"expiring":        {"tokens: [" + strings.Replace(one, "}", ", expires: 2027-01-01T00:00:00Z}", 1) + "]\n", ""},
		"twice":           {"tokens: [" + one + ", " + one + "]\n", "name: it is that of another caller"},
		"an unknown key":  {"tokens: [{nam: x}]\n", "unknown key \"tokens[0].nam\""},
		"no digest":       {"tokens: [{name: x, scopes: [read]}]\n", "sha256: missing"},
		"half a digest":   {"tokens: [{name: x, sha256: abab, scopes: [read]}]\n", "tokens[0].sha256"},
		"empty":           {"", "holds nothing"},
		"a date and time": {"tokens: [" + strings.Replace(one, "2026-11-23T09:00:00Z", "yesterday", 1) + "]\n", "tokens[0].created"},
	} {
		if err := os.WriteFile(c.TokensFile, []byte(f.text), 0o600); err != nil {
			t.Fatal(err)
		}
		tokens, err := c.callers()
		if (err == nil) != (f.says == "") || err != nil && (!strings.Contains(err.Error(), f.says) || !strings.Contains(err.Error(), "tokens.yaml")) {
			t.Errorf("%s: %+v, %v; want an error that names the file and says %q", name, tokens, err, f.says)
		}
		var errs bytes.Buffer
		if code := run(t.Context(), []string{"token", "ls", "--config", path}, nil, io.Discard, &errs); name == "empty" && code == 0 {
			t.Errorf("%s: listed", name)
		}
	}
}

// issue writes a client's certificate and key, and its authority's certificate.
func issue(t *testing.T, subject pkix.Name) (caFile, certFile, keyFile string) {
	t.Helper()
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: subject, NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	write := func(name, kind string, der []byte, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		return writeFile(t, name, string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	caFile = write("ca.pem", "CERTIFICATE", caDER, err)
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	certFile = write("client.pem", "CERTIFICATE", leafDER, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	return caFile, certFile, write("client.key", "PRIVATE KEY", keyDER, err)
}

// The whole service over TLS: a client certificate in place of a token, figures
// for Prometheus, and events over HTTP/2.
func TestCallersWithCertificates(t *testing.T) {
	c := newServiceConfig(t)
	c.TLS = selfSigned(t)
	caFile, certFile, keyFile := issue(t, pkix.Name{CommonName: "prometheus", Organization: []string{"Lab"}})
	c.Clients = clientsConfig{CAFile: caFile, Certificates: []clientConfig{
		{Name: "prometheus", Subject: "CN=prometheus,O=Lab", Scopes: []httpapi.Scope{httpapi.Read}},
	}}
	s, err := start(t, c, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer stop(t, s)
	ask := func(args ...string) (int, string) {
		var out, errs strings.Builder
		code := run(t.Context(), append(args, "--url", s.URL, "--service-ca-file", c.TLS.CertFile), strings.NewReader(""), &out, &errs)
		return code, out.String() + errs.String()
	}
	if code, text := ask("ops", "ls"); code != exitFailed || !strings.Contains(text, "unauthorized") {
		t.Errorf("without anything: exit code %d: %s; want it refused", code, text)
	}
	if code, text := ask("ops", "ls", "--client-cert-file", certFile, "--client-key-file", keyFile); code != 0 {
		t.Errorf("with the certificate: exit code %d: %s", code, text)
	}
	if code, text := ask("ops", "ls", "--client-cert-file", certFile); code != exitUsage {
		t.Errorf("with half of it: exit code %d: %s", code, text)
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	text, err := os.ReadFile(c.TLS.CertFile)
	if err != nil || !roots.AppendCertsFromPEM(text) {
		t.Fatalf("read the service's certificate: %v", err)
	}
	web := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}}}
	defer web.CloseIdleConnections()
	fetch := func(path string) *http.Response {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := web.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 {
			t.Errorf("GET %s: %s over %s, want 200 over HTTP/2", path, resp.Status, resp.Proto)
		}
		return resp
	}
	resp := fetch("/metrics")
	figures, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	for _, want := range []string{
		`writ_view_caught_up{view="recoveryqueue"} 1`, `writ_queue_limit 1024`, `writ_launching_halted 0`, `writ_ops_in_flight{state="launching"} 0`,
		`writ_http_requests_total{operation="GET /v1/ops",status="401"} 1`, `writ_build_info{version="test"} 1`, `writ_ledger_disk_free_bytes `, `go_goroutines `,
	} {
		if !bytes.Contains(figures, []byte(want)) {
			t.Errorf("the figures lack %s:\n%s", want, figures)
		}
	}
	events := fetch("/v1/events")
	seen := make([]byte, 0, 4096)
	for !bytes.Contains(seen, []byte("event: caught-up")) {
		b := make([]byte, 1024)
		n, err := events.Body.Read(b)
		if seen = append(seen, b[:n]...); err != nil {
			t.Fatalf("events: %v after %s", err, seen)
		}
	}
	if !bytes.Contains(seen, []byte(`"type":"PolicyLoaded"`)) {
		t.Errorf("events %s, want the policy among them", seen)
	}
	_ = events.Body.Close()

	required := *c
	required.Clients.Required = true
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if err := required.Clients.demand(conf); err != nil || conf.ClientAuth != tls.RequireAndVerifyClientCert {
		t.Errorf("required: %v, %v; want it demanded", conf.ClientAuth, err)
	}
	if err := (clientsConfig{CAFile: c.Policy.Path}).demand(conf); err == nil || !strings.Contains(err.Error(), "clients.ca_file") {
		t.Errorf("authorities that are none: %v, want an error of clients.ca_file", err)
	}
}
