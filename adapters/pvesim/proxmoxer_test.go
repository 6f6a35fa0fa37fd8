package pvesim_test

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"writ/adapters/pvesim"
)

var update = flag.Bool("update", false, "rewrite the files of testdata that hold what is shown")

// The simulator is spoken to by a client that nobody here has written: proxmoxer,
// over TLS, by password and by token, through every class of op. What the client
// makes of the answers, refusals among them, is a file to read.
func TestProxmoxer(t *testing.T) {
	python := pythonWithProxmoxer(t)
	sim, err := pvesim.New(pvesim.Options{
		Nodes: []string{"pve1", "pve2"}, AuthDelay: -1,
		Pace: pvesim.Pace{Start: 2 * time.Millisecond, Volume: 5 * time.Millisecond, Cleanup: 2 * time.Millisecond, Power: 5 * time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	sim.AddUser("root@pam", "correct horse")
	sim.AddUser("svc@pve", "correct horse")
	token, err := sim.AddToken("root@pam!old", pvesim.Token{})
	if err != nil {
		t.Fatal(err)
	}
	plugDisks(t, sim)
	srv, err := sim.Start(pvesim.Listen{Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = srv.Close() })
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, srv.CAPEM, 0o600); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, python, filepath.Join("testdata", "drive.py"))
	cmd.Env = append(os.Environ(), "PVESIM_HOST="+strings.TrimPrefix(srv.URL, "https://"), "PVESIM_CA="+ca, "PVESIM_SECRET="+token, "PVESIM_PASSWORD=correct horse")
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("run the client: %v\nit printed\n%s\nand said\n%s", err, out, &said)
	}
	golden := filepath.Join("testdata", "drive.txt")
	if *update {
		if err := os.WriteFile(golden, out, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(out); got != string(want) {
		t.Errorf("the client found\n%swant, by %s,\n%s", got, golden, want)
	}
	effectsOfEachClass(t, sim)
}

// effectsOfEachClass compares what really happened with what the client did.
func effectsOfEachClass(t *testing.T, sim *pvesim.Sim) {
	t.Helper()
	happened := map[pvesim.EffectKind]int{}
	for _, e := range sim.Effects() {
		happened[e.Kind]++
	}
	for kind, want := range map[pvesim.EffectKind]int{
		pvesim.GuestDestroyed: 2, pvesim.GuestRestored: 2, pvesim.GuestRolledBack: 2, pvesim.SnapshotCreated: 2, pvesim.SnapshotDeleted: 2,
		pvesim.BackupCreated: 2, pvesim.BackupDeleted: 2, pvesim.PoolDestroyed: 4, pvesim.DiskWiped: 1,
		pvesim.GuestStarted: 6, pvesim.GuestStopped: 6,
	} {
		if happened[kind] != want {
			t.Errorf("effects of kind %s: got %d, want %d", kind, happened[kind], want)
		}
	}
}

// plugDisks makes one pool of each kind, and a disk that is nobody's.
func plugDisks(t *testing.T, sim *pvesim.Sim) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"sdb", "sdc", "sdd", "sdf"} {
		must(sim.AddDisk(pvesim.Disk{Node: "pve1", DevPath: "/dev/" + d, Size: 1 << 30, Serial: "S-" + d}))
	}
	for _, p := range []pvesim.DiskPool{
		{Kind: pvesim.PoolZFS, Name: "tank", Size: 1 << 30, Members: []string{"/dev/sdb"}},
		{Kind: pvesim.PoolLVM, Name: "vg1", Size: 1 << 30, Members: []string{"/dev/sdc"}},
		{Kind: pvesim.PoolLVMThin, VG: "vg1", Name: "data", Size: 1 << 29},
		{Kind: pvesim.PoolDirectory, Name: "big", Members: []string{"/dev/sdd"}},
	} {
		p.Node = "pve1"
		must(sim.AddDiskPool(p))
	}
}

// pythonWithProxmoxer finds a Python that has the client, that of the system
// first: Debian's package is for that one. Without one the test is skipped, and
// where all checks must run it fails.
func pythonWithProxmoxer(t *testing.T) string {
	t.Helper()
	tried := []string{}
	for _, python := range []string{"/usr/bin/python3", "python3"} {
		path, err := exec.LookPath(python)
		if err != nil || slices.Contains(tried, path) {
			continue
		}
		tried = append(tried, path)
		if exec.CommandContext(t.Context(), path, "-c", "import proxmoxer, requests").Run() == nil {
			return path
		}
	}
	const why = "no python3 with proxmoxer and requests was found (tried %q): install python3-proxmoxer and python3-requests, or let PYTHONPATH lead to them"
	if os.Getenv("WRIT_CI") != "" {
		t.Fatalf(why, tried)
	}
	t.Skipf(why, tried)
	return ""
}
