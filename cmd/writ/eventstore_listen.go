package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"

	"writ/adapters/esdbserver"
)

// eventsAccess is who may connect to the events of a store, and how.
type eventsAccess struct {
	Cert, Key          string // PEM files; both or neither
	User, PasswordFile string // both or neither
	// Insecure allows what lets strangers in or passwords be overheard.
	Insecure bool
}

const maxPasswordBytes = 1 << 10

// check refuses what would let in whoever happens to reach the address.
func (e eventsAccess) check(listen string) error {
	host, port, err := net.SplitHostPort(listen)
	switch {
	case err != nil:
		return usagef("--listen: %q is not an address and port", listen)
	case (e.Cert == "") != (e.Key == ""):
		return usagef("--tls-cert and --tls-key go together: give both, or neither")
	case (e.User == "") != (e.PasswordFile == ""):
		return usagef("--user and --password-file go together: give both, or neither")
	case strings.Contains(e.User, ":"):
		return usagef("--user: %q: a name has no colon, which ends it in the protocol", e.User)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return usagef("--listen: %q is not a port", port)
	}
	ip := net.ParseIP(host)
	if e.Insecure || host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	switch {
	case e.User == "":
		return usagef("--listen: %s is not a loopback address, and without --user everybody who reaches it is let in: give --user and --password-file, or --insecure if something else sees to that", listen)
	case e.Cert == "":
		return usagef("--listen: %s is not a loopback address, and without TLS the password can be overheard: give --tls-cert and --tls-key, or --insecure if something else sees to that", listen)
	}
	return nil
}

// users reads the password.
func (e eventsAccess) users() (map[string]esdbserver.Password, error) {
	if e.User == "" {
		return nil, nil
	}
	text, err := readBounded(e.PasswordFile, maxPasswordBytes)
	if err != nil {
		return nil, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	if line = strings.TrimSuffix(line, "\r"); line == "" {
		return nil, fmt.Errorf("read %s: the first line is empty, the password stands there", e.PasswordFile)
	}
	return map[string]esdbserver.Password{e.User: esdbserver.Password(line)}, nil
}

func (e eventsAccess) tls() (*tls.Config, error) {
	if e.Cert == "" {
		return nil, nil
	}
	certificate, err := tls.LoadX509KeyPair(e.Cert, e.Key)
	if err != nil {
		return nil, fmt.Errorf("read certificate %s and key %s: %v", e.Cert, e.Key, err)
	}
	return &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}, nil
}

// An eventServer serves the events of a store at one address.
type eventServer struct {
	URL  string // a connection string for clients, without credentials
	Addr string // where it listens
	// Failed gives the error with which it ended by itself. It still has to be
	// stopped.
	Failed <-chan error

	server *esdbserver.Server
	ended  chan struct{} // closed when nothing listens any more
}

// startEvents listens and answers until Stop is called. Users and TLS of cfg
// are set from access. The store is the caller's, and stays open.
func startEvents(listen string, cfg esdbserver.Config, access eventsAccess) (*eventServer, error) {
	var err error
	if cfg.Users, err = access.users(); err != nil {
		return nil, err
	}
	if cfg.TLS, err = access.tls(); err != nil {
		return nil, err
	}
	server, err := esdbserver.New(cfg)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("serve events: %w", err)
	}
	failed := make(chan error, 1)
	s := &eventServer{Addr: l.Addr().String(), Failed: failed, server: server, ended: make(chan struct{})}
	s.URL = fmt.Sprintf("esdb://%s?tls=%t", s.Addr, cfg.TLS != nil)
	go func() {
		defer close(s.ended)
		if err := server.Serve(l); err != nil {
			failed <- err
		}
	}()
	return s, nil
}

// Stop ends subscriptions, waits for the appends under way as long as ctx
// lasts, and returns when nothing listens any more.
func (s *eventServer) Stop(ctx context.Context) error {
	err := s.server.Shutdown(ctx)
	<-s.ended
	return err
}
