package main

import (
	"fmt"
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
}

// expectFlagNames are all flags that register adds.
func expectFlagNames() []string {
	return []string{
		"expect-name", "expect-smbios-uuid", "expect-vmgenid", "expect-digest", "expect-writ-id", "expect-status",
		"expect-ctime", "expect-mac", "no-macs", "expect-volume", "no-volumes",
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
}

// expect makes the expectations of the flags. Whether they suffice for the
// class is the document's own check.
func (f expectFlags) expect() (signedop.Expect, error) {
	switch {
	case f.noVolumes && len(f.volumes) > 0:
		return signedop.Expect{}, usagef("--no-volumes and --expect-volume exclude each other")
	case f.noMACs && len(f.macs) > 0:
		return signedop.Expect{}, usagef("--no-macs and --expect-mac exclude each other")
	}
	x := signedop.Expect{
		Name: f.name, SMBIOSUUID: strings.ToLower(f.smbiosUUID), VMGenID: strings.ToLower(f.vmGenID),
		Digest: strings.ToLower(f.digest), WritID: strings.ToLower(f.writID), Status: f.status,
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
	return x, nil
}

// expectOf makes the expectations of a guest as the host shows it: what tells
// it from the next one under its VMID, and of a container, which has no
// identity of its own, whatever helps. Strict adds what changes more easily,
// so that any change to the guest voids the order.
func expectOf(seen op.Observed, strict bool) signedop.Expect {
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

// obstacles are what the host shows that would keep a destroy from running,
// for the signer to know beforehand.
func obstacles(d signedop.Document, seen op.Observed) []string {
	var why []string
	if seen.Protection {
		why = append(why, "it is protected: the order will be refused until somebody takes the protection away")
	}
	if seen.Lock != "" {
		why = append(why, fmt.Sprintf("it is locked (%s): the order will be refused until the lock is gone", seen.Lock))
	}
	if seen.Status == "running" && !isTrue(d.Params.Force) {
		why = append(why, "it is running: the order will be refused until it is stopped")
	}
	if seen.HAManaged {
		why = append(why, "it is managed by HA: the order will be refused until it is taken out of HA")
	}
	return why
}
