package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"writ/domain/op"
	"writ/domain/signedop"
)

// expectFlags say what the signer expects of the guest, when it is not read
// from the host.
type expectFlags struct {
	name, smbiosUUID, vmGenID, digest, writID, status string
	ctime                                             int64
	macs, volumes                                     []string
	noMACs, noVolumes                                 bool

	snapshotTime, size, volumeCTime int64
	members                         []string
	serial, wwn                     string
	plan                            string
}

// expectFlagNames are all flags that register adds.
func expectFlagNames() []string {
	return []string{
		"expect-name", "expect-smbios-uuid", "expect-vmgenid", "expect-digest", "expect-writ-id", "expect-status",
		"expect-ctime", "expect-mac", "no-macs", "expect-volume", "no-volumes",
		"expect-snapshot-time", "expect-size", "expect-volume-ctime", "expect-member", "expect-serial", "expect-wwn", "expect-plan",
	}
}

func (f *expectFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.name, "expect-name", "", "offline: the guest's name (lxc: hostname)")
	fl.StringVar(&f.smbiosUUID, "expect-smbios-uuid", "", "offline: its SMBIOS UUID (qemu)")
	fl.StringVar(&f.vmGenID, "expect-vmgenid", "", "offline: its generation id (qemu; required if it has one)")
	fl.StringVar(&f.digest, "expect-digest", "", "offline: SHA-1 of its config, as the host gives it")
	fl.StringVar(&f.writID, "expect-writ-id", "", "offline: the marker writ-id in its description")
	fl.StringVar(&f.status, "expect-status", "", "offline: running or stopped")
	fl.Int64Var(&f.ctime, "expect-ctime", 0, "offline: creation time of its config, UNIX seconds (qemu)")
	fl.StringArrayVar(&f.macs, "expect-mac", nil, "offline: a MAC address, in the order of its interfaces; repeat for each")
	fl.BoolVar(&f.noMACs, "no-macs", false, "offline: it has no network interface")
	fl.StringArrayVar(&f.volumes, "expect-volume", nil, "offline: a volume id such as local-lvm:vm-105-disk-0; repeat for each")
	fl.BoolVar(&f.noVolumes, "no-volumes", false, "offline: it has no volume")
	fl.Int64Var(&f.snapshotTime, "expect-snapshot-time", 0, "offline: when the snapshot was made, UNIX seconds")
	fl.Int64Var(&f.size, "expect-size", -1, "offline: size of the archive, volume, pool or disk, in bytes")
	fl.Int64Var(&f.volumeCTime, "expect-volume-ctime", 0, "offline: time of the archive or volume, UNIX seconds (required where its storage has one)")
	fl.StringArrayVar(&f.members, "expect-member", nil, "offline: a device of the pool, such as /dev/sdb; repeat for each")
	fl.StringVar(&f.serial, "expect-serial", "", "offline: serial number of the disk")
	fl.StringVar(&f.wwn, "expect-wwn", "", "offline: world wide name of the disk")
	fl.StringVar(&f.plan, "expect-plan", "", "offline: digest of what is taken away, as writ plan has shown it")
}

// expect makes the expectations of the flags. Whether they suffice for the
// class is the document's own check.
func (f expectFlags) expect(in op.Intent) (signedop.Expect, error) {
	switch {
	case f.noVolumes && len(f.volumes) > 0:
		return signedop.Expect{}, usagef("--no-volumes and --expect-volume exclude each other")
	case f.noMACs && len(f.macs) > 0:
		return signedop.Expect{}, usagef("--no-macs and --expect-mac exclude each other")
	}
	x := signedop.Expect{
		Name: f.name, SMBIOSUUID: strings.ToLower(f.smbiosUUID), VMGenID: strings.ToLower(f.vmGenID),
		Digest: strings.ToLower(f.digest), WritID: strings.ToLower(f.writID), Status: f.status, Plan: strings.ToLower(f.plan),
	}
	if f.ctime != 0 {
		x.CTime = &f.ctime
	}
	for _, m := range f.macs {
		x.MACs = append(x.MACs, strings.ToUpper(m))
	}
	x.Volumes = slices.Clone(f.volumes)
	slices.Sort(x.Volumes)
	if f.noVolumes {
		x.Volumes = []string{}
	}
	if f.noMACs {
		x.MACs = []string{}
	}
	f.subject(in, &x)
	return x, nil
}

// subject adds what is expected of what the op is about beside a guest, or
// instead of one.
func (f expectFlags) subject(in op.Intent, x *signedop.Expect) {
	if f.snapshotTime != 0 {
		x.Snapshot = &signedop.SnapshotExpect{Time: f.snapshotTime}
	}
	if f.size < 0 {
		return
	}
	volume := &signedop.VolumeExpect{Size: f.size}
	if f.volumeCTime != 0 {
		volume.CTime = &f.volumeCTime
	}
	switch {
	case in.Params.Archive != "":
		x.Archive = volume
	case in.Target.Volume != "":
		x.Volume = volume
	case in.Target.Pool != nil:
		x.Pool = &signedop.PoolExpect{Size: f.size, Members: slices.Sorted(slices.Values(f.members))}
	case in.Target.Disk != "":
		x.Disk = &signedop.DiskExpect{Serial: f.serial, WWN: f.wwn, Size: f.size}
	}
}

// expectOf makes the expectations of an op from what the host shows: what tells
// its guest from the next one under the VMID, and of a container, which has no
// identity of its own, whatever helps; then what else the op is about. Strict
// adds what changes more easily, so that any change to the guest voids the order.
func expectOf(seen op.Observed, strict bool) signedop.Expect {
	var x signedop.Expect
	if seen.VMID != 0 {
		x = expectGuest(seen, strict)
	}
	if s := seen.Snapshot; s != nil {
		x.Snapshot = &signedop.SnapshotExpect{Time: s.Time}
	}
	x.Archive, x.Volume = expectVolume(seen.Archive), expectVolume(seen.Volume)
	if p := seen.Pool; p != nil {
		x.Pool = &signedop.PoolExpect{Size: p.Size, Members: p.Members}
	}
	if d := seen.Disk; d != nil {
		x.Disk = &signedop.DiskExpect{Serial: d.Serial, WWN: d.WWN, Model: d.Model, Size: d.Size}
	}
	return x
}

func expectVolume(v *op.VolumeSeen) *signedop.VolumeExpect {
	if v == nil {
		return nil
	}
	x := &signedop.VolumeExpect{Size: v.Size}
	if v.CTime != 0 {
		x.CTime = &v.CTime
	}
	return x
}

func expectGuest(seen op.Observed, strict bool) signedop.Expect {
	x := signedop.Expect{Name: seen.Name, Volumes: notNil(seen.Volumes), WritID: seen.WritID}
	if seen.Type == op.QEMU {
		x.SMBIOSUUID, x.VMGenID = seen.SMBIOSUUID, seen.VMGenID
		if seen.CTime != 0 {
			x.CTime = &seen.CTime
		}
	} else {
		x.MACs = notNil(seen.MACs)
		if seen.WritID == "" {
			x.Digest = seen.Digest
		}
	}
	if strict {
		x.MACs, x.Digest, x.Status = notNil(seen.MACs), seen.Digest, seen.Status
	}
	return x
}

// notNil makes "has none" of "was not given": what was read is known.
func notNil(items []string) []string {
	if items == nil {
		return []string{}
	}
	return slices.Clone(items)
}
