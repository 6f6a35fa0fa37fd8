package pvesim

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

// nodeServer is one node's listener, closed while the node is down.
type nodeServer struct {
	addr    string // with the real port, once open
	handler http.Handler
	tls     *tls.Config // nil for plain HTTP
	print   string
	pipes   *pipes // nil: a socket
	busy    inFlight
	conns   connAges

	mu   sync.Mutex // guards srv and done
	srv  *http.Server
	done chan struct{}
}

// inFlight counts running handlers. A WaitGroup would not do: a request may come
// in while somebody waits for none to be left.
type inFlight struct {
	mu   sync.Mutex // guards the fields below
	n    int
	idle chan struct{} // closed when n falls to zero; nil if nobody waits
}

func (f *inFlight) add(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n += n
	if f.n == 0 && f.idle != nil {
		close(f.idle)
		f.idle = nil
	}
}

func (f *inFlight) wait() {
	f.mu.Lock()
	if f.n == 0 {
		f.mu.Unlock()
		return
	}
	if f.idle == nil {
		f.idle = make(chan struct{})
	}
	idle := f.idle
	f.mu.Unlock()
	<-idle
}

func (ns *nodeServer) serve(w http.ResponseWriter, r *http.Request) {
	ns.busy.add(1)
	defer ns.busy.add(-1)
	ns.handler.ServeHTTP(w, r)
}

func (ns *nodeServer) open() error {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if ns.srv != nil {
		return nil
	}
	l, err := ns.listen()
	if err != nil {
		return err
	}
	ns.addr = l.Addr().String()
	if ns.tls != nil {
		l = tls.NewListener(l, ns.tls)
	}
	srv := &http.Server{
		Handler: http.HandlerFunc(ns.serve), IdleTimeout: 5 * time.Second, ReadHeaderTimeout: 5 * time.Second,
		ErrorLog:    log.New(io.Discard, "", 0),
		ConnState:   ns.conns.note,
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context { return countRequests(ctx) },
	}
	done := make(chan struct{})
	ns.srv, ns.done = srv, done
	go func() {
		defer close(done)
		_ = srv.Serve(l) // always the error of having been closed
	}()
	return nil
}

func (ns *nodeServer) listen() (net.Listener, error) {
	if ns.pipes != nil {
		return ns.pipes.listen(ns.addr), nil
	}
	var lc net.ListenConfig
	return lc.Listen(context.Background(), "tcp", ns.addr)
}

// reload closes the connections there are: at once those on which no request is
// under way, the others when theirs is answered.
func (ns *nodeServer) reload() {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if ns.srv == nil {
		return
	}
	ns.conns.reload()
	ns.srv.SetKeepAlivesEnabled(false) // closes the idle ones
	ns.srv.SetKeepAlivesEnabled(true)
}

// connAges knows for each connection since which reload it is there.
type connAges struct {
	mu    sync.Mutex // guards the fields below
	age   int
	since map[net.Conn]int
}

func (a *connAges) reload() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.age++
}

// note follows a connection's state, and closes one that becomes idle after a
// reload.
func (a *connAges) note(c net.Conn, state http.ConnState) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch state {
	case http.StateNew:
		if a.since == nil {
			a.since = map[net.Conn]int{}
		}
		a.since[c] = a.age
	case http.StateIdle:
		if a.since[c] < a.age {
			_ = c.Close()
		}
	case http.StateHijacked, http.StateClosed:
		delete(a.since, c)
	case http.StateActive:
	}
}

func (ns *nodeServer) shut() {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if ns.srv == nil {
		return
	}
	_ = ns.srv.Close()
	<-ns.done
	ns.srv = nil
}
