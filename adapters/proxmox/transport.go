package proxmox

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"time"

	"writ/domain/op"
)

// Bounds of what is read from the host. A listing of ten thousand guests takes
// about five megabytes.
const (
	maxReply       = 32 << 20
	maxLaunchReply = 1 << 20
	maxErrorReply  = 64 << 10
)

// Bounds of the two steps to a connection. A launch is given little time: it
// follows from a look at the guest, and a VMID is used again within seconds, so
// a request that leaves a minute late may find another guest there. Until there
// is a connection giving up is proof that nothing was sent.
const (
	readConnect   = 30 * time.Second
	launchConnect = 4 * time.Second
)

// newTransport makes a transport that takes nothing from the environment and
// speaks HTTP/1.1 only, which is all that Proxmox VE does. (Over HTTP/2
// net/http repeats requests on its own judgement.)
func newTransport(tlsConf *tls.Config, dial dialFunc, connect time.Duration) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	if dial == nil {
		dial = (&net.Dialer{KeepAlive: 15 * time.Second}).DialContext
	}
	return &http.Transport{
		Proxy:                  nil,
		DialContext:            within(connect, dial),
		TLSClientConfig:        tlsConf,
		TLSHandshakeTimeout:    connect,
		Protocols:              protocols,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    4,
		IdleConnTimeout:        4 * time.Second, // the host closes idle connections after 5 seconds
		MaxResponseHeaderBytes: 64 << 10,
	}
}

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

func within(d time.Duration, dial dialFunc) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, d)
		defer cancel()
		return dial(ctx, network, address)
	}
}

// noRedirect keeps http.Client from following: a redirect may be answered by
// anyone on the way, and a 308 would send a DELETE a second time.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// An exchange is the permission for exactly one request and the place for its
// answer. A request without one does not leave the process.
type exchange struct {
	host string      // host and port it may go to
	as   *credential // that it is sent with
	want op.Request  // for reads only the method is set
	// change is what the request changes; nil for reads.
	change *mutation

	used atomic.Bool
	// connected is set once net/http has a connection for the request, its TLS
	// handshake done. Until then no byte of the request can have been sent.
	connected atomic.Bool
	body      []byte // of an answer with status 200
}

type exchangeKey struct{}

func withExchange(ctx context.Context, x *exchange) context.Context {
	return context.WithValue(ctx, exchangeKey{}, x)
}

// A courier carries one request per exchange and turns every answer but 200
// into an error that keeps what the answer said.
type courier struct {
	base     http.RoundTripper
	limit    int64
	mutating bool
}

// RoundTrip implements http.RoundTripper.
func (c *courier) RoundTrip(req *http.Request) (*http.Response, error) {
	fail := func(written bool, err error) (*http.Response, error) {
		return nil, &RequestError{Method: req.Method, Path: pathBelowRoot(req), Written: written, Err: err}
	}
	x, _ := req.Context().Value(exchangeKey{}).(*exchange)
	if err := c.guard(req, x); err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return fail(false, err)
	}
	if !x.used.CompareAndSwap(false, true) {
		// This one is not sent, but the first was, and the caller hears of one
		// request only: it must not take this for proof.
		return fail(true, errors.New("refused: the exchange's one request was already sent"))
	}
	// GotConn comes after the handshake and before the first byte of the
	// request. It may also come for a request that is given up right then:
	// that only makes a failure look more dangerous than it is.
	ctx := httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { x.connected.Store(true) },
	})
	out := req.Clone(ctx)
	// With GetBody or an idempotency key net/http may send a request again
	// after a broken connection (net/http Request.isReplayable).
	out.GetBody = nil
	x.as.stamp(out.Header)
	if x.change != nil && x.change.form != nil {
		form := x.change.form.Encode()
		out.Body, out.ContentLength = io.NopCloser(strings.NewReader(form)), int64(len(form))
		out.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	res, err := c.base.RoundTrip(out)
	if err != nil {
		return fail(x.connected.Load(), err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return nil, readStatusError(req, res)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, c.limit+1))
	if err != nil {
		return fail(true, fmt.Errorf("the answer broke off: %w", err))
	}
	if int64(len(body)) > c.limit {
		return fail(true, fmt.Errorf("the answer is longer than %d bytes", c.limit))
	}
	x.body = body
	res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(nil)), 0
	return res, nil
}

// guard is the last gate before the network. It runs before any dial, so
// whatever it refuses was not written.
func (c *courier) guard(req *http.Request, x *exchange) error {
	switch {
	case x == nil:
		return errors.New("refused: no exchange was opened for this request")
	case req.URL.Host != x.host:
		return fmt.Errorf("refused: the exchange is with %s, not with %s", x.host, req.URL.Host)
	case req.Body != nil && req.Body != http.NoBody:
		return errors.New("refused: the request has a body")
	case req.Header.Get("Idempotency-Key") != "" || req.Header.Get("X-Idempotency-Key") != "":
		return errors.New("refused: net/http would repeat a request that has an idempotency key")
	case req.Method != x.want.Method:
		return fmt.Errorf("refused: method %s, %s was announced", req.Method, x.want.Method)
	case !c.mutating && req.Method != http.MethodGet:
		return fmt.Errorf("refused: %s over the connection for reads", req.Method)
	case c.mutating != (x.change != nil):
		return errors.New("refused: what changes something and what reads go over different connections")
	case x.as.isTicketOf(rootUser) != x.change.isRoots():
		return errors.New("refused: a ticket of root@pam is for the wipe of a disk and nothing else, and that for it alone")
	case c.mutating && (pathBelowRoot(req) != x.want.Path || req.URL.RawQuery != x.want.Query):
		return fmt.Errorf("refused: %s?%s is not what was announced", pathBelowRoot(req), req.URL.RawQuery)
	}
	if c.mutating {
		if err := x.change.check(); err != nil {
			return fmt.Errorf("refused: %w", err)
		}
	}
	return nil
}

// pathBelowRoot is the request's path as it is sent, without the API's root.
func pathBelowRoot(req *http.Request) string {
	path := req.URL.EscapedPath()
	if len(path) > len(apiRoot) && path[:len(apiRoot)] == apiRoot {
		return path[len(apiRoot):]
	}
	return path
}
