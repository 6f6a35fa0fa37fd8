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

	"writ/domain/op"
	"writ/domain/signedop"
)

// A Scope is what a token lets its holder do.
type Scope string

// The scopes.
const (
	Submit  Scope = "submit"  // deliver writs
	Read    Scope = "read"    // ask how ops stand
	Resolve Scope = "resolve" // hand in signed resolutions; it takes the signatures to settle anything
	Void    Scope = "void"    // take writs back: the caller's word is enough
)

// Scopes lists all scopes.
func Scopes() []Scope { return []Scope{Submit, Read, Resolve, Void} }

// scopeNames lists them for people.
func scopeNames() string {
	names := make([]string, len(Scopes()))
	for i, s := range Scopes() {
		names[i] = string(s)
	}
	return strings.Join(names, ", ")
}

// A Token lets one caller in. The token itself is known to the caller alone.
type Token struct {
	Name   string    // of the caller; recorded as submitted_by
	SHA256 op.Digest // of the token's bytes
	Scopes []Scope
}

// Check tells what is wrong with a token, naming the field.
func (t Token) Check() error {
	if err := signedop.CheckName(t.Name); err != nil {
		return fmt.Errorf("name: %w", err)
	}
	if t.SHA256 == (op.Digest{}) || t.SHA256 == op.DigestOf(nil) {
		return fmt.Errorf("sha256: missing, or that of an empty token; make one with: openssl rand -hex 32")
	}
	if len(t.Scopes) == 0 {
		return fmt.Errorf("scopes: empty, give some of %s", scopeNames())
	}
	for i, s := range t.Scopes {
		if !slices.Contains(Scopes(), s) {
			return fmt.Errorf("scopes[%d]: %q is none of %s", i, s, scopeNames())
		}
	}
	return nil
}

// localCaller is recorded for callers without a token, who can only come from
// this machine.
const localCaller = "local"

type callerKey struct{}

func callerOf(ctx context.Context) string {
	name, _ := ctx.Value(callerKey{}).(string)
	return name
}

// requires lets an operation be called only with a scope. It runs before the
// body is looked at.
func (a *API) requires(scope Scope) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		r, w := humago.Unwrap(ctx)
		caller, p := a.authorize(r, scope)
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

func (a *API) authorize(r *http.Request, scope Scope) (caller string, p *Problem) {
	if len(a.cfg.Tokens) == 0 {
		return localCaller, nil
	}
	given := r.Header.Values("Authorization")
	if len(given) != 1 {
		return "", problem(http.StatusUnauthorized, reasonUnauthorized, "one header is required: Authorization: Bearer <token>")
	}
	scheme, token, _ := strings.Cut(given[0], " ")
	if !strings.EqualFold(scheme, bearer) || token == "" {
		return "", problem(http.StatusUnauthorized, reasonUnauthorized, "the Authorization header must be: Bearer <token>")
	}
	sum := sha256.Sum256([]byte(token))
	var found *Token
	for i := range a.cfg.Tokens {
		// All are compared, each in constant time: how long this takes says
		// nothing about any of them.
		if subtle.ConstantTimeCompare(sum[:], a.cfg.Tokens[i].SHA256[:]) == 1 {
			found = &a.cfg.Tokens[i]
		}
	}
	if found == nil {
		return "", problem(http.StatusUnauthorized, reasonUnauthorized, "the token is not known here")
	}
	if !slices.Contains(found.Scopes, scope) {
		return "", problem(http.StatusForbidden, reasonScope, fmt.Sprintf("the token of %s lacks the scope %s", found.Name, scope))
	}
	return found.Name, nil
}

// CheckListen refuses an address that can't be listened on as it is meant:
// without tokens only loopback addresses may be.
func CheckListen(addr string, tokens bool) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is not an address and port", addr)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return fmt.Errorf("%q is not a port", port)
	}
	if !tokens && !loopbackHost(host) {
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
	if len(a.cfg.Tokens) > 0 {
		return true
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return loopbackHost(host)
}
