package proxmox_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"writ/adapters/proxmox"
	"writ/domain/engine"
	"writ/domain/op"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const (
	quorate    = `[{"type":"cluster","name":"lab","quorate":1,"nodes":2,"version":2,"id":"cluster"},{"type":"node","name":"pve1","online":1,"local":1,"nodeid":1},{"type":"node","name":"pve2","online":1,"local":0,"nodeid":2}]`
	notQuorate = `[{"type":"cluster","name":"lab","quorate":0,"nodes":2,"version":2,"id":"cluster"},{"type":"node","name":"pve1","online":1,"local":1,"nodeid":1},{"type":"node","name":"pve2","online":0,"local":0,"nodeid":2}]`
	standalone = `[{"type":"node","name":"pve1","online":1,"local":1,"nodeid":0,"level":""}]`
	stopped    = `{"status":"stopped","qmpstatus":"stopped","ha":{"managed":0},"name":"x","vmid":107}`
	managed    = `{"status":"running","ha":{"managed":1,"state":"started"},"name":"x","vmid":107}`
)

// golden compares with a file, or rewrites it.
func golden(t *testing.T, file string, got any) {
	t.Helper()
	text, err := json.Marshal(got, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, '\n')
	path := filepath.Join("testdata", "observed", file)
	if *update {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != string(want) {
		t.Errorf("got\n%swant, by %s,\n%s", text, path, want)
	}
}

func configFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "config", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestObserve(t *testing.T) {
	cases := []struct {
		name            string
		target          op.Target
		config, current answer
		status          answer
	}{
		{"recorded-qemu-protected", target(op.QEMU, 112), recorded(t, "qemu-config-protected"), recorded(t, "qemu-current-running"), recorded(t, "cluster-status")},
		{"recorded-qemu-locked", target(op.QEMU, 113), recorded(t, "qemu-config-locked"), recorded(t, "qemu-current-locked"), recorded(t, "cluster-status")},
		{"recorded-qemu-destroyed", target(op.QEMU, 116), recorded(t, "qemu-config-destroyed"), recorded(t, "qemu-current-locked"), data(standalone)},
		{"recorded-lxc", target(op.LXC, 200), recorded(t, "lxc-config"), recorded(t, "lxc-current-running"), recorded(t, "cluster-status")},
		{"qemu-full", target(op.QEMU, 107), data(configFile(t, "qemu-full")), data(managed), data(notQuorate)},
		{"qemu-bare", target(op.QEMU, 107), data(configFile(t, "qemu-bare")), data(stopped), data(quorate)},
		{"lxc-full", target(op.LXC, 107), data(configFile(t, "lxc-full")), data(stopped), data(quorate)},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			path := fmt.Sprintf("GET /nodes/pve1/%s/%d", c.target.Guest.Type, c.target.Guest.VMID)
			r := newRawHost(t).on(path+"/config", c.config).on(path+"/status/current", c.current).
				on("GET /cluster/status", c.status).
				on("GET /cluster/replication", data(`[]`)).
				on("GET /nodes/pve1/storage/local-lvm/content", data(`[
					{"volid":"local-lvm:vm-107-disk-1","content":"rootdir","size":1,"vmid":107,"parent":null},
					{"volid":"local-lvm:vm-300-disk-0","content":"rootdir","size":1,"vmid":300,"parent":"vm-107-disk-1@__base__"}]`)).
				on("GET /nodes/pve1/storage/local-zfs/content", data(`[]`)).
				on("GET /nodes/pve1/storage/local/content", data(`[]`))
			seen, err := r.host().Executors()[op.GuestDestroy].Observe(t.Context(), lookingAt(c.target))
			if err != nil {
				t.Fatal(err)
			}
			golden(t, c.name+".json", seen)
			if got := strings.Count(fmt.Sprint(r.requests()), "/config"); got != 1 {
				t.Errorf("the configuration was read %d times, want once", got)
			}
		})
	}
}

const (
	config107  = "GET /nodes/pve1/qemu/107/config"
	current107 = "GET /nodes/pve1/qemu/107/status/current"
	resources  = "GET /cluster/resources?type=vm"
	nextid107  = "GET /cluster/nextid?vmid=107"
	clusterNow = "GET /cluster/status"
)

var (
	missing107 = refusal(500, "Configuration file 'nodes/pve1/qemu-server/107.conf' does not exist")
	taken107   = body(400, "Parameter verification failed.", "application/json",
		`{"data":null,"errors":{"vmid":"VM 107 already exists"},"message":"Parameter verification failed.\n"}`)
	free107 = data(`"107"`)
)

func row(typ string, vmid int, node string) string {
	return fmt.Sprintf(`{"id":"%s/%d","type":%q,"vmid":%d,"node":%q,"name":"stale","status":"unknown"}`, typ, vmid, typ, vmid, node)
}

// Whatever can't be read is an error, never a zero value.
func TestObserveRefusesWhatItCannotRead(t *testing.T) {
	config := func(from, to string) answer { return data(strings.Replace(configFile(t, "qemu-full"), from, to, 1)) }
	cases := map[string]struct {
		request string
		answer  answer
		text    string
	}{
		"no right":                      {config107, refusal(403, "Permission check failed (/vms/107, VM.Audit)"), "VM.Audit"},
		"configuration is null":         {config107, data("null"), "null"},
		"configuration is a list":       {config107, data("[]"), "can't be read"},
		"configuration has no digest":   {config107, config(`"digest"`, `"other"`), "digest"},
		"digest is not one":             {config107, config(`"0123456789abcdef0123456789abcdef01234567"`, `"x"`), "digest"},
		"uuid is not one":               {config107, config("5C6F0A7B", "x"), "uuid"},
		"vmgenid is not one":            {config107, config("0B9E6A10", "x"), "vmgenid"},
		"ctime is not one":              {config107, config("ctime=1751328000", "ctime=x"), "ctime"},
		"protection is not a flag":      {config107, config(`"protection":1`, `"protection":"yes"`), "protection"},
		"a key twice":                   {config107, config(`"cores"`, `"name":"web-2","cores"`), "duplicate"},
		"status is unknown":             {current107, data(strings.Replace(stopped, `"stopped"`, `"unknown"`, 1)), "neither running nor stopped"},
		"HA is not said":                {current107, data(`{"status":"stopped"}`), "HA"},
		"status with no right":          {current107, refusal(403, "Permission check failed (/vms/107, VM.Audit)"), "VM.Audit"},
		"cluster status with no right":  {clusterNow, refusal(403, "Permission check failed (/, Sys.Audit)"), "Sys.Audit"},
		"cluster status without quorum": {clusterNow, data(strings.Replace(quorate, `"quorate":1,`, "", 1)), "lacks"},
		"cluster status is empty":       {clusterNow, data("[]"), "0 clusters and 0 nodes"},
		"cluster status page":           {clusterNow, body(200, "OK", "text/html", page), "not JSON"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := newRawHost(t).on(config107, data(configFile(t, "qemu-full"))).on(current107, data(stopped)).
				on(clusterNow, data(quorate)).on(c.request, c.answer)
			seen, err := r.host().Executors()[op.GuestDestroy].Observe(t.Context(), lookingAt(target(op.QEMU, 107)))
			if err == nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v, %v, want an error with %q", seen, err, c.text)
			}
		})
	}
}

// A guest is followed to where it is, and is only said not to exist if a
// quorate cluster says so.
func TestLocate(t *testing.T) {
	there := data(configFile(t, "qemu-full"))
	const moved = "GET /nodes/pve2/qemu/107/config"
	type script map[string]answer
	cases := []struct {
		name   string
		script script
		found  bool
		node   string
		text   string // of an error; empty if none
	}{
		{"migrated", script{config107: missing107, resources: data("[" + row("qemu", 107, "pve2") + "]"), moved: there}, true, "pve2", ""},
		{"hinted node down, guest elsewhere", script{config107: bare(595, "No route to host"), resources: data("[" + row("qemu", 107, "pve2") + "]"), moved: there}, true, "pve2", ""},
		{"hinted node unknown", script{config107: refusal(500, "hostname lookup 'pve1' failed - x"), resources: data("[" + row("qemu", 107, "pve2") + "]"), moved: there}, true, "pve2", ""},
		{"hinted node down, guest there", script{config107: bare(595, "No route to host"), resources: data("[" + row("qemu", 107, "pve1") + "]")}, false, "", "595"},
		{"on the move", script{config107: missing107, resources: data("[" + row("qemu", 107, "pve1") + "]")}, false, "", "ask again"},
		{"gone", script{config107: missing107, resources: data("[" + row("qemu", 108, "pve1") + "]"), nextid107: free107}, false, "", ""},
		{"gone, answered as a number", script{config107: missing107, resources: data("[]"), nextid107: data("107")}, false, "", ""},
		{"gone, without quorum", script{config107: missing107, resources: data("[]"), nextid107: free107, clusterNow: data(notQuorate)}, false, "", "not quorate"},
		{"gone, quorum lost meanwhile", script{config107: missing107, resources: data("[]"), nextid107: free107, clusterNow: inTurn(data(quorate), data(notQuorate))}, false, "", "not quorate"},
		{"gone, quorum only just back", script{config107: missing107, resources: data("[]"), nextid107: free107, clusterNow: inTurn(data(notQuorate), data(quorate))}, false, "", "not quorate"},
		{"hidden", script{config107: missing107, resources: data("[]"), nextid107: taken107}, false, "", "VM.Audit on /vms/107"},
		{"probe answers for another VMID", script{config107: missing107, resources: data("[]"), nextid107: data(`"108"`)}, false, "", "108"},
		{"probe fails", script{config107: missing107, resources: data("[]"), nextid107: bare(596, "Connection timed out")}, false, "", "596"},
		{"a container has the VMID", script{config107: missing107, resources: data("[" + row("lxc", 107, "pve1") + "]"), nextid107: taken107}, false, "", ""},
		{"a container has the VMID, without quorum", script{config107: missing107, resources: data("[" + row("lxc", 107, "pve1") + "]"), nextid107: taken107, clusterNow: data(notQuorate)}, false, "", "ask again"},
		{"a container had the VMID", script{config107: missing107, resources: data("[" + row("lxc", 107, "pve1") + "]"), nextid107: free107}, false, "", "ask again"},
		{"no right", script{config107: refusal(403, "Permission check failed (/vms/107, VM.Audit)")}, false, "", "403"},
		{"another text", script{config107: refusal(500, "unable to read config")}, false, "", "unable to read"},
		{"resources name no node", script{config107: missing107, resources: data("[" + row("qemu", 107, "../x") + "]")}, false, "", "not a node name"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := newRawHost(t).on(clusterNow, data(quorate))
			for request, a := range c.script {
				r.on(request, a)
			}
			facts, err := r.host().Facts(t.Context(), target(op.QEMU, 107))
			if (err != nil) != (c.text != "") || err != nil && !strings.Contains(err.Error(), c.text) {
				t.Fatalf("got %v, want an error with %q", err, c.text)
			}
			if facts.Found != c.found || facts.Node != c.node {
				t.Errorf("got found %v on %q, want %v on %q", facts.Found, facts.Node, c.found, c.node)
			}
		})
	}
}

func TestObserveNoGuest(t *testing.T) {
	r := newRawHost(t).on(config107, missing107).on(resources, data("[]")).on(nextid107, free107).on(clusterNow, data(quorate))
	seen, err := r.host().Executors()[op.GuestDestroy].Observe(t.Context(), lookingAt(target(op.QEMU, 107)))
	if err != nil || seen.Found || !seen.Quorate {
		t.Errorf("got %+v, %v, want not found by a quorate cluster", seen, err)
	}
}

func TestFacts(t *testing.T) {
	inPool := strings.Replace(row("qemu", 107, "pve1"), `"name"`, `"pool":"team/a","name"`, 1)
	const pools = "GET /pools?poolid=team%2Fa"
	r := newRawHost(t).on(config107, data(configFile(t, "qemu-full"))).on(clusterNow, data(quorate)).
		on(resources, data("["+inPool+"]")).
		on(pools, data(`[{"poolid":"team/a","members":[{"type":"storage","id":"storage/pve1/x"},{"type":"qemu","vmid":107,"node":"pve1"}]}]`))
	h := r.host()
	facts, err := h.Facts(t.Context(), target(op.QEMU, 107))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "facts.json", facts)

	r.on(pools, data(`[{"poolid":"team/b","members":[{"type":"qemu","vmid":107,"node":"pve1"}]}]`))
	if facts, err := h.Facts(t.Context(), target(op.QEMU, 107)); err == nil {
		t.Errorf("the list of another pool: got %+v and no error", facts)
	}
	r.on(pools, data(`[{"poolid":"team/a","members":[{"type":"lxc","vmid":107,"node":"pve1"}]}]`))
	if facts, err := h.Facts(t.Context(), target(op.QEMU, 107)); err == nil {
		t.Errorf("a pool that does not list the guest: got %+v and no error", facts)
	}
	r.on(resources, data("["+row("qemu", 107, "pve1")+"]"))
	if facts, err := h.Facts(t.Context(), target(op.QEMU, 107)); err != nil || facts.Pool != "" {
		t.Errorf("no pool: got %+v, %v", facts, err)
	}
}

func TestFactsOfANode(t *testing.T) {
	r := newRawHost(t).on(clusterNow, data(quorate))
	h := r.host()
	if facts, err := h.Facts(t.Context(), op.Target{Node: "pve2"}); err != nil || !facts.Found || facts.Node != "pve2" {
		t.Errorf("a node of the cluster: got %+v, %v", facts, err)
	}
	if facts, err := h.Facts(t.Context(), op.Target{Node: "pve9"}); err != nil || facts.Found {
		t.Errorf("no node of the cluster: got %+v, %v", facts, err)
	}
}

func TestFindGuest(t *testing.T) {
	r := newRawHost(t).on(resources, data("["+row("lxc", 107, "pve2")+"]"))
	got, found, err := r.host().FindGuest(t.Context(), 107)
	if want := (op.Target{Node: "pve2", Guest: &op.Guest{Type: op.LXC, VMID: 107}}); err != nil || !found || !got.Equal(want) {
		t.Errorf("got %s, %v, %v, want %s", got, found, err, want)
	}
	if _, found, err := r.host().FindGuest(t.Context(), 108); err != nil || found {
		t.Errorf("no such guest: got %v, %v", found, err)
	}
}

func TestVersion(t *testing.T) {
	r := newRawHost(t).on("GET /version", data(`{"release":"9.2","version":"9.2.11","repoid":"14a22df35955d97d"}`))
	if v, err := r.host().Version(t.Context()); err != nil || v.Version != "9.2.11" || v.Release != "9.2" {
		t.Errorf("got %+v, %v, want 9.2.11 of 9.2", v, err)
	}
	r.on("GET /version", data(`{}`))
	if v, err := r.host().Version(t.Context()); err == nil {
		t.Errorf("an answer without version: got %+v and no error", v)
	}
}

func TestRequest(t *testing.T) {
	yes, no := true, false
	seen := ct201
	seen.Node = "pve2"
	d := newRawHost(t).host().Executors()[op.GuestDestroy]
	intent := op.Intent{Class: op.GuestDestroy, Target: target(op.LXC, 201)}
	for _, c := range []struct {
		params op.Params
		query  string
	}{
		{op.Params{}, ""},
		{op.Params{Purge: &yes}, "purge=1"},
		{op.Params{Purge: &no, Force: &yes}, "force=1&purge=0"},
	} {
		intent.Params = c.params
		req, cred, err := d.Request(engine.Attempt{Number: 1, Intent: intent}, seen)
		want := op.Request{Method: "DELETE", Path: "/nodes/pve2/lxc/201", Query: c.query}
		if err != nil || req != want || cred != token {
			t.Errorf("got %+v, %s, %v, want %+v", req, cred, err, want)
		}
	}
	for name, c := range map[string]struct {
		class op.Class
		seen  op.Observed
	}{
		"not found":     {op.GuestDestroy, op.Observed{}},
		"another guest": {op.GuestDestroy, vm105},
		"another class": {op.GuestStop, seen},
		"no node name":  {op.GuestDestroy, op.Observed{Found: true, Node: "a/b", Type: op.LXC, VMID: 201}},
	} {
		if req, _, err := d.Request(engine.Attempt{Number: 1, Intent: op.Intent{Class: c.class, Target: target(op.LXC, 201)}}, c.seen); err == nil {
			t.Errorf("%s: got %+v and no error", name, req)
		}
	}
}

// Whatever a configuration holds: no panic, and only what is well formed and the
// guest's own comes out.
func FuzzParseConfig(f *testing.F) {
	for _, name := range []string{"qemu-full", "qemu-bare", "lxc-full"} {
		b, err := os.ReadFile(filepath.Join("testdata", "config", name+".json"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, name != "lxc-full")
	}
	mac := regexp.MustCompile(`^[0-9A-F]{2}(:[0-9A-F]{2}){5}$`)
	f.Fuzz(func(t *testing.T, conf []byte, machine bool) {
		g := op.Guest{Type: op.LXC, VMID: 107}
		if machine {
			g.Type = op.QEMU
		}
		seen, err := proxmox.ParseConfig("pve1", g, conf)
		if err != nil {
			return
		}
		for _, m := range seen.MACs {
			if !mac.MatchString(m) {
				t.Errorf("MAC: got %q", m)
			}
		}
		for _, v := range seen.Volumes {
			if !strings.Contains(v, ":") || !strings.Contains(v, "107") {
				t.Errorf("volume: got %q, want one of guest 107", v)
			}
		}
		if !seen.Found || seen.Digest == "" {
			t.Errorf("got %+v, want a digest", seen)
		}
		// It must be possible to put on record what was observed.
		if _, err := op.Marshal(seen); err != nil {
			t.Errorf("marshal %+v: %v", seen, err)
		}
	})
}

var _ engine.Host = (*proxmox.Host)(nil)
