package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"writ/adapters/httpapi"
)

// maxReplyBytes bounds what is taken from a service.
const maxReplyBytes = 16 << 20

// clientFlags say which service to ask, and as whom.
type clientFlags struct {
	url, tokenFile, caFile string
	certFile, keyFile      string
}

func (f *clientFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.url, "url", envOr(urlVariable, "http://"+defaultListen), "the service; $"+urlVariable+" names another default")
	fl.StringVar(&f.tokenFile, "token-file", os.Getenv(tokenFileVariable), "file with the bearer token; $"+tokenFileVariable+" names a default")
	fl.StringVar(&f.caFile, "service-ca-file", "", "certificate authority of the service, in place of the system's")
	fl.StringVar(&f.certFile, "client-cert-file", "", "certificate to show the service, in place of a token")
	fl.StringVar(&f.keyFile, "client-key-file", "", "its private key")
}

func envOr(name, def string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return def
}

// A client asks a service. It sends each request once: whoever repeats knows
// that it is safe to.
type client struct {
	base  string
	token []byte
	http  *http.Client
}

func (f clientFlags) open() (*client, error) {
	u, err := url.Parse(f.url)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return nil, usagef("--url: %q is not the URL of a service, such as http://%s", f.url, defaultListen)
	}
	c := &client{base: u.Scheme + "://" + u.Host}
	if f.tokenFile != "" {
		if c.token, err = readSecretFile(f.tokenFile); err != nil {
			return nil, err
		}
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.caFile != "" {
		pem, err := readBounded(f.caFile, maxYAMLBytes)
		if err != nil {
			return nil, err
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--service-ca-file: %s holds no certificate in PEM form", f.caFile)
		}
	}
	if (f.certFile == "") != (f.keyFile == "") {
		return nil, usagef("--client-cert-file and --client-key-file go together")
	}
	if f.certFile != "" {
		cert, err := tls.LoadX509KeyPair(f.certFile, f.keyFile)
		if err != nil {
			return nil, fmt.Errorf("--client-cert-file: %w", err)
		}
		conf.Certificates = []tls.Certificate{cert}
	}
	// A connection of its own for each request: one that was kept may be dead,
	// and net/http would then send some requests again by itself.
	c.http = &http.Client{
		Transport:     &http.Transport{TLSClientConfig: conf, DisableKeepAlives: true, Proxy: http.ProxyFromEnvironment},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// A reply is what a service answered: with a problem, or with a body.
type reply struct {
	status     int
	body       []byte
	problem    *httpapi.Problem
	retryAfter time.Duration
}

// do sends one request. The error means that nobody knows whether it arrived.
func (c *client) do(ctx context.Context, method, path string, body any) (reply, error) {
	var send io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return reply{}, err
		}
		send = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, send)
	if err != nil {
		return reply{}, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != nil {
		req.Header.Set("Authorization", "Bearer "+string(c.token))
	}
	resp, err := c.http.Do(req)
	if err != nil {
		// Without the URL, which holds nonces.
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return reply{}, fmt.Errorf("ask %s: %w", c.base, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxReplyBytes))
	if err != nil {
		return reply{}, fmt.Errorf("ask %s: read the answer: %w", c.base, err)
	}
	return readReply(c.base, resp, data)
}

func readReply(base string, resp *http.Response, data []byte) (reply, error) {
	r := reply{status: resp.StatusCode, body: data}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 && s <= 3600 {
		r.retryAfter = time.Duration(s) * time.Second
	}
	kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	switch {
	case kind == "application/problem+json":
		r.problem = new(httpapi.Problem)
		if err := json.Unmarshal(data, r.problem); err != nil || r.problem.Status != resp.StatusCode {
			return reply{}, fmt.Errorf("ask %s: the answer is not one of writ's (%s)", base, resp.Status)
		}
	case resp.StatusCode < 200 || resp.StatusCode > 299 || kind != "application/json":
		return reply{}, fmt.Errorf("ask %s: the answer is not one of writ's (%s, %s): is there something else in between?", base, resp.Status, kind)
	}
	return r, nil
}

// get asks a question and reads the answer into out.
func (c *client) get(ctx context.Context, path string, out any) error {
	r, err := c.do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	if r.problem != nil {
		return r.problem
	}
	if err := json.Unmarshal(r.body, out); err != nil {
		return fmt.Errorf("ask %s: the answer can't be read: %w", c.base, err)
	}
	return nil
}

// A plainWriter lets text through and nothing that a terminal would obey: what
// a service answers holds words of the host's, and those of whoever named a
// guest.
type plainWriter struct{ w io.Writer }

// Write implements io.Writer. Lines end and columns stand as they did.
func (p plainWriter) Write(b []byte) (int, error) {
	text := strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) {
			return '·'
		}
		return r
	}, strings.ToValidUTF8(string(b), "·"))
	if _, err := io.WriteString(p.w, text); err != nil {
		return 0, err
	}
	return len(b), nil
}
