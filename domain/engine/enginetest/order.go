package enginetest

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"testing"
	"time"

	"writ/domain/gate"
	"writ/domain/op"
	"writ/domain/signedop"
)

// Ledger is the id of the ledger that every order is for, and Site the service
// that carries it out.
const Ledger = "3f9c2ab41d6e4a70"

// Site is the service that carries every order out.
func Site() gate.Site { return gate.Site{Agent: "lab", Ledger: Ledger} }

// An Order is one submission: a writ, or of a benign class what a caller asks for.
type Order struct {
	Class    Class
	Intent   op.Intent
	Envelope []byte // empty of a benign class
	Caller   string
	Nonce    op.Nonce // empty of a benign class, which gets one when it is claimed

	seen op.Observed // its target, untouched
}

const (
	caller  = "ci"
	madeAt  = int64(1751328100) // of snapshots, archives and volumes
	archive = "local:backup/vzdump-qemu-105-2026_11_01-02_00_00.vma.zst"
	volume  = "tank:vm-105-disk-1"
)

// Policy allows every order.
func Policy(tb testing.TB) *gate.Policy {
	tb.Helper()
	public := signer(tb).Key().Public
	on := gate.On{VMIDs: []string{"100-199"}, Storages: []string{"tank"}}
	var signed, benign []op.Class
	for _, c := range op.Classes() {
		if c.Benign() {
			benign = append(benign, c)
		} else {
			signed = append(signed, c)
		}
	}
	p, err := gate.Compile(gate.PolicyDocument{
		Version: 1,
		People: map[string]gate.Person{"alice": {Keys: []gate.Key{{
			Key: public.Type() + " " + base64.StdEncoding.EncodeToString(public.Marshal()), Format: "raw",
		}}}},
		Roles: map[string]gate.Role{"operator": {
			Holders: []string{"alice"}, Quorum: 1, MaxLifetime: "24h", RequesterCounts: true, Allow: []gate.Rule{{Classes: signed, On: on}},
		}},
		Benign: []gate.BenignRule{{Callers: []string{caller}, Classes: benign, On: on}},
	}, 1)
	if err != nil {
		tb.Fatalf("policy: %v", err)
	}
	return p
}

func signer(tb testing.TB) signedop.Signer {
	tb.Helper()
	seed := sha256.Sum256([]byte("alice"))
	alice, err := signedop.NewRawSigner(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		tb.Fatalf("signer: %v", err)
	}
	return alice
}

// NewOrder gives an order of a class, signed if it is not benign, good from now on
// for an hour.
func NewOrder(tb testing.TB, c Class, now time.Time) Order {
	tb.Helper()
	yes := true
	seen := op.Observed{
		Found: true, Node: "pve1", Type: op.QEMU, VMID: 105, Name: "web-3", SMBIOSUUID: "5c6f0f0e-7a3b-4d1c-9e2f-0a1b2c3d4e5f",
		Volumes: []string{"local-lvm:vm-105-disk-0"}, Digest: "plain", Status: "stopped", NodeOnline: true, Quorate: true,
	}
	doc := signedop.Document{
		Version: 1, Nonce: "6f1c9a0e5d7b4c2f8a3e1d0c9b8a7f6e", Audience: "lab/" + Ledger, Class: c.Class,
		Target: op.Target{Node: "pve1", Guest: &op.Guest{Type: op.QEMU, VMID: 105}},
		Expect: signedop.Expect{Name: seen.Name, SMBIOSUUID: seen.SMBIOSUUID, Volumes: seen.Volumes},
		Role:   "operator", RequestedBy: "alice", NotBefore: now, ExpiresAt: now.Add(time.Hour), Reason: "no longer needed",
	}
	at := madeAt
	switch c.Class {
	case op.GuestDestroy, op.GuestStart:
	case op.RestoreOverwrite:
		doc.Params.Archive, doc.Params.Storage = archive, "local-lvm"
		doc.Expect.Archive = &signedop.VolumeExpect{Size: 1 << 30, CTime: &at}
		seen.Archive = &op.VolumeSeen{ID: archive, Size: 1 << 30, CTime: at, Content: "backup", VMID: 105}
	case op.SnapshotRollback, op.SnapshotDelete:
		doc.Params.Snapshot = "before"
		doc.Expect.Snapshot = &signedop.SnapshotExpect{Time: at}
		seen.Snapshot = &op.SnapshotSeen{Name: "before", Time: at}
	case op.SnapshotCreate:
		doc.Params.Snapshot = "before"
	case op.GuestStop, op.GuestShutdown, op.GuestReboot:
		seen.Status = "running"
	case op.BackupCreate:
		doc.Params.Storage = "tank"
	case op.VolumeDelete, op.BackupDelete:
		content := map[op.Class]string{op.VolumeDelete: "images", op.BackupDelete: "backup"}[c.Class]
		doc.Target = op.Target{Node: "pve1", Volume: volume}
		doc.Expect = signedop.Expect{Volume: &signedop.VolumeExpect{Size: 1 << 30, CTime: &at}}
		seen = op.Observed{
			Found: true, Node: "pve1", NodeOnline: true, Quorate: true,
			Volume: &op.VolumeSeen{ID: volume, Size: 1 << 30, CTime: at, Content: content, VMID: 105},
		}
	case op.StorageWipe:
		pool := op.Pool{Kind: op.ZFS, Name: "tank"}
		doc.Target = op.Target{Node: "pve1", Pool: &pool}
		doc.Params.CleanupConfig = &yes
		doc.Expect = signedop.Expect{Pool: &signedop.PoolExpect{Size: 1 << 40, Members: []string{"/dev/sdb", "/dev/sdc"}}}
		seen = op.Observed{
			Found: true, Node: "pve1", NodeOnline: true, Quorate: true,
			Pool: &op.PoolSeen{Pool: pool, Size: 1 << 40, Members: []string{"/dev/sdb", "/dev/sdc"}, Storages: []string{"tank"}},
		}
	}
	o := Order{Class: c, Intent: doc.Intent(), Caller: caller, seen: seen}
	if c.Benign() {
		return o
	}
	raw, err := signedop.Seal(doc, signer(tb))
	if err != nil {
		tb.Fatalf("seal an order of class %s: %v", c.Class, err)
	}
	o.Envelope, o.Nonce = raw, doc.Nonce
	return o
}

// Seen is the order's target as an executor would observe it in a state.
func (o Order) Seen(s State) op.Observed {
	seen := o.seen
	snapshot := func(time int64) *op.SnapshotSeen { return &op.SnapshotSeen{Name: "before", Time: time} }
	switch o.Class.Class {
	case op.GuestDestroy:
		if s == Done {
			return op.Observed{NodeOnline: true, Quorate: true}
		}
	case op.RestoreOverwrite, op.SnapshotRollback:
		if s != Untouched {
			seen.VMGenID = "0b9e6a56-2f5e-4c51-9a3e-0d1c2b3a4f5e"
		}
	case op.SnapshotDelete:
		seen.Snapshot = map[State]*op.SnapshotSeen{Untouched: snapshot(madeAt), Half: snapshot(madeAt), Undone: snapshot(madeAt + 1)}[s]
	case op.SnapshotCreate:
		seen.Snapshot = map[State]*op.SnapshotSeen{Half: snapshot(madeAt), Done: snapshot(madeAt)}[s]
	case op.VolumeDelete, op.BackupDelete:
		if v := *seen.Volume; s == Undone {
			v.CTime++
			seen.Volume = &v
		}
		if s == Done {
			seen.Found, seen.Volume = false, nil
		}
	case op.StorageWipe:
		if p := *seen.Pool; s == Undone {
			p.Members = []string{"/dev/sdd"}
			seen.Pool = &p
		}
		if s == Half || s == Done {
			seen.Found, seen.Pool = false, nil
		}
	case op.GuestStop, op.GuestShutdown:
		seen.Status = map[bool]string{true: "stopped", false: "running"}[s == Done]
	case op.GuestReboot:
		seen.Status = map[bool]string{true: "stopped", false: "running"}[s == Half]
	case op.GuestStart:
		seen.Status = map[bool]string{true: "running", false: "stopped"}[s == Done]
	case op.BackupCreate:
	}
	if s == Half && o.Class.Class != op.GuestDestroy && o.Class.Class != op.GuestStop && o.Class.Class != op.GuestShutdown && o.Class.Class != op.GuestReboot {
		seen.Lock = "in the middle"
	}
	return seen
}

// Facts are what the gate is told of the target.
func (o Order) Facts(s State) op.Facts {
	f := op.Facts{Found: true, Node: "pve1", Storages: []string{"tank"}}
	if o.Intent.Target.Guest != nil {
		f.Name, f.Storages, f.Found = "web-3", []string{"local-lvm"}, o.Class.Class != op.GuestDestroy || s != Done
	}
	return f
}
