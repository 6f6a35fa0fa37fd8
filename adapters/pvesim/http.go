package pvesim

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// requestsPerConnection is after how many requests a connection is closed.
const requestsPerConnection = 100

// Handler serves the API of the first node, and the simulator's own endpoints
// below /sim/, over any HTTP server of package net/http that speaks HTTP/1.
func (s *Sim) Handler() http.Handler { return s.NodeHandler("") }

// NodeHandler serves the API as the given node answers it.
func (s *Sim) NodeHandler(node string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/sim/") {
			s.serveAdmin(w, r)
			return
		}
		req, readErr := readRequest(node, r)
		if readErr != nil {
			write(w, r, s.now(), plain(500, "error reading request"))
			return
		}
		write(w, r, s.now(), s.Do(r.Context(), req))
	})
}

func readRequest(node string, r *http.Request) (Request, error) {
	path, err := url.PathUnescape(r.URL.EscapedPath())
	if err != nil {
		path = r.URL.Path
	}
	req := Request{Node: node, Method: r.Method, Path: path, Query: r.URL.RawQuery, Header: r.Header}
	if len(r.TransferEncoding) > 0 {
		req.Chunked = true // refused whatever it holds; read so that the refusal arrives
		_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, maxBody))
		return req, nil
	}
	// Twice the limit is read at most, so that the refusal reaches a client that
	// is still sending.
	req.Body, err = io.ReadAll(io.LimitReader(r.Body, 2*maxBody+1))
	return req, err
}

// write sends a reply. net/http knows neither custom reason phrases nor replies
// without a length, so everything but a plain success is written by hand, and
// the connection closed, as the real server does on every error.
func write(w http.ResponseWriter, r *http.Request, now time.Time, resp Response) {
	h := w.Header()
	h.Set("Server", "pve-api-daemon/3.0")
	h.Set("Cache-Control", "max-age=0")
	h.Set("Pragma", "no-cache")
	stamp := now.UTC().Format(http.TimeFormat)
	h.Set("Date", stamp)
	h.Set("Expires", stamp)
	if resp.ContentType != "" {
		h.Set("Content-Type", resp.ContentType)
	}
	hj, canHijack := w.(http.Hijacker)
	if resp.Cut && !canHijack {
		panic(http.ErrAbortHandler)
	}
	if !canHijack || resp.Status < 400 && !resp.Cut {
		if n, ok := r.Context().Value(connCount{}).(*atomic.Int32); ok && n.Add(1) >= requestsPerConnection {
			h.Set("Connection", "close")
		}
		if !resp.NoLength {
			h.Set("Content-Length", strconv.Itoa(len(resp.Body)))
		}
		w.WriteHeader(resp.Status)
		_, _ = w.Write(resp.Body) // the client has gone: nobody is left to tell
		return
	}
	conn, buf, err := hj.Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer func() { _ = conn.Close() }()
	if !resp.Cut {
		writeRaw(buf.Writer, r, h, resp)
	}
}

func writeRaw(w *bufio.Writer, r *http.Request, h http.Header, resp Response) {
	if resp.Body != nil && !resp.NoLength {
		h.Set("Content-Length", strconv.Itoa(len(resp.Body)))
	}
	h.Set("Connection", "close")
	proto := "HTTP/1.1"
	if !r.ProtoAtLeast(1, 1) {
		proto = "HTTP/1.0"
	}
	_, _ = w.WriteString(proto + " " + strconv.Itoa(resp.Status) + " " + strings.NewReplacer("\r", " ", "\n", " ").Replace(resp.Reason) + "\r\n")
	_ = h.Write(w)
	_, _ = w.WriteString("\r\n")
	_, _ = w.Write(resp.Body)
	_ = w.Flush()
}

// connCount is the context key of a connection's request counter.
type connCount struct{}

func countRequests(ctx context.Context) context.Context {
	return context.WithValue(ctx, connCount{}, new(atomic.Int32))
}
