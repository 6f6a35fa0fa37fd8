package pvesim_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"writ/adapters/pvesim"
)

// serve starts a cluster on real sockets. Nothing here waits for time to pass.
func serve(t *testing.T, l pvesim.Listen) (*pvesim.Sim, *pvesim.Server) {
	t.Helper()
	sim, err := pvesim.New(pvesim.Options{Nodes: []string{"pve1", "pve2"}, AuthDelay: -1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sim.AddToken(admin, pvesim.Token{Secret: labSecret}); err != nil {
		t.Fatal(err)
	}
	l.Addr = "127.0.0.1:0"
	sv, err := sim.Start(l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		sim.Close()
		if err := sv.Close(); err != nil {
			t.Error(err)
		}
	})
	return sim, sv
}

// TestBytesOnTheWire compares whole replies with recorded ones.
func TestBytesOnTheWire(t *testing.T) {
	_, sv := serve(t, pvesim.Listen{Plain: true})
	auth := "Authorization: PVEAPIToken=" + admin + "=" + labSecret + "\r\n"
	stamp := regexp.MustCompile(`(Date|Expires): [^\r]+`)
	head := func(status string, more ...string) string {
		return "HTTP/1.1 " + status + "\r\nCache-Control: max-age=0\r\nConnection: close\r\n" + strings.Join(more, "") + "Date: …\r\nExpires: …\r\nPragma: no-cache\r\nServer: pve-api-daemon/3.0\r\n\r\n"
	}
	jsonType := "Content-Type: application/json;charset=UTF-8\r\n"
	length := func(n int) string { return fmt.Sprintf("Content-Length: %d\r\n", n) }
	cases := map[string]struct{ request, want string }{
		"no credentials": {"GET /api2/json/version HTTP/1.1\r\nHost: x\r\n\r\n", head("401 No ticket")},
		"bad parameter": {
			"GET /api2/json/nodes/pve1/tasks?limit=abc HTTP/1.1\r\nHost: x\r\n" + auth + "\r\n",
			head("400 Parameter verification failed.", length(121), jsonType) +
				`{"data":null,"errors":{"limit":"type check ('integer') failed - got 'abc'"},"message":"Parameter verification failed.\n"}`,
		},
		"missing guest": {
			"GET /api2/json/nodes/pve1/qemu/4242/config HTTP/1.1\r\nHost: x\r\n" + auth + "\r\n",
			head("500 Configuration file 'nodes/pve1/qemu-server/4242.conf' does not exist", length(96), jsonType) +
				`{"data":null,"message":"Configuration file 'nodes/pve1/qemu-server/4242.conf' does not exist\n"}`,
		},
		"chunked body": {
			"PUT /api2/json/nodes/pve1/qemu/100/config HTTP/1.1\r\nHost: x\r\n" + auth + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
			head("501 chunked transfer encoding not supported", length(39)) + "chunked transfer encoding not supported",
		},
		"DELETE with a body": {
			"DELETE /api2/json/nodes/pve1/qemu/100 HTTP/1.1\r\nHost: x\r\n" + auth + "Content-Length: 7\r\n\r\npurge=1",
			head("501 Unexpected content for method 'DELETE'", length(38)) + "Unexpected content for method 'DELETE'",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var d net.Dialer
			conn, err := d.DialContext(t.Context(), "tcp", strings.TrimPrefix(sv.URL, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, c.request); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(conn)
			if err != nil {
				t.Fatal(err)
			}
			check(t, "reply", stamp.ReplaceAllString(string(got), "$1: …"), c.want)
		})
	}
}

func TestTLSOfEachNode(t *testing.T) {
	sim, sv := serve(t, pvesim.Listen{EachNode: true})
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(sv.CAPEM) {
		t.Fatal("CA: got no certificate, want one")
	}
	var seen string
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
		RootCAs: roots, MinVersion: tls.VersionTLS12, VerifyConnection: func(cs tls.ConnectionState) error {
			sum := sha256.Sum256(cs.PeerCertificates[0].Raw)
			seen = strings.ToUpper(strings.TrimSuffix(strings.ReplaceAll(fmt.Sprintf("% x", sum), " ", ":"), ":"))
			return nil
		},
	}}}
	ask := func(node string) (*http.Response, error) {
		req, err := http.NewRequestWithContext(t.Context(), "GET", sv.URLs[node]+"/api2/json/nodes/pve1/tasks", nil)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Authorization", "PVEAPIToken="+admin+"="+labSecret)
		return client.Do(req)
	}
	for _, node := range []string{"pve1", "pve2"} {
		resp, err := ask(node)
		if err != nil {
			t.Fatal(err)
		}
		check(t, node+": status", resp.StatusCode, 200)
		_ = resp.Body.Close()
		check(t, node+": fingerprint", seen, sv.Fingerprints[node])
	}
	down := func(up bool) {
		if err := sim.Node("pve2", pvesim.NodeControl{Up: new(up)}); err != nil {
			t.Fatal(err)
		}
	}
	down(false)
	var op *net.OpError
	resp, err := ask("pve2")
	if err == nil {
		_ = resp.Body.Close()
	}
	if !errors.As(err, &op) || op.Op != "dial" {
		t.Errorf("node down: got %v, want the connection refused", err)
	}
	down(true)
	resp, err = ask("pve2")
	if err != nil {
		t.Fatalf("node up again: got %v, want a reply", err)
	}
	_ = resp.Body.Close()
}

func TestCutReplyBreaksTheConnection(t *testing.T) {
	sim, sv := serve(t, pvesim.Listen{Plain: true})
	if _, err := sim.AddGuest(pvesim.Guest{VMID: 105}); err != nil {
		t.Fatal(err)
	}
	if _, err := sim.Inject(pvesim.Fault{Kind: pvesim.FaultCut, After: true}); err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), "DELETE", sv.URL+"/api2/json"+del105, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "PVEAPIToken="+admin+"="+labSecret)
	resp, err := http.DefaultClient.Do(req)
	if !errors.Is(err, io.EOF) {
		t.Errorf("reply: got %v, want EOF", err)
	}
	if err == nil {
		_ = resp.Body.Close()
	}
	if _, there := sim.Guest(105); there {
		t.Error("guest: got it still there, want it destroyed")
	}
}

// Closing the server breaks the connection of a held request and waits for its
// handler, but the request itself goes on in the cluster.
func TestServerCloseLeavesTheRequestRunning(t *testing.T) {
	sim, sv := serve(t, pvesim.Listen{Plain: true})
	if _, err := sim.AddGuest(pvesim.Guest{VMID: 105}); err != nil {
		t.Fatal(err)
	}
	hold, err := sim.Inject(pvesim.Fault{Kind: pvesim.FaultHold, Point: pvesim.PointFork})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), "DELETE", sv.URL+"/api2/json"+del105, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "PVEAPIToken="+admin+"="+labSecret)
	failed := make(chan error)
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		failed <- err
	}()
	<-hold.Reached()
	if err := sv.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; err == nil {
		t.Error("caller: got a reply, want a broken connection")
	}
	if _, there := sim.Guest(105); !there {
		t.Error("guest while held: got none, want it")
	}
	hold.Release()
	if _, there := sim.Guest(105); there {
		t.Error("guest after release: got it, want none")
	}
}

// The delay of a 401 on the real clock of package time.
func TestUnauthorizedTakesThreeSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim, err := pvesim.New(pvesim.Options{})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		got := sim.Do(t.Context(), request("GET", "/nonexist", "", ""))
		check(t, "status", got.Status, 401)
		check(t, "delay", time.Since(began), 3*time.Second)

		// A caller that gives up, and one that is there when the cluster ends.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		check(t, "given up", sim.Do(ctx, request("GET", "/version", "", "")).Cut, true)
		waiting := make(chan pvesim.Response)
		go func() { waiting <- sim.Do(t.Context(), request("GET", "/version", "", "")) }()
		synctest.Wait()
		sim.Close()
		check(t, "closed", (<-waiting).Cut, true)
		check(t, "after the end", sim.Do(t.Context(), request("GET", "/version", admin, "")).Cut, true)
	})
}

func TestAdminEndpoints(t *testing.T) {
	sim, sv := serve(t, pvesim.Listen{Plain: true})
	ask := func(method, path, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, sv.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(bufio.NewReader(resp.Body))
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	status, body := ask("POST", "/sim/guests", `{"kind":"lxc","vmid":201,"name":"ct1","disks":["local:8"],"macs":[""]}`)
	var g pvesim.Guest
	if err := json.Unmarshal([]byte(body), &g); err != nil || status != 201 {
		t.Fatalf("add guest: got %d %s, want 201 and the guest", status, body)
	}
	check(t, "disk", g.Disks[0], "local:201/vm-201-disk-0.raw")
	check(t, "same VMID", first(ask("POST", "/sim/guests", `{"vmid":201}`)), 409)
	check(t, "unknown field", first(ask("POST", "/sim/guests", `{"wmid":201}`)), 400)
	check(t, "fault", first(ask("POST", "/sim/faults", `{"kind":"task-hold","stage":"zombie","delay":"2s"}`)), 201)
	check(t, "bad fault", first(ask("POST", "/sim/faults", `{"kind":"meteor"}`)), 400)
	del := request("DELETE", "/nodes/pve1/lxc/201", admin, "")
	check(t, "destroy", sim.Do(t.Context(), del).Status, 200)
	if _, list := ask("GET", "/sim/faults", ""); !strings.Contains(list, `"held":1`) {
		t.Errorf("faults: got %s, want one task held", list)
	}
	check(t, "release", first(ask("POST", "/sim/faults/1/release", "")), 204)
	if _, list := ask("GET", "/sim/effects", ""); !strings.Contains(list, `"guest-destroyed"`) {
		t.Errorf("effects: got %s, want the guest destroyed", list)
	}
	if _, list := ask("GET", "/sim/requests", ""); !strings.Contains(list, `"method":"DELETE"`) {
		t.Errorf("requests: got %s, want the DELETE", list)
	}
	check(t, "node", first(ask("POST", "/sim/nodes/pve2", `{"daemon":"refusing","skew":"-1m"}`)), 204)
	check(t, "refusing", sim.Do(t.Context(), request("DELETE", "/nodes/pve2/lxc/201", admin, "")).Status, 595)
	check(t, "unknown node", first(ask("POST", "/sim/nodes/pve9", `{}`)), 404)
	check(t, "unknown state", first(ask("POST", "/sim/nodes/pve2", `{"proxy":"tired"}`)), 400)
	check(t, "no such guest", first(ask("DELETE", "/sim/guests/201", "")), 404)
	check(t, "proxy and daemon end", first(ask("POST", "/sim/nodes/pve2",
		`{"reload_proxy":true,"kill_proxy":true,"restart_daemon":true,"rotate_tasks":true}`)), 204)
	check(t, "serving again", sim.Do(t.Context(), request("DELETE", "/nodes/pve2/lxc/201", admin, "")).Status, 500)
}

// What another hand does, from another process.
func TestAdminChanges(t *testing.T) {
	sim, sv := serve(t, pvesim.Listen{Plain: true})
	if _, err := sim.AddGuest(pvesim.Guest{VMID: 105, Node: "pve1", Disks: []string{"local:1"}}); err != nil {
		t.Fatal(err)
	}
	hold, err := sim.Inject(pvesim.Fault{Kind: pvesim.FaultTaskHold, VMID: 105, Times: -1})
	if err != nil {
		t.Fatal(err)
	}
	var upid struct{ Data string }
	start := sim.Do(t.Context(), request("POST", "/nodes/pve1/qemu/105/status/start", admin, ""))
	<-hold.Reached()
	if err := json.Unmarshal(start.Body, &upid); err != nil || start.Status != 200 {
		t.Fatalf("start: got %d %s, want a UPID", start.Status, start.Body)
	}
	for _, c := range []struct {
		method, path, body string
		want               int
	}{
		{"POST", "/sim/guests/105", `{"node":"pve2","running":true,"config":{"lock":"backup"},"ha":"started"}`, 204},
		{"POST", "/sim/guests/105", `{"node":"pve9"}`, 400},
		{"POST", "/sim/guests/999", `{}`, 404},
		{"POST", "/sim/guests/x", `{}`, 404},
		{"POST", "/sim/guests/105", `{"wmid":1}`, 400},
		{"POST", "/sim/locks", `{"node":"pve2","kind":"qemu","vmid":105}`, 201},
		{"POST", "/sim/locks", `{"node":"pve2","kind":"qemu","vmid":105}`, 409},
		{"POST", "/sim/locks", `{"user_config":true}`, 201},
		{"DELETE", "/sim/locks/1", "", 204},
		{"DELETE", "/sim/locks/1", "", 404},
		{"DELETE", "/sim/locks/x", "", 404},
		{"POST", "/sim/locks", `{"node":"pve2","kind":"qemu","vmid":105}`, 201},
		{"POST", "/sim/locks", `{"node":"pve9","kind":"qemu","vmid":105}`, 409},
		{"POST", "/sim/locks", `{"node":"pve2","vmid":105,"migration":true}`, 201},
		{"POST", "/sim/locks", `{"node":"pve2","vmid":105,"migration":true}`, 409},
		{"POST", "/sim/guests/105/snapshots", `{"name":"s1","description":"before"}`, 204},
		{"POST", "/sim/guests/105/snapshots", `{"name":"s1"}`, 409},
		{"POST", "/sim/guests/105/snapshots", `{"name":"1"}`, 400},
		{"DELETE", "/sim/guests/105/snapshots/s1", "", 204},
		{"DELETE", "/sim/guests/105/snapshots/s1", "", 404},
		{"POST", "/sim/guests/105/replication/run", "", 404},
		{"POST", "/sim/guests/105/replication", `{"target":"pve9"}`, 404},
		{"POST", "/sim/guests/105/replication", `{"target":"pve1"}`, 201},
		{"POST", "/sim/guests/105/replication/run", "", 204},
		{"POST", "/sim/guests/105/replication", `{}`, 204},
		{"POST", "/sim/guests/105/replication/run", "", 404},
		{"POST", "/sim/tasks/" + upid.Data + "/kill", "", 204},
		{"POST", "/sim/tasks/" + upid.Data + "/kill", "", 404},
		{"DELETE", "/sim/tasks/" + upid.Data, "", 204},
		{"POST", "/sim/tokens", `{"id":"root@pam!t2"}`, 404},
		{"POST", "/sim/tokens", `{"id":"` + admin + `","expire":1}`, 204},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, sv.URL+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		check(t, c.method+" "+c.path+" "+c.body, resp.StatusCode, c.want)
	}
	g, _ := sim.Guest(105)
	if g.Node != "pve2" || !g.Running || g.Lock != "backup" || g.HA != "started" {
		t.Errorf("guest: got %+v, want it moved, running, locked and under HA", g)
	}
	check(t, "token expired", sim.Do(t.Context(), request("GET", "/version", admin, "")).Status, 401)
}

func first(status int, _ string) int { return status }

// A recorder is no connection: everything fits into an ordinary reply then.
func TestHandlerWithoutConnection(t *testing.T) {
	sim, err := pvesim.New(pvesim.Options{AuthDelay: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer sim.Close()
	w := httptest.NewRecorder()
	sim.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/api2/json/version", nil))
	check(t, "status", w.Code, 401)
}
