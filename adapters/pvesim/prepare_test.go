package pvesim_test

import (
	"time"

	"writ/adapters/pvesim"
)

// prepare has what was done on the hosts' shells before an exchange.
var prepare = map[string]func(*lab){
	"tasks:kill9-status-at-once": func(l *lab) {
		for recorded, ours := range l.upids {
			if recorded == "UPID:pve1:00000C0B:00024725:6B03E17E:qmshutdown:100:bars@pve!t1:" {
				l.sim.KillTask(ours)
			}
		}
	},
	"destroy:destroy-locked":                          edit(113, "lock", "backup"),
	"destroy:destroy-with-missing-volume":             func(l *lab) { l.sim.DropVolume("pve1", "lab:114/vm-114-disk-0.qcow2") },
	"destroy:destroy-while-flock-held":                flock(pvesim.QEMU, 116, "q"),
	"destroy:destroy-then-sigkill-worker-task-status": func(l *lab) { l.killAll() },
	"destroy:config-lock-destroyed": func(l *lab) {
		l.storage["q"]()
		l.zombie(116)
	},
	"destroy:destroy-default-keeps-unreferenced": func(l *lab) {
		l.volume(pvesim.Volume{VolID: "lab:119/vm-119-disk-9.raw", Node: "pve1", VMID: 119, Size: 10485760})
	},
	"destroy:destroy-with-unreferenced": func(l *lab) {
		l.volume(pvesim.Volume{VolID: "lab:120/vm-120-disk-9.raw", Node: "pve1", VMID: 120, Size: 10485760})
	},
	"destroy:acl-before": func(l *lab) { l.sim.Grant("/vms/9999", "owner@pve", "PVEVMAdmin", true) },

	"destroy-more:destroy-volume-cannot-be-removed": func(l *lab) { l.stuck("133") },
	"destroy-more:setup-create-134": func(l *lab) {
		l.sim.AddStorage(pvesim.Storage{ID: "gone", Type: "dir", Path: "/srv/store2", Content: []string{"images"}})
	},
	"destroy-more:content-of-disabled-storage": func(l *lab) {
		l.sim.AddStorage(pvesim.Storage{ID: "gone", Type: "dir", Path: "/srv/store2", Content: []string{"images"}, Disabled: true})
	},
	"destroy-more:setup-create-135": func(l *lab) {
		l.sim.AddStorage(pvesim.Storage{ID: "gone", Type: "dir", Path: "/srv/store2", Content: []string{"images"}})
	},
	"destroy-more:destroy-disk-on-removed-storage": func(l *lab) { l.sim.RemoveStorage("gone") },
	"destroy-more:destroy-lock-suspended":          edit(138, "lock", "suspended"),
	"destroy-more:destroy-lock-clone":              edit(139, "lock", "clone"),
	"destroy-more:destroy-lock-create":             edit(139, "lock", "create"),
	"destroy-more:destroy-lock-migrate":            edit(139, "lock", "migrate"),
	"destroy-more:destroy-lock-rollback":           edit(139, "lock", "rollback"),
	"destroy-more:destroy-lock-snapshot":           edit(139, "lock", "snapshot"),
	"destroy-more:destroy-lock-snapshot-delete":    edit(139, "lock", "snapshot-delete"),
	"destroy-more:destroy-lock-suspending":         edit(139, "lock", "suspending"),
	"destroy-more:destroy-purge-true":              edit(139, "lock", ""),

	"snapshots:snap-delete-locked": edit(160, "lock", "backup"),
	"snapshots:start":              edit(160, "lock", ""),
	"snapshots:snap-create-running": func(l *lab) {
		l.inject(pvesim.Fault{Kind: pvesim.FaultTaskKill, TaskType: "qmsnapshot", Stage: "volume:0"})
	},
	"snapshots-more:cleanup-stop-160":                   edit(160, "lock", ""),
	"snapshots-more:rollback-snapshot-missing-in-image": dropSnapshot("lab:162/vm-162-disk-0.qcow2", "s3"),
	"snapshots-more:snap-delete-missing-in-image":       edit(162, "lock", ""),

	"lxc:destroy-locked": edit(200, "lock", "backup"),
	"lxc:destroy-flock-held": func(l *lab) {
		l.sim.EditGuest(200, map[string]string{"lock": ""})
		flock(pvesim.LXC, 200, "c")(l)
	},
	"lxc:start-111": func(l *lab) { l.storage["c"]() },
	"lxc:destroy-volume-missing": func(l *lab) {
		l.sim.DropVolume("pve1", "lab:204/vm-204-disk-0.raw")
	},
	"lxc:destroy-volume-undeletable": func(l *lab) { l.stuck("205") },

	"cluster:remote-create": func(l *lab) {
		l.storage["c"]()
		for l.clock.Now().Unix()%10 != 1 { // right after a broadcast of statistics
			l.clock.Advance(time.Second)
		}
	},
	"cluster:remote-pvedaemon-down-protected-call":   daemon("pve2", pvesim.Refusing),
	"cluster:remote-pvedaemon-down-unprotected-call": daemon("pve2", pvesim.Refusing),
	"cluster:remote-pveproxy-hangs":                  proxy("pve2", pvesim.Hanging),
	"cluster:remote-pvedaemon-hangs":                 daemon("pve2", pvesim.Hanging),
	"cluster:remote-pveproxy-down":                   proxy("pve2", pvesim.Refusing),
	"cluster:remote-pveproxy-down-delete":            proxy("pve2", pvesim.Refusing),
	"cluster:remote-pveproxy-down-extjs":             proxy("pve2", pvesim.Refusing),
	"cluster:remote-wrong-certificate":               answer596("error:0A000086:SSL routines::certificate verify failed"),
	"cluster:remote-not-tls":                         answer596("error:0A00010B:SSL routines::wrong version number"),

	"proxy-single:remote-refused-tasks":                   proxy("pve2", pvesim.Refusing),
	"proxy-single:remote-refused-destroy":                 proxy("pve2", pvesim.Refusing),
	"proxy-single:remote-refused-extjs":                   proxy("pve2", pvesim.Refusing),
	"proxy-single:remote-no-permission-first":             proxy("pve2", pvesim.Refusing),
	"proxy-single:remote-param-error-not-checked-locally": proxy("pve2", pvesim.Refusing),
	"proxy-single:remote-bad-path":                        proxy("pve2", pvesim.Refusing),
	"proxy-single:remote-task-status":                     proxy("pve2", pvesim.Refusing),
}

func edit(vmid int, key, value string) func(*lab) {
	return func(l *lab) {
		if !l.sim.EditGuest(vmid, map[string]string{key: value}) {
			l.t.Errorf("edit guest %d: got no such guest, want one", vmid)
		}
	}
}

// dropSnapshot removes a snapshot from a volume behind the config's back.
func dropSnapshot(volid, name string) func(*lab) {
	return func(l *lab) {
		if !l.sim.DropVolumeSnapshot("pve1", volid, name) {
			l.t.Errorf("drop snapshot %s of %s: got none, want one", name, volid)
		}
	}
}

// flock holds a config's lock until the function stored under name is called.
func flock(kind pvesim.Kind, vmid int, name string) func(*lab) {
	return func(l *lab) {
		release, ok := l.sim.HoldConfigLock("pve1", kind, vmid)
		if !ok {
			l.t.Errorf("hold config lock of %d: got it held already, want it free", vmid)
		}
		l.storage[name] = release
	}
}

func daemon(node string, h pvesim.Health) func(*lab) {
	return health(node, pvesim.NodeControl{Daemon: h}, pvesim.NodeControl{Daemon: pvesim.Serving})
}

func proxy(node string, h pvesim.Health) func(*lab) {
	return health(node, pvesim.NodeControl{Proxy: h}, pvesim.NodeControl{Proxy: pvesim.Serving})
}

func answer596(reason string) func(*lab) {
	return func(l *lab) { l.inject(pvesim.Fault{Kind: pvesim.FaultAnswer, Status: 596, Reason: reason}) }
}

func health(node string, set, reset pvesim.NodeControl) func(*lab) {
	return func(l *lab) {
		change := func(ch pvesim.NodeControl) {
			if err := l.sim.Node(node, ch); err != nil {
				l.t.Error(err)
			}
		}
		change(set)
		l.undo = func() { change(reset) }
	}
}

func (l *lab) volume(v pvesim.Volume) {
	l.t.Helper()
	if err := l.sim.AddVolume(v); err != nil {
		l.t.Fatal(err)
	}
}

// stuck makes the one disk of a guest immutable for the next attempt.
func (l *lab) stuck(vmid string) {
	l.t.Helper()
	ext := "qcow2"
	if vmid == "205" {
		ext = "raw"
	}
	volid := "lab:" + vmid + "/vm-" + vmid + "-disk-0." + ext
	l.inject(pvesim.Fault{
		Kind: pvesim.FaultVolumeStuck, Volume: volid,
		Text: "unlink '/srv/store/images/" + vmid + "/vm-" + vmid + "-disk-0." + ext + "' failed - Operation not permitted",
	})
}

func (l *lab) inject(f pvesim.Fault) *pvesim.Injected {
	l.t.Helper()
	in, err := l.sim.Inject(f)
	if err != nil {
		l.t.Fatal(err)
	}
	return in
}

// killAll kills whatever runs.
func (l *lab) killAll() {
	for _, ours := range l.upids {
		l.sim.KillTask(ours)
	}
}

// zombie leaves of a guest what an interrupted destroy leaves.
func (l *lab) zombie(vmid int) {
	g, ok := l.sim.Guest(vmid)
	if !ok {
		l.t.Fatalf("guest %d: got none, want one", vmid)
	}
	gone := map[string]string{}
	for k := range g.Config {
		gone[k] = ""
	}
	gone["lock"] = "destroyed"
	l.sim.EditGuest(vmid, gone)
}
