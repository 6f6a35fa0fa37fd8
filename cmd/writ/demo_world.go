package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"writ/adapters/proxmox"
	"writ/adapters/pvesim"
	"writ/domain/eventstore"
	"writ/domain/gate"
	"writ/domain/op"
	"writ/domain/signedop"
)

// A demoWorld is everything the scenes play in: a simulated cluster, a service
// over it, the people who sign, and the two witnesses.
type demoWorld struct {
	dir      string
	sim      *pvesim.Sim
	server   *pvesim.Server
	host     *proxmox.Host // how signers look at the cluster
	ledger   demoLedger
	site     gate.Site
	instance string
	base     string // URL of the service
	token    string
	client   *http.Client
	people   []demoPerson
	show     *demoShow
	closers  []func() error // in the order in which things were started
	service  *service       // nil while it is stopped

	kept struct { // what scene 2 delivered
		intent op.Intent
		writ   []byte
	}
	keep                      bool // everything runs on at the end
	sceneNumber               int
	seenRequests, seenEffects int // of the host's account, when the scene began
	rows                      []demoRow
}

// A demoPerson signs.
type demoPerson struct {
	name   string
	signer signedop.Signer
	line   string // public
}

// A demoRow is one line of the table at the end.
type demoRow struct {
	Scene   int    `json:"scene"`
	Asked   string `json:"asked"`
	Decided string `json:"decided"`
	Done    string `json:"done"` // by the host's account
}

const demoAgent = "demo"

func (w *demoWorld) path(name string) string { return filepath.Join(w.dir, name) }

func (w *demoWorld) beginScene(n int) {
	w.sceneNumber = n
	w.seenRequests, w.seenEffects = len(w.sim.Requests()), len(w.sim.Effects())
}

// row adds a line to the table at the end.
func (w *demoWorld) row(asked, decided, done string) {
	w.rows = append(w.rows, demoRow{w.sceneNumber, asked, decided, done})
}

// newDemoWorld starts everything, the way an operator would: a ledger, a
// policy and a configuration on disk, and a service that reads them.
func newDemoWorld(ctx context.Context, a *app, show *demoShow) (w *demoWorld, err error) {
	w = &demoWorld{show: show, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
	if w.dir, err = os.MkdirTemp("", "writ-demo-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = w.close()
		}
	}()
	for _, step := range []func() error{w.startCluster, func() error { return w.makePeople(a) }, w.makeLedger, w.writeConfig} {
		if err := step(); err != nil {
			return w, err
		}
	}
	w.onClose(func() error { return w.stopService(ctx) })
	if err := w.startService(ctx); err != nil {
		return w, err
	}
	return w, nil
}

func (w *demoWorld) onClose(f func() error) { w.closers = append(w.closers, f) }

// startCluster makes two nodes and a few machines on them.
func (w *demoWorld) startCluster() error {
	// Stages that take a moment, so that a person can follow what happens.
	sim, err := pvesim.New(pvesim.Options{Nodes: []string{"pve1", "pve2"}, Seed: 1, Pace: evenPace(100 * time.Millisecond)})
	if err != nil {
		return err
	}
	w.sim = sim
	w.onClose(func() error { sim.Close(); return nil })
	for i, name := range []string{"build-7", "web-3", "cache-2", "worker-1", "sandbox"} {
		g := pvesim.Guest{VMID: 104 + i, Name: name, Node: "pve" + fmt.Sprint(1+i%2), Disks: []string{"local-lvm:8"}, MACs: []string{""}}
		if name == "cache-2" {
			g.Disks = append(g.Disks, "local-lvm:32")
		}
		if _, err := sim.AddGuest(g); err != nil {
			return err
		}
	}
	if w.server, err = sim.Start(pvesim.Listen{Addr: "127.0.0.1:0", EachNode: true}); err != nil {
		return err
	}
	w.onClose(w.server.Close)
	secret, err := simAccess(sim)
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{"pve-token-secret": []byte(secret + "\n"), "ca.pem": w.server.CAPEM} {
		if err := writeNew(w.path(name), data, 0o600); err != nil {
			return err
		}
	}
	w.host, err = proxmox.New(proxmox.Config{
		BaseURL: w.server.URL, Nodes: w.server.URLs, TokenID: simToken, Secret: proxmox.Secret(secret), CAPEM: w.server.CAPEM,
	}, nil)
	if err != nil {
		return err
	}
	w.onClose(func() error { w.host.Close(); return nil })
	return nil
}

// makePeople gives alice, bob and carol a key each. Their private keys never
// reach the service.
func (w *demoWorld) makePeople(a *app) error {
	for _, name := range []string{"alice", "bob", "carol"} {
		public, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return err
		}
		line, err := publicLine(public, name)
		if err != nil {
			return err
		}
		if err := writePrivateKey(w.path(name+".key"), private, name, nil); err != nil {
			return err
		}
		signer, err := a.fileSigner(context.Background(), w.path(name+".key"), "", signedop.SSH)
		if err != nil {
			return err
		}
		w.people = append(w.people, demoPerson{name: name, signer: signer, line: line})
	}
	return nil
}

func (w *demoWorld) makeLedger() error {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	w.site = gate.Site{Agent: demoAgent, Ledger: hex.EncodeToString(id[:])}
	w.instance = "demo-1"
	return createLedger(w.path("ledger"), highWaterOf(w.path("ledger")), eventstore.LedgerID(w.site.Ledger))
}

// writeConfig writes what an operator would: policy, token and configuration.
func (w *demoWorld) writeConfig() error {
	var policy strings.Builder
	policy.WriteString("# Two of three must sign; whoever requested it does not count.\nversion: 1\npeople:\n")
	for _, p := range w.people {
		snippet := strings.TrimPrefix(policySnippet(p.name, p.line, signedop.SSH), "people:\n")
		policy.WriteString(snippet)
	}
	policy.WriteString(`roles:
  operator:
    holders: [alice, bob, carol]
    quorum: 2
    max_lifetime: 24h
    allow:
      - classes: [guest-destroy]
        on: {vmids: [100-199]}
`)
	w.token = string(drawNonce())
	var config strings.Builder
	fmt.Fprintf(&config, `agent: %s
instance: %s
store:
  embedded: {path: ledger}
policy: {path: policy.yaml}
listen: 127.0.0.1:0
tokens:
  - {name: client, sha256: %s, scopes: [submit, read]}
host:
  proxmox:
    url: %s
    token_id: %s
    token_secret_file: pve-token-secret
    ca_file: ca.pem
    nodes:
`, demoAgent, w.instance, op.DigestOf([]byte(w.token)), w.server.URL, simToken)
	for node, url := range w.server.URLs {
		fmt.Fprintf(&config, "      %s: %s\n", node, url)
	}
	for name, text := range map[string]string{
		"policy.yaml": policy.String(), "writ.yaml": config.String(), "api-token": w.token + "\n",
	} {
		if err := writeNew(w.path(name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}
