package proxmox

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"writ/domain/engine"
	"writ/domain/op"
)

// A probe compares a target as it was at the announcement with the host now.
type probe struct {
	host   *Host
	guest  op.Guest // zero if the target is none
	before op.Observed
	ended  string // the task's exit status, if known
	log    []string

	target    attempt
	announced *op.Launching
	who       sender
}

// saysDone tells whether the attempt's own task ended as a success.
func (p *probe) saysDone() bool { return saysDone(p.ended) }

func saysDone(exitStatus string) bool {
	return exitStatus == "OK" || strings.HasPrefix(exitStatus, "WARNINGS: ")
}

func finding(effect op.Effect, residue []string, reasons ...string) engine.Finding {
	return engine.Finding{Evidence: op.Evidence{Effect: effect, Reasons: reasons}, Residue: residue}
}

func (p *probe) run(ctx context.Context) (engine.Finding, error) {
	if f, decided, err := p.early(ctx, p.target.conduct.untouched); decided || err != nil {
		return f, err
	}
	f, err := p.target.conduct.probe(ctx, p)
	if err != nil || f.Evidence.Effect != op.EffectNone {
		return f, err
	}
	return p.alone(ctx, f)
}

// probeDestroy tells what a destroy did.
//
// It goes through stages that can be told apart from outside: volumes are
// removed one by one while the configuration stays as it is; then the
// configuration is replaced by the single line "lock: destroyed"; then it is
// removed, and with it the VMID becomes free. It can end at any of them.
func probeDestroy(ctx context.Context, p *probe) (engine.Finding, error) {
	v, err := p.host.vacancy(ctx, p.guest.VMID)
	if err != nil {
		return engine.Finding{}, err
	}
	if v.free {
		if !v.quorate {
			return finding(op.EffectUnknown, nil, fmt.Sprintf(
				"VMID %d seems free, but the node that says so is not part of a quorate cluster, and its copy may be old", p.guest.VMID)), nil
		}
		return p.gone(ctx, nil, fmt.Sprintf("no node of the quorate cluster has a guest with VMID %d", p.guest.VMID)), nil
	}
	at, err := p.host.locate(ctx, p.before.Node, p.guest)
	if err != nil {
		// A right that came with the guest goes with the guest.
		if isHidden(err) && p.saysDone() {
			return finding(op.EffectUnknown, nil, fmt.Sprintf(
				"the task ended with %q, yet VMID %d is in use and the token may not see by whom: "+
					"it is either the same guest or one that was made since", clip(p.ended), p.guest.VMID)), nil
		}
		return engine.Finding{}, err
	}
	if !at.found {
		if at.other != "" {
			return p.undone(ctx, p.gone(ctx, nil, fmt.Sprintf("VMID %d is now a guest of type %s", p.guest.VMID, at.other)), op.Observed{})
		}
		return finding(op.EffectUnknown, nil, fmt.Sprintf("VMID %d was in use and then free while it was looked at", p.guest.VMID)), nil
	}
	f, err := p.compare(ctx, at.config.seen, v.quorate)
	if err != nil {
		return engine.Finding{}, err
	}
	return p.undone(ctx, f, at.config.seen)
}

// undone adds what may still be at work to what is known of a VMID that a guest
// has: whatever else its state says, the target must be kept from others until
// that is ruled out. If it is another guest by now, its volumes may have the
// names of those that are being removed. Once the configuration is marked as
// destroyed, all volumes are gone and no child is left that removes one.
func (p *probe) undone(ctx context.Context, f engine.Finding, now op.Observed) (engine.Finding, error) {
	if f.MayStillAct || now.Lock == "destroyed" || f.Evidence.Effect == op.EffectNone {
		return f, nil
	}
	doubt, _, err := p.orphans(ctx)
	if err != nil {
		return engine.Finding{}, err
	}
	if doubt != "" {
		f.MayStillAct = true
		f.Evidence.Reasons = append(f.Evidence.Reasons, doubt)
	}
	return f, nil
}

// compare decides about a guest that has the VMID and the type.
func (p *probe) compare(ctx context.Context, now op.Observed, quorate bool) (engine.Finding, error) {
	if now.Lock == "destroyed" {
		return finding(op.EffectPartial, nil, fmt.Sprintf(
			"a destroy of %s %d on node %s ended between the removal of its volumes and that of its configuration; "+
				"only root on the node can remove what is left", p.guest.Type, p.guest.VMID, now.Node)), nil
	}
	alike := p.liken(now)
	switch alike.verdict(p.saysDone()) {
	case different:
		reason := fmt.Sprintf("VMID %d is now another guest: %s", p.guest.VMID, alike.String())
		if !quorate {
			return finding(op.EffectUnknown, nil, reason+"; but the cluster is not quorate"), nil
		}
		return p.gone(ctx, now.Volumes, reason), nil
	case undecided:
		return finding(op.EffectUnknown, nil, fmt.Sprintf(
			"VMID %d is in use, and it can't be told whether by the same guest: %s", p.guest.VMID, alike.String())), nil
	case same:
	}
	still := fmt.Sprintf("the guest is on node %s: %s", now.Node, alike.String())
	if p.saysDone() {
		return finding(op.EffectUnknown, nil, still, fmt.Sprintf("yet the task ended with %q", clip(p.ended))), nil
	}
	vols := p.host.findVolumes(ctx, now.Node, p.guest.VMID, p.before.Volumes)
	var lost, moved []string
	for _, volid := range vols.missing {
		if slices.Contains(now.Volumes, volid) {
			lost = append(lost, volid)
		} else {
			moved = append(moved, volid)
		}
	}
	// A destroy leaves the configuration as it is while it removes volumes.
	// One that the configuration does not refer to any more went otherwise.
	if len(lost) > 0 {
		return finding(op.EffectPartial, nil, still, "its configuration refers to volumes that are gone: "+strings.Join(lost, ", ")), nil
	}
	if vols.failed != nil {
		return engine.Finding{}, vols.failed
	}
	reasons := append([]string{still}, p.doubts(now, quorate)...)
	if len(moved) > 0 {
		reasons = append(reasons, "it no longer has these volumes, and they are gone: "+strings.Join(moved, ", "))
	}
	reasons = append(reasons, vols.reasons...)
	stopped, err := p.stopped(ctx, now)
	if err != nil {
		return engine.Finding{}, err
	}
	if stopped != "" {
		// Of the effects of a destroy with force this is the first, and it
		// leaves no trace in configuration or volumes.
		reasons = append(reasons, stopped)
	}
	if len(reasons) > 1 {
		return finding(op.EffectUnknown, nil, reasons...), nil
	}
	doubt, proof, err := p.orphans(ctx)
	switch {
	case err != nil:
		return engine.Finding{}, err
	case doubt != "":
		f := finding(op.EffectUnknown, nil, still, doubt)
		f.MayStillAct = true
		return f, nil
	}
	reasons = append(reasons,
		"its configuration is unchanged, to the byte (digest "+now.Digest+"), and not locked",
		fmt.Sprintf("all %d volumes that it had are there", len(p.before.Volumes)))
	if proof != "" {
		reasons = append(reasons, proof)
	}
	return finding(op.EffectNone, nil, reasons...), nil
}

// stopped tells why a container that was to be stopped first may have been; empty
// if it was not. Somebody may have started it again since.
func (p *probe) stopped(ctx context.Context, now op.Observed) (string, error) {
	if p.target.query().Get("force") != "1" {
		return "", nil
	}
	if p.before.Status != "running" {
		if p.ended == "" {
			return "", nil
		}
		return "it was stopped at the announcement; whether somebody had started it before the task stopped it can't be told", nil
	}
	if err := p.host.readStatus(ctx, p.guest, &now); err != nil {
		return "", err
	}
	if now.Status != "running" {
		return "it was running and is stopped now, as the request asked for first", nil
	}
	if _, stayed := sameRun(p.before, now, time.Since(p.announced.At)); !stayed && p.ended != "" {
		return fmt.Sprintf("it is running, for %d s, and was for %d s at the announcement: the request asked to stop it first, "+
			"and whether somebody has started it again since can't be told", now.Uptime, p.before.Uptime), nil
	}
	return "", nil
}

// doubts are what keeps a guest that is still there from being untouched.
func (p *probe) doubts(now op.Observed, quorate bool) []string {
	var out []string
	if now.Digest != p.before.Digest {
		out = append(out, fmt.Sprintf("its configuration was changed: digest %s, it was %s", now.Digest, p.before.Digest))
	}
	if now.Lock != "" {
		out = append(out, fmt.Sprintf("its configuration is locked (%s)", clip(now.Lock)))
	}
	if !quorate {
		out = append(out, "the cluster is not quorate, so its state may be old")
	}
	return out
}

var (
	unremovedForm = regexp.MustCompile(`Could not remove disk '([^']+)'`)
	unknownForm   = regexp.MustCompile(`failed to get path and owner of volume '([^']+)'`)
)

// gone gives the finding for a guest that is proven not to exist any more, with
// what it left behind. Volume names are used again with the VMID: one that the
// VMID's new guest refers to is that guest's.
func (p *probe) gone(ctx context.Context, taken []string, reason string) engine.Finding {
	var look []string
	for _, volid := range p.before.Volumes {
		if !slices.Contains(taken, volid) {
			look = append(look, volid)
		}
	}
	vols := p.host.findVolumes(ctx, p.before.Node, p.guest.VMID, look)
	residue := vols.there
	reasons := append([]string{reason}, vols.reasons...)
	if len(residue) > 0 && taken == nil {
		if why := p.whose(ctx); why != "" {
			reasons = append(reasons, "listed are "+strings.Join(residue, ", ")+", but "+why)
			residue = nil
		}
	}
	for _, line := range p.log {
		for _, form := range []*regexp.Regexp{unremovedForm, unknownForm} {
			m := form.FindStringSubmatch(line)
			if m == nil || !slices.Contains(vols.unclear, m[1]) || slices.Contains(residue, m[1]) {
				continue
			}
			residue = append(residue, m[1])
			reasons = append(reasons, "by the task's log: "+clip(line))
		}
	}
	if len(residue) > 0 {
		reasons = append(reasons, "volumes left behind: "+strings.Join(residue, ", "))
	}
	slices.Sort(residue)
	return finding(op.EffectDone, residue, reasons...)
}

// whose tells why volumes of the VMID that are still listed may not be those of
// the guest that is gone; empty if they are. Who clears away what is called left
// behind must not hit the VMID's next guest.
func (p *probe) whose(ctx context.Context) string {
	free, err := p.host.isFree(ctx, p.host.front, p.guest.VMID)
	switch {
	case err != nil:
		return "it can't be told whose: " + err.Error()
	case !free:
		return fmt.Sprintf("VMID %d is in use again, and they may be its new guest's", p.guest.VMID)
	}
	return ""
}
