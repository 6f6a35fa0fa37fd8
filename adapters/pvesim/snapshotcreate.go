package pvesim

import "slices"

// create: the section is written with the lock, then every volume gets its
// snapshot, then lock and snapstate go and the snapshot becomes the parent.
func (j *snapshotJob) create() []stage {
	return append([]stage{j.s.startStage()}, j.locked(StagePrepare, j.prepareCreate)...)
}

// prepareCreate ends, if it succeeds, with "lock: snapshot" in the config. From
// then on only commit or the clean-up takes it out.
func (j *snapshotJob) prepareCreate(t *task) string {
	g, text := j.guest(t)
	if text != "" {
		return text
	}
	if g.conf.values["template"] == "1" {
		return "you can't take a snapshot if it's a template"
	}
	if text := j.checkLock(g); text != "" {
		return text
	}
	if g.conf.snapshot(j.name) != nil {
		return "snapshot name '" + j.name + "' already used"
	}
	covered := drives(g.conf.values)
	for _, d := range covered {
		if st, v := j.s.volume(t.node, d.volid); st == nil || v == nil || !st.snapshots(v) {
			return "snapshot feature is not available"
		}
	}
	memory := ""
	if j.memory && g.running {
		memory = j.s.allocateState(t.node, g, j.name)
	}
	if text := j.write(t); text != "" {
		return text // what was allocated for the memory stays behind
	}
	sn := g.conf.takeSnapshot(j.name, j.comment, "prepare", t.node.now().Unix())
	sn.vmstate = memory
	g.conf.values["lock"] = "snapshot"

	var plan []stage
	if memory != "" {
		plan = append(plan, stage{name: StageMemory, takes: j.s.pace.Power, cleanup: j.undoCreate, act: func(t *task) string {
			t.print("saving VM state and RAM using storage '" + storageOf(memory) + "'")
			t.print("completed saving the VM state in 1s, saved 16.00 MiB")
			return ""
		}})
	}
	for i, d := range covered {
		plan = append(plan, stage{
			name: StageVolume + itoa(i), takes: j.s.pace.Volume, swallows: true, cleanup: j.undoCreate,
			act: func(t *task) string { return j.snapshotVolume(t, d) },
		})
	}
	t.prepend(slices.Concat(plan, j.locked(StageFinish, j.commit), []stage{endStage()})...)
	return ""
}

func (j *snapshotJob) snapshotVolume(t *task, d drive) string {
	if t.interrupted {
		t.interrupted = false
		return "received interrupt"
	}
	g, text := j.guest(t)
	if text != "" {
		return text
	}
	if j.kind == QEMU {
		t.print("snapshotting 'drive-" + d.key + "' (" + d.volid + ")")
	}
	st, v := j.s.volume(t.node, d.volid)
	if text := j.s.usable(storageOf(d.volid), t.node); text != "" {
		return text
	}
	if v == nil {
		return st.noVolume(d.volid)
	}
	v.snaps = append(v.snaps, j.name)
	j.undo = append(j.undo, d)
	j.effect(t, VolumeSnapshotted, g, d.volid)
	return ""
}

// undoCreate is what a failed create does before it ends: nothing of it stays.
// Killed, it does not come to this, and lock and section stay.
func (j *snapshotJob) undoCreate(t *task) {
	t.print("snapshot create failed: starting cleanup")
	g, sn, text := j.section(t)
	if text == "" {
		text = j.write(t)
	}
	if text != "" {
		t.print(text)
		return
	}
	if st, v := j.s.volume(t.node, sn.vmstate); v != nil {
		st.drop(v)
	}
	for _, d := range j.undo {
		if _, v := j.s.volume(t.node, d.volid); v != nil && v.dropSnapshot(j.name) {
			j.effect(t, VolumeSnapshotDeleted, g, d.volid)
		}
	}
	g.conf.dropSnapshot(j.name)
	delete(g.conf.values, "lock")
}

func (j *snapshotJob) commit(t *task) string {
	g, text := j.guest(t)
	switch {
	case text != "":
		return text
	case g.conf.values["lock"] != "snapshot":
		return "missing snapshot lock"
	}
	sn := g.conf.snapshot(j.name)
	switch {
	case sn == nil:
		return noSnapshot(j.name)
	case sn.state != "prepare":
		return "wrong snapshot state"
	}
	if text := j.write(t); text != "" {
		return text
	}
	sn.state = ""
	delete(g.conf.values, "lock")
	g.conf.values["parent"] = j.name
	j.effect(t, SnapshotCreated, g, "")
	return ""
}
