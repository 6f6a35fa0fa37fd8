package pvesim

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// backupParams are those of POST vzdump.
var backupParams = map[string]param{
	"all": boolean, "bwlimit": natural, "compress": enum("0", "1", "gzip", "lzo", "zstd"), "dumpdir": str, "exclude": str,
	"exclude-path": strList, "fleecing": str, "ionice": {kind: "integer", min: new(0), max: new(8)}, "job-id": str, "lockwait": natural,
	"mailnotification": enum("always", "failure"), "mailto": str, "mode": enum("snapshot", "suspend", "stop"), "node": str,
	"notes-template": {kind: "string", requires: "storage"}, "notification-mode": enum("auto", "legacy-sendmail", "notification-system"),
	"pbs-change-detection-mode": enum("legacy", "data", "metadata"), "performance": str, "pigz": integer, "pool": str,
	"protected": {kind: "boolean", requires: "storage"}, "prune-backups": str, "quiet": boolean, "remove": boolean, "script": str,
	"stdexcludes": boolean, "stdout": boolean, "stop": boolean, "stopwait": natural, "storage": str, "tmpdir": str,
	"vmid": {kind: "string", list: true, check: checkVMIDs}, "zstd": integer,
}

// backupLockTimeout is how long a job waits for another one of its node.
const backupLockTimeout = 180 * time.Minute

func checkVMIDs(text string) string {
	for _, one := range splitList(text) {
		if complaint := checkVMID(one); complaint != "" {
			return complaint
		}
	}
	return ""
}

// startBackup is POST vzdump: hardly anything is checked before the task, and a
// request whose guests are all on other nodes is answered OK without one.
// (pve-manager: PVE::API2::VZDump#vzdump)
func startBackup(c *call) {
	s, r := c.s, c.rights()
	if c.auth != rootUser {
		errs := map[string]string{}
		for _, k := range []string{"dumpdir", "job-id", "script", "tmpdir"} {
			if c.has(k) {
				errs[k] = "Only root may set this option."
			}
		}
		if len(errs) > 0 {
			c.failParams(errs)
			return
		}
		refusal := ""
		if c.has("bwlimit") || c.has("ionice") || c.has("performance") {
			refusal = r.all("/", "Sys.Modify")
		}
		if c.has("prune-backups") {
			refusal = firstOf(refusal, r.all("/storage/"+c.backupStore(), "Datastore.Allocate"))
		}
		if refusal != "" {
			c.forbid(refusal)
			return
		}
	}
	if c.has("node") && c.params["node"] != c.node.name {
		c.ok("OK")
		return
	}
	b := &backup{s: s, auth: c.auth, params: maps.Clone(c.params), store: c.backupStore()}
	b.vmids, b.elsewhere = c.included()
	if c.on("stop") {
		if text := r.all("/nodes/"+c.node.name, "Sys.Modify"); text != "" {
			c.forbid(text)
			return
		}
		c.letIn()
		for _, t := range c.node.tasks.running() {
			if t.typ == "vzdump" {
				t.interrupt()
			}
		}
	}
	if len(b.vmids) == 0 && (c.on("stop") || !c.on("all")) {
		c.ok("OK")
		return
	}
	if text := r.all("/storage/"+b.store, "Datastore.AllocateSpace"); text != "" {
		c.forbid(text)
		return
	}
	id := ""
	if len(b.vmids) == 1 {
		id = itoa(b.vmids[0])
	}
	c.fork("vzdump", id, s.startStage(), stage{name: StageLock, wait: func(t *task, resume func(string)) {
		key := backupLock
		key.node = t.node.name
		t.takeLock(key, backupLockTimeout, func(string) string { return "can't acquire lock '/var/run/vzdump.lock' - got timeout" }, resume)
	}}, act(StageJob, 0, b.begin))
}

func (c *call) backupStore() string {
	if c.has("storage") {
		return c.params["storage"]
	}
	return "local"
}

// included are the guests to back up on this node, those that exist nowhere
// with them: they fail in the task.
func (c *call) included() (here, elsewhere []int) {
	var all []int
	switch {
	case c.has("pool"):
		if p := c.node.users().pools[c.params["pool"]]; p != nil {
			all = slices.Collect(maps.Keys(p.vms))
		}
	case c.has("vmid"):
		for _, one := range splitList(c.params["vmid"]) {
			all = append(all, int(leadingInt(one)))
		}
	case c.on("all"):
		left := splitList(c.params["exclude"])
		for vmid := range c.s.guests {
			if !slices.Contains(left, itoa(vmid)) {
				all = append(all, vmid)
			}
		}
	}
	slices.Sort(all)
	for _, vmid := range slices.Compact(all) {
		if ref, known := c.node.exists(vmid); known && ref.node != c.node.name {
			elsewhere = append(elsewhere, vmid)
			continue
		}
		here = append(here, vmid)
	}
	return here, elsewhere
}

// commandLine is how the log begins; the order of options is random on the real
// thing.
func (b *backup) commandLine(node string) string {
	line := "vzdump " + strings.Join(splitList(b.params["vmid"]), " ")
	for _, k := range slices.Sorted(maps.Keys(b.params)) {
		if k != "vmid" && k != "node" {
			line += " --" + k + " " + b.params[k]
		}
	}
	return line + " --node " + node
}
