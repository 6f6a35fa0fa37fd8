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
}

// Lengths in hex digits.
const (
	sha1Digits   = 40
	writIDDigits = 32
)

// check refuses expectations that are out of form, that the target can't
// have, or that leave out what the class requires.
func (e Expect) check(class op.Class, target op.Target) error {
	if err := e.checkForm(); err != nil {
		return err
	}
	if target.Guest == nil && !e.isZero() {
		return malformed("expect", "the target is no guest: it has none of these members")
	}
	if target.Guest != nil && target.Guest.Type == op.LXC {
		if err := e.checkContainer(); err != nil {
			return err
		}
	}
	switch class {
	case op.GuestDestroy, op.GuestStop, op.GuestShutdown, op.GuestReboot:
		return e.checkIdentifies(class, target.Guest.Type)
	case op.GuestStart, op.SnapshotCreate, op.BackupCreate:
		return nil // benign: nothing is lost if it is another guest
	case op.RestoreOverwrite, op.SnapshotRollback, op.SnapshotDelete, op.VolumeDelete, op.BackupDelete, op.StorageWipe:
		// Their required expectations (archive, snapshot, volume or disk)
		// have no member in this version. Without them a signature would not
		// be over one thing, so there is no document to sign.
		return malformed("class", "version %d of the document can't say what %s must expect, so it can't be ordered", Version, class)
	}
	return malformed("class", "%s is unknown", quote(string(class)))
}

func (e Expect) isZero() bool {
	return e.Name == "" && e.SMBIOSUUID == "" && e.VMGenID == "" && e.Digest == "" && e.WritID == "" && e.Status == "" &&
		e.CTime == nil && e.MACs == nil && e.Volumes == nil
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
	for i := 1; i < len(e.Volumes); i++ {
		if e.Volumes[i-1] >= e.Volumes[i] {
			return malformed(fmt.Sprintf("expect.volumes[%d]", i), "%s does not sort after the one before it: sorted volume ids, each once, are required", quote(e.Volumes[i]))
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
