package pvesim_test

import (
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"writ/adapters/pvesim"
)

// Told of what it lets in is whoever asks for that: once for each request, of none
// that is refused for its credentials, wherever these are checked, and by what they
// are then.
func TestWhatIsLetIn(t *testing.T) {
	const caller = "svc@pve!t"
	backup := func(kind pvesim.Kind) string {
		ext := map[pvesim.Kind]string{pvesim.QEMU: ".vma.zst", pvesim.LXC: ".tar.zst"}[kind]
		return "local:backup/vzdump-" + string(kind) + "-105-2026_11_23-06_40_00" + ext
	}
	volume := "local-lvm:vm-105-disk-9"
	for _, tt := range []struct {
		name, method, path, body string
		kind                     pvesim.Kind
		rights                   []string // objects and privileges
	}{
		{"destroy", "DELETE", "/qemu/105", "", pvesim.QEMU, []string{"/vms/105 VM.Allocate"}},
		{"restore", "POST", "/qemu", restoreBody(pvesim.QEMU, "105", backup(pvesim.QEMU), ""), pvesim.QEMU, []string{"/vms/105 VM.Allocate"}},
		{
			"restore of a container", "POST", "/lxc", restoreBody(pvesim.LXC, "105", backup(pvesim.LXC), ""), pvesim.LXC,
			[]string{"/vms/105 VM.Allocate", "/storage/local-lvm Datastore.AllocateSpace"},
		},
		{"creation", "POST", "/qemu", "vmid=106&name=new", pvesim.QEMU, []string{"/vms/106 VM.Allocate"}},
		{"deletion of a volume", "DELETE", "/storage/local-lvm/content/" + url.PathEscape(volume), "", pvesim.QEMU, []string{"/storage/local-lvm Datastore.Allocate"}},
		{"backup", "POST", "/vzdump", "vmid=105&storage=local", pvesim.QEMU, []string{"/storage/local Datastore.AllocateSpace"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			clock := pvesim.NewManualClock(time.Unix(1795416000, 0).UTC())
			var told []string
			sim, err := pvesim.New(pvesim.Options{
				Nodes: []string{"pve1"}, Now: clock.Now, AfterFunc: clock.AfterFunc, Pace: pvesim.Pace{Start: time.Second},
				OnAdmit: func(r pvesim.Request) { told = append(told, r.Tag) },
			})
			if err != nil {
				t.Fatal(err)
			}
			defer sim.Close()
			r := &rig{t: t, sim: sim, clock: clock}
			sim.AddUser("svc@pve", "secret12", "svcs")
			r.token(caller, pvesim.Token{})
			made := func() { r.vm(105, 1, func(g *pvesim.Guest) { g.Kind = tt.kind }) }
			made()
			if err := sim.AddVolume(pvesim.Volume{VolID: volume, Node: "pve1", VMID: 105, Size: 1 << 20, Content: "images", Format: "raw"}); err != nil {
				t.Fatal(err)
			}
			if got := r.backup(105).VolID; got != backup(tt.kind) {
				t.Fatalf("the backup: got %s, want %s", got, backup(tt.kind))
			}
			send := func(tag string) **reply {
				req := request(tt.method, "/nodes/pve1"+tt.path, caller, tt.body)
				req.Tag = tag
				return r.send(req)
			}
			allow := func() {
				for _, right := range tt.rights {
					object, privilege, _ := strings.Cut(right, " ")
					sim.AddRole("Only-"+privilege, privilege)
					sim.Grant(object, "svc@pve", "Only-"+privilege, false)
				}
			}

			check(t, "without the rights", r.wait(send("without")).Status, 403)
			check(t, "told", strings.Join(told, " "), "")

			allow()
			held := r.inject(pvesim.Fault{Kind: pvesim.FaultHold, Point: pvesim.PointFork, Method: tt.method, Path: "/nodes/pve1" + tt.path, Times: 1})
			late := send("late")
			before := slices.Clone(told)
			// The rights on a guest go with it.
			sim.DestroyGuest(105)
			made()
			held.Release()
			switch status := r.wait(late).Status; {
			case slices.Contains(told, "late") != (status == 200):
				t.Errorf("held up while its guest was made anew: told of %q, answered %d", told, status)
			case tt.name == "destroy" && !slices.Contains(before, "late"):
				t.Errorf("let in by what the method says: told of %q, want it told before it goes on", before)
			case strings.HasPrefix(tt.name, "restore") && status != 403:
				t.Errorf("the restore over another guest: got %d, want 403", status)
			}
		})
	}
}
