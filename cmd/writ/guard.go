package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"writ/adapters/highwater"
	"writ/adapters/proxmox"
	"writ/domain/engine"
	"writ/domain/signedop"
)

// How long a token that the view does not know of is waited for to turn up in
// it, before it is a stranger's: the view follows the ledger within moments.
const (
	viewPatience = 10 * time.Second
	viewLooks    = 100 * time.Millisecond
)

// guard shows the engine whether this is the newest copy of the ledger, and
// whether the clock can be believed.
func (s *service) guard() engine.Guard {
	c := s.opts.Config
	return engine.Guard{
		Witness: highwater.At(c.Store.HighWater), Foreign: s.foreignAttempts, HostTime: s.host.Time,
		Shared: s.opts.Config.Store.remote(), Room: s.room, Skew: time.Duration(c.Limits.ClockSkew),
	}
}

// foreignAttempts gives the credentials of attempts that the host remembers and
// the ledger does not know of.
//
// The host is asked first: what it tells was announced before it was asked, so
// a view that has come that far knows it, unless it is a stranger's.
func (s *service) foreignAttempts(ctx context.Context) ([]string, error) {
	at, err := s.host.ForeignAttempts(ctx, func(c string) bool { return s.provenance.Accepted[c] })
	if err != nil || len(at) == 0 {
		return nil, err
	}
	for waited := time.Duration(0); ; waited += viewLooks {
		var foreign []string
		for _, c := range at {
			_, known, err := s.announced.By(ctx, c)
			if err != nil {
				return nil, err
			}
			if !known {
				foreign = append(foreign, c)
			}
		}
		if len(foreign) == 0 {
			return nil, nil
		}
		if waited >= viewPatience {
			// The alarm is for good: the ledger itself has the last word, not a
			// view that may have been held up.
			return unknownAttempts(ctx, s.Store, func(func(string) bool) ([]string, error) { return foreign, nil })
		}
		if err := (systemClock{}).Wait(ctx, viewLooks); err != nil {
			return nil, errors.Join(err, s.attempts.ready())
		}
	}
}

// room fails once the disk has no more room for the ledger than what the ends
// of ops need.
func (s *service) room() error {
	if s.Store.embedded == nil {
		return nil // the database looks after its own disks
	}
	free, _, err := s.Store.embedded.Room()
	reserve := uint64(s.opts.Config.Limits.DiskReserve)
	switch {
	case err != nil:
		return fmt.Errorf("how much room its disk has can't be found out: %w", err)
	case free < reserve:
		return fmt.Errorf("its disk has %s free, and %s are kept for the ends of ops (limits.disk_reserve); make room in %s",
			byteSize(free), byteSize(reserve), s.opts.Config.Store.Embedded.Path)
	}
	return nil
}

// tombstonesEvery is the time between two looks for tokens that have served.
const tombstonesEvery = 15 * time.Minute

// cleanTombstones removes, now and then, when nothing is to be done, the tokens
// of attempts that can't be made any more.
func (s *service) cleanTombstones(ctx context.Context) {
	for (systemClock{}).Wait(ctx, tombstonesEvery) == nil {
		if at := s.engine.Standing(); !at.Leads || at.Halted != nil {
			continue
		}
		if busy, err := s.inFlight.List(ctx); err != nil || len(busy) > 0 {
			continue
		}
		removed, err := s.host.CleanTombstones(ctx, systemClock{}.Now(), func(c string) (proxmox.KnownAttempt, bool) { return s.attemptOf(ctx, c) })
		if err != nil {
			s.opts.Log.Warn("tokens of attempts that have served could not be removed, trying again later", "err", err)
		}
		if len(removed) > 0 {
			s.opts.Log.Info("tokens of attempts that have served were removed", "count", len(removed))
		}
	}
}

// attemptOf gives what the ledger knows of the attempt with a credential. What
// can't be told for certain is not known: its token stays.
func (s *service) attemptOf(ctx context.Context, credential string) (proxmox.KnownAttempt, bool) {
	n, found, err := s.announced.By(ctx, credential)
	if err != nil || !found {
		return proxmox.KnownAttempt{}, false
	}
	o, err := engine.LoadOp(ctx, s.Store, s.Store.LedgerID(), n)
	if err != nil || o.Started == nil || o.Launching == nil {
		return proxmox.KnownAttempt{}, false
	}
	u, err := signedop.Parse(o.Started.Envelope)
	if err != nil {
		return proxmox.KnownAttempt{}, false
	}
	return proxmox.KnownAttempt{
		Launched: o.Launching.At, ExpiresAt: u.UnverifiedDocument().ExpiresAt, Open: o.State.InFlight(),
	}, true
}
