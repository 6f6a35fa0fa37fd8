package proxmox_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"writ/adapters/pvesim"
	"writ/domain/op"
)

// A guest is untouched, and its task's worker was killed: whether a child of it
// lives on is known only if the node has restarted since, by the uptime then and
// now alone.
func TestProbeAfterAKilledWorker(t *testing.T) {
	before := op.Observed{
		Found: true, Node: "pve1", Type: op.QEMU, VMID: 107,
		SMBIOSUUID: "aaaaaaaa-0000-4000-8000-000000000000", VMGenID: "aaaaaaaa-0000-4000-8000-000000000000",
		MACs: []string{"BC:24:11:00:00:0A"}, Volumes: []string{disk0, disk1}, Digest: strings.Repeat("1", 40),
	}
	const (
		list   = "GET /nodes/pve1/tasks?limit=500&source=all&start=0"
		status = "GET /nodes/pve1/status"
		killed = "unexpected status"
	)
	// The task began when the node had been up for 1000 seconds.
	task := func(node string, ticks int) string {
		return fmt.Sprintf(`{"upid":"UPID:%s:0000ABCD:%08X:6B000000:qmdestroy:107:%s:","endtime":1795162100}`, node, ticks, token)
	}
	mine := data("[" + task("pve1", 100_000) + "]")
	up := func(seconds int) answer { return data(fmt.Sprintf(`{"uptime":%d,"cpu":0.1}`, seconds)) }
	cases := []struct {
		name   string
		ended  string
		tasks  answer
		status answer
		want   op.Effect // none: an error
		reason string
	}{
		{"the node is up for longer", killed, mine, up(5000), op.EffectUnknown, "may still be removing a volume"},
		{"the node is up for as long, rounded", killed, mine, up(1000), op.EffectUnknown, "may not have restarted"},
		{"the node has restarted", killed, mine, up(999), op.EffectNone, "node pve1 has restarted since"},
		{"the worker was told to stop", "received interrupt", mine, up(5000), op.EffectUnknown, "received interrupt"},
		{"the worker was told to stop, and the node has restarted", "received interrupt", mine, up(30), op.EffectNone, "has restarted since"},
		{"the worker gave up on a child", "lvremove 'pve/vm-107-disk-0' error: got timeout", mine, up(5000), op.EffectUnknown, "got timeout"},
		{"killed, as older hosts say it", "unable to read tail (got 0 bytes)", mine, up(5000), op.EffectUnknown, "unable to read tail"},
		{"the worker ended by itself", "no such volume group", mine, up(5000), op.EffectNone, "all 2 volumes"},
		{"the task is not listed any more", killed, data("[]"), up(30), op.EffectUnknown, "lists no such task"},
		{"two tasks, one since the restart", killed, data("[" + task("pve1", 100_000) + "," + task("pve1", 2_000) + "]"), up(30), op.EffectUnknown, "may not have restarted"},
		{"the tasks can't be asked for", killed, bare(596, "Connection timed out"), up(30), "", "596"},
		{"the uptime can't be asked for", killed, mine, bare(596, "Connection timed out"), "", "596"},
		{"no uptime is told", killed, mine, data(`{"cpu":0.1}`), "", "holds no uptime"},
		{"a negative uptime", killed, mine, up(-1), "", "holds no uptime"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			l := launching(before, "")
			l.At = time.Unix(1_795_162_112-60, 0)
			r := newRawHost(t).on(clusterNow, data(quorate)).on(nextid107, taken107).
				on(config107, data(config("a", "1", ""))).on(content0, listing(disk0)).on(content1, listing(disk1)).
				on("GET /nodes/pve1/time", data(fmt.Sprintf(`{"time":%d}`, time.Now().Unix()))).
				on(list, c.tasks).on(status, c.status)
			f, err := r.host().Executors()[op.GuestDestroy].Probe(t.Context(), l, c.ended, nil)
			said := strings.Join(f.Evidence.Reasons, "; ")
			if err != nil {
				said = err.Error()
			}
			if (err != nil) != (c.want == "") || f.Evidence.Effect != c.want || !strings.Contains(said, c.reason) {
				t.Errorf("got %s, %v, because %s; want %s, because …%s…", f.Evidence.Effect, err, said, c.want, c.reason)
			}
		})
	}
}

// Volumes have the names of the VMID. What a killed worker left at work may hit
// those of the VMID's next guest: no op on that one may run beside it.
func TestProbeAfterAKilledWorkerFindsAnotherGuest(t *testing.T) {
	before := op.Observed{
		Found: true, Node: "pve1", Type: op.QEMU, VMID: 107,
		SMBIOSUUID: "aaaaaaaa-0000-4000-8000-000000000000", VMGenID: "aaaaaaaa-0000-4000-8000-000000000000",
		MACs: []string{"BC:24:11:00:00:0A"}, Volumes: []string{disk0, disk1}, Digest: strings.Repeat("1", 40),
	}
	l := launching(before, "")
	l.At = time.Unix(1_795_162_112-60, 0)
	task := fmt.Sprintf(`[{"upid":"UPID:pve1:0000ABCD:%08X:6B000000:qmdestroy:107:%s:","endtime":1795162100}]`, 100_000, token)
	for name, c := range map[string]struct {
		ended  string
		uptime int
		may    bool
	}{
		"the node is up for longer": {"unexpected status", 5000, true},
		"the node has restarted":    {"unexpected status", 999, false},
		"the task ended by itself":  {"OK", 5000, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRawHost(t).on(clusterNow, data(quorate)).on(nextid107, taken107).
				on(config107, data(config("b", "2", ""))).on(content0, listing(disk0)).on(content1, listing(disk1)).
				on("GET /nodes/pve1/time", data(fmt.Sprintf(`{"time":%d}`, time.Now().Unix()))).
				on("GET /nodes/pve1/tasks?limit=500&source=all&start=0", data(task)).
				on("GET /nodes/pve1/status", data(fmt.Sprintf(`{"uptime":%d,"cpu":0.1}`, c.uptime)))
			f, err := r.host().Executors()[op.GuestDestroy].Probe(t.Context(), l, c.ended, nil)
			if err != nil {
				t.Fatal(err)
			}
			said := strings.Join(f.Evidence.Reasons, "; ")
			if f.Evidence.Effect != op.EffectDone || f.MayStillAct != c.may || strings.Contains(said, "may still be removing") != c.may {
				t.Errorf("got %s, may still act %v, because %s; want done, and %v", f.Evidence.Effect, f.MayStillAct, said, c.may)
			}
		})
	}
}

// The same on the simulated cluster: a restart of the node decides it.
func TestSimKilledWorker(t *testing.T) {
	for name, c := range map[string]struct {
		restart bool
		want    op.Effect
	}{"the node runs on": {false, op.EffectUnknown}, "the node restarts": {true, op.EffectNone}} {
		t.Run(name, func(t *testing.T) {
			r := newAttemptRig(t)
			r.guest(pvesim.QEMU)
			a, l := r.attempt(1)
			r.fault(pvesim.Fault{Kind: pvesim.FaultTaskKill, VMID: 107, Stage: pvesim.StageFree + "0"})
			upid, err := r.exec.Launch(t.Context(), a, l)
			if err != nil {
				t.Fatal(err)
			}
			task := r.task(upid)
			if c.restart {
				r.node("pve1", pvesim.NodeControl{Up: new(false)})
				r.node("pve1", pvesim.NodeControl{Up: new(true)})
			}
			wantEffect(t, r.probe(l, task), c.want, 0)
		})
	}
}
