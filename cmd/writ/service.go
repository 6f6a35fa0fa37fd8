package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"writ/adapters/httpapi"
	"writ/adapters/httpapi/metrics"
	"writ/adapters/pebbleviews"
	"writ/adapters/proxmox"
	"writ/domain/engine"
	"writ/domain/eventstore"
	"writ/domain/gate"
	"writ/domain/op"
	"writ/projections"
	"writ/projections/appliedkeys"
	"writ/projections/attempts"
	"writ/projections/recoveryqueue"
	"writ/projections/status"
)

// serviceOptions say what to run.
type serviceOptions struct {
	Config *config
	Log    *slog.Logger
	// Listener is where to answer; nil listens on Config.Listen.
	Listener net.Listener
	// Pace is the engine's; zero is its default.
	Pace engine.Pace
	// Version is shown in the OpenAPI document.
	Version string
}

// A service is writ serve: ledger, policy, host, engine, views and the HTTP
// interface, wired together and running. Its exported fields don't change.
type service struct {
	URL      string // of the HTTP interface
	Audience string // what op documents must name
	Store    *ledger
	// Failed gives the error of a part that ended by itself. The service
	// still has to be stopped.
	Failed <-chan error

	opts     serviceOptions
	host     *proxmox.Host
	book     *engine.PolicyBook
	engine   *engine.Engine
	api      *httpapi.API
	server   *http.Server
	keys     *view
	queue    *view // of what is inFlight
	attempts *view // of what was announced
	ops      *projections.Shelf

	metrics    *metrics.Metrics
	inFlight   *recoveryqueue.Queue
	announced  *attempts.Announced
	provenance engine.Provenance

	failed   chan error
	running  sync.WaitGroup // what startService started
	endViews context.CancelFunc
	undo     []func() error // what to close, the newest last
}

// startService runs a service until it is stopped. After an error nothing is
// left running or held.
func startService(ctx context.Context, o serviceOptions) (_ *service, err error) {
	s := &service{opts: o, failed: make(chan error, 4), metrics: metrics.New(o.Version, systemClock{}.Now)}
	s.Failed = s.failed
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	// Whatever a person may have got wrong comes first, before anything is
	// opened, asked or recorded.
	policy, err := readPolicyFile(o.Config.Policy.Path)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	if _, err := policy.compile(1); err != nil {
		return nil, fmt.Errorf("policy can't be put in force:\n%w", err)
	}
	for _, step := range []func(context.Context) error{s.openHost, s.openStore, s.startViews, s.startEngine, s.startEvents, s.startHTTP} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *service) openHost(context.Context) error {
	var err error
	if s.host, err = s.opts.Config.openHost(s.opts.Log); err != nil {
		return err
	}
	s.undo = append(s.undo, func() error { s.host.Close(); return nil })
	s.opts.Log.Info("requests to the host are sent", "credentials", string(s.host.Mode()), "as", s.sender())
	return nil
}

// sender is as whom destructive requests are sent.
func (s *service) sender() string {
	if s.host.Mode() == proxmox.ModeAttempt {
		return s.opts.Config.Host.Proxmox.User
	}
	return s.host.Credential()
}

func (s *service) openStore(ctx context.Context) error {
	var err error
	s.Store, err = s.opts.Config.awaitLedger(ctx, s.opts.Log)
	if err != nil {
		return err
	}
	s.undo = append(s.undo, s.Store.Close)
	s.provenance, err = engine.ReadProvenance(ctx, s.Store)
	return err
}

func (s *service) identity() engine.Identity {
	c := s.opts.Config
	site := gate.Site{Agent: c.Agent, Ledger: s.provenance.Audience, SelfStorages: c.Self.Storages}
	for _, g := range c.Self.Guests {
		site.Self = append(site.Self, op.Guest(g))
	}
	return engine.Identity{Site: site, Instance: c.Instance}
}

// leadPatience is how long a start waits until the service leads.
const leadPatience = 10 * time.Second

func (s *service) startEngine(ctx context.Context) error {
	who := s.identity()
	s.Audience = who.Site.Audience()
	s.book = engine.NewPolicyBook(s.Store, who, systemClock{})
	// Nothing is put on record before it is certain that this ledger may be
	// acted on; and the policy of an instance that only stands by must not come
	// into force.
	onLead := func(ctx context.Context) error { _, err := s.enforcePolicy(ctx); return err }
	var err error
	s.engine, err = engine.New(ctx, engine.Config{
		Identity: who, Store: s.metrics.Store(s.Store), Policies: s.book, Host: s.metrics.Host(s.host),
		Executors: s.metrics.Executors(s.host.Executors()),
		Clock:     systemClock{}, Draw: drawClaim, Log: s.opts.Log, Pending: inFlightOf(s.Store, s.queue.runner, s.inFlight),
		Guard: s.guard(), Lease: s.opts.Config.Store.lease(), OnLead: onLead,
		Pace: s.opts.Pace, Queue: s.opts.Config.Limits.Queue, Parallel: s.opts.Config.Limits.Parallel,
	})
	if err != nil {
		return err
	}
	// Most services lead at once, and are ready when they say that they answer.
	// One that does not answers all the same, and tells why.
	waiting, enough := context.WithTimeout(ctx, leadPatience)
	defer enough()
	if err := s.engine.AwaitLead(waiting); err != nil {
		s.opts.Log.Warn("this instance does not lead yet", "err", err)
	}
	cleaning, stop := context.WithCancel(context.WithoutCancel(ctx))
	endViews := s.endViews
	s.endViews = func() {
		stop()
		endViews()
	}
	s.running.Go(func() { s.cleanTombstones(cleaning) })
	return nil
}

// inFlightOf lists the ops that are in flight on record, and perhaps more: all
// that the view has, and all of which anything is on record behind the place up
// to which it has come. One that is corrupt is not recovered, but its target is
// kept from others.
func inFlightOf(store eventstore.Reader, feed *projections.Runner, queue *recoveryqueue.Queue) func(context.Context) ([]op.Nonce, error) {
	return func(ctx context.Context) ([]op.Nonce, error) {
		if err := feed.WaitCaughtUp(ctx); err != nil {
			return nil, err
		}
		// In this order: what comes into the view after the place was read is
		// listed twice, and nothing not at all.
		from := feed.Lag().Applied
		items, err := queue.List(ctx)
		if err != nil {
			return nil, err
		}
		var nonces []op.Nonce
		known := make(map[op.Nonce]bool)
		add := func(n op.Nonce) {
			if n != "" && !known[n] {
				known[n] = true
				nonces = append(nonces, n)
			}
		}
		for _, it := range items {
			add(it.Nonce)
		}
		for e, err := range store.ReadAll(ctx, from, eventstore.Filter{StreamPrefixes: []string{op.StreamPrefix}}) {
			if err != nil {
				return nil, err
			}
			if n, ok := op.NonceOfStream(string(e.Stream)); ok {
				add(n)
			}
		}
		return nonces, nil
	}
}

// ReloadPolicy reads the policy file again and puts it in force. After an
// error the policy that was in force before stays so.
func (s *service) ReloadPolicy(ctx context.Context) (*gate.Policy, error) {
	if !s.engine.Standing().Leads {
		return nil, errors.New("this instance does not lead: it reads its policy file again when it takes over")
	}
	return s.enforcePolicy(ctx)
}

func (s *service) enforcePolicy(ctx context.Context) (*gate.Policy, error) {
	file, err := readPolicyFile(s.opts.Config.Policy.Path)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	policy, err := s.book.Enforce(ctx, file.Document, file.Source)
	if err != nil {
		return nil, fmt.Errorf("put policy in force: %w", file.explain(err))
	}
	for _, w := range policy.Warnings() {
		s.opts.Log.Warn("policy allows what may not be meant", "path", file.Path, "warning", w)
	}
	s.opts.Log.Info("policy in force", "path", file.Path, "serial", policy.Serial())
	return policy, nil
}

func (s *service) startViews(ctx context.Context) error {
	ctx, s.endViews = context.WithCancel(context.WithoutCancel(ctx))
	s.running.Go(func() {
		// A ledger that can't be written to any more serves nobody: whoever
		// watches the service starts it again, and then it is opened anew.
		if s.Store.embedded == nil {
			return
		}
		select {
		case <-s.Store.embedded.Halted():
			s.fail(fmt.Errorf("the ledger has stopped, restart the service: %w", s.Store.embedded.Why()))
		case <-ctx.Done():
		}
	})
	store, err := pebbleviews.Open(s.opts.Config.Store.Views, pebbleviews.Options{Logger: s.opts.Log})
	if err != nil {
		return err
	}
	s.undo = append(s.undo, store.Close)
	if err := s.startStatus(ctx, store); err != nil {
		return err
	}
	if s.keys, err = s.startView(ctx, store, "appliedkeys", func(v projections.ViewStore) projections.Projection { return appliedkeys.New(v) }); err != nil {
		return err
	}
	if s.attempts, err = s.startView(ctx, store, "attempts", func(v projections.ViewStore) projections.Projection {
		s.announced = attempts.New(v)
		return s.announced
	}); err != nil {
		return err
	}
	s.queue, err = s.startView(ctx, store, "recoveryqueue", func(v projections.ViewStore) projections.Projection {
		s.inFlight = recoveryqueue.New(v)
		return s.inFlight
	})
	return err
}

func (s *service) startHTTP(ctx context.Context) error {
	c := s.opts.Config
	seen := statFile(c.TokensFile)
	tokens, err := c.callers()
	if err != nil {
		return err
	}
	s.watchFigures()
	s.api, err = httpapi.New(httpapi.Config{
		Engine: s.engine, Ledger: s.Store, StoreName: s.Store.name, Queue: s.inFlight, QueueLag: s.queue.runner.Lag, Status: status.New(s.ops), Rebuild: s.ops.Rebuild,
		Plan: s.host.Plan,
		Backup: func(ctx context.Context, name string) (httpapi.BackupMade, error) {
			return backup(ctx, s.Store, c.Store.Backups, name)
		},
		Tokens: tokens, Clients: c.clients(), Identified: c.identified(),
		RequestsPerSecond: float64(c.Limits.RequestsPerSecond), MaxSubscribers: c.Limits.Subscribers,
		Metrics: s.metrics.Handler(), Observer: s.metrics, Log: s.opts.Log, Now: systemClock{}.Now, Version: s.opts.Version,
		Ready: []httpapi.Check{
			{Name: "ledger", Test: s.Store.health},
			{Name: "policy", Test: func(ctx context.Context) error { _, err := s.book.Current(ctx); return err }},
			{Name: "views", Test: func(context.Context) error { return errors.Join(s.keys.ready(), s.attempts.ready(), s.queue.ready()) }},
			{Name: "host", Test: func(ctx context.Context) error { _, err := s.host.Version(ctx); return err }},
		},
	})
	if err != nil {
		return err
	}
	listener := s.opts.Listener
	if listener == nil {
		var lc net.ListenConfig
		if listener, err = lc.Listen(ctx, "tcp", c.Listen); err != nil {
			return fmt.Errorf("listen: %w", err)
		}
	}
	tlsConf, scheme, err := c.TLS.load(s.opts.Log)
	if err == nil {
		err = c.Clients.demand(tlsConf)
	}
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	if tlsConf == nil && httpapi.CheckListen(listener.Addr().String(), false) != nil {
		s.opts.Log.Warn("tokens and writs travel in the clear: give tls.cert_file and tls.key_file, or put a TLS proxy in front", "listen", listener.Addr().String())
	}
	s.server = s.api.Server(tlsConf)
	s.URL = scheme + "://" + listener.Addr().String()
	if c.TokensFile != "" {
		watching, end := context.WithCancel(context.WithoutCancel(ctx))
		s.server.RegisterOnShutdown(end)
		s.running.Go(func() { s.watchTokens(watching, seen) })
	}
	s.running.Go(func() {
		if err := s.api.Serve(s.server, listener); err != nil {
			s.fail(err)
		}
	})
	return nil
}

func (s *service) fail(err error) {
	select {
	case s.failed <- err:
	default: // the first few are enough to stop for
	}
}

// Stop ends the service in order: nothing new is taken or launched, whoever
// waits for an op is told how it stands, and the ops that run are given until
// ctx ends; what is not at its end by then is left in flight on record, as the
// host's tasks run on.
func (s *service) Stop(ctx context.Context) error {
	s.api.Drain()
	// Both at once: requests wait for ops, and ops must not be launched while
	// requests are waited for.
	stopped := make(chan error, 1)
	go func() { stopped <- s.engine.Stop(ctx) }()
	err := s.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("end requests: %w", err), s.server.Close())
	}
	return errors.Join(err, <-stopped, s.close())
}

// close gives up whatever is held, the newest first.
func (s *service) close() error {
	var errs []error
	if s.engine != nil {
		// Stopped already, or no op ever ran: then there is nothing to wait for.
		errs = append(errs, s.engine.Stop(canceled()))
	}
	if s.endViews != nil {
		s.endViews()
	}
	s.running.Wait()
	for i := len(s.undo) - 1; i >= 0; i-- {
		errs = append(errs, s.undo[i]())
	}
	s.undo = nil
	return errors.Join(errs...)
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
