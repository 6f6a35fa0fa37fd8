package proxmox

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"writ/domain/engine"
	"writ/domain/op"
)

// busyDisk is the end of a task whose wipefs could not have a device for itself,
// which it asks for before it writes to it.
var busyDisk = whole(`error wiping '[^'\n]+': wipefs: error: [^\n]+: probing initialization failed: Device or resource busy`)

// probeDisk tells what the wipe of a disk did. The task erases the signatures on
// the partitions, then those on the disk, then writes zeros over its beginning, and
// ends as a success only after all of that; what remains on a disk that was not
// overwritten whole no look tells.
func probeDisk(ctx context.Context, p *probe) (engine.Finding, error) {
	before := *p.before.Disk
	now, err := p.lookAtDisk(ctx)
	if err != nil {
		return engine.Finding{}, err
	}
	said := fmt.Sprintf("the task ended with %q", clip(p.ended))
	switch {
	case now == nil:
		return p.doubtful(ctx, fmt.Sprintf("node %s lists no disk at %s any more: it was %s, look at that one", p.target.node, before.Path, diskWords(before)))
	case !isDisk(*now, before):
		// Names go to other disks when one is pulled and another plugged in.
		return p.doubtful(ctx, fmt.Sprintf("at %s there is another disk now: %s; it was %s. Which of them a wipe of %s found there can't be told: look at both",
			before.Path, diskWords(*now), diskWords(before), before.Path))
	}
	held := fmt.Sprintf("%s (%s) holds %s", before.Path, diskWords(*now), holdsWords(now.Holds))
	same := slices.Equal(now.Holds, before.Holds)
	switch {
	case p.saysDone() && same && len(before.Holds) > 0:
		return finding(op.EffectUnknown, nil, held+", as it did before", "yet "+said), nil
	case p.saysDone() && len(now.Holds) > 0:
		return finding(op.EffectDone, nil, said, "and since: "+held), nil
	case p.saysDone():
		return finding(op.EffectDone, nil, said, held), nil
	case p.ended == "" && same && len(before.Holds) > 0:
		return finding(op.EffectNone, nil, held+", as it did before", "no task of the attempt is known to have begun"), nil
	case p.ended == "" && same:
		return finding(op.EffectUnknown, nil, held+", as it did before: whether it was wiped can't be told"), nil
	case p.ended == "":
		return finding(op.EffectUnknown, nil, held+", it held "+holdsWords(before.Holds)+", and it can't be told who has changed that"), nil
	case same && matchAny(busyDisk, p.ended) && !hasPartitions(before):
		return finding(op.EffectNone, nil, held+", as it did before", said+": nothing was written to it"), nil
	case same:
		return p.doubtful(ctx, held+", as it did before, which says nothing of what was overwritten")
	case slices.ContainsFunc(now.Holds, func(text string) bool { return !slices.Contains(before.Holds, text) }):
		return p.doubtful(ctx, held+", it held "+holdsWords(before.Holds)+": somebody has used it since")
	}
	return p.halfWiped(ctx, held, before)
}

// halfWiped decides about a disk that has lost what it held to a task that did not
// end well.
func (p *probe) halfWiped(ctx context.Context, held string, before op.DiskSeen) (engine.Finding, error) {
	f, err := p.doubtful(ctx, held+", it held "+holdsWords(before.Holds),
		fmt.Sprintf("its wipe was begun and not ended: what was on it is out of reach, but its beginning may not be overwritten; sign another wipe of %s", before.Path))
	f.Evidence.Effect = op.EffectPartial
	return f, err
}

// doubtful is a finding that decides nothing. A child of a worker that was killed
// may still write.
func (p *probe) doubtful(ctx context.Context, reasons ...string) (engine.Finding, error) {
	doubt, proof, err := p.orphans(ctx)
	if err != nil {
		return engine.Finding{}, err
	}
	if p.ended != "" {
		reasons = append(reasons, fmt.Sprintf("the task ended with %q", clip(p.ended)))
	}
	for _, more := range []string{doubt, proof} {
		if more != "" {
			reasons = append(reasons, more)
		}
	}
	f := finding(op.EffectUnknown, nil, reasons...)
	f.MayStillAct = doubt != ""
	return f, nil
}

// lookAtDisk reads the disk; nil if the node lists none at its path. What it holds
// the node knows from what it was told of changes, a little later (udev): after a
// task that says it succeeded it is given its time to learn of that.
func (p *probe) lookAtDisk(ctx context.Context) (*op.DiskSeen, error) {
	limit := time.Now().Add(p.host.fenceTimeout)
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		disk, err := p.host.readDisk(ctx, p.target.node, p.before.Disk.Path)
		if err != nil || disk == nil {
			return nil, err
		}
		stale := p.saysDone() && isDisk(disk.seen, *p.before.Disk) && len(disk.seen.Holds) > 0 && slices.Equal(disk.seen.Holds, p.before.Disk.Holds)
		if !stale || time.Now().After(limit) {
			return &disk.seen, nil
		}
		if err := wait(ctx, pause); err != nil {
			return nil, err
		}
	}
}

// hasPartitions tells whether a disk had partitions, which are wiped before it.
func hasPartitions(d op.DiskSeen) bool {
	return slices.ContainsFunc(d.Holds, func(text string) bool {
		device, _, _ := strings.Cut(text, " ")
		return device != d.Path
	})
}

func holdsWords(holds []string) string {
	if len(holds) == 0 {
		return "nothing that the node knows"
	}
	return strings.Join(holds, ", ")
}
