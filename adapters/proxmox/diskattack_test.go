package proxmox_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"writ/adapters/proxmox"
	"writ/adapters/pvesim"
	"writ/domain/engine"
	"writ/domain/op"
)

// beside plugs a second disk in.
func beside(change ...func(*pvesim.Disk)) func(*classRig) {
	return func(r *classRig) {
		r.plug(append([]func(*pvesim.Disk){func(d *pvesim.Disk) { d.DevPath, d.ByIDLink = "/dev/sdc", "" }}, change...)...)
	}
}

// Enclosures and controllers give several disks one number, and two ways may lead
// to one disk: what was signed then does not tell which is meant, and the mounts of
// one name do not show under the other.
func TestWipeDiskThatIsNotAlone(t *testing.T) {
	cases := map[string]struct {
		do   func(*classRig)
		want string // empty: it may be wiped
	}{
		"all numbers equal":      {beside(), "/dev/sdc has the same size and serial number or WWN"},
		"serial number equal":    {beside(func(d *pvesim.Disk) { d.WWN = "0x5002538e00000002" }), "/dev/sdc has the same size"},
		"WWN equal":              {beside(func(d *pvesim.Disk) { d.Serial = "S5XYZ" }), "/dev/sdc has the same size"},
		"another size":           {beside(func(d *pvesim.Disk) { d.Size++ }), ""},
		"other numbers":          {beside(otherDisk), ""},
		"neither has any number": {func(r *classRig) { r.plug(noNumber); beside(noNumber)(r) }, ""}, // can't be signed for
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
	t.Run("plugged in before the launch", func(t *testing.T) {
		r := newClassRig(t, true)
		r.withDisk()
		o := r.order(wipeDisk())
		beside()(r)
		o.play().want(t, "definite", op.EffectNone, "/dev/sdc has the same size")
	})
}

func noNumber(d *pvesim.Disk) { d.Serial, d.WWN = "", "" }

// The host lets a disk be wiped that a running guest has open: all the ways in
// which a guest can have it count.
func TestWipeDiskOfAGuest(t *testing.T) {
	cases := map[string]struct {
		kind       pvesim.Kind
		key, value string
		want       string
	}{
		"its slot":                     {pvesim.QEMU, "scsi3", "/dev/disk/by-path/pci-0000:00:1f.2-ata-2,size=1T", "qemu/107 scsi3"},
		"its file system":              {pvesim.QEMU, "scsi3", "/dev/disk/by-uuid/5a1c-22", "qemu/107 scsi3"},
		"its partition's id":           {pvesim.QEMU, "scsi3", "/dev/disk/by-partuuid/5a1c-22", "qemu/107 scsi3"},
		"a detour":                     {pvesim.QEMU, "scsi3", "/dev/../dev//sdb", "qemu/107 scsi3"},
		"arguments of the machine":     {pvesim.QEMU, "args", "-drive file=/dev/sdb,format=raw", "qemu/107 args"},
		"a device of a container":      {pvesim.LXC, "dev0", "/dev/sdb1,mode=0660", "lxc/107 dev0"},
		"a device of one, by name":     {pvesim.LXC, "dev0", "path=/dev/sdb", "lxc/107 dev0"},
		"words about it":               {pvesim.QEMU, "description", "its disk was /dev/sdb", ""},
		"arguments about another disk": {pvesim.QEMU, "args", "-drive file=/dev/sdc", ""},
		"another disk's number":        {pvesim.QEMU, "scsi3", "/dev/disk/by-id/ata-Samsung_870_S5XYZ", ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := newClassRig(t, true)
			r.withDisk()
			r.guest(c.kind)
			r.sim.EditGuest(107, map[string]string{c.key: c.value})
			got := r.order(wipeDisk()).l.Observed.Disk.Used
			if !strings.Contains(got, c.want) || c.want == "" && got != "" {
				t.Errorf("used: got %q, want %q", got, c.want)
			}
		})
	}
}

// Labels count by whatever name the node has for them.
func TestWipeDiskWithALabelByAnotherName(t *testing.T) {
	group := func(r *classRig) {
		r.add(r.sim.AddDiskPool(pvesim.DiskPool{Node: "pve1", Kind: pvesim.PoolLVM, Name: "vg1", Size: 1 << 30, Members: []string{"/dev/mapper/mpatha"}}))
	}
	cases := map[string]struct {
		used string
		do   func(*classRig)
		want string
	}{
		"of an exported ZFS pool":                       {"zfs_member", func(*classRig) {}, "ZFS"},
		"of LVM, and a group lies on it for all we see": {"LVM2_member", group, "volume group vg1 may be"},
		"of LVM, left behind":                           {"LVM2_member", func(*classRig) {}, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := newClassRig(t, true)
			r.withDisk(func(d *pvesim.Disk) { d.Used = c.used })
			c.do(r)
			got := r.order(wipeDisk()).l.Observed.Disk.Used
			if !strings.Contains(got, c.want) || c.want == "" && got != "" {
				t.Errorf("used: got %q, want %q", got, c.want)
			}
		})
	}
}

// An enclosure shows its own number for whatever disk is in it.
func TestWipeDiskExchangedInItsEnclosure(t *testing.T) {
	r := newClassRig(t, true)
	r.withDisk()
	o := r.order(wipeDisk())
	r.plug(func(d *pvesim.Disk) { d.Model = "WDC_WD10" })
	o.play().want(t, "definite", op.EffectNone, "another disk than was announced")
}

// What lies between may deliver the request twice and pass on the answer to the
// second one.
func TestWipeDiskRefusalOfARepeatedRequestProvesNothing(t *testing.T) {
	for _, text := range []string{"disk/partition '/dev/sdb' has a holder", "not a valid block device"} {
		t.Run(text, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, r *classRig) {
				r.withDisk()
				o := r.order(wipeDisk())
				r.fault(wipeFault(pvesim.Fault{Kind: pvesim.FaultAnswer, After: true, Status: 500, Reason: text}))
				e := o.play()
				e.want(t, "ambiguous", op.EffectUnknown, ":wipedisk:sdb:root@pam:")
				if e.adopted {
					t.Error("a task was taken for the attempt's own")
				}
			})
		})
	}
}

// Of two wipes at one time the one finds the device busy that the other writes to:
// on a disk that showed nothing before, nothing tells that but the other's task.
func TestWipeDiskBusyBesideAnotherWipe(t *testing.T) {
	for name, text := range map[string]string{
		"busy":           "error wiping '/dev/sdb': wipefs: error: /dev/sdb: probing initialization failed: Device or resource busy",
		"without a size": "Couldn't get the size of the device sdb",
	} {
		t.Run(name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, r *classRig) {
				r.withDisk(blank)
				o := r.order(wipeDisk())
				r.fault(pvesim.Fault{Kind: pvesim.FaultTaskFail, TaskType: "wipedisk", Stage: pvesim.StageWipe, Text: text})
				second := r.fault(wipeFault(pvesim.Fault{Kind: pvesim.FaultRepeat, Delay: time.Nanosecond}))
				upid, err := o.x.Launch(t.Context(), o.a, o.l)
				<-second.Reached()
				for limit := time.Now().Add(20 * time.Second); o.wipes() < 2; {
					if time.Now().After(limit) {
						t.Fatal("the second task never began")
					}
				}
				e := ending{err: err, upid: upid}
				if e.task, err = r.host.Task(t.Context(), upid); err != nil {
					t.Fatal(err)
				}
				o.conclude(&e)
				e.want(t, "none", op.EffectUnknown, ":wipedisk:sdb:root@pam:")
			})
		})
	}
}

// wipes tells how many tasks of root's there are that wipe the disk.
func (o *order) wipes() int {
	o.r.t.Helper()
	s, err := o.x.FindTasks(o.r.t.Context(), o.l)
	if err != nil {
		o.r.t.Fatal(err)
	}
	return strings.Count(strings.Join(s.Reasons, "; "), ":wipedisk:sdb:root@pam:")
}

// Whatever answers a login may repeat what it was sent: that must not get into the
// log or onto the record.
func TestWipeDiskLoginKeepsThePassword(t *testing.T) {
	cases := map[string]pvesim.Fault{
		"in the reason":    {Status: 401, Reason: "authentication failure for " + rootPassword},
		"in the text":      {Status: 500, Reason: "x", Body: `{"data":null,"message":"got ` + rootPassword + `\n"}`},
		"of a parameter":   {Status: 400, Reason: "Parameter verification failed.", Body: `{"data":null,"errors":{"password":"bad value '` + rootPassword + `'"}}`},
		"as it was sent":   {Status: 502, Reason: "password=a+horse+of+root"},
		"with a ticket":    {Status: 200, Body: `{"data":{"username":"` + rootPassword + `","ticket":"PVE:root@pam:SECRET"}}`},
		"with no JSON":     {Status: 200, Body: rootPassword + " PVE:root@pam:SECRET"},
		"sent to another":  {Status: 308, Reason: "Permanent Redirect"},
		"and found there":  {Status: 301, Reason: "Moved " + rootPassword},
		"ticket in reason": {Status: 503, Reason: "ticket PVE:root@pam:SECRET"},
	}
	for name, f := range cases {
		t.Run(name, func(t *testing.T) {
			r := newClassRig(t, false)
			r.withDisk()
			var log bytes.Buffer
			r.conf.TokenID, r.conf.Secret = token, secret
			h, err := proxmox.New(r.conf, slog.New(slog.NewTextHandler(&log, nil)))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(h.Close)
			r.host = h
			o := r.order(wipeDisk())
			f.Kind, f.Method, f.Path = pvesim.FaultAnswer, "POST", "/access/ticket"
			r.fault(f)
			_, err = o.x.Launch(t.Context(), o.a, o.l)
			if !engine.IsDefinite(err) {
				t.Fatalf("got %v, want a definite error", err)
			}
			told := err.Error() + log.String()
			for _, hidden := range []string{rootPassword, "a+horse+of+root", "SECRET"} {
				if strings.Contains(told, hidden) {
					t.Errorf("told: %s", told)
				}
			}
			if got := o.kinds(); len(got) > 0 {
				t.Errorf("effects: got %v", got)
			}
		})
	}
}

// The order and what was announced for it must be about one target: the credential
// goes by the one, the request by the other.
func TestWipeDiskAnnouncedForAnotherOrder(t *testing.T) {
	for name, with := range map[string]bool{"with the password": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			r := newClassRig(t, false)
			r.plug()
			if with {
				r.withDisk()
			}
			x := r.host.Executors()[op.StorageWipe]
			a := engine.Attempt{Nonce: nonce, Number: 1, Intent: wipeDisk(), ExpiresAt: time.Now().Add(time.Hour)}
			seen, err := x.Observe(t.Context(), a)
			if err != nil {
				t.Fatal(err)
			}
			l := &op.Launching{
				Header: op.Header{OpID: "1", Nonce: nonce, Attempt: 1, Class: op.StorageWipe, Target: a.Intent.Target},
				Node:   "pve1", Observed: seen, Request: op.Request{Method: "PUT", Path: "/nodes/pve1/disks/wipedisk", Query: "disk=%2Fdev%2Fsdb"},
				Credential: r.host.Credential(),
			}
			a.Intent.Target = op.Target{Node: "pve1", Pool: &op.Pool{Kind: op.ZFS, Name: "tank"}}
			if _, err := x.Launch(t.Context(), a, l); !engine.IsDefinite(err) {
				t.Errorf("launch: got %v, want a definite error", err)
			}
			if got := r.sim.Requests()[r.asked:]; len(got) > 0 {
				t.Errorf("mutating requests: got %v, want none", got)
			}
		})
	}
}

// What is no answer at all is quoted by net/http.
func TestWipeDiskLoginWithoutAnAnswer(t *testing.T) {
	r := newRawHost(t).on("POST /access/ticket", raw("password=a+horse+of+root\r\n\r\n"))
	h := newHost(t, proxmox.Config{BaseURL: r.url(), WipePassword: rootPassword})
	seen := op.Observed{Found: true, Node: "pve1", Disk: &op.DiskSeen{Path: "/dev/sdb", Serial: "S4EWNX0M", Size: 1 << 40}}
	a := engine.Attempt{Nonce: nonce, Number: 1, Intent: wipeDisk(), ExpiresAt: time.Now().Add(time.Hour)}
	l := &op.Launching{
		Header: op.Header{OpID: "1", Nonce: nonce, Attempt: 1, Class: op.StorageWipe, Target: a.Intent.Target},
		Node:   "pve1", Credential: "root@pam", Observed: seen,
		Request: op.Request{Method: "PUT", Path: "/nodes/pve1/disks/wipedisk", Query: "disk=%2Fdev%2Fsdb"},
	}
	_, err := h.Executors()[op.StorageWipe].Launch(t.Context(), a, l)
	if !engine.IsDefinite(err) || strings.Contains(err.Error(), "horse") {
		t.Errorf("got %v, want a definite error without the password", err)
	}
	if got := r.requests(); len(got) != 1 {
		t.Errorf("requests: got %q, want one login and nothing else", got)
	}
}
