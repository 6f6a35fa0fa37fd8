package proxmox_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"writ/adapters/proxmox"
	"writ/adapters/pvesim"
	"writ/domain/op"
)

// A call is one request as it arrived at the API.
type call struct {
	method, path string // the path below the API's root, as it was sent
	params       url.Values
	token, body  bool // it came with an API token; it had a body
}

func (c call) String() string {
	text := c.method + " " + c.path
	if len(c.params) > 0 {
		text += "?" + c.params.Encode()
	}
	return text
}

// A recorder keeps every request that arrives at a simulated cluster.
type recorder struct {
	mu    sync.Mutex
	calls []call // guarded by mu
}

// record puts a recorder before each node of a rig, which from then on is reached
// through it. At the end of the test each request must fit what the versions of
// Proxmox VE accept that are in testdata/contract.
func record(r *classRig) {
	rec := new(recorder)
	r.t.Cleanup(func() { rec.check(r.t) })
	r.conf.Nodes = map[string]string{}
	for _, node := range []string{"pve1", "pve2"} {
		srv := httptest.NewUnstartedServer(rec.before(r.sim.NodeHandler(node)))
		srv.TLS = &tls.Config{Certificates: []tls.Certificate{nodeCertificate(r.t)}}
		srv.StartTLS()
		r.t.Cleanup(func() {
			srv.CloseClientConnections() // a request that the simulator holds would keep Close waiting
			srv.Close()
		})
		r.conf.Nodes[node] = srv.URL
		r.conf.Fingerprints = []string{fingerprint(srv.Certificate().Raw)}
	}
	r.conf.BaseURL = r.conf.Nodes["pve1"]
}

// madeCertificate is one for all rigs of a run. Its key is of a kind that signs
// fast: nearly every request of a test begins with a handshake.
var madeCertificate = sync.OnceValues(func() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	plan := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, plan, plan, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
})

func nodeCertificate(t *testing.T) tls.Certificate {
	t.Helper()
	c, err := madeCertificate()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return strings.ReplaceAll(fmt.Sprintf("% X", sum[:]), " ", ":")
}

func (rec *recorder) before(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return // the client hung up
		}
		req.Body = io.NopCloser(strings.NewReader(string(body)))
		c := call{
			method: req.Method, path: strings.TrimPrefix(req.URL.EscapedPath(), "/api2/json"), params: req.URL.Query(),
			token: strings.HasPrefix(req.Header.Get("Authorization"), "PVEAPIToken"), body: len(body) > 0,
		}
		if form, err := url.ParseQuery(string(body)); err == nil {
			for name, values := range form {
				c.params[name] = append(c.params[name], values...)
			}
		}
		rec.mu.Lock()
		rec.calls = append(rec.calls, c)
		rec.mu.Unlock()
		next.ServeHTTP(w, req)
	})
}

func (rec *recorder) check(t *testing.T) {
	t.Helper()
	all, err := contracts()
	if err != nil {
		t.Fatal(err)
	}
	rec.mu.Lock()
	defer rec.mu.Unlock()
	var said []string
	for _, c := range rec.calls {
		for _, contract := range all {
			if why := contract.complain(c); why != "" && !slices.Contains(said, why) {
				said = append(said, why)
				t.Error(why)
			}
		}
	}
}

// What the host would refuse is seen.
func TestContractComplains(t *testing.T) {
	all, err := contracts()
	if err != nil {
		t.Fatal(err)
	}
	const vm = "/nodes/pve1/qemu/107"
	cases := []struct {
		name string
		call call
		want string // empty: nothing to complain about
	}{
		{"good", call{method: "DELETE", path: vm, params: url.Values{"purge": {"1"}}, token: true}, ""},
		{"volume with slashes", call{method: "DELETE", path: "/nodes/pve1/storage/local/content/local:backup/x.vma"}, ""},
		{"no such call", call{method: "DELETE", path: vm + "/everything"}, "no such call"},
		{"other method", call{method: "POST", path: vm}, "no such call"},
		{"unknown parameter", call{method: "DELETE", path: vm, params: url.Values{"force": {"1"}}}, "force is unknown"},
		{"boolean as text", call{method: "DELETE", path: vm, params: url.Values{"purge": {"true"}}}, "must be 0 or 1"},
		{"number as text", call{method: "POST", path: vm + "/status/shutdown", params: url.Values{"timeout": {"1.7e+09"}}}, "no integer"},
		{"below the minimum", call{method: "POST", path: vm + "/status/shutdown", params: url.Values{"timeout": {"-1"}}}, "out of bounds"},
		{"above the maximum", call{method: "DELETE", path: "/nodes/pve1/qemu/1000000000"}, "out of bounds"},
		{"missing", call{method: "POST", path: vm + "/snapshot"}, "snapname is missing"},
		{"none of the enum", call{method: "POST", path: "/nodes/pve1/vzdump", params: url.Values{"mode": {"quick"}}}, "none of"},
		{"too long", call{method: "POST", path: vm + "/snapshot", params: url.Values{"snapname": {strings.Repeat("s", 41)}}}, "too long"},
		{"not of its format", call{method: "POST", path: vm + "/snapshot", params: url.Values{"snapname": {"1st"}}}, "format pve-configid"},
		{"not of its pattern", call{method: "PUT", path: "/nodes/pve1/disks/wipedisk", params: url.Values{"disk": {"/dev/disk/by-id/x-1"}}}, "does not match"},
		{"twice", call{method: "DELETE", path: vm, params: url.Values{"purge": {"1", "1"}}}, "given twice"},
		{"in path and query", call{method: "DELETE", path: vm, params: url.Values{"vmid": {"108"}}}, "given twice"},
		{"without what it requires", call{method: "POST", path: "/nodes/pve1/qemu", params: url.Values{"vmid": {"107"}, "force": {"1"}}}, "requires archive"},
		{"with a token where none is taken", call{method: "POST", path: "/access/ticket", params: url.Values{"username": {"a@pve"}, "password": {"b"}}, token: true}, "no API token"},
		{"body of a deletion", call{method: "DELETE", path: vm, body: true}, "body"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for _, contract := range all {
				got := contract.complain(c.call)
				if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
					t.Errorf("got %q, want it to say %q", got, c.want)
				}
			}
		})
	}
}

// What is sent for each class, as a file to read. That it fits the published API is
// checked for each as for every request.
func TestRequestOfEachClass(t *testing.T) {
	yes, seconds := true, 30
	var lines []string
	add := func(name string, own bool, in func(*classRig) op.Intent) {
		t.Run(name, func(t *testing.T) {
			r := newClassRig(t, own)
			o := r.order(in(r))
			o.play().want(t, "none", op.EffectDone)
			q := o.l.Request
			if q.Query != "" {
				q.Path += "?" + q.Query
			}
			if own {
				lines = append(lines, fmt.Sprintf("%s: %s %s\n", name, q.Method, stampForm.ReplaceAllString(q.Path, "2026_01_02-03_04_05")))
			}
		})
	}
	for _, own := range []bool{true, false} {
		for _, kind := range kinds {
			for _, class := range liveClasses {
				add(fmt.Sprintf("%s of %s", class, kind), own, func(r *classRig) op.Intent { return r.live(class, kind) })
			}
			add("guest-shutdown with a limit of "+string(kind), own, func(r *classRig) op.Intent {
				in := r.live(op.GuestShutdown, kind)
				in.Params.Timeout = &seconds
				return in
			})
			add("guest-destroy of "+string(kind), own, func(r *classRig) op.Intent {
				r.guest(kind)
				in := guestIntent(op.GuestDestroy, kind)
				in.Params.Purge = &yes
				return in
			})
			add("restore-overwrite of "+string(kind), own, func(r *classRig) op.Intent {
				r.guest(kind)
				in := guestIntent(op.RestoreOverwrite, kind)
				in.Params = op.Params{Archive: r.backup(107), Storage: "local-lvm", Unique: &yes}
				return in
			})
			add("backup-create of "+string(kind), own, func(r *classRig) op.Intent {
				r.guest(kind)
				in := guestIntent(op.BackupCreate, kind)
				in.Params.Storage = "local"
				return in
			})
		}
		add("backup-delete", own, func(r *classRig) op.Intent {
			r.guest(pvesim.QEMU)
			return op.Intent{Class: op.BackupDelete, Target: op.Target{Node: "pve1", Volume: r.backup(107)}}
		})
		add("volume-delete", own, func(r *classRig) op.Intent {
			const volid = "local-lvm:vm-300-disk-0"
			r.add(r.sim.AddVolume(pvesim.Volume{VolID: volid, Node: "pve1", VMID: 300, Size: 1 << 30, Content: "images", Format: "raw"}))
			return op.Intent{Class: op.VolumeDelete, Target: op.Target{Node: "pve1", Volume: volid}}
		})
		for _, pool := range []pvesim.DiskPool{
			{Kind: pvesim.PoolZFS, Name: "tank"},
			{Kind: pvesim.PoolLVM, Name: "vg1"},
			{Kind: pvesim.PoolLVMThin, Name: "data", VG: "vg1"},
			{Kind: pvesim.PoolDirectory, Name: "old"},
		} {
			add("storage-wipe of "+pool.Kind, own, func(r *classRig) op.Intent {
				pool.Node, pool.Size, pool.Members = "pve1", 1<<40, []string{"/dev/sdb"}
				r.add(r.sim.AddDisk(pvesim.Disk{Node: "pve1", DevPath: "/dev/sdb", Size: 1 << 40, Serial: "S1"}))
				if pool.VG != "" {
					r.add(r.sim.AddDiskPool(pvesim.DiskPool{Node: "pve1", Kind: pvesim.PoolLVM, Name: pool.VG, Size: 1 << 40, Members: pool.Members}))
				}
				r.add(r.sim.AddDiskPool(pool))
				return op.Intent{
					Class:  op.StorageWipe,
					Target: op.Target{Node: "pve1", Pool: &op.Pool{Kind: op.PoolKind(pool.Kind), Name: pool.Name, VolumeGroup: pool.VG}},
					Params: op.Params{CleanupDisks: &yes, CleanupConfig: &yes},
				}
			})
		}
	}
	add("storage-wipe of a disk", true, func(r *classRig) op.Intent {
		r.withDisk()
		return wipeDisk()
	})
	slices.Sort(lines)
	goldenText(t, "contract/requests.txt", strings.Join(lines, ""))
}

// stampForm is the time in a backup's name.
var stampForm = regexp.MustCompile(`\d{4}_\d\d_\d\d-\d\d_\d\d_\d\d`)

// add checks what a test adds to the simulated cluster.
func (r *classRig) add(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// goldenText compares with a file of testdata, or rewrites it.
func goldenText(t *testing.T, file, got string) {
	t.Helper()
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%swant, by %s,\n%s", got, path, want)
	}
}

// The writes around a launch fit the published API too: those of a fence, and of
// the removal of tokens that nobody can use any more.
func TestFenceFitsTheContract(t *testing.T) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			r := newClassRig(t, true)
			r.guest(kind)
			o := r.order(guestIntent(op.GuestDestroy, kind))
			r.fault(pvesim.Fault{Kind: pvesim.FaultCut, Method: o.l.Request.Method, Path: o.l.Request.Path})
			o.play().want(t, "ambiguous", op.EffectNone)
			for n := range 2 {
				r.tombstone(n, "")
			}
			now := time.Now()
			removed, err := r.host.CleanTombstones(t.Context(), now, func(string) (proxmox.KnownAttempt, bool) {
				return proxmox.KnownAttempt{Launched: now.Add(-72 * time.Hour), ExpiresAt: now.Add(-48 * time.Hour)}, true
			})
			if err != nil || len(removed) == 0 {
				t.Errorf("tokens removed: got %q, %v, want some", removed, err)
			}
		})
	}
}
