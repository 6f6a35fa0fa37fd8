package pvesim

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// named is the volume that a request's path names, with or without its storage,
// or answers with the complaint and returns no name.
// (pve-storage: PVE::API2::Storage::Content, real_volume_id)
func (c *call) named() (st *storage, volid string, name volName, ok bool) {
	id, text := c.params["storage"], c.params["volume"]
	volid = id + ":" + text
	if strings.Contains(text, ":") {
		m := volumeID.FindStringSubmatch(text)
		switch {
		case m == nil:
			c.failParam("volume", "unable to parse volume ID '"+text+"'\n")
			return nil, "", volName{}, false
		case m[1] != id:
			c.failParam("volume", "storage ID mismatch ("+m[1]+" != "+id+")\n")
			return nil, "", volName{}, false
		}
		volid = text
	}
	st = c.s.stores[id]
	if st == nil {
		c.fail("storage '" + id + "' does not exist")
		return nil, "", volName{}, false
	}
	_, rest, _ := strings.Cut(volid, ":")
	name, bad := st.parse(rest)
	if bad != "" {
		c.fail(bad)
		return nil, "", volName{}, false
	}
	return st, volid, name, true
}

// refuseVolume is check_volume_access: why the caller may not read a volume, or
// "". The guest that the volume is read for needs no further right on its own.
func (c *call) refuseVolume(volid string, name volName, reader int) string {
	path, owner := "/storage/"+storeOf(volid), "/vms/"+itoa(name.owner)
	r := c.rights()
	switch {
	case r.all(path, "Datastore.Allocate") == "":
		return ""
	case name.content == "iso" || name.content == "vztmpl":
		return r.any(path, "Datastore.AllocateSpace", "Datastore.Audit")
	case name.owner != 0 && name.owner == reader:
		return ""
	case name.content == "backup" && name.owner != 0:
		return firstOf(r.all(path, "Datastore.AllocateSpace"), r.all(owner, "VM.Backup"))
	case name.content == "images" && name.owner != 0:
		return firstOf(r.all(path, "Datastore.Audit"), r.all(owner, "VM.Config.Disk"))
	default:
		return "missing privileges to access " + volid
	}
}

// firstOf is the first complaint.
func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// showVolume is GET of one volume.
func showVolume(c *call) {
	st, volid, name, ok := c.named()
	if !ok {
		return
	}
	if text := c.refuseVolume(volid, name, 0); text != "" {
		c.failTyped(text)
		return
	}
	_, v := c.s.volume(c.node, volid)
	switch {
	case v == nil && st.fileBased():
		c.fail("volume_size_info on '" + volid + "' failed - no format")
		return
	case v == nil && st.Type == "zfspool":
		_, rest, _ := strings.Cut(volid, ":")
		c.fail("zfs error: cannot open '" + st.ground() + "/" + rest + "': dataset does not exist")
		return
	case v == nil:
		c.fail("can't get size of '" + st.filePath(volid) + "'")
		return
	}
	m := map[string]any{"path": st.filePath(volid), "size": v.Size, "used": allocated(v), "format": name.format}
	if v.Content == "backup" {
		m["notes"], m["protected"] = v.Notes, flag(v.Protected)
	}
	c.ok(m)
}

// allocated is what a volume takes on disk: qcow2 images are thin.
func allocated(v *volume) int64 {
	if v.Format == "qcow2" {
		return 278528
	}
	return (v.Size + 4095) / 4096 * 4096
}

// editVolume is PUT of one volume: notes and protection of backups.
func editVolume(c *call) {
	st, volid, name, ok := c.named()
	if !ok {
		return
	}
	if text := c.refuseVolume(volid, name, 0); text != "" {
		c.failTyped(text)
		return
	}
	_, v := c.s.volume(c.node, volid)
	for _, attr := range []string{"notes", "protected"} {
		switch {
		case !c.has(attr):
			continue
		case !st.fileBased() && st.Type != "pbs":
			c.fail("attribute '" + attr + "' is not supported for storage type '" + st.Type + "'")
			return
		case name.content != "backup":
			c.fail("only backups support attribute '" + attr + "'")
			return
		case v == nil:
			continue // a file beside the archive, which does not look for it
		case attr == "notes":
			c.letIn()
			v.Notes = c.params[attr]
		default:
			c.letIn()
			v.Protected = c.on(attr)
		}
	}
	c.ok(nil)
}

// deleteVolume is DELETE of one volume. Whether there is one is not looked at
// here, nor whether a guest uses it, here or later.
// (pve-storage: PVE::API2::Storage::Content, delete)
func deleteVolume(c *call) {
	st, volid, name, ok := c.named()
	if !ok {
		return
	}
	r := c.rights()
	path := "/storage/" + st.ID
	refusal := r.all(path, "Datastore.Allocate")
	if name.content == "backup" && name.owner != 0 {
		refusal = firstOf(r.all(path, "Datastore.AllocateSpace"), r.all("/vms/"+itoa(name.owner), "VM.Backup"))
	}
	if refusal != "" {
		c.forbid(refusal)
		return
	}
	id := st.ID
	if name.owner != 0 {
		id = itoa(name.owner) + "@" + st.ID
	}
	c.forkAndWait(time.Duration(c.int("delay", 0))*time.Second, "imgdel", id, c.s.removal(st.ID, volid)...)
}

// removal are the stages of deleting one volume.
func (s *Sim) removal(store, volid string) []stage {
	return []stage{
		s.startStage(),
		{name: StageLock, wait: func(t *task, resume func(string)) {
			if text := s.usable(store, t.node); text != "" {
				resume(text)
				return
			}
			key, failed := s.stores[store].storageLock(t.node)
			t.takeLock(key, lockTimeout, failed, resume)
		}},
		act(StageFree+"0", s.pace.Volume, func(t *task) string {
			failure := s.freeVolume(t, volid, func(v *volume) {
				kind := VolumeDeleted
				if v.Content == "backup" {
					kind = BackupDeleted
				}
				s.effectOf(t, Effect{Kind: kind, VMID: v.VMID, Volume: volid})
			})
			t.unlock()
			if failure == "" {
				t.print("Removed volume '" + volid + "'")
			}
			return failure
		}),
		endStage(),
	}
}

// owner is the VMID in a worker's id, which has a storage behind it or not.
func (t *task) owner() string {
	id, _, _ := strings.Cut(t.id, "@")
	return id
}

// endStage is where a worker has done everything but say so.
func endStage() stage { return act(StageEnd, 0, func(*task) string { return "" }) }

// freeVolume is vdisk_free: gone is called if there was a volume and it is gone
// now. A missing one is an error on LVM without thin provisioning and on backup
// servers only.
// (pve-storage: PVE::Storage#vdisk_free and free_image of each plugin)
func (s *Sim) freeVolume(t *task, volid string, gone func(v *volume)) (failure string) {
	store, name, _ := strings.Cut(volid, ":")
	if text := s.usable(store, t.node); text != "" {
		return text
	}
	st, v := s.volume(t.node, volid)
	lv := st.ground() + "/" + name
	switch {
	case v == nil && st.fileBased():
		t.print("disk image '" + st.filePath(volid) + "' does not exist")
		return ""
	case v == nil && st.Type == "lvm":
		return "lvremove '" + lv + "' error:   Failed to find logical volume \"" + lv + "\""
	case v == nil && st.Type == "pbs":
		return "proxmox-backup-client failed: Error: snapshot does not exist"
	case v == nil:
		return ""
	case v.clones > 0 && st.Type != "lvmthin": // which lets it happen
		return "base volume '" + name + "' is still in use by linked clones"
	case v.Protected && st.fileBased():
		return "cannot remove protected volume '" + name + "' on '" + st.ID + "'"
	case v.Protected:
		return "proxmox-backup-client failed: Error: cannot remove protected snapshot"
	}
	if text := s.stuck(volid); text != "" {
		return text
	}
	st.drop(v)
	gone(v)
	if st.Type == "lvm" && st.SafeRemove {
		// The data are still there, under another name, until the second task
		// has been over them.
		s.spawn(t.node, "imgdel", "", t.user, s.startStage(), act(StageZero, s.pace.Volume, func(t *task) string {
			t.print("zero-out data on image " + name + " (/dev/" + st.ground() + "/del-" + name + ")")
			t.print("successfully removed volume " + name + " (" + st.ground() + "/del-" + name + ")")
			return ""
		}))
	}
	return ""
}

// diskless says why a VM cannot start for want of a disk, or "".
func (s *Sim) diskless(g *guest) string {
	if g.kind != QEMU {
		return ""
	}
	for _, k := range slices.SortedFunc(maps.Keys(g.conf.values), naturally) {
		volid, _, _ := strings.Cut(g.conf.values[k], ",")
		if !driveKey.MatchString(k) || ownerOf(volid) != g.vmid {
			continue
		}
		store, _, _ := strings.Cut(volid, ":")
		if text := s.usable(store, g.node); text != "" {
			return text
		}
		if _, v := s.volume(g.node, volid); v == nil {
			return "volume '" + volid + "' does not exist"
		}
	}
	return ""
}

// forkAndWait starts a worker and looks once a second, up to limit, whether it
// has ended: then the answer is null, or its error, which may come after the
// effect. Otherwise it is the UPID.
func (c *call) forkAndWait(limit time.Duration, typ, id string, stages ...stage) {
	if limit == 0 || c.armed(FaultActiveLock) != nil {
		c.fork(typ, id, stages...)
		return
	}
	c.letIn()
	t := c.s.newTask(c.node, typ, id, c.auth, stages)
	t.begin()
	t.pump()
	end := c.s.now().Add(limit)
	var look func()
	look = func() {
		ended := !t.alive
		switch {
		case ended && (t.exit == "OK" || strings.HasPrefix(t.exit, "WARNINGS: ")):
			c.ok(nil)
		case ended:
			c.fail(t.exit)
		case c.s.now().Before(end):
			c.s.after(time.Second, look)
		default:
			c.ok(t.upid)
		}
	}
	look()
}

// allocVolume is POST of storage content: a new disk for a guest.
func allocVolume(c *call) {
	st := c.s.stores[c.params["storage"]]
	if text := c.s.usable(c.params["storage"], c.node); text != "" {
		c.fail(text)
		return
	}
	volid := st.ID + ":" + c.params["filename"]
	if st.fileBased() {
		volid = st.ID + ":" + c.params["vmid"] + "/" + c.params["filename"]
	}
	_, rest, _ := strings.Cut(volid, ":")
	name, bad := st.parse(rest)
	size := c.params["size"]
	if isDigits(size) {
		size += "K"
	}
	switch _, v := c.s.volume(c.node, volid); {
	case bad != "" || name.owner != c.vmid():
		c.fail("illegal name '" + c.params["filename"] + "' - should be 'vm-" + c.params["vmid"] + "-*'")
		return
	case v != nil && st.fileBased():
		c.fail("disk image '" + st.filePath(volid) + "' already exists")
		return
	case v != nil:
		c.fail("volume '" + volid + "' already exists")
		return
	}
	c.s.putVolume(st, c.node, Volume{VolID: volid, VMID: c.vmid(), Size: sizeBytes(size), Content: "images", Format: name.format})
	c.ok(volid)
}

// contentTypes are what storages may hold.
var contentTypes = []string{"images", "rootdir", "vztmpl", "iso", "backup", "snippets", "import", "none"}

func checkContent(text string) string {
	if !slices.Contains(contentTypes, text) {
		return "invalid format - invalid content type '" + text + "'\n"
	}
	return ""
}
