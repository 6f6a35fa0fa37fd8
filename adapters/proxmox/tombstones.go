package proxmox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"writ/domain/op"
)

// ForeignAttempts gives the full names of the tokens of attempts that the host
// has and the ledger does not know of. Known is asked with the full name, which is
// the credential of the attempt's OpLaunching, once the host's list has been read:
// it must look at the ledger as it is then. A token is made only when that event
// is durable, so there are none, unless this ledger is older than one that has
// acted: then nothing may be launched. Ask before the first launch, and again now
// and then, as another copy may begin to act later.
//
// An error means that the host could not be asked: that says nothing. The service
// user must be of this ledger alone. With a shared token the host remembers
// nothing, and the answer is always empty.
func (h *Host) ForeignAttempts(ctx context.Context, known func(credential string) bool) ([]string, error) {
	if h.service == nil {
		return nil, nil
	}
	at, _, err := h.quorateNode(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("list the tokens of attempts: %w", err)
	}
	list, err := h.ownTokens(ctx, at)
	if err != nil {
		return nil, fmt.Errorf("list the tokens of attempts: %w", err)
	}
	var foreign []string
	for _, t := range list {
		if full := h.service.user + "!" + t.Name; attemptForm.MatchString(t.Name) && !known(full) {
			foreign = append(foreign, full)
		}
	}
	return foreign, nil
}

// A KnownAttempt is what the ledger knows of an attempt that it has announced.
type KnownAttempt struct {
	// Launched is when it was announced: At of its OpLaunching.
	Launched time.Time
	// ExpiresAt is when the signed document ends.
	ExpiresAt time.Time
	// Open: the op is in flight. Its request or its task may still act, and it is
	// by the token that they are known.
	Open bool
}

const (
	// tombstoneGrace is for how long a tombstone outlives the signed document:
	// for clocks that are wrong, of whatever copy of the ledger there may be.
	tombstoneGrace = time.Hour
	// tombstonesAtOnce bounds the writes of one call. They share a lock with every
	// destroy in the cluster.
	tombstonesAtOnce = 20
)

// CleanTombstones removes tokens of attempts that no copy of the ledger can make
// any more, at most 20 a call, and gives their full names. Known tells what the
// ledger knows of the attempt with a credential; false if it knows of none. Now is
// the ledger's time: never earlier than its newest event.
//
// A token goes only if it is dead and known, its op is not in flight, and the
// signed document has expired an hour ago, by the ledger and by the token's own
// comment, by now and by the host's clock. So nobody can launch the attempt again, and its name is not needed to
// prevent it. What is not known to the ledger is never touched: it is what
// ForeignAttempts warns of. The newest of all attempts stays for good: an older
// copy of the ledger, which does not know of it, is found out by it however late
// it comes back.
//
// After an error what was removed so far is given, too, and the call may be
// repeated. It must not run beside launches of this ledger that it would hold up:
// call it when nothing is to be done, now and then. With a shared token there is
// nothing to remove.
func (h *Host) CleanTombstones(ctx context.Context, now time.Time, known func(credential string) (KnownAttempt, bool)) ([]string, error) {
	if h.service == nil {
		return nil, nil
	}
	at, _, err := h.quorateNode(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("remove tombstones: %w", err)
	}
	list, err := h.ownTokens(ctx, at)
	if err != nil {
		return nil, fmt.Errorf("remove tombstones: %w", err)
	}
	// The later a clock, the more it removes: the earlier of two counts.
	there, err := h.timeAt(ctx, at)
	if err != nil {
		return nil, fmt.Errorf("remove tombstones: %w", err)
	}
	if there.Before(now) {
		now = there
	}
	var removed []string
	for _, t := range h.spent(list, now, known) {
		if len(removed) == tombstonesAtOnce {
			break
		}
		by := subject{user: h.service.user, token: t.Name}
		if err := h.removeToken(ctx, at, by); err != nil {
			return removed, fmt.Errorf("remove tombstone %s: %w", by.fullToken(), err)
		}
		removed = append(removed, by.fullToken())
	}
	return removed, nil
}

// spent are the tokens that may go, those of the oldest attempts first.
func (h *Host) spent(list []tokenInfo, now time.Time, known func(string) (KnownAttempt, bool)) []tokenInfo {
	type mark struct {
		token tokenInfo
		of    KnownAttempt
	}
	var ours []mark
	for _, t := range list {
		if a, ok := known(h.service.user + "!" + t.Name); ok && attemptForm.MatchString(t.Name) {
			ours = append(ours, mark{t, a})
		}
	}
	slices.SortStableFunc(ours, func(a, b mark) int { return a.of.Launched.Compare(b.of.Launched) })
	var gone []tokenInfo
	for i, m := range ours {
		until := m.of.ExpiresAt
		if noted, ok := expiryIn(m.token.Comment); ok && noted.After(until) {
			until = noted
		}
		newest := i == len(ours)-1
		if m.of.ExpiresAt.IsZero() || m.of.Launched.IsZero() {
			continue // when it may go is not known
		}
		if !newest && !m.of.Open && dormant(m.token, now) && now.After(until.Add(tombstoneGrace)) {
			gone = append(gone, m.token)
		}
	}
	return gone
}

// dormant tells whether a token is refused everywhere: made void, or past the end
// of its lease.
func dormant(t tokenInfo, now time.Time) bool {
	return t.Expire > 0 && now.Add(-tombstoneGrace).After(time.Unix(int64(t.Expire), 0))
}

// removeToken makes the token's name free. One that is not there is as good.
func (h *Host) removeToken(ctx context.Context, at endpoint, s subject) error {
	_, err := h.write(ctx, at, mutation{
		kind: removes, by: s, request: op.Request{Method: http.MethodDelete, Path: s.tokenPath()},
	})
	if e, ok := errors.AsType[*StatusError](err); ok && e.Status == http.StatusInternalServerError && e.Text() == noSuchToken(s) {
		return nil
	}
	return err
}
