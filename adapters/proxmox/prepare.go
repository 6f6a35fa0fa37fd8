package proxmox

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"writ/domain/engine"
	"writ/domain/op"
)

// A preparation makes the token with which one attempt's request is sent.
//
// Whatever fails here, the request itself has not been sent, and is not sent
// later: it needs the token's secret, which only this value ever holds. So every
// error is definite, but for two. An *engine.OtherCopyError says that somebody
// else has this attempt, who may send what this process does not. And where the
// answer to the token's creation is lost and the host can't be asked again, it
// is not known whether there is such a somebody.
type preparation struct {
	host    *Host
	at      endpoint // the guest's node, or the front node if that is not known by a URL
	target  attempt
	earlier []int
	expires time.Time // of the signed document
	stem    string
	number  int
	by      subject
	opID    string
	what    string // for comments: what the attempt is about
	comment string // of the token; empty until it is to be made
	log     *slog.Logger
}

func (h *Host) prepare(t attempt, a engine.Attempt, l *op.Launching) *preparation {
	by := t.subject()
	by.user, by.token, by.role, by.rights = h.service.user, tokenName(a.Nonce, a.Number), h.service.role, t.conduct.rights(t)
	return &preparation{
		host: h, at: h.at(t.node), target: t, earlier: a.Earlier, expires: a.ExpiresAt,
		stem: tokenStem(a.Nonce), number: a.Number,
		by:   by,
		opID: l.OpID,
		what: t.note() + " " + expiryNote(a.ExpiresAt),
		log:  h.log.With("op_id", l.OpID, "attempt", a.Number),
	}
}

// run takes the steps in their order and gives the credential to launch with. It
// takes no longer than the token is good for.
func (p *preparation) run(ctx context.Context) (*credential, error) {
	ctx, cancel := context.WithTimeout(ctx, p.host.service.lease)
	defer cancel()
	// If it fails up to the third step, the host has nothing of this attempt.
	if err := p.checkNode(ctx); err != nil {
		return nil, engine.Definite(err)
	}
	if err := p.checkRegister(ctx); err != nil {
		if engine.IsOtherCopy(err) {
			return nil, err
		}
		return nil, engine.Definite(err)
	}
	secret, err := p.makeToken(ctx)
	if err != nil {
		return nil, err
	}
	// From here on the host has a token of this attempt that can do nothing, then
	// one that can destroy the guest. This process alone holds its secret, and
	// drops it with any error.
	if err := p.entitle(ctx); err != nil {
		p.discard(ctx)
		return nil, engine.Definite(err)
	}
	return &credential{id: p.by.fullToken(), secret: secret}, nil
}

// checkNode refuses a node that is not part of the quorum: it would begin, and
// destroy volumes, and could not end.
func (p *preparation) checkNode(ctx context.Context) error {
	state, err := p.host.stateAt(ctx, p.at)
	switch {
	case err != nil:
		return err
	case !state.quorate:
		return fmt.Errorf("node %s is not part of a quorate cluster", p.target.node)
	case !state.online[p.target.node]:
		return fmt.Errorf("node %s is not online", p.target.node)
	}
	if _, listed := p.host.nodes[p.target.node]; listed && state.local != p.target.node {
		return fmt.Errorf("at the URL configured for node %s it is node %q that answers: correct the URLs of the nodes", p.target.node, state.local)
	}
	return nil
}

// checkRegister compares what the host remembers of this nonce with what the
// ledger does. A token that the ledger has not announced is another copy's.
//
// One that it has announced may be missing without anything being wrong: an
// attempt whose launch failed before its token was made has none. But its name
// must not stay free, for a copy of the ledger that does not know of the attempt:
// it is taken by a tombstone, and the register is whole again.
func (p *preparation) checkRegister(ctx context.Context) error {
	list, err := p.host.ownTokens(ctx, p.at)
	if err != nil {
		return err
	}
	missing := make(map[int]bool)
	for _, n := range p.earlier {
		missing[n] = true
	}
	for _, t := range list {
		n, ok := attemptOf(t.Name, p.stem)
		if ok && !slices.Contains(p.earlier, n) {
			return &engine.OtherCopyError{Why: fmt.Sprintf("the host has token %s, of attempt %d of this op, which this ledger has not announced", t.Name, n)}
		}
		delete(missing, n)
	}
	for _, n := range slices.Sorted(maps.Keys(missing)) {
		by := p.by
		by.token = fmt.Sprintf("%s%d", p.stem, n)
		_, err := p.host.makeToken(ctx, p.at, by, dead, fmt.Sprintf("writ tombstone attempt=%d %s", n, p.what))
		if errors.Is(err, errTokenExists) {
			return &engine.OtherCopyError{Why: fmt.Sprintf("token %s, of attempt %d of this op, came into being while attempt %d was prepared", by.token, n, p.number)}
		}
		if err != nil {
			return fmt.Errorf("take the name of the missing token of attempt %d: %w", n, err)
		}
	}
	return nil
}

// makeToken makes the attempt's token. Of all copies of the ledger that try, the
// host lets one succeed.
func (p *preparation) makeToken(ctx context.Context) (Secret, error) {
	now, err := p.host.nodeTime(ctx, p.target.node)
	if err != nil {
		return "", engine.Definite(err)
	}
	// The random part tells our token from one that a copy of this very process
	// makes, with the same op id: a virtual machine can be cloned while it runs.
	var launch [8]byte
	_, _ = rand.Read(launch[:]) // never fails
	p.comment = fmt.Sprintf("writ op=%s attempt=%d %s launch=%s %s", p.opID, p.number, p.what, hex.EncodeToString(launch[:]), clockNote(now))
	secret, err := p.host.makeToken(ctx, p.at, p.by, now.Add(p.host.service.lease).Unix(), p.comment)
	switch {
	case err == nil:
		return secret, nil
	case errors.Is(err, errTokenExists):
		return "", &engine.OtherCopyError{Why: fmt.Sprintf("the host has a token of attempt %d of this op already", p.number)}
	case notMade(err):
		return "", engine.Definite(err)
	}
	return "", p.settle(ctx, err)
}

// notMade tells whether a failure to make a token proves that none was made.
func notMade(err error) bool {
	if re, ok := errors.AsType[*RequestError](err); ok {
		return !re.Written
	}
	e := asStatus(err)
	if e == nil || e.html {
		return false
	}
	switch e.Status {
	case http.StatusBadRequest:
		return len(e.Errors) > 0
	case http.StatusUnauthorized, http.StatusForbidden, 595:
		return true
	}
	return false
}

// settle finds out what a lost answer to the token's creation leaves behind.
//
// That our request was not sent needs no finding out: the secret was in the
// answer, the host shows it once, and nobody else was given it. So, with no copy
// of the ledger about, this is definite whether or not the token exists. But it
// may exist because a copy has made it, and our creation was refused, unheard:
// then the copy holds the secret. The token's comment, which is ours or not,
// tells. If there is none yet, ours may still be on its way, or a copy's: the
// tombstone made in its place decides that, too.
func (p *preparation) settle(ctx context.Context, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.host.fenceTimeout)
	defer cancel()
	found, err := p.retire(ctx)
	switch {
	case found.Comment == p.comment:
		// Ours, and dead if err is nil. If not, it is good for the length of the
		// lease, to nobody.
		return engine.Definite(fmt.Errorf("the answer with the token's secret is lost, so nobody can ever use it: %w", cause))
	case found.Comment != "", err == nil:
		return &engine.OtherCopyError{Why: fmt.Sprintf("the host's token of attempt %d of this op was made by somebody else", p.number)}
	}
	return fmt.Errorf("the answer to the creation of the token is lost (%w), and the host can't be asked about it: %v; "+
		"this process has not sent the request, but whether another copy of the ledger has can't be told", cause, err)
}

// entitle gives the token its rights and checks what it may do then, and on
// what.
func (p *preparation) entitle(ctx context.Context) error {
	if further := p.target.conduct.further; further != nil {
		more, err := further(ctx, p.host, p.target)
		if err != nil {
			return err
		}
		p.by.rights = slices.Concat(p.by.rights, more)
	}
	for _, r := range p.by.rights {
		if err := p.host.empower(ctx, p.at, p.by, r); err != nil {
			return err
		}
	}
	for _, r := range p.by.rights {
		if err := p.checkRight(ctx, r); err != nil {
			return err
		}
	}
	if err := p.target.conduct.recheck(ctx, p.host, p.target); err != nil {
		return err
	}
	if !time.Now().Before(p.expires) {
		return fmt.Errorf("the signed document expired at %s, while the launch was prepared", p.expires.UTC().Format(time.RFC3339))
	}
	return nil
}

// checkRight asks the node what the token may do on an object: exactly what the
// request needs there.
func (p *preparation) checkRight(ctx context.Context, r right) error {
	path := "/access/permissions?" + url.Values{"path": {r.object}, "userid": {p.by.fullToken()}}.Encode()
	reply, err := p.host.getOwn(ctx, p.at, path)
	if err != nil {
		return err
	}
	var byPath map[string]map[string]flag
	if err := reply.decode(&byPath); err != nil {
		return fmt.Errorf("GET %s: %w", path, err)
	}
	rights, role := byPath[r.object], p.by.roleFor(r.privilege)
	needed := 0
	for _, other := range p.by.rights {
		if other.object == r.object {
			needed++
		}
	}
	passedOn, held := rights[r.privilege]
	switch {
	case !held:
		return fmt.Errorf("the attempt's token lacks %s on %s: user %s must have it there, and role %s hold it",
			r.privilege, r.object, p.by.user, role)
	case len(rights) > needed || bool(passedOn):
		return fmt.Errorf("the attempt's token may do more than it needs on %s (%q): role %s must hold %s and nothing else",
			r.object, slices.Sorted(maps.Keys(rights)), role, r.privilege)
	}
	return nil
}

// discardTimeout bounds what is done for tidiness alone.
const discardTimeout = 15 * time.Second

// discard kills a token whose secret this process drops. If it fails, the token
// lives until the end of its lease, and nobody can use it.
func (p *preparation) discard(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), discardTimeout)
	defer cancel()
	if _, err := p.retire(ctx); err != nil {
		p.log.Warn("the token of an attempt that was not launched stays until its lease ends", "token", p.by.fullToken(), "err", err)
	}
}

func (p *preparation) retire(ctx context.Context) (tokenInfo, error) {
	at, _, err := p.host.quorateNode(ctx, p.target.node)
	if err != nil {
		return tokenInfo{}, err
	}
	return p.host.retire(ctx, at, p.by, p.comment)
}
