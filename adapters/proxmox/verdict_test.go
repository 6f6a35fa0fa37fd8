package proxmox_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"writ/adapters/proxmox"
	"writ/domain/engine"
	"writ/domain/op"
)

const (
	upid105 = "UPID:pve1:0000ABCD:00ABCDEF:68A60E01:qmdestroy:105:svc@pve!writ:"
	upid201 = "UPID:pve1:0000ABCD:00ABCDEF:68A60E01:vzdestroy:201:svc@pve!writ:"
	page    = "<html><body><h1>Bad Gateway</h1></body></html>"
)

func hangUp(net.Conn, *http.Request) bool { return false }

func reset(conn net.Conn, _ *http.Request) bool {
	_ = conn.(*net.TCPConn).SetLinger(0)
	return false
}

// Every kind of answer to a launch, and what it proves. No case may send the
// request more than once.
func TestLaunchVerdict(t *testing.T) {
	const definite, ambiguous = true, false
	cases := []struct {
		name   string
		guest  op.Observed
		answer answer
		want   bool
		text   string // part of the error
	}{
		// Status codes.
		{"400 with the errors of parameters", vm105, recorded(t, "destroy-unknown-param"), definite, "force: property is not defined"},
		{"400 without JSON", vm105, bare(400, "Bad Request"), ambiguous, "400 Bad Request"},
		{"400 with JSON but no errors", vm105, refusal(400, "Parameter verification failed."), ambiguous, "400"},
		{"400 with empty errors", vm105, body(400, "x", "application/json", `{"data":null,"errors":{}}`), ambiguous, "400"},
		{"400 with errors but no data", vm105, body(400, "x", "application/json", `{"errors":{"a":"b"}}`), ambiguous, "400"},
		{"401", vm105, bare(401, "Authentication failed!"), definite, "401 Authentication failed!"},
		{"401 page of a proxy", vm105, body(401, "Unauthorized", "text/html", page), ambiguous, "401"},
		{"403", vm105, refusal(403, "Permission check failed (/vms/105, VM.Allocate)"), definite, "VM.Allocate"},
		{"403 of an older server", vm105, body(403, "Permission check failed (/vms/105, VM.Allocate)", "application/json", `{"data":null}`), definite, "VM.Allocate"},
		{"403 page of a firewall", vm105, body(403, "Forbidden", "text/html; charset=utf-8", page), ambiguous, "403"},
		{"404", vm105, body(404, "Not Found", "application/json", `{"data":null}`), ambiguous, "404"},
		{"429", vm105, bare(429, "Too Many Requests"), ambiguous, "429"},
		{"501 no such method on the path", vm105, body(501, "Method 'DELETE /nodes/pve1/qemu/105' not implemented", "application/json", `{"data":null,"message":"Method 'DELETE /nodes/pve1/qemu/105' not implemented"}`), definite, "not implemented"},
		{"501 about another path", vm105, bare(501, "Method 'DELETE /nodes/pve1/qemu/106' not implemented"), ambiguous, "501"},
		{"501 no such uri", vm105, bare(501, "no such uri"), definite, "no such uri"},
		{"501 internal error of an older server", vm105, bare(501, "can't lock file '/var/log/pve/tasks/.active.lock' - got timeout"), ambiguous, "501"},
		{"502 page", vm105, body(502, "Bad Gateway", "text/html", page), ambiguous, "502 Bad Gateway"},
		{"503 with data null", vm105, body(503, "Service Unavailable", "application/json", `{"data":null}`), ambiguous, "503"},
		{"504", vm105, body(504, "Gateway Time-out", "text/html", page), ambiguous, "504"},
		{"506", vm105, bare(506, "x"), ambiguous, "506"},
		{"595", vm105, recorded(t, "delete-595"), definite, "595 Connection refused"},
		{"595 page", vm105, body(595, "x", "text/html", page), ambiguous, "595"},
		{"596", vm105, recorded(t, "delete-596"), ambiguous, "596 Connection timed out"},
		{"597", vm105, bare(597, "Broken pipe"), ambiguous, "597"},
		{"599", vm105, bare(599, "Too many redirections"), ambiguous, "599 Too many redirections"},
		{"204", vm105, raw("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"), ambiguous, "204"},
		{"301", vm105, raw("HTTP/1.1 301 Moved\r\nLocation: /api2/json/elsewhere\r\nContent-Length: 0\r\n\r\n"), ambiguous, "301"},
		{"308", vm105, raw("HTTP/1.1 308 Permanent Redirect\r\nLocation: /api2/json/nodes/pve1/qemu/105\r\nContent-Length: 0\r\n\r\n"), ambiguous, "308"},

		// Texts of status 500 that come before the fork.
		{"running", vm105, refusal(500, "VM 105 is running - destroy failed"), definite, "running"},
		{"running, older server", vm105, body(500, "VM 105 is running - destroy failed", "application/json", `{"data":null}`), definite, "running"},
		{"another machine is running", vm105, refusal(500, "VM 106 is running - destroy failed"), ambiguous, "106"},
		{"not on this node", vm105, refusal(500, "Configuration file 'nodes/pve1/qemu-server/105.conf' does not exist"), definite, "does not exist"},
		{"not on another node", vm105, refusal(500, "Configuration file 'nodes/pve2/qemu-server/105.conf' does not exist"), ambiguous, "pve2"},
		{"protected", vm105, refusal(500, "can't remove VM 105 - protection mode enabled"), definite, "protection"},
		{"in HA", vm105, refusal(500, "unable to remove VM 105 - used in HA resources and purge parameter not set."), definite, "HA"},
		{"replicated", vm105, refusal(500, "There is a replication job '105-0' for guest '105' - Please remove that first."), definite, "replication"},
		{"container not on this node", ct201, refusal(500, "Configuration file 'nodes/pve1/lxc/201.conf' does not exist"), definite, "does not exist"},
		{"container running", ct201, refusal(500, "unable to destroy CT 201 - container is running"), definite, "running"},
		{"container protected", ct201, refusal(500, "can't remove CT 201 - protection mode enabled"), definite, "protection"},
		{"container in HA", ct201, refusal(500, "unable to remove CT 201 - used in HA resources and purge parameter not set."), definite, "HA"},
		{"container replicated", ct201, refusal(500, "There is a replication job '201-1' for guest '201' - Please remove that first."), definite, "replication"},
		{"container locked", ct201, refusal(500, "CT is locked (snapshot-delete)"), definite, "locked"},
		{"machine locked, which it only tells in the task", vm105, refusal(500, "VM is locked (backup)"), ambiguous, "locked"},
		{"unknown node", vm105, refusal(500, "hostname lookup 'pve1' failed - failed to get address info for: pve1: Name or service not known"), definite, "hostname lookup"},
		{"proxy loop", vm105, refusal(500, "proxy loop detected"), definite, "loop"},
		{"no fork", vm105, refusal(500, "unable to fork worker - Cannot allocate memory"), definite, "fork"},
		{"worker did not start", vm105, refusal(500, "got no worker upid - start worker failed"), definite, "upid"},
		{"worker could not make its log", vm105, refusal(500, "starting worker failed: unable to create file '/var/log/pve/tasks/1/x' - No space left on device"), definite, "No space"},
		{"no access list", vm105, refusal(500, "Unable to load access control list: Connection refused"), definite, "access control"},
		{"a text of the list with more before it", vm105, refusal(500, "oops: VM 105 is running - destroy failed"), ambiguous, "oops"},
		{"a text of the list with more after it", vm105, refusal(500, "VM 105 is running - destroy failed, and more"), ambiguous, "more"},
		{"a text of the list as the first line of several", vm105, body(500, "proxy loop detected", "application/json", `{"data":null,"message":"proxy loop detected\nand more\n"}`), ambiguous, "loop"},
		{"a text of the list on a page", vm105, body(500, "proxy loop detected", "text/html", page), ambiguous, "loop"},
		{"the task runs but can't be listed", vm105, refusal(500, "can't lock file '/var/log/pve/tasks/.active.lock' - got timeout"), ambiguous, ".active.lock"},
		{"500 of anything else", vm105, refusal(500, "Internal Server Error"), ambiguous, "500"},
		{"500 without a reason", vm105, raw("HTTP/1.1 500\r\nConnection: close\r\n\r\n"), ambiguous, "500"},

		// Answers that are not HTTP, or not whole.
		{"end of file before the header", vm105, hangUp, ambiguous, "no usable answer"},
		{"end of file within the header", vm105, raw("HTTP/1.1 200 OK\r\nContent-Ty"), ambiguous, "no usable answer"},
		{"end of file within the body", vm105, raw("HTTP/1.1 200 OK\r\nContent-Length: 90\r\nConnection: close\r\n\r\n{\"data\":\"UPID"), ambiguous, "broke off"},
		{"connection reset", vm105, reset, ambiguous, "no usable answer"},
		{"not HTTP", vm105, raw("SSH-2.0-OpenSSH_9.2\r\n"), ambiguous, "no usable answer"},
		{"header without end", vm105, raw("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 128<<10)), ambiguous, "no usable answer"},
		{"body without end", vm105, body(200, "OK", "application/json", strings.Repeat(" ", 2<<20)), ambiguous, "longer than"},

		// Status 200 that names no task of this launch.
		{"empty body", vm105, body(200, "OK", "application/json", ""), ambiguous, "empty"},
		{"a page", vm105, body(200, "OK", "text/html", page), ambiguous, "not JSON of Proxmox VE"},
		{"data null", vm105, data("null"), ambiguous, "null"},
		{"no data", vm105, body(200, "OK", "application/json", "{}"), ambiguous, "no data"},
		{"data twice", vm105, body(200, "OK", "application/json", `{"data":"`+upid105+`","data":"`+upid105+`"}`), ambiguous, "duplicate"},
		{"data of another type", vm105, data("1"), ambiguous, "can't be read"},
		{"no UPID", vm105, data(`"hello"`), ambiguous, "not a UPID"},
		{"UPID of seven fields", vm105, data(`"UPID:pve1:0000ABCD:00ABCDEF:68A60E01:qmdestroy:105"`), ambiguous, "not a UPID"},
		{"task of another node", vm105, data(`"` + strings.Replace(upid105, "pve1", "pve2", 1) + `"`), ambiguous, "is not qmdestroy 105"},
		{"task of another guest", vm105, data(`"` + strings.Replace(upid105, ":105:", ":106:", 1) + `"`), ambiguous, "is not qmdestroy 105"},
		{"task of another type", vm105, data(`"` + strings.Replace(upid105, "qmdestroy", "qmstop", 1) + `"`), ambiguous, "is not qmdestroy 105"},
		{"task of another token", vm105, data(`"` + strings.Replace(upid105, "!writ", "!other", 1) + `"`), ambiguous, "is not qmdestroy 105"},
		{"task of a machine for a container", ct201, data(`"` + strings.Replace(upid201, "vzdestroy", "qmdestroy", 1) + `"`), ambiguous, "is not vzdestroy 201"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			l := launching(c.guest, "")
			r := newRawHost(t).on("DELETE "+l.Request.Path, c.answer)
			upid, err := launch(t.Context(), r.host().Executors()[op.GuestDestroy], l)
			if err == nil {
				t.Fatalf("launch gave %q and no error", upid)
			}
			if got := engine.IsDefinite(err); got != c.want {
				t.Errorf("definite: got %v, want %v, for: %v", got, c.want, err)
			}
			if !strings.Contains(err.Error(), c.text) {
				t.Errorf("error: got %q, want it to hold %q", err, c.text)
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("the error shows the secret: %v", err)
			}
			if got, want := r.requests(), []string{"DELETE " + l.Request.Path}; fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("requests: got %q, want %q", got, want)
			}
		})
	}
}

// Refusals as a real Proxmox VE sent them, each to the request that got it.
func TestRecordedRefusalsAreDefinite(t *testing.T) {
	for name, g := range map[string]op.Guest{
		"destroy-running":       {Type: op.QEMU, VMID: 111},
		"destroy-protected":     {Type: op.QEMU, VMID: 112},
		"destroy-ha":            {Type: op.QEMU, VMID: 117},
		"lxc-destroy-running":   {Type: op.LXC, VMID: 200},
		"lxc-destroy-protected": {Type: op.LXC, VMID: 200},
		"lxc-destroy-locked":    {Type: op.LXC, VMID: 200},
	} {
		l := launching(op.Observed{Found: true, Node: "pve1", Type: g.Type, VMID: g.VMID}, "")
		r := newRawHost(t).on("DELETE "+l.Request.Path, recorded(t, name))
		if _, err := launch(t.Context(), r.host().Executors()[op.GuestDestroy], l); !engine.IsDefinite(err) {
			t.Errorf("%s: got %v, want a definite error", name, err)
		}
	}
}

// What the answer said is kept, for reads and launches alike.
func TestStatusErrorKeepsTheAnswer(t *testing.T) {
	r := newRawHost(t).on("GET /version", recorded(t, "destroy-unknown-param"))
	_, err := r.host().Version(t.Context())
	got, ok := errors.AsType[*proxmox.StatusError](err)
	if !ok {
		t.Fatalf("got %v, want a *StatusError", err)
	}
	const unknown = "property is not defined in schema and the schema does not allow additional properties"
	if got.Method != "GET" || got.Path != "/version" || got.Status != 400 || got.Reason != "Parameter verification failed." ||
		got.Message != "Parameter verification failed.\n" || got.Text() != "Parameter verification failed." ||
		len(got.Errors) != 1 || got.Errors["force"] != unknown || !strings.HasPrefix(got.Body, `{"data":null`) {
		t.Errorf("got %+v", got)
	}
	if want := "GET /version: 400 Parameter verification failed.; force: " + unknown; got.Error() != want {
		t.Errorf("got %q, want %q", got.Error(), want)
	}
}

// Text of the host goes into logs and into the record, where invalid UTF-8 and
// control characters have no place.
func TestForeignTextIsCleaned(t *testing.T) {
	r := newRawHost(t).on("GET /version", body(500, "a\xffb\tc"+strings.Repeat("d", 5000), "text/plain", "\x1b[31m\xff"))
	_, err := r.host().Version(t.Context())
	got, ok := errors.AsType[*proxmox.StatusError](err)
	if !ok || !strings.HasPrefix(got.Reason, "a\uFFFDb cd") || len(got.Reason) > 1100 || got.Body != " [31m\uFFFD" || len(got.Error()) > 700 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestLaunchGivesTheUPID(t *testing.T) {
	for _, c := range []struct {
		seen  op.Observed
		query string
		upid  string
	}{
		{vm105, "", upid105},
		{vm105, "purge=1", upid105},
		{ct201, "force=1&purge=0", upid201},
	} {
		l := launching(c.seen, c.query)
		request := "DELETE " + l.Request.Path
		if c.query != "" {
			request += "?" + c.query
		}
		r := newRawHost(t).on(request, data(`"`+c.upid+`"`))
		got, err := launch(t.Context(), r.host().Executors()[op.GuestDestroy], l)
		if err != nil || got != c.upid {
			t.Errorf("launch %s: got %q, %v, want %q", request, got, err, c.upid)
		}
		if auth := r.headers[0].Get("Authorization"); auth != "PVEAPIToken="+token+"="+secret {
			t.Errorf("authorization: got %q", auth)
		}
		if conn := r.headers[0].Get("Connection"); conn != "close" {
			t.Errorf("connection: got %q, want close: a launch has a connection of its own", conn)
		}
	}
}

func TestLaunchNotWrittenIsDefinite(t *testing.T) {
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "http://" + ln.Addr().String()
	_ = ln.Close()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	// A server that does not speak TLS to a client that does.
	plain := newRawHost(t)
	noTLS := strings.Replace(plain.url(), "http:", "https:", 1)

	for _, c := range []struct {
		name string
		ctx  context.Context
		url  string
		text string
	}{
		{"connection refused", t.Context(), closed, "refused"},
		{"cancelled before the dial", cancelled, closed, "canceled"},
		{"no TLS", t.Context(), noTLS, "not sent"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t, proxmox.Config{BaseURL: c.url})
			_, err := launch(c.ctx, h.Executors()[op.GuestDestroy], launching(vm105, ""))
			if !engine.IsDefinite(err) || !strings.Contains(fmt.Sprint(err), c.text) {
				t.Errorf("got definite %v, %v, want definite and %q", engine.IsDefinite(err), err, c.text)
			}
		})
	}
	if got := plain.requests(); len(got) != 0 {
		t.Errorf("requests in clear text: %q", got)
	}
}

// The client gives up while the host has the request.
func TestLaunchGivenUpIsAmbiguous(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := newRawHost(t)
	l := launching(vm105, "")
	r.on("DELETE "+l.Request.Path, func(conn net.Conn, _ *http.Request) bool {
		cancel()
		_, _ = io.Copy(io.Discard, conn) // until the client hangs up
		return false
	})
	_, err := launch(ctx, r.host().Executors()[op.GuestDestroy], l)
	if err == nil || engine.IsDefinite(err) {
		t.Errorf("got definite %v, %v, want an ambiguous error", engine.IsDefinite(err), err)
	}
	if got := r.requests(); len(got) != 1 {
		t.Errorf("requests: got %q, want one", got)
	}
}

// A host that never answers keeps nobody waiting for ever.
func TestTimeouts(t *testing.T) {
	silence := func(conn net.Conn, _ *http.Request) bool {
		_, _ = io.Copy(io.Discard, conn)
		return false
	}
	l := launching(vm105, "")
	r := newRawHost(t).on("DELETE "+l.Request.Path, silence).on("GET /version", silence)
	h := r.host()
	h.Hurry(50 * time.Millisecond)
	if _, err := h.Version(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("read: got %v, want a deadline exceeded", err)
	}
	if _, err := launch(t.Context(), h.Executors()[op.GuestDestroy], l); !errors.Is(err, context.DeadlineExceeded) || engine.IsDefinite(err) {
		t.Errorf("launch: got %v, want a deadline exceeded, ambiguous", err)
	}
}
