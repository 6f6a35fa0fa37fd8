package pvesim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// restoreCT is POST of a container with restore=1.
// (pve-container: PVE::API2::LXC#create_vm)
func restoreCT(c *call) {
	r := c.restoring(LXC, c.params["ostemplate"])
	if r.store == "" {
		r.store = "local"
	}
	if !c.node.quorate {
		c.fail("cluster not ready - no quorum?")
		return
	}
	over := r.there && c.on("force")
	ref, taken := c.node.exists(r.vmid)
	switch g := r.guest(c.node); {
	case taken && !over:
		c.fail(ref.kind.word() + " " + itoa(r.vmid) + " already exists on node '" + ref.node + "'")
		return
	case over && g.running:
		c.fail("can't overwrite running container")
		return
	case over && g.conf.values["protection"] == "1":
		c.fail("unable to restore CT " + itoa(r.vmid) + " - protection mode enabled")
		return
	}
	for _, check := range []func() string{
		func() string { return c.mayCreate(over) },
		r.refuseArchive,
	} {
		if text := check(); text != "" {
			c.failTyped(text)
			return
		}
	}
	if !r.checkStores(c) {
		return
	}
	r.claim(c.on("force"), func() {
		c.fork("vzrestore", itoa(r.vmid), r.begin(r.unwindCT), stage{name: StageLock, wait: func(t *task, resume func(string)) {
			t.takeLock(flockKey{t.node.name, LXC, r.vmid}, lockTimeout, lockFailure(flockPath(LXC, r.vmid)), resume)
		}}, act(StageCheck, 0, r.checkCT), act(StageHeader, 0, r.readCT))
	})
}

// checkStores looks at the storages of the disks that the request names, or at
// the one for all of them.
func (r *restore) checkStores(c *call) bool {
	var stores []string
	for _, k := range slices.SortedFunc(maps.Keys(r.given), naturally) {
		if !driveKey.MatchString(k) {
			continue
		}
		store, _, ok := parseAllocation(LXC, r.given[k])
		switch {
		case !ok && isDigits(strings.Replace(r.given[k], ".", "", 1)):
			store, r.given[k] = r.store, r.store+":"+r.given[k]
		case !ok:
			store = storeOf(r.given[k])
		}
		stores = append(stores, store)
	}
	if r.given["rootfs"] == "" {
		if len(stores) > 0 {
			c.fail("mount points configured, but 'rootfs' not set - aborting")
			return false
		}
		stores = append(stores, r.store)
	}
	for _, id := range stores {
		if text := r.s.usable(id, c.node); text != "" {
			c.fail(text)
			return false
		}
		if !slices.Contains(r.s.stores[id].Content, "rootdir") {
			c.failParam("storage", "storage '"+id+"' does not support container directories")
			return false
		}
		if text := c.rights().all("/storage/"+id, "Datastore.AllocateSpace"); text != "" {
			c.forbid(text)
			return false
		}
	}
	return true
}

func (r *restore) checkCT(t *task) string {
	g := r.guest(t.node)
	switch {
	case g == nil:
		return noConfig(LXC, t.node.name, r.vmid)
	case g.running:
		return "can't overwrite running container"
	}
	return ""
}

// readCT recovers the config from the archive and plans the rest. Up to its end
// the container that is there is changed by nothing but the lock.
func (r *restore) readCT(t *task) string {
	t.print("recovering backed-up configuration from '" + r.archive + "'")
	a, failure := r.read(t.node)
	switch {
	case failure != "":
		return failure
	case a == nil || a.Kind != LXC:
		for _, line := range []string{
			"tar: This does not look like a tar archive", "zstd: /*stdin*\\: unsupported format ",
			"tar: Child returned status 1", "tar: Error is not recoverable: exiting now",
		} {
			t.print(line)
		}
		return "ERROR: archive contains no configuration file"
	}
	r.header = *a
	g := r.guest(t.node)
	rights := &grant{access: t.node.users(), auth: t.user}
	privileged := r.header.Config["unprivileged"] != "1"
	if r.given["unprivileged"] != "" {
		privileged = r.given["unprivileged"] != "1"
	}
	if privileged && (!r.there || g.conf.values["unprivileged"] == "1") {
		if text := rights.all("/", "Sys.Modify"); text != "" {
			return text
		}
	}
	if failure := r.slotsOfCT(); failure != "" {
		return failure
	}
	r.plan(t, g)
	return ""
}

func (r *restore) slotsOfCT() string {
	from, named := r.header.Config, r.given["rootfs"] != ""
	if named {
		from = r.given
	}
	for _, k := range slices.SortedFunc(maps.Keys(from), naturally) {
		drive := from[k]
		if !driveKey.MatchString(k) {
			continue
		}
		sl := slot{key: k, store: r.store, drive: drive, size: sizeBytes(option(drive, "size"))}
		if named {
			store, size, ok := parseAllocation(LXC, drive)
			if !ok {
				return "unable to parse volume ID '" + drive + "'"
			}
			sl.store, sl.size = store, size
		}
		if sl.size == 0 {
			return "unable to detect disk size - please specify " + k + " (size)"
		}
		r.slots = append(r.slots, sl)
	}
	if len(r.slots) == 0 || r.slots[0].key != "rootfs" {
		return "rootfs configuration could not be recovered, please check and specify manually!"
	}
	return ""
}

// plan is the rest: new disks, then the end of the old ones and of the config,
// then the data. From the first new disk on a failure ends with no container.
func (r *restore) plan(t *task, g *guest) {
	var plan []stage
	for i := range r.slots {
		sl := &r.slots[i]
		plan = append(plan, act(StageAllocate+itoa(i), r.s.pace.Volume, func(t *task) string {
			t.unwind = func(text string) string { return r.vanish(t, text) }
			if failure := r.allocate(t.node, sl); failure != "" {
				return failure
			}
			if st := r.s.stores[sl.store]; st.fileBased() {
				t.print(formatting(st.filePath(sl.volid), "raw", sl.size))
				for _, line := range r.s.mkfs(sl.size) {
					t.print(line)
				}
			}
			return ""
		}))
	}
	if r.there {
		for i, volid := range g.disks() {
			plan = append(plan, act(StageFree+itoa(i), r.s.pace.Volume, func(t *task) string {
				old := *g
				if r.gone {
					old = r.old
				}
				return r.s.freeVolume(t, volid, func(*volume) { r.s.effect(t, VolumeFreed, &old, volid) })
			}))
		}
		plan = append(plan, act(StageStub, 0, r.stubCT))
	}
	t.prepend(append(plan, act(StageExtract, r.s.pace.Volume*4, r.extractCT), act(StageConfig, 0, r.configCT), endStage())...)
}

func (r *restore) stubCT(t *task) string {
	g := r.guest(t.node)
	switch {
	case g == nil:
		return noConfig(LXC, t.node.name, r.vmid)
	case !t.node.quorate:
		return denied(LXC, t)
	}
	r.overwritten(t, g)
	g.conf = config{values: map[string]string{"lock": "create"}}
	r.s.record(g)
	return ""
}

func (r *restore) extractCT(t *task) string {
	var size int64
	for i := range r.slots {
		size += r.slots[i].size
	}
	t.print("restoring '" + r.archive + "' now..")
	t.print("extracting archive '" + r.s.stores[storeOf(r.archive)].filePath(r.archive) + "'")
	t.print(fmt.Sprintf("Total bytes read: %d (%dMiB, 300MiB/s)", size, size>>20))
	return ""
}

func (r *restore) configCT(t *task) string {
	t.print("merging backed-up and given configuration..")
	values := r.carried()
	for k := range values {
		if driveKey.MatchString(k) {
			delete(values, k)
		}
	}
	for _, sl := range r.slots {
		values[sl.key] = sl.volid + ",size=" + sizeText(sl.size)
		for part := range strings.SplitSeq(sl.drive, ",") {
			if k, _, ok := strings.Cut(part, "="); ok && k != "size" && k != "volume" {
				values[sl.key] += "," + part
			}
		}
	}
	if values["unprivileged"] == "0" {
		delete(values, "unprivileged")
	}
	if failure := r.finish(t, values); failure != "" {
		return failure
	}
	t.unwind = nil
	r.autostart(t)
	return ""
}

// unwindCT is the end before any disk was made: a container that was there
// keeps its config and loses the lock; a config made for the restore goes.
func (r *restore) unwindCT(t *task, text string) string {
	g := r.guest(t.node)
	waited := strings.HasPrefix(text, "can't lock file")
	switch {
	case g == nil || !t.node.quorate:
	case r.there:
		if g.conf.values["lock"] == "create" {
			delete(g.conf.values, "lock")
			r.s.record(g)
		}
	case !waited:
		r.s.remove(g)
	}
	if waited {
		return text
	}
	return r.says(text)
}

// vanish is the end after that: the new disks go, and the config, whatever was
// in it. Disks of the container of before that were not freed yet are nobody's.
func (r *restore) vanish(t *task, text string) string {
	r.discard(t)
	if g := r.guest(t.node); g != nil && t.node.quorate {
		if !r.gone {
			g.remember()
		}
		r.s.remove(g)
		if r.there {
			r.s.effect(t, GuestDestroyed, g, "")
		}
	}
	return r.says(text)
}

// mkfs is what mkfs.ext4 prints of a new file system.
func (s *Sim) mkfs(size int64) []string {
	block, perGroup, first, unit := int64(1024), int64(8192), int64(1), "1k"
	if size >= 512<<20 {
		block, perGroup, first, unit = 4096, 32768, 0, "4k"
	}
	blocks := size / block
	groups := max(1, (blocks+perGroup-1)/perGroup)
	inodes := blocks / 4
	if unit == "1k" {
		inodes = blocks / 4 / groups / 8 * 8 * groups
	}
	var backups []string
	for g := int64(1); g < groups; g++ {
		if g == 1 || powerOf(3, g) || powerOf(5, g) || powerOf(7, g) {
			backups = append(backups, fmt.Sprint(g*perGroup+first))
		}
	}
	out := []string{
		fmt.Sprintf("Creating filesystem with %d %s blocks and %d inodes", blocks, unit, inodes),
		"Filesystem UUID: " + s.uuid(),
	}
	if len(backups) > 0 {
		out = append(out, "Superblock backups stored on blocks: ", "\t"+strings.Join(backups, ", "))
	}
	return out
}

func powerOf(base, n int64) bool {
	for n%base == 0 {
		n /= base
	}
	return n == 1
}
