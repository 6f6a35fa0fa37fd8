package proxmox_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"writ/domain/op"
)

const (
	disk0 = "local-lvm:vm-107-disk-0"
	disk1 = "local:107/vm-107-disk-1.qcow2"

	content0 = "GET /nodes/pve1/storage/local-lvm/content?vmid=107"
	content1 = "GET /nodes/pve1/storage/local/content?vmid=107"
	rights0  = "GET /access/permissions?path=%2Fstorage%2Flocal-lvm"
	rights1  = "GET /access/permissions?path=%2Fstorage%2Flocal"
	rightsVM = "GET /access/permissions?path=%2Fvms%2F107"

	zombie = `{"lock":"destroyed","digest":"d627f86544c394fbe8e306d89561ab1a6a4bd687"}`
)

// config gives a machine's configuration: its identity by one letter.
func config(id, digest, more string) string {
	uuid := strings.Repeat(id, 8) + "-0000-4000-8000-000000000000"
	return fmt.Sprintf(`{"name":"web","smbios1":"uuid=%s","vmgenid":%q,"net0":"virtio=BC:24:11:00:00:0%s,bridge=vmbr0",`+
		`"meta":"creation-qemu=9.0.2,ctime=1751328000","scsi0":"%s,size=32G","scsi1":"%s,size=1G"%s,"digest":%q}`,
		uuid, uuid, strings.ToUpper(id), disk0, disk1, more, strings.Repeat(digest, 40))
}

func listing(volids ...string) answer {
	rows := make([]string, len(volids))
	for i, v := range volids {
		rows[i] = fmt.Sprintf(`{"volid":%q,"vmid":107,"content":"images","format":"raw","size":1,"parent":null}`, v)
	}
	return data("[" + strings.Join(rows, ",") + "]")
}

func may(path string, rights ...string) answer {
	held := make([]string, len(rights))
	for i, r := range rights {
		held[i] = fmt.Sprintf("%q:1", r)
	}
	return data(fmt.Sprintf(`{%q:{%s}}`, path, strings.Join(held, ",")))
}

func TestProbe(t *testing.T) {
	before := op.Observed{
		Found: true, Node: "pve1", Type: op.QEMU, VMID: 107, Name: "web",
		SMBIOSUUID: "aaaaaaaa-0000-4000-8000-000000000000", VMGenID: "aaaaaaaa-0000-4000-8000-000000000000",
		MACs: []string{"BC:24:11:00:00:0A"}, CTime: 1751328000, Volumes: []string{disk0, disk1},
		Digest: strings.Repeat("1", 40), Status: "stopped", NodeOnline: true, Quorate: true,
	}
	const (
		sameUnchanged = "same SMBIOS uuid, vmgenid, MAC addresses"
		ok            = "OK"
	)
	// What is there in each case unless the case says otherwise: the guest,
	// its volumes, every right.
	untouched := map[string]answer{
		// What tells whether a child of a killed worker is left: nothing does.
		"GET /nodes/pve1/time":                               data(fmt.Sprintf(`{"time":%d}`, time.Now().Unix())),
		"GET /nodes/pve1/status":                             data(`{"uptime":1000}`),
		"GET /nodes/pve1/tasks?limit=500&source=all&start=0": data(`[]`),

		clusterNow: data(quorate), nextid107: taken107,
		config107: data(config("a", "1", "")),
		content0:  listing(disk0), content1: listing(disk1, "local:107/vm-107-disk-9.raw"),
		rights0: may("/storage/local-lvm", "Datastore.Allocate"), rights1: may("/storage/local", "Datastore.Audit"),
		rightsVM: may("/vms/107", "VM.Config.Disk", "VM.Audit"),
	}
	forbidden := refusal(403, "Permission check failed (/vms/107, VM.Audit)")
	cases := []struct {
		name    string
		differ  map[string]answer
		ended   string
		log     []string
		want    op.Effect
		residue []string
		reason  string // part of the reasons, or of the error if want is empty
	}{
		{"untouched", nil, "", nil, op.EffectNone, nil, "all 2 volumes"},
		{"untouched, and the task failed", nil, "no such volume group", nil, op.EffectNone, nil, sameUnchanged},
		{"untouched, yet the task ended well", nil, ok, nil, op.EffectUnknown, nil, `ended with "OK"`},
		{"changed by somebody", map[string]answer{config107: data(config("a", "2", ""))}, "", nil, op.EffectUnknown, nil, "was changed"},
		{"locked", map[string]answer{config107: data(config("a", "1", `,"lock":"backup"`))}, "", nil, op.EffectUnknown, nil, "locked (backup)"},
		{"not quorate", map[string]answer{clusterNow: data(notQuorate)}, "", nil, op.EffectUnknown, nil, "not quorate"},
		{"moved, untouched", map[string]answer{
			config107: missing107, resources: data("[" + row("qemu", 107, "pve2") + "]"),
			"GET /nodes/pve2/qemu/107/config":                    data(config("a", "1", "")),
			"GET /nodes/pve2/storage/local-lvm/content?vmid=107": listing(disk0),
			"GET /nodes/pve2/storage/local/content?vmid=107":     listing(disk1),
		}, "", nil, op.EffectNone, nil, "node pve2"},

		{"one volume gone", map[string]answer{content0: listing()}, "unexpected status", nil, op.EffectPartial, nil, "gone: " + disk0},
		{"all volumes gone, no quorum", map[string]answer{clusterNow: data(notQuorate), content0: listing(), content1: listing()}, "", nil, op.EffectPartial, nil, disk0 + ", " + disk1},
		{"one volume not listed, and might be hidden", map[string]answer{content1: listing(), rightsVM: may("/vms/107", "VM.Audit")}, "", nil, op.EffectUnknown, nil, "VM.Config.Disk"},
		{"one volume not listed, no right on the storage", map[string]answer{content1: listing(), rights1: data(`{"/storage/local":{}}`)}, "", nil, op.EffectUnknown, nil, "Datastore.Audit"},
		{"one volume not listed, rights not readable", map[string]answer{content0: listing(), rights0: refusal(500, "no")}, "", nil, op.EffectUnknown, nil, "rights could not be read"},
		{"one volume detached and removed by somebody", map[string]answer{config107: data(strings.Replace(config("a", "2", ""), "disk-0", "disk-8", 1)), content0: listing()}, "", nil, op.EffectUnknown, nil, "no longer has"},
		{"a storage that may not be listed", map[string]answer{content0: refusal(403, "Permission check failed (/storage/local-lvm, Datastore.Audit|Datastore.AllocateSpace)")}, "", nil, op.EffectUnknown, nil, "could not be listed"},
		{"a storage that can't be asked", map[string]answer{content0: bare(596, "Connection timed out")}, "", nil, "", nil, "596"},
		{"a storage that a proxy answers for", map[string]answer{content0: body(500, "Internal Server Error", "text/html", page)}, "", nil, "", nil, "500 Internal"},
		{"half destroyed", map[string]answer{config107: data(zombie)}, "unexpected status", nil, op.EffectPartial, nil, "only root"},
		{"half destroyed, yet the task ended well", map[string]answer{config107: data(zombie)}, ok, nil, op.EffectPartial, nil, "only root"},

		{"gone", map[string]answer{nextid107: free107, content0: listing(), content1: listing()}, ok, nil, op.EffectDone, nil, "no node of the quorate cluster"},
		{"gone, and nobody knows by whom", map[string]answer{nextid107: free107, content0: listing(), content1: listing()}, "", nil, op.EffectDone, nil, "no node of the quorate cluster"},
		{"gone, a volume left", map[string]answer{nextid107: free107, content0: listing(disk0), content1: listing()}, "WARNINGS: 1", nil, op.EffectDone, []string{disk0}, "left behind"},
		{
			"gone, a volume left on a storage that is off",
			map[string]answer{nextid107: free107, content0: refusal(500, "storage 'local-lvm' is disabled"), content1: listing()},
			"WARNINGS: 1",
			[]string{"WARN: Could not remove disk '" + disk0 + "', check manually: storage 'local-lvm' is disabled", "TASK WARNINGS: 1"},
			op.EffectDone,
			[]string{disk0},
			"by the task's log",
		},
		{
			"gone, a volume left on a storage that was deleted",
			map[string]answer{nextid107: free107, content0: refusal(500, "storage 'local-lvm' does not exist"), content1: listing()},
			"WARNINGS: 1",
			[]string{"WARN: failed to get path and owner of volume '" + disk0 + "': storage 'local-lvm' does not exist", "TASK WARNINGS: 1"},
			op.EffectDone,
			[]string{disk0},
			"could not be listed",
		},
		{"gone, and the log speaks of somebody else's volume", map[string]answer{nextid107: free107, content0: refusal(500, "storage 'local-lvm' is disabled"), content1: listing()}, "WARNINGS: 1", []string{"WARN: Could not remove disk 'x:vm-1-disk-0'"}, op.EffectDone, nil, "could not be listed"},
		{"gone, rights on the guest gone with it", map[string]answer{nextid107: free107, config107: forbidden, content0: listing(), content1: listing(), rightsVM: data(`{"/vms/107":{}}`)}, ok, nil, op.EffectDone, nil, "VM.Config.Disk on /vms/107"},
		{"gone, says a node without quorum", map[string]answer{nextid107: free107, clusterNow: data(notQuorate)}, ok, nil, op.EffectUnknown, nil, "not part of a quorate cluster"},

		{"VMID used again", map[string]answer{config107: data(config("b", "2", ""))}, ok, nil, op.EffectDone, nil, "other SMBIOS uuid, vmgenid, MAC addresses"},
		{"VMID used again, reply lost", map[string]answer{config107: data(config("b", "2", ""))}, "", nil, op.EffectDone, nil, "another guest"},
		{"VMID used again, an old volume left", map[string]answer{config107: data(strings.Replace(config("b", "2", ""), "disk-0", "disk-8", 1)), content0: listing(disk0, "local-lvm:vm-107-disk-8")}, ok, nil, op.EffectDone, []string{disk0}, "left behind"},
		{"VMID used again, no quorum", map[string]answer{config107: data(config("b", "2", "")), clusterNow: data(notQuorate)}, ok, nil, op.EffectUnknown, nil, "not quorate"},
		{"VMID used again by a container", map[string]answer{config107: missing107, resources: data("[" + row("lxc", 107, "pve2") + "]"), content0: listing(), content1: listing()}, ok, nil, op.EffectDone, nil, "type lxc"},
		{"VMID used again by a container that has the volume's name", map[string]answer{config107: missing107, resources: data("[" + row("lxc", 107, "pve1") + "]"), content0: listing(disk0), content1: listing()}, ok, nil, op.EffectDone, nil, "in use again"},
		{"VMID used again while volumes were listed", map[string]answer{nextid107: inTurn(free107, taken107), content0: listing(disk0), content1: listing()}, ok, nil, op.EffectDone, nil, "in use again"},
		{"gone, a volume listed, and the VMID can't be asked for again", map[string]answer{nextid107: inTurn(free107, bare(596, "Connection timed out")), content0: listing(disk0), content1: listing()}, ok, nil, op.EffectDone, nil, "can't be told whose"},
		{"only the uuid differs", map[string]answer{config107: data(strings.Replace(config("a", "2", ""), "uuid=aaaaaaaa", "uuid=bbbbbbbb", 1))}, "", nil, op.EffectUnknown, nil, "can't be told"},
		{"restored: same uuid, new generation", map[string]answer{config107: data(strings.Replace(config("a", "2", ""), `"vmgenid":"aaaaaaaa`, `"vmgenid":"bbbbbbbb`, 1))}, ok, nil, op.EffectUnknown, nil, "can't be told"},
		{"restored half-way: nothing to tell it by", map[string]answer{config107: data(`{"memory":"128","digest":"` + strings.Repeat("3", 40) + `"}`)}, "", nil, op.EffectUnknown, nil, "nothing to tell it by"},

		{"may not be looked at after the task ended well", map[string]answer{config107: forbidden}, ok, nil, op.EffectUnknown, nil, "the token may not see by whom"},
		{"used again elsewhere, hidden", map[string]answer{config107: missing107, resources: data("[]")}, ok, nil, op.EffectUnknown, nil, "the token may not see by whom"},
		{"may not be looked at", map[string]answer{config107: forbidden}, "", nil, "", nil, "403"},
		{"the node is down", map[string]answer{config107: bare(595, "No route to host"), resources: data("[" + row("qemu", 107, "pve1") + "]")}, ok, nil, "", nil, "595"},
		{"quorum can't be asked", map[string]answer{clusterNow: bare(596, "Connection timed out")}, ok, nil, "", nil, "596"},
		{"presence can't be asked", map[string]answer{nextid107: bare(599, "Too many redirections")}, ok, nil, "", nil, "599"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := newRawHost(t)
			for request, a := range untouched {
				r.on(request, a)
			}
			for request, a := range c.differ {
				r.on(request, a)
			}
			f, err := r.host().Executors()[op.GuestDestroy].Probe(t.Context(), launching(before, ""), c.ended, c.log)
			if c.want == "" {
				if err == nil || !strings.Contains(err.Error(), c.reason) {
					t.Fatalf("got %+v, %v, want an error with %q", f, err, c.reason)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			reasons := strings.Join(f.Evidence.Reasons, "; ")
			if f.Evidence.Effect != c.want || !strings.Contains(reasons, c.reason) {
				t.Errorf("got %s because %s; want %s because %s", f.Evidence.Effect, reasons, c.want, c.reason)
			}
			if !slices.Equal(f.Residue, c.residue) {
				t.Errorf("residue: got %q, want %q", f.Residue, c.residue)
			}
			if got := r.mutations(); len(got) != 0 {
				t.Errorf("a probe changes nothing: got %q", got)
			}
		})
	}
}

// A container has less to be told by: MACs, and the mark if it was given one.
func TestProbeContainer(t *testing.T) {
	const mark, other = "00112233445566778899aabbccddeeff", "ffeeddccbbaa99887766554433221100"
	before := op.Observed{
		Found: true, Node: "pve1", Type: op.LXC, VMID: 107, Name: "ct", MACs: []string{"BC:24:11:00:00:0A"},
		Volumes: []string{"local-lvm:vm-107-disk-0"}, Digest: strings.Repeat("1", 40), WritID: mark,
	}
	conf := func(mac, id string) answer {
		return data(fmt.Sprintf(`{"hostname":"ct","rootfs":"local-lvm:vm-107-disk-0,size=8G","net0":"name=eth0,hwaddr=%s,type=veth",`+
			`"description":"writ-id:%s\n","digest":%q}`, mac, id, strings.Repeat("1", 40)))
	}
	const ours, theirs = "BC:24:11:00:00:0A", "BC:24:11:00:00:0B"
	cases := []struct {
		name    string
		mac, id string
		ended   string
		want    op.Effect
	}{
		{"untouched", ours, mark, "", op.EffectNone},
		{"made again", theirs, other, "", op.EffectDone},
		{"made again without a mark", theirs, "", "OK", op.EffectDone},
		{"another interface, same mark", theirs, mark, "", op.EffectUnknown},
		{"another mark, same interface", ours, other, "OK", op.EffectUnknown},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := newRawHost(t).on(clusterNow, data(quorate)).on(nextid107, taken107).
				on("GET /nodes/pve1/lxc/107/config", conf(c.mac, c.id)).on(content0, listing("local-lvm:vm-107-disk-0"))
			f, err := r.host().Executors()[op.GuestDestroy].Probe(t.Context(), launching(before, ""), c.ended, nil)
			if err != nil || f.Evidence.Effect != c.want || len(f.Residue) != 0 {
				t.Errorf("got %+v, %v, want %s without residue", f, err, c.want)
			}
		})
	}
}

// With one thing to tell a guest by, a person may have changed that one: only
// the task's own word makes it another guest.
func TestProbeByOneMark(t *testing.T) {
	before := op.Observed{Found: true, Node: "pve1", Type: op.LXC, VMID: 107, MACs: []string{"BC:24:11:00:00:0A"}, Digest: strings.Repeat("1", 40)}
	r := newRawHost(t).on(clusterNow, data(quorate)).on(nextid107, taken107).
		on("GET /nodes/pve1/lxc/107/config", data(`{"hostname":"ct","net0":"name=eth0,hwaddr=BC:24:11:00:00:0B","digest":"`+strings.Repeat("2", 40)+`"}`)).
		on("GET /nodes/pve1/time", data(fmt.Sprintf(`{"time":%d}`, time.Now().Unix()))).
		on("GET /nodes/pve1/status", data(`{"uptime":1000}`)).on("GET /nodes/pve1/tasks?limit=500&source=all&start=0", data(`[]`))
	for ended, want := range map[string]op.Effect{"": op.EffectUnknown, "unexpected status": op.EffectUnknown, "OK": op.EffectDone, "WARNINGS: 2": op.EffectDone} {
		f, err := r.host().Executors()[op.GuestDestroy].Probe(t.Context(), launching(before, ""), ended, nil)
		if err != nil || f.Evidence.Effect != want {
			t.Errorf("task ended with %q: got %+v, %v, want %s", ended, f, err, want)
		}
	}
}

func TestPrecedesEffect(t *testing.T) {
	cases := map[string]bool{
		"Configuration file 'nodes/pve1/qemu-server/115.conf' does not exist":            true,
		"Configuration file 'nodes/pve1/lxc/206.conf' does not exist":                    true,
		"can't remove VM 112 - protection mode enabled":                                  true,
		"can't remove CT 200 - protection mode enabled":                                  true,
		"unable to remove VM 117 - used in HA resources and purge parameter not set.":    true,
		"unable to remove CT 200 - used in HA resources and purge parameter not set.":    true,
		"There is a replication job '105-0' for guest '105' - Please remove that first.": true,
		"VM 111 is running - destroy failed":                                             true,
		"unable to destroy CT 200 - container is running":                                true,
		"VM is locked (backup)":          true,
		"VM is locked (snapshot-delete)": true,
		"CT is locked (backup)":          true,
		"base volume 'lab:131/base-131-disk-0.qcow2' is still in use by linked cloned": true,
		"can't lock file '/var/lock/qemu-server/lock-116.conf' - got timeout":          true,
		"can't lock file '/run/lock/lxc/pve-config-200.lock' - got timeout":            true,

		"":                   false,
		"OK":                 false,
		"WARNINGS: 1":        false,
		"unexpected status":  false,
		"received interrupt": false,
		"base volume 'lab:131/base-131-disk-0.raw' is still in use by linked clones":                             false,
		"unlink '/var/lib/vz/images/205/vm-205-disk-0.raw' failed - Operation not permitted":                     false,
		"unable to open file '/etc/pve/nodes/pve1/qemu-server/105.conf.tmp.12' - Permission denied":              false,
		"can't lock file '/var/lock/pve-manager/pve-storage-local-lvm' - got timeout":                            false,
		"access permissions cleanup for VM 105 failed: cfs-lock 'file-user_cfg' error: got lock request timeout": false,
		"VM is locked (backup) and more":      false,
		"error before: VM is locked (backup)": false,
	}
	d := newRawHost(t).host().Executors()[op.GuestDestroy]
	for text, want := range cases {
		if got := d.PrecedesEffect(text); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}

// A destroy with force stops a container before anything else. One that was
// running and is not any more was not left untouched.
func TestProbeForcedStop(t *testing.T) {
	before := op.Observed{
		Found: true, Node: "pve1", Type: op.LXC, VMID: 107, Name: "ct", MACs: []string{"BC:24:11:00:00:0A"},
		Volumes: []string{disk0}, Digest: strings.Repeat("1", 40), Status: "running", Uptime: 5000,
	}
	conf := data(fmt.Sprintf(`{"hostname":"ct","rootfs":"%s,size=8G","net0":"name=eth0,hwaddr=BC:24:11:00:00:0A","digest":%q}`, disk0, before.Digest))
	status := func(s string) answer { return data(fmt.Sprintf(`{"status":%q,"uptime":5100,"ha":{"managed":0}}`, s)) }
	for _, c := range []struct {
		name, query, was string
		status           answer
		want             op.Effect // none if the host can't be asked
	}{
		{"still running", "force=1", "running", status("running"), op.EffectNone},
		{"started again", "force=1", "running", data(`{"status":"running","uptime":20,"ha":{"managed":0}}`), op.EffectUnknown},
		{"stopped", "force=1", "running", status("stopped"), op.EffectUnknown},
		{"can't be asked", "force=1", "running", bare(596, "Connection timed out"), ""},
		{"stopped, without force", "force=0", "running", status("stopped"), op.EffectNone},
		{"stopped all along, or started and stopped by the task", "force=1", "stopped", status("stopped"), op.EffectUnknown},
		{"stopped all along, without force", "force=0", "stopped", status("stopped"), op.EffectNone},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := before
			before.Status = c.was
			r := newRawHost(t).on(clusterNow, data(quorate)).on(nextid107, taken107).
				on("GET /nodes/pve1/lxc/107/config", conf).on("GET /nodes/pve1/lxc/107/status/current", c.status).on(content0, listing(disk0))
			l := launching(before, c.query)
			l.At = time.Now().Add(-100 * time.Second)
			f, err := r.host().Executors()[op.GuestDestroy].Probe(t.Context(), l, "no such volume group", nil)
			if (err != nil) != (c.want == "") || f.Evidence.Effect != c.want {
				t.Errorf("got %+v, %v, want %q", f, err, c.want)
			}
		})
	}
}
