"""Drives a simulated cluster through every class of op, with proxmoxer.

Environment: PVESIM_HOST (host:port of one node), PVESIM_CA (file), PVESIM_SECRET
(of root@pam!old), PVESIM_PASSWORD (of root@pam and svc@pve).

What it finds it prints, one line each, for the test to compare. A call that goes
otherwise than it should raises, and ends the program.
"""

import os
import time

import proxmoxer
from proxmoxer import ProxmoxAPI
from proxmoxer.core import ResourceException

HOST = os.environ["PVESIM_HOST"]
NODE = "pve1"
COMMON = {"verify_ssl": os.environ["PVESIM_CA"], "timeout": 60}
PASSWORD = os.environ["PVESIM_PASSWORD"]


def login(user, password=PASSWORD):
    return ProxmoxAPI(HOST, user=user, password=password, **COMMON)


token = ProxmoxAPI(HOST, user="root@pam", token_name="old", token_value=os.environ["PVESIM_SECRET"], **COMMON)
root = login("root@pam")
svc = login("svc@pve")


def say(what, *words):
    print(what + ":", *words, flush=True)


def done(api, what, upid):
    """Waits for a task, and tells its type, id, user and end."""
    until = time.monotonic() + 60
    while True:
        status = api.nodes(NODE).tasks(upid).status.get()
        if status["status"] == "stopped":
            break
        if time.monotonic() > until:
            raise RuntimeError(what + ": the task does not end: " + upid)
        time.sleep(0.02)
    say(what, status["type"], status["id"], status["user"], status["exitstatus"])


def refused(what, call):
    """Tells how a call is refused, as proxmoxer raises it."""
    try:
        got = call()
    except ResourceException as e:
        say(what, e.status_code, e.status_message, "|", e.content)
        return
    raise RuntimeError("%s: not refused, the answer is %r" % (what, got))


def backup_of(api, vmid):
    rows = [r for r in api.nodes(NODE).storage("local").content.get(content="backup", vmid=vmid)]
    if len(rows) != 1:
        raise RuntimeError("backups of %d: %r" % (vmid, rows))
    return rows[0]["volid"]


def guest_life(kind, vmid, create, archive):
    """All that is done to a guest, from its making to its end."""
    node = token.nodes(NODE)
    guests = getattr(node, kind)
    guest = guests(vmid)
    done(token, kind + " create", guests.create(vmid=vmid, **create))
    refused(kind + " create again", lambda: guests.create(vmid=vmid, **create))
    done(token, kind + " start", guest.status.start.post())
    say(kind + " status", guest.status.current.get()["status"])
    refused(kind + " destroy while it runs", lambda: guest.delete())
    done(token, kind + " reboot", guest.status.reboot.post(timeout=30))
    for _ in range(500):
        if guest.status.current.get()["status"] == "running":
            break
        time.sleep(0.02)
    done(token, kind + " shutdown", guest.status.shutdown.post(timeout=30))
    done(token, kind + " start again", guest.status.start.post())
    done(token, kind + " stop", guest.status.stop.post())
    done(token, kind + " snapshot", guest.snapshot.post(snapname="before"))
    say(kind + " snapshots", *[s["name"] for s in guest.snapshot.get()])
    done(token, kind + " rollback", guest.snapshot("before").rollback.post())
    done(token, kind + " snapshot delete", guest.snapshot("before").delete())
    done(token, kind + " backup", node.vzdump.post(vmid=vmid, storage="local", mode="snapshot", remove=0))
    volid = backup_of(token, vmid)
    restore = {archive: volid, "vmid": vmid, "storage": "local-lvm", "force": 1}
    if kind == "lxc":
        restore["restore"] = 1
    done(token, kind + " restore over", guests.create(**restore))
    guest.config.put(protection=1)
    refused(kind + " destroy while protected", lambda: guest.delete())
    guest.config.put(protection=0)
    done(token, kind + " backup delete", node.storage("local").content(volid).delete())
    refused(kind + " destroy without a right", lambda: getattr(svc.nodes(NODE), kind)(vmid).delete())
    done(token, kind + " destroy", guest.delete(purge=1))
    refused(kind + " status after", lambda: guest.status.current.get())


say("version", token.version.get()["release"])
say("who", login("svc@pve").access.permissions.get(path="/vms") or "no rights")
try:
    login("root@pam", "wrong")
except proxmoxer.backends.https.AuthenticationError as e:
    say("wrong password", str(e).split(":")[0])

guest_life("qemu", 200, {"name": "web", "memory": 512, "scsi0": "local-lvm:1", "net0": "virtio,bridge=vmbr0"}, "archive")
guest_life("lxc", 201, {"hostname": "cache", "memory": 512, "rootfs": "local-lvm:1", "ostemplate": "local:vztmpl/debian-12.tar.zst"}, "ostemplate")

volid = token.nodes(NODE).storage("local-lvm").content.post(vmid=300, filename="vm-300-disk-0", size="1G")
say("volume", volid)
done(token, "volume delete", token.nodes(NODE).storage("local-lvm").content(volid).delete())

disks = token.nodes(NODE).disks
for kind, name, more in [("zfs", "tank", {}), ("lvmthin", "data", {"volume-group": "vg1"}), ("lvm", "vg1", {}), ("directory", "big", {})]:
    done(token, kind + " wipe", getattr(disks, kind)(name).delete(**more))
refused("disk wipe with a token", lambda: disks.wipedisk.put(disk="/dev/sdf"))
refused("disk wipe as somebody else", lambda: svc.nodes(NODE).disks.wipedisk.put(disk="/dev/sdf"))
refused("disk wipe of no disk", lambda: root.nodes(NODE).disks.wipedisk.put(disk="/dev/sdz"))
refused("disk wipe of a link", lambda: root.nodes(NODE).disks.wipedisk.put(disk="/dev/disk/by-id/x-1"))
done(root, "disk wipe", root.nodes(NODE).disks.wipedisk.put(disk="/dev/sdf"))
refused("no such call", lambda: token.nodes(NODE).everything.delete())
refused("no such node", lambda: token.nodes("pve9").qemu.get())
