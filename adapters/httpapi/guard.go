package httpapi

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"regexp"
	"runtime/debug"
	"time"
)

// Handler gives the API as a handler. A panic in it becomes a 500; requests
// beyond the bound on concurrency are turned away with a 503.
func (a *API) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o := &observed{ResponseWriter: w}
		began := a.cfg.Now()
		defer func() { a.logRequest(r, o, began) }()
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
				defer func() { <-a.slots }()
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
func probe(p string) bool { return p == healthPath || p == readyPath }

// observed remembers what was answered.
type observed struct {
	http.ResponseWriter
	status int
	caller string
}

// WriteHeader implements http.ResponseWriter.
func (o *observed) WriteHeader(status int) {
	if o.status == 0 {
		o.status = status
	}
	o.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (o *observed) Write(b []byte) (int, error) {
	if o.status == 0 {
		o.status = http.StatusOK
	}
	return o.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (o *observed) Unwrap() http.ResponseWriter { return o.ResponseWriter }

func noteCaller(w http.ResponseWriter, caller string) {
	if o, ok := w.(*observed); ok {
		o.caller = caller
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
