package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"log/slog"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"writ/adapters/httpapi"
	"writ/adapters/proxmox"
	"writ/adapters/pvesim"
	"writ/domain/engine"
	"writ/domain/eventstore"
	"writ/domain/eventstore/storetest"
	"writ/domain/gate"
	"writ/domain/op"
	"writ/domain/signedop"
	"writ/projections"
	"writ/projections/recoveryqueue"
	"writ/projections/viewtest"
)

const (
	faultLedger = eventstore.LedgerID("3f9c2ab41d6e4a70")
	faultNonce  = op.Nonce("6f1c9a0e5d7b4c2f8a3e1d0c9b8a7f6e")
	faultToken  = "t0ken-of-the-controller"
	faultVMID   = 107
	readToken   = "look@pve!writ"
	readSecret  = "11111111-2222-4333-8444-555555555555"
	launcher    = "writ@pve"
)

// A faultWorld is the whole service (API, engine, the adapter of Proxmox VE and
// the recovery queue) over a simulated cluster of two nodes, inside a
// testing/synctest bubble: no socket, no file, and time passes at once. The
// guest is on pve1; whatever is about no node is asked of pve2.
type faultWorld struct {
	t     *testing.T
	sim   *pvesim.Sim
	conf  proxmox.Config
	store *storetest.Memory
	host  *proxmox.Host
	book  *engine.PolicyBook
	queue *recoveryqueue.Queue
	feed  *projections.Runner

	who    engine.Identity
	engine *engine.Engine
	api    *httpapi.API
	writ   []byte
	guest  pvesim.Guest
}

func newFaultWorld(t *testing.T, kind pvesim.Kind, change func(*proxmox.Config)) *faultWorld {
	t.Helper()
	letPass(time.Until(time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)))
	w := &faultWorld{t: t, store: storetest.NewMemory(faultLedger)}
	w.startCluster(kind)
	if change != nil {
		change(&w.conf)
	}
	if w.conf.ServiceUser == "" {
		w.sim.Grant("/vms", "look@pve", "All", true)
	}
	w.who = engine.Identity{Site: gate.Site{Agent: "lab", Ledger: string(faultLedger)}, Instance: "a"}
	w.startQueue()
	w.startEngine()
	w.seal()
	return w
}

// startCluster makes the nodes, the people that writ is to them, and the guest.
func (w *faultWorld) startCluster(kind pvesim.Kind) {
	w.t.Helper()
	tick := 20 * time.Millisecond
	sim, err := pvesim.New(pvesim.Options{
		Nodes: []string{"pve1", "pve2"}, Seed: 11,
		Pace: pvesim.Pace{Start: tick, Volume: tick, Cleanup: tick, Power: tick, Write: tick},
	})
	w.must(err)
	w.sim = sim
	w.t.Cleanup(sim.Close)
	server, err := sim.Start(pvesim.Listen{Addr: "127.0.0.1:8006", EachNode: true, Plain: true, Within: true})
	w.must(err)
	w.t.Cleanup(func() { _ = server.Close() })
	sim.AddRole("WritAttempt", "VM.Allocate")
	sim.AddRole("WritService", "VM.Allocate", "VM.Config.Options")
	sim.AddRole("Look", "Sys.Audit", "Sys.Syslog", "Pool.Audit", "Datastore.Audit")
	sim.AddRole("LookAtGuests", "VM.Audit", "VM.Config.Disk")
	sim.AddRole("All", "VM.Audit", "VM.Config.Disk", "VM.Allocate", "VM.Config.Options")
	sim.AddPool("team", "")
	sim.AddUser("look@pve", "")
	sim.AddUser(launcher, "correct horse")
	_, err = sim.AddToken(readToken, pvesim.Token{Secret: readSecret})
	w.must(err)
	sim.Grant("/", "look@pve", "Look", true)
	sim.Grant("/vms", "look@pve", "LookAtGuests", true)
	sim.Grant("/vms", launcher, "WritService", true)
	w.conf = proxmox.Config{
		BaseURL: server.URLs["pve2"], Nodes: server.URLs, Dial: server.Dial, TokenID: readToken, Secret: readSecret,
		ServiceUser: launcher, ServicePassword: "correct horse",
	}
	for _, node := range []string{"pve1", "pve2"} {
		w.pastTask(node)
	}
	letPass(time.Hour)
	w.guest, err = sim.AddGuest(pvesim.Guest{
		Kind: kind, VMID: faultVMID, Node: "pve1", Name: "web-3", Disks: []string{"local-lvm:1", "local-lvm:1"}, MACs: []string{""},
	})
	w.must(err)
}

// pastTask gives a node a history that reaches back beyond all that is to come.
func (w *faultWorld) pastTask(node string) {
	w.t.Helper()
	_, err := w.sim.AddGuest(pvesim.Guest{VMID: 900, Node: node})
	w.must(err)
	_, err = w.sim.AddToken("root@pam!past", pvesim.Token{Secret: readSecret})
	w.must(err)
	got := w.sim.Do(w.t.Context(), pvesim.Request{
		Node: node, Method: "POST", Path: "/api2/json/nodes/" + node + "/qemu/900/status/start",
		Header: map[string][]string{"Authorization": {"PVEAPIToken=root@pam!past=" + readSecret}},
	})
	if got.Status != 200 {
		w.t.Fatalf("make a past task: got %d %s", got.Status, got.Reason)
	}
	letPass(time.Second)
	w.sim.DestroyGuest(900)
}

func (w *faultWorld) startQueue() {
	view := viewtest.NewMemory()
	w.queue = recoveryqueue.New(view)
	w.feed = projections.New(w.store, "memory", view, w.queue, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = w.feed.Run(ctx)
	}()
	w.t.Cleanup(func() { cancel(); <-ended })
}

func (w *faultWorld) pending(ctx context.Context) ([]op.Nonce, error) {
	if err := w.feed.WaitCaughtUp(ctx); err != nil {
		return nil, err
	}
	items, err := w.queue.List(ctx)
	var nonces []op.Nonce
	for _, it := range items {
		nonces = append(nonces, it.Nonce)
	}
	return nonces, err
}

// startEngine is a process over the ledger as it is: the first, or the next one
// after a crash.
func (w *faultWorld) startEngine() {
	w.t.Helper()
	log := slog.New(slog.DiscardHandler)
	host, err := proxmox.New(w.conf, nil)
	w.must(err)
	w.host = host
	w.t.Cleanup(host.Close)
	w.book = engine.NewPolicyBook(w.store, w.who, systemClock{})
	_, err = w.book.Enforce(w.t.Context(), faultPolicy(faultSigner()), op.Digest{})
	w.must(err)
	e, err := engine.New(w.t.Context(), engine.Config{
		Identity: w.who, Store: w.store, Policies: w.book, Host: host,
		Executors: map[op.Class]engine.Executor{op.GuestDestroy: host.Executors()[op.GuestDestroy]},
		Clock:     systemClock{}, Draw: drawClaim, Log: log, Pending: w.pending,
		Guard: engine.Guard{
			Foreign:  func(ctx context.Context) ([]string, error) { return host.ForeignAttempts(ctx, w.announced) },
			HostTime: host.Time,
		},
	})
	w.must(err)
	w.engine = e
	w.t.Cleanup(func() { _ = e.Stop(canceled()) })
	w.api, err = httpapi.New(httpapi.Config{
		Engine: e, Ledger: w.store, StoreName: "memory", Queue: w.queue, QueueLag: w.feed.Lag, Log: log, Now: time.Now, Version: "test",
		Tokens: []httpapi.Token{{Name: "controller", SHA256: op.DigestOf([]byte(faultToken)), Scopes: httpapi.Scopes()}},
	})
	w.must(err)
}

// announced tells whether the ledger knows of an attempt with this credential.
func (w *faultWorld) announced(credential string) bool {
	w.t.Helper()
	for rec, err := range w.store.ReadAll(w.t.Context(), eventstore.Cursor{}, eventstore.Filter{StreamPrefixes: []string{op.StreamPrefix}}) {
		if err != nil {
			return false
		}
		ev, err := op.Decode(rec.Type, rec.Data)
		if l, ok := ev.(*op.Launching); err == nil && ok && l.Credential == credential {
			return true
		}
	}
	return false
}

func faultSigner() signedop.Signer {
	seed := sha256.Sum256([]byte("alice"))
	signer, err := signedop.NewRawSigner(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		panic(err)
	}
	return signer
}

func faultPolicy(alice signedop.Signer) gate.PolicyDocument {
	line := string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(alice.Key().Public)))
	return gate.PolicyDocument{
		Version: 1,
		People:  map[string]gate.Person{"alice": {Keys: []gate.Key{{Key: line, Format: "raw"}}}},
		Roles: map[string]gate.Role{"operator": {
			Holders: []string{"alice"}, Quorum: 1, MaxLifetime: "24h", RequesterCounts: true,
			Allow: []gate.Rule{{Classes: []op.Class{op.GuestDestroy}, On: gate.On{VMIDs: []string{"100-199"}}}},
		}},
	}
}

func (w *faultWorld) target() op.Target {
	return op.Target{Node: "pve1", Guest: &op.Guest{Type: op.GuestType(w.guest.Kind), VMID: faultVMID}}
}

// seal signs the order for the guest as it is now.
func (w *faultWorld) seal() { w.t.Helper(); w.sealAs(faultNonce) }

// sealAs signs an order for the guest as it is now, under a nonce.
func (w *faultWorld) sealAs(n op.Nonce) {
	w.t.Helper()
	seen, err := w.host.Executors()[op.GuestDestroy].Observe(w.t.Context(), engine.Attempt{Intent: op.Intent{Class: op.GuestDestroy, Target: w.target()}})
	w.must(err)
	now := time.Now().UTC().Truncate(time.Second)
	d := signedop.Document{
		Version: 1, Nonce: n, Audience: "lab/" + string(faultLedger), Class: op.GuestDestroy, Target: w.target(),
		Expect: signedop.Expect{Name: seen.Name, SMBIOSUUID: seen.SMBIOSUUID, VMGenID: seen.VMGenID, Volumes: seen.Volumes},
		Role:   "operator", RequestedBy: "alice", NotBefore: now, ExpiresAt: now.Add(2 * time.Hour), Reason: "retire web-3",
	}
	if seen.Type == op.LXC {
		d.Expect.MACs, d.Expect.Digest = seen.MACs, seen.Digest
	}
	w.writ, err = signedop.Seal(d, faultSigner())
	w.must(err)
}

func (w *faultWorld) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// letPass lets time pass, in the bubble of a synctest.
func letPass(d time.Duration) { _ = systemClock{}.Wait(context.Background(), d) }
