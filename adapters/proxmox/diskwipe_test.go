package proxmox_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"writ/adapters/proxmox"
	"writ/adapters/pvesim"
	"writ/domain/engine"
	"writ/domain/op"
)

const rootPassword = "a horse of root"

// oldDisk is what disks are mostly wiped of.
var oldDisk = pvesim.Disk{
	Node: "pve1", DevPath: "/dev/sdb", Size: 1 << 40, Serial: "S4EWNX0M", WWN: "0x5002538e00000001", Model: "Samsung_870", Used: "ext4",
	ByIDLink: "/dev/disk/by-id/ata-Samsung_870_S4EWNX0M",
}

// withDisk plugs the disk in, and gives the Host the password of root.
func (r *classRig) withDisk(change ...func(*pvesim.Disk)) {
	r.t.Helper()
	r.sim.AddUser("root@pam", rootPassword)
	r.conf.WipePassword = rootPassword
	if r.own {
		r.host = r.another(func(*proxmox.Config) {})
	} else {
		r.host = newHost(r.t, r.conf)
	}
	r.plug(change...)
}

// plug puts a disk at /dev/sdb, in the place of another.
func (r *classRig) plug(change ...func(*pvesim.Disk)) {
	r.t.Helper()
	d := oldDisk
	for _, f := range change {
		f(&d)
	}
	r.add(r.sim.AddDisk(d))
}

func wipeDisk() op.Intent {
	return op.Intent{Class: op.StorageWipe, Target: op.Target{Node: "pve1", Disk: "/dev/sdb"}}
}

func blank(d *pvesim.Disk)      { d.Used = "" }
func otherDisk(d *pvesim.Disk)  { d.Serial, d.WWN = "S5XYZ", "0x5002538e00000002" }
func partitions(d *pvesim.Disk) { d.Used, d.GPT, d.Partitions = "", true, twoPartitions() }

func twoPartitions() []pvesim.Partition {
	return []pvesim.Partition{{DevPath: "/dev/sdb1", Size: 1 << 30, Used: "ext4"}, {DevPath: "/dev/sdb2", Size: 1 << 30, Used: "xfs"}}
}

// wipeFault is a fault of the request.
func wipeFault(f pvesim.Fault) pvesim.Fault {
	f.Method, f.Path = "PUT", "/nodes/*/disks/wipedisk"
	return f
}

func TestWipeDisk(t *testing.T) {
	cases := map[string]struct {
		change func(*pvesim.Disk)
		holds  []string
	}{
		"a file system":                      {func(*pvesim.Disk) {}, []string{"/dev/sdb ext4"}},
		"partitions":                         {partitions, []string{"/dev/sdb GPT", "/dev/sdb1 ext4", "/dev/sdb2 xfs"}},
		"blank":                              {blank, nil},
		"a label of LVM that no group knows": {func(d *pvesim.Disk) { d.Used = "LVM" }, []string{"/dev/sdb LVM"}},
		"no serial number":                   {func(d *pvesim.Disk) { d.Serial = "" }, []string{"/dev/sdb ext4"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, r *classRig) {
				r.withDisk(c.change)
				o := r.order(wipeDisk())
				plugged := oldDisk
				c.change(&plugged)
				want := op.DiskSeen{Path: "/dev/sdb", Serial: plugged.Serial, WWN: plugged.WWN, Model: "Samsung_870", Size: 1 << 40, Holds: c.holds}
				if got := *o.l.Observed.Disk; fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("observed: got %+v, want %+v", got, want)
				}
				if o.l.Credential != "root@pam" {
					t.Errorf("credential: got %s, want root's", o.l.Credential)
				}
				e := o.play()
				e.want(t, "none", op.EffectDone, "holds nothing that the node knows")
				if !strings.HasSuffix(e.upid, ":wipedisk:sdb:root@pam:") {
					t.Errorf("task: got %s", e.upid)
				}
				if got := o.kinds(); !slices.Equal(got, []pvesim.EffectKind{pvesim.DiskWiped}) {
					t.Errorf("effects: got %v", got)
				}
			})
		})
	}
}

// Whatever uses a disk is seen, whether or not the host would refuse for it.
func TestWipeDiskInUse(t *testing.T) {
	cases := map[string]struct {
		do   func(*classRig)
		want string
	}{
		"mounted":             {func(r *classRig) { r.plug(func(d *pvesim.Disk) { d.Mounted = true }) }, "mounted (/dev/sdb)"},
		"a mounted partition": {func(r *classRig) { r.plug(partitions, func(d *pvesim.Disk) { d.Partitions[1].Mounted = true }) }, "mounted (/dev/sdb2)"},
		"of the node's start": {func(r *classRig) { r.plug(partitions, func(d *pvesim.Disk) { d.Partitions[0].Used = "EFI" }) }, "boot partition (/dev/sdb1)"},
		"swap":                {func(r *classRig) { r.plug(partitions, func(d *pvesim.Disk) { d.Partitions[0].Used = "swap" }) }, "swap (/dev/sdb1)"},
		"a holder":            {func(r *classRig) { r.plug(blank, func(d *pvesim.Disk) { d.Held = true }) }, "device mapper (/dev/sdb)"},
		"a ZFS pool": {func(r *classRig) {
			r.add(r.sim.AddDiskPool(pvesim.DiskPool{Node: "pve1", Kind: pvesim.PoolZFS, Name: "tank", Size: 1 << 40, Members: []string{"/dev/sdb"}}))
		}, "ZFS (a pool"},
		"a volume group without volumes": {func(r *classRig) {
			r.plug(partitions)
			r.add(r.sim.AddDiskPool(pvesim.DiskPool{Node: "pve1", Kind: pvesim.PoolLVM, Name: "vg1", Size: 1 << 30, Members: []string{"/dev/sdb2"}}))
		}, "volume group vg1 (/dev/sdb2)"},
		"a volume group on what the node does not list": {func(r *classRig) {
			r.plug(func(d *pvesim.Disk) { d.Used = "LVM" })
			r.add(r.sim.AddDiskPool(pvesim.DiskPool{Node: "pve1", Kind: pvesim.PoolLVM, Name: "vg1", Size: 1 << 30, Members: []string{"/dev/mapper/mpatha"}}))
		}, "volume group vg1 may be: it lies on /dev/mapper/mpatha"},
		"a guest, by its path":       {passed("/dev/sdb"), "passed to qemu/107 scsi3"},
		"a guest, by a partition":    {passed("/dev/sdb2"), "passed to qemu/107 scsi3"},
		"a guest, by its link":       {passed("/dev/disk/by-id/ata-Samsung_870_S4EWNX0M-part1"), "passed to qemu/107 scsi3"},
		"a guest, by its number":     {passed("/dev/disk/by-id/scsi-SATA_S4EWNX0M"), "passed to qemu/107 scsi3"},
		"a guest, by its WWN":        {passed("/dev/disk/by-id/wwn-0x5002538e00000001"), "passed to qemu/107 scsi3"},
		"another disk of a guest":    {passed("/dev/sdbc"), ""},
		"another number of a guest":  {passed("/dev/disk/by-id/wwn-0x5002538e00000009"), ""},
		"a volume group beside":      {besideGroup, ""},
		"a file system that is idle": {func(*classRig) {}, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := newClassRig(t, true)
			r.withDisk()
			c.do(r)
			got := r.order(wipeDisk()).l.Observed.Disk.Used
			if !strings.Contains(got, c.want) || c.want == "" && got != "" {
				t.Errorf("used: got %q, want %q", got, c.want)
			}
		})
	}
}

func passed(device string) func(*classRig) {
	return func(r *classRig) {
		r.guest(pvesim.QEMU)
		r.sim.EditGuest(107, map[string]string{"scsi3": device + ",size=1T"})
	}
}

func besideGroup(r *classRig) {
	r.plug(func(d *pvesim.Disk) { d.Used = "LVM" })
	r.add(r.sim.AddDisk(pvesim.Disk{Node: "pve1", DevPath: "/dev/sdc", Size: 1 << 30}))
	r.add(r.sim.AddDiskPool(pvesim.DiskPool{Node: "pve1", Kind: pvesim.PoolLVM, Name: "vg1", Size: 1 << 30, Members: []string{"/dev/sdc"}}))
}

func TestWipeDiskNotSeen(t *testing.T) {
	cases := map[string]struct {
		do    func(*classRig)
		wants string // empty: it is no error that there is none
	}{
		"the node's disks": {func(r *classRig) { r.sim.AddRole("Cluster", "Datastore.Audit") }, "403"},
		"guests":           {func(r *classRig) { r.sim.Revoke("/vms", "svc@pve") }, "does not see all guests"},
		"absent":           {func(r *classRig) { r.sim.RemoveDisk("pve1", "/dev/sdb") }, ""},
		"a partition":      {func(r *classRig) { r.sim.RemoveDisk("pve1", "/dev/sdb"); r.add(r.sim.AddDisk(partOfAnother())) }, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := newClassRig(t, false)
			r.withDisk()
			c.do(r)
			seen, err := r.host.Executors()[op.StorageWipe].Observe(t.Context(), engine.Attempt{Intent: wipeDisk()})
			if (err == nil) != (c.wants == "") || err != nil && !strings.Contains(err.Error(), c.wants) || seen.Found {
				t.Errorf("got %+v, %v, want an error with %q", seen, err, c.wants)
			}
		})
	}
}

// partOfAnother is a disk with a partition where the wanted disk was.
func partOfAnother() pvesim.Disk {
	return pvesim.Disk{Node: "pve1", DevPath: "/dev/sda", Size: 1 << 30, Partitions: []pvesim.Partition{{DevPath: "/dev/sdb", Size: 1 << 20}}}
}

// Without the password of root a disk can be looked at, to sign for it, and not
// be wiped: the reason names what is missing.
func TestWipeDiskIsOffByDefault(t *testing.T) {
	inBothModes(t, func(t *testing.T, r *classRig) {
		r.plug()
		x := r.host.Executors()[op.StorageWipe]
		a := engine.Attempt{Nonce: nonce, Number: 1, Intent: wipeDisk(), ExpiresAt: time.Now().Add(time.Hour)}
		seen, err := x.Observe(t.Context(), a)
		if err != nil || seen.Disk == nil || seen.Disk.Serial != oldDisk.Serial {
			t.Fatalf("observe: got %+v, %v, want the disk", seen, err)
		}
		_, _, err = x.Request(a, seen)
		if !errors.Is(err, engine.ErrNoExecutor) || !strings.Contains(err.Error(), "host.proxmox.wipe_password_file") {
			t.Errorf("request: got %v, want that there is no executor, and the key that is missing", err)
		}
		l := &op.Launching{
			Header: op.Header{OpID: "1", Nonce: nonce, Attempt: 1, Class: op.StorageWipe, Target: a.Intent.Target},
			Node:   "pve1", Credential: "root@pam", Observed: seen, Request: op.Request{Method: "PUT", Path: "/nodes/pve1/disks/wipedisk", Query: "disk=%2Fdev%2Fsdb"},
		}
		if _, err := x.Launch(t.Context(), a, l); !engine.IsDefinite(err) {
			t.Errorf("launch: got %v, want a definite error", err)
		}
		if got := r.sim.Requests()[r.asked:]; len(got) > 0 {
			t.Errorf("mutating requests: got %v, want none", got)
		}
	})
}

// What is refused before or at the launch, or by the task before it writes, has no
// effect.
func TestWipeDiskRefused(t *testing.T) {
	early := map[string]struct {
		do   func(*classRig)
		says string
	}{
		"a wrong password":           {func(r *classRig) { r.sim.AddUser("root@pam", "changed") }, "log in as root@pam"},
		"swapped under its name":     {func(r *classRig) { r.plug(otherDisk) }, "there is another disk than was announced: model Samsung_870, serial S5XYZ"},
		"another size":               {func(r *classRig) { r.plug(func(d *pvesim.Disk) { d.Size++ }) }, "another disk"},
		"pulled":                     {func(r *classRig) { r.sim.RemoveDisk("pve1", "/dev/sdb") }, "there is no disk /dev/sdb"},
		"mounted before the launch":  {func(r *classRig) { r.plug(func(d *pvesim.Disk) { d.Mounted = true }) }, "in use by now: mounted"},
		"something else on it":       {func(r *classRig) { r.plug(func(d *pvesim.Disk) { d.Used = "xfs" }) }, "does not hold any more what was announced"},
		"the document expires first": {nil, "the signed document expired"},
	}
	for name, c := range early {
		t.Run(name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, r *classRig) {
				r.withDisk()
				o := r.order(wipeDisk())
				if c.do == nil {
					o.a.ExpiresAt = time.Now()
				} else {
					c.do(r)
				}
				o.play().want(t, "definite", op.EffectNone, c.says)
			})
		})
	}
	late := map[string]struct {
		change func(*pvesim.Disk)
		says   string
	}{
		"mounted at the last moment": {func(d *pvesim.Disk) { d.Mounted = true }, "disk/partition '/dev/sdb' is mounted"},
		"a holder at the last":       {func(d *pvesim.Disk) { d.Held = true }, "disk/partition '/dev/sdb' has a holder"},
		"pulled at the last":         {nil, "not a valid block device"},
	}
	for name, c := range late {
		t.Run(name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, r *classRig) {
				r.withDisk()
				o := r.order(wipeDisk())
				o.playAfter(func() {
					if c.change == nil {
						r.sim.RemoveDisk("pve1", "/dev/sdb")
						return
					}
					r.plug(c.change)
				}).want(t, "definite", op.EffectNone, c.says)
			})
		})
	}
	t.Run("status 500 of unknown origin", func(t *testing.T) {
		r := newClassRig(t, true)
		r.withDisk()
		o := r.order(wipeDisk())
		r.fault(wipeFault(pvesim.Fault{Kind: pvesim.FaultAnswer, Status: 500, Reason: "something went wrong"}))
		o.play().want(t, "ambiguous", op.EffectUnknown, "as it did before")
	})
	for name, text := range map[string]string{
		"a device that can't be had": "error wiping '/dev/sdb': wipefs: error: /dev/sdb: probing initialization failed: Device or resource busy",
		"a device without a size":    "Couldn't get the size of the device sdb",
	} {
		t.Run(name, func(t *testing.T) {
			r := newClassRig(t, true)
			r.withDisk()
			r.fault(pvesim.Fault{Kind: pvesim.FaultTaskFail, TaskType: "wipedisk", Stage: pvesim.StageWipe, Text: text})
			r.order(wipeDisk()).play().want(t, "none", op.EffectNone, text)
		})
	}
}

// With partitions one that is busy says nothing of those before it.
func TestWipeDiskBusyPartition(t *testing.T) {
	r := newClassRig(t, true)
	r.withDisk(partitions)
	r.fault(pvesim.Fault{
		Kind: pvesim.FaultTaskFail, TaskType: "wipedisk", Stage: pvesim.StageWipe,
		Text: "error wiping '/dev/sdb': wipefs: error: /dev/sdb2: probing initialization failed: Device or resource busy",
	})
	r.order(wipeDisk()).play().want(t, "none", op.EffectUnknown, "which says nothing of what was overwritten")
}

// A lost answer leaves the op to a person: nothing can be fenced, and the task is
// one as root has it who wipes the same disk by hand.
func TestWipeDiskAnswerLost(t *testing.T) {
	cases := map[string]struct {
		fault pvesim.Fault
		done  bool
		says  string
	}{
		"cut before":               {pvesim.Fault{Kind: pvesim.FaultCut}, false, "as it did before"},
		"cut after":                {pvesim.Fault{Kind: pvesim.FaultCut, After: true}, true, "can't be told who has changed that"},
		"596, executed":            {pvesim.Fault{Kind: pvesim.FaultAnswer, Status: 596, Reason: "Connection timed out", After: true}, true, "can't be told who has changed that"},
		"596, not executed":        {pvesim.Fault{Kind: pvesim.FaultAnswer, Status: 596, Reason: "Connection timed out"}, false, "as it did before"},
		"the task can't be listed": {pvesim.Fault{Kind: pvesim.FaultActiveLock}, true, "can't be told who has changed that"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, r *classRig) {
				r.withDisk()
				o := r.order(wipeDisk())
				in := r.fault(wipeFault(c.fault))
				e := o.play()
				e.want(t, "ambiguous", op.EffectUnknown, c.says)
				if in.Hits() != 1 || e.adopted || e.fence.Confirmed || !strings.Contains(strings.Join(e.fence.Reasons, "; "), "restart pvedaemon and pveproxy on node pve1") {
					t.Errorf("hits %d, adopted %v, fence %+v; want one, no task taken for its own, and no fence", in.Hits(), e.adopted, e.fence)
				}
				s, err := o.x.FindTasks(t.Context(), o.l)
				if named := strings.Contains(strings.Join(s.Reasons, "; "), ":wipedisk:sdb:root@pam:"); err != nil || len(s.UPIDs) > 0 || named != c.done {
					t.Errorf("tasks: got %+v, %v, want it named %v for people", s, err, c.done)
				}
			})
		})
	}
	t.Run("and it was blank before", func(t *testing.T) {
		r := newClassRig(t, true)
		r.withDisk(blank)
		o := r.order(wipeDisk())
		r.fault(wipeFault(pvesim.Fault{Kind: pvesim.FaultCut, After: true}))
		o.play().want(t, "ambiguous", op.EffectUnknown, "whether it was wiped can't be told")
	})
}

// What a wipe did can be told by a process that has no password of root any more.
func TestWipeDiskIsSettledWithoutThePassword(t *testing.T) {
	inBothModes(t, func(t *testing.T, r *classRig) {
		r.withDisk()
		o := r.order(wipeDisk())
		upid, err := o.x.Launch(t.Context(), o.a, o.l)
		r.conf.WipePassword = ""
		if r.own {
			r.host = r.another(func(*proxmox.Config) {})
		} else {
			r.host = newHost(t, r.conf)
		}
		o.x = r.host.Executors()[op.StorageWipe]
		o.settle(upid, err).want(t, "none", op.EffectDone)
	})
}

// A worker that dies or fails at each of its stages.
func TestWipeDiskEndsEarly(t *testing.T) {
	cases := []struct {
		stage      string
		kill, fail op.Effect
		says       string
	}{
		{pvesim.StageStart, op.EffectUnknown, "", "as it did before, which says nothing"},
		{pvesim.StageWipe, op.EffectUnknown, op.EffectUnknown, "as it did before, which says nothing"},
		{pvesim.StageZero, op.EffectUnknown, op.EffectPartial, "sign another wipe of /dev/sdb"},
		{pvesim.StageEnd, op.EffectUnknown, op.EffectPartial, "sign another wipe of /dev/sdb"},
	}
	for _, c := range cases {
		for kind, want := range map[pvesim.FaultKind]op.Effect{pvesim.FaultTaskKill: c.kill, pvesim.FaultTaskFail: c.fail} {
			if want == "" {
				continue
			}
			t.Run(string(kind)+" at "+c.stage, func(t *testing.T) {
				inBothModes(t, func(t *testing.T, r *classRig) {
					r.withDisk(partitions)
					o := r.order(wipeDisk())
					r.fault(pvesim.Fault{Kind: kind, TaskType: "wipedisk", Stage: c.stage, Text: "error wiping '/dev/sdb': exit code 1"})
					e := o.play()
					e.want(t, "none", want, c.says)
					if still := e.finding.MayStillAct; still != (kind == pvesim.FaultTaskKill) {
						t.Errorf("may still act: got %v; %s", still, e.reasons())
					}
				})
			})
		}
	}
}

// What has become of the disk when its task has ended.
func TestWipeDiskAfterwards(t *testing.T) {
	cases := map[string]struct {
		do     func(*classRig)
		effect op.Effect
		says   string
	}{
		"in use again":               {func(r *classRig) { r.plug(func(d *pvesim.Disk) { d.Used = "xfs" }) }, op.EffectDone, "and since: /dev/sdb (model Samsung_870, serial S4EWNX0M"},
		"pulled":                     {func(r *classRig) { r.sim.RemoveDisk("pve1", "/dev/sdb") }, op.EffectUnknown, "lists no disk at /dev/sdb any more: it was model Samsung_870, serial S4EWNX0M"},
		"another under its name":     {func(r *classRig) { r.plug(otherDisk) }, op.EffectUnknown, "look at both"},
		"as if nothing had happened": {func(r *classRig) { r.plug() }, op.EffectUnknown, "as it did before; yet the task ended"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := newClassRig(t, true)
			r.withDisk()
			r.host.HurryFence(100 * time.Millisecond)
			o := r.order(wipeDisk())
			upid, err := o.x.Launch(t.Context(), o.a, o.l)
			c.do(r)
			o.settle(upid, err).want(t, "none", c.effect, c.says)
		})
	}
}

// A disk that somebody has blanked meanwhile is wiped all the same, and one that
// somebody has made something of since a wipe that failed is told apart from it.
func TestWipeDiskBesideOthers(t *testing.T) {
	t.Run("blanked at the last moment", func(t *testing.T) {
		r := newClassRig(t, true)
		r.withDisk()
		r.order(wipeDisk()).playAfter(func() { r.plug(blank) }).want(t, "none", op.EffectDone)
	})
	t.Run("used after a failure", func(t *testing.T) {
		r := newClassRig(t, true)
		r.withDisk()
		o := r.order(wipeDisk())
		r.fault(pvesim.Fault{Kind: pvesim.FaultTaskFail, TaskType: "wipedisk", Stage: pvesim.StageZero, Text: "error wiping '/dev/sdb': exit code 1"})
		upid, err := o.x.Launch(t.Context(), o.a, o.l)
		r.plug(func(d *pvesim.Disk) { d.Used = "xfs" })
		o.settle(upid, err).want(t, "none", op.EffectUnknown, "somebody has used it since")
	})
}

// Each wipe logs in anew, and root's ticket carries that one request.
func TestWipeDiskLogsInForEachWipe(t *testing.T) {
	r := newClassRig(t, true)
	r.withDisk()
	for range 2 {
		r.plug()
		o := r.order(wipeDisk())
		if _, err := o.x.Launch(t.Context(), o.a, o.l); err != nil {
			t.Error(err)
		}
	}
	var got []string
	for _, q := range r.sim.Requests()[r.asked:] {
		got = append(got, strings.TrimSpace(q.Auth+" "+q.Method+" "+strings.TrimPrefix(q.Path, "/api2/json")))
	}
	const login, wipe = "POST /access/ticket", "root@pam PUT /nodes/pve1/disks/wipedisk"
	if want := []string{login, wipe, login, wipe}; !slices.Equal(got, want) {
		t.Errorf("mutating requests: got %q, want %q", got, want)
	}
}
