package proxmox_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"writ/adapters/proxmox"
	"writ/domain/engine"
	"writ/domain/op"
)

const (
	token  = "svc@pve!writ"
	secret = "3b1f6c0a-9d6e-4f37-8a11-5d2c7be90a44"
)

// An answer is what a rawHost does with one request. It tells whether the
// connection can take another.
type answer func(conn net.Conn, req *http.Request) (keep bool)

// raw answers with exactly these bytes.
func raw(bytes string) answer {
	return func(conn net.Conn, _ *http.Request) bool {
		_, _ = io.WriteString(conn, bytes)
		return !strings.Contains(strings.ToLower(bytes), "connection: close") && strings.Contains(bytes, "Content-Length:")
	}
}

// recorded answers with bytes that a real Proxmox VE sent.
func recorded(t *testing.T, name string) answer {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "recorded", name+".http"))
	if err != nil {
		t.Fatal(err)
	}
	return raw(string(b))
}

// data answers 200 with a value.
func data(json string) answer {
	return body(200, "OK", "application/json;charset=UTF-8", `{"data":`+json+`}`)
}

// refusal answers as the API's handlers refuse: text in the reason phrase and,
// with its line feed, in the body.
func refusal(status int, text string) answer {
	return body(status, text, "application/json;charset=UTF-8", fmt.Sprintf(`{"data":null,"message":%q}`, text+"\n"))
}

// bare answers with a status and no body, as the proxy inside Proxmox VE does.
func bare(status int, reason string) answer {
	return raw(fmt.Sprintf("HTTP/1.1 %d %s\r\nServer: pve-api-daemon/3.0\r\nConnection: close\r\n\r\n", status, reason))
}

func body(status int, reason, mime, text string) answer {
	conn := "Keep-Alive"
	if status >= 400 {
		conn = "close"
	}
	return raw(fmt.Sprintf("HTTP/1.1 %d %s\r\nContent-Type: %s\r\nConnection: %s\r\nContent-Length: %d\r\n\r\n%s",
		status, reason, mime, conn, len(text), text))
}

// inTurn gives one answer after the other, the last for good.
func inTurn(answers ...answer) answer {
	var mu sync.Mutex
	return func(conn net.Conn, req *http.Request) bool {
		mu.Lock()
		a := answers[0]
		if len(answers) > 1 {
			answers = answers[1:]
		}
		mu.Unlock()
		return a(conn, req)
	}
}

// A rawHost is a server over plain TCP that answers by a script. Whatever the
// script does not know fails the test.
type rawHost struct {
	t  *testing.T
	ln net.Listener
	wg sync.WaitGroup

	mu      sync.Mutex
	answers map[string]answer
	seen    []string
	headers []http.Header
	conns   []net.Conn
}

func newRawHost(t *testing.T) *rawHost {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &rawHost{t: t, ln: ln, answers: make(map[string]answer)}
	r.wg.Go(r.accept)
	t.Cleanup(func() {
		_ = ln.Close()
		r.mu.Lock()
		for _, c := range r.conns {
			_ = c.Close()
		}
		r.mu.Unlock()
		r.wg.Wait()
	})
	return r
}

func (r *rawHost) url() string { return "http://" + r.ln.Addr().String() }

// on sets the answer to a request such as "GET /version".
func (r *rawHost) on(request string, a answer) *rawHost {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answers[request] = a
	return r
}

// mutations are the requests seen that were not reads.
func (r *rawHost) mutations() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(r.seen), func(s string) bool { return strings.HasPrefix(s, "GET ") })
}

func (r *rawHost) requests() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.seen)
}

func (r *rawHost) accept() {
	for {
		conn, err := r.ln.Accept()
		if err != nil {
			return
		}
		r.mu.Lock()
		r.conns = append(r.conns, conn)
		r.mu.Unlock()
		r.wg.Go(func() { r.serve(conn) })
	}
}

func (r *rawHost) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	in := bufio.NewReader(conn)
	for {
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		name := req.Method + " " + strings.TrimPrefix(req.RequestURI, "/api2/json")
		r.mu.Lock()
		r.seen = append(r.seen, name)
		r.headers = append(r.headers, req.Header)
		a := r.answers[name]
		r.mu.Unlock()
		if a == nil {
			r.t.Errorf("the host was asked for %q, which the script does not know", name)
			return
		}
		if !a(conn, req) {
			return
		}
	}
}

// host makes a Host whose every node is this server.
func (r *rawHost) host() *proxmox.Host { return newHost(r.t, proxmox.Config{BaseURL: r.url()}) }

func newHost(t *testing.T, c proxmox.Config) *proxmox.Host {
	t.Helper()
	c.TokenID, c.Secret = token, secret
	h, err := proxmox.New(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

func target(typ op.GuestType, vmid int) op.Target {
	return op.Target{Node: "pve1", Guest: &op.Guest{Type: typ, VMID: vmid}}
}

// launching announces a destroy of a guest as observed.
func launching(seen op.Observed, query string) *op.Launching {
	return &op.Launching{
		Header: op.Header{
			OpID: "00112233445566778899", Attempt: 1, Class: op.GuestDestroy,
			Target: op.Target{Node: seen.Node, Guest: &op.Guest{Type: seen.Type, VMID: seen.VMID}},
		},
		Node: seen.Node, Credential: token, Observed: seen,
		Request: op.Request{Method: "DELETE", Path: fmt.Sprintf("/nodes/%s/%s/%d", seen.Node, seen.Type, seen.VMID), Query: query},
	}
}

// attemptOf is the attempt that was announced.
func attemptOf(l *op.Launching, earlier ...int) engine.Attempt {
	return engine.Attempt{Nonce: l.Nonce, Number: l.Attempt, Intent: op.Intent{Class: l.Class, Target: l.Target}, Earlier: earlier}
}

// launch sends what was announced, as its first attempt.
func launch(ctx context.Context, x engine.Executor, l *op.Launching) (string, error) {
	return x.Launch(ctx, attemptOf(l), l)
}

var (
	vm105 = op.Observed{Found: true, Node: "pve1", Type: op.QEMU, VMID: 105}
	ct201 = op.Observed{Found: true, Node: "pve1", Type: op.LXC, VMID: 201}
)
