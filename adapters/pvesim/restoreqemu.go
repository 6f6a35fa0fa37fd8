package pvesim

import (
	"maps"
	"slices"
	"strings"
)

// restoreVM is POST of a VM with an archive.
// (qemu-server: PVE::API2::Qemu#create_vm, PVE::QemuServer#restore_vma_archive)
func restoreVM(c *call) {
	r := c.restoring(QEMU, c.params["archive"])
	if !c.node.quorate {
		c.fail("cluster not ready - no quorum?")
		return
	}
	for _, check := range []func() string{
		func() string {
			if r.store == "" {
				return ""
			}
			return c.rights().all("/storage/"+r.store, "Datastore.AllocateSpace")
		},
		func() string { return c.mayCreate(c.on("force") && r.there) },
		func() string {
			if !r.startIt || r.c.rights().all("/pool/"+r.pool, "VM.PowerMgmt") == "" && r.pool != "" {
				return ""
			}
			return c.rights().all("/vms/"+itoa(r.vmid), "VM.PowerMgmt")
		},
	} {
		if text := check(); text != "" {
			c.failTyped(text)
			return
		}
	}
	for _, k := range slices.Sorted(maps.Keys(r.given)) {
		if driveKey.MatchString(k) {
			c.failParam(k, "option conflicts with option 'archive'")
			return
		}
	}
	if text := r.refuseArchive(); text != "" {
		c.failTyped(text)
		return
	}
	if _, failure := r.read(c.node); failure != "" && r.s.stores[storeOf(r.archive)].Type != "pbs" {
		c.fail(failure)
		return
	}
	r.claim(c.on("force"), func() {
		c.fork("qmrestore", itoa(r.vmid), r.begin(r.unwindVM), act(StageCheck, 0, r.checkVM), stage{name: StageLock, wait: func(t *task, resume func(string)) {
			t.takeLock(flockKey{t.node.name, QEMU, r.vmid}, restoreLockTimeout, lockFailure(flockPath(QEMU, r.vmid)), resume)
		}}, stage{name: StageHeader, wait: r.readVM})
	})
}

func storeOf(volid string) string {
	store, _, _ := strings.Cut(volid, ":")
	return store
}

// checkVM is the first thing the worker does, without the lock.
func (r *restore) checkVM(t *task) string {
	g := r.guest(t.node)
	switch {
	case g == nil:
		return noConfig(QEMU, t.node.name, r.vmid)
	case g.conf.values["protection"] == "1":
		return r.says("- protection mode enabled")
	case g.running:
		return r.says("vm is running")
	}
	return ""
}

// readVM reads the header and plans the rest. An archive that is none makes
// the tool wait for a header for a minute.
func (r *restore) readVM(t *task, resume func(string)) {
	a, failure := r.read(t.node)
	if failure != "" {
		resume(failure)
		return
	}
	st := r.s.stores[storeOf(r.archive)]
	if r.live && st.Type != "pbs" {
		resume("live-restore is only compatible with backup images from a Proxmox Backup Server")
		return
	}
	command := "vma extract -v -r /var/tmp/vzdumptmp" + itoa(t.pid) + ".fifo " + st.filePath(r.archive) + " /var/tmp/vzdumptmp" + itoa(t.pid)
	t.print("restore vma archive: " + command)
	if a == nil || a.Kind != QEMU {
		r.s.after(headerTimeout, func() {
			resume("command 'set -o pipefail && " + command + "' failed: got timeout reading VMA header - corrupted?")
		})
		return
	}
	r.header = *a
	if failure := r.slotsOfVM(t); failure != "" {
		resume(failure)
		return
	}
	plan := []stage{act(StageStub, 0, func(t *task) string { return r.stubVM(t, st.Type == "pbs") })}
	t.prepend(append(plan, act(StageExtract, r.s.pace.Volume*4, r.extractVM), act(StageConfig, 0, r.configVM), endStage())...)
	resume("")
}

// slotsOfVM looks which disks are to be made where. All of it comes before any
// effect.
func (r *restore) slotsOfVM(t *task) string {
	rights := &grant{access: t.node.users(), auth: t.user}
	for _, k := range slices.SortedFunc(maps.Keys(r.header.Config), naturally) {
		drive := r.header.Config[k]
		volid, _, _ := strings.Cut(drive, ",")
		if !driveKey.MatchString(k) || strings.Contains(drive, "media=cdrom") || option(drive, "backup") == "0" || !strings.Contains(volid, ":") {
			continue
		}
		sl := slot{key: k, store: storeOf(volid), drive: drive, size: sizeBytes(option(drive, "size"))}
		if _, ext, ok := strings.Cut(volid[strings.LastIndex(volid, "/")+1:], "."); ok {
			sl.format = ext
		}
		if r.store != "" {
			sl.store = r.store
		}
		st := r.s.stores[sl.store]
		switch {
		case st == nil:
			return "storage '" + sl.store + "' does not exist"
		case !slices.Contains(st.Content, "images"):
			return "Content type 'images' is not available on storage '" + sl.store + "'"
		}
		if t.user != rootUser {
			if text := rights.all("/storage/"+sl.store, "Datastore.AllocateSpace"); text != "" {
				return text
			}
		}
		r.slots = append(r.slots, sl)
	}
	return ""
}

// stubVM is the point of no return: the config is overwritten, and then every
// old disk is freed whose place the backup has one for. The others become
// unused, in the end.
func (r *restore) stubVM(t *task, locked bool) string {
	g := r.guest(t.node)
	switch {
	case g == nil:
		return noConfig(QEMU, t.node.name, r.vmid)
	case !t.node.quorate:
		return denied(QEMU, t)
	}
	before := g.conf
	var doomed []string
	for _, k := range slices.SortedFunc(maps.Keys(before.values), naturally) {
		volid, _, _ := strings.Cut(before.values[k], ",")
		if driveKey.MatchString(k) && ownerOf(volid) == r.vmid && slices.ContainsFunc(r.slots, func(sl slot) bool { return sl.key == k }) {
			doomed = append(doomed, volid)
		}
	}
	for i := range before.snapshots {
		if v := before.snapshots[i].vmstate; v != "" {
			doomed = append(doomed, v)
		}
	}
	if r.there {
		r.overwritten(t, g)
		g.conf = config{values: map[string]string{"memory": "128"}}
		if locked {
			g.conf.values["lock"] = "create"
		}
		r.s.record(g)
	}
	var plan []stage
	for i, volid := range doomed {
		plan = append(plan, act(StageFree+itoa(i), r.s.pace.Volume, func(t *task) string {
			if failure := r.s.freeVolume(t, volid, func(*volume) { r.s.effect(t, VolumeFreed, &r.old, volid) }); failure != "" {
				t.print(failure)
			}
			return ""
		}))
	}
	for i := range r.slots {
		sl := &r.slots[i]
		plan = append(plan, act(StageAllocate+itoa(i), r.s.pace.Volume, func(t *task) string {
			if failure := r.allocate(t.node, sl); failure != "" {
				return failure
			}
			t.print("new volume ID is '" + sl.volid + "'")
			return ""
		}))
	}
	t.prepend(plan...)
	return ""
}

func (r *restore) extractVM(t *task) string {
	for i := range r.slots {
		sl := &r.slots[i]
		path := r.s.stores[sl.store].filePath(sl.volid)
		t.print("map 'drive-" + sl.key + "' to '" + path + "' (write zeros = 0)")
	}
	return ""
}

// configVM writes the config: that of the backup, with new disks and a new
// generation id.
func (r *restore) configVM(t *task) string {
	values := r.carried()
	for _, sl := range r.slots {
		_, rest, more := strings.Cut(sl.drive, ",")
		values[sl.key] = sl.volid
		if more {
			values[sl.key] += "," + rest
		}
	}
	if id := values["vmgenid"]; id != "" && id != "0" {
		values["vmgenid"] = r.s.uuid()
	}
	if s := values["smbios1"]; s != "" && r.unique {
		old := guest{conf: config{values: values}}
		values["smbios1"] = strings.Replace(s, "uuid="+old.uuid(), "uuid="+r.s.uuid(), 1)
	}
	r.unused(t.node, values)
	if failure := r.finish(t, values); failure != "" {
		return failure
	}
	t.unwind = nil
	r.autostart(t)
	return ""
}

// unused enters the guest's disks that the config does not have.
func (r *restore) unused(n *node, values map[string]string) {
	has := guest{kind: QEMU, vmid: r.vmid, conf: config{values: values}}
	known, next := has.disks(), 0
	for _, id := range slices.Sorted(maps.Keys(r.s.stores)) {
		if r.s.usable(id, n) != "" {
			continue
		}
		for _, v := range r.s.stores[id].seen(n, r.vmid) {
			if v.Content != "images" || slices.Contains(known, v.VolID) {
				continue
			}
			values["unused"+itoa(next)] = v.VolID
			next++
		}
	}
}

// unwindVM is what a worker does that dies of an error: its own disks go, and
// the lock if it is still there. The machine of before does not come back.
func (r *restore) unwindVM(t *task, text string) string {
	r.discard(t)
	if g := r.guest(t.node); g != nil && t.node.quorate {
		if g.conf.values["lock"] == "create" {
			delete(g.conf.values, "lock")
			r.s.record(g)
		} else {
			t.print("no lock found trying to remove 'create'  lock")
		}
	}
	t.print("error before or during data restore, some or all disks were not completely restored. VM " + itoa(r.vmid) + " state is NOT cleaned up.")
	if text == "received interrupt" {
		return "interrupted by signal"
	}
	return text
}
