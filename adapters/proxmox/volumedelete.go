package proxmox

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"writ/domain/engine"
	"writ/domain/op"
)

// volumeConducts are those of the classes that delete one volume or backup from
// its storage. The host checks next to nothing: a disk of a running, protected
// guest is deleted without a word, and a volume that is not there counts as
// deleted.
func volumeConducts() []*conduct {
	return []*conduct{volumeConduct(op.VolumeDelete), volumeConduct(op.BackupDelete)}
}

func volumeConduct(class op.Class) *conduct {
	return &conduct{
		class:   class,
		observe: observeVolume,
		compose: func(in op.Intent, seen op.Observed) op.Request {
			return op.Request{Method: http.MethodDelete, Path: volumePath(seen.Node, in.Target.Volume)}
		},
		form: func(s subject) form {
			return form{method: http.MethodDelete, path: volumePath(s.node, s.target.Volume)}
		},
		task:   imgdelTask,
		rights: volumeRights,
		refusals: func(t attempt) []*regexp.Regexp {
			return whole(
				`unable to parse volume ID '[^'\n]*'`,
				`unable to parse volume filename '[^'\n]*'`,
				`unable to parse [a-z]+ volume name '[^'\n]*'`,
				`storage '`+regexp.QuoteMeta(t.target.Storage())+`' does not exist`)
		},
		untouched: volumeTaskTexts,
		recheck:   sameVolume,
		probe:     probeVolume,
	}
}

// volumeTaskTexts come before a task has removed anything: checks of its own, the
// storage's lock, and a volume that was gone already (pve-storage
// Storage.pm#vdisk_free, LVMPlugin.pm#free_image).
var volumeTaskTexts = whole(
	`cannot remove protected volume '[^'\n]+' on '[^'\n]+'`,
	`base volume '[^'\n]+' is still in use by linked clones?d?`,
	`storage '[^'\n]+' does not exist`,
	`storage '[^'\n]+' is disabled`,
	`storage '[^'\n]+' is not available on node '[^'\n]+'`,
	`can't lock file '/var/lock/pve-manager/pve-storage-[^'\n]+' - got timeout`,
	`cfs-lock 'storage-[^'\n]+' error: (?:got lock request timeout|no quorum!)`,
	`lvremove '[^'\n]+' error:\s+Failed to find logical volume "[^"\n]+"`,
)

// imgdelTask is how the host names the task: by the owner in the volume's name,
// if there is one (pve-storage API2/Storage/Content.pm#delete).
func imgdelTask(t attempt) (typ, id string) {
	if v := t.seen.Volume; v != nil && v.VMID != 0 {
		return "imgdel", vmidText(v.VMID) + "@" + t.target.Storage()
	}
	return "imgdel", t.target.Storage()
}

// volumeRights: a backup needs less than the right over the whole storage, if it
// is known whose it is.
func volumeRights(t attempt) []right {
	object := "/storage/" + t.target.Storage()
	if v := t.seen.Volume; v != nil && v.Content == "backup" && v.VMID != 0 {
		return []right{{object, "Datastore.AllocateSpace"}, {"/vms/" + vmidText(v.VMID), "VM.Backup"}}
	}
	return []right{{object, "Datastore.Allocate"}}
}

// observeVolume looks at a volume, and at all that may refer to it.
func observeVolume(ctx context.Context, h *Host, a engine.Attempt) (op.Observed, error) {
	t := a.Intent.Target
	state, err := h.clusterState(ctx, h.at(t.Node))
	if err != nil {
		return op.Observed{}, fmt.Errorf("read %s: %w", t, err)
	}
	v, rows, err := h.readVolume(ctx, t.Node, t.Volume)
	if err != nil && !isNoStorage(err, t.Storage()) {
		return op.Observed{}, fmt.Errorf("read %s: %w", t, err)
	}
	seen := op.Observed{Node: t.Node, NodeOnline: state.online[t.Node], Quorate: state.quorate}
	if v == nil {
		return seen, nil
	}
	seen.Found, seen.Volume = true, v
	if a.Intent.Class == op.BackupDelete {
		return seen, nil // guests refer to no backup
	}
	v.Users = standingOn(t.Volume, rows)
	storages, err := h.sameGround(ctx, t.Storage())
	if err != nil {
		return op.Observed{}, fmt.Errorf("read %s: %w", t, err)
	}
	users, err := h.references(ctx, func(volid string) bool {
		storage, name, _ := strings.Cut(volid, ":")
		return name == strings.TrimPrefix(t.Volume, t.Storage()+":") && slices.Contains(storages, storage)
	}, v.VMID)
	if err != nil {
		return op.Observed{}, fmt.Errorf("read %s: %w", t, err)
	}
	v.Users = append(v.Users, users...)
	return seen, nil
}

// sameVolume looks at the volume once more, after the token got its right. It is
// a right on the storage, which outlives the volume.
func sameVolume(ctx context.Context, h *Host, t attempt) error {
	now, _, err := h.readVolume(ctx, t.node, t.target.Volume)
	switch {
	case err != nil:
		return err
	case now == nil:
		return fmt.Errorf("there is no %s any more", t.target)
	case !sameAs(now, t.seen.Volume):
		return fmt.Errorf("%s is another one than was announced: %d bytes of %d, they were %d of %d",
			t.target, now.Size, now.CTime, t.seen.Volume.Size, t.seen.Volume.CTime)
	}
	return nil
}

func sameAs(now, before *op.VolumeSeen) bool {
	return now.ID == before.ID && now.Size == before.Size && now.CTime == before.CTime
}

// probeVolume tells by the storage's list whether a volume is gone. Its id may
// have been given again by then.
func probeVolume(ctx context.Context, p *probe) (engine.Finding, error) {
	storage := p.target.target.Storage()
	said := fmt.Sprintf("the task ended with %q", clip(p.ended))
	now, _, err := p.host.readVolume(ctx, p.target.node, p.target.target.Volume)
	switch {
	case isNoStorage(err, storage) && p.saysDone():
		return finding(op.EffectDone, nil, said, fmt.Sprintf("storage %s has been taken out of the configuration since", storage)), nil
	case isNoStorage(err, storage):
		return finding(op.EffectUnknown, nil, fmt.Sprintf("storage %s has been taken out of the configuration, so whether the volume is on it can't be told: "+
			"define it again and look", storage), said), nil
	case err != nil:
		return engine.Finding{}, err
	case now == nil && p.ended != "":
		return finding(op.EffectDone, nil, fmt.Sprintf("storage %s does not list it any more", storage), said), nil
	case now == nil:
		return finding(op.EffectUnknown, nil, fmt.Sprintf("storage %s does not list it any more, and it can't be told who removed it", storage)), nil
	case !sameAs(now, p.before.Volume):
		return otherVolume(p, *now, said), nil
	case p.saysDone():
		f := finding(op.EffectUnknown, []string{now.ID}, fmt.Sprintf("storage %s still lists it", storage), "yet "+said)
		if now.CTime == 0 {
			f.Evidence.Reasons = append(f.Evidence.Reasons, "the storage does not tell when a volume was made: it may be another one of the same size")
		}
		return f, nil
	}
	doubt, proof, err := p.orphans(ctx)
	if err != nil {
		return engine.Finding{}, err
	}
	still := fmt.Sprintf("storage %s lists it, with the same size and time", storage)
	if now.CTime == 0 {
		still = fmt.Sprintf("storage %s lists it, with the same size", storage)
	}
	if doubt != "" {
		f := finding(op.EffectUnknown, nil, still, doubt)
		f.MayStillAct = true
		return f, nil
	}
	reasons := []string{still}
	if p.ended != "" {
		reasons = append(reasons, said)
	}
	if proof != "" {
		reasons = append(reasons, proof)
	}
	return finding(op.EffectNone, nil, reasons...), nil
}

// otherVolume decides about a volume that has the id, and another size or time.
// Only the task's word makes it another one: what is done to a file, and not to
// its content alone, changes its time too.
func otherVolume(p *probe, now op.VolumeSeen, said string) engine.Finding {
	before := p.before.Volume
	other := fmt.Sprintf("storage %s lists a volume of that id with another size or time: %d bytes of %d, they were %d of %d",
		p.target.target.Storage(), now.Size, now.CTime, before.Size, before.CTime)
	if p.saysDone() {
		return finding(op.EffectDone, nil, said, other+"; it was made since")
	}
	return finding(op.EffectUnknown, nil, other+": it was changed, or made anew by somebody", said)
}
