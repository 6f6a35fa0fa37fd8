package signedop_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"writ/domain/op"
	"writ/domain/signedop"
)

func TestEncodeIsCanonical(t *testing.T) {
	const want = `{"audience":"lab/3f9c2ab41d6e4a70","class":"guest-destroy",` +
		`"expect":{"name":"web-3","smbios_uuid":"5c6f0a1e-7b2d-4c3f-8a4e-9d0b1c2f3a5e","vmgenid":"0b9e4f6a-1c2d-4e3f-9a5b-7c8d9e0f1a2b","volumes":["local-lvm:vm-105-disk-0"]},` +
		`"expires_at":"2026-11-23T10:00:00Z","nonce":"6f1c9a0e5d7b4c2f8a3e1d0c9b8a7f6e","not_before":"2026-11-23T09:00:00Z",` +
		`"params":{"purge":false},"reason":"OPS-123: retire web-3","requested_by":"alice","role":"operator",` +
		`"target":{"guest":{"type":"qemu","vmid":105},"node":"pve1"},"version":1}`
	if got := encode(t, order()); string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// A guest known to have no volumes is not a guest whose volumes nobody looked at.
func TestEmptyListsAreNotAbsentOnes(t *testing.T) {
	d := order()
	d.Expect.Volumes, d.Expect.MACs = []string{}, nil
	payload := encode(t, d)
	if !bytes.Contains(payload, []byte(`"volumes":[]`)) || bytes.Contains(payload, []byte("macs")) {
		t.Errorf("got %s, want empty volumes and no macs", payload)
	}
	got := parse(t, rawEnvelope(payload)).UnverifiedDocument().Expect
	if got.Volumes == nil || got.MACs != nil {
		t.Errorf("read back volumes %#v, macs %#v, want empty and nil", got.Volumes, got.MACs)
	}
}

func TestCheck(t *testing.T) {
	yes := true
	lxc := func(change func(*signedop.Document)) signedop.Document { return withDoc(containerOrder(), change) }
	qemu := func(changes ...func(*signedop.Document)) signedop.Document {
		return withDoc(order(), func(d *signedop.Document) {
			for _, change := range changes {
				change(d)
			}
		})
	}
	for _, c := range []struct {
		name  string
		doc   signedop.Document
		field string // empty if it is right
		why   string
	}{
		{"a virtual machine", order(), "", ""},
		{"a container", containerOrder(), "", ""},
		{"a virtual machine without vmgenid", qemu(func(d *signedop.Document) { d.Expect.VMGenID = "" }), "", ""},
		{"a virtual machine without name", qemu(func(d *signedop.Document) { d.Expect.Name = "" }), "", ""},
		{"all that may be expected", qemu(func(d *signedop.Document) {
			d.Expect.MACs, d.Expect.Status, d.Expect.CTime = []string{"BC:24:11:0A:1B:2C"}, "running", ctime(1_700_000_000)
			d.Expect.Digest, d.Expect.WritID = strings.Repeat("0a", 20), strings.Repeat("0b", 16)
		}), "", ""},
		{"a container by digest", lxc(func(d *signedop.Document) { d.Expect.WritID, d.Expect.Digest = "", strings.Repeat("0a", 20) }), "", ""},
		{"a container with force", lxc(func(d *signedop.Document) { d.Params.Force = &yes }), "", ""},
		{"the longest nonce", qemu(func(d *signedop.Document) { d.Nonce = op.Nonce(strings.Repeat("0a", 64)) }), "", ""},
		{"the longest reason", qemu(func(d *signedop.Document) { d.Reason = strings.Repeat("x", signedop.MaxReasonBytes) }), "", ""},
		{"times in another zone of offset zero", qemu(func(d *signedop.Document) { d.ExpiresAt = d.ExpiresAt.In(time.FixedZone("", 0)) }), "", ""},
		{"stop", qemu(func(d *signedop.Document) { d.Class, d.Params = op.GuestStop, op.Params{} }), "", ""},
		{"a benign class expects nothing", qemu(func(d *signedop.Document) {
			d.Class, d.Params, d.Expect = op.GuestStart, op.Params{}, signedop.Expect{}
		}), "", ""},

		{"nothing at all", signedop.Document{}, "version", "knows only 1"},
		{"no nonce", qemu(func(d *signedop.Document) { d.Nonce = "" }), "nonce", "at least 32"},
		{"a nonce too long", qemu(func(d *signedop.Document) { d.Nonce = op.Nonce(strings.Repeat("0a", 65)) }), "nonce", "at most 128"},
		{"an audience of two ledgers", qemu(func(d *signedop.Document) { d.Audience += "/3f9c2ab41d6e4a70" }), "audience", "ledger id"},
		{"an audience without agent", qemu(func(d *signedop.Document) { d.Audience = "/3f9c2ab41d6e4a70" }), "audience", "ledger id"},
		{"a ledger id in upper case", qemu(func(d *signedop.Document) { d.Audience = "lab/3F9C2AB41D6E4A70" }), "audience", "ledger id"},
		{"force on a virtual machine", qemu(func(d *signedop.Document) { d.Params.Force = &yes }), "params.force", "only guest-destroy of a container"},
		{"a role with a slash", qemu(func(d *signedop.Document) { d.Role = "a/b" }), "role", "not a name"},
		{"a role that is too long", qemu(func(d *signedop.Document) { d.Role = strings.Repeat("a", signedop.MaxNameBytes+1) }), "role", "65 bytes"},
		{"a requester in look-alike letters", qemu(func(d *signedop.Document) { d.RequestedBy = "аlice" }), "requested_by", `\u0430lice`},
		{"no start", qemu(func(d *signedop.Document) { d.NotBefore = time.Time{} }), "not_before", "not a time in UTC"},
		{"a start in another zone", qemu(func(d *signedop.Document) { d.NotBefore = d.NotBefore.In(time.FixedZone("CET", 3600)) }), "not_before", "not a time in UTC"},
		{"an end with nanoseconds", qemu(func(d *signedop.Document) { d.ExpiresAt = d.ExpiresAt.Add(1) }), "expires_at", "whole seconds"},
		{"an end beyond four digits", qemu(func(d *signedop.Document) { d.ExpiresAt = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }), "expires_at", "not a time"},
		{"an end at the start", qemu(func(d *signedop.Document) { d.ExpiresAt = d.NotBefore }), "expires_at", "not after"},
		{"no reason", qemu(func(d *signedop.Document) { d.Reason = "" }), "reason", "missing or empty"},
		{"a reason of white space", qemu(func(d *signedop.Document) { d.Reason = " " }), "reason", "space"},
		{"a reason too long", qemu(func(d *signedop.Document) { d.Reason = strings.Repeat("x", signedop.MaxReasonBytes+1) }), "reason", "1025 bytes"},
		{"a reason in invalid UTF-8", qemu(func(d *signedop.Document) { d.Reason = "a\xffb" }), "reason", "UTF-8"},
		{"a reason with a tab", qemu(func(d *signedop.Document) { d.Reason = "a\tb" }), "reason", "U+0009"},
		{"a reason with an isolate", qemu(func(d *signedop.Document) { d.Reason = "a\u2066b" }), "reason", "U+2066"},
		{"a reason with a tag", qemu(func(d *signedop.Document) { d.Reason = "a\U000e0041b" }), "reason", "U+E0041"},
		{"a reason with a noncharacter", qemu(func(d *signedop.Document) { d.Reason = "a\U0001ffffb" }), "reason", "U+1FFFF"},

		{"unknown volumes", qemu(func(d *signedop.Document) { d.Expect.Volumes = nil }), "expect.volumes", "must expect its volumes"},
		{"no SMBIOS UUID", qemu(func(d *signedop.Document) { d.Expect.SMBIOSUUID = "" }), "expect.smbios_uuid", "must expect"},
		{"stop without SMBIOS UUID", qemu(func(d *signedop.Document) {
			d.Class, d.Params, d.Expect.SMBIOSUUID = op.GuestStop, op.Params{}, ""
		}), "expect.smbios_uuid", "guest-stop"},
		{"a container without hostname", lxc(func(d *signedop.Document) { d.Expect.Name = "" }), "expect.name", "hostname"},
		{"a container without MACs", lxc(func(d *signedop.Document) { d.Expect.MACs = nil }), "expect.macs", "MAC"},
		{"a container without volumes", lxc(func(d *signedop.Document) { d.Expect.Volumes = nil }), "expect.volumes", "volumes"},
		{"a container by name alone", lxc(func(d *signedop.Document) { d.Expect.WritID = "" }), "expect.digest", "writ_id"},
		{"a container with an SMBIOS UUID", lxc(func(d *signedop.Document) { d.Expect.SMBIOSUUID = order().Expect.SMBIOSUUID }), "expect.smbios_uuid", "container"},
		{"a container with a vmgenid", lxc(func(d *signedop.Document) { d.Expect.VMGenID = order().Expect.VMGenID }), "expect.vmgenid", "container"},
		{"a container with a creation time", lxc(func(d *signedop.Document) { d.Expect.CTime = ctime(1) }), "expect.ctime", "container"},
		{"a vmgenid that is no UUID", qemu(func(d *signedop.Document) { d.Expect.VMGenID = "1" }), "expect.vmgenid", "not a UUID"},
		{"a digest of another length", qemu(func(d *signedop.Document) { d.Expect.Digest = "0a" }), "expect.digest", "40 lower-case"},
		{"a writ id in upper case", qemu(func(d *signedop.Document) { d.Expect.WritID = strings.Repeat("0A", 16) }), "expect.writ_id", "32 lower-case"},
		{"a plan", qemu(func(d *signedop.Document) { d.Expect.Plan = strings.Repeat("0a", 32) }), "", ""},
		{"a plan of a container", lxc(func(d *signedop.Document) { d.Expect.Plan = strings.Repeat("0a", 32) }), "", ""},
		{"a plan of a pool", qemu(pool, func(d *signedop.Document) { d.Expect.Plan = strings.Repeat("0a", 32) }), "", ""},
		{"a plan of another length", qemu(func(d *signedop.Document) { d.Expect.Plan = strings.Repeat("0a", 20) }), "expect.plan", "64 lower-case"},
		{"a plan in upper case", qemu(func(d *signedop.Document) { d.Expect.Plan = strings.Repeat("0A", 32) }), "expect.plan", "64 lower-case"},
		{"an unknown status", qemu(func(d *signedop.Document) { d.Expect.Status = "paused" }), "expect.status", "neither running nor stopped"},
		{"a creation time of zero", qemu(func(d *signedop.Document) { d.Expect.CTime = ctime(0) }), "expect.ctime", "UNIX seconds"},
		{"a creation time beyond JSON", qemu(func(d *signedop.Document) { d.Expect.CTime = ctime(1 << 53) }), "expect.ctime", "UNIX seconds"},
		{"a MAC in lower case", qemu(func(d *signedop.Document) { d.Expect.MACs = []string{"bc:24:11:0a:1b:2c"} }), "expect.macs[0]", "not a MAC"},
		{"a MAC too short", qemu(func(d *signedop.Document) { d.Expect.MACs = []string{"BC:24:11:0A:1B:2C", "BC:24"} }), "expect.macs[1]", "not a MAC"},
		{"an empty volume", qemu(func(d *signedop.Document) { d.Expect.Volumes = []string{""} }), "expect.volumes[0]", "missing or empty"},
		{"a volume twice", qemu(func(d *signedop.Document) { d.Expect.Volumes = []string{"a:1", "a:1"} }), "expect.volumes[1]", "sort"},
		{"volumes not sorted", qemu(func(d *signedop.Document) { d.Expect.Volumes = []string{"b:1", "a:1"} }), "expect.volumes[1]", "sort"},
		{"too many volumes", qemu(func(d *signedop.Document) { d.Expect.Volumes = make([]string, signedop.MaxListItems+1) }), "expect.volumes", "257 items"},
		{"a guest's members without a guest", qemu(func(d *signedop.Document) {
			d.Class, d.Params, d.Target = op.StorageWipe, op.Params{}, op.Target{Node: "pve1", Disk: "/dev/sdb"}
		}), "expect", "no guest"},

		{"a rollback", qemu(rollback), "", ""},
		{"a rollback to a snapshot of any time", qemu(rollback, func(d *signedop.Document) { d.Expect.Snapshot = nil }), "expect.snapshot", "when the snapshot was made"},
		{"a rollback of any machine", qemu(rollback, func(d *signedop.Document) { d.Expect.SMBIOSUUID = "" }), "expect.smbios_uuid", "must expect"},
		{"a snapshot of no time", qemu(rollback, func(d *signedop.Document) { d.Expect.Snapshot.Time = 0 }), "expect.snapshot.time", "UNIX seconds"},
		{"a snapshot of a destroy", qemu(func(d *signedop.Document) { d.Expect.Snapshot = &signedop.SnapshotExpect{Time: 1} }), "expect.snapshot", "is not about one"},
		{"a restore", qemu(restore), "", ""},
		{"a restore of any archive", qemu(restore, func(d *signedop.Document) { d.Expect.Archive = nil }), "expect.archive", "must expect"},
		{"an archive of no size", qemu(restore, func(d *signedop.Document) { d.Expect.Archive.Size = -1 }), "expect.archive.size", "size in bytes"},
		{"an archive of time zero", qemu(restore, func(d *signedop.Document) { d.Expect.Archive.CTime = ctime(0) }), "expect.archive.ctime", "UNIX seconds"},
		{"a volume", qemu(volume), "", ""},
		{"a volume without time", qemu(volume, func(d *signedop.Document) { d.Expect.Volume.CTime = nil }), "", ""},
		{"any volume of that id", qemu(volume, func(d *signedop.Document) { d.Expect.Volume = nil }), "expect.volume", "must expect"},
		{"a pool", qemu(pool), "", ""},
		{"any pool of that name", qemu(pool, func(d *signedop.Document) { d.Expect.Pool = nil }), "expect.pool", "must expect"},
		{"a pool on nothing", qemu(pool, func(d *signedop.Document) { d.Expect.Pool.Members = nil }), "expect.pool.members", "missing or empty"},
		{"members of a pool not sorted", qemu(pool, func(d *signedop.Document) { d.Expect.Pool.Members = []string{"/dev/sdc", "/dev/sdb"} }), "expect.pool.members[1]", "sort"},
		{"a disk", qemu(disk), "", ""},
		{"any disk at that path", qemu(disk, func(d *signedop.Document) { d.Expect.Disk = nil }), "expect.disk", "must expect"},
		{"a disk without a number", qemu(disk, func(d *signedop.Document) { d.Expect.Disk.Serial = "" }), "expect.disk", "neither serial nor wwn"},
		{"a disk by a number with a control", qemu(disk, func(d *signedop.Document) { d.Expect.Disk.Serial = "a\x1bb" }), "expect.disk.serial", "U+001B"},
		{"a disk and its model", qemu(disk, func(d *signedop.Document) { d.Expect.Disk.WWN, d.Expect.Disk.Model = "0x5002538e", "Samsung 870" }), "", ""},
		{"a disk of a model with a control", qemu(disk, func(d *signedop.Document) { d.Expect.Disk.Model = "a\nb" }), "expect.disk.model", "U+000A"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.doc.Check()
			payload, encodeErr := c.doc.Encode()
			if (err == nil) != (encodeErr == nil) || (payload == nil) != (err != nil) {
				t.Errorf("Check gives %v, Encode %q, %v", err, payload, encodeErr)
			}
			if c.field == "" {
				if err != nil {
					t.Errorf("got %v, want nil", err)
				} else {
					parse(t, rawEnvelope(payload))
				}
				return
			}
			m, ok := errors.AsType[*signedop.MalformedError](err)
			if !ok || m.Field != c.field || !strings.Contains(m.Why, c.why) {
				t.Errorf("got %v, want field %s, why with %q", err, c.field, c.why)
			}
		})
	}
}

func TestCheckName(t *testing.T) {
	for _, s := range []string{"a", "0", "alice", "Alice.Smith_2@example.org", "on-call"} {
		if err := signedop.CheckName(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{"", "-a", ".a", "@a", "a b", "a/b", "a\x00", "ä", "a+b", strings.Repeat("a", 65)} {
		if err := signedop.CheckName(s); err == nil {
			t.Errorf("%q: got nil, want an error", s)
		}
	}
}

// What makes an order of one class of another class.

func rollback(d *signedop.Document) {
	d.Class, d.Params = op.SnapshotRollback, op.Params{Snapshot: "before-upgrade"}
	d.Expect.Snapshot = &signedop.SnapshotExpect{Time: 1751328100}
}

func restore(d *signedop.Document) {
	d.Class, d.Params = op.RestoreOverwrite, op.Params{Archive: "local:backup/vzdump-qemu-105-2026_11_01-02_00_00.vma.zst", Storage: "local-lvm"}
	d.Expect.Archive = &signedop.VolumeExpect{Size: 1 << 30, CTime: ctime(1751328100)}
}

func volume(d *signedop.Document) {
	d.Class, d.Params, d.Target = op.VolumeDelete, op.Params{}, op.Target{Node: "pve1", Volume: "local-lvm:vm-105-disk-1"}
	d.Expect = signedop.Expect{Volume: &signedop.VolumeExpect{Size: 1 << 30, CTime: ctime(1751328100)}}
}

func pool(d *signedop.Document) {
	d.Class, d.Params, d.Target = op.StorageWipe, op.Params{}, op.Target{Node: "pve1", Pool: &op.Pool{Kind: op.ZFS, Name: "tank"}}
	d.Expect = signedop.Expect{Pool: &signedop.PoolExpect{Size: 1 << 40, Members: []string{"/dev/sdb", "/dev/sdc"}}}
}

func disk(d *signedop.Document) {
	d.Class, d.Params, d.Target = op.StorageWipe, op.Params{}, op.Target{Node: "pve1", Disk: "/dev/sdb"}
	d.Expect = signedop.Expect{Disk: &signedop.DiskExpect{Size: 1 << 40, Serial: "S4EWNX0M"}}
}

func ctime(n int64) *int64 { return &n }
