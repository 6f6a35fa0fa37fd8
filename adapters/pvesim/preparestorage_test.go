package pvesim_test

import (
	"fmt"
	"strings"
	"time"

	"writ/adapters/pvesim"
)

// prepareStorage has what was done on the hosts' shells before an exchange with
// storages, disks, backups and restores.
var prepareStorage = map[string]func(*lab){
	"storage:content-list-all": func(l *lab) {
		base := "lab:121/base-121-disk-0.qcow2"
		l.volume(pvesim.Volume{VolID: base, Node: "pve1", VMID: 121, Size: 10737664, Format: "qcow2"})
		l.volume(pvesim.Volume{VolID: base + "/122/vm-122-disk-0.qcow2", Node: "pve1", VMID: 122, Size: 10737664, Format: "qcow2", Parent: base})
	},
	"storage:content-list-backup": func(l *lab) {
		for name, format := range map[string]string{
			"vzdump-lxc-777-2026_01_02-03_04_05": "tar.zst", "vzdump-qemu-150-2026_01_02-03_04_05": "vma.zst", "vzdump-qemu-150-2026_01_02-03_04_06": "vma.zst",
		} {
			vmid := 150
			if format == "tar.zst" {
				vmid = 777
			}
			l.volume(pvesim.Volume{VolID: "lab:backup/" + name + "." + format, Node: "pve1", VMID: vmid, Size: 1, Content: "backup", Format: format, Notes: "note"})
		}
	},
	"storage:content-get-iso":  func(l *lab) { l.iso("test") },
	"storage:delete-iso-delay": func(l *lab) { l.iso("test2") },
	"storage:delete-immutable": func(l *lab) {
		l.iso("imm")
		l.inject(pvesim.Fault{
			Kind: pvesim.FaultVolumeStuck, Volume: "lab:iso/imm.iso", Times: 2,
			Text: "unlink '/srv/store/template/iso/imm.iso' failed - Operation not permitted",
		})
	},

	"disks:wipedisk-mounted":       loop0(pvesim.Disk{Used: "ext4", Mounted: true}),
	"disks:wipedisk-ok":            loop0(pvesim.Disk{Used: "ext4"}),
	"disks:wipedisk-already-blank": loop0(pvesim.Disk{}),
	"restore:qemu-restore-existing-no-force": func(l *lab) {
		for vmid, disk := range map[int]string{111: "lab:0.01,format=qcow2", 112: "lab:0.01,format=qcow2", 113: "lab:0.01,format=qcow2"} {
			l.add(pvesim.Guest{
				VMID: vmid, Name: fmt.Sprintf("vm%d", vmid), Disks: []string{disk}, Protection: vmid == 112,
				Config: map[string]string{"boot": "order=scsi0", "kvm": "0", "memory": "64"},
			})
		}
		l.broken("qemu-112", "vma")
	},
	"restore:qemu-restore-locked-force":                   edit(113, "lock", "backup"),
	"restore:qemu-restore-new-broken-archive":             func(l *lab) { l.clock.Advance(time.Minute) },
	"restore:qemu-restore-new-broken-archive-task-status": func(l *lab) { l.clock.Advance(time.Minute) },

	"backup:setup-create-ct-200": func(l *lab) { l.sim.DestroyGuest(200) },
	"backup:vzdump-running-stop-mode": func(l *lab) {
		l.volume(pvesim.Volume{
			VolID: "lab:backup/vzdump-qemu-150-2026_01_02-03_04_06.vma.zst", Node: "pve1", VMID: 150, Size: 1, Content: "backup",
			Format: "vma.zst", Notes: "note", Protected: true,
		})
		l.inject(pvesim.Fault{Kind: pvesim.FaultTaskDelay, TaskType: "vzdump", Stage: pvesim.StageStop, Delay: 4 * time.Second})
		l.inject(pvesim.Fault{Kind: pvesim.FaultTaskDelay, TaskType: "vzdump", Stage: pvesim.StageArchive, Delay: 4 * time.Second})
		l.clock.Advance(time.Unix(1795417185, 0).Sub(l.clock.Now())) // the archive is named after it
	},
	"backup:during-vzdump-0-current":               func(l *lab) { l.clock.Advance(time.Second) },
	"backup:during-vzdump-4-current":               func(l *lab) { l.clock.Advance(4 * time.Second) },
	"backup:restore-locked-force":                  edit(200, "lock", "backup"),
	"backup:start":                                 edit(200, "lock", ""),
	"backup:restore-broken-archive-force-over-201": func(l *lab) { l.broken("lxc-200", "tar.zst") },

	"disks:lvm-list": func(l *lab) {
		if err := l.sim.AddDiskPool(pvesim.DiskPool{Node: "pve1", Kind: pvesim.PoolLVM, Name: "h5vg", Size: 20971520, Members: []string{"/dev/loop0"}}); err != nil {
			l.t.Fatal(err)
		}
	},
}

func (l *lab) iso(name string) {
	l.volume(pvesim.Volume{VolID: "lab:iso/" + name + ".iso", Node: "pve1", Size: 512, Content: "iso", Format: "iso"})
}

// broken makes an archive that nothing can be read from.
func (l *lab) broken(of, format string) {
	_, vmid, _ := strings.Cut(of, "-")
	l.volume(pvesim.Volume{
		VolID: "lab:backup/vzdump-" + of + "-2026_02_02-02_02_02." + format, Node: "pve1", VMID: int(vmid[0]-'0')*100 + int(vmid[1]-'0')*10 + int(vmid[2]-'0'),
		Size: 4, Content: "backup", Format: format,
	})
}

// loop0 makes the loop device that the recordings were made with.
func loop0(d pvesim.Disk) func(*lab) {
	return func(l *lab) {
		d.Node, d.DevPath, d.Size = "pve1", "/dev/loop0", 24<<20
		if err := l.sim.AddDisk(d); err != nil {
			l.t.Fatal(err)
		}
	}
}
