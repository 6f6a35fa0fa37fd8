package audit_test

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"strings"
	"testing"

	"writ/domain/gate"
	"writ/domain/op"
	"writ/domain/signedop"
	"writ/projections/audit"
)

// A deed is an op of some class, as it runs when all is well.
type deed struct {
	name     string
	in       op.Intent
	expect   signedop.Expect // none of a benign class
	facts    op.Facts
	observed op.Observed
	request  op.Request
	task     string // its type
	found    string // the evidence of its end
}

const (
	uuid105    = "5c6f0f0e-7a3b-4d1c-9e2f-0a1b2c3d4e5f"
	digest107  = "da39a3ee5e6b4b0d3255bfef95601890afd80709"
	archive105 = "backups:backup/vzdump-qemu-105-2026_11_01-02_00_00.vma.zst"
	archive107 = "backups:backup/vzdump-lxc-107-2026_11_01-02_00_00.tar.zst"
	madeAt     = int64(1793498400) // 2026-11-01T02:00:00Z
)

func secondsOf(t int64) *int64 { return &t }

func ptr[T any](v T) *T { return &v }

// machine and container are the two guests that deeds are about.
func machine(c op.Class, p op.Params) deed {
	return deed{
		in: op.Intent{Class: c, Target: target(105), Params: p}, facts: facts(), observed: observed(105),
		expect: signedop.Expect{Name: "web-3", SMBIOSUUID: uuid105, Volumes: []string{"local-lvm:vm-105-disk-0"}},
	}
}

func container(c op.Class, p op.Params) deed {
	return deed{
		in:    op.Intent{Class: c, Target: op.Target{Node: "pve1", Guest: &op.Guest{Type: op.LXC, VMID: 107}}, Params: p},
		facts: op.Facts{Found: true, Node: "pve1", Name: "cache", Pool: "test", Tags: []string{"old"}, Storages: []string{"local-lvm"}},
		observed: op.Observed{
			Found: true, Node: "pve1", Type: op.LXC, VMID: 107, Name: "cache", Digest: digest107, MACs: []string{"BC:24:11:00:00:07"},
			Volumes: []string{"local-lvm:vm-107-disk-0"}, Status: "stopped", NodeOnline: true, Quorate: true,
		},
		expect: signedop.Expect{Name: "cache", MACs: []string{"BC:24:11:00:00:07"}, Volumes: []string{"local-lvm:vm-107-disk-0"}, Digest: digest107},
	}
}

// onNode makes a deed about something that is no guest.
func onNode(c op.Class, t op.Target, storage string) deed {
	return deed{
		in:       op.Intent{Class: c, Target: t},
		facts:    op.Facts{Found: true, Node: "pve1", Storages: []string{storage}},
		observed: op.Observed{Found: true, Node: "pve1", NodeOnline: true, Quorate: true},
	}
}

func ofPool(p op.Pool, query string) deed {
	d := onNode(op.StorageWipe, op.Target{Node: "pve1", Pool: &p}, p.Name)
	d.expect.Pool = &signedop.PoolExpect{Size: 1 << 40, Members: []string{"/dev/sdb", "/dev/sdc"}}
	d.observed.Pool = &op.PoolSeen{Pool: p, Size: 1 << 40, Members: []string{"/dev/sdb", "/dev/sdc"}}
	d.request = op.Request{Method: "DELETE", Path: "/nodes/pve1/disks/" + string(p.Kind) + "/" + p.Name, Query: query}
	d.task, d.found = map[op.PoolKind]string{op.ZFS: "zfsremove", op.LVM: "lvmremove", op.LVMThin: "lvmthinremove", op.Directory: "dirremove"}[p.Kind], "the node lists no such pool"
	return d
}

// deeds are one of each class, and of each kind of target that it has.
func deeds() []deed {
	var all []deed
	add := func(name string, d deed, method, path, query, task, found string) {
		d.name, d.request, d.task, d.found = name, op.Request{Method: method, Path: path, Query: query}, task, found
		all = append(all, d)
	}
	const vm, ct = "/nodes/pve1/qemu/105", "/nodes/pve1/lxc/107"
	running := func(d deed) deed { d.observed.Status = "running"; return d }

	add("guest-destroy of qemu", machine(op.GuestDestroy, op.Params{Purge: ptr(true)}), "DELETE", vm, "purge=1", "qmdestroy", "no guest of the expected identity exists")
	add("guest-destroy of lxc", running(container(op.GuestDestroy, op.Params{Force: ptr(true)})), "DELETE", ct, "force=1", "vzdestroy", "no guest of the expected identity exists")

	d := machine(op.RestoreOverwrite, op.Params{Archive: archive105, Storage: "local-lvm", Unique: ptr(false)})
	d.expect.Archive = &signedop.VolumeExpect{Size: 1 << 30, CTime: secondsOf(madeAt)}
	d.observed.Archive = &op.VolumeSeen{ID: archive105, Size: 1 << 30, CTime: madeAt, Content: "backup", VMID: 105}
	add("restore-overwrite of qemu", d, "POST", "/nodes/pve1/qemu", "archive=backups%3Abackup%2Fvzdump-qemu-105-2026_11_01-02_00_00.vma.zst&force=1&storage=local-lvm&unique=0&vmid=105",
		"qmrestore", "the configuration is not the one of before")
	d = container(op.RestoreOverwrite, op.Params{Archive: archive107, Storage: "local-lvm"})
	d.expect.Archive = &signedop.VolumeExpect{Size: 1 << 30}
	d.observed.Archive = &op.VolumeSeen{ID: archive107, Size: 1 << 30, Content: "backup", VMID: 107}
	add("restore-overwrite of lxc", d, "POST", "/nodes/pve1/lxc", "force=1&ostemplate=backups%3Abackup%2Fvzdump-lxc-107-2026_11_01-02_00_00.tar.zst&restore=1&storage=local-lvm&vmid=107",
		"vzrestore", "the configuration is not the one of before")

	snap := func(d deed) deed {
		d.in.Params.Snapshot = "before"
		d.expect.Snapshot = &signedop.SnapshotExpect{Time: madeAt}
		d.observed.Snapshot = &op.SnapshotSeen{Name: "before", Time: madeAt}
		return d
	}
	add("snapshot-rollback of qemu", snap(running(machine(op.SnapshotRollback, op.Params{}))), "POST", vm+"/snapshot/before/rollback", "", "qmrollback", "its state comes from the snapshot")
	add("snapshot-rollback of lxc", snap(container(op.SnapshotRollback, op.Params{})), "POST", ct+"/snapshot/before/rollback", "", "vzrollback", "its state comes from the snapshot")
	add("snapshot-delete of qemu", snap(machine(op.SnapshotDelete, op.Params{})), "DELETE", vm+"/snapshot/before", "", "qmdelsnapshot", "the snapshot is gone")
	add("snapshot-delete of lxc", snap(container(op.SnapshotDelete, op.Params{})), "DELETE", ct+"/snapshot/before", "", "vzdelsnapshot", "the snapshot is gone")

	d = onNode(op.VolumeDelete, op.Target{Node: "pve1", Volume: "local-lvm:vm-300-disk-0"}, "local-lvm")
	d.expect.Volume = &signedop.VolumeExpect{Size: 1 << 30, CTime: secondsOf(madeAt)}
	d.observed.Volume = &op.VolumeSeen{ID: "local-lvm:vm-300-disk-0", Size: 1 << 30, CTime: madeAt, Content: "images", VMID: 300}
	add("volume-delete", d, "DELETE", "/nodes/pve1/storage/local-lvm/content/local-lvm:vm-300-disk-0", "", "imgdel", "the storage does not list it any more")
	d = onNode(op.BackupDelete, op.Target{Node: "pve1", Volume: archive105}, "backups")
	d.expect.Volume = &signedop.VolumeExpect{Size: 1 << 30, CTime: secondsOf(madeAt)}
	d.observed.Volume = &op.VolumeSeen{ID: archive105, Size: 1 << 30, CTime: madeAt, Content: "backup", VMID: 105}
	add("backup-delete", d, "DELETE", "/nodes/pve1/storage/backups/content/"+archive105, "", "imgdel", "the storage does not list it any more")

	for _, p := range []op.Pool{{Kind: op.ZFS, Name: "tank"}, {Kind: op.LVM, Name: "tank"}, {Kind: op.Directory, Name: "tank"}} {
		d = ofPool(p, "")
		d.name = "storage-wipe of " + string(p.Kind)
		all = append(all, d)
	}
	d = ofPool(op.Pool{Kind: op.LVMThin, Name: "tank", VolumeGroup: "vg1"}, "cleanup-config=1&cleanup-disks=0&volume-group=vg1")
	d.name, d.in.Params = "storage-wipe of lvmthin", op.Params{CleanupConfig: ptr(true), CleanupDisks: ptr(false)}
	d.observed.Pool.Storages = []string{"tank"}
	all = append(all, d)
	d = onNode(op.StorageWipe, op.Target{Node: "pve1", Disk: "/dev/sdd"}, "sdd")
	d.expect.Disk = &signedop.DiskExpect{Serial: "S4EWNX0M", Model: "Samsung_870", Size: 1 << 40}
	d.observed.Disk = &op.DiskSeen{Path: "/dev/sdd", Serial: "S4EWNX0M", WWN: "0x5002538e", Model: "Samsung_870", Size: 1 << 40, Holds: []string{"/dev/sdd GPT", "/dev/sdd1 ext4"}}
	add("storage-wipe of a disk", d, "PUT", "/nodes/pve1/disks/wipedisk", "disk=%2Fdev%2Fsdd", "wipedisk", "nothing is found on the disk")

	for class, call := range map[op.Class]string{op.GuestStop: "stop", op.GuestShutdown: "shutdown", op.GuestReboot: "reboot"} {
		add(string(class)+" of qemu", running(machine(class, op.Params{})), "POST", vm+"/status/"+call, "", "qm"+call, "the task ended with OK")
		d, query := running(container(class, op.Params{})), ""
		if class != op.GuestStop {
			d.in.Params.Timeout, query = ptr(30), "timeout=30"
		}
		add(string(class)+" of lxc", d, "POST", ct+"/status/"+call, query, "vz"+call, "the task ended with OK")
	}

	add("guest-start of qemu", machine(op.GuestStart, op.Params{}), "POST", vm+"/status/start", "", "qmstart", "the task ended with OK")
	add("guest-start of lxc", container(op.GuestStart, op.Params{}), "POST", ct+"/status/start", "", "vzstart", "the task ended with OK")
	add("snapshot-create of qemu", running(machine(op.SnapshotCreate, op.Params{Snapshot: "before"})), "POST", vm+"/snapshot", "snapname=before", "qmsnapshot", "the snapshot is there")
	add("snapshot-create of lxc", container(op.SnapshotCreate, op.Params{Snapshot: "before"}), "POST", ct+"/snapshot", "snapname=before", "vzsnapshot", "the snapshot is there")
	add("backup-create of qemu", running(machine(op.BackupCreate, op.Params{Storage: "backups"})), "POST", "/nodes/pve1/vzdump", "mode=snapshot&remove=0&storage=backups&vmid=105", "vzdump", "the backup is listed")
	add("backup-create of lxc", container(op.BackupCreate, op.Params{Storage: "backups"}), "POST", "/nodes/pve1/vzdump", "mode=snapshot&remove=0&storage=backups&vmid=107", "vzdump", "the backup is listed")
	slices.SortFunc(all, func(a, b deed) int { return strings.Compare(a.name, b.name) })
	return all
}

// everyClass is a policy that lets alice and bob order all classes together, and
// terraform ask for the benign ones alone.
func everyClass() gate.PolicyDocument {
	doc := policyDocument("100-199")
	on := gate.On{VMIDs: []string{"100-199"}, Storages: []string{"local-lvm", "backups", "tank", "sdd"}}
	operator := doc.Roles["operator"]
	operator.Allow, doc.Benign = []gate.Rule{{On: on}}, []gate.BenignRule{{Callers: []string{"terraform"}, On: gate.On{VMIDs: on.VMIDs}}}
	for _, c := range op.Classes() {
		if c.Benign() {
			doc.Benign[0].Classes = append(doc.Benign[0].Classes, c)
		} else {
			operator.Allow[0].Classes = append(operator.Allow[0].Classes, c)
		}
	}
	doc.Roles["operator"] = operator
	return doc
}

// A telling is a deed while it is put on record. What a test forges is changed
// in the events before they are.
type telling struct {
	*story

	deed
}

func (r *record) telling(d deed) *telling {
	t := &telling{story: r.story(d.name, 105), deed: d}
	t.doc.Class, t.doc.Target, t.doc.Params, t.doc.Expect = d.in.Class, d.in.Target, d.in.Params, d.expect
	t.doc.Reason = "OPS-124: " + d.name
	return t
}

func (s *telling) started() *op.Started {
	s.t.Helper()
	if !s.in.Class.Benign() {
		e := s.story.started()
		e.Facts = s.facts
		return e
	}
	asked, err := op.Marshal(s.in)
	if err != nil {
		s.t.Fatal(err)
	}
	s.attempt++
	claim := op.Claim{1, byte(s.attempt)}
	s.opID = op.OpID(s.doc.Nonce, s.attempt, claim)
	return &op.Started{
		Header: s.header(), Claim: claim, Intent: s.in, PayloadSHA256: op.DigestOf(asked), Keyless: true,
		PolicySerial: s.serial, Facts: s.facts, SubmittedBy: "terraform",
	}
}

func (s *telling) launching() *op.Launching {
	return &op.Launching{
		Header: s.header(), Node: "pve1", Credential: s.credential(), Request: s.request, Observed: s.observed, PolicySerial: s.serial, Facts: s.facts,
	}
}

// credential is that of the attempt; disks root wipes.
func (s *telling) credential() string {
	if s.in.Target.Disk != "" {
		return "root@pam"
	}
	return "writ@pve!w-1"
}

func (s *telling) running() *op.TaskRunning {
	return &op.TaskRunning{Header: s.header(), UPID: "UPID:pve1:0000ABCD:00ABCDEF:68A60E01:" + s.task + "::" + "writ@pve!" + s.doc.Nonce.Short() + ":"}
}

func (s *telling) done() {
	s.t.Helper()
	s.put(s.started()).put(s.launching()).put(s.running()).put(&op.Succeeded{
		Header: s.header(), ExitStatus: "OK", Evidence: op.Evidence{Effect: op.EffectDone, Reasons: []string{s.found}},
	})
}

// allDone is a ledger with an op of every class.
func allDone(t testing.TB) *record {
	t.Helper()
	r := newRecord(t)
	r.load(everyClass())
	for _, d := range deeds() {
		r.telling(d).done()
	}
	return r
}

func TestEveryClassIsAmongTheDeeds(t *testing.T) {
	told := make(map[op.Class]map[string]bool)
	for _, d := range deeds() {
		if told[d.in.Class] == nil {
			told[d.in.Class] = make(map[string]bool)
		}
		if g := d.in.Target.Guest; g != nil {
			told[d.in.Class][string(g.Type)] = true
		}
	}
	for _, c := range op.Classes() {
		if told[c] == nil || c.ActsOnGuest() && len(told[c]) != 2 {
			t.Errorf("%s: told of %v, want qemu and lxc where the class has them", c, slices.Sorted(maps.Keys(told[c])))
		}
	}
}

func TestARecordOfEveryClassIsSound(t *testing.T) {
	r := verify(t, allDone(t).memory, audit.Options{})
	n := uint64(len(deeds()))
	if !r.Sound || r.Counts.Claims != n || r.Counts.LaunchDecisions != n || r.Counts.Ops.Succeeded != n || len(r.NotRerun) != 0 {
		t.Errorf("got sound %t, counts %+v, not rerun %v, findings %+v; want all %d ops decided again", r.Sound, r.Counts, r.NotRerun, r.Findings, n)
	}
}

// TestWhyOfEveryClass keeps the story of each class as a file to read.
func TestWhyOfEveryClass(t *testing.T) {
	src := audit.OfStore(allDone(t).memory)
	for _, d := range deeds() {
		t.Run(d.name, func(t *testing.T) {
			s, err := audit.Why(context.Background(), src, string(nonce(d.name)))
			if err != nil {
				t.Fatal(err)
			}
			var text bytes.Buffer
			if err := s.WriteText(&text); err != nil {
				t.Fatal(err)
			}
			if len(s.Findings) != 0 {
				t.Errorf("findings %+v, want none", s.Findings)
			}
			golden(t, "why-class-"+strings.ReplaceAll(d.name, " ", "-")+".txt", text.Bytes())
		})
	}
}

// TestDamageOfAnyClass forges, in a record of each class, what no service can
// have written, and checks that exactly that is found.
func TestDamageOfAnyClass(t *testing.T) {
	type forgery struct {
		on    func(deed) bool // which deeds it can be done to
		claim func(*op.Started)
		l     func(*op.Launching)
		kind  audit.Kind
		says  string
	}
	benign := func(d deed) bool { return d.in.Class.Benign() }
	guest := func(d deed) bool { return d.in.Target.Guest != nil }
	is := func(classes ...op.Class) func(deed) bool {
		return func(d deed) bool { return slices.Contains(classes, d.in.Class) }
	}
	snapshots, volumes := is(op.SnapshotRollback, op.SnapshotDelete), is(op.VolumeDelete, op.BackupDelete)
	power := is(op.GuestStop, op.GuestShutdown, op.GuestReboot)
	pool := func(d deed) bool { return d.in.Target.Pool != nil }
	disk := func(d deed) bool { return d.in.Target.Disk != "" }
	all := func(deed) bool { return true }
	observed := func(change func(*op.Observed)) func(*op.Launching) {
		return func(l *op.Launching) { change(&l.Observed) }
	}
	tests := map[string]forgery{
		// What a claim without a signature rests on.
		"another payload's digest":                    {benign, func(e *op.Started) { e.PayloadSHA256 = op.DigestOf([]byte("x")) }, nil, audit.DecisionDiffers, "benign"},
		"the digest of an intent with other params":   {is(op.SnapshotCreate), func(e *op.Started) { e.Intent.Params.Snapshot = "other" }, nil, audit.DecisionDiffers, "benign"},
		"a caller that no rule names":                 {benign, func(e *op.Started) { e.SubmittedBy = "ci" }, nil, audit.DecisionDiffers, "not-permitted"},
		"a caller without a token":                    {benign, func(e *op.Started) { e.SubmittedBy = gate.Tokenless }, nil, audit.DecisionDiffers, "not-permitted"},
		"nobody asked":                                {benign, func(e *op.Started) { e.SubmittedBy = "" }, nil, audit.DecisionDiffers, "not-permitted"},
		"a guest that no rule grants":                 {benign, outOfScope, nil, audit.DecisionDiffers, "not-permitted"},
		"a keyless op that says it was signed":        {benign, func(e *op.Started) { e.Keyless = false }, nil, audit.DecisionDiffers, "signed under policy 1"},
		"a keyless op with signers":                   {benign, func(e *op.Started) { e.Signers = []op.Signer{{Person: "alice", Key: "SHA256:x"}} }, nil, audit.DecisionDiffers, "benign"},
		"a signed op that says nobody had to sign it": {func(d deed) bool { return !benign(d) }, func(e *op.Started) { e.Keyless = true }, nil, audit.DecisionDiffers, "benign under policy 1"},

		// What was sent.
		"a request of another class": {all, nil, func(l *op.Launching) {
			l.Request = op.Request{Method: "POST", Path: "/nodes/pve1/qemu/105/clone", Query: "newid=200"}
		}, audit.RequestDiffers, "clone"},
		"another method":           {all, nil, func(l *op.Launching) { l.Request.Method = "PATCH" }, audit.RequestDiffers, "PATCH"},
		"another path":             {all, nil, func(l *op.Launching) { l.Request.Path += "9" }, audit.RequestDiffers, "was ordered"},
		"a parameter more":         {all, nil, func(l *op.Launching) { l.Request.Query += "&skiplock=1" }, audit.RequestDiffers, "skiplock=1"},
		"parameters that are none": {all, nil, func(l *op.Launching) { l.Request.Query = "%zz" }, audit.RequestDiffers, "%zz"},
		"no parameters":            {func(d deed) bool { return d.request.Query != "" }, nil, func(l *op.Launching) { l.Request.Query = "" }, audit.RequestDiffers, "was ordered"},
		"another node":             {all, nil, func(l *op.Launching) { l.Node = "pve2" }, audit.RequestDiffers, "pve2"},
		"root's login, for no disk": {
			func(d deed) bool { return !disk(d) }, nil, func(l *op.Launching) { l.Credential = "root@pam" }, audit.RequestDiffers, "sent as root@pam",
		},
		"a disk, not by root": {disk, nil, func(l *op.Launching) { l.Credential = "writ@pve!w-1" }, audit.RequestDiffers, "sent as writ@pve!w-1"},
		"a backup that stops the guest": {is(op.BackupCreate), nil, func(l *op.Launching) {
			l.Request.Query = strings.Replace(l.Request.Query, "mode=snapshot", "mode=stop", 1)
		}, audit.RequestDiffers, "mode=stop"},
		"a backup that removes earlier ones": {is(op.BackupCreate), nil, func(l *op.Launching) {
			l.Request.Query = strings.Replace(l.Request.Query, "remove=0", "remove=1", 1)
		}, audit.RequestDiffers, "remove=1"},
		"a snapshot with the memory": {is(op.SnapshotCreate), nil, func(l *op.Launching) { l.Request.Query += "&vmstate=1" }, audit.RequestDiffers, "vmstate=1"},

		// What was seen.
		"not found":     {all, nil, observed(func(o *op.Observed) { o.Found = false }), audit.ExpectationUnmet, "not found"},
		"not online":    {all, nil, observed(func(o *op.Observed) { o.NodeOnline = false }), audit.ExpectationUnmet, "not online"},
		"not quorate":   {all, nil, observed(func(o *op.Observed) { o.Quorate = false }), audit.ExpectationUnmet, "not quorate"},
		"another guest": {guest, nil, observed(func(o *op.Observed) { o.VMID = 109 }), audit.ExpectationUnmet, "109"},
		"locked":        {guest, nil, observed(func(o *op.Observed) { o.Lock = "backup" }), audit.ExpectationUnmet, "lock backup"},
		"protected":     {is(op.GuestDestroy, op.RestoreOverwrite), nil, observed(func(o *op.Observed) { o.Protection = true }), audit.ExpectationUnmet, "protected"},
		"replicated": {
			func(d deed) bool { return is(op.GuestDestroy)(d) && d.in.Params.Purge == nil },
			nil, observed(func(o *op.Observed) { o.Replication = []string{"105-0 to pve2"} }), audit.ExpectationUnmet, "105-0 to pve2",
		},
		"with clones": {is(op.GuestDestroy, op.RestoreOverwrite), nil, observed(func(o *op.Observed) { o.Clones = []string{"lvm:vm-9-disk-0"} }), audit.ExpectationUnmet, "vm-9-disk-0"},
		"running":     {func(d deed) bool { return is(op.RestoreOverwrite, op.GuestStart)(d) }, nil, observed(func(o *op.Observed) { o.Status = "running" }), audit.ExpectationUnmet, "running"},
		"stopped":     {power, nil, observed(func(o *op.Observed) { o.Status = "stopped" }), audit.ExpectationUnmet, "stopped"},
		"a template":  {func(d deed) bool { return snapshots(d) || is(op.SnapshotCreate, op.GuestStart)(d) }, nil, observed(func(o *op.Observed) { o.Template = true }), audit.ExpectationUnmet, "template"},
		"managed by HA": {func(d deed) bool {
			return power(d) || is(op.GuestStart, op.GuestDestroy, op.RestoreOverwrite, op.SnapshotRollback)(d)
		}, nil, observed(func(o *op.Observed) { o.HAManaged = true }), audit.ExpectationUnmet, "HA manages it"},
		"a snapshot of another time":    {snapshots, nil, observed(func(o *op.Observed) { o.Snapshot.Time++ }), audit.ExpectationUnmet, "snapshot of 1793498401"},
		"a snapshot of another name":    {snapshots, nil, observed(func(o *op.Observed) { o.Snapshot.Name = "other" }), audit.ExpectationUnmet, "snapshot other"},
		"a snapshot that is incomplete": {snapshots, nil, observed(func(o *op.Observed) { o.Snapshot.State = "delete" }), audit.ExpectationUnmet, "state delete"},
		"no snapshot":                   {snapshots, nil, observed(func(o *op.Observed) { o.Snapshot = nil }), audit.ExpectationUnmet, "not there"},
		"a snapshot that was there":     {is(op.SnapshotCreate), nil, observed(func(o *op.Observed) { o.Snapshot = &op.SnapshotSeen{Name: "before"} }), audit.ExpectationUnmet, "there is one"},
		"an archive of another size":    {is(op.RestoreOverwrite), nil, observed(func(o *op.Observed) { o.Archive.Size++ }), audit.ExpectationUnmet, "archive size 1073741825"},
		"an archive of another time":    {is(op.RestoreOverwrite), nil, observed(func(o *op.Observed) { o.Archive.CTime++ }), audit.ExpectationUnmet, "archive time"},
		"another archive":               {is(op.RestoreOverwrite), nil, observed(func(o *op.Observed) { o.Archive.ID += "x" }), audit.ExpectationUnmet, "archive backups:"},
		"no archive":                    {is(op.RestoreOverwrite), nil, observed(func(o *op.Observed) { o.Archive = nil }), audit.ExpectationUnmet, "archive not there"},
		"a volume of another size":      {volumes, nil, observed(func(o *op.Observed) { o.Volume.Size++ }), audit.ExpectationUnmet, "volume size 1073741825"},
		"a volume of another time":      {volumes, nil, observed(func(o *op.Observed) { o.Volume.CTime = 0 }), audit.ExpectationUnmet, "volume time 0"},
		"another volume":                {volumes, nil, observed(func(o *op.Observed) { o.Volume.ID += "x" }), audit.ExpectationUnmet, "volume "},
		"no volume":                     {volumes, nil, observed(func(o *op.Observed) { o.Volume = nil }), audit.ExpectationUnmet, "volume not there"},
		"a volume in use":               {volumes, nil, observed(func(o *op.Observed) { o.Volume.Users = []string{"qemu/105 scsi0"} }), audit.ExpectationUnmet, "used by qemu/105 scsi0"},
		"a protected backup":            {is(op.BackupDelete), nil, observed(func(o *op.Observed) { o.Volume.Protected = true }), audit.ExpectationUnmet, "protected"},
		"a volume that is a backup":     {is(op.VolumeDelete), nil, observed(func(o *op.Observed) { o.Volume.Content = "backup" }), audit.ExpectationUnmet, "it holds backup"},
		"a backup that is none":         {is(op.BackupDelete), nil, observed(func(o *op.Observed) { o.Volume.Content = "iso" }), audit.ExpectationUnmet, "it holds iso"},
		"a pool of another size":        {pool, nil, observed(func(o *op.Observed) { o.Pool.Size++ }), audit.ExpectationUnmet, "pool size 1099511627777"},
		"a pool on other disks":         {pool, nil, observed(func(o *op.Observed) { o.Pool.Members = []string{"/dev/sdx"} }), audit.ExpectationUnmet, "/dev/sdx"},
		"another pool":                  {pool, nil, observed(func(o *op.Observed) { o.Pool.Name = "rpool" }), audit.ExpectationUnmet, "pool not there"},
		"a pool in use":                 {pool, nil, observed(func(o *op.Observed) { o.Pool.Users = []string{"qemu/105"} }), audit.ExpectationUnmet, "used by qemu/105"},
		"a storage on the pool":         {func(d deed) bool { return pool(d) && d.in.Params.CleanupConfig == nil }, nil, observed(func(o *op.Observed) { o.Pool.Storages = []string{"vms"} }), audit.ExpectationUnmet, "vms"},
		"another disk":                  {disk, nil, observed(func(o *op.Observed) { o.Disk.Serial = "X" }), audit.ExpectationUnmet, "disk serial X"},
		"a disk of another size":        {disk, nil, observed(func(o *op.Observed) { o.Disk.Size++ }), audit.ExpectationUnmet, "disk size"},
		"a disk of another model":       {disk, nil, observed(func(o *op.Observed) { o.Disk.Model = "ST4000" }), audit.ExpectationUnmet, "disk model ST4000"},
		"a disk in use":                 {disk, nil, observed(func(o *op.Observed) { o.Disk.Used = "LVM" }), audit.ExpectationUnmet, "used for LVM"},
		"something else on another node": {func(d deed) bool { return !guest(d) }, nil, func(l *op.Launching) {
			l.Node, l.Observed.Node = "pve2", "pve2"
			l.Request.Path = strings.Replace(l.Request.Path, "pve1", "pve2", 1)
		}, audit.ExpectationUnmet, "node pve2"},
		"a launch by facts out of scope":   {func(d deed) bool { return !guest(d) }, nil, func(l *op.Launching) { l.Facts.Storages = []string{"rpool"} }, audit.LaunchNotAllowed, "out-of-scope"},
		"a launch of what nobody may know": {func(d deed) bool { return !guest(d) }, nil, func(l *op.Launching) { l.Facts = op.Facts{} }, audit.LaunchNotAllowed, "no such target"},
	}
	for name, f := range tests {
		t.Run(name, func(t *testing.T) {
			done := 0
			for _, d := range deeds() {
				if !f.on(d) {
					continue
				}
				done++
				forged(t, d, f.claim, f.l, f.kind, f.says)
			}
			if done == 0 {
				t.Error("no deed that it can be done to")
			}
		})
	}
}

func outOfScope(e *op.Started) {
	e.Intent.Target = e.Intent.Target.Clone()
	e.Intent.Target.Guest.VMID = 300
	e.Target = e.Intent.Target
	asked, err := op.Marshal(e.Intent)
	if err != nil {
		panic(err)
	}
	e.PayloadSHA256 = op.DigestOf(asked)
}

// forged puts a deed on record with one of its first two events changed, and
// wants to see that found, and nothing else.
func forged(t *testing.T, d deed, claim func(*op.Started), announce func(*op.Launching), kind audit.Kind, says string) {
	t.Helper()
	r := newRecord(t)
	r.load(everyClass())
	s := r.telling(d)
	// Behind what is shared between deeds nothing may be changed.
	s.observed = cloneSeen(s.observed)
	e := s.started()
	if claim != nil {
		claim(e)
		s.put(e)
	} else {
		l := s.put(e)
		announced := s.launching()
		announce(announced)
		l.put(announced)
	}
	rep := verify(t, r.memory, audit.Options{})
	if want := map[audit.Kind]int{kind: 1}; !maps.Equal(rep.FindingsByKind, want) || rep.Sound {
		t.Errorf("%s: findings %+v, want one, %s", d.name, rep.Findings, kind)
		return
	}
	if f := rep.Findings[0]; !strings.Contains(f.Expected+"\n"+f.Found, says) {
		t.Errorf("%s: got %+v, want it to say %q", d.name, f, says)
	}
}

func cloneSeen(o op.Observed) op.Observed {
	clone := func(v *op.VolumeSeen) *op.VolumeSeen {
		if v == nil {
			return nil
		}
		return ptr(*v)
	}
	o.Archive, o.Volume = clone(o.Archive), clone(o.Volume)
	if o.Snapshot != nil {
		o.Snapshot = ptr(*o.Snapshot)
	}
	if o.Pool != nil {
		o.Pool = ptr(*o.Pool)
	}
	if o.Disk != nil {
		o.Disk = ptr(*o.Disk)
	}
	return o
}

// TestAKeylessOpIsToldAsOne: how it ended says nothing of a nonce, which is no
// key to anything.
func TestAKeylessOpIsToldAsOne(t *testing.T) {
	ends := map[string]struct {
		end  func(*telling)
		says string
	}{
		"done":           {func(s *telling) { s.done() }, "nobody had signed it, so whoever asks for it again has an op of their own"},
		"without effect": {func(s *telling) { s.put(s.started()).put(s.failed(op.KindPrecondition, op.EffectNone, "x")) }, "whoever may ask for it can ask again"},
		"with an effect": {func(s *telling) {
			s.put(s.started()).put(s.launching()).put(s.failed(op.KindTaskFailed, op.EffectPartial, "x"))
		}, "failed with effect partial; whoever asks for it again has an op of their own"},
		"not yet at work": {func(s *telling) { s.put(s.started()) }, "is claimed, and nothing has been sent to the host"},
	}
	for name, tt := range ends {
		t.Run(name, func(t *testing.T) {
			for _, d := range deeds() {
				if !d.in.Class.Benign() {
					continue
				}
				r := newRecord(t)
				r.load(everyClass())
				tt.end(r.telling(d))
				s, err := audit.Why(context.Background(), audit.OfStore(r.memory), string(nonce(d.name)))
				if err != nil {
					t.Fatal(err)
				}
				if !strings.Contains(s.Headline, tt.says) || strings.Contains(s.Headline, "the same writ") || len(s.Findings) != 0 {
					t.Errorf("%s: got %q and %+v, want that it says %q, and no finding", d.name, s.Headline, s.Findings, tt.says)
				}
			}
		})
	}
}

// TestTodaysPolicyAboutKeylessOps: a rule that is gone since shows.
func TestTodaysPolicyAboutKeylessOps(t *testing.T) {
	doc := everyClass()
	doc.Benign = nil
	p, err := gate.Compile(doc, 2)
	if err != nil {
		t.Fatal(err)
	}
	r := verify(t, allDone(t).memory, audit.Options{Today: p})
	if want := map[string]int{"not-permitted": 6}; !r.Sound || r.Today == nil || !maps.Equal(r.Today.ByReason, want) {
		t.Errorf("got sound %t and %+v, want it sound, and %v", r.Sound, r.Today, want)
	}
}
