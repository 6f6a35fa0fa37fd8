package proxmox

import (
	"context"
	"errors"
	"fmt"

	"writ/domain/engine"
	"writ/domain/op"
)

// An executor carries out the ops of one class. What it does is the same for
// all of them; what is particular to one is its conduct.
type executor struct {
	host    *Host
	conduct *conduct
}

// Observe implements engine.Executor.
func (x *executor) Observe(ctx context.Context, a engine.Attempt) (op.Observed, error) {
	if err := a.Intent.Check(); err != nil {
		return op.Observed{}, fmt.Errorf("look at the target: %w", err)
	}
	seen, err := x.conduct.on(a.Intent.Target).observe(ctx, x.host, a)
	if err != nil || !a.Planned || !seen.Found {
		return seen, err
	}
	if seen.Plan, err = x.host.planDigest(ctx, a.Intent, seen); err != nil {
		return op.Observed{}, err
	}
	return seen, nil
}

// Request implements engine.Executor. A parameter that the intent does not
// give is not sent: the host's own default is then in force.
func (x *executor) Request(a engine.Attempt, seen op.Observed) (op.Request, string, error) {
	intent := a.Intent
	if err := intent.Check(); err != nil {
		return op.Request{}, "", fmt.Errorf("make the request: %w", err)
	}
	if intent.Class != x.conduct.class {
		return op.Request{}, "", fmt.Errorf("make the request: class %s is not %s", intent.Class, x.conduct.class)
	}
	if err := matches(seen, intent.Target); err != nil {
		return op.Request{}, "", fmt.Errorf("make the request for %s: %w", intent.Target, err)
	}
	credential, err := x.host.credentialFor(a)
	if err != nil {
		return op.Request{}, "", fmt.Errorf("make the request for %s: %w", intent.Target, err)
	}
	return x.conduct.on(intent.Target).compose(intent, seen), credential, nil
}

// matches checks that what was observed is what the target names.
func matches(seen op.Observed, t op.Target) error {
	switch {
	case !seen.Found:
		return errors.New("no such target was observed")
	case t.Guest != nil && (seen.Type != t.Guest.Type || seen.VMID != t.Guest.VMID):
		return fmt.Errorf("what was observed is %s %d", seen.Type, seen.VMID)
	case t.Guest == nil && seen.Node != t.Node:
		return fmt.Errorf("it was observed on node %s", clip(seen.Node))
	}
	return op.CheckNodeName(seen.Node)
}

// Launch implements engine.Executor. The process sends a request for one op id
// at most once, whoever asks: the second call is an error, and an ambiguous
// one, because the first may have taken effect.
//
// For the wipe of a disk it first logs root@pam in. For anything else it makes the
// attempt's token, in ModeAttempt. An *engine.OtherCopyError
// is then possible, and is neither definite nor about this process's request.
func (x *executor) Launch(ctx context.Context, a engine.Attempt, announced *op.Launching) (string, error) {
	h := x.host
	t, err := x.checkAnnounced(a, announced)
	if err != nil {
		return "", engine.Definite(fmt.Errorf("launch: refused before anything was sent: %w", err))
	}
	log := h.log.With("op_id", announced.OpID, "attempt", announced.Attempt, "node", t.node, "target", t.target.String(), "mode", h.Mode())
	if !h.claimLaunch(announced.OpID) {
		log.Error("a second launch of one attempt was refused")
		return "", fmt.Errorf("launch: the request of op id %s was let go before, what became of it is not known here", announced.OpID)
	}
	as := h.shared
	var p *preparation
	switch {
	case t.conduct.byRoot:
		as, err = h.asRoot(ctx, t, a.ExpiresAt)
	case h.service != nil:
		p = h.prepare(t, a, announced)
		as, err = p.run(ctx)
	}
	if err != nil {
		log.Warn("launch was not prepared, the request was not sent", "definite", engine.IsDefinite(err), "err", err)
		return "", fmt.Errorf("prepare the launch: %w", err)
	}
	// From here until the answer has been read, the host may have started the
	// task without anyone here knowing.
	body, err := h.send(ctx, h.at(t.node), t.mutation(), as, h.launchTimeout)
	if err != nil {
		proof, err := verdict(t, fmt.Errorf("launch as %s: %w", announced.Credential, err))
		if p != nil && engine.IsDefinite(err) {
			p.discard(ctx) // nothing will ever use it, and it can still do something
		}
		if (p != nil || t.conduct.byRoot) && engine.IsDefinite(err) {
			err = x.onlyAnswer(ctx, announced, err)
		}
		log.Warn("launch failed", "definite", engine.IsDefinite(err), "proof", proof, "err", err)
		return "", err
	}
	upid, err := readUPID(body, t, announced.Credential)
	if errors.Is(err, errIdle) {
		log.Warn("the host found nothing to do")
		if p != nil {
			p.discard(ctx)
		}
		return "", engine.Definite(fmt.Errorf("launch: %w: the guest is not on node %s any more", err, t.node))
	}
	if err != nil {
		log.Error("the answer to a launch makes no sense", "err", err)
		return "", fmt.Errorf("launch: the host answered 200, but %w; it may have started the task", err)
	}
	log.Info("the host has started the task", "upid", upid)
	return upid, nil
}

// onlyAnswer doubts a refusal that the host itself has answered, if the host has
// a task of the attempt all the same: then what lies between has delivered the
// request twice, and this is the answer to the other one. A task of root's may be
// a person's: then a person has to tell.
func (x *executor) onlyAnswer(ctx context.Context, announced *op.Launching, refusal error) error {
	if asStatus(refusal) == nil {
		return refusal
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), discardTimeout)
	defer cancel()
	s, err := x.findTasks(ctx, announced)
	switch {
	case err != nil || len(s.UPIDs) == 0:
		return refusal
	case x.conduct.on(announced.Target).byRoot:
		return fmt.Errorf("%v; yet the host has a task (%s) that a person has started, or the attempt: the request was then delivered more than once", refusal, clip(s.UPIDs[0]))
	}
	return fmt.Errorf("%v; yet the host has a task of the attempt (%s): the request was delivered more than once", refusal, clip(s.UPIDs[0]))
}

// claimLaunch gives the right to send the request of an op id, once in the
// life of the process.
func (h *Host) claimLaunch(opID string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.launched[opID] {
		return false
	}
	h.launched[opID] = true
	return true
}

// checkAnnounced refuses an announcement that is not one request of the
// class on exactly the target that it names, by this attempt, with its credential.
func (x *executor) checkAnnounced(a engine.Attempt, l *op.Launching) (attempt, error) {
	t, err := x.announced(l)
	if err != nil {
		return attempt{}, err
	}
	want, err := x.host.credentialFor(a)
	switch {
	case err != nil:
		return attempt{}, err
	case l.OpID == "":
		return attempt{}, errors.New("the announcement has no op id")
	case !l.Target.Equal(a.Intent.Target) || l.Class != a.Intent.Class:
		return attempt{}, fmt.Errorf("%s of %s was announced, ordered is %s of %s", l.Class, l.Target, a.Intent.Class, a.Intent.Target)
	case l.Nonce != a.Nonce || l.Attempt != a.Number:
		return attempt{}, fmt.Errorf("attempt %d was announced, this is attempt %d, or that of another op", l.Attempt, a.Number)
	case l.Credential != want:
		return attempt{}, fmt.Errorf("%s was announced as the credential, this is %s", clip(l.Credential), want)
	case l.Node != t.node:
		return attempt{}, fmt.Errorf("node %q was announced for a target that was observed on %s", clip(l.Node), t.node)
	}
	if err := t.mutation().check(); err != nil {
		return attempt{}, fmt.Errorf("it is no %s of %s: %w", l.Class, l.Target, err)
	}
	return t, nil
}

// announced takes an announcement of this class apart.
func (x *executor) announced(l *op.Launching) (attempt, error) {
	if l != nil && l.Class != x.conduct.class {
		return attempt{}, fmt.Errorf("class %q is not %s", clip(string(l.Class)), x.conduct.class)
	}
	return announcedAttempt(l)
}

// announcedAttempt takes an announcement apart.
func announcedAttempt(l *op.Launching) (attempt, error) {
	if l == nil {
		return attempt{}, errors.New("nothing was announced")
	}
	conduct := conductOf(l.Class)
	if conduct == nil {
		return attempt{}, fmt.Errorf("class %q is not carried out here", clip(string(l.Class)))
	}
	if (l.Target.Guest != nil) != l.Class.ActsOnGuest() {
		return attempt{}, fmt.Errorf("read %s: class %s is not about such a target", l.Target, l.Class)
	}
	t := attempt{conduct: conduct.on(l.Target), request: l.Request, target: l.Target, node: l.Observed.Node, seen: l.Observed}
	if l.Target.Guest != nil {
		g, err := guestOf(l.Target)
		if err != nil {
			return attempt{}, err
		}
		t.guest = g
	}
	return t, matches(l.Observed, l.Target)
}

// errIdle says that the host has answered a launch, and started nothing.
var errIdle = errors.New("the host found nothing to do")

// readUPID reads the answer to a launch and refuses every task that is not
// this launch's.
func readUPID(body []byte, a attempt, credential string) (string, error) {
	r, err := parseReply(body)
	if err != nil {
		return "", err
	}
	var text string
	if err := r.decode(&text); err != nil {
		return "", err
	}
	if idle := a.conduct.idle; idle != "" && text == idle {
		return "", errIdle
	}
	u, err := ParseUPID(text)
	if err != nil {
		return "", err
	}
	typ, id := a.conduct.task(a)
	want := UPID{Node: a.node, PID: u.PID, PStart: u.PStart, Start: u.Start, Type: typ, ID: id, User: credential}
	if u != want {
		return "", fmt.Errorf("its task %s is not %s %s of %s on node %s", clip(text), want.Type, want.ID, want.User, want.Node)
	}
	return text, nil
}

// PrecedesEffect implements engine.Executor. Where attempts have tokens of their
// own it is left to the probe, which also knows whether the attempt has another
// task.
func (x *executor) PrecedesEffect(exitStatus string) bool {
	return x.host.service == nil && matchAny(x.conduct.untouched, exitStatus)
}

// Probe implements engine.Executor.
func (x *executor) Probe(ctx context.Context, announced *op.Launching, exitStatus string, log []string) (engine.Finding, error) {
	a, err := x.announced(announced)
	if err != nil {
		return engine.Finding{}, fmt.Errorf("probe: %w", err)
	}
	who, err := x.host.senderOf(announced)
	if err != nil {
		return engine.Finding{}, fmt.Errorf("probe %s: %w", announced.Target, err)
	}
	p := probe{
		host: x.host, guest: a.guest, before: announced.Observed, ended: exitStatus, log: log,
		target: a, announced: announced, who: who,
	}
	f, err := p.run(ctx)
	if err != nil {
		return engine.Finding{}, fmt.Errorf("probe %s: %w", announced.Target, err)
	}
	return f, nil
}
