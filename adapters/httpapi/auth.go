package httpapi

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// localCaller is recorded for callers without a token, who can only come from
// this machine.
const localCaller = "local"

type callerKey struct{}

func callerOf(ctx context.Context) string {
	name, _ := ctx.Value(callerKey{}).(string)
	return name
}

// requires lets an operation be called only with a scope, and no more often
// than a caller may. It runs before the body is looked at.
func (a *API) requires(scope Scope) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		r, w := humago.Unwrap(ctx)
		caller, p := a.authorize(r, scope)
		if p == nil {
			p = a.limit(caller)
		}
		if p != nil {
			if p.Status == http.StatusUnauthorized {
				w.Header().Set(authenticateHeader, `Bearer realm="writ"`)
			}
			send(w, p, a.cfg.Log)
			return
		}
		noteCaller(w, caller)
		next(huma.WithValue(ctx, callerKey{}, caller))
	}
}

// identified tells whether callers are told apart. It never changes: an
// interface whose last token was revoked is closed, not open.
func (c *Config) identified() bool {
	return c.Identified || len(c.Tokens) > 0 || len(c.Clients) > 0
}

// authorize names the caller of a request if they hold a scope. It may be
// asked again later, while a request is still being answered.
func (a *API) authorize(r *http.Request, scope Scope) (caller string, p *Problem) {
	if !a.cfg.identified() {
		return localCaller, nil
	}
	name, scopes, p := a.identify(r)
	if p != nil {
		return "", p
	}
	if !slices.Contains(scopes, scope) {
		return "", problem(http.StatusForbidden, reasonScope, fmt.Sprintf("the caller %s lacks the scope %s", name, scope))
	}
	return name, nil
}

// identify says who sent a request. A token that is shown decides, whatever
// certificate comes with it.
func (a *API) identify(r *http.Request) (name string, scopes []Scope, p *Problem) {
	unknown := func(detail string) (string, []Scope, *Problem) {
		return "", nil, problem(http.StatusUnauthorized, reasonUnauthorized, detail)
	}
	given := r.Header.Values("Authorization")
	if len(given) == 0 && r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		subject := r.TLS.VerifiedChains[0][0].Subject.String()
		for _, c := range a.cfg.Clients {
			if c.Subject == subject {
				return c.Name, c.Scopes, nil
			}
		}
		return unknown(fmt.Sprintf("the client certificate's subject, %s, is not known here", clip(subject)))
	}
	if len(given) != 1 {
		return unknown("one header is required: Authorization: Bearer <token>")
	}
	scheme, token, _ := strings.Cut(given[0], " ")
	if !strings.EqualFold(scheme, bearer) || token == "" {
		return unknown("the Authorization header must be: Bearer <token>")
	}
	sum := sha256.Sum256([]byte(token))
	var found *Token
	tokens := *a.tokens.Load()
	for i := range tokens {
		// All are compared, each in constant time: how long this takes says
		// nothing about any of them.
		if subtle.ConstantTimeCompare(sum[:], tokens[i].SHA256[:]) == 1 {
			found = &tokens[i]
		}
	}
	switch {
	case found == nil:
		return unknown("the token is not known here")
	case !found.Expires.IsZero() && !a.cfg.Now().Before(found.Expires):
		return unknown("the token of " + found.Name + " has expired; make another one with: writ token create")
	}
	return found.Name, found.Scopes, nil
}

// CheckListen refuses an address that can't be listened on as it is meant:
// if callers are not told apart by tokens or certificates, only loopback
// addresses may be.
func CheckListen(addr string, identified bool) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is not an address and port", addr)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return fmt.Errorf("%q is not a port", port)
	}
	if !identified && !loopbackHost(host) {
		return fmt.Errorf("%s is not a loopback address, and without tokens everybody who reaches it could submit: configure tokens, or listen on 127.0.0.1", addr)
	}
	return nil
}

func loopbackHost(host string) bool {
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// addressedHere tells whether a request may be answered without a token. A web
// page can make a browser on this machine send requests to loopback addresses,
// but then the Host header is the page's own (DNS rebinding).
func (a *API) addressedHere(r *http.Request) bool {
	if a.cfg.identified() {
		return true
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return loopbackHost(host)
}
