package pvesim

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// restore is one worker's errand: the guest in an archive is put where a guest
// is, or where none is.
type restore struct {
	s       *Sim
	c       *call
	kind    Kind
	vmid    int
	archive string // volume id
	store   string // where to put disks; empty: where they were
	pool    string
	unique  bool
	startIt bool
	live    bool
	given   map[string]string // config keys of the request

	there  bool // a guest of this kind was on the node when the request came
	header Archive
	slots  []slot
	made   []string // volumes made so far
	old    guest    // the machine of before, from the moment it is lost
	gone   bool     // it is lost
}

// slot is one disk to make.
type slot struct {
	key, store, format string
	size               int64
	drive              string // its config text in the archive
	volid              string // once it is made
}

// Limits that Proxmox VE puts on waiting for a guest's lock in a restore, and
// on reading what an archive begins with.
const (
	createLockTimeout  = 5 * time.Second
	restoreLockTimeout = time.Second
	headerTimeout      = 60 * time.Second
)

// restoreOptions are the request's keys that are not of the config.
var restoreOptions = []string{
	"node", "vmid", "archive", "ostemplate", "restore", "force", "unique", "pool", "start", "storage", "bwlimit", "live-restore",
	"import-working-storage", "ignore-unpack-errors", "password", "ssh-public-keys",
}

func (c *call) restoring(kind Kind, archive string) *restore {
	given := maps.Clone(c.params)
	for _, k := range restoreOptions {
		delete(given, k)
	}
	return &restore{
		s: c.s, c: c, kind: kind, vmid: c.vmid(), archive: archive, store: c.params["storage"], pool: c.params["pool"],
		unique: c.on("unique"), startIt: c.on("start"), live: c.on("live-restore"), given: given, there: c.s.at(c.node, kind, c.vmid()) != nil,
	}
}

func (r *restore) says(text string) string {
	return "unable to restore " + r.kind.word() + " " + itoa(r.vmid) + " - " + text
}

// mayCreate says why the caller may not make or overwrite the guest, or "".
// Whoever may back a guest up may restore over it.
func (c *call) mayCreate(overwrites bool) string {
	r, vm := c.rights(), "/vms/"+c.params["vmid"]
	pool := c.params["pool"]
	switch {
	case pool != "" && c.node.users().pools[pool] == nil:
		return "Permission check failed (pool '" + pool + "' does not exist)"
	case r.all(vm, "VM.Allocate") == "" || pool != "" && r.all("/pool/"+pool, "VM.Allocate") == "":
		return ""
	case overwrites && r.all(vm, "VM.Backup") == "":
		return ""
	}
	return "Permission check failed"
}

// refuseArchive says why the archive cannot be read by the caller, or "". That
// it exists is not looked at.
func (r *restore) refuseArchive() string {
	_, name, failure := r.s.named(r.archive)
	switch {
	case failure != "":
		return failure
	case name.content != "backup":
		return "unable to use volume " + r.archive + " - content type needs to be 'backup'"
	}
	return r.c.refuseVolume(r.archive, name, r.vmid)
}

// named reads a volume id that names its storage.
func (s *Sim) named(volid string) (*storage, volName, string) {
	m := volumeID.FindStringSubmatch(volid)
	if m == nil {
		return nil, volName{}, "Only root can pass arbitrary filesystem paths."
	}
	st := s.stores[m[1]]
	if st == nil {
		return nil, volName{}, "storage '" + m[1] + "' does not exist"
	}
	name, bad := st.parse(m[2])
	return st, name, bad
}

// claim writes "lock: create" into the guest's config, or makes a config of
// nothing else, before any worker is forked; then it goes on. The guest that is
// there is changed from here on: its digest is another one.
// (pve-guest-common: PVE::AbstractConfig#create_and_lock_config)
func (r *restore) claim(force bool, then func()) {
	r.c.letIn()
	r.s.intercept(r.c, PointLock, func() {
		if !r.c.lostWithItsNode() {
			r.writeClaim(force, then)
		}
	})
}

func (r *restore) writeClaim(force bool, then func()) {
	s, n := r.s, r.c.node
	l := s.flock(n, r.kind, r.vmid)
	s.acquire(l, createLockTimeout, func(got bool) {
		if !got {
			r.c.fail(r.says("can't lock file '" + flockPath(r.kind, r.vmid) + "' - got timeout"))
			return
		}
		failure := r.lockConfig(force)
		s.release(l)
		if failure != "" {
			r.c.fail(r.says(failure))
			return
		}
		then()
	})
}

func (r *restore) lockConfig(force bool) string {
	s, n := r.s, r.c.node
	if ref, taken := n.exists(r.vmid); taken && !force {
		return ref.kind.word() + " " + itoa(r.vmid) + " already exists on node '" + ref.node + "'"
	}
	g := s.at(n, r.kind, r.vmid)
	switch {
	case g == nil && s.guests[r.vmid] != nil:
		return "close (rename) atomic file '/etc/pve/" + r.kind.file(n.name, r.vmid) + "' failed: File exists"
	case g == nil:
		s.insert(n, r.kind, r.vmid, map[string]string{"lock": "create"})
		return ""
	case g.conf.values["lock"] != "":
		return r.kind.word() + " is locked (" + g.conf.values["lock"] + ")"
	}
	g.conf.values["lock"] = "create"
	s.record(g)
	return ""
}

// begin is the first stage; from its end on the worker unwinds what it did.
func (r *restore) begin(unwind func(t *task, text string) string) stage {
	return act(StageStart, r.s.pace.Start, func(t *task) string {
		t.unwind = func(text string) string { return unwind(t, text) }
		return ""
	})
}

func (r *restore) guest(n *node) *guest { return r.s.at(n, r.kind, r.vmid) }

// read gets what the archive begins with, the config; failure is why it cannot.
func (r *restore) read(n *node) (a *Archive, failure string) {
	_, v := r.s.volume(n, r.archive)
	if v == nil {
		return nil, "volume '" + r.archive + "' does not exist"
	}
	return v.Archive, ""
}

// overwritten puts on record that the machine of before is lost, once. What is
// done under its VMID afterwards is done to another one.
func (r *restore) overwritten(t *task, g *guest) {
	if r.gone {
		return
	}
	r.gone = true
	if !r.there {
		return
	}
	g.remember()
	r.old = *g
	r.s.effect(t, GuestOverwritten, &r.old, "")
	r.s.lastInst++
	g.instance, g.former = r.s.lastInst, [2]string{}
}

// allocate makes one disk. After a failure those made before stay until unwind.
func (r *restore) allocate(n *node, sl *slot) string {
	if text := r.s.usable(sl.store, n); text != "" {
		return text
	}
	st := r.s.stores[sl.store]
	format := sl.format
	if !st.fileBased() || !slices.Contains([]string{"raw", "qcow2", "vmdk"}, format) {
		format = "raw"
	}
	sl.volid = r.s.allocate(st, n, r.kind, r.vmid, format, sl.size)
	r.made = append(r.made, sl.volid)
	return ""
}

// discard frees the disks made so far.
func (r *restore) discard(t *task) {
	for _, volid := range r.made {
		st, v := r.s.volume(t.node, volid)
		switch failure := r.s.stuck(volid); {
		case v == nil:
		case failure != "":
			t.print("unable to cleanup '" + volid + "' - " + failure)
		default:
			st.drop(v)
			if r.kind == QEMU {
				t.print("temporary volume '" + volid + "' successfully removed")
			}
		}
	}
}

// finish writes the restored config and does what follows it.
func (r *restore) finish(t *task, values map[string]string) string {
	g := r.guest(t.node)
	switch {
	case g == nil:
		return noConfig(r.kind, t.node.name, r.vmid)
	case !t.node.quorate:
		return denied(r.kind, t)
	}
	r.overwritten(t, g) // a config that held a lock and nothing else
	g.conf = config{values: values}
	g.running = false
	r.s.record(g)
	r.s.effect(t, GuestRestored, g, "")
	if r.pool != "" {
		r.s.access.setPool(r.vmid, r.pool)
	}
	return ""
}

// denied is a write to /etc/pve without quorum.
func denied(kind Kind, t *task) string {
	return "unable to open file '/etc/pve/" + kind.file(t.node.name, vmidOf(t)) + ".tmp." + itoa(t.pid) + "' - Permission denied"
}

func vmidOf(t *task) int { return int(leadingInt(t.id)) }

// autostart asks for a start in a task of its own.
func (r *restore) autostart(t *task) {
	if !r.startIt {
		return
	}
	if r.kind == QEMU {
		t.print("Execute autostart")
	}
	t.s.spawn(t.node, r.kind.prefix()+"start", itoa(r.vmid), t.user, r.s.startStage(), r.s.lockStage(r.kind, r.vmid), act(StageAct, r.s.pace.Power, func(t *task) string {
		g := r.guest(t.node)
		if g == nil {
			return noConfig(r.kind, t.node.name, r.vmid)
		}
		if text := r.s.diskless(g); text != "" {
			return text
		}
		r.s.boot(t, g)
		return ""
	}))
}

// carried is the config of an archive without what a backup does not bring
// back, with the keys of the request over it.
func (r *restore) carried() map[string]string {
	values := map[string]string{}
	for k, v := range r.header.Config {
		if k != "lock" && k != "parent" && !unusedKey.MatchString(k) {
			values[k] = v
		}
	}
	for k, v := range r.given {
		if k == "tags" {
			v = strings.Join(splitList(v), ";")
		}
		values[k] = v
	}
	if r.unique {
		for k, v := range values {
			if strings.HasPrefix(k, "net") {
				values[k] = macPattern.ReplaceAllString(v, r.s.mac())
			}
		}
	}
	return values
}
