package proxmox

import (
	"context"
	"fmt"
	"net/url"

	"writ/domain/engine"
	"writ/domain/op"
)

// A stillness is what a probe found of a guest that its op was to leave alive.
type stillness struct {
	p    *probe
	now  op.Observed
	gone string // why there is no such guest any more; empty if there is
	said string // the task's end, for people
	// killed: the task's worker did not end by itself, so that its end does not
	// tell how far it came.
	killed bool
	// again is why a worker that was killed may have left something at work.
	again string
}

// flockTexts are the ends of a task that could not get a lock file: it then waits
// for nobody, and no child of it is at work.
var flockTexts = whole(
	`can't lock file '/var/lock/qemu-server/lock-[0-9]+\.conf' - got timeout`,
	`can't lock file '/run/lock/lxc/pve-config-[0-9]+\.lock' - got timeout`,
	`can't lock file '/var/lock/pve-manager/pve-migrate-[0-9]+' - got timeout`,
)

// lookAtGuest looks at a guest that the op was to leave alive, or to put another
// in the place of. Identity is not compared.
func (p *probe) lookAtGuest(ctx context.Context) (*stillness, error) {
	s := &stillness{p: p, said: fmt.Sprintf("the task ended with %q", clip(p.ended))}
	s.killed = matchAny(killedTexts, p.ended) && !matchAny(flockTexts, p.ended)
	at, err := p.host.locate(ctx, p.before.Node, p.guest)
	switch {
	case err != nil && isHidden(err):
		s.gone = err.Error()
		return s, nil
	case err != nil:
		return nil, err
	case !at.found:
		s.gone = fmt.Sprintf("there is no %s guest with VMID %d any more", p.guest.Type, p.guest.VMID)
		return s, nil
	}
	s.now = at.config.seen
	if err := p.host.readStatus(ctx, p.guest, &s.now); err != nil {
		return nil, err
	}
	if s.killed {
		s.again, _, err = p.orphans(ctx)
	}
	return s, err
}

// lookAtSame is lookAtGuest where the op leaves the guest what it was: another one
// with the VMID means that it is gone.
func (p *probe) lookAtSame(ctx context.Context) (*stillness, error) {
	s, err := p.lookAtGuest(ctx)
	if err == nil && s.gone == "" {
		s.gone = s.stranger()
	}
	return s, err
}

// stranger tells by its marks that the guest is another one, or that nothing speaks
// for its being the same; empty if it is the same for all that is known.
func (s *stillness) stranger() string {
	alike := s.p.liken(s.now)
	switch {
	case alike.verdict(s.p.saysDone()) == different:
		return fmt.Sprintf("VMID %d is now another guest: %s", s.p.guest.VMID, alike.String())
	case len(alike.equal) == 0 && len(alike.unequal) > 0:
		return fmt.Sprintf("it can't be told whether VMID %d is the same guest: %s", s.p.guest.VMID, alike.String())
	}
	return ""
}

func (s *stillness) began() bool { return s.p.ended != "" }

// unclear is a finding that decides nothing, or not all.
func (s *stillness) unclear(effect op.Effect, reasons ...string) engine.Finding {
	if s.again != "" {
		reasons = append(reasons, s.again)
	}
	f := finding(effect, nil, reasons...)
	f.MayStillAct = s.again != ""
	return f
}

// vanished decides about a guest that is no more.
func (s *stillness) vanished() engine.Finding {
	if !s.p.saysDone() {
		return s.unclear(op.EffectUnknown, s.gone)
	}
	return s.p.doneBefore(s.gone)
}

// doneBefore is for a task that ended as a success on a VMID whose guest is no
// more, or can't be known. A token of the attempt's own lost its right together
// with the announced guest, so it was that guest that the task was on. A shared
// token keeps its right, and the task would have taken whoever had the VMID.
func (p *probe) doneBefore(gone string) engine.Finding {
	said := fmt.Sprintf("the task ended with %q", clip(p.ended))
	if p.who.name == "" {
		return finding(op.EffectUnknown, nil, said, "and by now: "+gone, "whether the guest was still the announced one when the task began can't be told with a token "+
			"whose rights do not go with the guest: compare when it was removed with the task's start")
	}
	return finding(op.EffectDone, nil, said, "and since: "+gone)
}

// unchanged decides about a guest that shows no trace of the op.
func (s *stillness) unchanged(reason string) engine.Finding {
	if s.again != "" {
		return s.unclear(op.EffectUnknown, reason)
	}
	return finding(op.EffectNone, nil, reason)
}

// reached decides about a guest that is as the op was to make it, though the task
// does not say that it succeeded: it may have been another's task that did it, if
// there was one. Made is the snapshot that it was to make, nil if it makes none.
func (s *stillness) reached(ctx context.Context, reason string, made *op.SnapshotSeen) (engine.Finding, error) {
	if s.now.Node != s.p.target.node {
		// Where it was meanwhile, and what was done there, the tasks of one node
		// don't tell.
		return s.unclear(op.EffectUnknown, reason, fmt.Sprintf("%s, and the guest is on node %s by now: it can have been a task there, look at its tasks", s.said, s.now.Node)), nil
	}
	own, rival, err := s.p.rival(ctx)
	if err == nil && rival == "" && made != nil {
		rival = own.madeNot(made)
	}
	switch {
	case err != nil:
		return engine.Finding{}, err
	case rival != "":
		return s.unclear(op.EffectUnknown, reason, s.said+", and "+rival), nil
	}
	return finding(op.EffectDone, nil, reason, s.said, fmt.Sprintf("node %s lists no other task that can have done it, nor does the cluster's log", s.p.target.node)), nil
}

// madeNot tells why a snapshot can be another's than a task's that has ended; empty
// if it was made while that ran. A snapshot's time is the second in which its task
// wrote it into the configuration, by the clock that the task's own times are of
// (pve-guest-common AbstractConfig.pm#__snapshot_prepare).
func (r taskRow) madeNot(made *op.SnapshotSeen) string {
	u, err := ParseUPID(r.UPID)
	switch {
	case err != nil:
		return err.Error()
	case r.End == nil:
		return fmt.Sprintf("when task %s ended is not listed yet: look again", r.UPID)
	case made.Time < int64(u.Start) || made.Time > int64(*r.End):
		return fmt.Sprintf("snapshot %s was made at %d by the node's clock, while task %s ran from %d to %d: another has made it",
			made.Name, made.Time, r.UPID, u.Start, int64(*r.End))
	}
	return ""
}

// rival gives the attempt's task as its node lists it, and tells which other task
// of the same kind on the same guest can have done what it was to do; empty if it
// is the only one since the announcement. A task may be in no list, and only in the
// cluster's log, which shows those of others to who has Sys.Syslog on /.
func (p *probe) rival(ctx context.Context) (own taskRow, rival string, err error) {
	tr, err := p.host.trailOf(ctx, p.target, p.announced, p.who)
	if err != nil {
		return own, "", err
	}
	rows, err := p.host.tasks(ctx, p.target.node, url.Values{
		"limit": {fmt.Sprint(pageRows)}, "source": {"all"}, "typefilter": {tr.typ}, "vmid": {tr.id}, "since": {fmt.Sprint(tr.from)},
	})
	if err != nil {
		return own, "", err
	}
	logged, err := p.host.logged(ctx)
	if err != nil {
		return own, "", err
	}
	for _, row := range rows {
		u, err := ParseUPID(row.UPID)
		if err != nil || row.UPID == own.UPID {
			continue // while it moves from one list to the other a task is in both
		}
		if own.UPID != "" || !tr.fits(u) {
			return own, "it can have been task " + row.UPID + ": compare their times", nil
		}
		own = row
	}
	if own.UPID == "" {
		return own, fmt.Sprintf("node %s does not list it any more, nor what else was done", p.target.node), nil
	}
	for _, u := range logged {
		if u.Node == tr.node && u.Type == tr.typ && u.ID == tr.id && int64(u.Start) >= tr.from && u.String() != own.UPID {
			return own, "it can have been task " + u.String() + ", of which only the cluster's log knows: compare their times", nil
		}
	}
	return own, "", nil
}
