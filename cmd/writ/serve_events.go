package main

import (
	"context"
	"errors"
	"fmt"

	"writ/adapters/esdbserver"
)

// A serveConfig says what the service answers to beside its HTTP interface.
type serveConfig struct {
	// EventsListen is where EventStoreDB clients may read and follow the
	// ledger: address and port. Nothing listens if it is not given. Whoever
	// reads there sees writs whole, also those that could still be submitted.
	EventsListen       string   `yaml:"events_listen"`
	EventsUser         string   `yaml:"events_user"`          // the name with which clients sign in
	EventsPasswordFile string   `yaml:"events_password_file"` // holds the password alone
	EventsTLS          tlsFiles `yaml:"events_tls"`
}

func (s serveConfig) access() eventsAccess {
	return eventsAccess{Cert: s.EventsTLS.CertFile, Key: s.EventsTLS.KeyFile, User: s.EventsUser, PasswordFile: s.EventsPasswordFile}
}

// checkServe finds what is missing, wrong or in conflict.
func (c *config) checkServe() *badKey {
	s := c.Serve
	switch {
	case s.EventsListen == "" && s != (serveConfig{}):
		return &badKey{"serve.events_listen", "missing, and the other keys of serve do nothing without it", "such as 127.0.0.1:2113"}
	case s.EventsListen == "":
		return nil
	case c.Store.remote():
		return &badKey{"serve.events_listen", "the ledger is in EventStoreDB, which clients can ask themselves", "leave it out"}
	case (s.EventsTLS.CertFile == "") != (s.EventsTLS.KeyFile == ""):
		return &badKey{"serve.events_tls", "cert_file and key_file go together", "give both, or neither"}
	case (s.EventsUser == "") != (s.EventsPasswordFile == ""):
		return &badKey{"serve.events_user", "events_user and events_password_file go together", "give both, or neither"}
	}
	var usage *usageError
	if err := s.access().check(s.EventsListen); errors.As(err, &usage) {
		return &badKey{"serve.events_listen", "strangers would be let in, or a password overheard, or it is no address", "127.0.0.1:2113; or give serve.events_tls, events_user and events_password_file"}
	}
	return nil
}

// startEvents lets EventStoreDB clients read the ledger, and nothing more.
func (s *service) startEvents(context.Context) error {
	c := s.opts.Config.Serve
	if c.EventsListen == "" {
		return nil
	}
	server, err := startEvents(c.EventsListen, esdbserver.Config{Store: s.Store, Log: s.opts.Log}, c.access())
	if err != nil {
		return fmt.Errorf("serve.events_listen: %w", err)
	}
	s.opts.Log.Info("EventStoreDB clients can read the ledger", "url", server.URL)
	s.running.Go(func() {
		<-server.ended
		select {
		case err := <-server.Failed:
			s.fail(err)
		default:
		}
	})
	endViews := s.endViews
	s.endViews = func() {
		// Nobody writes there, so there is nothing to wait for.
		if err := server.Stop(canceled()); err != nil {
			s.opts.Log.Warn("the reading of events did not end in order", "err", err)
		}
		endViews()
	}
	return nil
}
