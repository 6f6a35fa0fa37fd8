package simulation_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"writ/adapters/proxmox"
	"writ/domain/engine"
	"writ/domain/op"
)

// An executor is the host as one process reaches it: exchange by exchange, each
// of which can be lost, or come between two others. It decides as the adapter
// for Proxmox VE does.
type executor struct{ by *process }

const (
	pollPatience   = 20 * time.Second
	launchPatience = time.Minute
	lease          = time.Minute // of an attempt's token, by the clock of the node
)

// ask is one exchange. Nothing was sent if the error is errLost.
func (x executor) ask(ctx context.Context, kind callKind, what string, l *op.Launching, patience time.Duration, at string, act func()) error {
	s := x.by.sim
	key := x.by.name + " " + what
	if l != nil {
		key += " of " + l.OpID[:8]
	}
	away := false
	err := s.park(&call{
		key: key, by: x.by, ctx: ctx, kind: kind, until: s.now().Add(patience),
		act: func() {
			if at != "" && !s.host.nodes[at].reachable(s.now()) {
				away = true
				return
			}
			act()
		},
	})
	if err == nil && away {
		return errLost
	}
	return err
}

// front is a node that answers questions about the cluster.
func (h *host) front() string {
	now := h.sim.now()
	for _, name := range h.names {
		if n := h.nodes[name]; n.reachable(now) && n.quorate(now) {
			return name
		}
	}
	return h.names[0]
}

func (x executor) Facts(ctx context.Context, t op.Target) (f op.Facts, err error) {
	h := x.by.sim.host
	err = x.ask(ctx, asks, fmt.Sprint("facts about ", t.Guest.VMID), nil, pollPatience, h.front(), func() {
		if g := h.guests[t.Guest.VMID]; g != nil {
			f = op.Facts{Found: true, Node: g.node, Name: fmt.Sprintf("web-%d", g.number), Storages: []string{"local-lvm"}}
		}
	})
	return f, err
}

func (x executor) Observe(ctx context.Context, a engine.Attempt) (seen op.Observed, err error) {
	h, t := x.by.sim.host, a.Intent.Target
	err = x.ask(ctx, asks, fmt.Sprint("look at ", t.Guest.VMID), nil, pollPatience, h.front(), func() {
		if g := h.guests[t.Guest.VMID]; g != nil {
			now := h.sim.now()
			seen = g.seen()
			seen.NodeOnline, seen.Quorate = h.nodes[g.node].reachable(now), h.nodes[g.node].quorate(now)
		}
	})
	return seen, err
}

func (x executor) Request(a engine.Attempt, seen op.Observed) (op.Request, string, error) {
	if x.by.sim.host.shared {
		return sharedExecutor.Request(a, seen)
	}
	return attemptExecutor.Request(a, seen)
}

func (x executor) PrecedesEffect(exit string) bool {
	return x.by.sim.host.shared && beforeEffect(exit)
}

func (x executor) Task(ctx context.Context, upid string) (t engine.Task, err error) {
	h := x.by.sim.host
	u, err := proxmox.ParseUPID(upid)
	if err != nil {
		return t, err
	}
	err = x.ask(ctx, asks, "how is "+upid[5:40], nil, pollPatience, u.Node, func() {
		t = engine.Task{Phase: engine.TaskForgotten}
		switch found := h.find(upid); {
		case found == nil, !found.ended.IsZero() && found.ended.Before(found.node.history):
		case found.ended.IsZero():
			t.Phase = engine.TaskActive
		default:
			t = engine.Task{Phase: engine.TaskEnded, ExitStatus: found.exit, Log: slices.Clone(found.log)}
		}
	})
	return t, err
}

// Launch sends the one request of an attempt, with a token made for it.
func (x executor) Launch(ctx context.Context, a engine.Attempt, l *op.Launching) (string, error) {
	if x.by.launched[l.OpID] {
		return "", errors.New("the request of this op id was let go before")
	}
	x.by.launched[l.OpID] = true
	sent := x.by.sim.launching(x.by, l)
	if x.by.sim.host.shared {
		return x.send(ctx, sent, nil, l)
	}
	bounded, cancel := context.WithTimeout(ctx, lease)
	defer cancel()
	t, err := x.prepare(bounded, a, l)
	if err != nil {
		return "", err
	}
	if err := x.entitle(bounded, t, l); err != nil || !x.by.Now().Before(a.ExpiresAt) {
		if err == nil {
			err = errors.New("the signed document has expired")
		}
		_, _ = x.retire(context.WithoutCancel(ctx), l, t.comment)
		return "", engine.Definite(err)
	}
	upid, err := x.send(ctx, sent, t, l)
	if engine.IsDefinite(err) {
		_, _ = x.retire(context.WithoutCancel(ctx), l, t.comment)
	}
	return upid, err
}

// prepare compares the host's memory of this nonce with the ledger's, and makes
// the attempt's token.
func (x executor) prepare(ctx context.Context, a engine.Attempt, l *op.Launching) (*token, error) {
	h := x.by.sim.host
	stem, _, _ := cutLast(l.Credential, "-")
	var strange string
	var missing []string
	var why error
	if err := x.ask(ctx, asks, "register", l, pollPatience, l.Node, func() {
		now, n := h.sim.now(), h.nodes[l.Node]
		if !n.quorate(now) {
			why = errors.New("the node is not part of a quorate cluster")
			return
		}
		for _, t := range h.order {
			if s, number, _ := cutLast(t.name, "-"); s == stem && !slices.ContainsFunc(a.Earlier, func(e int) bool { return fmt.Sprint(e) == number }) {
				strange = t.name
			}
		}
		for _, e := range a.Earlier {
			if name := fmt.Sprintf("%s-%d", stem, e); h.tokens[name] == nil {
				missing = append(missing, name)
			}
		}
	}); err != nil {
		return nil, engine.Definite(err)
	}
	switch {
	case why != nil:
		return nil, engine.Definite(why)
	case strange != "":
		return nil, &engine.OtherCopyError{Why: "the host has token " + strange}
	}
	for _, name := range missing {
		exists := false
		if err := x.ask(ctx, moves, "tombstone", l, pollPatience, l.Node, func() {
			_, exists = h.makeToken(name, "tombstone", l.Node, time.Time{})
		}); err != nil {
			return nil, engine.Definite(err)
		}
		if exists {
			return nil, &engine.OtherCopyError{Why: "token " + name + " came into being meanwhile"}
		}
	}
	return x.make(ctx, l)
}

func (x executor) make(ctx context.Context, l *op.Launching) (made *token, err error) {
	h := x.by.sim.host
	x.by.secrets++
	comment := fmt.Sprintf("%s %s %d", l.OpID, x.by.name, x.by.secrets)
	exists := false
	err = x.ask(ctx, moves, "make token", l, pollPatience, l.Node, func() {
		made, exists = h.makeToken(l.Credential, comment, l.Node, h.sim.now().Add(h.nodes[l.Node].skew).Add(lease))
	})
	switch {
	case err == nil && exists:
		return nil, &engine.OtherCopyError{Why: "the host has a token of this attempt already"}
	case err == nil:
		return made, nil
	case errors.Is(err, errLost):
		return nil, engine.Definite(err)
	}
	// The secret is lost with the answer: what is there can't be used, if it is
	// ours.
	found, retired := x.retire(context.WithoutCancel(ctx), l, comment)
	switch {
	case found == comment:
		return nil, engine.Definite(errors.New("the answer with the token's secret is lost"))
	case found != "" || retired == nil:
		return nil, &engine.OtherCopyError{Why: "the token of this attempt was made by somebody else"}
	}
	return nil, fmt.Errorf("what became of the token is not known: %w", retired)
}

// makeToken makes a token if there is none of its name.
func (h *host) makeToken(name, comment, through string, ends time.Time) (*token, bool) {
	if h.tokens[name] != nil {
		return nil, true
	}
	t := &token{name: name, comment: comment, through: through, ends: ends, made: h.sim.now()}
	if ends.IsZero() {
		t.dead = h.sim.now()
	}
	h.tokens[name] = t
	h.order = append(h.order, t)
	return t, false
}

// entitle gives the token its right, and looks once more on whom.
func (x executor) entitle(ctx context.Context, t *token, l *op.Launching) error {
	h := x.by.sim.host
	id := l.Target.Guest.VMID
	if err := x.ask(ctx, moves, "entitle", l, pollPatience, l.Node, func() { t.right = h.guests[id] }); err != nil {
		return err
	}
	digest := ""
	if err := x.ask(ctx, asks, "look once more", l, pollPatience, l.Node, func() {
		if g := h.guests[id]; g != nil && g.node == l.Node {
			digest = g.digest()
		}
	}); err != nil {
		return err
	}
	if digest != l.Observed.Digest {
		return errors.New("the configuration has changed since it was announced")
	}
	return nil
}

// send sends the request. What its failure proves the adapter says.
func (x executor) send(ctx context.Context, sent *sent, t *token, l *op.Launching) (upid string, err error) {
	h := x.by.sim.host
	var refusal error
	err = x.ask(ctx, moves, "destroy", l, launchPatience, l.Node, func() {
		upid, refusal = h.receive(x.by, sent, t, l)
	})
	if err == nil && refusal != nil {
		err = refusal
	}
	switch {
	case err == nil:
		return upid, nil
	case refusal != nil && errors.Is(err, refusal):
	default:
		err = &proxmox.RequestError{Method: "DELETE", Path: l.Request.Path, Written: !errors.Is(err, errLost), Err: err}
	}
	return "", proxmox.LaunchVerdict(l, err)
}

// retire makes the attempt's token void, or makes it as one that is. It gives the
// comment that was found.
func (x executor) retire(ctx context.Context, l *op.Launching, comment string) (found string, err error) {
	h := x.by.sim.host
	through := ""
	var why error
	err = x.ask(ctx, moves, "retire", l, pollPatience, "", func() {
		now := h.sim.now()
		for _, name := range h.names {
			n := h.nodes[name]
			if n.reachable(now) && n.quorate(now) && (through == "" || through == l.Node) {
				through = name
			}
		}
		if through == "" {
			why = errors.New("no node of a quorate cluster answers")
			return
		}
		t := h.tokens[l.Credential]
		if t == nil {
			t, _ = h.makeToken(l.Credential, comment, through, time.Time{})
		}
		if t.dead.IsZero() {
			t.dead, t.through = now, through
		}
		found = t.comment
	})
	if err == nil {
		err = why
	}
	if err != nil {
		return "", err
	}
	return found, nil
}

// cutLast cuts around the last separator.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
