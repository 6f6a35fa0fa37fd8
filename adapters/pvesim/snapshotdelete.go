package pvesim

import (
	"maps"
	"slices"
)

// delete: "lock: snapshot-delete" is written, then "snapstate: delete", then
// memory and volumes go one after the other, each taken out of the section,
// then the section and the lock. Whoever dies in between leaves lock and state
// behind, and then not even force helps.
func (j *snapshotJob) delete() []stage {
	st := []stage{j.s.startStage()}
	if !j.force {
		st = append(st, j.migrationLock(func(string) string { return "Failed to obtain guest migration lock - replication running?" }))
	}
	if j.kind == QEMU {
		st = append(st, j.locked(StageCheck, j.checkDelete)...) // looks for a TPM's state
	} else {
		st = append(st, act(StageCheck, 0, j.checkDelete))
	}
	st = append(st, j.locked(StageMark, j.markDelete)...)
	return append(st, j.locked(StagePrepare, j.prepareDelete)...)
}

func (j *snapshotJob) checkDelete(t *task) string {
	g, sn, text := j.section(t)
	if text != "" || j.force {
		return text
	}
	return j.s.neededByReplication(g, sn)
}

func (j *snapshotJob) markDelete(t *task) string {
	g, text := j.guest(t)
	if text != "" {
		return text
	}
	if text := j.checkLock(g); text != "" {
		return text
	}
	if text := j.write(t); text != "" {
		return text
	}
	g.conf.values["lock"] = "snapshot-delete"
	return ""
}

// marked loads the section and makes sure of the lock.
func (j *snapshotJob) marked(t *task) (*guest, *snapshot, string) {
	g, text := j.guest(t)
	if text == "" && g.conf.values["lock"] != "snapshot-delete" {
		text = "encountered invalid lock, expected 'snapshot-delete'"
	}
	if text != "" {
		return nil, nil, text
	}
	return j.section(t)
}

func (j *snapshotJob) prepareDelete(t *task) string {
	g, sn, text := j.marked(t)
	switch {
	case text != "":
		return text
	case g.conf.values["template"] == "1":
		return "you can't delete a snapshot if vm is a template" // with the lock set
	}
	if text := j.write(t); text != "" {
		return text
	}
	sn.state = "delete"
	// The plan follows the section as it is now: the steps shorten it.
	var plan []stage
	if sn.vmstate != "" {
		volid := sn.vmstate
		plan = append(plan, act(StageMemory, j.s.pace.Volume, func(t *task) string { return j.freeMemory(t, volid) }))
		if !j.force {
			plan = append(plan, j.locked(StageRecord+"memory", func(t *task) string { return j.shorten(t, "vmstate") })...)
		}
	}
	for i, d := range drives(sn.values) {
		plan = append(plan, stage{
			name: StageVolume + itoa(i), takes: j.s.pace.Volume, swallows: j.force,
			act: func(t *task) string { return j.deleteVolumeSnapshot(t, d) },
		})
		if !j.force {
			plan = append(plan, j.locked(StageRecord+itoa(i), func(t *task) string { return j.shorten(t, d.key) })...)
		}
	}
	covered := drives(sn.values)
	finish := j.locked(StageFinish, func(t *task) string { return j.finishDelete(t, covered) })
	t.prepend(slices.Concat(plan, finish, []stage{endStage()})...)
	return ""
}

// excused turns a failure into a line of the log if force was given.
func (j *snapshotJob) excused(t *task, failure string) string {
	if failure != "" && j.force {
		t.print(failure)
		return ""
	}
	return failure
}

func (j *snapshotJob) freeMemory(t *task, volid string) string {
	g, text := j.guest(t)
	if text != "" {
		return text
	}
	if text := j.s.usable(storageOf(volid), t.node); text != "" {
		return j.excused(t, text)
	}
	if st, v := j.s.volume(t.node, volid); v != nil {
		if text := j.s.stuck(volid); text != "" {
			return j.excused(t, text)
		}
		st.drop(v)
		j.effect(t, VolumeFreed, g, volid)
	}
	return ""
}

func (j *snapshotJob) deleteVolumeSnapshot(t *task, d drive) string {
	if t.interrupted {
		t.interrupted = false
		return j.excused(t, "received interrupt")
	}
	g, text := j.guest(t)
	if text != "" {
		return text
	}
	st, v := j.s.volume(t.node, d.volid)
	switch unusable := j.s.usable(storageOf(d.volid), t.node); {
	case unusable != "":
		return j.excused(t, unusable)
	case v == nil || !v.dropSnapshot(j.name):
		return j.excused(t, st.noSnapshotToDelete(t, g, v, d, j.name))
	}
	j.effect(t, VolumeSnapshotDeleted, g, d.volid)
	return ""
}

// shorten takes one key out of the section, so that the config says how far the
// work has come.
func (j *snapshotJob) shorten(t *task, key string) string {
	_, sn, text := j.marked(t)
	if text == "" {
		text = j.write(t)
	}
	if text != "" {
		return text
	}
	if key == "vmstate" {
		sn.vmstate = ""
		return ""
	}
	sn.values = maps.Clone(sn.values)
	delete(sn.values, key)
	return ""
}

func (j *snapshotJob) finishDelete(t *task, covered []drive) string {
	g, _, text := j.marked(t)
	if text == "" {
		text = j.write(t)
	}
	if text != "" {
		return text
	}
	g.conf.dropSnapshot(j.name)
	delete(g.conf.values, "lock")
	for _, d := range covered {
		g.conf.addUnused(d.volid)
	}
	j.effect(t, SnapshotDeleted, g, "")
	return ""
}
