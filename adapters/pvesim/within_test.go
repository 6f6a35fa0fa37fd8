package pvesim_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"writ/adapters/pvesim"
)

// Served within the process: the same API by the same net/http, without a socket,
// inside a bubble.
func TestServedWithinTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim, err := pvesim.New(pvesim.Options{Nodes: []string{"pve1", "pve2"}})
		if err != nil {
			t.Fatal(err)
		}
		defer sim.Close()
		for _, bad := range []string{"127.0.0.1:0", "127.0.0.1"} {
			if _, err := sim.Start(pvesim.Listen{Addr: bad, Within: true}); err == nil {
				t.Errorf("address %s: got no error, want one", bad)
			}
		}
		sv, err := sim.Start(pvesim.Listen{Addr: "127.0.0.1:8006", EachNode: true, Plain: true, Within: true})
		if err != nil {
			t.Fatal(err)
		}
		defer sv.Close()
		transport := &http.Transport{DialContext: sv.Dial}
		defer transport.CloseIdleConnections()
		get := func(node string) (int, error) {
			t.Helper()
			req, err := http.NewRequestWithContext(t.Context(), "GET", sv.URLs[node]+"/api2/json/version", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := transport.RoundTrip(req)
			if err != nil {
				return 0, err
			}
			return resp.StatusCode, resp.Body.Close()
		}
		began := time.Now()
		if status, err := get("pve2"); status != 401 || err != nil {
			t.Errorf("without a credential: got %d, %v, want 401", status, err)
		}
		check(t, "it took", time.Since(began), 3*time.Second)

		// A node that is off refuses, as a socket would.
		if err := sim.Node("pve2", pvesim.NodeControl{Up: new(false)}); err != nil {
			t.Fatal(err)
		}
		if status, err := get("pve2"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("node off: got %d, %v, want it refused", status, err)
		}
		if err := sim.Node("pve2", pvesim.NodeControl{Up: new(true)}); err != nil {
			t.Fatal(err)
		}
		if status, err := get("pve2"); status != 401 || err != nil {
			t.Errorf("on again: got %d, %v, want 401", status, err)
		}
		if _, err := sv.Dial(t.Context(), "tcp", "127.0.0.1:9"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("nobody there: got %v, want it refused", err)
		}
	})
	_, sv := serve(t, pvesim.Listen{Plain: true})
	if _, err := sv.Dial(t.Context(), "tcp", sv.URL); err == nil {
		t.Error("dial of one that has sockets: got no error, want one")
	}
}

// A reload drops what is idle and nothing else; a sudden end drops all, but not
// what had been passed on.
func TestProxyEnds(t *testing.T) {
	sim, sv := serve(t, pvesim.Listen{Plain: true, EachNode: true})
	node := func(ch pvesim.NodeControl) {
		t.Helper()
		if err := sim.Node("pve1", ch); err != nil {
			t.Fatal(err)
		}
	}
	addr := strings.TrimPrefix(sv.URLs["pve1"], "http://")
	connect := func() net.Conn {
		t.Helper()
		var d net.Dialer
		conn, err := d.DialContext(t.Context(), "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	send := func(conn net.Conn, line string) {
		t.Helper()
		if _, err := io.WriteString(conn, line+" HTTP/1.1\r\nHost: x\r\nAuthorization: PVEAPIToken="+admin+"="+labSecret+"\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	read := func(conn net.Conn) string {
		t.Helper()
		buf := make([]byte, 4096)
		n, err := conn.Read(buf)
		if err != nil {
			return err.Error()
		}
		line, _, _ := strings.Cut(string(buf[:n]), "\r\n")
		return line
	}
	const deletes = "DELETE /api2/json/nodes/pve1/qemu/105"
	for _, c := range []struct {
		name string
		end  pvesim.NodeControl
		want string
	}{
		{"reload", pvesim.NodeControl{ReloadProxy: true}, "HTTP/1.1 200 OK"},
		{"killed", pvesim.NodeControl{KillProxy: true}, "EOF"},
	} {
		if _, err := sim.AddGuest(pvesim.Guest{VMID: 105}); err != nil {
			t.Fatal(err)
		}
		idle, busy := connect(), connect()
		send(idle, "GET /api2/json/version")
		check(t, c.name+": first request", read(idle), "HTTP/1.1 200 OK")
		hold, err := sim.Inject(pvesim.Fault{Kind: pvesim.FaultHold, Method: "DELETE", Point: pvesim.PointQueue})
		if err != nil {
			t.Fatal(err)
		}
		send(busy, deletes)
		<-hold.Reached()
		node(c.end)
		check(t, c.name+": idle connection", read(idle), "EOF")
		hold.Release()
		check(t, c.name+": request under way", read(busy), c.want)
		_, there := sim.Guest(105)
		check(t, c.name+": guest there", there, false)
		again := connect()
		send(again, "GET /api2/json/version")
		check(t, c.name+": new connection", read(again), "HTTP/1.1 200 OK")
	}
}

// A restart of pvedaemon loses what waits for it and interrupts the workers.
func TestDaemonRestarts(t *testing.T) {
	r := newRig(t, pvesim.Pace{Volume: time.Minute})
	r.vm(105, 1)
	r.vm(106, 1)
	held := r.inject(pvesim.Fault{Kind: pvesim.FaultTaskHold, VMID: 105, Stage: pvesim.StageCheck})
	upid := r.upid("DELETE", del105, admin)
	<-held.Reached()
	r.node("pve1", pvesim.NodeControl{Daemon: pvesim.Hanging})
	waiting := r.send(request("DELETE", "/nodes/pve1/qemu/106", admin, ""))
	r.node("pve1", pvesim.NodeControl{RestartDaemon: true})
	check(t, "worker", r.exit(upid), "received interrupt")
	check(t, "waiting request", r.wait(waiting).Status, 596)
	check(t, "destroyed", r.count(pvesim.GuestDestroyed), 0)
	check(t, "next request", r.call("DELETE", "/nodes/pve1/qemu/106", admin, "").Status, 200)
}

// What repeats a request does so once, after the first answer, and keeps the
// second to itself.
func TestRepeatedRequest(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.vm(105, 1)
	in := r.inject(pvesim.Fault{Kind: pvesim.FaultRepeat, Method: "DELETE", Delay: time.Second, Times: -1})
	check(t, "first", r.call("DELETE", del105, admin, "").Status, 200)
	r.vm(105, 1)
	check(t, "destroyed before the second", r.count(pvesim.GuestDestroyed), 1)
	r.clock.Advance(time.Hour)
	check(t, "destroyed after it", r.count(pvesim.GuestDestroyed), 2)
	check(t, "hits", in.Hits(), 1)
	reqs := r.sim.Requests()
	check(t, "requests", len(reqs), 2)
	check(t, "second after the first", reqs[1].At.Sub(reqs[0].Ended), time.Second)
}

func TestActiveLockSaysWhy(t *testing.T) {
	const full = "unable to open file '/var/log/pve/tasks/active.tmp.7' - No space left on device"
	r := newRig(t, pvesim.Pace{})
	r.vm(105, 1)
	r.inject(pvesim.Fault{Kind: pvesim.FaultActiveLock, Text: full})
	check(t, "message", r.call("DELETE", del105, admin, "").Message, full+"\n")
	check(t, "destroyed", r.count(pvesim.GuestDestroyed), 1)
}

// A task's process start and its node's uptime are of the same clock, which
// begins anew with the node.
func TestUptimeTellsARestart(t *testing.T) {
	r := newRig(t, pvesim.Pace{})
	r.vm(105, 1)
	up := func() int {
		m, _ := r.call("GET", "/nodes/pve1/status", admin, "").Data.(map[string]any)
		n, _ := m["uptime"].(float64)
		return int(n)
	}
	before := up()
	check(t, "process start in ticks", strings.Split(r.upid("DELETE", del105, admin), ":")[3], "00057E40")
	check(t, "uptime", before, 0x57E40/100)
	r.node("pve1", pvesim.NodeControl{Up: new(false)})
	r.clock.Advance(time.Minute)
	r.node("pve1", pvesim.NodeControl{Up: new(true)})
	check(t, "uptime after a restart", up(), 0)
}
