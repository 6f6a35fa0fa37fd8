package proxmox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"writ/domain/op"
)

// A tokenInfo is what the host shows of an API token; never its secret.
type tokenInfo struct {
	Name    string `json:"tokenid"` // in lists only
	Comment string `json:"comment"`
	// Expire is from when it is refused, in UNIX seconds by the clock of the node
	// that checks it; 0 is never.
	Expire number `json:"expire"`
}

// dead is the expiry that fences: a second of 1970, past by every clock. A
// token's expiry can be raised again by its owner. This program never does.
const dead = 1

// errTokenExists says that the host has a token of that name.
var errTokenExists = errors.New("the host has a token of this name already")

// ownTokens lists the service user's tokens, as one node knows them.
func (h *Host) ownTokens(ctx context.Context, at endpoint) ([]tokenInfo, error) {
	path := tokensPath(h.service.user)
	r, err := h.getOwn(ctx, at, path)
	if err != nil {
		return nil, err
	}
	var list []tokenInfo
	if err := r.decode(&list); err != nil {
		return nil, fmt.Errorf("GET %s: %w", path, err)
	}
	for i, t := range list {
		if t.Name == "" {
			// Not to know of one is to take its attempt for one that never was.
			return nil, fmt.Errorf("GET %s: row %d names no token", path, i+1)
		}
	}
	return list, nil
}

// readToken reads one token, as one node knows it. Found is false if that node
// knows of none.
func (h *Host) readToken(ctx context.Context, at endpoint, s subject) (t tokenInfo, found bool, err error) {
	r, err := h.getOwn(ctx, at, s.tokenPath())
	if e := asStatus(err); e != nil && e.Status == http.StatusInternalServerError && e.Text() == noSuchToken(s) {
		return tokenInfo{}, false, nil
	}
	if err != nil {
		return tokenInfo{}, false, err
	}
	if err := r.decode(&t); err != nil {
		return tokenInfo{}, false, fmt.Errorf("GET %s: %w", s.tokenPath(), err)
	}
	return t, true, nil
}

func noSuchToken(s subject) string {
	return fmt.Sprintf("no such token '%s' for user '%s'", s.token, s.user)
}

// makeToken makes the token if there is none of its name, in the cluster's
// replicated store (pve-access-control API2/User.pm#generate_token): of all who
// try, one succeeds. Who does not is told by errTokenExists. The secret is shown in this one answer and nowhere else.
func (h *Host) makeToken(ctx context.Context, at endpoint, s subject, expire int64, comment string) (Secret, error) {
	// All parameters are in the query: the host takes a request for complete,
	// and checks who sends it, once it has the header. With a body it would go
	// on later, without checking again.
	query := url.Values{"comment": {comment}, "expire": {strconv.FormatInt(expire, 10)}, "privsep": {"1"}}
	body, err := h.write(ctx, at, mutation{
		kind: makesToken, by: s, request: op.Request{Method: http.MethodPost, Path: s.tokenPath(), Query: query.Encode()},
	})
	if err != nil {
		e, answered := errors.AsType[*StatusError](err)
		switch {
		case !answered:
		case e.Status == http.StatusBadRequest && e.about("tokenid") == "Token already exists.":
			return "", errTokenExists
		case e.Status == http.StatusInternalServerError && e.Text() == "generating token failed: Token already exists.":
			return "", errTokenExists // found only under the lock
		}
		return "", err
	}
	var made struct {
		Full  string `json:"full-tokenid"`
		Value string `json:"value"`
	}
	r, err := parseReply(body)
	if err == nil {
		err = r.decode(&made)
	}
	if err != nil || made.Full != s.fullToken() || !usableSecret(made.Value) {
		// Not quoted, because it may hold the secret.
		return "", fmt.Errorf("POST %s: the answer does not hold the secret of the token", s.tokenPath())
	}
	return Secret(made.Value), nil
}

// usableSecret tells whether a token's secret can be sent in a header.
func usableSecret(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ';' || r == '%' })
}

// expireToken makes the host refuse the token, at each node from when that node
// knows of it.
func (h *Host) expireToken(ctx context.Context, at endpoint, s subject) error {
	_, err := h.write(ctx, at, mutation{
		kind: expires, by: s, request: op.Request{Method: http.MethodPut, Path: s.tokenPath(), Query: "expire=" + strconv.Itoa(dead)},
	})
	return err
}

// empower gives the token one of its rights, passed on to nothing. One on a guest
// the host takes away with the guest.
func (h *Host) empower(ctx context.Context, at endpoint, s subject, r right) error {
	query := url.Values{"path": {r.object}, "propagate": {"0"}, "roles": {s.roleFor(r.privilege)}, "tokens": {s.fullToken()}}
	_, err := h.write(ctx, at, mutation{
		kind: grants, by: s, request: op.Request{Method: http.MethodPut, Path: aclPath, Query: query.Encode()},
	})
	return err
}

// retire sees to it that the token is dead at the node asked, and nobody's from
// then on: it is expired, or, if there is none, made as a tombstone. A token
// that does not exist is no proof by itself: whoever was about to make it may
// have been held up, and goes on later. With the tombstone there it can't.
//
// What was found is given also with an error, with an empty comment if nothing
// was read.
func (h *Host) retire(ctx context.Context, at endpoint, s subject, comment string) (tokenInfo, error) {
	t, found, err := h.readToken(ctx, at, s)
	if err != nil {
		return tokenInfo{}, err
	}
	if !found {
		// If this fails after it took effect, the next line sees the tombstone.
		_, made := h.makeToken(ctx, at, s, dead, comment)
		if made == nil {
			return tokenInfo{Comment: comment, Expire: dead}, nil
		}
		if t, found, err = h.readToken(ctx, at, s); err != nil || !found {
			return tokenInfo{}, errors.Join(made, err)
		}
	}
	if t.Expire == dead {
		return t, nil
	}
	if err := h.expireToken(ctx, at, s); err != nil {
		again, found, readErr := h.readToken(ctx, at, s)
		if readErr == nil && found && again.Expire == dead {
			return again, nil // only the answer was lost
		}
		return t, err
	}
	t.Expire = dead
	return t, nil
}
