package proxmox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"writ/domain/engine"
	"writ/domain/op"
)

// guestDestroy carries out ops of the class guest-destroy.
type guestDestroy struct{ host *Host }

// GuestDestroy gives the executor of the class guest-destroy: it removes a
// virtual machine or container with all volumes that are its own.
func (h *Host) GuestDestroy() engine.Executor { return &guestDestroy{host: h} }

// Observe implements engine.Executor.
func (d *guestDestroy) Observe(ctx context.Context, a engine.Attempt) (op.Observed, error) {
	return d.host.ReadGuest(ctx, a.Intent.Target)
}

// Request implements engine.Executor. A parameter that the intent does not
// give is not sent: the host's own default is then in force.
func (d *guestDestroy) Request(a engine.Attempt, seen op.Observed) (op.Request, string, error) {
	intent := a.Intent
	if err := intent.Check(); err != nil {
		return op.Request{}, "", fmt.Errorf("make the request: %w", err)
	}
	if intent.Class != op.GuestDestroy {
		return op.Request{}, "", fmt.Errorf("make the request: class %s is not %s", intent.Class, op.GuestDestroy)
	}
	if err := matches(seen, *intent.Target.Guest); err != nil {
		return op.Request{}, "", fmt.Errorf("make the request for %s: %w", intent.Target, err)
	}
	credential, err := d.host.credentialFor(a)
	if err != nil {
		return op.Request{}, "", fmt.Errorf("make the request for %s: %w", intent.Target, err)
	}
	query := make(url.Values)
	for name, value := range map[string]*bool{"purge": intent.Params.Purge, "force": intent.Params.Force} {
		if value != nil {
			// 1 and 0 are the only booleans that the host takes in a query.
			query.Set(name, map[bool]string{true: "1", false: "0"}[*value])
		}
	}
	return op.Request{
		Method: http.MethodDelete,
		Path:   guestPath(seen.Node, *intent.Target.Guest),
		Query:  query.Encode(), // sorted by key
	}, credential, nil
}

// matches checks that what was observed is a guest of the target's number.
func matches(seen op.Observed, g op.Guest) error {
	switch {
	case !seen.Found:
		return errors.New("no such guest was observed")
	case seen.Type != g.Type || seen.VMID != g.VMID:
		return fmt.Errorf("what was observed is %s %d", seen.Type, seen.VMID)
	}
	return op.CheckNodeName(seen.Node)
}

// Launch implements engine.Executor. The process sends a request for one op id
// at most once, whoever asks: the second call is an error, and an ambiguous
// one, because the first may have taken effect.
//
// In ModeAttempt it first makes the attempt's token. An *engine.OtherCopyError
// is then possible, and is neither definite nor about this process's request.
func (d *guestDestroy) Launch(ctx context.Context, a engine.Attempt, announced *op.Launching) (string, error) {
	h := d.host
	t, err := h.checkAnnounced(a, announced)
	if err != nil {
		return "", engine.Definite(fmt.Errorf("launch: refused before anything was sent: %w", err))
	}
	log := h.log.With("op_id", announced.OpID, "attempt", announced.Attempt, "node", t.node, "vmid", t.guest.VMID, "mode", h.Mode())
	if !h.claimLaunch(announced.OpID) {
		log.Error("a second launch of one attempt was refused")
		return "", fmt.Errorf("launch: the request of op id %s was let go before, what became of it is not known here", announced.OpID)
	}
	as := h.shared
	var p *preparation
	if h.service != nil {
		p = h.prepare(t, a, announced)
		if as, err = p.run(ctx); err != nil {
			log.Warn("launch was not prepared, the request was not sent", "definite", engine.IsDefinite(err), "err", err)
			return "", fmt.Errorf("prepare the launch: %w", err)
		}
	}
	// From here until the answer has been read, the host may have started the
	// task without anyone here knowing.
	body, err := h.send(ctx, h.at(t.node), t.destroy(), as, h.launchTimeout)
	if err != nil {
		proof, err := verdict(t, fmt.Errorf("launch as %s: %w", as.id, err))
		log.Warn("launch failed", "definite", engine.IsDefinite(err), "proof", proof, "err", err)
		if p != nil && engine.IsDefinite(err) {
			p.discard(ctx) // nothing will ever use it, and it can still do something
		}
		return "", err
	}
	upid, err := readUPID(body, t, as.id)
	if err != nil {
		log.Error("the answer to a launch makes no sense", "err", err)
		return "", fmt.Errorf("launch: the host answered 200, but %w; it may have started the task", err)
	}
	log.Info("the host has started the task", "upid", upid)
	return upid, nil
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

// checkAnnounced refuses an announcement that is not one request to destroy
// exactly the guest it names, by this attempt, with its credential.
func (h *Host) checkAnnounced(a engine.Attempt, l *op.Launching) (attempt, error) {
	t, err := announcedAttempt(l)
	if err != nil {
		return attempt{}, err
	}
	want, err := h.credentialFor(a)
	switch {
	case err != nil:
		return attempt{}, err
	case l.OpID == "":
		return attempt{}, errors.New("the announcement has no op id")
	case l.Nonce != a.Nonce || l.Attempt != a.Number:
		return attempt{}, fmt.Errorf("attempt %d was announced, this is attempt %d, or that of another op", l.Attempt, a.Number)
	case l.Credential != want:
		return attempt{}, fmt.Errorf("%s was announced as the credential, this is %s", clip(l.Credential), want)
	case l.Node != t.node:
		return attempt{}, fmt.Errorf("node %q was announced for a guest that was observed on %s", clip(l.Node), t.node)
	}
	if err := t.destroy().check(); err != nil {
		return attempt{}, fmt.Errorf("it does not destroy %s: %w", l.Target, err)
	}
	return t, nil
}

// announcedAttempt takes an announcement of this class apart.
func announcedAttempt(l *op.Launching) (attempt, error) {
	if l == nil {
		return attempt{}, errors.New("nothing was announced")
	}
	if l.Class != op.GuestDestroy {
		return attempt{}, fmt.Errorf("class %q is not %s", clip(string(l.Class)), op.GuestDestroy)
	}
	g, err := guestOf(l.Target)
	if err != nil {
		return attempt{}, err
	}
	if err := matches(l.Observed, g); err != nil {
		return attempt{}, err
	}
	return attempt{request: l.Request, node: l.Observed.Node, guest: g}, nil
}

// destroy is the announced request.
func (t attempt) destroy() mutation {
	return mutation{kind: destroys, by: subject{node: t.node, guest: t.guest}, request: t.request}
}

// taskType is that of the tasks that destroy the guest.
func (t attempt) taskType() string {
	if t.guest.Type == op.LXC {
		return "vzdestroy"
	}
	return "qmdestroy"
}

// readUPID reads the answer to a launch and refuses every task that is not
// this launch's.
func readUPID(body []byte, a attempt, token string) (string, error) {
	r, err := parseReply(body)
	if err != nil {
		return "", err
	}
	var text string
	if err := r.decode(&text); err != nil {
		return "", err
	}
	u, err := ParseUPID(text)
	if err != nil {
		return "", err
	}
	want := UPID{Node: a.node, PID: u.PID, PStart: u.PStart, Start: u.Start, Type: a.taskType(), ID: vmidText(a.guest.VMID), User: token}
	if u != want {
		return "", fmt.Errorf("its task %s is not %s %s of %s on node %s", clip(text), want.Type, want.ID, want.User, want.Node)
	}
	return text, nil
}

// PrecedesEffect implements engine.Executor. Where attempts have tokens of their
// own it is left to the probe, which also knows whether the attempt has another
// task.
func (d *guestDestroy) PrecedesEffect(exitStatus string) bool {
	return d.host.service == nil && matchAny(destroyTaskTexts, exitStatus)
}

// Probe implements engine.Executor.
func (d *guestDestroy) Probe(ctx context.Context, announced *op.Launching, exitStatus string, log []string) (engine.Finding, error) {
	a, err := announcedAttempt(announced)
	if err != nil {
		return engine.Finding{}, fmt.Errorf("probe: %w", err)
	}
	query, err := url.ParseQuery(a.request.Query)
	if err != nil {
		return engine.Finding{}, fmt.Errorf("probe %s: the announced query %q can't be read", announced.Target, clip(a.request.Query))
	}
	who, err := d.host.senderOf(announced)
	if err != nil {
		return engine.Finding{}, fmt.Errorf("probe %s: %w", announced.Target, err)
	}
	p := probe{
		host: d.host, guest: a.guest, before: announced.Observed, forced: query.Get("force") == "1", ended: exitStatus, log: log,
		target: a, announced: announced, who: who,
	}
	f, err := p.run(ctx)
	if err != nil {
		return engine.Finding{}, fmt.Errorf("probe %s: %w", announced.Target, err)
	}
	return f, nil
}
