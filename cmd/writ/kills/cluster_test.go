package kills_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"writ/adapters/pvesim"
)

// A cluster is writ pvesim in a process of its own, which is never killed: it is
// the witness. What it tells comes through its own interface, below /sim/.
type cluster struct {
	URL          string            `json:"url"`
	URLs         map[string]string `json:"urls"`
	TokenID      string            `json:"token_id"`
	SecretFile   string            `json:"token_secret_file"`
	User         string            `json:"user"`
	PasswordFile string            `json:"password_file"`

	t        *testing.T
	client   http.Client
	held     []int     // faults that may hold requests
	released time.Time // when one was let go of last
	injected map[string]int
	seen     int // effects before the first writ
}

func startCluster(t *testing.T, program, dir string) *cluster {
	t.Helper()
	c := &cluster{t: t, client: http.Client{Timeout: 30 * time.Second}, injected: make(map[string]int)}
	cmd := exec.Command(program, "pvesim", "--json", "--http", "--listen-each", "--nodes", "pve1,pve2", "--guests", "0",
		"--task-time", "4ms", "--dir", dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatalf("the simulated cluster does not start: %v", err)
	}
	if err := json.Unmarshal(line, c); err != nil {
		t.Fatalf("the simulated cluster tells %q: %v", line, err)
	}
	return c
}

// sim asks the simulator itself, past the interface of Proxmox VE.
func (c *cluster) sim(method, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	r, err := http.NewRequest(method, c.URL+"/sim/"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	got, err := c.client.Do(r)
	if err != nil {
		return err
	}
	defer got.Body.Close()
	data, err := io.ReadAll(got.Body)
	switch {
	case err != nil:
		return err
	case got.StatusCode >= 300:
		return fmt.Errorf("%s %s: %s %s", method, path, got.Status, data)
	case out == nil:
		return nil
	}
	return json.Unmarshal(data, out)
}

func (c *cluster) mustSim(method, path string, in, out any) {
	c.t.Helper()
	if err := c.sim(method, path, in, out); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) guests() (all []pvesim.Guest) {
	c.t.Helper()
	c.mustSim(http.MethodGet, "guests", nil, &all)
	return all
}

func (c *cluster) effects() (all []pvesim.Effect) {
	c.t.Helper()
	c.mustSim(http.MethodGet, "effects", nil, &all)
	return all
}

// toDestroy are the requests that carry out an op.
const toDestroy = "/nodes/*/*/*"

// A fault of the cluster as its interface takes it.
type fault map[string]any

// faults are what may go wrong with the cluster while the service is killed.
var faults = []struct {
	name  string
	fault fault
}{
	{"request lost", fault{"kind": "cut", "method": "DELETE", "path": toDestroy}},
	{"reply lost", fault{"kind": "cut", "method": "DELETE", "path": toDestroy, "after": true, "times": 2}},
	{"reply timed out", fault{"kind": "answer", "status": 596, "reason": "Connection timed out", "method": "DELETE", "path": toDestroy, "after": true}},
	{"request delivered twice", fault{"kind": "repeat", "delay": "150ms", "method": "DELETE", "path": toDestroy, "times": 2}},
	{"request held on arrival", fault{"kind": "hold", "point": pvesim.PointArrival, "method": "DELETE", "path": toDestroy, "times": 2}},
	{"request held in the queue", fault{"kind": "hold", "point": pvesim.PointQueue, "method": "DELETE", "path": toDestroy, "times": 2}},
	{"request held before the fork", fault{"kind": "hold", "point": pvesim.PointFork, "method": "DELETE", "path": toDestroy, "times": 2}},
	{"reply held", fault{"kind": "hold", "point": pvesim.PointReply, "method": "DELETE", "path": toDestroy, "times": 2}},
	{"reply of a new token lost", fault{"kind": "cut", "method": "POST", "path": "/access/users/*/token/*", "after": true}},
	{"worker killed at its start", fault{"kind": "task-kill", "stage": pvesim.StageStart}},
	{"worker killed before it frees a volume", fault{"kind": "task-kill", "stage": pvesim.StageFree + "0"}},
	{"worker killed before it frees the second", fault{"kind": "task-kill", "stage": pvesim.StageFree + "1"}},
	{"worker killed before the end", fault{"kind": "task-kill", "stage": pvesim.StageUnlink}},
	{"worker slow", fault{"kind": "task-delay", "stage": pvesim.StageFree + "0", "delay": "700ms", "times": 3}},
}

// harm puts a fault in force.
func (c *cluster) harm(rng *rand.Rand) {
	c.t.Helper()
	f := faults[rng.IntN(len(faults))]
	c.injected[f.name]++
	var made struct{ ID int }
	c.mustSim(http.MethodPost, "faults", f.fault, &made)
	if f.fault["kind"] == string(pvesim.FaultHold) {
		c.held = append(c.held, made.ID)
	}
}

// release lets some of the requests go on that are held, or all.
func (c *cluster) release(rng *rand.Rand, all bool) {
	c.t.Helper()
	var still []int
	for _, id := range c.held {
		if !all && rng.IntN(2) == 0 {
			still = append(still, id)
			continue
		}
		c.mustSim(http.MethodPost, fmt.Sprintf("faults/%d/release", id), nil, nil)
		c.released = time.Now()
	}
	c.held = still
}

// calm takes all faults out of force and lets everything go on.
func (c *cluster) calm() {
	c.t.Helper()
	c.release(nil, true)
	var all []struct{ ID int }
	c.mustSim(http.MethodGet, "faults", nil, &all)
	for _, f := range all {
		c.mustSim(http.MethodDelete, fmt.Sprintf("faults/%d", f.ID), nil, nil)
	}
}

// lateBy is how long a request that was held may take until its worker has
// looked at the guest's protection.
const lateBy = time.Second

// still tells that no request is held, and none that was can still be on its way.
func (c *cluster) still() bool { return len(c.held) == 0 && time.Since(c.released) > lateBy }

// pastTasks gives each node a history that reaches back beyond all that is to
// come: without one nobody could say that no task ran.
func (c *cluster) pastTasks() {
	c.t.Helper()
	for node := range c.URLs {
		var g pvesim.Guest
		c.mustSim(http.MethodPost, "guests", pvesim.Guest{Node: node}, &g)
		c.mustSim(http.MethodPost, "nodes/"+node, map[string]any{"skew": "-1h"}, nil)
		var upid string
		c.pve(node, http.MethodPost, fmt.Sprintf("/nodes/%s/qemu/%d/status/start", node, g.VMID), &upid)
		var task struct{ Status string }
		for task.Status != "stopped" {
			c.pve(node, http.MethodGet, "/nodes/"+node+"/tasks/"+url.PathEscape(upid)+"/status", &task)
		}
		c.mustSim(http.MethodPost, "nodes/"+node, map[string]any{"skew": "0s"}, nil)
	}
	c.seen = len(c.effects())
}

// pve asks a node of the cluster as an administrator does.
func (c *cluster) pve(node, method, path string, out any) {
	c.t.Helper()
	secret, err := os.ReadFile(c.SecretFile)
	if err != nil {
		c.t.Fatal(err)
	}
	r, err := http.NewRequest(method, c.URLs[node]+"/api2/json"+path, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Authorization", "PVEAPIToken="+c.TokenID+"="+strings.TrimSpace(string(secret)))
	got, err := c.client.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer got.Body.Close()
	if err := json.NewDecoder(got.Body).Decode(&struct{ Data any }{out}); err != nil || got.StatusCode != http.StatusOK {
		c.t.Fatalf("%s %s: %s, %v", method, path, got.Status, err)
	}
}
