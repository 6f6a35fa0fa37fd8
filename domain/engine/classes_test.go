package engine_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"writ/domain/engine"
	"writ/domain/gate"
	"writ/domain/op"
	"writ/domain/signedop"
)

// A stillHost shows one picture of a target, whatever the class, and carries
// out what it is told.
type stillHost struct {
	*fakeHost
	seen op.Observed
}

func (h *stillHost) Facts(context.Context, op.Target) (op.Facts, error) {
	return op.Facts{Found: true, Node: h.seen.Node, Storages: []string{"tank"}}, nil
}

// Observe tells of a plan only whoever expects one.
func (h *stillHost) Observe(_ context.Context, a engine.Attempt) (op.Observed, error) {
	seen := h.seen
	if !a.Planned {
		seen.Plan = ""
	}
	return seen, nil
}

func (h *stillHost) Request(engine.Attempt, op.Observed) (op.Request, string, error) {
	return op.Request{Method: "POST", Path: "/the/request"}, "writ@pve!launch", nil
}

func (h *stillHost) Launch(_ context.Context, a engine.Attempt, l *op.Launching) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.attempts = append(h.attempts, a)
	h.launches = append(h.launches, l)
	h.tasks["UPID"] = engine.Task{Phase: engine.TaskEnded, ExitStatus: "OK"}
	return "UPID", nil
}

func (h *stillHost) Probe(context.Context, *op.Launching, string, []string) (engine.Finding, error) {
	return engine.Finding{Evidence: op.Evidence{Effect: op.EffectDone, Reasons: []string{"seen"}}}, nil
}

// An undertaking is an op and the host as it should be for it.
type undertaking struct {
	doc  signedop.Document
	seen op.Observed
}

func undertakingOf(c op.Class) undertaking {
	u := undertaking{seen: web3()}
	u.doc = order(u.seen, func(d *signedop.Document) { d.Class = c })
	at, yes := int64(1751328100), true
	switch c {
	case op.GuestDestroy:
	case op.RestoreOverwrite:
		const id = "local:backup/vzdump-qemu-105-2026_11_01-02_00_00.vma.zst"
		u.doc.Params.Archive, u.doc.Params.Storage = id, "local-lvm"
		u.doc.Expect.Archive = &signedop.VolumeExpect{Size: 1 << 30, CTime: &at}
		u.seen.Archive = &op.VolumeSeen{ID: id, Size: 1 << 30, CTime: at, Content: "backup", VMID: 105}
	case op.SnapshotRollback, op.SnapshotDelete:
		u.doc.Params.Snapshot = "before"
		u.doc.Expect.Snapshot = &signedop.SnapshotExpect{Time: at}
		u.seen.Snapshot = &op.SnapshotSeen{Name: "before", Time: at}
	case op.SnapshotCreate:
		u.doc.Params.Snapshot = "before"
	case op.GuestStop, op.GuestShutdown, op.GuestReboot:
		u.seen.Status = "running"
	case op.GuestStart:
	case op.BackupCreate:
		u.doc.Params.Storage = "backups"
	case op.VolumeDelete, op.BackupDelete:
		content := map[op.Class]string{op.VolumeDelete: "images", op.BackupDelete: "backup"}[c]
		u.doc.Target = op.Target{Node: "pve1", Volume: "tank:vm-105-disk-1"}
		u.doc.Expect = signedop.Expect{Volume: &signedop.VolumeExpect{Size: 1 << 30, CTime: &at}}
		u.seen = op.Observed{
			Found: true, Node: "pve1", NodeOnline: true, Quorate: true,
			Volume: &op.VolumeSeen{ID: "tank:vm-105-disk-1", Size: 1 << 30, CTime: at, Content: content, VMID: 105},
		}
	case op.StorageWipe:
		pool := op.Pool{Kind: op.ZFS, Name: "tank"}
		u.doc.Target = op.Target{Node: "pve1", Pool: &pool}
		u.doc.Params.CleanupConfig = &yes
		u.doc.Expect = signedop.Expect{Pool: &signedop.PoolExpect{Size: 1 << 40, Members: []string{"/dev/sdb", "/dev/sdc"}}}
		u.seen = op.Observed{
			Found: true, Node: "pve1", NodeOnline: true, Quorate: true,
			Pool: &op.PoolSeen{Pool: pool, Size: 1 << 40, Members: []string{"/dev/sdb", "/dev/sdc"}, Storages: []string{"tank"}},
		}
	}
	return u
}

// wipeOf makes an order about a pool one about a disk.
func wipeOf(u *undertaking) {
	u.doc.Target, u.doc.Params = op.Target{Node: "pve1", Disk: "/dev/sdb"}, op.Params{}
	u.doc.Expect = signedop.Expect{Disk: &signedop.DiskExpect{Serial: "S4EWNX0M", Size: 1 << 40}}
	u.seen.Pool = nil
	u.seen.Disk = &op.DiskSeen{Path: "/dev/sdb", Serial: "S4EWNX0M", WWN: "0x5002538e", Size: 1 << 40}
}

// run gives the end of an undertaking and how many requests were sent for it.
func (u undertaking) run(t *testing.T) (engine.Answer, *stillHost) {
	t.Helper()
	h := &stillHost{fakeHost: newFakeHost(), seen: u.seen}
	executors := make(map[op.Class]engine.Executor)
	for _, c := range op.Classes() {
		executors[c] = h
	}
	w := newWorld(t, func(c *engine.Config) { c.Host, c.Executors = h, executors })
	p := policy()
	on := gate.On{VMIDs: []string{"100-199"}, Storages: []string{"tank"}}
	var withWrit, benign []op.Class
	for _, c := range op.Classes() {
		if c.Benign() {
			benign = append(benign, c)
		} else {
			withWrit = append(withWrit, c)
		}
	}
	operator := p.Roles["operator"]
	operator.Allow = []gate.Rule{{Classes: withWrit, On: on}}
	p.Roles["operator"] = operator
	p.Benign = []gate.BenignRule{{Callers: []string{"ci"}, Classes: benign, On: on}}
	if _, err := w.book.Enforce(context.Background(), p, op.Digest{}); err != nil {
		t.Fatalf("enforce: %v", err)
	}
	if u.doc.Class.Benign() {
		return w.runToEnd(engine.Submission{Intent: u.doc.Intent(), SubmittedBy: "ci"}), h
	}
	return w.runToEnd(signed(t, u.doc)), h
}

func TestEachClassRuns(t *testing.T) {
	for _, c := range op.Classes() {
		t.Run(string(c), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got, h := undertakingOf(c).run(t)
				if got.Outcome != engine.Succeeded || h.launched() != 1 {
					t.Errorf("got %s (%s: %s) after %d requests, want succeeded after one", got.Outcome, got.Reason, got.Detail, h.launched())
				}
			})
		})
	}
	t.Run("a disk", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			u := undertakingOf(op.StorageWipe)
			wipeOf(&u)
			if got, h := u.run(t); got.Outcome != engine.Succeeded || h.launched() != 1 {
				t.Errorf("got %s (%s: %s) after %d requests, want succeeded after one", got.Outcome, got.Reason, got.Detail, h.launched())
			}
		})
	})
}

// Whatever is not as it was signed, or as the host needs it, ends the attempt
// before anything is sent, and is named.
func TestEachClassLooksAgain(t *testing.T) {
	for _, tt := range []struct {
		name   string
		class  op.Class
		change func(*undertaking)
		want   string
	}{
		{"another machine is rolled back", op.SnapshotRollback, func(u *undertaking) { u.seen.SMBIOSUUID = "x" }, "expect.smbios_uuid: signed for"},
		{"another machine is restored over", op.RestoreOverwrite, func(u *undertaking) { u.seen.VMGenID = "x" }, "expect.vmgenid: signed for"},
		{"another machine is stopped", op.GuestStop, func(u *undertaking) { u.seen.Volumes = nil }, "expect.volumes: signed for"},
		{"no machine", op.GuestReboot, func(u *undertaking) { u.seen.Found = false }, "target: there is no qemu guest 105"},
		{"a benign op on a container instead", op.GuestStart, func(u *undertaking) { u.seen.Type = op.LXC }, "target: signed for"},
		{"no quorum", op.VolumeDelete, func(u *undertaking) { u.seen.Quorate = false }, "quorum: "},
		{"node away", op.StorageWipe, func(u *undertaking) { u.seen.NodeOnline = false }, "node: "},
		{"another node", op.StorageWipe, func(u *undertaking) { u.seen.Node = "pve2" }, "signed for node pve1"},

		{"a guest that is replicated", op.GuestDestroy, func(u *undertaking) { u.doc.Params.Purge = nil; u.seen.Replication = []string{"105-0 to pve2"} }, "replication: the guest is replicated (105-0 to pve2)"},
		{"a template with clones", op.GuestDestroy, func(u *undertaking) { u.seen.Clones = []string{"local-zfs:vm-200-disk-0"} }, "clones: "},
		{"a protected guest is restored over", op.RestoreOverwrite, func(u *undertaking) { u.seen.Protection = true }, "protection: "},
		{"a running guest is restored over", op.RestoreOverwrite, func(u *undertaking) { u.seen.Status = "running" }, "status: the guest is running; stop it first"},
		{"no archive", op.RestoreOverwrite, func(u *undertaking) { u.seen.Archive = nil }, "archive: the host has no local:backup/"},
		{"an archive of another size", op.RestoreOverwrite, func(u *undertaking) { u.seen.Archive.Size++ }, "expect.archive.size"},
		{"an archive of another time", op.RestoreOverwrite, func(u *undertaking) { u.seen.Archive.CTime++ }, "expect.archive.ctime"},

		{"no snapshot", op.SnapshotRollback, func(u *undertaking) { u.seen.Snapshot = nil }, "params.snapshot: the guest has no snapshot before"},
		{"another snapshot of the name", op.SnapshotDelete, func(u *undertaking) { u.seen.Snapshot.Time++ }, "expect.snapshot.time: signed for 1751328100"},
		{"half a snapshot", op.SnapshotRollback, func(u *undertaking) { u.seen.Snapshot.State = "delete" }, "incomplete (delete)"},
		{"a snapshot there already", op.SnapshotCreate, func(u *undertaking) { u.seen.Snapshot = &op.SnapshotSeen{Name: "before"} }, "has a snapshot before already"},
		{"a template is rolled back", op.SnapshotRollback, func(u *undertaking) { u.seen.Template = true }, "template: "},
		{"HA would start it again", op.SnapshotRollback, func(u *undertaking) { u.seen.HAManaged = true }, "ha: "},
		{"a locked guest", op.SnapshotDelete, func(u *undertaking) { u.seen.Lock = "backup" }, "lock: the guest is locked (backup)"},
		{"a backup under way", op.BackupCreate, func(u *undertaking) { u.seen.Lock = "backup" }, "lock: "},

		{"a stopped guest is stopped", op.GuestStop, func(u *undertaking) { u.seen.Status = "stopped" }, "status: the guest is stopped, there is nothing to do"},
		{"a running guest is started", op.GuestStart, func(u *undertaking) { u.seen.Status = "running" }, "status: the guest is running, there is nothing to do"},
		{"a template is started", op.GuestStart, func(u *undertaking) { u.seen.Template = true }, "template: "},
		{"a guest under HA", op.GuestShutdown, func(u *undertaking) { u.seen.HAManaged = true }, "ha: "},

		{"no volume", op.VolumeDelete, func(u *undertaking) { u.seen.Volume = nil }, "target: there is no volume tank:vm-105-disk-1"},
		{"another volume was looked at", op.VolumeDelete, func(u *undertaking) { u.seen.Volume.ID = "tank:vm-106-disk-1" }, "target: there is no volume"},
		{"a volume that was made again", op.VolumeDelete, func(u *undertaking) { u.seen.Volume.CTime++ }, "expect.volume.ctime"},
		{"a volume whose time was not signed", op.VolumeDelete, func(u *undertaking) { u.doc.Expect.Volume.CTime = nil }, "expect.volume.ctime: signed for 0"},
		{"a volume in use", op.VolumeDelete, func(u *undertaking) { u.seen.Volume.Users = []string{"qemu/105 scsi1"} }, "in use by qemu/105 scsi1"},
		{"a backup as a volume", op.VolumeDelete, func(u *undertaking) { u.seen.Volume.Content = "backup" }, "which class volume-delete is not for"},
		{"a disk as a backup", op.BackupDelete, func(u *undertaking) { u.seen.Volume.Content = "images" }, "which class backup-delete is not for"},
		{"a protected backup", op.BackupDelete, func(u *undertaking) { u.seen.Volume.Protected = true }, "protection: the backup"},

		{"another pool of the name", op.StorageWipe, func(u *undertaking) { u.seen.Pool.Members = []string{"/dev/sdb", "/dev/sdd"} }, "expect.pool.members"},
		{"a pool of another size", op.StorageWipe, func(u *undertaking) { u.seen.Pool.Size++ }, "expect.pool.size"},
		{"a pool of another kind", op.StorageWipe, func(u *undertaking) { u.seen.Pool.Kind = op.LVM }, "target: there is no zfs pool tank"},
		{"a pool with guests", op.StorageWipe, func(u *undertaking) { u.seen.Pool.Users = []string{"qemu/105 scsi0"} }, "in use by qemu/105 scsi0"},
		{"a pool with storages that were not signed away", op.StorageWipe, func(u *undertaking) { u.doc.Params.CleanupConfig = nil }, "storages are defined on it (tank)"},
		{"another disk at the path", op.StorageWipe, func(u *undertaking) { wipeOf(u); u.seen.Disk.Serial = "other" }, "expect.disk.serial"},
		{"a disk of another model", op.StorageWipe, func(u *undertaking) { wipeOf(u); u.doc.Expect.Disk.Model = "870"; u.seen.Disk.Model = "860" }, "expect.disk.model"},
		{"another world wide name", op.StorageWipe, func(u *undertaking) { wipeOf(u); u.doc.Expect.Disk.WWN = "0x1" }, "expect.disk.wwn"},
		{"a disk of another size", op.StorageWipe, func(u *undertaking) { wipeOf(u); u.seen.Disk.Size++ }, "expect.disk.size"},
		{"a disk in use", op.StorageWipe, func(u *undertaking) { wipeOf(u); u.seen.Disk.Used = "LVM" }, "in use (LVM)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := undertakingOf(tt.class)
				tt.change(&u)
				got, h := u.run(t)
				if got.Outcome != engine.Failed || got.Failure.Kind != op.KindPrecondition || got.Failure.Effect != op.EffectNone {
					t.Fatalf("got %s (%s: %s), want a precondition that is not met, effect none", got.Outcome, got.Reason, got.Detail)
				}
				if !strings.Contains(got.Failure.Message, tt.want) || h.launched() != 0 {
					t.Errorf("got %q after %d requests, want %q after none", got.Failure.Message, h.launched(), tt.want)
				}
			})
		})
	}
}

// An op that nobody signed has a stream of its own each time, and is marked.
func TestABenignOpIsKeyless(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := undertakingOf(op.GuestStart)
		h := &stillHost{fakeHost: newFakeHost(), seen: u.seen}
		w := newWorld(t, func(c *engine.Config) {
			c.Host, c.Executors = h, map[op.Class]engine.Executor{op.GuestStart: h}
		})
		p := policy()
		p.Benign = []gate.BenignRule{{Callers: []string{"ci"}, Classes: []op.Class{op.GuestStart}, On: gate.On{VMIDs: []string{"105"}}}}
		if _, err := w.book.Enforce(context.Background(), p, op.Digest{}); err != nil {
			t.Fatalf("enforce: %v", err)
		}
		nonces := make(map[op.Nonce]bool)
		for range 2 {
			a := w.runToEnd(engine.Submission{Intent: u.doc.Intent(), SubmittedBy: "ci"})
			w.wantOutcome(a, engine.Succeeded)
			w.wantTypes(a.Nonce, op.TypeStarted, op.TypeLaunching, op.TypeTaskRunning, op.TypeSucceeded)
			o := w.op(a.Nonce)
			if s := o.Started; !s.Keyless || len(s.Envelope) != 0 || len(s.Signers) != 0 || s.SubmittedBy != "ci" {
				t.Errorf("on record: keyless %t, %d bytes of envelope, signers %v, by %q; want a keyless op by ci", s.Keyless, len(s.Envelope), s.Signers, s.SubmittedBy)
			}
			if o.Applied() {
				t.Error("the op's nonce is an applied key, want none of an op that nobody signed")
			}
			if _, err := op.ParseNonce(string(a.Nonce)); err != nil {
				t.Errorf("the op's name: %v", err)
			}
			nonces[a.Nonce] = true
		}
		if len(nonces) != 2 || h.launched() != 2 {
			t.Errorf("got %d ops and %d requests of two submissions, want two each", len(nonces), h.launched())
		}
		for _, a := range h.attempts {
			if a.ExpiresAt.IsZero() {
				t.Error("an attempt without an end, want one by which the host can forget it")
			}
		}
	})
}

// A slowHost takes longer for a look than a look may be old.
type slowHost struct{ *stillHost }

func (h slowHost) Observe(ctx context.Context, a engine.Attempt) (op.Observed, error) {
	pass(30 * time.Second)
	return h.stillHost.Observe(ctx, a)
}

// Who signed nothing has no writ to deliver again: each delivery is another op.
func TestNobodyIsToldToDeliverWhatWasNotSigned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := undertakingOf(op.GuestStart)
		h := slowHost{&stillHost{fakeHost: newFakeHost(), seen: u.seen}}
		w := newWorld(t, func(c *engine.Config) {
			c.Host, c.Executors = h, map[op.Class]engine.Executor{op.GuestStart: h}
		})
		p := policy()
		p.Benign = []gate.BenignRule{{Callers: []string{"ci"}, Classes: []op.Class{op.GuestStart}, On: gate.On{VMIDs: []string{"105"}}}}
		if _, err := w.book.Enforce(context.Background(), p, op.Digest{}); err != nil {
			t.Fatalf("enforce: %v", err)
		}
		order := engine.Submission{Intent: u.doc.Intent(), SubmittedBy: "ci"}
		says := func(want engine.Outcome, next string) {
			t.Helper()
			a := w.runToEnd(order)
			w.wantOutcome(a, want)
			if strings.Contains(a.Detail, "writ") || !strings.Contains(a.Detail, next) {
				t.Errorf("got %q, want it to say %q and nothing of a writ", a.Detail, next)
			}
		}
		says(engine.Failed, "Order it anew")
		w.stop()
		says(engine.Unavailable, "ordered anew")
	})
}
