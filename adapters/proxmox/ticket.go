package proxmox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"writ/domain/op"
)

// A credential is what one request is sent with: the secret of an API token, or
// the ticket of a login. Nil is none, for the login itself. It is only ever held
// by pointer: package fmt asks no unexported field how it wants to be printed.
type credential struct {
	id           string // full name of the token, or of the ticket's user
	secret       Secret // of the token
	ticket, csrf Secret
}

// Format implements fmt.Formatter, for every verb.
func (*credential) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// stamp puts the credential on a request, and takes every other off it.
func (c *credential) stamp(h http.Header) {
	for _, name := range []string{"Authorization", "Cookie", "CSRFPreventionToken"} {
		h.Del(name)
	}
	switch {
	case c == nil:
	case c.ticket != "":
		h.Set("Cookie", "PVEAuthCookie="+url.QueryEscape(string(c.ticket)))
		h.Set("CSRFPreventionToken", string(c.csrf))
	default:
		h.Set("Authorization", "PVEAPIToken="+c.id+"="+string(c.secret))
	}
}

// ticketAge is after how long a new ticket is got. The host's are good for two
// hours.
const ticketAge = 90 * time.Minute

// A service is the user whose tokens the attempts use. It logs in with its
// password, because no API token may make another one of its own user. Its
// ticket never carries a destructive request; those carry the attempt's token.
type service struct {
	user     string
	password Secret
	role     string
	lease    time.Duration

	// turn is held by who writes to user.cfg, the file with all users, tokens
	// and rights. Every destroy in the cluster needs that file's lock near its
	// end, polls for it without a queue, and leaves a wreck if it has not got it
	// within 10 seconds. So there is at most one write of ours at a time. They
	// take some 50 ms each: measured with one writer that never paused, no
	// destroy waited much longer than a second. Waiting for our own destroys to
	// end first would be safer still, but they can take an hour, and then ops
	// on different guests would not run beside one another.
	turn chan struct{}

	mu   sync.Mutex
	held *credential // guarded by mu: the newest ticket; nil if there is none
	got  time.Time   // guarded by mu: when it was asked for
}

// Format implements fmt.Formatter, for every verb.
func (*service) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// login gives the service user's ticket, a new one if the newest is old. It may
// be used at every node.
func (h *Host) login(ctx context.Context, at endpoint) (*credential, error) {
	s := h.service
	s.mu.Lock()
	held, age := s.held, time.Since(s.got)
	s.mu.Unlock()
	if held != nil && age < ticketAge {
		return held, nil
	}
	asked := time.Now()
	c, err := h.askTicket(ctx, at, s.user, s.password)
	if err != nil {
		return nil, fmt.Errorf("log in as %s: %w", s.user, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held, s.got = c, asked
	return c, nil
}

// askTicket logs a user in.
func (h *Host) askTicket(ctx context.Context, at endpoint, user string, password Secret) (*credential, error) {
	// In the body, because the host keeps a log of all paths with their queries.
	form := url.Values{"username": {user}, "password": {string(password)}}
	body, err := h.send(ctx, at, mutation{
		kind: logsIn, by: subject{user: user}, form: form,
		request: op.Request{Method: http.MethodPost, Path: ticketPath},
	}, nil, h.pollTimeout)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Username string `json:"username"`
		Ticket   string `json:"ticket"`
		CSRF     string `json:"CSRFPreventionToken"`
		NeedTFA  *flag  `json:"NeedTFA"`
	}
	r, err := parseReply(body)
	if err == nil {
		err = r.decode(&answer)
	}
	switch {
	case err != nil:
		// What was answered may hold a ticket, and errors quote what they can't
		// read.
		return nil, errors.New("the answer is not one to a login")
	case answer.NeedTFA != nil && bool(*answer.NeedTFA) || strings.HasPrefix(answer.Ticket, "PVE:!tfa!"):
		return nil, errors.New("the user has a second factor, which a service can't give: use a user without one")
	case answer.Username != user || answer.Ticket == "" || answer.CSRF == "":
		return nil, errors.New("the answer holds no ticket of this user")
	}
	return &credential{id: user, ticket: Secret(answer.Ticket), csrf: Secret(answer.CSRF)}, nil
}

// forget drops a ticket that the host did not take, unless there is a newer one.
func (s *service) forget(c *credential) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == c {
		s.held = nil
	}
}

// getOwn reads as the service user. A ticket that is no longer taken, because
// the host has changed its keys or this machine slept, is replaced once.
func (h *Host) getOwn(ctx context.Context, at endpoint, path string) (reply, error) {
	for first := true; ; first = false {
		as, err := h.login(ctx, at)
		if err != nil {
			return reply{}, err
		}
		r, err := h.getAs(ctx, at, path, as)
		if e := asStatus(err); e != nil && e.Status == http.StatusUnauthorized {
			h.service.forget(as)
			if first {
				continue
			}
		}
		return r, err
	}
}

// write sends one write to user.cfg as the service user, when its turn has come.
// It is never repeated. An error that is a *RequestError with Written false, as
// for a login that failed, proves that it was not sent.
func (h *Host) write(ctx context.Context, at endpoint, m mutation) ([]byte, error) {
	select {
	case h.service.turn <- struct{}{}:
		defer func() { <-h.service.turn }()
	case <-ctx.Done():
		return nil, unsent(m, ctx.Err())
	}
	return h.sendOwn(ctx, at, m)
}

// sendOwn sends one mutating request as the service user.
func (h *Host) sendOwn(ctx context.Context, at endpoint, m mutation) ([]byte, error) {
	as, err := h.login(ctx, at)
	if err != nil {
		return nil, unsent(m, err)
	}
	body, err := h.send(ctx, at, m, as, h.pollTimeout)
	if e := asStatus(err); e != nil && e.Status == http.StatusUnauthorized {
		h.service.forget(as)
	}
	return body, err
}

// unsent says that a request was not sent, and why; the cause is not wrapped,
// because it is about another request.
func unsent(m mutation, cause error) error {
	return &RequestError{Method: m.request.Method, Path: m.request.Path, Err: errors.New(cause.Error())}
}
