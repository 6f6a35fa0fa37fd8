package pvesim_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"writ/adapters/pvesim"
)

// Ten thousand guests, each destroyed once: the work per request must not grow
// with their number. With quadratic work this test does not end in its time.
func TestTenThousandGuests(t *testing.T) {
	const n = 10000
	r := newRig(t, pvesim.Pace{})
	for range n {
		r.vm(0, 1)
	}
	for vmid := 100; vmid < 100+n; vmid++ {
		r.upid("DELETE", fmt.Sprintf("/nodes/pve1/qemu/%d", vmid), admin)
	}
	check(t, "destroyed", r.count(pvesim.GuestDestroyed), n)
	check(t, "volumes left", r.disks(), 0)
	check(t, "next free VMID", r.call("GET", "/cluster/nextid", admin, "").Data, any("100"))
}

// The same seed, clock and requests give the same bytes.
func TestSameSeedSameHistory(t *testing.T) {
	history := func() string {
		r := newRig(t, pvesim.Pace{Start: time.Second, Volume: time.Second})
		var b strings.Builder
		for i := range 20 {
			body := fmt.Sprintf("vmid=%d&scsi0=local-lvm:1&scsi1=local:2&net0=virtio,bridge=vmbr0&name=g%d", 100+i, i)
			b.Write(r.call("POST", "/nodes/pve1/qemu", admin, body).Body)
		}
		for i := range 20 {
			r.clock.Advance(time.Second)
			b.Write(r.call("DELETE", fmt.Sprintf("/nodes/pve1/qemu/%d", 100+i), admin, "").Body)
			b.Write(r.call("GET", "/cluster/resources", admin, "").Body)
		}
		r.clock.Advance(time.Minute)
		b.Write(r.call("GET", "/nodes/pve1/tasks?source=all", admin, "").Body)
		b.Write(r.call("GET", "/cluster/log?max=100", admin, "").Body)
		return b.String()
	}
	one, two := history(), history()
	if one != two {
		t.Errorf("history: got %d and %d bytes that differ, want the same", len(one), len(two))
	}
	if !strings.Contains(one, "qmdestroy") {
		t.Error("history: got no destroy in it, want some")
	}
}

// Many callers at once: exactly one of those who want the same guest succeeds.
func TestConcurrentCallers(t *testing.T) {
	sim, err := pvesim.New(pvesim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer sim.Close()
	if _, err := sim.AddToken(admin, pvesim.Token{Secret: labSecret}); err != nil {
		t.Fatal(err)
	}
	const guests, callers = 50, 4
	for i := range guests {
		if _, err := sim.AddGuest(pvesim.Guest{VMID: 100 + i, Disks: []string{"local-lvm:1"}}); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for i := range guests {
				sim.Do(t.Context(), request("DELETE", fmt.Sprintf("/nodes/pve1/qemu/%d", 100+i), admin, ""))
				sim.Do(t.Context(), request("GET", "/cluster/resources", admin, ""))
			}
		})
	}
	wg.Wait()
	destroyed := map[int]int{}
	for _, e := range sim.Effects() {
		if e.Kind == pvesim.GuestDestroyed {
			destroyed[e.Instance]++
		}
	}
	check(t, "guests destroyed", len(destroyed), guests)
	for instance, times := range destroyed {
		check(t, fmt.Sprintf("guest %d", instance), times, 1)
	}
}

// Whatever is asked, there is an answer of a known shape and no panic.
func FuzzServe(f *testing.F) {
	f.Add("DELETE", "/api2/json/nodes/pve1/qemu/105", "purge=1", "", "")
	f.Add("POST", "/api2/json/nodes/pve1/qemu", "", "application/json", `{"vmid":106,"scsi0":"local:1","tags":["a","b"]}`)
	f.Add("PUT", "/api2/json/nodes/pve1/qemu/105/config", "delete=scsi0,x", "", "memory=1,2&net0=virtio&digest=")
	f.Add("GET", "/api2/extjs/nodes/pve1/tasks", "limit=-1&start=9999999999999999999", "", "")
	f.Add("PUT", "/api2/json/access/acl", "", "", "path=//vms//105&roles=PVEAdmin&users=root@pam")
	f.Add("GET", "/api2/json/cluster/nextid", "vmid=%zz&vmid=1", "", "")
	f.Fuzz(func(t *testing.T, method, path, query, ctype, body string) {
		r := newRig(t, pvesim.Pace{})
		r.vm(105, 1)
		req := request(method, "/", admin, body)
		req.Path, req.Query = path, query
		req.Header.Set("Content-Type", ctype)
		got := r.wait(r.send(req))
		if got.Status < 200 || got.Status > 599 || strings.ContainsAny(got.Reason, "\n") {
			t.Errorf("reply: got %d %q, want a status and a reason of one line", got.Status, got.Reason)
		}
	})
}
