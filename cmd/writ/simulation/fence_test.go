package simulation_test

import (
	"context"
	"fmt"
	"slices"
	"time"

	"writ/domain/engine"
	"writ/domain/op"
)

// FindTasks looks for the tasks that an announced request has started.
func (x executor) FindTasks(ctx context.Context, l *op.Launching) (s engine.TaskSearch, err error) {
	h := x.by.sim.host
	s.Exact = !h.shared
	err = x.ask(ctx, asks, "find tasks", l, pollPatience, l.Node, func() {
		now := h.sim.now()
		from, sure := l.At.Add(-x.by.skew-10*time.Second), true
		if t := h.tokens[l.Credential]; t != nil && t.made.Before(from) {
			from = t.made.Add(-10 * time.Second)
		} else if t == nil {
			sure = h.shared
		}
		for _, t := range h.tasks {
			if h.fits(t, l) && (!h.shared || !t.began.Before(from)) && (t.inList(now) && (t.node.name == l.Node || t.node.reachable(now)) || t.never && t.began.Before(now.Add(-time.Second))) {
				s.UPIDs = append(s.UPIDs, t.upid)
			}
		}
		s.Complete = sure && h.nodes[l.Node].history.Before(from)
		s.Reasons = []string{"looked through"}
	})
	if err != nil {
		return engine.TaskSearch{}, err
	}
	return s, nil
}

// fits tells whether a task can be that of an announcement.
func (h *host) fits(t *task, l *op.Launching) bool {
	if !h.shared {
		return t.request.token != nil && t.request.token.name == l.Credential
	}
	return t.node.name == l.Node && t.request.l.Target.Guest.VMID == l.Target.Guest.VMID
}

// Fence makes the attempt's token void, sees that the guest's node knows, and
// protects the guest.
func (x executor) Fence(ctx context.Context, l *op.Launching) (engine.Fence, error) {
	h := x.by.sim.host
	f := engine.Fence{Confirmed: true}
	say := func(why string) { f.Confirmed, f.Reasons = false, append(f.Reasons, why) }
	if h.shared {
		say("the token is shared")
	} else {
		if _, err := x.retire(ctx, l, "tombstone of "+l.OpID); err != nil {
			say("the token could not be made void: " + err.Error())
		}
		if err := x.readBack(ctx, l); err != nil {
			say("the node is not known to refuse the token: " + err.Error())
		}
	}
	x.protect(ctx, l, &f, say)
	if err := x.ask(ctx, asks, "tasks behind the fence", l, pollPatience, l.Node, func() {}); err != nil {
		say("the tasks could not be looked through: " + err.Error())
	}
	if err := ctx.Err(); err != nil {
		return engine.Fence{}, err
	}
	return f, nil
}

// readBack waits until the guest's node itself shows the token as void.
func (x executor) readBack(ctx context.Context, l *op.Launching) error {
	h := x.by.sim.host
	var err error
	for range 6 {
		void := false
		err = x.ask(ctx, asks, "read the token back", l, pollPatience, l.Node, func() {
			t := h.tokens[l.Credential]
			void = t != nil && t.seenDead(h.nodes[l.Node], h.sim.now())
		})
		if err == nil && void {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("node %s still shows the token as good", l.Node)
		}
		if ended := x.by.sim.park(&call{
			key: x.by.name + " pause of the fence of " + l.OpID[:8], by: x.by, ctx: ctx, kind: waits, due: x.by.sim.now().Add(2 * time.Second),
		}); ended != nil {
			return ended
		}
	}
	return err
}

func (x executor) protect(ctx context.Context, l *op.Launching, f *engine.Fence, say func(string)) {
	h := x.by.sim.host
	for range 3 {
		var why string
		busy := false
		err := x.ask(ctx, moves, "protect", l, pollPatience, h.front(), func() {
			g, now := h.guests[l.Target.Guest.VMID], h.sim.now()
			switch {
			case g == nil:
				f.Gone, why = true, "there is no guest to protect"
			case g.uuid != l.Observed.SMBIOSUUID || g.vmgenid != l.Observed.VMGenID:
				f.Gone, why = g.uuid != l.Observed.SMBIOSUUID, "it is another guest by now"
			case !h.nodes[g.node].reachable(now) || !h.nodes[g.node].quorate(now):
				why = "the guest's node is not part of the quorum"
			case g.lock == "destroyed":
				why = "a destroy of the guest ended half-way"
			case g.protection:
				f.Digest = g.digest()
			case g.worker != nil:
				busy = true // its lock is waited for
			default:
				g.protection = true
				g.revision++
				f.Digest = g.digest()
				h.sim.tell("guest", g.uuid[24:], "is protected")
			}
		})
		switch {
		case busy:
			if x.by.sim.park(&call{
				key: x.by.name + " pause of the fence of " + l.OpID[:8], by: x.by, ctx: ctx, kind: waits, due: x.by.sim.now().Add(4 * time.Second),
			}) != nil {
				break
			}
			continue
		case why != "":
			say(why)
			return
		case err == nil:
			return
		}
	}
	f.Digest = ""
	say("the guest could not be protected")
}

// Probe compares the guest with what was announced.
func (x executor) Probe(ctx context.Context, l *op.Launching, exit string, _ []string) (f engine.Finding, err error) {
	h := x.by.sim.host
	if err := x.ask(ctx, asks, "probe", l, pollPatience, "", func() {
		f = h.probe(l, exit)
		if g := h.guests[l.Target.Guest.VMID]; g != nil && g.uuid == l.Observed.SMBIOSUUID {
			h.whole[l.OpID] = h.sim.step
		}
	}); err != nil {
		return engine.Finding{}, err
	}
	if f.Evidence.Effect == "" {
		return f, errLost
	}
	return f, nil
}

func (h *host) probe(l *op.Launching, exit string) engine.Finding {
	now, n := h.sim.now(), h.nodes[l.Node]
	says := func(e op.Effect, why string) engine.Finding {
		return engine.Finding{Evidence: op.Evidence{Effect: e, Reasons: []string{why}}}
	}
	if beforeEffect(exit) {
		if h.shared {
			return says(op.EffectNone, "the host raises it before any effect")
		}
		if !n.reachable(now) {
			return engine.Finding{}
		}
		further := ""
		for _, t := range h.tasks {
			switch {
			case !h.fits(t, l) || !t.inList(now):
			case t.ended.IsZero():
				f := says(op.EffectUnknown, "another task of the attempt has not ended")
				f.MayStillAct = true
				return f
			case !beforeEffect(t.exit) && (further == "" || t.exit == "OK"):
				further = t.exit
			}
		}
		if further == "" {
			return says(op.EffectNone, "no task of the attempt came further")
		}
		exit = further
	}
	ok := exit == "OK" || len(exit) > 8 && exit[:8] == "WARNINGS"
	front := h.nodes[h.front()]
	if !front.reachable(now) {
		return engine.Finding{}
	}
	g := h.guests[l.Target.Guest.VMID]
	switch {
	case g == nil && !front.quorate(now):
		return says(op.EffectUnknown, "the cluster is not quorate")
	case g == nil:
		return says(op.EffectDone, "no node has a guest of that VMID")
	case !h.nodes[g.node].reachable(now):
		return engine.Finding{}
	case g.uuid != l.Observed.SMBIOSUUID && g.vmgenid != l.Observed.VMGenID && !front.quorate(now):
		return says(op.EffectUnknown, "it is another guest by now, says a node that is not part of the quorum")
	case g.uuid != l.Observed.SMBIOSUUID && g.vmgenid != l.Observed.VMGenID:
		f := says(op.EffectDone, "it is another guest by now")
		f.MayStillAct = h.orphans(l, exit) != ""
		return f
	}
	// What may still be at work is told whatever else there is to say.
	doubt := h.orphans(l, exit)
	f := says(op.EffectNone, "it is untouched")
	switch {
	case g.uuid != l.Observed.SMBIOSUUID || g.vmgenid != l.Observed.VMGenID:
		f = says(op.EffectUnknown, "it can't be told whether it is the same guest")
	case g.lock == "destroyed":
		return says(op.EffectPartial, "a destroy ended half-way") // all volumes are gone by then
	case ok:
		f = says(op.EffectUnknown, "it is there, yet the task ended as a success")
	case slices.Contains(g.there, false):
		f = says(op.EffectPartial, "volumes are gone")
	case g.digest() != l.Observed.Digest || g.lock != "" || !front.quorate(now) || !h.nodes[g.node].quorate(now):
		f = says(op.EffectUnknown, "its configuration was changed")
	case doubt != "":
		f = says(op.EffectUnknown, doubt)
	}
	f.MayStillAct = doubt != ""
	return f
}

// orphans tells whether a child of a worker that was killed may still act. Only
// a restart of the node rules that out.
func (h *host) orphans(l *op.Launching, exit string) string {
	if exit != "unexpected status" && exit != "interrupted by signal" && exit != "received interrupt" {
		return ""
	}
	for _, t := range h.tasks {
		if h.fits(t, l) && t.inList(h.sim.now()) {
			if t.node.booted.After(t.began) {
				continue
			}
			return "a child of the worker may still be at it"
		}
	}
	if !h.nodes[l.Node].booted.After(l.At.Add(time.Minute)) {
		return "the task is not listed any more"
	}
	return ""
}
