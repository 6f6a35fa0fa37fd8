package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"writ/adapters/pvesim"
)

type pvesimFlags struct {
	listen, dir string
	nodes       []string
	guests      int
	seed        uint64
	plain       bool
	eachNode    bool
	taskTime    time.Duration
	authDelay   time.Duration
}

// simToken is the API token of the simulator's one user.
const simToken = "writ@pve!writ" //nolint:gosec // its name, not its secret

// simUser is the simulator's service user, for API tokens of each attempt's own.
const simUser = "writ-launch@pve"

// Files that a cluster leaves for its clients.
const (
	simSecretName   = "pvesim-token-secret" //nolint:gosec // a file's name
	simPasswordName = "pvesim-password"     //nolint:gosec // a file's name
	simCAName       = "pvesim-ca.pem"
)

// A simReady is what pvesim tells as soon as it answers.
type simReady struct {
	URL          string            `json:"url"`
	URLs         map[string]string `json:"urls"`
	Fingerprints map[string]string `json:"fingerprints,omitempty"`
	TokenID      string            `json:"token_id"`
	SecretFile   string            `json:"token_secret_file"`
	User         string            `json:"user"`
	PasswordFile string            `json:"password_file"`
	CAFile       string            `json:"ca_file,omitempty"`
	Guests       []simGuest        `json:"guests"`
}

type simGuest struct {
	VMID int    `json:"vmid"`
	Type string `json:"type"`
	Name string `json:"name"`
	Node string `json:"node"`
}

func newPvesimCmd(a *app) *cobra.Command {
	var f pvesimFlags
	cmd := &cobra.Command{
		Use:   "pvesim",
		Short: "Run a simulated Proxmox VE cluster, to try writ on",
		Long: `Runs a Proxmox VE cluster that exists only in memory, until interrupted. Nothing
it destroys was ever real. Its own interface below /sim/ shows and changes what no
real one would: GET /sim/guests, /sim/effects (what really happened, whoever was
told what), /sim/requests, POST /sim/faults. It has no credentials: keep it on
loopback.`,
		Example: `  writ pvesim --dir sim --nodes pve1,pve2 --guests 5
  curl -s http://127.0.0.1:PORT/sim/guests          # with --http`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.pvesim(cmd.Context(), f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.listen, "listen", "127.0.0.1:0", "address and port of the first node; port 0 takes a free one")
	fl.StringVar(&f.dir, "dir", "", "folder for token secret, password and certificate authority (default: a new temporary one)")
	fl.StringSliceVar(&f.nodes, "nodes", []string{"pve1"}, "names of the nodes")
	fl.BoolVar(&f.eachNode, "listen-each", false, "let every node listen, on the ports after the first or on free ones")
	fl.IntVar(&f.guests, "guests", 3, "how many guests to begin with, from VMID 100 on, every third a container")
	fl.Uint64Var(&f.seed, "seed", 1, "what UUIDs and the like are made from: the same seed, the same cluster")
	fl.BoolVar(&f.plain, "http", false, "plain HTTP, without TLS")
	fl.DurationVar(&f.taskTime, "task-time", 200*time.Millisecond, "how long each stage of a task takes")
	fl.DurationVar(&f.authDelay, "auth-delay", 3*time.Second, "how long it takes to say 401")
	return cmd
}

func (a *app) pvesim(ctx context.Context, f pvesimFlags) (err error) {
	dir, err := simFolder(f.dir)
	if err != nil {
		return err
	}
	if f.dir == "" {
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	ready, stop, err := f.start(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	if err := a.show(ready, ready.text); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// start runs a cluster until stop is called. Its clients find what they need in
// the folder.
func (f pvesimFlags) start(dir string) (ready simReady, stop func() error, err error) {
	if f.guests < 0 || f.guests > 100_000 {
		return ready, nil, usagef("--guests: %d is not from 0 to 100000", f.guests)
	}
	sim, err := pvesim.New(pvesim.Options{
		Nodes: f.nodes, Seed: f.seed, AuthDelay: notZero(f.authDelay), Pace: evenPace(f.taskTime),
	})
	if err != nil {
		return ready, nil, usagef("%v", err)
	}
	end := func() error { sim.Close(); return nil }
	defer func() {
		if err != nil {
			_ = end() // nobody else can
		}
	}()
	if err := seedGuests(sim, f.nodes, f.guests); err != nil {
		return ready, nil, err
	}
	server, err := sim.Start(pvesim.Listen{Addr: f.listen, EachNode: f.eachNode, Plain: f.plain})
	if err != nil {
		return ready, nil, err
	}
	end = func() error {
		defer sim.Close()
		return server.Close()
	}
	ready = simReady{
		URL: server.URL, URLs: server.URLs, Fingerprints: server.Fingerprints, TokenID: simToken,
		SecretFile: filepath.Join(dir, simSecretName), User: simUser, PasswordFile: filepath.Join(dir, simPasswordName), Guests: []simGuest{},
	}
	secret, err := simAccess(sim)
	if err != nil {
		return ready, nil, err
	}
	if err := writeNew(ready.SecretFile, []byte(secret+"\n"), 0o600); err != nil {
		return ready, nil, err
	}
	if err := writeNew(ready.PasswordFile, []byte(simServiceUser(sim)+"\n"), 0o600); err != nil {
		return ready, nil, err
	}
	if len(server.CAPEM) > 0 {
		ready.CAFile = filepath.Join(dir, simCAName)
		if err := writeNew(ready.CAFile, server.CAPEM, 0o600); err != nil {
			return ready, nil, err
		}
	}
	for _, g := range sim.Guests() {
		ready.Guests = append(ready.Guests, simGuest{g.VMID, string(g.Kind), g.Name, g.Node})
	}
	return ready, end, nil
}

func (r simReady) text(w io.Writer) {
	fmt.Fprint(w, "A simulated Proxmox VE cluster is running; nothing it destroys was ever real.\n\n")
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(w, "  %-18s %s\n", name, value)
		}
	}
	row("url", r.URL)
	for _, node := range slices.Sorted(maps.Keys(r.URLs)) {
		if r.URLs[node] != r.URL {
			row("url of "+node, r.URLs[node])
		}
	}
	for _, node := range slices.Sorted(maps.Keys(r.Fingerprints)) {
		row("fingerprint "+node, r.Fingerprints[node])
	}
	row("ca_file", r.CAFile)
	row("token_id", r.TokenID)
	row("token_secret_file", r.SecretFile)
	row("user", r.User)
	row("password_file", r.PasswordFile)
	fmt.Fprintln(w)
	const shown = 10
	for i, g := range r.Guests {
		if i == shown {
			fmt.Fprintf(w, "  and %d more guests\n", len(r.Guests)-shown)
			break
		}
		fmt.Fprintf(w, "  %-4s %d  %-10s on %s\n", g.Type, g.VMID, g.Name, g.Node)
	}
	fmt.Fprint(w, "\nCtrl-C ends it.\n")
}

// simFolder gives the folder for what clients need; a new one if none is named.
func simFolder(dir string) (string, error) {
	if dir == "" {
		return os.MkdirTemp("", "writ-pvesim-")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fileError("make folder", dir, err)
	}
	for _, name := range []string{simSecretName, simPasswordName, simCAName} {
		// Left from an earlier run; nothing else would be overwritten.
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fileError("replace", filepath.Join(dir, name), err)
		}
	}
	return filepath.Abs(dir)
}

// notZero turns "none" into what the simulator calls none: its zero value means
// the real thing's 3 s.
func notZero(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

func evenPace(d time.Duration) pvesim.Pace {
	return pvesim.Pace{Start: d, Volume: d, Cleanup: d, Power: d}
}

// simAccess makes the user and token that writ acts as, and gives the secret.
func simAccess(sim *pvesim.Sim) (string, error) {
	userid, _, _ := strings.Cut(simToken, "!")
	sim.AddUser(userid, "")
	sim.Grant("/", userid, "Administrator", true)
	return sim.AddToken(simToken, pvesim.Token{Comment: "writ"})
}

// simServiceUser makes the service user, with what it needs for every class and
// no more, and gives its password. An attempt's token gets roles that hold one
// privilege each.
func simServiceUser(sim *pvesim.Sim) string {
	password := string(drawNonce())
	onGuests := []string{"VM.Allocate", "VM.Backup", "VM.PowerMgmt", "VM.Snapshot", "VM.Snapshot.Rollback"}
	onStorages := []string{"Datastore.Allocate", "Datastore.AllocateSpace"}
	sim.AddRole("WritAttempt", "VM.Allocate")
	for _, privilege := range slices.Concat(onGuests[1:], onStorages, []string{"Sys.Modify", "SDN.Use", "Mapping.Use"}) {
		sim.AddRole("WritAttempt-"+privilege, privilege)
	}
	sim.AddRole("WritService", append(onGuests, "VM.Config.Options")...)
	sim.AddRole("WritServiceStorage", onStorages...)
	// Where no privilege of its own allows it, handing a right on takes
	// Permissions.Modify.
	sim.AddRole("WritServicePools", "Sys.Modify", "Permissions.Modify")
	sim.AddRole("WritServiceDevices", "SDN.Use", "Mapping.Use", "Permissions.Modify")
	sim.AddUser(simUser, password)
	sim.Grant("/vms", simUser, "WritService", true)
	sim.Grant("/storage", simUser, "WritServiceStorage", true)
	sim.Grant("/", simUser, "WritServicePools", false)
	// A pool that is wiped with the storages on it: their place is /storage itself.
	sim.Grant("/storage", simUser, "WritServicePools", false)
	sim.Grant("/sdn", simUser, "WritServiceDevices", true)
	sim.Grant("/mapping", simUser, "WritServiceDevices", true)
	return password
}

// seedGuests fills the cluster with stopped guests, as a homelab has them.
func seedGuests(sim *pvesim.Sim, nodes []string, n int) error {
	names := []string{"web", "db", "cache", "build", "mail"}
	for i := range n {
		g := pvesim.Guest{
			Kind: pvesim.QEMU, Node: nodes[i%len(nodes)], Name: fmt.Sprintf("%s-%d", names[i%len(names)], i+1),
			Disks: []string{"local-lvm:8"}, MACs: []string{""},
		}
		if i%3 == 2 {
			g.Kind = pvesim.LXC
		}
		if _, err := sim.AddGuest(g); err != nil {
			return err
		}
	}
	return nil
}
