package signedop

import (
	"fmt"
	"slices"

	"writ/domain/op"
)

// Expect binds an op to what its signers saw: a VMID is reused within seconds,
// so a signature over a number alone is not one over a machine. A member that
// is absent (empty, or nil) expects nothing. MACs and Volumes that are empty
// but not nil expect a guest without network or without volumes.
type Expect struct {
	Name       string   `json:"name,omitzero"`        // name (qemu) or hostname (lxc)
	SMBIOSUUID string   `json:"smbios_uuid,omitzero"` // qemu; lower case
	VMGenID    string   `json:"vmgenid,omitzero"`     // qemu; lower case
	Digest     string   `json:"digest,omitzero"`      // SHA-1 of the config file by the host, lower-case hex
	WritID     string   `json:"writ_id,omitzero"`     // marker in the description: 32 lower-case hex digits
	Status     string   `json:"status,omitzero"`      // running or stopped
	CTime      *int64   `json:"ctime,omitzero"`       // qemu: creation time of the config, UNIX seconds
	MACs       []string `json:"macs,omitzero"`        // upper case, in the order of the interfaces
	Volumes    []string `json:"volumes,omitzero"`     // volume ids, sorted, each once

	// Of the classes that are about one of these.
	Snapshot *SnapshotExpect `json:"snapshot,omitzero"`
	Archive  *VolumeExpect   `json:"archive,omitzero"` // the backup that is restored
	Volume   *VolumeExpect   `json:"volume,omitzero"`  // the volume or backup that is deleted
	Pool     *PoolExpect     `json:"pool,omitzero"`
	Disk     *DiskExpect     `json:"disk,omitzero"`

	// Plan is the digest of the plan that the signers saw, SHA-256 in lower-case
	// hex (op.Plan): nothing more, less or else is to be taken away.
	Plan string `json:"plan,omitzero"`
}

// SnapshotExpect tells a snapshot from another one of its name.
type SnapshotExpect struct {
	Time int64 `json:"time"` // when it was made, UNIX seconds (Proxmox VE: snaptime)
}

// VolumeExpect tells a volume or backup from another one of its id.
type VolumeExpect struct {
	Size int64 `json:"size"` // bytes
	// CTime is absent where the storage knows none (ZFS, RBD).
	CTime *int64 `json:"ctime,omitzero"` // UNIX seconds
}

// PoolExpect tells a pool from another one of its name.
type PoolExpect struct {
	Size    int64    `json:"size"`    // bytes
	Members []string `json:"members"` // device paths, sorted, each once
}

// DiskExpect tells a disk from another one under its path. One of Serial and
// WWN is required.
type DiskExpect struct {
	Serial string `json:"serial,omitzero"`
	WWN    string `json:"wwn,omitzero"`
	Model  string `json:"model,omitzero"`
	Size   int64  `json:"size"` // bytes
}

// Lengths in hex digits.
const (
	sha1Digits   = 40
	sha256Digits = 64
	writIDDigits = 32
)

// check refuses expectations that are out of form, that the target can't
// have, or that leave out what the class requires.
func (e Expect) check(in op.Intent) error {
	if err := e.checkForm(); err != nil {
		return err
	}
	class, target := in.Class, in.Target
	if target.Guest == nil && !e.ofGuest().isZero() {
		return malformed("expect", "the target is no guest: it has none of a guest's members")
	}
	if target.Guest != nil && target.Guest.Type == op.LXC {
		if err := e.checkContainer(); err != nil {
			return err
		}
	}
	if err := e.checkSubject(in); err != nil {
		return err
	}
	switch class {
	case op.GuestDestroy, op.RestoreOverwrite, op.SnapshotRollback, op.SnapshotDelete, op.GuestStop, op.GuestShutdown, op.GuestReboot:
		return e.checkIdentifies(class, target.Guest.Type)
	case op.GuestStart, op.SnapshotCreate, op.BackupCreate:
		return nil // benign: nothing is lost if it is another guest
	case op.VolumeDelete, op.BackupDelete, op.StorageWipe:
		return nil // what they are about was asked for above
	}
	return malformed("class", "%s is unknown", quote(string(class)))
}

// ofGuest is what is expected of a guest.
func (e Expect) ofGuest() Expect {
	e.Snapshot, e.Archive, e.Volume, e.Pool, e.Disk = nil, nil, nil, nil, nil
	e.Plan = ""
	return e
}

func (e Expect) isZero() bool {
	return e.Name == "" && e.SMBIOSUUID == "" && e.VMGenID == "" && e.Digest == "" && e.WritID == "" && e.Status == "" &&
		e.CTime == nil && e.MACs == nil && e.Volumes == nil
}

func (e Expect) clone() Expect {
	e.CTime = op.CloneOf(e.CTime)
	e.MACs, e.Volumes = slices.Clone(e.MACs), slices.Clone(e.Volumes)
	e.Snapshot, e.Disk = op.CloneOf(e.Snapshot), op.CloneOf(e.Disk)
	e.Archive, e.Volume = e.Archive.clone(), e.Volume.clone()
	if e.Pool = op.CloneOf(e.Pool); e.Pool != nil {
		e.Pool.Members = slices.Clone(e.Pool.Members)
	}
	return e
}

// checkIdentifies refuses expectations that don't tell the guest from the next
// one under its VMID.
func (e Expect) checkIdentifies(class op.Class, kind op.GuestType) error {
	missing := func(field, what string) error {
		return malformed(field, "missing: %s of a guest of type %s must expect %s", class, kind, what)
	}
	if e.Volumes == nil {
		return missing("expect.volumes", "its volumes ([] if it has none)")
	}
	if kind == op.QEMU {
		if e.SMBIOSUUID == "" {
			return missing("expect.smbios_uuid", "its SMBIOS UUID")
		}
		return nil
	}
	switch {
	case e.Name == "":
		return missing("expect.name", "its hostname")
	case e.MACs == nil:
		return missing("expect.macs", "its MAC addresses ([] if it has none)")
	case e.Digest == "" && e.WritID == "":
		return missing("expect.digest", "its config's digest, or instead its writ_id")
	}
	return nil
}

// checkContainer refuses what only virtual machines have.
func (e Expect) checkContainer() error {
	for _, x := range []struct {
		field string
		given bool
	}{
		{"expect.smbios_uuid", e.SMBIOSUUID != ""},
		{"expect.vmgenid", e.VMGenID != ""},
		{"expect.ctime", e.CTime != nil},
	} {
		if x.given {
			return malformed(x.field, "a container (lxc) has no such thing")
		}
	}
	return nil
}

func (e Expect) checkForm() error {
	for _, x := range []struct {
		field, value string
		check        func(string) error
	}{
		{"expect.name", e.Name, checkHostText},
		{"expect.smbios_uuid", e.SMBIOSUUID, checkUUID},
		{"expect.vmgenid", e.VMGenID, checkUUID},
		{"expect.digest", e.Digest, func(s string) error { return checkHex(s, sha1Digits) }},
		{"expect.writ_id", e.WritID, func(s string) error { return checkHex(s, writIDDigits) }},
		{"expect.status", e.Status, checkStatus},
		{"expect.plan", e.Plan, func(s string) error { return checkHex(s, sha256Digits) }},
	} {
		if x.value == "" {
			continue
		}
		if err := x.check(x.value); err != nil {
			return &MalformedError{Field: x.field, Why: err.Error()}
		}
	}
	if e.CTime != nil && (*e.CTime < 1 || *e.CTime > maxInteger) {
		return malformed("expect.ctime", "%d is not a time in UNIX seconds", *e.CTime)
	}
	if err := checkList("expect.macs", e.MACs, checkMAC); err != nil {
		return err
	}
	if err := checkList("expect.volumes", e.Volumes, checkHostText); err != nil {
		return err
	}
	return checkSorted("expect.volumes", "volume ids", e.Volumes)
}

func checkSorted(field, what string, items []string) error {
	for i := 1; i < len(items); i++ {
		if items[i-1] >= items[i] {
			return malformed(fmt.Sprintf("%s[%d]", field, i), "%s does not sort after the one before it: sorted %s, each once, are required", quote(items[i]), what)
		}
	}
	return nil
}

func checkHostText(s string) error { return checkText(s, MaxTextBytes) }

func checkStatus(s string) error {
	if !slices.Contains([]string{"running", "stopped"}, s) {
		return fmt.Errorf("%s is neither running nor stopped", quote(s))
	}
	return nil
}

func checkList(field string, items []string, check func(string) error) error {
	if len(items) > MaxListItems {
		return malformed(field, "%d items, at most %d are allowed", len(items), MaxListItems)
	}
	for i, item := range items {
		if err := check(item); err != nil {
			return malformed(fmt.Sprintf("%s[%d]", field, i), "%v", err)
		}
	}
	return nil
}
