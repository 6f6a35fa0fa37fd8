package httpapi

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"regexp"
	"runtime/debug"
	"sync"
	"time"
)

// Handler gives the API as a handler. A panic in it becomes a 500; requests
// beyond the bound on concurrency are turned away with a 503.
func (a *API) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o := &observed{ResponseWriter: w, operation: "other", release: func() {}}
		began := a.cfg.Now()
		defer func() {
			a.logRequest(r, o, began)
			a.cfg.Observer.Request(o.operation, o.status, a.cfg.Now().Sub(began))
		}()
		defer a.recover(o, r)
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "default-src 'none'")
		if !a.addressedHere(r) {
			send(o, problem(http.StatusMisdirectedRequest, reasonWrongHost,
				"without tokens, only requests addressed to localhost or a loopback address are answered"), a.cfg.Log)
			return
		}
		if !probe(r.URL.Path) { // a busy process is alive
			select {
			case a.slots <- struct{}{}:
				o.release = sync.OnceFunc(func() { <-a.slots })
				defer o.release()
			default:
				send(o, problem(http.StatusServiceUnavailable, reasonBusy, "too many requests are under way; nothing was done, send it again later"), a.cfg.Log)
				return
			}
		}
		a.route(o, r)
	})
}

// route gives what no operation takes an answer in the form of all others.
func (a *API) route(w *observed, r *http.Request) {
	_, pattern := a.mux.Handler(r)
	if pattern != "" && path.Clean(r.URL.Path) == r.URL.Path {
		w.operation = pattern
		a.mux.ServeHTTP(w, r)
		return
	}
	// Paths that are not clean would be redirected, which no caller of ours
	// needs. net/http knows whether it is the path or the method that is unknown; its
	// answer is taken for that, and not passed on.
	said := &unsaid{header: http.Header{}}
	a.mux.ServeHTTP(said, r)
	if said.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", said.header.Get("Allow"))
		send(w, problem(http.StatusMethodNotAllowed, reasonMethod, "the path knows only "+said.header.Get("Allow")), a.cfg.Log)
		return
	}
	send(w, problem(http.StatusNotFound, reasonNotFound, "no such path; see /openapi.json"), a.cfg.Log)
}

func (a *API) recover(w *observed, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(v)
	}
	a.cfg.Log.Error("a request made the service panic", "method", r.Method, "path", logPath(r.URL.Path),
		"panic", clip(fmt.Sprint(v)), "stack", string(debug.Stack()))
	if w.status != 0 {
		panic(http.ErrAbortHandler) // part of an answer is out: cut it, so that nobody takes it for whole
	}
	send(w, problem(http.StatusInternalServerError, reasonInternal,
		"the service is at fault; if this was a submission, send the same writ again to learn how the op stands"), a.cfg.Log)
}

func (a *API) logRequest(r *http.Request, w *observed, began time.Time) {
	level := slog.LevelInfo
	switch {
	case probe(r.URL.Path):
		level = slog.LevelDebug
	case w.status >= http.StatusInternalServerError:
		level = slog.LevelWarn
	}
	a.cfg.Log.Log(r.Context(), level, "request", "method", clip(r.Method), "path", logPath(r.URL.Path), "status", w.status,
		"caller", w.caller, "from", r.RemoteAddr, "took", a.cfg.Now().Sub(began).Round(time.Microsecond))
}

var longHex = regexp.MustCompile(`[0-9a-fA-F]{9,}`)

// logPath keeps nonces out of the log.
func logPath(p string) string {
	return clip(longHex.ReplaceAllStringFunc(p, func(s string) string { return s[:8] + "…" }))
}

// probe tells whether a path is asked for by machines all the time.
func probe(p string) bool { return p == healthPath || p == readyPath || p == metricsPath }

// answerTime bounds the writing of an answer, from its first byte on: a caller
// who takes it slowly must not hold a place that others wait for. Nobody
// follows the ledger within it; see feed.
const answerTime = 30 * time.Second

// observed remembers what was answered, and bounds how long that takes.
type observed struct {
	http.ResponseWriter
	status    int
	caller    string
	operation string // method and path, as registered
	streaming bool   // the answer bounds itself
	release   func() // gives the place among the requests back; may be called again
}

// WriteHeader implements http.ResponseWriter.
func (o *observed) WriteHeader(status int) {
	o.begin(status)
	o.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (o *observed) Write(b []byte) (int, error) {
	o.begin(http.StatusOK)
	return o.ResponseWriter.Write(b)
}

func (o *observed) begin(status int) {
	if o.status != 0 {
		return
	}
	o.status = status
	if !o.streaming {
		// Where it can't be set, as in a test without a connection, the server's own
		// deadline stands.
		_ = http.NewResponseController(o.ResponseWriter).SetWriteDeadline(time.Now().Add(answerTime))
	}
}

// Unwrap lets http.ResponseController reach the connection.
func (o *observed) Unwrap() http.ResponseWriter { return o.ResponseWriter }

func noteCaller(w http.ResponseWriter, caller string) {
	if o, ok := w.(*observed); ok {
		o.caller = caller
	}
}

// noteStreaming says that the answer bounds itself, and gives back its place
// among the requests.
func noteStreaming(w http.ResponseWriter) {
	if o, ok := w.(*observed); ok {
		o.streaming = true
		o.release()
	}
}

// unsaid takes an answer that nobody is to see.
type unsaid struct {
	header http.Header
	status int
}

func (u *unsaid) Header() http.Header         { return u.header }
func (u *unsaid) WriteHeader(status int)      { u.status = status }
func (u *unsaid) Write(b []byte) (int, error) { return len(b), nil }
