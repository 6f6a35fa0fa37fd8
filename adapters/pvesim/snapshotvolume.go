package pvesim

import (
	"slices"
	"strings"
)

func storageOf(volid string) string {
	store, _, _ := strings.Cut(volid, ":")
	return store
}

func (v *volume) dropSnapshot(name string) (found bool) {
	i := slices.Index(v.snaps, name)
	if i < 0 {
		return false
	}
	v.snaps = slices.Delete(v.snaps, i, i+1)
	return true
}

// snapshots reports whether the storage can take a snapshot of the volume.
func (st *storage) snapshots(v *volume) bool {
	switch st.Type {
	case "btrfs", "lvmthin", "zfspool", "zfs", "rbd":
		return true
	}
	return st.fileBased() && v.Format == "qcow2"
}

// noVolume is what is said of a volume that is not there.
func (st *storage) noVolume(volid string) string {
	if st.fileBased() {
		return "unable to activate storage volume '" + volid + "' - no such file '" + st.filePath(volid) + "'"
	}
	return "no such logical volume " + strings.TrimPrefix(st.filePath(volid), "/dev/")
}

// rollbackBlocked says why a volume cannot go back to a snapshot, as far as its
// storage knows beforehand: only ZFS does.
func (st *storage) rollbackBlocked(v *volume, volid, name string) string {
	if st.Type != "zfspool" && st.Type != "zfs" {
		return ""
	}
	switch {
	case v == nil || !slices.Contains(v.snaps, name):
		return "can't rollback, snapshot '" + name + "' does not exist on '" + volid + "'"
	case v.snaps[len(v.snaps)-1] != name:
		return "can't rollback, '" + name + "' is not most recent snapshot on '" + volid + "'"
	}
	return ""
}

// blockers are the snapshots of a volume after the named one.
func (v *volume) blockers(name string) []string {
	return slices.Clone(v.snaps[slices.Index(v.snaps, name)+1:])
}

// noSnapshotToApply is a rollback of a volume that lacks the snapshot. LVM-thin
// has removed the volume itself by the time it finds out.
func (st *storage) noSnapshotToApply(t *task, v *volume, volid, name string) (failure string, destroyed bool) {
	if st.fileBased() {
		t.print("qemu-img: Could not apply snapshot '" + name + "': Failed to load snapshot: No such file or directory")
		return "command '/usr/bin/qemu-img snapshot -a " + name + " " + st.filePath(volid) + "' failed: exit code 1", false
	}
	if st.Type == "lvmthin" {
		return "lvm rollback '" + st.snapVolume(volid, name) + "' error:   Failed to find logical volume \"" + st.snapVolume(volid, name) + "\"", v != nil
	}
	return "can't rollback, snapshot '" + name + "' does not exist on '" + volid + "'", false
}

// noSnapshotToDelete is the deletion of a snapshot that a volume does not have;
// v is nil if there is no volume either. A running VM does it itself.
func (st *storage) noSnapshotToDelete(t *task, g *guest, v *volume, d drive, name string) string {
	switch {
	case v != nil && st.fileBased() && g.running && g.kind == QEMU:
		return "VM " + itoa(g.vmid) + " qmp command 'blockdev-snapshot-delete-internal-sync' failed - Snapshot with id 'null' and name '" +
			name + "' does not exist on device 'drive-" + d.key + "'"
	case st.fileBased():
		t.print("qemu-img: Could not delete snapshot '" + name + "': snapshot not found")
		return "command '/usr/bin/qemu-img snapshot -d " + name + " " + st.filePath(d.volid) + "' failed: exit code 1"
	case st.Type == "lvmthin":
		return "lvremove snapshot '" + st.snapVolume(d.volid, name) + "' error:   Failed to find logical volume \"" + st.snapVolume(d.volid, name) + "\""
	}
	return "zfs error: could not find any snapshots to destroy; check snapshot names."
}

// snapVolume is the logical volume that holds a snapshot.
func (st *storage) snapVolume(volid, name string) string {
	_, vol, _ := strings.Cut(volid, ":")
	return st.ID + "/snap_" + vol + "_" + name
}

// allocateState makes the volume for a VM's memory, on the storage of its first
// disk: twice the memory and 500 MiB.
func (s *Sim) allocateState(n *node, g *guest, name string) string {
	store := "local"
	if ds := drives(g.conf.values); len(ds) > 0 {
		store = storageOf(ds[0].volid)
	}
	st := s.stores[store]
	if st == nil {
		return ""
	}
	vol := "vm-" + itoa(g.vmid) + "-state-" + name
	if st.fileBased() {
		vol = itoa(g.vmid) + "/" + vol + ".raw"
	}
	volid := store + ":" + vol
	s.putVolume(st, n, Volume{VolID: volid, VMID: g.vmid, Size: g.memory()*2 + 500<<20, Content: "images"})
	return volid
}

// VolumeSnapshots lists the snapshots of a volume as node sees it, oldest first.
func (s *Sim) VolumeSnapshots(node, volid string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, v := s.volume(s.nodes[node], volid); v != nil {
		return slices.Clone(v.snaps)
	}
	return nil
}

// AddVolumeSnapshot makes a snapshot of one volume that no config knows of, as a
// tool on the storage would. It reports whether there is such a volume.
func (s *Sim) AddVolumeSnapshot(node, volid, name string) (found bool) {
	s.do(func() {
		if _, v := s.volume(s.nodes[node], volid); v != nil {
			v.snaps = append(v.snaps, name)
			found = true
		}
	})
	return found
}

// DropVolumeSnapshot removes a snapshot from one volume behind the config's
// back. It reports whether there was one.
func (s *Sim) DropVolumeSnapshot(node, volid, name string) (found bool) {
	s.do(func() {
		if _, v := s.volume(s.nodes[node], volid); v != nil {
			found = v.dropSnapshot(name)
		}
	})
	return found
}
