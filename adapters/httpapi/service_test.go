package httpapi_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"writ/adapters/httpapi"
	"writ/domain/engine"
	"writ/domain/eventstore/storetest"
	"writ/domain/gate"
	"writ/domain/op"
	"writ/domain/signedop"
)

// A fakeHost has one guest, and keeps its own account of what was done to it.
type fakeHost struct {
	mu       sync.Mutex
	guest    op.Observed
	gone     bool
	launches int
	hold     chan struct{} // tasks run until it is closed
	lost     bool          // the answer to a launch is lost, and no task was started
	fenced   bool          // a fence stands as soon as it is raised
}

func (h *fakeHost) set(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
}

func (h *fakeHost) Facts(context.Context, op.Target) (op.Facts, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return op.Facts{Found: !h.gone, Node: "pve1", Name: h.guest.Name, Storages: []string{"local-lvm"}}, nil
}

func (h *fakeHost) Observe(context.Context, engine.Attempt) (op.Observed, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gone {
		return op.Observed{NodeOnline: true, Quorate: true}, nil
	}
	return h.guest, nil
}

func (h *fakeHost) Request(engine.Attempt, op.Observed) (op.Request, string, error) {
	return op.Request{Method: "DELETE", Path: "/nodes/pve1/qemu/105"}, "writ@pve!launch", nil
}

func (h *fakeHost) Launch(context.Context, engine.Attempt, *op.Launching) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.launches++
	if h.lost {
		return "", errors.New("the connection broke")
	}
	return "UPID:pve1:00000001:00000002:00000003:qmdestroy:105:writ@pve!launch:", nil
}

func (h *fakeHost) Task(context.Context, string) (engine.Task, error) {
	select {
	case <-h.hold:
	default:
		return engine.Task{Phase: engine.TaskActive}, nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.gone = true
	return engine.Task{Phase: engine.TaskEnded, ExitStatus: "OK"}, nil
}

func (h *fakeHost) FindTasks(context.Context, *op.Launching) (engine.TaskSearch, error) {
	return engine.TaskSearch{Exact: true, Complete: true}, nil
}

func (h *fakeHost) Fence(context.Context, *op.Launching) (engine.Fence, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return engine.Fence{Confirmed: h.fenced, Reasons: []string{"node pve1 does not answer"}}, nil
}

func (h *fakeHost) PrecedesEffect(string) bool { return false }

func (h *fakeHost) Probe(context.Context, *op.Launching, string, []string) (engine.Finding, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.gone {
		return engine.Finding{Evidence: op.Evidence{Effect: op.EffectNone, Reasons: []string{"it is as it was"}}}, nil
	}
	return engine.Finding{Evidence: op.Evidence{Effect: op.EffectDone, Reasons: []string{"no such guest any more"}}}, nil
}

type clock struct{}

func (clock) Now() time.Time { return time.Now().UTC() }

func (clock) Wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A whole is the service as it is, but for host and disk.
type whole struct {
	t      *testing.T
	host   *fakeHost
	url    string
	signer signedop.Signer
	api    *httpapi.API
}

// newWhole takes changes of its policy, and of what the engine is made of.
func newWhole(t *testing.T, change ...func(*gate.PolicyDocument, *engine.Config)) *whole {
	t.Helper()
	seed := sha256.Sum256([]byte("alice"))
	signer, err := signedop.NewRawSigner(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		t.Fatal(err)
	}
	w := &whole{t: t, signer: signer, host: &fakeHost{hold: make(chan struct{}), guest: op.Observed{
		Found: true, Node: "pve1", Type: op.QEMU, VMID: 105, Name: "web-3", SMBIOSUUID: "5c6f0f0e-7a3b-4d1c-9e2f-0a1b2c3d4e5f",
		Volumes: []string{"local-lvm:vm-105-disk-0"}, Status: "stopped", NodeOnline: true, Quorate: true,
	}}}
	store := storetest.NewMemory(ledger)
	log := slog.New(slog.DiscardHandler)
	who := engine.Identity{Site: gate.Site{Agent: "lab", Ledger: string(ledger)}, Instance: "a"}
	book := engine.NewPolicyBook(store, who, clock{})
	policy := gate.PolicyDocument{
		Version: 1,
		People:  map[string]gate.Person{"alice": {Keys: []gate.Key{{Key: string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(signer.Key().Public))), Format: "raw"}}}},
		Roles: map[string]gate.Role{"operator": {
			Holders: []string{"alice"}, Quorum: 1, MaxLifetime: "24h", RequesterCounts: true,
			Allow: []gate.Rule{{Classes: []op.Class{op.GuestDestroy}, On: gate.On{VMIDs: []string{"100-199"}}}},
		}, "resolver": {
			Holders: []string{"alice"}, Quorum: 1, MaxLifetime: "1h", RequesterCounts: true, Resolve: true,
		}},
	}
	pace := engine.DefaultPace()
	pace.Poll, pace.PollMax, pace.HostRetry, pace.FindTries = time.Millisecond, time.Millisecond, time.Millisecond, 1
	queue, runner := runQueue(t, store)
	made := engine.Config{
		Pending: func(ctx context.Context) ([]op.Nonce, error) {
			if err := runner.WaitCaughtUp(ctx); err != nil {
				return nil, err
			}
			items, err := queue.List(ctx)
			var pending []op.Nonce
			for _, it := range items {
				pending = append(pending, it.Nonce)
			}
			return pending, err
		},
		Identity: who, Store: store, Policies: book, Host: w.host, Executors: map[op.Class]engine.Executor{op.GuestDestroy: w.host},
		Clock: clock{}, Log: log, Pace: pace,
		Draw: func() (c op.Claim) { _, _ = rand.Read(c[:]); return c },
	}
	for _, c := range change {
		c(&policy, &made)
	}
	if _, err := book.Enforce(t.Context(), policy, op.Digest{}); err != nil {
		t.Fatal(err)
	}
	e, err := engine.New(context.Background(), made)
	if err != nil {
		t.Fatal(err)
	}
	w.api, err = httpapi.New(httpapi.Config{
		Engine: e, Ledger: store, StoreName: "memory", Queue: queue, QueueLag: runner.Lag, Log: log, Now: time.Now, Version: "test", Status: runStatus(t, store),
		Tokens: []httpapi.Token{{Name: "controller", SHA256: op.DigestOf([]byte(token)), Scopes: httpapi.Scopes()}},
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := w.api.Server(nil)
	ended := make(chan error, 1)
	go func() { ended <- w.api.Serve(srv, l) }()
	w.url = "http://" + l.Addr().String()
	t.Cleanup(func() {
		w.api.Drain()
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
		if err := e.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return w
}

func (w *whole) order(change ...func(*signedop.Document)) []byte {
	w.t.Helper()
	now := time.Now().UTC().Truncate(time.Second)
	d := signedop.Document{
		Version: 1, Nonce: nonce, Audience: "lab/" + string(ledger), Class: op.GuestDestroy,
		Target: op.Target{Node: "pve1", Guest: &op.Guest{Type: op.QEMU, VMID: 105}},
		Expect: signedop.Expect{SMBIOSUUID: w.host.guest.SMBIOSUUID, Volumes: w.host.guest.Volumes},
		Role:   "operator", RequestedBy: "alice", NotBefore: now, ExpiresAt: now.Add(time.Hour), Reason: "retire web-3",
	}
	for _, c := range change {
		c(&d)
	}
	raw, err := signedop.Seal(d, w.signer)
	if err != nil {
		w.t.Fatal(err)
	}
	return raw
}

func (w *whole) ask(method, path, body string, out any) int {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, bytes.NewReader([]byte(body)))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Error(err)
		return 0
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Error(err)
	}
	if err := json.Unmarshal(text, out); err != nil {
		w.t.Errorf("%s %s: %v in %s", method, path, err, text)
	}
	return resp.StatusCode
}

func (w *whole) submit(raw []byte, query string, out any) int {
	w.t.Helper()
	body := fmt.Sprintf(`{"intent":{"class":"guest-destroy","target":{"node":"pve1","guest":{"type":"qemu","vmid":105}}},"envelope":%q}`,
		base64.StdEncoding.EncodeToString(raw))
	return w.ask("POST", "/v1/ops"+query, body, out)
}

func TestAWritDeliveredManyTimesRunsOnce(t *testing.T) {
	w := newWhole(t)
	raw := w.order()
	const times = 30
	codes := make(chan int, times)
	for range times {
		go func() {
			var a httpapi.Answer
			codes <- w.submit(raw, "?wait=1m", &a)
		}()
	}
	// One is on record and not at its end: the list shows it.
	var list httpapi.OpList
	for len(list.Ops) == 0 {
		if w.ask("GET", "/v1/ops?state=in-flight", "", &list) != 200 {
			t.Fatalf("list: %+v", list)
		}
		if t.Context().Err() != nil {
			t.Fatal("the op never stood in the list")
		}
	}
	if got := list.Ops[0]; got.Nonce != string(nonce) || got.Target.Guest.VMID != 105 {
		t.Errorf("in flight is %+v, want the op", got)
	}
	close(w.host.hold)
	for range times {
		if code := <-codes; code != 200 {
			t.Errorf("status %d, want 200 for each delivery", code)
		}
	}
	if w.host.launches != 1 {
		t.Errorf("the host got %d requests, want 1", w.host.launches)
	}
	var again httpapi.Answer
	if code := w.submit(raw, "", &again); code != 200 || again.Outcome != "already-applied" {
		t.Errorf("later: %d %+v, want 200 already-applied", code, again)
	}
	var o httpapi.Op
	if code := w.ask("GET", "/v1/ops/"+string(nonce), "", &o); code != 200 || !o.Applied || len(o.Events) != 4 || o.Events[0].Type != "OpStarted" {
		t.Errorf("op: %d %+v, want it applied with four events", code, o)
	}
	var started op.Started
	if err := op.Unmarshal(o.Events[0].Data, &started); err != nil || started.SubmittedBy != "controller" || len(started.Envelope) != 0 {
		t.Errorf("the claim is %+v (%v), want it submitted by controller and shown without envelope", started, err)
	}
	var applied httpapi.Applied
	if code := w.ask("GET", "/v1/applied/"+string(nonce), "", &applied); code != 200 || !applied.Applied {
		t.Errorf("applied: %d %+v, want true", code, applied)
	}
	var p httpapi.Problem
	other := w.order(func(d *signedop.Document) { d.Reason = "another document" })
	if code := w.submit(other, "", &p); code != 409 || p.Reason != "nonce-reused" {
		t.Errorf("another document under the nonce: %d %+v, want 409 nonce-reused", code, p)
	}
}

func TestRefusalsOfTheWholeService(t *testing.T) {
	w := newWhole(t)
	fresh := func(change func(*signedop.Document)) []byte {
		return w.order(func(d *signedop.Document) {
			var b [16]byte
			_, _ = rand.Read(b[:])
			d.Nonce = op.Nonce(fmt.Sprintf("%x", b))
			change(d)
		})
	}
	for name, c := range map[string]struct {
		raw    []byte
		status int
		reason string
	}{
		"unsigned":        {nil, 403, "unsigned"},
		"no envelope":     {[]byte("{}"), 422, "malformed"},
		"not JSON":        {[]byte("\x00\x01"), 422, "malformed"},
		"wrong audience":  {fresh(func(d *signedop.Document) { d.Audience = "lab/0000000000000000" }), 403, "wrong-audience"},
		"another guest":   {fresh(func(d *signedop.Document) { d.Target.Guest.VMID = 106 }), 403, "intent-mismatch"},
		"too long":        {fresh(func(d *signedop.Document) { d.ExpiresAt = d.NotBefore.Add(48 * time.Hour) }), 403, "lifetime-too-long"},
		"another machine": {fresh(func(d *signedop.Document) { d.Expect.SMBIOSUUID = "00000000-0000-4000-8000-000000000000" }), 412, "precondition"},
	} {
		t.Run(name, func(t *testing.T) {
			var p httpapi.Problem
			if code := w.submit(c.raw, "?wait=30s", &p); code != c.status || p.Reason != c.reason {
				t.Errorf("%d %+v, want %d %s", code, p, c.status, c.reason)
			}
		})
	}
	if w.host.launches != 0 {
		t.Errorf("the host got %d requests, want none", w.host.launches)
	}
}
