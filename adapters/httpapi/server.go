package httpapi

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
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
