package proxmox

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"writ/domain/engine"
	"writ/domain/op"
)

// restoreTaskTexts come before a task has touched the guest, but for the lock
// (create) that the host writes before it starts the task, and that the task takes
// away when it ends (qemu-server API2/Qemu.pm#create_vm, pve-container
// API2/LXC.pm#create_vm).
var restoreTaskTexts = whole(
	`unable to restore VM [0-9]+ - - protection mode enabled`,
	`unable to restore VM [0-9]+ - vm is running`,
	`volume '[^'\n]+' does not exist`,
	`Permission check failed \(/(?:sdn|mapping)/[^\n]*\)`,
	`unable to restore CT [0-9]+ - volume '[^'\n]+' does not exist`,
	`unable to restore CT [0-9]+ - ERROR: archive contains no configuration file`,
	`unable to restore CT [0-9]+ - can't overwrite running container`,
	`can't lock file '/var/lock/qemu-server/lock-[0-9]+\.conf' - got timeout`,
	`can't lock file '/run/lock/lxc/pve-config-[0-9]+\.lock' - got timeout`,
)

// probeRestore tells what a restore did. Before its task begins the host locks
// the guest (create). A machine's configuration is then replaced by a stub and
// its disks are freed one by one; a container's new volumes are made first, then
// the old ones are freed, and if the restore fails after that the container
// ceases to exist. In the end the configuration is that of the backup, with new
// volumes and, for a machine, a new generation id.
func probeRestore(ctx context.Context, p *probe) (engine.Finding, error) {
	f, decided, err := p.early(ctx, restoreTaskTexts)
	if err != nil {
		return engine.Finding{}, err
	}
	s, err := p.lookAtGuest(ctx)
	switch {
	case err != nil:
		return engine.Finding{}, err
	case decided && s.gone == "" && s.now.Lock == "create":
		return finding(op.EffectPartial, nil, append(f.Evidence.Reasons, lockedWhole(p, s.now))...), nil
	case decided:
		return f, nil
	case s.gone != "" && p.saysDone():
		return s.vanished(), nil
	case s.gone != "":
		return goneInRestore(ctx, s)
	case p.saysDone():
		return saidToBeRestored(s), nil
	case emptied(p.before, s.now) && s.began():
		return stubOfRestore(ctx, s), nil
	case emptied(p.before, s.now):
		return s.unclear(op.EffectUnknown, "what is left of the guest is a stub, without disks, and it can't be told by whose doing"), nil
	}
	return halfRestored(ctx, s)
}

// lost is said of a guest for which nothing can be done any more.
func lost(p *probe) string {
	return fmt.Sprintf("the guest that was there is lost, and %s is not restored; the backup is untouched: restore it once more by hand", p.target.subject().archive())
}

func unlockBy(p *probe, node string) string {
	tool := "qm"
	if p.guest.Type == op.LXC {
		tool = "pct"
	}
	return fmt.Sprintf("unlock it on node %s (%s unlock %d)", node, tool, p.guest.VMID)
}

// lockedWhole is said of a guest that has lost nothing and can't be used.
func lockedWhole(p *probe, now op.Observed) string {
	return fmt.Sprintf("the guest is locked (create), which its restore writes first, and all its volumes are there: nothing is lost; %s", unlockBy(p, now.Node))
}

// saidToBeRestored decides about a guest whose restore ended well, as its task
// says.
func saidToBeRestored(s *stillness) engine.Finding {
	now, before := s.now, s.p.before
	switch {
	case now.Lock == "create":
		return s.unclear(op.EffectUnknown, "the guest is locked (create)", "yet "+s.said)
	case now.Digest == before.Digest && before.VMGenID != "":
		return s.unclear(op.EffectUnknown, fmt.Sprintf("the guest is as it was, to the byte (digest %s), with the generation id that a restore makes anew", now.Digest), "yet "+s.said)
	case now.Digest == before.Digest && s.p.guest.Type == op.LXC:
		return s.unclear(op.EffectUnknown, fmt.Sprintf("the container is as it was, to the byte (digest %s), with the volumes in whose place a restore makes others", now.Digest), "yet "+s.said)
	case now.Digest == before.Digest:
		// Disks are freed before they are made again, under the same names.
		return finding(op.EffectDone, nil, s.said, fmt.Sprintf("the machine's configuration is as it was, to the byte (digest %s): it has no generation id, and a restore of its own backup gives it that", now.Digest))
	}
	return finding(op.EffectDone, nil, s.said, fmt.Sprintf("the guest's configuration is another one: digest %s, it was %s", now.Digest, before.Digest))
}

// goneInRestore decides about a guest that can't be found, and whose restore is
// not known to have ended well.
func goneInRestore(ctx context.Context, s *stillness) (engine.Finding, error) {
	p := s.p
	v, err := p.host.vacancy(ctx, p.guest.VMID)
	switch {
	case err != nil:
		return engine.Finding{}, err
	case p.guest.Type != op.LXC || !s.began() || !v.free || !v.quorate:
		return s.unclear(op.EffectUnknown, s.gone, s.said), nil
	}
	residue, reasons := p.remains(ctx, p.before.Node, nil, true)
	return s.partial(residue, append([]string{s.gone, s.said, lost(p)}, reasons...)...), nil
}

// emptied tells whether all is gone from a guest's configuration that could tell
// it by, or that it had any data on: a restore puts such a stub in its place.
func emptied(before, now op.Observed) bool {
	return bare(now) && !bare(before)
}

func bare(o op.Observed) bool {
	return o.Name == "" && o.SMBIOSUUID == "" && o.VMGenID == "" && len(o.MACs) == 0 && len(o.Volumes) == 0
}

func stubOfRestore(ctx context.Context, s *stillness) engine.Finding {
	p := s.p
	reasons := []string{fmt.Sprintf("what is left of %s %d on node %s is a stub, without disks", p.guest.Type, p.guest.VMID, s.now.Node), s.said, lost(p)}
	if s.now.Lock != "" {
		reasons = append(reasons, fmt.Sprintf("it is locked (%s): before that, %s", clip(s.now.Lock), unlockBy(p, s.now.Node)))
	}
	residue, more := p.remains(ctx, s.now.Node, nil, true)
	return s.partial(residue, append(reasons, more...)...)
}

// halfRestored decides about a guest that has a configuration with something in
// it, of which no task says that its restore ended well.
func halfRestored(ctx context.Context, s *stillness) (engine.Finding, error) {
	p, now, before := s.p, s.now, s.p.before
	var referred []string // volumes of then that the configuration of now has
	for _, volid := range before.Volumes {
		if slices.Contains(now.Volumes, volid) {
			referred = append(referred, volid)
		}
	}
	renewed := before.VMGenID != "" && now.VMGenID != "" && now.VMGenID != before.VMGenID
	vols := p.host.findVolumes(ctx, now.Node, p.guest.VMID, referred)
	switch {
	case !renewed && len(vols.missing) > 0 && !s.began():
		return s.unclear(op.EffectUnknown, "its configuration refers to volumes that are gone, and it can't be told by whose doing: "+strings.Join(vols.missing, ", ")), nil
	case !renewed && len(vols.missing) > 0:
		residue, more := p.remains(ctx, now.Node, before.Volumes, false)
		reasons := []string{"its configuration refers to volumes that are gone: " + strings.Join(vols.missing, ", "), s.said, lost(p)}
		if now.Lock != "" {
			reasons = append(reasons, fmt.Sprintf("it is locked (%s): before that, %s", clip(now.Lock), unlockBy(p, now.Node)))
		}
		return s.partial(residue, append(reasons, more...)...), nil
	case renewed || !slices.Equal(now.Volumes, before.Volumes):
		return s.unclear(op.EffectUnknown, "the guest has other volumes, or another generation id, than when the request was announced, but no task says that the restore was finished: "+
			"look whether it is the guest of the backup, and whole", s.said), nil
	case vols.failed != nil:
		return engine.Finding{}, vols.failed
	case now.Lock == "create" && len(vols.unclear) == 0 && s.began():
		residue, more := p.remains(ctx, now.Node, before.Volumes, false)
		return s.partial(residue, append([]string{lockedWhole(p, now), s.said}, more...)...), nil
	case len(vols.unclear) > 0 || now.Lock != "" || now.Digest != before.Digest:
		reason := fmt.Sprintf("the guest has changed since: digest %s, it was %s; lock %q", now.Digest, before.Digest, clip(now.Lock))
		return s.unclear(op.EffectUnknown, append([]string{reason, s.said}, vols.reasons...)...), nil
	}
	return s.unchanged(fmt.Sprintf("the guest is as it was, to the byte (digest %s), and all %d volumes that it had are there", now.Digest, len(before.Volumes))), nil
}

// partial is a finding of something half done, with the volumes that it left
// behind.
func (s *stillness) partial(residue []string, reasons ...string) engine.Finding {
	f := s.unclear(op.EffectPartial, reasons...)
	f.Residue = residue
	return f
}

// remains gives the volumes of the guest, on the storages that its restore had to
// do with, that no configuration refers to, and says so; kept are those that one
// does. The memory of snapshots is such a volume only if the snapshots are lost
// too.
func (p *probe) remains(ctx context.Context, node string, kept []string, snapshotsLost bool) (residue, reasons []string) {
	storages := []string{p.target.query().Get("storage")}
	for _, volid := range p.before.Volumes {
		storage, _, _ := strings.Cut(volid, ":")
		storages = append(storages, storage)
	}
	slices.Sort(storages)
	for _, storage := range slices.Compact(storages) {
		rows, err := p.host.content(ctx, node, storage)
		if err != nil {
			reasons = append(reasons, fmt.Sprintf("what is left on storage %s could not be listed: %v", storage, err))
			continue
		}
		for _, row := range rows {
			disk := row.Content == "images" || row.Content == "rootdir"
			memory := strings.Contains(row.VolID, fmt.Sprintf("vm-%d-state-", p.guest.VMID))
			if disk && row.VMID != nil && int(*row.VMID) == p.guest.VMID && !slices.Contains(kept, row.VolID) && (snapshotsLost || !memory) {
				residue = append(residue, row.VolID)
			}
		}
	}
	slices.Sort(residue)
	old := slices.DeleteFunc(slices.Clone(residue), func(volid string) bool { return !slices.Contains(p.before.Volumes, volid) })
	made := slices.DeleteFunc(slices.Clone(residue), func(volid string) bool { return slices.Contains(p.before.Volumes, volid) })
	if len(old) > 0 {
		reasons = append(reasons, "of its volumes these are listed yet, and no configuration refers to them (under the same name they may be new and empty): "+strings.Join(old, ", "))
	}
	if len(made) > 0 {
		reasons = append(reasons, "volumes that were not the guest's are listed, and no configuration refers to them: "+strings.Join(made, ", "))
	}
	return residue, reasons
}
