package pvesim

import (
	"maps"
	"slices"
)

// rollback: under one flock the checks, the hard stop of a running guest and
// "lock: rollback"; then the volumes one after the other, without a flock; then
// the config of the snapshot in place of the present one. Whoever dies in
// between leaves the lock behind, and disks of two times.
func (j *snapshotJob) rollback() []stage {
	s := j.s
	lock := j.migrationLock(func(why string) string { return "can't lock file '" + migrationPath(j.vmid) + "' - " + why })
	first := s.locked(StageLock, j.kind, j.vmid,
		act(StageCheck, 0, j.checkRollback),
		act(StageStop, 0, j.stopForRollback),
		act(StageMark, 0, j.markRollback))
	return slices.Concat([]stage{s.startStage(), lock}, first)
}

func (j *snapshotJob) checkRollback(t *task) string {
	g, text := j.guest(t)
	if text == "" && g.conf.values["template"] == "1" {
		text = "you can't rollback if vm is a template"
	}
	if text != "" {
		return text
	}
	sn := g.conf.snapshot(j.name)
	if sn == nil {
		return noSnapshot(j.name)
	}
	for _, d := range drives(sn.values) {
		if text := j.s.usable(storageOf(d.volid), t.node); text != "" {
			return text
		}
	}
	if text := j.s.clearReplication(t, g, sn); text != "" {
		return text
	}
	for _, d := range drives(sn.values) {
		st, v := j.s.volume(t.node, d.volid)
		if text := st.rollbackBlocked(v, d.volid, j.name); text != "" {
			return text
		}
	}
	if sn.state != "" {
		return "unable to rollback to incomplete snapshot (snapstate = " + sn.state + ")"
	}
	return j.checkLock(g)
}

// stopForRollback kills a running guest. The config says nothing yet: if the
// worker dies here, the guest is down and nothing was rolled back.
func (j *snapshotJob) stopForRollback(t *task) string {
	if g := j.s.at(t.node, j.kind, j.vmid); g != nil && g.running {
		j.s.halt(t, g)
	}
	return ""
}

func (j *snapshotJob) markRollback(t *task) string {
	g, sn, text := j.section(t)
	if text == "" && g.running {
		text = "unable to rollback vm " + itoa(j.vmid) + ": vm is running"
	}
	if text == "" {
		text = j.write(t)
	}
	if text != "" {
		return text
	}
	g.conf.values["lock"] = "rollback"
	var plan []stage
	for i, d := range drives(sn.values) {
		plan = append(plan, act(StageVolume+itoa(i), j.s.pace.Volume, func(t *task) string { return j.rollBackVolume(t, d) }))
	}
	plan = append(plan, j.locked(StageFinish, j.applySnapshot)...)
	if j.start {
		plan = append(plan, act(StageUp, 0, j.startAfter))
	}
	t.prepend(append(plan, endStage())...)
	return ""
}

func (j *snapshotJob) rollBackVolume(t *task, d drive) string {
	g, text := j.guest(t)
	if text != "" {
		return text
	}
	if text := j.s.usable(storageOf(d.volid), t.node); text != "" {
		return text
	}
	st, v := j.s.volume(t.node, d.volid)
	if v == nil || !slices.Contains(v.snaps, j.name) {
		failure, destroyed := st.noSnapshotToApply(t, v, d.volid, j.name)
		if destroyed {
			st.drop(v)
			j.effect(t, VolumeFreed, g, d.volid)
		}
		return failure
	}
	j.effect(t, VolumeRolledBack, g, d.volid)
	return ""
}

// applySnapshot replaces the config. Description and unused disks stay, the
// drives that the snapshot does not know become unused, and a VM gets a new
// generation id. A container's config may come out as it was before.
func (j *snapshotJob) applySnapshot(t *task) string {
	g, sn, text := j.section(t)
	switch {
	case text != "":
		return text
	case sn.state != "":
		return "unable to rollback to incomplete snapshot (snapstate = " + sn.state + ")"
	case g.running:
		return "unable to rollback vm " + itoa(j.vmid) + ": vm is running"
	case g.conf.values["lock"] != "rollback":
		return "got wrong lock"
	}
	if text := j.write(t); text != "" {
		return text
	}
	old, values := g.conf.values, maps.Clone(sn.values)
	for k, v := range old {
		if k == "description" || unusedKey.MatchString(k) {
			values[k] = v
		}
	}
	values["parent"] = j.name
	if id := values["vmgenid"]; id != "" && id != "0" {
		values["vmgenid"] = j.s.uuid()
	}
	g.conf.values = values
	for _, d := range drives(old) {
		g.conf.addUnused(d.volid)
	}
	j.s.record(g)
	j.effect(t, GuestRolledBack, g, "")
	if sn.vmstate != "" {
		j.s.boot(t, g)
	}
	return ""
}

// startAfter is a power call of its own, with a task of its own under the
// caller's name, for which this one does not wait.
func (j *snapshotJob) startAfter(t *task) string {
	g := j.s.at(t.node, j.kind, j.vmid)
	if j.kind == QEMU && g != nil && g.running {
		return ""
	}
	if text := powerRefusal(j.kind, "start", j.vmid, t.node, g); text != "" {
		return text
	}
	if j.s.haManaged(j.vmid) {
		j.s.spawn(t.node, "hastart", itoa(j.vmid), t.user, j.s.haStages(j.kind, j.vmid, "start", 0)...)
		return ""
	}
	p := &powerJob{s: j.s, kind: j.kind, vmid: j.vmid, what: "start"}
	j.s.spawn(t.node, j.kind.prefix()+"start", itoa(j.vmid), t.user, p.stages()...)
	return ""
}
