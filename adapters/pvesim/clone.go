package pvesim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// cloneJob copies a VM: linked if it is a template and nothing else is asked
// for, full otherwise. The copy keeps the original's meta, and gets a UUID, a
// generation id and MACs of its own.
// (qemu-server: PVE::API2::Qemu#clone_vm)
type cloneJob struct {
	s              *Sim
	from, to       int
	name, snapname string
	storage, pool  string
	full           *bool
	description    *string

	made []string // new volumes
	g    *guest   // the copy, from prepare on
}

func cloneMethod() method {
	perm := func(g *grant) string {
		if text := g.all("/vms/"+g.vars["vmid"], "VM.Clone"); text != "" {
			return text
		}
		if p := g.raw["pool"].text; p != "" && g.all("/pool/"+p, "VM.Allocate") == "" {
			return ""
		}
		return g.all("/vms/"+g.raw["newid"].text, "VM.Allocate")
	}
	return post("/nodes/{node}/qemu/{vmid}/clone", method{protected: true, perm: perm, handle: cloneGuest, params: map[string]param{
		"newid": need(pathParams["vmid"]), "name": str, "description": str, "full": boolean, "pool": str, "snapname": configID,
		"storage": pathParams["storage"], "format": enum("raw", "qcow2", "vmdk"), "bwlimit": natural,
	}})
}

func cloneGuest(c *call) {
	j := &cloneJob{
		s: c.s, from: c.vmid(), to: c.int("newid", 0), name: c.params["name"], snapname: c.params["snapname"],
		storage: c.params["storage"], pool: c.params["pool"],
	}
	if c.has("full") {
		j.full = new(c.on("full"))
	}
	if c.has("description") {
		j.description = new(c.params["description"])
	}
	if c.s.at(c.node, QEMU, j.from) == nil {
		c.fail(noVM(c.node, j.from))
		return
	}
	if text := j.refusal(c.node); text != "" {
		c.fail(text)
		return
	}
	c.fork("qmclone", itoa(j.from), c.s.startStage(), c.s.lockStage(QEMU, j.to), act(StagePrepare, 0, j.prepare))
}

// refusal is checked in the reply and again by the worker.
func (j *cloneJob) refusal(n *node) string {
	g := j.s.at(n, QEMU, j.from)
	switch {
	case j.storage != "" && j.s.usable(j.storage, n) != "":
		return j.s.usable(j.storage, n)
	case !n.quorate:
		return noQuorum
	case g == nil:
		return noConfig(QEMU, n.name, j.from)
	case g.conf.values["lock"] != "":
		return "VM is locked (" + g.conf.values["lock"] + ")"
	case j.snapname != "" && g.conf.snapshot(j.snapname) == nil:
		return noSnapshot(j.snapname)
	case j.storage != "" && !j.isFull(g):
		return "parameter 'storage' not allowed for linked clones"
	}
	for _, d := range drives(j.source(g)) {
		if !j.isFull(g) && !isBase(d.volid) {
			return "Linked clone feature is not supported for '" + d.volid + "' (" + d.key + ")"
		}
	}
	if _, taken := n.exists(j.to); taken {
		return "unable to create VM " + itoa(j.to) + ": config file already exists"
	}
	return ""
}

func (j *cloneJob) isFull(g *guest) bool {
	if j.full != nil {
		return *j.full
	}
	return g.conf.values["template"] != "1"
}

// source is the config that is copied: the present one or that of a snapshot.
func (j *cloneJob) source(g *guest) map[string]string {
	if sn := g.conf.snapshot(j.snapname); sn != nil {
		return sn.values
	}
	return g.conf.values
}

func (j *cloneJob) prepare(t *task) string {
	if text := j.refusal(t.node); text != "" {
		return text
	}
	from := j.s.at(t.node, QEMU, j.from)
	t.print(fmt.Sprintf("creating a clone of VM %d with ID %d", j.from, j.to))
	old := j.source(from)
	j.g = j.s.insert(t.node, QEMU, j.to, map[string]string{"lock": "clone"})
	values := map[string]string{}
	for _, k := range slices.Sorted(maps.Keys(old)) { // in order: addresses are drawn on the way
		v := old[k]
		switch {
		case k == "parent" || k == "template" || k == "lock" || unusedKey.MatchString(k):
		case strings.HasPrefix(k, "net"):
			values[k] = macPattern.ReplaceAllString(v, j.s.mac())
		default:
			values[k] = v
		}
	}
	values["smbios1"] = strings.Replace(old["smbios1"], from.uuid(), j.s.uuid(), 1)
	if id := values["vmgenid"]; id != "" && id != "0" {
		values["vmgenid"] = j.s.uuid()
	}
	if values["name"] = j.name; j.name == "" {
		values["name"] = "Copy-of-VM-" + from.title()
	}
	if j.description != nil {
		values["description"] = *j.description
	}
	var plan []stage
	for i, d := range drives(old) {
		plan = append(plan, stage{name: StageVolume + itoa(i), takes: j.s.pace.Volume, cleanup: j.undo, act: func(t *task) string {
			return j.copyVolume(t, from, d, values)
		}})
	}
	t.prepend(append(plan, stage{name: StageFinish, cleanup: j.undo, act: func(*task) string {
		j.g.conf = config{values: maps.Clone(values)}
		j.s.record(j.g)
		if j.pool != "" {
			j.s.access.setPool(j.to, j.pool)
		}
		return ""
	}})...)
	return ""
}

func (j *cloneJob) copyVolume(t *task, from *guest, d drive, values map[string]string) string {
	st, v := j.s.volume(t.node, d.volid)
	if v == nil {
		return "clone failed: " + j.s.missingVolume(t.node, d.volid)
	}
	var volid string
	if j.isFull(from) {
		t.print("create full clone of drive " + d.key + " (" + d.volid + ")")
		if j.storage != "" {
			st = j.s.stores[j.storage]
		}
		volid = j.s.allocate(st, t.node, QEMU, j.to, v.Format, v.Size)
	} else {
		t.print("create linked clone of drive " + d.key + " (" + d.volid + ")")
		volid = j.linked(t, st, v)
	}
	j.made = append(j.made, volid)
	values[d.key] = strings.Replace(values[d.key], d.volid, volid, 1)
	return ""
}

// linked makes a volume that stands on a base. File-based storages and ZFS name
// the base in its id.
func (j *cloneJob) linked(t *task, st *storage, base *volume) string {
	_, on, _ := strings.Cut(base.VolID, ":")
	for i := 0; ; i++ {
		file := fmt.Sprintf("vm-%d-disk-%d", j.to, i)
		volid := st.ID + ":" + file
		switch {
		case st.fileBased():
			file += "." + base.Format
			volid = st.ID + ":" + on + "/" + itoa(j.to) + "/" + file
		case st.Type == "zfspool":
			volid = st.ID + ":" + on + "/" + file
		}
		if st.vols[st.key(t.node.name, volid)] != nil || slices.Contains(j.made, volid) {
			continue
		}
		if st.fileBased() {
			t.print(fmt.Sprintf("clone %s: images, %s, %d to %s (base=../%s)", on, file, j.to, file, on))
			t.print(fmt.Sprintf("Formatting '%s/images/%d/%s', fmt=qcow2 cluster_size=131072 extended_l2=on preallocation=metadata compression_type=zlib size=%d backing_file=../%s backing_fmt=%s lazy_refcounts=off refcount_bits=16",
				st.Path, j.to, file, base.Size, on, base.Format))
		}
		j.s.putVolume(st, t.node, Volume{VolID: volid, VMID: j.to, Size: base.Size, Content: base.Content, Format: base.Format, Parent: base.VolID})
		return volid
	}
}

// undo removes what a failed clone has made, the config last.
func (j *cloneJob) undo(t *task) {
	for _, volid := range j.made {
		if st, v := j.s.volume(t.node, volid); v != nil {
			st.drop(v)
		}
	}
	if j.s.guests[j.to] == j.g {
		j.s.remove(j.g)
	}
}
