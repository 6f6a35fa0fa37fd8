package simulation_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"

	"writ/adapters/pvesim"
	"writ/domain/engine"
	"writ/domain/op"
)

// An adapter is what the service has for an op class: the real executor, whose
// questions are told apart by what they are asked for.
type adapter struct {
	engine.Executor

	by *process
}

// purposeKey is under what it is in a context what a question is asked for: two
// goroutines of a process may ask the same at one time.
type purposeKey struct{}

// launchKey is under what the announcement is in the context of its launch.
type launchKey struct{}

func asking(ctx context.Context, what, of string) context.Context {
	return context.WithValue(ctx, purposeKey{}, what+" "+of)
}

func (x adapter) Observe(ctx context.Context, a engine.Attempt) (op.Observed, error) {
	x.by.sim.world.looked[a.Nonce] = x.by.sim.step
	return x.Executor.Observe(asking(ctx, "look for", a.Nonce.Short()), a)
}

func (x adapter) Launch(ctx context.Context, a engine.Attempt, l *op.Launching) (string, error) {
	one := x.by.sim.launching(x.by, l)
	if at, ok := x.by.sim.world.looked[l.Nonce]; ok {
		one.announced = min(one.announced, at) // what it announces is as it was then
	}
	x.by.sim.world.beset(one, l)
	ctx = context.WithValue(ctx, launchKey{}, &launch{one, l})
	return x.Executor.Launch(asking(ctx, "launch", l.OpID[:8]), a, l)
}

func (x adapter) FindTasks(ctx context.Context, l *op.Launching) (engine.TaskSearch, error) {
	return x.Executor.FindTasks(asking(ctx, "find tasks of", l.OpID[:8]), l)
}

func (x adapter) Fence(ctx context.Context, l *op.Launching) (engine.Fence, error) {
	return x.Executor.Fence(asking(ctx, "fence", l.OpID[:8]), l)
}

func (x adapter) Probe(ctx context.Context, l *op.Launching, exit string, log []string) (engine.Finding, error) {
	return x.Executor.Probe(asking(ctx, "probe", l.OpID[:8]), l, exit, log)
}

// A launch is one call to launch, and what it may send.
type launch struct {
	sent *sent
	l    *op.Launching
}

// A carrier takes the requests of the adapter to the simulated cluster.
type carrier interface{ http.RoundTripper }

// A post is the carrier of one process. Each request is parked until the
// scheduler has it delivered.
type post struct{ by *process }

// RoundTrip implements http.RoundTripper.
func (t post) RoundTrip(req *http.Request) (*http.Response, error) {
	s := t.by.sim
	w := s.world
	r, err := readHTTP(req)
	if err != nil {
		return nil, err
	}
	c := &call{by: t.by, ctx: req.Context(), kind: asks}
	path := strings.TrimPrefix(r.Path, "/api2/json")
	what, _ := c.ctx.Value(purposeKey{}).(string)
	c.key = t.by.name + " " + what + ": " + r.Method + " " + path + " at " + r.Node
	if r.Method != http.MethodGet {
		c.kind = moves
		if w.announced(c.ctx, &r, path) {
			// Lost and late is what comes to mind first with what is launched.
			c.late = func() {
				w.late--
				w.pve.Serve(r, func(pvesim.Response) {})
			}
		}
	} else if r.Query != "" {
		c.key += "?" + r.Query
	}
	var got *pvesim.Response
	away := false
	c.act = func() {
		if away = w.down[r.Node]; away {
			return
		}
		c.begun = true
		w.pve.Serve(r, func(x pvesim.Response) {
			if !x.Cut {
				s.tell("host:", strconv.Itoa(x.Status), x.Reason, "to", c.key)
			}
			got, c.begun, c.acted, c.due = &x, false, true, s.now().Add(c.linger)
		})
	}
	err = s.park(c)
	if err == nil && away {
		err = errLost
	}
	if c.late != nil && c.fault == delayed && errors.Is(err, errNoAnswer) {
		w.late++
	}
	if trace := httptrace.ContextClientTrace(req.Context()); trace != nil && trace.GotConn != nil && !errors.Is(err, errLost) {
		trace.GotConn(httptrace.GotConnInfo{})
	}
	switch {
	case err != nil:
		return nil, err
	case got == nil || got.Cut:
		return nil, errNoAnswer
	}
	return writeHTTP(req, *got), nil
}

// direct is the carrier of people, for whom the host answers at once, or they
// give it up.
type direct struct{ world *world }

// RoundTrip implements http.RoundTripper.
func (t direct) RoundTrip(req *http.Request) (*http.Response, error) {
	r, err := readHTTP(req)
	if err != nil {
		return nil, err
	}
	var got *pvesim.Response
	t.world.pve.Serve(r, func(x pvesim.Response) { got = &x })
	if got == nil || got.Cut {
		return nil, errNoAnswer
	}
	return writeHTTP(req, *got), nil
}

func readHTTP(req *http.Request) (pvesim.Request, error) {
	path, err := url.PathUnescape(req.URL.EscapedPath())
	if err != nil {
		return pvesim.Request{}, err
	}
	node, _, _ := strings.Cut(req.URL.Host, ".")
	r := pvesim.Request{Node: node, Method: req.Method, Path: path, Query: req.URL.RawQuery, Header: req.Header}
	if req.Body != nil {
		r.Body, err = io.ReadAll(req.Body)
		_ = req.Body.Close()
	}
	return r, err
}

func writeHTTP(req *http.Request, x pvesim.Response) *http.Response {
	res := &http.Response{
		StatusCode: x.Status, Status: strconv.Itoa(x.Status) + " " + x.Reason, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: make(http.Header), Request: req, ContentLength: int64(len(x.Body)), Body: io.NopCloser(bytes.NewReader(x.Body)),
	}
	if x.ContentType != "" {
		res.Header.Set("Content-Type", x.ContentType)
	}
	return res
}

// announced marks the one request that a launch may send, and sees to it that
// nothing else takes anything away.
func (w *world) announced(ctx context.Context, r *pvesim.Request, path string) bool {
	l, _ := ctx.Value(launchKey{}).(*launch)
	want := ""
	if l != nil {
		want, _ = url.PathUnescape(l.l.Request.Path)
	}
	switch {
	case l != nil && r.Method == l.l.Request.Method && path == want && r.Query == l.l.Request.Query:
		if l.sent.requests++; l.sent.requests > 1 {
			w.sim.wrong("op %s: its request is sent a second time", l.l.OpID)
		}
		r.Tag = l.l.OpID
		return true
	case strings.HasPrefix(path, "/access/"):
	case r.Method == http.MethodPut && strings.HasSuffix(path, "/config") && strings.Contains(r.Query+string(r.Body), "protection=1"):
	default:
		w.sim.wrong("%s %s was sent, which nothing announces", r.Method, path)
	}
	return false
}
