package pvesim_test

import (
	"strings"
	"testing"

	"writ/adapters/pvesim"
)

func TestTemplateWithLinkedClone(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	was := r.vm(105, 1, func(g *pvesim.Guest) { g.Created = 1751328000 })
	check(t, "clone of what is no template", r.reason("POST", "/nodes/pve1/qemu/105/clone", "newid=106&full=0"),
		"Linked clone feature is not supported for '"+was.Disks[0]+"' (scsi0)")
	check(t, "template", r.run("POST", "/nodes/pve1/qemu/105/template", ""), "OK")
	check(t, "base", r.guest(105).Disks[0], "local-lvm:base-105-disk-0")
	check(t, "template again", r.reason("POST", "/nodes/pve1/qemu/105/template", ""), "you can't convert a template to a template")
	check(t, "clone", r.run("POST", "/nodes/pve1/qemu/105/clone", "newid=106&name=copy"), "OK")
	g := r.guest(106)
	check(t, "disk", g.Disks[0], "local-lvm:vm-106-disk-0")
	check(t, "meta of the template", g.Config["meta"], was.Config["meta"])
	check(t, "another UUID", g.UUID != was.UUID && g.UUID != "", true)
	check(t, "another generation", g.GenID != was.GenID, true)
	check(t, "another MAC", g.MACs[0] != was.MACs[0], true)
	check(t, "no template", g.Template, false)
	check(t, "snapshot of a template", r.run("POST", snap105, "snapname=s1"), "you can't take a snapshot if it's a template")
	check(t, "rollback of a template", r.run("POST", snap105+"/s1/rollback", ""), "you can't rollback if vm is a template")
	check(t, "destroy", r.run("DELETE", "/nodes/pve1/qemu/105", ""), "base volume 'local-lvm:base-105-disk-0' is still in use by linked cloned")
	check(t, "destroy the clone", r.run("DELETE", "/nodes/pve1/qemu/106", ""), "OK")
	check(t, "destroy then", r.run("DELETE", "/nodes/pve1/qemu/105", ""), "OK")
}

func TestFailedCloneLeavesNothing(t *testing.T) {
	for _, kind := range []pvesim.FaultKind{pvesim.FaultTaskFail, pvesim.FaultTaskKill} {
		r := newRig(t, pvesim.Pace{})
		r.vm(105, 2)
		r.inject(pvesim.Fault{Kind: kind, TaskType: "qmclone", Stage: "volume:1", Text: "clone failed: out of space"})
		got := r.run("POST", "/nodes/pve1/qemu/105/clone", "newid=106")
		left := r.disks()
		if kind == pvesim.FaultTaskFail {
			check(t, "exit", got, "clone failed: out of space")
			check(t, "volumes", left, 2)
			continue
		}
		check(t, "volumes after a kill", left, 3)
		check(t, "lock after a kill", r.guest(106).Lock, "clone")
	}
}

func TestContainerTemplate(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.ct(201)
	rep := r.call("POST", "/nodes/pve1/lxc/201/template", admin, "")
	check(t, "reply", string(rep.Body), `{"data":null}`)
	check(t, "template", r.guest(201).Template, true)
	check(t, "its task", r.call("GET", "/nodes/pve1/tasks?typefilter=vztemplate", admin, "").Total, 1)
	r.ct(202, running)
	check(t, "running", r.reason("POST", "/nodes/pve1/lxc/202/template", ""), "you can't convert a CT to template if the CT is running")
}

// The marker in a description is written with the digest that was read.
func TestConfigMarker(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.vm(105, 1)
	r.ct(201, func(g *pvesim.Guest) { g.Protection = true })
	const ct = "/nodes/pve1/lxc/201/config"
	digest := r.guest(201).Digest
	check(t, "write", r.call("PUT", ct, admin, "description=writ-id:00ff&digest="+digest).Status, 200)
	check(t, "stale digest", r.reason("PUT", ct, "description=x&digest="+digest), "detected modified configuration - file changed by other user? Try again.")
	check(t, "stale digest of a VM", r.reason("PUT", "/nodes/pve1/qemu/105/config", "description=x&digest="+digest), "checksum mismatch (file change by other user?)")
	check(t, "marker", r.guest(201).Description, "writ-id:00ff")
	check(t, "required key", r.reason("PUT", ct, "delete=rootfs"), "unable to delete required option 'rootfs'")
	check(t, "protected disk", r.reason("PUT", ct, "rootfs=local-lvm:vm-201-disk-0"), "can't update CT 201 drive 'rootfs' - protection mode enabled")
	check(t, "lock of a container", r.call("PUT", ct, admin, "lock=backup").Status, 200)
	check(t, "is one-way", r.reason("PUT", ct, "delete=lock"), "CT is locked (backup)")
	check(t, "lock of a VM", r.reason("PUT", "/nodes/pve1/qemu/105/config", "lock=backup"), "only root can set 'lock' config")
	check(t, "too long", r.call("PUT", ct, admin, "description="+strings.Repeat("x", 8193)).Errors["description"], "value may only be 8192 characters long")
	check(t, "force needs delete", r.call("PUT", "/nodes/pve1/qemu/105/config", admin, "force=1").Errors["delete"], "missing property required by 'force'")
	check(t, "skiplock", r.call("PUT", "/nodes/pve1/qemu/105/config", admin, "skiplock=1").Errors["skiplock"], "Only root may use this option.")
}

func TestUnlink(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	g := r.vm(105, 2)
	const unlink = "/nodes/pve1/qemu/105/unlink"
	check(t, "detach", r.call("PUT", unlink, admin, "idlist=scsi0").Status, 200)
	check(t, "is unused", r.guest(105).Config["unused0"], g.Disks[0])
	check(t, "nothing freed", r.disks(), 2)
	check(t, "unlink what is unused", r.call("PUT", unlink, admin, "idlist=unused0").Status, 200)
	check(t, "frees it", r.disks(), 1)
	r.sim.AddSnapshot(105, "s1", "")
	check(t, "force on what a snapshot has", r.reason("PUT", unlink, "idlist=scsi1&force=1"), "unable to delete '"+g.Disks[1]+"' - volume is still in use (snapshot?)")
	r.sim.DropSnapshot(105, "s1")
	check(t, "force", r.call("PUT", unlink, admin, "idlist=scsi1&force=1").Status, 200)
	check(t, "all freed", r.disks(), 0)
	check(t, "on record", r.count(pvesim.VolumeFreed), 2)
}

func TestResize(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	g := r.vm(105, 1)
	const resize = "/nodes/pve1/qemu/105/resize"
	check(t, "grow", r.run("PUT", resize, "disk=scsi0&size=%2B1.5G&digest="+g.Digest), "OK")
	check(t, "config", r.guest(105).Config["scsi0"], g.Disks[0]+",size=2560M")
	check(t, "digest changes", r.guest(105).Digest != g.Digest, true)
	check(t, "stale digest", r.run("PUT", resize, "disk=scsi0&size=9G&digest="+g.Digest), "checksum mismatch (file change by other user?)")
	check(t, "shrink", r.run("PUT", resize, "disk=scsi0&size=1G"), "shrinking disks is not supported")
	check(t, "no size", r.call("PUT", resize, admin, "disk=scsi0&size=much").Status, 400)
}
