package op

import (
	"fmt"
	"strings"
)

// CheckNodeName refuses what can't be the name of a Proxmox VE node. Nothing
// else may ever be put into the path of a request.
func CheckNodeName(s string) error {
	if s == "" || len(s) > 63 {
		return fmt.Errorf("%q is not a node name: 1 to 63 characters are required", clip(s))
	}
	for i := range len(s) {
		c := s[i]
		alnum := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !alnum && (c != '-' || i == 0 || i == len(s)-1) {
			return fmt.Errorf("%q is not a node name: letters, digits and inner hyphens only", clip(s))
		}
	}
	return nil
}

// CheckStorageName refuses what can't be the name of a storage, a pool or a
// volume group (Proxmox VE: pve-common JSONSchema.pm#parse_storage_id).
func CheckStorageName(s string) error {
	if len(s) < 2 || len(s) > 100 {
		return fmt.Errorf("%q is not a storage's name: 2 to 100 characters are required", clip(s))
	}
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		digit := '0' <= c && c <= '9'
		if letter || digit && i > 0 || strings.IndexByte("-_.", c) >= 0 && i > 0 && i < len(s)-1 {
			continue
		}
		return fmt.Errorf("%q is not a storage's name: a letter, then letters, digits and inner - _ . only", clip(s))
	}
	return nil
}

// maxVolumeID is how long Proxmox VE lets the id of an archive be.
const maxVolumeID = 255

// CheckVolumeID refuses what can't be the id of a volume, or could mean another
// one in the path of a request.
func CheckVolumeID(s string) error {
	storage, name, ok := strings.Cut(s, ":")
	if !ok || name == "" || len(s) > maxVolumeID {
		return fmt.Errorf("%q is not a volume id: a storage, a colon and a name, of %d characters at most", clip(s), maxVolumeID)
	}
	if err := CheckStorageName(storage); err != nil {
		return err
	}
	for i := range len(name) {
		c := name[i]
		alnum := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !alnum && strings.IndexByte("-_.+=@:/", c) < 0 {
			return fmt.Errorf("%q is not a volume id that can be acted on: letters, digits and - _ . + = @ : / only", clip(s))
		}
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." {
			return fmt.Errorf("%q is not a volume id: its name has an empty part, or one that leads elsewhere", clip(s))
		}
	}
	return nil
}

// checkDisk refuses what Proxmox VE does not take for a disk (pve-storage
// API2/Disks.pm), and what leads elsewhere.
func checkDisk(s string) error {
	name, ok := strings.CutPrefix(s, "/dev/")
	if !ok || len(s) > 64 {
		return fmt.Errorf("%q is not the path of a device, such as /dev/sdb", clip(s))
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" {
			return fmt.Errorf("%q is not the path of a device: it has an empty part", clip(s))
		}
		for i := range len(part) {
			c := part[i]
			if ('a' > c || c > 'z') && ('A' > c || c > 'Z') && ('0' > c || c > '9') {
				return fmt.Errorf("%q is not the path of a device: letters, digits and slashes only", clip(s))
			}
		}
	}
	return nil
}

// CheckSnapshotName refuses what can't be the name of a snapshot (Proxmox VE:
// pve-common JSONSchema.pm, format pve-configid, at most 40 characters), and
// the name by which the host calls what is no snapshot.
func CheckSnapshotName(s string) error {
	if len(s) < 2 || len(s) > 40 || s == "current" {
		return fmt.Errorf("%q is not a snapshot's name: 2 to 40 characters are required, and not the word current", clip(s))
	}
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || ('0' > c || c > '9') && c != '-' && c != '_') {
			return fmt.Errorf("%q is not a snapshot's name: a letter, then letters, digits, - and _ only", clip(s))
		}
	}
	return nil
}

// clip keeps foreign text in an error short.
func clip(s string) string {
	if len(s) <= 64 {
		return s
	}
	return s[:64] + "…"
}
