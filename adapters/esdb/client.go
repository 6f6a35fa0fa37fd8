package esdb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc/metadata"

	"writ/domain/eventstore"
)

// A client gives its callers the one link there is, and makes the next one
// when that has ended.
type client struct {
	target *target
	log    *slog.Logger
	accept func(ctx context.Context, l *link) error // looks at the node before anybody uses the link
	ending chan struct{}                            // closed by close

	mu       sync.Mutex // guards everything below
	link     *link      // nil: none, or the last one was given up
	attempt  *attempt   // to connect, under way
	hint     string     // the leader's address, as told by a node that is not it
	failures int        // to connect, in a row
	closed   bool
	dialling sync.WaitGroup // the attempt's goroutine
}

// An attempt to connect. Whoever needs the link waits for the same one.
type attempt struct {
	done chan struct{} // closed when the two below are set
	link *link
	err  error
}

func newClient(t *target, log *slog.Logger) *client {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &client{target: t, log: log, ending: make(chan struct{})}
}

// acquire gives a link that was alive a moment ago. It ends with ctx, and
// fails when one attempt to connect has failed: whether to ask again is the
// caller's matter.
func (c *client) acquire(ctx context.Context) (*link, error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, eventstore.ErrClosed
	}
	if c.link != nil && c.link.alive() {
		defer c.mu.Unlock()
		return c.link, nil
	}
	c.dropLink()
	if c.attempt == nil {
		c.attempt = &attempt{done: make(chan struct{})}
		a, pause, hint := c.attempt, pauseAfter(c.failures), c.hint
		c.hint = ""
		c.dialling.Go(func() { c.run(a, pause, hint) }) //nolint:contextcheck // it works for all who wait, not for this caller
	}
	a := c.attempt
	c.mu.Unlock()
	select {
	case <-a.done:
		return a.link, a.err
	case <-ctx.Done():
		return nil, ended(ctx)
	}
}

// pauseAfter is how long to wait before the next attempt after failures.
func pauseAfter(failures int) time.Duration {
	if failures == 0 {
		return 0
	}
	return min(minPause<<min(failures-1, 10), maxPause)
}

// run makes one attempt. It belongs to no caller: one that leaves does not
// end it for the others.
func (c *client) run(a *attempt, pause time.Duration, hint string) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), pause+c.target.callTimeout, errLate)
	defer cancel()
	stop := c.onEnd(cancel)
	defer stop()
	if a.err = c.wait(ctx, pause); a.err == nil {
		a.link, a.err = c.connect(ctx, hint)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	defer close(a.done)
	c.attempt = nil
	switch {
	case c.closed:
		if a.link != nil {
			_ = a.link.conn.Close() // nobody has used it
		}
		a.link, a.err = nil, eventstore.ErrClosed
	case a.err != nil:
		c.failures++
		if c.failures&(c.failures-1) == 0 { // the 1st, 2nd, 4th, ...: the reason may change, and an hour is long
			c.log.Warn("eventstoredb: no connection, trying again", "to", c.target.String(), "failures", c.failures, "err", a.err)
		}
	default:
		c.failures, c.link = 0, a.link
		c.log.Info("eventstoredb: connected", "node", a.link.addr)
	}
}

// connect finds the leader, dials it and looks at it.
func (c *client) connect(ctx context.Context, hint string) (*link, error) {
	var errs []error
	try := func(name, addr string) *link {
		l, told, err := c.inspect(ctx, name, addr)
		if err == nil {
			return l
		}
		errs = append(errs, fmt.Errorf("%s: %w", addr, err))
		if told == "" || told == addr {
			return nil
		}
		// It knows who leads. Who is told on wrongly asks gossip next time.
		if l, _, err = c.inspect(ctx, told, told); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", told, err))
			return nil
		}
		return l
	}
	if hint != "" {
		if l := try(hint, hint); l != nil {
			return l, nil
		}
	}
	node := c.target.node
	if node == "" {
		var err error
		if node, err = c.target.findLeader(ctx); err != nil {
			return nil, together(append(errs, err)...)
		}
	}
	if l := try(node, node); l != nil {
		return l, nil
	}
	return nil, together(errs...)
}

// inspect dials a node and looks at it; told is who leads, if it says that it
// does not. After an error nothing is left open.
func (c *client) inspect(ctx context.Context, name, addr string) (l *link, told string, err error) {
	l, err = c.target.dial(name, addr)
	if err != nil {
		return nil, "", err
	}
	if err := c.accept(ctx, l); err != nil {
		_ = l.conn.Close() // nothing was asked of it but to be read
		var not *notLeaderError
		if errors.As(err, &not) {
			told = not.leader
		}
		return nil, told, err
	}
	return l, "", nil
}

// leave gives a link up, and with it every call under way on it: their
// outcome is unknown. The next caller makes another one, first at the node
// told to be the leader, if one is.
func (c *client) leave(l *link, leader string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link != l {
		return // somebody else did
	}
	c.hint = leader
	c.dropLink()
}

// dropLink closes the link if there is one. c.mu is held.
func (c *client) dropLink() {
	if c.link == nil {
		return
	}
	_ = c.link.conn.Close() // the calls under way get the error
	c.link = nil
}

// close ends all calls and waits for the attempt to connect.
func (c *client) close() {
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		close(c.ending)
		c.dropLink()
	}
	c.mu.Unlock()
	c.dialling.Wait()
}

// onEnd calls end when the client is closed, unless it was stopped before.
func (c *client) onEnd(end func()) (stop func()) {
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-c.ending:
			end()
		case <-over:
		}
	}()
	return func() {
		close(over)
		<-ended
	}
}

// call is the context of one call: it demands the leader, and ends after the
// call's time even if the caller's has no deadline.
func (c *client) call(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.target.callTimeout, errLate)
	return demandLeader(ctx), cancel
}

func demandLeader(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "requires-leader", "true", "connection-name", "writ")
}

// wait pauses before something is repeated; the error is the context's.
func (c *client) wait(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ended(ctx)
	case <-c.ending:
		return eventstore.ErrClosed
	}
}
