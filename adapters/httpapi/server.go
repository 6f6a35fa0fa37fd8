package httpapi

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Server gives a server for the API, with bounds on every phase of a request.
// It is not started. tlsConf may be nil, for plain HTTP.
func (a *API) Server(tlsConf *tls.Config) *http.Server {
	return &http.Server{
		Handler:           a.Handler(),
		TLSConfig:         tlsConf,
		ReadHeaderTimeout: 5 * time.Second,
		// For headers and body together. The submission takes the deadline
		// away once it has the body, or waiting for an op would be cut short.
		ReadTimeout:    15 * time.Second,
		WriteTimeout:   admitTime + MaxWait + 30*time.Second,
		IdleTimeout:    2 * time.Minute,
		MaxHeaderBytes: 32 << 10,
		ErrorLog:       slog.NewLogLogger(a.cfg.Log.Handler(), slog.LevelDebug),
	}
}

// Serve answers requests that come in through a listener until the server is
// shut down, and gives nil then. It refuses a listener that is open to others
// than this machine if there is no token to tell them apart.
func (a *API) Serve(srv *http.Server, l net.Listener) error {
	if err := CheckListen(l.Addr().String(), len(a.cfg.Tokens) > 0); err != nil {
		return fmt.Errorf("serve http: %w", err)
	}
	l = &bounded{Listener: l, places: make(chan struct{}, a.cfg.MaxConnections), closed: make(chan struct{})}
	var err error
	if srv.TLSConfig != nil {
		err = srv.ServeTLS(l, "", "")
	} else {
		err = srv.Serve(l)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve http: %w", err)
}

// A bounded listener accepts no more connections than there are places. The
// ledger needs file handles of the same process: it must not find that
// strangers hold them all, with connections on which they say nothing.
type bounded struct {
	net.Listener

	places chan struct{} // one for each connection that may be open
	closed chan struct{}
	once   sync.Once
}

// Accept implements net.Listener. It waits for a place first; connections wait
// in the kernel meanwhile.
func (b *bounded) Accept() (net.Conn, error) {
	select {
	case b.places <- struct{}{}:
	case <-b.closed:
		return nil, net.ErrClosed
	}
	c, err := b.Listener.Accept()
	if err != nil {
		<-b.places
		return nil, err
	}
	return &placed{Conn: c, leave: sync.OnceFunc(func() { <-b.places })}, nil
}

// Close implements net.Listener.
func (b *bounded) Close() error {
	b.once.Do(func() { close(b.closed) })
	return b.Listener.Close()
}

// placed is a connection that holds a place until it is closed.
type placed struct {
	net.Conn

	leave func()
}

// Close implements net.Conn.
func (p *placed) Close() error {
	defer p.leave()
	return p.Conn.Close()
}
